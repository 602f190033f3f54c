//! Headers that somebody keeps, and how he takes more of them: what witnesses and mirrors share.
//!
//! A source is believed nothing: each header must extend the one before it, and what is kept ends
//! with one that is certified. Where a source has another history than the one that is kept, nothing
//! is taken, and the two make evidence.
//!
//! Invariants
//! - What is kept only grows, and ends with a certified header.
//! - The last header that is kept is asked for again each time: it must still be the same.

mod caught;
mod file;
mod fork;
mod source;

pub use caught::{Caught, Kept};
pub use file::LinkFile;
pub use source::{Published, Source, decode as decode_links, open as open_source};

use anyhow::{Context, Result};
use piaogen_storage::Held;
use piaogen_verify::follow::{Follower, Link};
use piaogen_verify::tiles::WIDTH;
use piaogen_verify::trust_root::TrustRoot;
use std::fs::{File, OpenOptions};
use std::path::Path;

/// Bundles whose headers are asked for at once.
const BUNDLES: u64 = 2;
/// Most headers that are asked for at once: the last one that is kept, and those after it.
const BATCH: u64 = BUNDLES * WIDTH + 1;
/// What is locked by the one process that keeps a folder.
const LOCK: &str = "lock";
/// Where the follower rests.
pub(crate) const FOLLOWER: &str = "follower";
/// Most bytes of it.
pub(crate) const FOLLOWER_MAX: u64 = 1 << 30;

/// Headers that somebody keeps, durably, from the first one on.
pub trait Headers {
    /// What is trusted: the trust root of the genesis.
    fn trust(&self) -> &TrustRoot;
    /// The chain as far as it is kept.
    fn follower(&self) -> &Follower;
    /// A header that is kept.
    fn link(&self, height: u64) -> Result<Link>;
    /// Keeps more, which this follower has taken; durable when it returns. The last is certified.
    fn append(&mut self, links: &[Link], follower: Follower) -> Result<()>;

    /// How many headers are kept.
    fn size(&self) -> u64 {
        self.follower().size()
    }
}

/// What following a source came to.
#[derive(Debug)]
pub enum Followed {
    /// The source extends what is kept, by so many headers.
    Extended(u64),
    /// It shows another history, and this proves it.
    Split(Box<Caught>),
}

/// Takes what a source has beyond what is kept, or finds that it has another history.
pub fn follow(kept: &mut impl Headers, source: &mut dyn Source) -> Result<Followed> {
    let before = kept.size();
    loop {
        let from = kept.size();
        // The last one again: it must still be the same. To the end of a bundle, as they are stored.
        let first = from.saturating_sub(1);
        let links = source.links(first, (from / WIDTH + BUNDLES) * WIDTH - first)?;
        let overlap = usize::from(from > 0);
        if let (Some(last), Some(first)) = (kept.follower().last(), links.first())
            && first.header != *last
        {
            return split(kept, last.height, source);
        }
        if links.is_empty()
            && let Some(height) = differs_below(kept, source)?
        {
            return split(kept, height, source);
        }
        if links.len() <= overlap || !take(kept, &links[overlap..])? {
            return Ok(Followed::Extended(kept.size() - before));
        }
    }
}

fn split(kept: &impl Headers, height: u64, source: &mut dyn Source) -> Result<Followed> {
    Ok(Followed::Split(Box::new(fork::evidence(kept, height, source)?)))
}

/// A height at which a source that is behind has another header than what is kept.
fn differs_below(kept: &impl Headers, source: &mut dyn Source) -> Result<Option<u64>> {
    let (top, mut back) = (kept.size().saturating_sub(1), 1);
    while back < top {
        if let Some(last) = source.links(top - back, BATCH)?.last() {
            let height = last.header.height;
            let other = height <= top && kept.link(height)?.header != last.header;
            return Ok(other.then_some(height));
        }
        back *= 2;
    }
    Ok(None)
}

/// Keeps links up to the last one that is certified; whether there was one.
fn take(kept: &mut impl Headers, links: &[Link]) -> Result<bool> {
    let mut ahead = kept.follower().clone();
    let mut certified = None;
    for (link, count) in links.iter().zip(1..) {
        ahead.take(link).context("the source's headers are no chain")?;
        if !link.certificate.is_empty() {
            certified = Some((ahead.clone(), count));
        }
    }
    let Some((follower, count)) = certified else { return Ok(false) };
    kept.append(&links[..count], follower)?;
    Ok(true)
}

/// Opens a file for reading and writing, made where it is missing.
fn open_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    options.open(path).with_context(|| path.display().to_string())
}

/// Makes a folder and locks it for this process, which is called what it is, as long as what it
/// returns lives.
pub fn lock(dir: &Path, who: &str) -> Result<Held> {
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let held = Held::take(open_file(&dir.join(LOCK))?).context("lock")?;
    held.with_context(|| format!("{} is in use by another {who}", dir.display()))
}
