//! Follows the headers of a chain from the first one on (`FORMAT.md` section 11.1).
//!
//! What a witness or a mirror does before it says anything of a chain: each header extends the one
//! before, each set follows from the one that is trusted, and the last certificate holds. The
//! headers come from anybody; nothing is believed.
//!
//! Invariants
//! - A link that is refused changes nothing.
//! - Epochs end only with a certificate: nobody goes on with a set that was not signed for.

use crate::certificate::Certificate;
use crate::encoding::{DecodeError, Reader, put_bytes};
use crate::epoch::Change;
use crate::evidence::Certified;
use crate::header::{Header, ValidatorSet};
use crate::merkle::{empty_root, interior};
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// Most bytes of a link.
pub const LINK_MAX: u64 = 16_384;

/// One header of a chain as it is handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The header.
    pub header: Header,
    /// Its certificate; empty where a later one covers it.
    pub certificate: Vec<u8>,
    /// The set of the next epoch, where the header is the last of one.
    pub next: Option<ValidatorSet>,
}

impl Link {
    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.header.encode().to_vec();
        put_bytes(&mut out, &self.certificate);
        match &self.next {
            None => out.push(0),
            Some(set) => set.encode_to(&mut out),
        }
        out
    }

    /// Reads a link; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<Link, DecodeError> {
        let mut r = Reader::new(bytes);
        let header = Header::decode(&mut r)?;
        let certificate = r.bytes("certificate", crate::certificate::CERTIFICATE_MAX)?.to_vec();
        if !certificate.is_empty() {
            Certificate::decode(&certificate)?;
        }
        let mut ahead = r.clone();
        let next = match ahead.u8()? {
            0 => {
                r = ahead;
                None
            }
            _ => Some(ValidatorSet::decode(&mut r)?),
        };
        r.end()?;
        Ok(Link { header, certificate, next })
    }
}

/// The complete subtrees of a tree that only grows: what its root needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Frontier {
    size: u64,
    /// The subtree of each set bit of the size, lowest first.
    complete: Vec<(u8, Digest)>,
}

impl Frontier {
    fn push(&mut self, leaf: Digest) {
        let (mut level, mut hash) = (0, leaf);
        while let Some((_, left)) = self.complete.first().filter(|(low, _)| *low == level) {
            hash = interior(left, &hash);
            level += 1;
            self.complete.remove(0);
        }
        self.complete.insert(0, (level, hash));
        self.size += 1;
    }

    fn root(&self) -> Digest {
        let mut hashes = self.complete.iter().map(|(_, hash)| *hash);
        let Some(first) = hashes.next() else { return empty_root() };
        hashes.fold(first, |right, left| interior(&left, &right))
    }
}

/// The size and root of a log of headers whose last one is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Final {
    /// Number of headers.
    pub size: u64,
    /// The root over their digests.
    pub root: Digest,
}

/// A chain as far as it was followed.
#[derive(Clone, Debug)]
pub struct Follower {
    trust: TrustRoot,
    last: Option<Header>,
    log: Frontier,
    changes: Vec<Change>,
    newest: Option<Final>,
}

impl Follower {
    /// Begins before the first header. The trust root must be that of the genesis: who followed
    /// nothing cannot say that what was before a later epoch is one history.
    pub fn new(trust: &TrustRoot) -> Result<Follower, Refusal> {
        if trust.epoch != 0 {
            let detail = "headers are followed from the genesis on, and with its trust root";
            return Err(Refusal::new(Step::Epoch, detail));
        }
        let (last, log, changes, newest) = (None, Frontier::default(), Vec::new(), None);
        Ok(Follower { trust: trust.clone(), last, log, changes, newest })
    }

    /// How many headers were taken.
    pub fn size(&self) -> u64 {
        self.log.size
    }

    /// The last header.
    pub fn last(&self) -> Option<&Header> {
        self.last.as_ref()
    }

