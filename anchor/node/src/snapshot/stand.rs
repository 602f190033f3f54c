//! Where a node stands: what of the stream it does not need any more.
//!
//! Every node says it over HTTP (`/v1/flushed`), and who prunes a stream that several read asks the
//! others, so that nobody finds gone what he needs. It is for operators among themselves: a node that
//! lies harms itself, since only its own records are kept for it.
//!
//! Invariants
//! - What a node says it does not need, it does not need after a crash either.

use crate::site::Site;
use anyhow::{Context, Result, ensure};
use piaogen_crypto::Digest;
use piaogen_storage::FlushPoint;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest time that a node may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of an answer: an offset for each of 4,097 shards fits.
const BYTES: u64 = 256 << 10;

/// Where a node stands, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stand {
    /// The chain, in hex.
    pub(crate) chain: String,
    /// Its flush point: a crash goes back no further.
    pub(crate) height: u64,
    /// Of each shard, the registry last, the first offset that it needs from there on.
    pub(crate) next_offsets: Vec<u64>,
}

impl Stand {
    /// That of a node with this flush point.
    pub(crate) fn of(chain: &Digest, point: &FlushPoint) -> Stand {
        let next_offsets = point.shards.iter().map(|shard| shard.next_offset).collect();
        Stand { chain: hex::encode(chain), height: point.height, next_offsets }
    }

    /// Asks a node of this chain with so many shards.
    pub(crate) fn ask(node: &str, chain: &Digest, shards: usize) -> Result<Stand> {
        let site = Site::node(node, PATIENCE)?;
        let site = site.with_context(|| format!("--ask {node}: a node is http://HOST:PORT"))?;
        let bytes = site.ask("flushed", BYTES).with_context(|| {
            format!(
                "nothing is pruned: {node} does not say what it needs; start that node, or leave it \
                 out, and it comes back with the snapshot"
            )
        })?;
        let wrong = |what: &str| format!("nothing is pruned: {node} {what}");
        let stand: Stand = serde_json::from_slice(&bytes)
            .with_context(|| wrong("answers something that is no flush point"))?;
        ensure!(stand.chain == hex::encode(chain), wrong("is a node of another chain"));
        ensure!(stand.next_offsets.len() == shards, wrong("has another number of shards"));
        Ok(stand)
    }
}
