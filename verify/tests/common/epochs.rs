//! The chain of the examples, some epochs later: all validators are replaced, then some, and
//! witnesses cosign.
//!
//! Epochs have ten blocks. The first ends at height 10 and all keys are replaced; the second ends
//! at 20 and nothing changes; the third ends at 30 and one key is replaced, one removed, two added.

use super::chain::{BEGIN_MS, Chain};
use super::key_of;
use super::life::Life;
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::certificate::Certificate;
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::epoch::{Change, EpochProof};
use piaogen_verify::evidence::{Certified, Said, Vote};
use piaogen_verify::follow::Link;
use piaogen_verify::header::{Header, NO_SET, ValidatorSet};
use piaogen_verify::merkle;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::{Cosignature, Cosigned, Witness};

/// Height of the newest block.
pub(crate) const TIP: usize = 33;
const EPOCH_BLOCKS: u64 = 10;
/// The bytes of the validators' keys in each epoch; those of the first are the chain's.
const KEYS: [&[u8]; 4] = [&[1, 2, 3, 4], &[5, 6, 7, 8], &[5, 6, 7, 8], &[6, 7, 14, 15, 16]];

/// The headers of four epochs.
pub(crate) struct Epochs {
    /// From height 0 on.
    pub(crate) headers: Vec<Header>,
    /// The validators' keys of each epoch, in the order of their set.
    pub(crate) keys: Vec<Vec<SecretKey>>,
    /// The keys of three witnesses.
    pub(crate) witnesses: Vec<SecretKey>,
}

fn set_of(keys: &[SecretKey]) -> ValidatorSet {
    ValidatorSet::new(keys.iter().map(SecretKey::public_key).collect()).unwrap()
}

impl Epochs {
    /// Goes on where the life of the example ends.
    pub(crate) fn build(life: &Life) -> Epochs {
        let sorted = |bytes: &&[u8]| {
            let mut keys: Vec<SecretKey> = bytes.iter().map(|byte| key_of(*byte)).collect();
            keys.sort_by_key(|key| key.public_key().to_compressed());
            keys
        };
        let keys: Vec<Vec<SecretKey>> = KEYS.iter().map(sorted).collect();
        let witnesses = (31..34).map(key_of).collect();
        let mut epochs = Epochs { headers: life.headers.clone(), keys, witnesses };
        while epochs.headers.len() <= TIP {
            let header = epochs.next(|header| header);
            epochs.headers.push(header);
        }
        epochs
    }

    /// The next header, after `change`.
    fn next(&self, change: impl Fn(Header) -> Header) -> Header {
        let last = self.headers[self.headers.len() - 1];
        let height = last.height + 1;
        let epoch = (height - 1) / EPOCH_BLOCKS;
        let closes = height.is_multiple_of(EPOCH_BLOCKS);
        change(Header {
            height,
            epoch,
            time_ms: BEGIN_MS + 2_000 * height as i64,
            parent: last.digest(),
            history_root: self.root(self.headers.len()),
            validators: self.set(epoch).digest(),
            next_validators: if closes { self.set(epoch + 1).digest() } else { NO_SET },
            ..last
        })
    }

    /// The same chain up to a height, and from there on another, which all its validators signed.
    pub(crate) fn forked(&self, at: usize) -> Epochs {
        self.changed(at, |header| Header { time_ms: header.time_ms + 1, ..header })
    }

    /// The same with other headers from a height on.
    pub(crate) fn changed(&self, at: usize, change: impl Fn(Header) -> Header) -> Epochs {
        let headers = self.headers[..at].to_vec();
        let (keys, witnesses) = (self.keys.clone(), self.witnesses.clone());
        let mut fork = Epochs { headers, keys, witnesses };
        while fork.headers.len() <= TIP {
            let header = fork.next(&change);
            fork.headers.push(header);
        }
        fork
    }

    /// The set of an epoch.
    pub(crate) fn set(&self, epoch: u64) -> ValidatorSet {
        set_of(&self.keys[epoch as usize])
    }

    /// The root over the first headers.
    pub(crate) fn root(&self, size: usize) -> Digest {
        let leaves: Vec<Digest> = self.headers[..size].iter().map(Header::leaf).collect();
        merkle::root_of_leaves(&leaves)
    }

