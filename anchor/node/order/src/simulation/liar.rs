//! A liar over the real network: it has no engine, and votes twice in each view that it hears of.
//!
//! What a simulated liar shows of the engine this shows of whole nodes: they are processes that know
//! nothing of it, and connect with its key as with any validator's.

use crate::digest::Digest;
use crate::engine::checked;
use crate::network::{self, RATES};
use crate::own::Own;
use crate::scheme::Scheme;
use crate::{OrderConfig, OrderError};
use commonware_codec::{DecodeExt as _, Encode as _, varint::UInt};
use commonware_consensus::Roundable as _;
use commonware_consensus::simplex::types::{Notarize, Proposal, Vote};
use commonware_consensus::types::View;
use commonware_p2p::utils::mux;
use commonware_p2p::{Receiver, Recipients, Sender as _};
use commonware_runtime::{IoBuf, Runner as _, Spawner as _, Supervisor as _, tokio as runtime};
use piaogen_crypto::sm2::SecretKey;
use std::time::Duration;

/// How often is looked whether it is done.
const GLANCE: Duration = Duration::from_millis(50);

/// Connects as the validator with this key, and answers each vote of another, of whatever epoch, with
/// two of its own for that view: that two different blocks are good. Returns how often it lied, once
/// `done`.
///
/// # Errors
/// `Refused` as for a node that starts with this configuration.
pub fn vote_twice(
    config: &OrderConfig,
    key: SecretKey,
    done: impl Fn() -> bool,
) -> Result<u64, OrderError> {
    let own = Own::from(key);
    let (scheme, peers) = checked(config, &own)?;
    let Some(network) = &config.network else { return Ok(0) };
    let settings = runtime::Config::new().with_storage_directory(&config.directory);
    Ok(runtime::Runner::new(settings).start(|context| async move {
        let links = network::connect(&context, config, network, peers, own, RATES);
        for (_, receiver) in [links.certificates, links.views, links.bodies, links.requests] {
            context.child("deaf").spawn(move |_| ignore(receiver));
        }
        let (mut sender, mut receiver) = links.votes;
        let mut lies = 0;
        while !done() {
            let heard = tokio::time::timeout(GLANCE, receiver.recv()).await;
            let Ok(Ok((_, message))) = heard else { continue };
            let votes = mux::parse(message).ok().and_then(|(_, vote)| pair(&scheme, vote));
            let Some(votes) = votes else { continue };
            for vote in votes {
                let _ = sender.send(Recipients::All, vote, true);
            }
            lies += 1;
        }
        lies
    }))
}

async fn ignore(mut receiver: impl Receiver) {
    while receiver.recv().await.is_ok() {}
}

/// Two votes of the view of another that exclude each other, as they travel.
fn pair(scheme: &Scheme, heard: IoBuf) -> Option<[Vec<u8>; 2]> {
    let round = Vote::<Scheme, Digest>::decode(heard).ok()?.round();
    let parent = View::new(round.view().get().saturating_sub(1));
    let vote = |payload: u8| {
        let proposal = Proposal::new(round, parent, Digest([payload; 32]));
        let vote: Vote<Scheme, Digest> = Vote::Notarize(Notarize::sign(scheme, proposal)?);
        Some([&UInt(round.epoch().get()).encode()[..], &vote.encode()].concat())
    };
    Some([vote(1)?, vote(2)?])
}
