//! Follows the headers of a chain from the first one on (`FORMAT.md` section 11.1).
//!
//! What a witness or a mirror does before it says anything of a chain: each header extends the one
//! before, each set follows from the one that is trusted, and the last certificate holds. The
//! headers come from anybody; nothing is believed.
//!
//! Invariants
//! - A link that is refused changes nothing.
//! - Epochs end only with a certificate: nobody goes on with a set that was not signed for.
//! - What a follower goes on from is bound by a certificate, like what it followed itself.

use crate::certificate::Certificate;
use crate::consistency::check_chain;
use crate::encoding::{DecodeError, Reader, put_bytes, put_vint};
use crate::epoch::{Change, headers, newest, put_changes, take_changes_up_to};
use crate::evidence::Certified;
use crate::header::{Header, ValidatorSet};
use crate::merkle::{empty_root, interior};
use crate::refusal::{Refusal, Step};
use crate::trust_root::TrustRoot;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// Most bytes of a link.
pub const LINK_MAX: u64 = 16_384;
/// Most changes of the validator set that a follower remembers at rest.
const CHANGES_MAX: u64 = 65_536;
const MAGIC: [u8; 3] = *b"PF\x01";

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
        self.size = self.size.saturating_add(1);
    }

    fn root(&self) -> Digest {
        let mut hashes = self.complete.iter().map(|(_, hash)| *hash);
        let Some(first) = hashes.next() else { return empty_root() };
        hashes.fold(first, |right, left| interior(&left, &right))
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_vint(out, self.size);
        self.complete.iter().for_each(|(_, hash)| out.extend_from_slice(hash));
    }

    fn take(r: &mut Reader<'_>) -> Result<Frontier, DecodeError> {
        let size = r.vint()?;
        let levels = (0..64).filter(|level| size >> level & 1 == 1);
        let complete = levels.map(|level| Ok((level, r.array()?))).collect::<Result<_, _>>()?;
        Ok(Frontier { size, complete })
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
    last: Option<Link>,
    /// The log before the last header, whose root that header names.
    before: Frontier,
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
        let (before, log) = (Frontier::default(), Frontier::default());
        let (last, changes, newest) = (None, Vec::new(), None);
        Ok(Follower { trust: trust.clone(), last, before, log, changes, newest })
    }

    /// What it needs to go on later; nothing where the last header has no certificate of its own.
    pub fn rest(&self) -> Option<Vec<u8>> {
        let last = self.last.as_ref().filter(|last| !last.certificate.is_empty())?;
        let mut out = MAGIC.to_vec();
        self.before.put(&mut out);
        put_bytes(&mut out, &last.encode());
        put_changes(&mut out, self.changes_before(last.header.height));
        Some(out)
    }

    /// Goes on from what [`Follower::rest`] gave. Nothing of it is believed: the last header must
    /// name the root of the log before it, and be final under the set that the changes lead to, from
    /// that of the genesis on. Steps `decode`, `chain`, `history`, `epoch` to `signature`.
    pub fn resume(trust: &TrustRoot, rest: &[u8]) -> Result<Follower, Refusal> {
        let mut follower = Follower::new(trust)?;
        let mut r = Reader::new(rest);
        r.fixed("magic of a follower at rest", &MAGIC)?;
        let before = Frontier::take(&mut r)?;
        let link = Link::decode(r.bytes("link", LINK_MAX)?)?;
        let changes = take_changes_up_to(&mut r, CHANGES_MAX)?;
        r.end()?;
        let header = link.header;
        check_chain(trust, core::iter::once(&header).chain(headers(&changes)))?;
        if (header.height, header.history_root) != (before.size, before.root()) {
            return Err(not_extended(&header, before.size));
        }
        follower.trust = trust.after(&changes)?;
        follower.trust.check_final(&header, &Certificate::decode(&link.certificate)?)?;
        check_next(&link)?;
        follower.trust.epoch = header.epoch;
        (follower.log, follower.changes) = (before, changes);
        follower.push(&link);
        Ok(follower)
    }

    /// How many headers were taken.
    pub fn size(&self) -> u64 {
        self.log.size
    }

    /// The last header.
    pub fn last(&self) -> Option<&Header> {
        self.last.as_ref().map(|link| &link.header)
    }

    /// The last link.
    pub fn last_link(&self) -> Option<&Link> {
        self.last.as_ref()
    }

    /// The log up to the newest header that was certified.
    pub fn newest_final(&self) -> Option<Final> {
        self.newest
    }

    /// A link that was taken, with what leads to the set that certified it: the last changes before
    /// it, where they are more than a proof has.
    pub fn certified(&self, link: &Link) -> Certified {
        Certified {
            header: link.header,
            certificate: link.certificate.clone(),
            changes: newest(self.changes_before(link.header.height)).to_vec(),
        }
    }

    /// The changes that [`Follower::certified`] has no room for at a height: they lead who trusts the
    /// genesis to where the others begin.
    pub fn left_out(&self, height: u64) -> &[Change] {
        let all = self.changes_before(height);
        &all[..all.len() - newest(all).len()]
    }

    /// The trust root of the genesis, led to the set that certifies a header that was taken. All on the
    /// way was checked when it was taken.
    pub fn led_to(&self, genesis: &TrustRoot, height: u64) -> TrustRoot {
        let mut trust = genesis.clone();
        if let Some(last) = self.changes_before(height).last() {
            trust.epoch = last.header.epoch.saturating_add(1);
            trust.validators = last.next.clone();
        }
        trust
    }

    /// What leads to the set that certifies a header of this height. The change that it is itself
    /// leads to the set after it.
    fn changes_before(&self, height: u64) -> &[Change] {
        let end = self.changes.partition_point(|change| change.header.height < height);
        &self.changes[..end]
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
        self.push(link);
        Ok(())
    }

    /// Adds a link that was checked.
    fn push(&mut self, link: &Link) {
        self.before = self.log.clone();
        self.log.push(link.header.leaf());
        if !link.certificate.is_empty() {
            self.newest = Some(Final { size: self.log.size, root: self.log.root() });
        }
        if let Some(next) = &link.next {
            self.turn(link, next);
        }
        self.last = Some(link.clone());
    }

    fn check_extends(&self, header: &Header) -> Result<(), Refusal> {
        let parent = self.last().map_or([0; 32], Header::digest);
        let extends = header.height == self.log.size
            && header.parent == parent
            && header.history_root == self.log.root()
            && self.last().is_none_or(|last| last.time_ms < header.time_ms);
        if extends { Ok(()) } else { Err(not_extended(header, self.log.size)) }
    }

    fn check_epoch(&self, link: &Link) -> Result<(), Refusal> {
        let header = &link.header;
        let expected = match self.last() {
            None => (0, self.trust.validators.digest()),
            Some(last) => last.next_epoch(),
        };
        if (header.epoch, header.validators) != expected {
            let what = "is not of the epoch and validators that follow from the block before";
            return Err(of_epoch(header, what));
        }
        check_next(link)
    }

    fn turn(&mut self, link: &Link, next: &ValidatorSet) {
        if *next != self.trust.validators {
            let (header, certificate) = (link.header, link.certificate.clone());
            self.changes.push(Change { header, certificate, next: next.clone() });
        }
        self.trust.epoch = link.header.epoch.saturating_add(1);
        self.trust.validators = next.clone();
    }
}

fn not_extended(header: &Header, size: u64) -> Refusal {
    let height = header.height;
    let detail = alloc::format!("block {height} does not extend the {size} blocks before it");
    Refusal::new(Step::History, detail)
}

fn of_epoch(header: &Header, what: &str) -> Refusal {
    Refusal::new(Step::Epoch, alloc::format!("block {} {what}", header.height))
}

/// Whether the set beside a header is there where it must be, and is the one that it names.
fn check_next(link: &Link) -> Result<(), Refusal> {
    let header = &link.header;
    let refuse = |what| Err(of_epoch(header, what));
    match &link.next {
        None if header.closes_epoch() => refuse("ends an epoch, and the next set is not here"),
        Some(set) if set.digest() != header.next_validators => {
            refuse("names another set than the one beside it")
        }
        Some(_) if link.certificate.is_empty() => refuse("ends an epoch without certificate"),
        _ => Ok(()),
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
