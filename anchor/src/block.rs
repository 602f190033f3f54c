//! Makes and checks the headers of blocks (PROTOCOL section 4).
//!
//! What a validator votes for is decided here and nowhere else, for a node as for a simulated one;
//! they bring what is known, wait for what is missing, and keep what was found good.
//!
//! Invariants
//! - A header that `check` accepts is the one that `next` would make from the same state, but for
//!   its time and its cut.
//! - An epoch ends where its set's registry says so; the header after it has the next one.

use piaogen_crypto::Digest;
use piaogen_verify::header::{Cut, Header, NO_SET, ShardEntry, ValidatorSet, shards_root};

/// What a node knows when it makes or checks the next header.
#[derive(Clone, Debug)]
pub struct Tip {
    /// The last final header.
    pub header: Header,
    /// Its cut.
    pub cut: Cut,
    /// The shards after that cut; the registry last.
    pub shards: Vec<ShardEntry>,
    /// Root over the digests of all headers up to this one.
    pub history_root: Digest,
    /// Where the next block is the last of its epoch, the set that it must name.
    pub next_set: Option<ValidatorSet>,
}

/// Why a header is not voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderRefusal {
    /// A field is not what this node computed.
    #[error("{0} is not what this node computed")]
    Differs(&'static str),
    /// The cut goes back, is of another length, or covers records that this node does not have.
    #[error("the cut {0}")]
    Cut(&'static str),
    /// The time is not after the parent's, or too far in the future.
    #[error("the time is not within the parent's and the clock's")]
    Time,
}

/// What a validator knows when it is asked about a proposal.
#[derive(Clone, Copy, Debug)]
pub struct Stand<'a> {
    /// The epoch whose engine runs.
    pub engine: u64,
    /// The height of the last final block.
    pub last: u64,
    /// The last executed block.
    pub tip: &'a Tip,
    /// How far each partition is here.
    pub available: &'a [u64],
    /// The latest time that a header may have; none where a quorum has judged its time already.
    pub latest_ms: Option<i64>,
}

/// What follows from that for a proposal. The first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is of another epoch than the one whose engine runs.
    OtherEpoch,
    /// A block of its height is final; it is good if it is that one.
    Settled,
    /// The block that it stands on is not executed here.
    Unexecuted,
    /// Its cut covers records that are not here yet.
    Behind,
    /// It must not be voted for.
    Refused(HeaderRefusal),
    /// It may be voted for, once it is on disk.
    Good,
}

impl Stand<'_> {
    /// Judges a proposed header with its cut.
    pub fn judge(&self, header: &Header, cut: &Cut) -> Judgement {
        if header.epoch != self.engine {
            return Judgement::OtherEpoch;
        }
        if header.height <= self.last {
            return Judgement::Settled;
        }
        if header.parent != self.tip.header.digest() {
            return Judgement::Unexecuted;
        }
        // A cut of another length is nothing to wait for: the check says what is wrong.
        if cut.0.len() == self.tip.cut.0.len()
            && cut.0.iter().zip(self.available).any(|(offset, end)| offset > end)
        {
            return Judgement::Behind;
        }
        match self.tip.check(header, cut, self.available, self.latest_ms) {
            Ok(()) => Judgement::Good,
            Err(refusal) => Judgement::Refused(refusal),
        }
    }
}

/// In what a final header is not what this node computed: its state or its stream is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// The roots; these are this node's own.
    Roots(Digest),
    /// The set of the next epoch; this is this node's own, zeros where it computed none.
    Set(Digest),
}

/// Whether a final header is the next one after the last.
pub fn follows(last: &Header, header: &Header) -> bool {
    header.height == last.height + 1 && header.parent == last.digest()
}

impl Tip {
    /// Whether a final header says what this node computed; only then is its block executed.
    pub fn confirm(&self, header: &Header) -> Result<(), Divergence> {
        let own = shards_root(&self.shards);
        if own != header.shards_root {
            return Err(Divergence::Roots(own));
        }
        let named = self.next_set.as_ref().map_or(NO_SET, ValidatorSet::digest);
        match named == header.next_validators {
            true => Ok(()),
            false => Err(Divergence::Set(named)),
        }
    }

