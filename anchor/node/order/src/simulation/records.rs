//! What is written down of a run: every vote that an honest validator sent, what travelled, who
//! caught whom, and how long blocks took.
//!
//! Invariants
//! - Votes are taken where they leave their validator, so that a lost message hides none, and are
//!   kept over stops and blackouts.
//! - Nothing here is seen by a validator.

use super::Context;
use crate::digest::Digest;
use crate::scheme::Scheme;
use crate::{Application, FinalBlock, Identity, Verdict, held};
use commonware_codec::DecodeExt as _;
use commonware_consensus::simplex::types::Vote;
use commonware_consensus::{Epochable as _, Viewable as _};
use commonware_p2p::utils::mux;
use commonware_runtime::{Clock as _, IoBuf};
use piaogen_verify::evidence::Evidence;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// How many channels validators have to each other.
pub(super) const CHANNELS: usize = 5;
const VOTES: usize = 0;

/// What a validator sent on one channel; a message to three counts three times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Their bytes, as they are handed to the connection.
    pub bytes: u64,
}

/// What noise did to messages on their way; a message to three counts three times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noises {
    /// Messages that came once more.
    pub repeated: u64,
    /// Messages that others overtook, of the same sender on the same channel.
    pub overtaken: u64,
}

/// All votes of one validator in one view.
#[derive(Default)]
struct Cast {
    notarize: BTreeSet<(u64, Digest)>,
    finalize: BTreeSet<(u64, Digest)>,
    timeout: bool,
}

impl Cast {
    /// Whether an honest validator never says all of this.
    fn is_double(&self) -> bool {
        self.notarize.len() > 1
            || self.finalize.len() > 1
            || (self.timeout && !self.finalize.is_empty())
    }
}

#[derive(Default)]
struct Noted {
    votes: BTreeMap<(usize, u64, u64), Cast>,
    traffic: Vec<[Traffic; CHANNELS]>,
    proposed: HashMap<piaogen_crypto::Digest, SystemTime>,
    finality: Vec<Duration>,
    evidence: Vec<(usize, Evidence)>,
    noise: Noises,
    flips: u64,
}

/// Everything that is written down.
pub(super) struct Records(Mutex<Noted>);

impl Records {
    pub(super) fn new(validators: usize) -> Self {
        let traffic = vec![Default::default(); validators];
        Self(Mutex::new(Noted { traffic, ..Noted::default() }))
    }

    /// A message leaves a validator for so many others.
    pub(super) fn sent(&self, validator: usize, channel: usize, bytes: usize, recipients: usize) {
        let mut noted = held(&self.0);
        let traffic = &mut noted.traffic[validator][channel];
        traffic.messages += recipients as u64;
        traffic.bytes += (recipients * bytes) as u64;
    }

    /// A message of an honest validator; votes are remembered.
    pub(super) fn said(&self, validator: usize, channel: usize, message: &IoBuf) {
        if channel != VOTES {
            return;
        }
        let Ok((_, bytes)) = mux::parse(message.clone()) else { return };
        let Ok(vote) = Vote::<Scheme, Digest>::decode(bytes) else { return };
        let mut noted = held(&self.0);
        let place = (validator, vote.epoch().get(), vote.view().get());
        let cast = noted.votes.entry(place).or_default();
        match vote {
            Vote::Notarize(vote) => {
                cast.notarize.insert((vote.proposal.parent.get(), vote.proposal.payload));
            }
            Vote::Finalize(vote) => {
                cast.finalize.insert((vote.proposal.parent.get(), vote.proposal.payload));
            }
            Vote::Nullify(_) => cast.timeout = true,
        }
    }

    /// How many different votes of honest validators there were.
    pub(super) fn votes(&self) -> usize {
        let count =
            |cast: &Cast| cast.notarize.len() + cast.finalize.len() + usize::from(cast.timeout);
        held(&self.0).votes.values().map(count).sum()
    }