    /// The log up to the newest header that was certified.
    pub fn newest_final(&self) -> Option<Final> {
        self.newest
    }

    /// A link that was just taken, with what leads to the set that certified it.
    pub fn certified(&self, link: &Link) -> Certified {
        // The change that a link itself is leads to the set after it.
        let own = |change: &&Change| change.header.height < link.header.height;
        Certified {
            header: link.header,
            certificate: link.certificate.clone(),
            changes: self.changes.iter().filter(own).cloned().collect(),
        }
    }

    /// Takes the next header: steps `chain`, `history` (it extends the last one), then `epoch` to
    /// `signature` where it has a certificate.
    pub fn take(&mut self, link: &Link) -> Result<(), Refusal> {
        self.accept(link, true)
    }

    /// Takes a header whose certificate was checked before, and which was kept since.
    pub fn take_again(&mut self, link: &Link) -> Result<(), Refusal> {
        self.accept(link, false)
    }

    fn accept(&mut self, link: &Link, certificates: bool) -> Result<(), Refusal> {
        let header = &link.header;
        if header.chain != self.trust.chain {
            let detail = alloc::format!("block {} is of another chain", header.height);
            return Err(Refusal::new(Step::Chain, detail));
        }
        self.check_extends(header)?;
        self.check_epoch(link)?;
        if certificates && !link.certificate.is_empty() {
            self.trust.check_final(header, &Certificate::decode(&link.certificate)?)?;
        }
        self.log.push(header.leaf());
        if !link.certificate.is_empty() {
            self.newest = Some(Final { size: self.log.size, root: self.log.root() });
        }
        if let Some(next) = &link.next {
            self.turn(link, next);
        }
        self.last = Some(*header);
        Ok(())
    }

    fn check_extends(&self, header: &Header) -> Result<(), Refusal> {
        let parent = self.last.as_ref().map_or([0; 32], Header::digest);
        let extends = header.height == self.log.size
            && header.parent == parent
            && header.history_root == self.log.root()
            && self.last.as_ref().is_none_or(|last| last.time_ms < header.time_ms);
        if extends {
            return Ok(());
        }
        let detail = alloc::format!(
            "block {} does not extend the {} blocks before it",
            header.height,
            self.log.size
        );
        Err(Refusal::new(Step::History, detail))
    }

    fn check_epoch(&self, link: &Link) -> Result<(), Refusal> {
        let header = &link.header;
        let expected = match &self.last {
            None => (0, self.trust.validators.digest()),
            Some(last) => last.next_epoch(),
        };
        let refuse = |what| {
            let detail = alloc::format!("block {} {what}", header.height);
            Err(Refusal::new(Step::Epoch, detail))
        };
        if (header.epoch, header.validators) != expected {
            return refuse("is not of the epoch and validators that follow from the block before");
        }
        match &link.next {
            None if header.closes_epoch() => refuse("ends an epoch, and the next set is not here"),
            Some(set) if set.digest() != header.next_validators => {
                refuse("names another set than the one beside it")
            }
            Some(_) if link.certificate.is_empty() => refuse("ends an epoch without certificate"),
            _ => Ok(()),
        }
    }

    fn turn(&mut self, link: &Link, next: &ValidatorSet) {
        if *next != self.trust.validators {
            let (header, certificate) = (link.header, link.certificate.clone());
            self.changes.push(Change { header, certificate, next: next.clone() });
        }
        self.trust.epoch = link.header.epoch + 1;
        self.trust.validators = next.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle;

    #[test]
    fn the_frontier_has_the_roots_of_the_tree() {
        let mut frontier = Frontier::default();
        let leaves: Vec<Digest> = (0..70u8).map(|i| merkle::leaf(&[i])).collect();
        for (i, leaf) in leaves.iter().enumerate() {
            assert_eq!(frontier.root(), merkle::root_of_leaves(&leaves[..i]));
            frontier.push(*leaf);
        }
        assert_eq!(frontier.size, 70);
    }
}