    /// The certificate of a header by all validators of its epoch but the first so many.
    pub(crate) fn certify(&self, header: &Header, view: u64, without: usize) -> Certificate {
        let keys = &self.keys[header.epoch as usize];
        let mut certificate = Certificate {
            epoch: header.epoch,
            view,
            parent: view - 1,
            payload: header.digest(),
            validators: keys.len() as u64,
            signers: (without as u32..keys.len() as u32).collect(),
            signatures: Vec::new(),
        };
        let message = certificate.signed(&header.chain);
        certificate.signatures = keys[without..].iter().map(|key| key.sign(&message)).collect();
        certificate
    }

    /// The change at the end of an epoch.
    pub(crate) fn change(&self, epoch: u64) -> Change {
        let header = self.headers[((epoch + 1) * EPOCH_BLOCKS) as usize];
        let certificate = self.certify(&header, 2 * header.height, 1).encode();
        Change { header, certificate, next: self.set(epoch + 1) }
    }

    /// The changes that lead from the genesis to the last set, the one without effect left out.
    pub(crate) fn proof(&self) -> EpochProof {
        EpochProof { changes: vec![self.change(0), self.change(2)] }
    }

    /// A certified header, under the trust root of the genesis.
    pub(crate) fn certified(&self, height: usize, view: u64) -> Certified {
        let header = self.headers[height];
        let certificate = self.certify(&header, view, 1).encode();
        let changes = match header.epoch {
            0 => Vec::new(),
            1 | 2 => vec![self.change(0)],
            _ => self.proof().changes,
        };
        Certified { header, certificate, changes }
    }

    /// A header as it is handed on. Every third has no certificate of its own, unless it must.
    pub(crate) fn link(&self, height: usize) -> Link {
        let header = self.headers[height];
        let next = header.closes_epoch().then(|| self.set(header.epoch + 1));
        let bare = height == 0 || (height.is_multiple_of(3) && next.is_none());
        let certificate = match bare {
            true => Vec::new(),
            false => self.certify(&header, 2 * header.height, 1).encode(),
        };
        Link { header, certificate, next }
    }

    /// The proof of a header in the log of the first `size`.
    pub(crate) fn history_proof(&self, older: usize, size: usize) -> Vec<Digest> {
        let leaves: Vec<Digest> = self.headers[..size].iter().map(Header::leaf).collect();
        merkle::prove_inclusion(&leaves[..], older as u64, size as u64).unwrap()
    }

    /// The receipt of a record from block 6, led to the newest block, of epoch 3.
    pub(crate) fn receipt(&self, chain: &Chain, life: &Life, name: &str) -> Receipt {
        let mut receipt = life.receipt(chain, name, false);
        let last = self.headers[TIP - 1];
        receipt.history = Some((last, self.history_proof(6, TIP - 1)));
        receipt.certificate = self.certify(&last, 2 * last.height, 1).encode();
        receipt.changes = self.proof().changes;
        receipt
    }

    /// The log of all headers, not signed.
    pub(crate) fn checkpoint(&self, size: usize) -> Checkpoint {
        Checkpoint::new("example-1", size as u64, self.root(size))
    }

    /// The cosignature of a witness over the log of the first headers.
    pub(crate) fn cosign(&self, witness: usize, size: usize) -> Cosignature {
        let time = BEGIN_MS as u64 / 1_000 + 100 + witness as u64;
        let name = format!("w{witness}.example");
        Cosignature::sign(&name, &self.witnesses[witness], &self.checkpoint(size), time)
    }

    /// What these witnesses signed, for the receipt above.
    pub(crate) fn cosigned(&self, witnesses: &[usize]) -> Cosigned {
        let size = TIP + 1;
        Cosigned {
            size: size as u64,
            root: self.root(size),
            proof: self.history_proof(TIP - 1, size),
            cosignatures: witnesses.iter().map(|witness| self.cosign(*witness, size)).collect(),
        }
    }

    /// The trust root with all witnesses, of whom so many must have cosigned.
    pub(crate) fn watched(&self, trust: &TrustRoot, quorum: u32) -> TrustRoot {
        let witnesses = (0..)
            .zip(&self.witnesses)
            .map(|(i, key)| Witness { name: format!("w{i}.example"), key: key.public_key() });
        TrustRoot { witnesses: witnesses.collect(), witness_quorum: quorum, ..trust.clone() }
    }

    /// A vote of a validator.
    pub(crate) fn vote(&self, key: &SecretKey, said: Said, epoch: u64, view: u64) -> Vote {
        let message = said.message(&self.headers[0].chain, epoch, view);
        Vote { said, signature: key.sign(&message) }
    }
}
