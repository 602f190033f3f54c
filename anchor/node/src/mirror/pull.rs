//! Brings a mirror up to what a source has.
//!
//! ```text
//! 1  head       the source's, with all shards under its header
//! 2  headers    up to it, followed like a witness follows them
//! 3  history    the tiles of the log over the headers, computed
//! 4  shards     what each log has grown by (`grow.rs`), side by side
//! 5  publish    names made durable, then v1/head
//! 6  sweep      partial files that neither this head nor the one before names
//! ```
//!
//! Invariants
//! - A crash leaves the head of before or the new one; what was taken stays and is not taken again.
//! - The partial files of the head before stay, so that who has just read it finds them.

use super::files::HEAD;
use super::grow::{Growth, NotExtended};
use super::{Mirror, logs, parts, verify_head};
use crate::history::{Caught, Followed, Headers, Published, Source, follow};
use crate::site::Site;
use anyhow::{Context, Result, bail, ensure};
use piaogen_verify::follow::Link;
use piaogen_verify::header::ShardEntry;
use piaogen_verify::tiles::{HEAD_MAX, Head, Log, WIDTH};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// Files that are taken side by side.
const FETCHES: usize = 16;
/// How often a head may be gone before all that it names was taken.
const HEADS_MAX: u32 = 20;
/// The head before the one that is handed out: its partial files are still there.
const BEFORE: &str = "before";

/// What a head names and its source has not.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not there, though the head names it")]
pub(super) struct Gone(pub(super) String);

/// What was taken.
#[derive(Debug, Default)]
pub(super) struct Counts {
    entries: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    pub(super) fn entries(&self, count: u64) {
        self.entries.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn file(&self, bytes: usize) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// What a pull came to.
#[derive(Debug)]
pub enum Pulled {
    /// The mirror is what the source's head names.
    Grown {
        /// The height of its head.
        height: u64,
        /// New headers, entries, files of shards and their bytes.
        headers: u64,
        /// New entries.
        entries: u64,
        /// Files of shards that were taken.
        files: u64,
        /// Bytes of them.
        bytes: u64,
    },
    /// The source shows another history, and this proves it.
    Split(Box<Caught>),
    /// A final header names a log that does not extend the one that is kept, and this proves it.
    Rewritten(Box<Caught>),
}

/// The headers up to one head.
struct UpTo<'a>(&'a Site, Published);

impl Source for UpTo<'_> {
    fn links(&mut self, height: u64, count: u64) -> Result<Vec<Link>> {
        let gone = || Gone(format!("a bundle of the headers from {height} on"));
        Ok(self.1.read(self.0, height, count)?.ok_or_else(gone)?)
    }
}

impl Mirror {
    /// Takes what a source has and this mirror has not.
    pub fn pull(&mut self, site: &Site) -> Result<Pulled> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(FETCHES).build()?;
        let counts = Counts::default();
        let before = self.size();
        let mut gone = None;
        for _ in 0..HEADS_MAX {
            let none =
                "v1/head is not there: it is no node and no mirror, or has no final block yet";
            let bytes = site.get(HEAD, HEAD_MAX)?.context(none)?;
            if let Some((_, error)) = gone.take_if(|(head, _)| *head == bytes) {
                return Err(error);
            }
            let head = Head::decode(&bytes).context("v1/head")?;
            match pool.install(|| self.take(site, &head, &bytes, &counts)) {
                Err(error) if error.is::<Gone>() => gone = Some((bytes, error)),
                Err(error) => return Err(error),
                Ok(Some(other)) => return Ok(other),
                Ok(None) => {
                    return Ok(Pulled::Grown {
                        height: head.header.height,
                        headers: self.size() - before,
                        entries: counts.entries.into_inner(),
                        files: counts.files.into_inner(),
                        bytes: counts.bytes.into_inner(),
                    });
                }
            }
        }
        bail!("the source went on {HEADS_MAX} times before all that its head named was taken")
    }

    /// Takes what a head names; nothing where that was done.
    fn take(
        &mut self,
        site: &Site,
        head: &Head,
        bytes: &[u8],
        counts: &Counts,
    ) -> Result<Option<Pulled>> {
        head.check_shards().context(HEAD)?;
        let kept = self.files.head()?;
        let mut source = UpTo(site, Published::at(head));
        if let Followed::Split(evidence) = follow(self, &mut source)? {
            return Ok(Some(Pulled::Split(evidence)));
        }
        let height = head.header.height;
        if let Some((kept, _)) = &kept {
            let newest = kept.header.height;
            ensure!(
                height >= newest,
                "the source's newest block is {height}, and this mirror has {newest}: it is behind, \
                 or was cut short; nothing was taken"
            );
            if height == newest {
                return Ok(None);
            }
        }
        let last = self.follower.newest_final().filter(|log| log.size > height);
        ensure!(last.is_some(), "the headers beside the head end before its block {height}");
        verify_head(head, &self.trust, &self.follower, &self.link(height)?)?;
        let old = kept.as_ref().map_or(&[][..], |(kept, _)| &kept.shards);
        ensure!(
            kept.is_none() || old.len() == head.shards.len(),
            "the head has {} shards, this mirror {}",
            head.shards.len(),
            old.len()
        );
        self.history_tiles(size_of(kept.as_ref(), Log::History), height + 1)?;
        if let Err(error) = self.grow(site, head, old, counts) {
            return match (error.downcast::<NotExtended>(), &kept) {
                (Ok(what), Some((kept, _))) => {
                    let evidence = self.rewritten(what, kept, head)?;
                    Ok(Some(Pulled::Rewritten(Box::new(evidence))))
                }
                (Ok(what), None) => Err(what.into()),
                (Err(error), _) => Err(error),
            };
        }
        self.files.publish(bytes)?;
        self.sweep(head, kept.as_ref())?;
        Ok(None)
    }

    fn grow(&self, site: &Site, head: &Head, old: &[ShardEntry], counts: &Counts) -> Result<()> {
        let files = &self.files;
        let grow = |new: &ShardEntry| {
            let old = old.get(new.shard as usize);
            Growth { site, files, counts, old, new }.run()
        };
        head.shards.par_iter().try_for_each(grow)
    }

    /// Deletes the partial files that neither the head nor the one before it names, from where the
    /// last sweep ended.
    fn sweep(&self, head: &Head, kept: Option<&(Head, Vec<u8>)>) -> Result<()> {
        let swept = self.files.head_at(BEFORE)?;
        for log in logs(head.shards.len()) {
            let size = head.size(log).unwrap_or(0);
            let (from, kept) = (size_of(swept.as_ref(), log), size_of(kept, log));
            if from == size {
                continue;
            }
            let mut sizes = vec![size, kept];
            if log == Log::History {
                sizes.push(self.size());
            }
            for part in parts() {
                for index in part.count(from) / WIDTH..=part.count(size) / WIDTH {
                    self.files.sweep(log, part, index, &sizes)?;
                }
            }
        }
        match kept {
            Some((_, bytes)) => self.files.replace(BEFORE, bytes),
            None => Ok(()),
        }
    }
}

fn size_of(head: Option<&(Head, Vec<u8>)>, log: Log) -> u64 {
    head.and_then(|(head, _)| head.size(log)).unwrap_or(0)
}
