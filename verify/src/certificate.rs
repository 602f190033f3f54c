//! Certificates: a quorum's signatures over one header (`FORMAT.md` section 8).
//!
//! The bytes are those of the ordering engine's finalization, so that a certificate goes from the
//! engine into a receipt unchanged; they are read and checked here without the engine.
//!
//! Invariants
//! - A certificate has one encoding: as many signatures as signers, no bit beyond the validators.
//! - Counting comes before cryptography: a certificate without quorum costs no signature check.

use crate::encoding::{DecodeError, Reader, put_bytes, put_vint};
use crate::header::{Header, VALIDATORS_MAX, ValidatorSet};
use crate::refusal::{Refusal, Step};
use alloc::vec::Vec;
use piaogen_crypto::sm2::{Job, Signature};
use piaogen_crypto::{Digest, Lanes};

/// What the namespace of every vote begins with; the chain follows.
pub const NAMESPACE: &[u8; 16] = b"piaogen/order/1\n";
/// The name of the vote that makes a block final.
pub(crate) const FINALIZE: &[u8] = b"_FINALIZE";
/// Most bytes of a certificate.
pub const CERTIFICATE_MAX: u64 = 6_600;

/// A finalization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The epoch in which it was voted.
    pub epoch: u64,
    /// The view in which it was voted.
    pub view: u64,
    /// The view of the block before.
    pub parent: u64,
    /// The digest of the header.
    pub payload: Digest,
    /// How many validators there are, signers or not.
    pub validators: u64,
    /// The signers' places in the validator set, ascending.
    pub signers: Vec<u32>,
    /// Their signatures, in the same order.
    pub signatures: Vec<Signature>,
}

impl Certificate {
    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.proposal();
        out.extend_from_slice(&self.validators.to_be_bytes());
        let begin = out.len();
        out.resize(begin + (self.validators as usize).div_ceil(8), 0);
        for signer in &self.signers {
            if let Some(byte) = out.get_mut(begin + *signer as usize / 8) {
                *byte |= 1 << (signer % 8);
            }
        }
        put_vint(&mut out, self.signatures.len() as u64);
        for signature in &self.signatures {
            out.extend_from_slice(&signature.0);
        }
        out
    }

    /// Reads a certificate; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<Certificate, DecodeError> {
        let mut r = Reader::new(bytes);
        let (epoch, view, parent) = (r.vint()?, r.vint()?, r.vint()?);
        let payload = r.array()?;
        let validators = r.u64()?;
        if validators > VALIDATORS_MAX {
            let (value, limit) = (validators, VALIDATORS_MAX);
            return Err(DecodeError::Limit { what: "validators", value, limit });
        }
        let bitmap = r.take((validators as usize).div_ceil(8))?;
        let signed = |i: &u32| bitmap[*i as usize / 8] >> (i % 8) & 1 == 1;
        let bits = bitmap.len() as u32 * 8;
        if (validators as u32..bits).any(|i| signed(&i)) {
            return Err(DecodeError::Fixed { what: "unused bits of signers" });
        }
        let signers: Vec<u32> = (0..validators as u32).filter(signed).collect();
        let count = r.count("signatures", VALIDATORS_MAX)?;
        if count == 0 || count != signers.len() {
            return Err(DecodeError::Fixed { what: "number of signatures" });
        }
        let signatures = (0..count).map(|_| Ok(Signature(r.array()?))).collect::<Result<_, _>>()?;
        r.end()?;
        Ok(Certificate { epoch, view, parent, payload, validators, signers, signatures })
    }

    /// Epoch, view, parent view and payload: what the votes are about.
    fn proposal(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        put_vint(&mut out, self.epoch);
        put_vint(&mut out, self.view);
        put_vint(&mut out, self.parent);
        out.extend_from_slice(&self.payload);
        out
    }

    /// What each signer signed.
    pub fn signed(&self, chain: &Digest) -> Vec<u8> {
        vote_message(chain, FINALIZE, &self.proposal())
    }

    /// Whether a quorum of `set` signed: step `quorum` for the number of signers, then `signature`.
    pub fn verify(&self, chain: &Digest, set: &ValidatorSet) -> Result<(), Refusal> {
        self.check_quorum(set)?;
        let message = self.signed(chain);
        let jobs: Vec<Job<'_>> = self
            .signers
            .iter()
            .zip(&self.signatures)
            .filter_map(|(signer, signature)| {
                let key = set.keys().get(*signer as usize)?;
                Some(Job { key, message: &message, signature })
            })
            .collect();
        let mut verdicts = alloc::vec![false; jobs.len()];
        Lanes::detect().sm2_verify(&jobs, &mut verdicts);
        match verdicts.iter().position(|holds| !holds) {
            None => Ok(()),
            Some(at) => Err(Refusal::new(
                Step::Signature,
                alloc::format!("the signature of validator {} does not hold", self.signers[at]),
            )),
        }
    }

    /// Whether the certificate is about this header (step `quorum`).
    pub fn check_names(&self, header: &Header) -> Result<(), Refusal> {
        let refuse = |detail: &str| Err(Refusal::new(Step::Quorum, detail));
        if self.payload != header.digest() {
            return refuse("the certificate is over another header");
        }
        if self.epoch != header.epoch {
            return refuse("the certificate is of another epoch than the header");
        }
        Ok(())
    }

    fn check_quorum(&self, set: &ValidatorSet) -> Result<(), Refusal> {
        let refuse = |detail| Err(Refusal::new(Step::Quorum, detail));
        let (n, quorum) = (set.keys().len(), set.quorum());
        if self.validators != n as u64 {
            return refuse(alloc::format!(
                "the certificate is by a set of {}, the trusted one has {n} validators",
                self.validators
            ));
        }
        if self.signers.len() != self.signatures.len()
            || self.signers.windows(2).any(|pair| pair[0] >= pair[1])
            || self.signers.last().is_some_and(|last| *last as usize >= n)
        {
            return refuse(
                "the signers are not a set of validators with one signature each".into(),
            );
        }
        if self.signers.len() < quorum {
            let signed = self.signers.len();
            return refuse(alloc::format!("{signed} of {n} validators signed, {quorum} must"));
        }
        Ok(())
    }
}

