//! A peer that sends well-formed messages faster than PROTOCOL section 5.2 lets it: it waits, and
//! nobody else does.
//!
//! One channel at a time is flooded, since a connection is read in order: what waits on the slowest
//! channel keeps the others below their limits. Nothing is said of how fast anything is: each step
//! waits until the limit was seen to bite, and the set to go on meanwhile.
//!
//! Memory is not measured: what a process takes says more of its threads and its allocator than of
//! a flood. A message that waits is not read from its connection, and so waits at its sender; of
//! what was read, `exchange::bodies` has the bound and its test.

use super::*;
use crate::digest::Digest;
use crate::finalization::{self, sorted};
use crate::scheme::Scheme;
use crate::simulation::plausible_message;
use commonware_codec::{Encode as _, varint::UInt};
use commonware_consensus::simplex::types::Certificate;
use commonware_runtime::IoBuf;
use commonware_utils::NZU32;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// How many times more than it may the peer sends. Its own network holds a burst for each of the
/// others, so more would only fill the memory of this process.
const LOUD: NonZeroU32 = NZU32!(16);
/// How many messages have to wait on a channel, at each validator.
const WAITED: u64 = 20;
/// Different messages of a channel.
const DIFFERENT: u64 = 64;

/// What validator 3, who knows the certificate of a block, might say on a channel.
fn chatter(four: &Four, finalization: &[u8], channel: usize) -> Vec<IoBuf> {
    let set = sorted(&four.keys()).unwrap();
    let known = finalization::decode(finalization).unwrap();
    let certificate: Certificate<Scheme, Digest> = Certificate::Finalization(known);
    let certificate: IoBuf = [&UInt(0u64).encode()[..], &certificate.encode()].concat().into();
    let scheme = Scheme::signer(NAMESPACE, set, four.secrets[3].clone()).unwrap();
    // Far above what is final, so that bodies are not passed over.
    let chain = Chain::default();
    chain.set(|state| state.last.height = 1_000_000);
    let message = |count: u64| {
        let said = plausible_message(channel, count, &scheme, &chain, &GENESIS);
        said.unwrap_or_else(|| certificate.clone())
    };
    (0..DIFFERENT).map(message).collect()
}

/// Sends these on a channel, far more than may be, until `ended`.
async fn flood(
    context: &runtime::Context,
    links: &mut Connected,
    (number, messages): (usize, Vec<IoBuf>),
    ended: Receiver<()>,
) {
    while ended.try_recv() == Err(TryRecvError::Empty) {
        for message in &messages {
            of(links, number).0.send(Recipients::All, message.clone(), false);
        }
        context.sleep(Duration::from_millis(2)).await;
    }
}

impl Four {
    /// How many messages of validator 3 have waited on a channel, at each of these.
    fn waited(&self, who: &[usize], channel: usize) -> Vec<u64> {
        who.iter().map(|index| self.peers(*index)[3].limited[channel]).collect()
    }

    /// Has validator 3 flood a channel until each of the others has let it wait, and `meanwhile` is
    /// done.
    fn flooded(mut self, number: usize, meanwhile: impl FnOnce(&mut Four)) -> Four {
        let finalization = self.chains[0].finals(1)[0].finalization.clone();
        let messages = chatter(&self, &finalization, number);
        let (rogue, listen) = (self.secrets[3].clone(), self.addresses[3].clone());
        let (quiet, all) = (self.shape(), [0, 1, 2]);
        let rates = RATES.map(|rate| rate.saturating_mul(LOUD));
        std::thread::scope(|scope| {
            let (end, ended) = channel::<()>();
            scope.spawn(move || {
                intrude(&quiet, &rogue, &listen, rates, async move |context, mut links| {
                    flood(&context, &mut links, (number, messages), ended).await;
                });
            });
            // Dropped however this ends, so that a failure is told.
            let _end = end;
            wait(&format!("the limit of channel {number} bites"), || {
                self.waited(&all, number).iter().all(|count| *count >= WAITED)
            });
            meanwhile(&mut self);
            // It goes on to bite, and who is limited is listened to: it said nothing wrong.
            let before = self.waited(&[0, 1], number);
            wait("the flood goes on", || {
                let now = self.waited(&[0, 1], number);
                now.iter().zip(&before).all(|(now, before)| now > before)
            });
            assert!(all.iter().all(|index| !self.peers(*index)[3].blocked));
            self
        })
    }
}

#[test]
fn a_flood_of_what_is_well_formed_waits_on_each_channel_and_stops_nobody() {
    let mut four = Four::new();
    (0..3).for_each(|index| four.start(index));
    four.grow(&[0, 1, 2], 5);
    assert!((0..5).all(|channel| four.waited(&[0, 1, 2], channel) == [0; 3]));
    for channel in 0..5 {
        four = four.flooded(channel, |four| {
            four.grow(&[0, 1, 2], 3);
            if channel != 4 {
                return;
            }
            // Who has lost everything asks on the channel that is flooded, and is served by the two
            // others, or there is no quorum.
            four.stop(2);
            four.chains[2] = Arc::default();
            four.start(2);
            let present = four.chains[0].height();
            four.chains[2].finals(present + 3);
            four.grow(&[0, 1, 2], 3);
        });
    }
    four.finish();
}