    /// The next header with this cut. `clock_ms` is the proposer's clock.
    pub fn next(&self, cut: &Cut, clock_ms: i64) -> Header {
        let (epoch, validators) = self.header.next_epoch();
        Header {
            chain: self.header.chain,
            height: self.header.height + 1,
            epoch,
            time_ms: clock_ms.max(self.header.time_ms + 1),
            parent: self.header.digest(),
            cut: cut.digest(),
            shards_root: shards_root(&self.shards),
            history_root: self.history_root,
            validators,
            next_validators: self.next_set.as_ref().map_or(NO_SET, ValidatorSet::digest),
            shards: self.header.shards,
            records: self.shards.iter().map(|shard| shard.log_size).sum(),
        }
    }

    /// Checks a proposed header. `available` is how far this node has each partition itself; with
    /// `latest_ms`, its time may not be later.
    pub fn check(
        &self,
        header: &Header,
        cut: &Cut,
        available: &[u64],
        latest_ms: Option<i64>,
    ) -> Result<(), HeaderRefusal> {
        let early = header.time_ms <= self.header.time_ms;
        if early || latest_ms.is_some_and(|latest| header.time_ms > latest) {
            return Err(HeaderRefusal::Time);
        }
        if cut.0.len() != self.cut.0.len() || cut.0.len() != available.len() {
            return Err(HeaderRefusal::Cut("is of another length"));
        }
        for ((offset, before), have) in cut.0.iter().zip(&self.cut.0).zip(available) {
            if offset < before {
                return Err(HeaderRefusal::Cut("goes back"));
            }
            if offset > have {
                return Err(HeaderRefusal::Cut("covers records that are not here"));
            }
        }
        let own = self.next(cut, header.time_ms);
        match differing(&own, header) {
            Some(field) => Err(HeaderRefusal::Differs(field)),
            None => Ok(()),
        }
    }
}