/// What a validator signs: the name of the vote under the chain's namespace, and what it is about.
pub(crate) fn vote_message(chain: &Digest, name: &[u8], about: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put_bytes(&mut out, &[&NAMESPACE[..], chain, name].concat());
    out.extend_from_slice(about);
    out
}

/// Whether `header` is final under the validators a verifier trusts: steps `validators`, `quorum`
/// and `signature`.
pub fn verify_final(
    header: &Header,
    certificate: &Certificate,
    validators: &ValidatorSet,
) -> Result<(), Refusal> {
    if header.validators != validators.digest() {
        return Err(Refusal::new(
            Step::Validators,
            "the block was finalized by other validators than those trusted: an epoch proof, or a \
             trust root that was advanced, leads to them",
        ));
    }
    certificate.check_names(header)?;
    certificate.verify(&header.chain, validators)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::vec;
    use piaogen_crypto::sm2::SecretKey;

    /// The keys of `n` validators, in the order of their set.
    pub(crate) fn validators(n: u8) -> (Vec<SecretKey>, ValidatorSet) {
        let mut keys: Vec<SecretKey> =
            (1..=n).map(|i| SecretKey::from_bytes(&[i; 32]).unwrap()).collect();
        keys.sort_by_key(|key| key.public_key().to_compressed());
        let set = ValidatorSet::new(keys.iter().map(SecretKey::public_key).collect()).unwrap();
        (keys, set)
    }

    /// A certificate of these signers.
    pub(crate) fn certify(header: &Header, keys: &[SecretKey], signers: &[u32]) -> Certificate {
        let mut certificate = Certificate {
            epoch: header.epoch,
            view: 300,
            parent: 299,
            payload: header.digest(),
            validators: keys.len() as u64,
            signers: signers.to_vec(),
            signatures: Vec::new(),
        };
        let message = certificate.signed(&header.chain);
        certificate.signatures = signers.iter().map(|i| keys[*i as usize].sign(&message)).collect();
        certificate
    }

    #[test]
    fn the_bytes_are_those_of_the_engine() {
        let certificate = Certificate {
            epoch: 0,
            view: 300,
            parent: 299,
            payload: [0x11; 32],
            validators: 4,
            signers: vec![0, 2, 3],
            signatures: vec![Signature([0xaa; 64]), Signature([0xbb; 64]), Signature([0xcc; 64])],
        };
        let expected = [
            "00ac02ab02",
            &"11".repeat(32),
            "00000000000000040d03",
            &"aa".repeat(64),
            &"bb".repeat(64),
            &"cc".repeat(64),
        ]
        .concat();
        assert_eq!(hex::encode(certificate.encode()), expected);
        assert_eq!(Certificate::decode(&certificate.encode()), Ok(certificate));
    }

    #[test]
    fn quorum_and_signatures_are_checked_and_named() {
        let (keys, set) = validators(4);
        let header = Header::genesis([9; 32], 1, 2, &set);
        let good = certify(&header, &keys, &[0, 1, 3]);
        assert_eq!(verify_final(&header, &good, &set), Ok(()));
        let step = |certificate: &Certificate| {
            verify_final(&header, certificate, &set).map_err(|refusal| refusal.step)
        };
        assert_eq!(step(&certify(&header, &keys, &[0, 1])), Err(Step::Quorum));
        let mut other = good.clone();
        other.epoch = 1;
        assert_eq!(step(&other), Err(Step::Quorum));
        let mut other = good.clone();
        other.view = 301;
        assert_eq!(step(&other), Err(Step::Signature));
        let mut swapped = good.clone();
        swapped.signatures.swap(0, 1);
        assert_eq!(step(&swapped), Err(Step::Signature));
        let (_, five) = validators(5);
        assert_eq!(
            verify_final(&header, &good, &five).map_err(|refusal| refusal.step),
            Err(Step::Validators)
        );
        assert_eq!(
            good.verify(&header.chain, &five).map_err(|refusal| refusal.step),
            Err(Step::Quorum)
        );
    }

    #[test]
    fn only_one_encoding_is_accepted() {
        let (keys, set) = validators(4);
        let header = Header::genesis([9; 32], 1, 2, &set);
        let bytes = certify(&header, &keys, &[0, 1, 3]).encode();
        let bits_at = 1 + 2 + 2 + 32 + 8;
        let with = |at: usize, byte: u8| {
            let mut changed = bytes.clone();
            changed[at] = byte;
            Certificate::decode(&changed).is_ok()
        };
        assert_eq!(bytes[bits_at], 0b1011);
        assert!(with(bits_at, 0b1110));
        assert!(!with(bits_at, 0b1_1010), "a bit beyond the validators");
        assert!(!with(bits_at, 0b1111), "more signers than signatures");
        assert!(!with(bits_at - 1, 200), "more validators than bits");
        assert!(!with(bits_at - 8, 1), "too many validators");
        for end in 0..bytes.len() {
            assert!(Certificate::decode(&bytes[..end]).is_err());
        }
    }
}
