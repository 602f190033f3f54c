//! Faults of the disk under the votes.
//!
//! The deterministic runtime's disk forgets what was not synced when its validator stops. In a
//! blackout each byte that was not synced survives or not, by chance ([`torn`]). A bit of what was
//! synced flips where a plan says so.

use super::Context;
use commonware_runtime::deterministic::{FaultConfig, PartialWriteMode, WriteConfig};
use commonware_runtime::{Blob as _, ReadOptions, Storage as _, WriteOptions};
use commonware_utils::probability;

/// Of writes that were not synced half of the bytes survive a blackout.
pub(super) fn torn() -> FaultConfig {
    let write_rate = Some(WriteConfig {
        failure_rate: probability!(0.0),
        retention_rate: probability!(0.5),
        mode: PartialWriteMode::Subset,
    });
    FaultConfig { write_rate, ..FaultConfig::default() }
}

/// Flips a bit in the newest votes of a validator that does not run; whether there were any.
/// `at` counts bits, and begins again at the end.
pub(super) async fn flip(context: &Context, partition: &str, at: u64) -> bool {
    flip_in(context, partition, at).await.unwrap_or_default()
}

async fn flip_in(
    context: &Context,
    partition: &str,
    at: u64,
) -> Result<bool, commonware_runtime::Error> {
    // One file for each view, named by it.
    let Some(newest) = context.scan(partition).await?.into_iter().max() else { return Ok(false) };
    let (blob, size) = context.open(partition, &newest).await?;
    if size == 0 {
        return Ok(false);
    }
    let place = (at / 8) % size;
    let byte = blob.read_at(place, 1, ReadOptions::default()).await?.coalesce();
    let flipped = byte.as_ref()[0] ^ (1 << (at % 8));
    blob.write_at(place, vec![flipped], WriteOptions::SYNC).await?;
    Ok(true)
}
