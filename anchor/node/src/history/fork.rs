//! Makes evidence of a source whose history is not the one that is kept.
//!
//! Invariants
//! - A source whose other history nobody certified is an error, not evidence.

use super::{BATCH, Caught, Headers, Source};
use anyhow::{Context, Result, ensure};
use piaogen_crypto::Digest;
use piaogen_verify::evidence::{Certified, Evidence};
use piaogen_verify::follow::{Follower, Link};
use piaogen_verify::header::Header;
use piaogen_verify::merkle;

/// One side from the fork on: the first header that is certified, and what leads there.
struct Side {
    certified: Certified,
    /// The headers from the fork up to it.
    headers: Vec<Header>,
}

/// Evidence of what is kept against what a source shows, which is another header at this height.
pub(super) fn evidence(
    kept: &impl Headers,
    height: u64,
    source: &mut dyn Source,
) -> Result<Caught> {
    let fork = first_difference(kept, height, source)?;
    let mut follower = Follower::new(kept.trust())?;
    let mut common = Vec::new();
    for height in 0..fork {
        let link = kept.link(height)?;
        common.push(link.header.leaf());
        follower.take_again(&link)?;
    }
    let left_out = follower.left_out(fork).to_vec();
    let theirs = side(follower.clone(), |height| Ok(source.links(height, 1)?.into_iter().next()))
        .context("the source shows another history, which nobody certified")?;
    let ours = side(follower, |height| match height < kept.size() {
        true => kept.link(height).map(Some),
        false => Ok(None),
    })?;
    let evidence = join(fork, &common, ours, theirs)?;
    Caught::new(evidence, &left_out, kept.trust()).context("the two histories are no evidence")
}

/// The lowest height at which the source has another header. Below it all are the same, and above
/// it none, since each header binds those before it.
fn first_difference(kept: &impl Headers, height: u64, source: &mut dyn Source) -> Result<u64> {
    let (mut same, mut other) = (0, height);
    let mut differs = |height: u64| -> Result<bool> {
        let theirs = source.links(height, 1)?;
        let theirs = theirs.first().context("the source hides headers that it has shown")?;
        Ok(theirs.header != kept.link(height)?.header)
    };
    ensure!(!differs(0)?, "the source is of another chain");
    while other - same > 1 {
        let middle = same + (other - same) / 2;
        match differs(middle)? {
            true => other = middle,
            false => same = middle,
        }
    }
    Ok(other)
}

fn side(
    mut follower: Follower,
    mut links: impl FnMut(u64) -> Result<Option<Link>>,
) -> Result<Side> {
    let mut headers = Vec::new();
    loop {
        let link = links(follower.size())?.context("there is no certified header")?;
        follower.take(&link)?;
        headers.push(link.header);
        if !link.certificate.is_empty() {
            return Ok(Side { certified: follower.certified(&link), headers });
        }
        ensure!((headers.len() as u64) < BATCH, "no header of {BATCH} is certified");
    }
}

/// A fork where both are of one height, else a rewrite.
fn join(fork: u64, common: &[Digest], ours: Side, theirs: Side) -> Result<Evidence> {
    let height = |side: &Side| side.certified.header.height;
    if height(&ours) == height(&theirs) {
        return Ok(Evidence::Fork { first: ours.certified, second: theirs.certified });
    }
    let (older, newer) = match height(&ours) < height(&theirs) {
        true => (ours, theirs),
        false => (theirs, ours),
    };
    let (low, high) = (height(&older), height(&newer));
    let mut leaves = common.to_vec();
    leaves.extend(newer.headers.iter().map(Header::leaf));
    let other = newer.headers[(low - fork) as usize].digest();
    let Ok(proof) = merkle::prove_inclusion(&leaves[..], low, high);
    Ok(Evidence::Rewrite { older: older.certified, newer: newer.certified, other, proof })
}
