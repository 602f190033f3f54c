//! A mirror: the logs of a chain as files that any web server hands out, kept by who trusts nobody.
//!
//! It follows the headers like a witness, and takes the tiles of each shard from the root down: the
//! head names the root of a log, the tiles at its end lead to that root, and each tile names those
//! below it. *Why not from the leaves up?* Then nothing could be believed before the last leaf is
//! there. From the root down each file is checked as it comes, so whatever has its name is right:
//! memory is bounded, files come side by side in any order, and what was cut short goes on where it
//! was. Entries are believed when their leaf hash is in the tile.
//!
//! Paths below the folder are those over HTTP (`FORMAT.md` section 11.2, `LAYOUT.md` section 12).
//!
//! Invariants
//! - `v1/head` gets its name last: all that it names is there, durably, whatever the moment.
//! - Logs only grow: a source whose log does not extend the one that is kept is refused before a file
//!   of that log is written, and what proves it is kept.
//! - No file has its name before it was checked against a root that a certified header binds.

mod check;
mod files;
mod grow;
mod headers;
mod prove;
mod pull;
mod rewritten;

pub use check::{Checked, check};
pub use prove::TileProver;
pub use pull::Pulled;

use crate::disk::{Disk, Plain};
use crate::history;
use crate::site::read_bounded;
use anyhow::{Context, Result, ensure};
use files::Files;
use piaogen_storage::Held;
use piaogen_verify::follow::{Follower, Link};
use piaogen_verify::tiles::{Head, LEVELS, Log, Part, TileError};
use piaogen_verify::trust_root::TrustRoot;
use std::path::Path;
use std::sync::Arc;

/// The folder of a mirror, opened for writing.
#[derive(Debug)]
pub struct Mirror {
    files: Files,
    trust: TrustRoot,
    follower: Follower,
    _lock: Held,
}

/// All parts of a log.
fn parts() -> impl Iterator<Item = Part> {
    (0..LEVELS).map(Part::Hashes).chain([Part::Entries])
}

/// All logs of a chain with so many shards.
fn logs(shards: usize) -> impl Iterator<Item = Log> {
    (0..shards as u32).map(Log::Shard).chain([Log::History])
}

/// What was read from tiles, or why not.
pub(crate) fn of_tiles<T, E: Into<anyhow::Error>>(read: Result<T, TileError<E>>) -> Result<T> {
    read.map_err(|error| match error {
        TileError::Read(error) => error.into(),
        TileError::Absent { level, index } => anyhow::anyhow!(
            "the tiles do not have hash {index} of level {level}: they are of a log that is shorter"
        ),
    })
}

/// Whether a head is final, for who followed to its header. One that carries changes must be good by
/// itself; a node leaves them out where they are too many, and then those count that were followed.
fn verify_head(head: &Head, trust: &TrustRoot, follower: &Follower, link: &Link) -> Result<()> {
    ensure!(
        link.header == head.header,
        "the head of block {} is not the end of the headers beside it",
        head.header.height
    );
    if head.changes.is_empty() {
        head.verify(&follower.led_to(trust, link.header.height)).context("v1/head")
    } else {
        head.verify(trust).context("v1/head")
    }
}

impl Mirror {
    /// Opens or makes the folder.
    pub fn open(dir: &Path, trust: &TrustRoot) -> Result<Mirror> {
        Mirror::open_on(Arc::new(Plain), dir, trust)
    }

    /// The same on a disk of which the folder is.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, trust: &TrustRoot) -> Result<Mirror> {
        let lock = history::lock(dir, "mirror")?;
        let (files, trust) = (Files::on(disk, dir), trust.clone());
        let follower = Follower::new(&trust)?;
        let mut mirror = Mirror { files, trust, follower, _lock: lock };
        mirror.rested()?;
        Ok(mirror)
    }

    /// Takes up the follower where it rested, if its last header is there.
    fn rested(&mut self) -> Result<()> {
        let path = self.files.dir().join(history::FOLLOWER);
        let Some(rest) = read_bounded(&path, history::FOLLOWER_MAX)? else { return Ok(()) };
        match Follower::resume(&self.trust, &rest) {
            Ok(follower) if headers::stands(&self.files, &follower) => self.follower = follower,
            Ok(_) => tracing::warn!("the last header is not there: headers are taken again"),
            Err(refusal) => tracing::warn!(%refusal, "headers are taken again"),
        }
        Ok(())
    }
}