    /// Validators and views of votes that exclude each other.
    pub(super) fn doubles(&self) -> Vec<(usize, u64)> {
        let noted = held(&self.0);
        let doubles = noted.votes.iter().filter(|(_, cast)| cast.is_double());
        doubles.map(|((validator, _, view), _)| (*validator, *view)).collect()
    }

    /// Validators and epochs in which they sent votes.
    pub(super) fn voted(&self) -> BTreeSet<(usize, u64)> {
        held(&self.0).votes.keys().map(|(validator, epoch, _)| (*validator, *epoch)).collect()
    }

    /// Whether an honest validator ever sent a vote in an epoch.
    pub(super) fn has_voted(&self, validator: usize, epoch: u64) -> bool {
        let noted = held(&self.0);
        let all = (validator, epoch, 0)..=(validator, epoch, u64::MAX);
        noted.votes.range(all).next().is_some()
    }

    /// A message leaves once more for so many others.
    pub(super) fn repeated(&self, recipients: usize) {
        held(&self.0).noise.repeated += recipients as u64;
    }

    /// A message leaves for so many others behind one that came after it.
    pub(super) fn overtaken(&self, recipients: usize) {
        held(&self.0).noise.overtaken += recipients as u64;
    }

    /// A bit of somebody's votes flipped.
    pub(super) fn flipped(&self) {
        held(&self.0).flips += 1;
    }

    pub(super) fn noise(&self) -> Noises {
        held(&self.0).noise
    }

    pub(super) fn flips(&self) -> u64 {
        held(&self.0).flips
    }

    pub(super) fn traffic(&self) -> Vec<[Traffic; CHANNELS]> {
        held(&self.0).traffic.clone()
    }

    pub(super) fn finality(&self) -> Vec<Duration> {
        held(&self.0).finality.clone()
    }

    /// Who has which evidence.
    pub(super) fn evidence(&self) -> Vec<(usize, Evidence)> {
        held(&self.0).evidence.clone()
    }
}

/// An application of which is written down when its blocks were proposed and final, and of an honest
/// validator what it is told of others.
pub(super) struct Timed {
    pub(super) inner: Arc<dyn Application>,
    pub(super) clock: Context,
    pub(super) records: Arc<Records>,
    pub(super) honest: Option<usize>,
}

impl Application for Timed {
    fn identify(&self, body: &[u8]) -> Option<Identity> {
        self.inner.identify(body)
    }

    fn propose(&self, view: u64, parent: piaogen_crypto::Digest) -> Option<piaogen_crypto::Digest> {
        let block = self.inner.propose(view, parent)?;
        let now = self.clock.current();
        held(&self.records.0).proposed.entry(block).or_insert(now);
        Some(block)
    }

    fn check(&self, view: u64, body: &[u8], notarized: bool) -> Verdict {
        self.inner.check(view, body, notarized)
    }

    fn body(&self, block: piaogen_crypto::Digest) -> Option<Vec<u8>> {
        self.inner.body(block)
    }

    fn last(&self) -> Identity {
        self.inner.last()
    }

    fn finals(&self, from: u64, most: usize, bytes: usize) -> Vec<FinalBlock> {
        self.inner.finals(from, most, bytes)
    }

    fn finalized(&self, block: piaogen_crypto::Digest, body: &[u8], finalization: &[u8]) {
        self.inner.finalized(block, body, finalization);
        let now = self.clock.current();
        let mut noted = held(&self.records.0);
        let proposed = noted.proposed.get(&block).copied();
        if let Some(took) = proposed.and_then(|then| now.duration_since(then).ok()) {
            noted.finality.push(took);
        }
    }

    fn caught(&self, evidence: Evidence) {
        if let Some(validator) = self.honest {
            held(&self.records.0).evidence.push((validator, evidence.clone()));
        }
        self.inner.caught(evidence);
    }
}