fn differing(own: &Header, other: &Header) -> Option<&'static str> {
    let fields = [
        ("chain", own.chain == other.chain),
        ("height", own.height == other.height),
        ("epoch", own.epoch == other.epoch),
        ("parent", own.parent == other.parent),
        ("cut", own.cut == other.cut),
        ("shards_root", own.shards_root == other.shards_root),
        ("history_root", own.history_root == other.history_root),
        ("validators", own.validators == other.validators),
        ("next_validators", own.next_validators == other.next_validators),
        ("shards", own.shards == other.shards),
        ("records", own.records == other.records),
    ];
    fields.into_iter().find(|(_, same)| !same).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_crypto::sm2::SecretKey;
    fn tip() -> Tip {
        let key = SecretKey::from_bytes(&[7; 32]).unwrap().public_key();
        let header = Header::genesis([1; 32], 1_000, 2, &ValidatorSet::new(vec![key]).unwrap());
        Tip {
            header,
            cut: Cut(vec![0; 3]),
            shards: (0..3).map(ShardEntry::empty).collect(),
            history_root: [4; 32],
            next_set: None,
        }
    }

    #[test]
    fn the_last_block_of_an_epoch_names_the_next_set_and_only_it() {
        let key = SecretKey::from_bytes(&[8; 32]).unwrap().public_key();
        let set = ValidatorSet::new(vec![key]).unwrap();
        let cut = Cut(vec![0; 3]);
        let check = |tip: &Tip, header: &Header| tip.check(header, &cut, &[0; 3], Some(9_000));
        let mut tip = Tip { next_set: Some(set.clone()), ..tip() };
        let last = tip.next(&cut, 2_000);
        assert_eq!((last.epoch, last.next_validators), (0, set.digest()));
        assert_eq!(last.validators, tip.header.validators);
        assert_eq!(check(&tip, &last), Ok(()));
        let silent = Header { next_validators: NO_SET, ..last };
        assert_eq!(check(&tip, &silent), Err(HeaderRefusal::Differs("next_validators")));
        let early = Tip { next_set: None, ..tip.clone() };
        assert_eq!(check(&early, &last), Err(HeaderRefusal::Differs("next_validators")));
        tip.header = last;
        tip.next_set = None;
        let first = tip.next(&cut, 3_000);
        assert_eq!((first.epoch, first.validators), (1, set.digest()));
        assert_eq!(first.next_validators, NO_SET);
        let old = Header { validators: last.validators, ..first };
        assert_eq!(check(&tip, &old), Err(HeaderRefusal::Differs("validators")));
        let same = Header { epoch: 0, ..first };
        assert_eq!(check(&tip, &same), Err(HeaderRefusal::Differs("epoch")));
        tip.header = first;
        assert_eq!(tip.next(&cut, 4_000).epoch, 1);
    }

    #[test]
    fn a_proposal_is_judged_by_the_first_reason_that_applies() {
        let tip = tip();
        let cut = Cut(vec![5, 0, 1]);
        let header = tip.next(&cut, 1_500);
        let ends = [5, 9, 1];
        let latest_ms = Some(2_000);
        let stand = Stand { engine: 0, last: 0, tip: &tip, available: &ends, latest_ms };
        assert_eq!(stand.judge(&header, &cut), Judgement::Good);
        let early = Stand { available: &[4, 9, 1], ..stand };
        assert_eq!(early.judge(&header, &cut), Judgement::Behind);
        let short = Cut(vec![5]);
        let refused = Judgement::Refused(HeaderRefusal::Cut("is of another length"));
        assert_eq!(early.judge(&header, &short), refused);
        let wrong = Header { shards_root: [9; 32], ..header };
        assert_eq!(early.judge(&wrong, &cut), Judgement::Behind, "the records come first");
        let refused = Judgement::Refused(HeaderRefusal::Differs("shards_root"));
        assert_eq!(stand.judge(&wrong, &cut), refused);
        let late = Stand { latest_ms: Some(1_499), ..stand };
        assert_eq!(late.judge(&header, &cut), Judgement::Refused(HeaderRefusal::Time));
        let notarized = Stand { latest_ms: None, ..stand };
        assert_eq!(notarized.judge(&header, &cut), Judgement::Good, "others have judged the time");
        let back = Header { time_ms: tip.header.time_ms, ..header };
        assert_eq!(notarized.judge(&back, &cut), Judgement::Refused(HeaderRefusal::Time));
        let child = Header { parent: header.digest(), height: 2, ..header };
        assert_eq!(stand.judge(&child, &cut), Judgement::Unexecuted);
        let done = Stand { last: 1, ..stand };
        assert_eq!(done.judge(&header, &cut), Judgement::Settled);
        let other = Stand { engine: 1, ..done };
        assert_eq!(other.judge(&header, &cut), Judgement::OtherEpoch);
    }

    #[test]
    fn a_final_header_is_confirmed_by_own_roots_and_set_only() {
        let mut tip = tip();
        let header = tip.next(&Cut(vec![5, 0, 1]), 1_500);
        assert!(follows(&tip.header, &header));
        assert!(!follows(&header, &header));
        assert!(!follows(&Header { time_ms: 1, ..tip.header }, &header));
        assert_eq!(tip.confirm(&header), Ok(()));
        let own = header.shards_root;
        let other = Header { shards_root: [9; 32], ..header };
        assert_eq!(tip.confirm(&other), Err(Divergence::Roots(own)));
        let named = Header { next_validators: [9; 32], ..header };
        assert_eq!(tip.confirm(&named), Err(Divergence::Set(NO_SET)));
        tip.shards[0].log_size = 1;
        assert!(matches!(tip.confirm(&header), Err(Divergence::Roots(_))));
    }

    #[test]
    fn what_is_made_is_accepted_and_each_change_is_named() {
        let tip = tip();
        let cut = Cut(vec![5, 0, 1]);
        let header = tip.next(&cut, 900);
        assert_eq!(header.time_ms, 1_001);
        let check = |header: &Header, cut: &Cut| tip.check(header, cut, &[5, 9, 1], Some(2_000));
        assert_eq!(check(&header, &cut), Ok(()));
        assert_eq!(
            check(&header, &Cut(vec![6, 0, 1])),
            Err(HeaderRefusal::Cut("covers records that are not here"))
        );
        assert_eq!(
            check(&header, &Cut(vec![5, 0])),
            Err(HeaderRefusal::Cut("is of another length"))
        );
        assert_eq!(check(&header, &Cut(vec![4, 0, 1])), Err(HeaderRefusal::Differs("cut")));
        for (time_ms, refused) in [(1_000, true), (1_001, false), (2_000, false), (2_001, true)] {
            let result = check(&Header { time_ms, ..header }, &cut);
            assert_eq!(result == Err(HeaderRefusal::Time), refused, "{time_ms}");
        }
        let records = Header { records: 1, ..header };
        assert_eq!(check(&records, &cut), Err(HeaderRefusal::Differs("records")));
        let parent = Header { parent: [0; 32], ..header };
        assert_eq!(check(&parent, &cut), Err(HeaderRefusal::Differs("parent")));
    }
}
