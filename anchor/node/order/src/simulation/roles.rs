//! Liars: what a validator does that does not follow the protocol, with its own key.
//!
//! All but who floods run the real engine on their application as well, so that they are believed
//! to be of the set until they are caught.

use super::wire::{In, Kept, Out};
use super::{Context, Side};
use crate::digest::Digest;
use crate::scheme::Scheme;
use crate::wire::Want;
use crate::{Application, held};
use commonware_codec::{Encode as _, varint::UInt};
use commonware_consensus::simplex::types::{Finalize, Notarize, Nullify, Proposal, Vote};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_p2p::{Receiver as _, Recipients, Sender as _};
use commonware_runtime::{Clock as _, IoBuf, Spawner as _, Supervisor as _};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How a validator lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is two: two engines with one key, each with an application of its own, that propose, vote
    /// and finalize for themselves. One talks to those of the first side only, the other to those
    /// of the second; who is of both hears both. Of others with this role each self talks to the
    /// same self. The application of the second self stands behind those of the validators.
    Equivocates {
        /// Whom the first self talks to.
        first: Side,
        /// Whom the second talks to.
        second: Side,
    },
    /// It sends bodies to nobody, one or all, each vote to about half, certificates to nobody, and
    /// answers nobody.
    Withholds,
    /// It sends its own old votes, and certificates, bodies and requests of earlier views, also of
    /// earlier epochs, again and again; after `REPLAYED` also votes of others, and anything on any
    /// channel.
    Replays,
    /// It has no engine. It sends votes for views that are far off, bodies and requests for the
    /// whole chain, faster than the network of a node lets through; after `PLAUSIBLE` bodies that
    /// are too long and garbage on all channels.
    Floods,
}

/// For how long from the beginning of a run a liar replays only what may be honest.
pub const REPLAYED: Duration = Duration::from_secs(5);
/// For how long a liar floods with what may be honest.
pub const PLAUSIBLE: Duration = Duration::from_secs(2);

const EPOCH: u64 = 0;
const VOTES: usize = 0;
const BODIES: usize = 3;

/// Sends what was kept, again and again, about 200 messages a second; `begun` did the run.
pub(super) fn replay(
    context: Context,
    seed: u64,
    begun: SystemTime,
    kept: Kept,
    mut senders: Vec<Out>,
) {
    context.spawn(move |context| async move {
        let mut random = StdRng::seed_from_u64(seed);
        loop {
            context.sleep(Duration::from_millis(5)).await;
            let found = {
                let kept = held(&kept);
                if kept.is_empty() {
                    continue;
                }
                kept[random.random_range(0..kept.len())].clone()
            };
            let (mut channel, own, message) = found;
            let late = context.current() > begun + REPLAYED;
            if !late && channel == VOTES && !own {
                continue;
            }
            if late && random.random_range(0..16) == 0 {
                channel = random.random_range(0..senders.len());
            }
            senders[channel].send(Recipients::All, message, true);
        }
    });
}

/// What a flood is made of.
pub(super) struct Flood {
    pub(super) seed: u64,
    pub(super) scheme: Scheme,
    pub(super) application: Arc<dyn Application>,
    pub(super) genesis: piaogen_crypto::Digest,
    pub(super) body_bytes_max: usize,
    pub(super) links: Vec<(Out, In)>,
}

/// Floods on all channels, about 500 messages a second on each.
pub(super) fn flood(context: Context, flood: Flood) {
    let Flood { seed, scheme, application, genesis, body_bytes_max, links } = flood;
    let mut senders = Vec::new();
    for (sender, mut receiver) in links {
        senders.push(sender);
        context.child("deaf").spawn(move |_| async move { while receiver.recv().await.is_ok() {} });
    }
    context.child("flood").spawn(move |context| async move {
        let mut random = StdRng::seed_from_u64(seed);
        let begun = context.current();
        let mut count = 0u64;
        loop {
            context.sleep(Duration::from_millis(2)).await;
            let plausible = context.current() < begun + PLAUSIBLE;
            for (channel, sender) in senders.iter_mut().enumerate() {
                count += 1;
                let message = if plausible {
                    plausible_message(channel, count, &scheme, application.as_ref(), &genesis)
                } else {
                    Some(garbage(channel, &mut random, body_bytes_max))
                };
                if let Some(message) = message {
                    sender.send(Recipients::All, message, false);
                }
            }
        }
    });
}

/// What an honest validator might send, some day.
pub(crate) fn plausible_message(
    channel: usize,
    count: u64,
    scheme: &Scheme,
    application: &dyn Application,
    genesis: &piaogen_crypto::Digest,
) -> Option<IoBuf> {
    let of_epoch = |bytes: &[u8]| [&UInt(EPOCH).encode()[..], bytes].concat();
    let bytes = match channel {
        VOTES => {
            let round = Round::new(Epoch::new(EPOCH), View::new(100 + count));
            let block = Digest(piaogen_crypto::sm3::hash(&count.to_be_bytes()));
            let proposal = Proposal::new(round, View::new(99 + count), block);
            let vote: Vote<Scheme, Digest> = match count % 3 {
                0 => Vote::Notarize(Notarize::sign(scheme, proposal)?),
                1 => Vote::Finalize(Finalize::sign(scheme, proposal)?),
                _ => Vote::Nullify(Nullify::sign::<Digest>(scheme, round)?),
            };
            of_epoch(&vote.encode())
        }
        // Nobody can make a certificate alone.
        1 => return None,
        // A request for the certificate of a view.
        2 => of_epoch(&[&count.to_be_bytes()[..], &[0], &(count % 64).to_be_bytes()].concat()),
        BODIES => application.body(application.propose(count, *genesis)?)?,
        _ => {
            let want = Want::Finals(1 + count % 64).encode();
            [&count.to_be_bytes()[..], &[0], &want].concat()
        }
    };
    Some(bytes.into())
}

/// What nobody should send.
fn garbage(channel: usize, random: &mut StdRng, body_bytes_max: usize) -> IoBuf {
    let long = if channel == BODIES && random.random_bool(0.5) { body_bytes_max } else { 0 };
    let mut bytes = vec![0; long + random.random_range(1..200)];
    random.fill_bytes(&mut bytes);
    if random.random_bool(0.5) {
        // With an epoch that is right.
        bytes[0] = 0;
    }
    bytes.into()
}
