//! Keeps evidence of validators that voted twice, in a folder of its own (`storage/LAYOUT.md`
//! section 13).
//!
//! Ordering says what it caught from a thread that must not wait for a disk. So what is caught waits
//! here for a thread that writes it, whatever becomes of ordering meanwhile; where the disk does not
//! take it, it goes on waiting and is tried again.
//!
//! Invariants
//! - A file is whole or not there; nothing that can be read is written over, and nothing is deleted.
//! - How much waits and how many files are written is bounded.

use crate::run::metrics::Metrics;
use crate::setup::{make_folder, replace};
use anyhow::{Context, Result, ensure};
use piaogen_verify::evidence::{EVIDENCE_MAX, Evidence};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The folder in the data folder.
pub const FOLDER: &str = "evidence";
/// Most files; what comes then is not written until some are moved away.
pub const FILES_MAX: usize = 1_000;
/// Most bytes of a file in JSON.
pub const FILE_MAX: usize = 4 * EVIDENCE_MAX;
/// Longest name of a file.
const NAME_MAX: usize = 128;
/// Most pieces that wait to be written.
const WAITING_MAX: usize = 256;
/// How long after a failure is tried again, at first and at last.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The evidence that a node has on disk.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// Whether a file has a name of evidence.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    let shaped = name.starts_with("evidence-") && name.ends_with(".json");
    shaped && name.len() <= NAME_MAX && name.chars().all(plain)
}

/// The name of the file against a validator in an epoch.
fn name_of(evidence: &Evidence) -> Option<String> {
    let Evidence::DoubleVote { key, epoch, .. } = evidence else { return None };
    let key = hex::encode(key.to_compressed());
    Some(format!("evidence-{}-{epoch}-{key}.json", evidence.kind()))
}

impl Folder {
    /// The folder in a data folder.
    pub fn of(data: &Path) -> Folder {
        Folder(data.join(FOLDER))
    }

    /// Where a file lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The files of evidence with their lengths, by name; [`FILES_MAX`] at most.
    pub fn files(&self) -> Result<Vec<(String, u64)>> {
        let listing = || self.0.display().to_string();
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(listing)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.with_context(listing)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Whoever hands files on may move them away meanwhile.
            if is_name(&name)
                && let Ok(metadata) = entry.metadata()
            {
                files.push((name, metadata.len()));
            }
        }
        files.sort();
        files.truncate(FILES_MAX);
        Ok(files)
    }

    /// A file, where there is one of this name.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if !is_name(name) {
            return Ok(None);
        }
        let path = self.path(name);
        let file = match std::fs::File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| path.display().to_string())?,
        };
        let mut bytes = Vec::new();
        let most = FILE_MAX as u64;
        file.take(most + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
        ensure!(bytes.len() as u64 <= most, "{} is longer than {most} bytes", path.display());
        Ok(Some(bytes))
    }

    /// Writes evidence, durable when this returns; where, or nothing where it was there.
    pub fn keep(&self, evidence: &Evidence) -> Result<Option<PathBuf>> {
        let name = name_of(evidence).context("only votes are kept here")?;
        let readable = |bytes: &[u8]| {
            std::str::from_utf8(bytes).is_ok_and(|text| Evidence::from_json(text).is_ok())
        };
        if self.read(&name)?.is_some_and(|bytes| readable(&bytes)) {
            return Ok(None);
        }
        let (files, path) = (self.files()?.len(), self.path(&name));
        ensure!(
            files < FILES_MAX || path.exists(),
            "{} has {files} files, the most are {FILES_MAX}: move away what was handed on",
            self.0.display()
        );
        make_folder(&self.0)?;
        replace(&path, evidence.to_json().as_bytes())?;
        Ok(Some(path))
    }
}

/// Evidence that is not on disk.
#[derive(Debug)]
struct Piece {
    evidence: Evidence,
    /// Whether the log has it.
    logged: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: Vec<Piece>,
    /// Whether something came since the writer last looked.
    fresh: bool,
    ending: bool,
}

/// What was caught, until it is on disk.
#[derive(Debug)]
pub struct Keeper {
    folder: Folder,
    metrics: Arc<Metrics>,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Keeper {
    /// Keeps evidence in a data folder, once [`Keeper::run`] runs.
    pub fn new(data: &Path, metrics: Arc<Metrics>) -> Keeper {
        let (waiting, changed) = (Mutex::default(), Condvar::new());
        Keeper { folder: Folder::of(data), metrics, waiting, changed }
    }

    /// The files.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Only ever pushed to, or taken whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes evidence in; at once.
    pub fn caught(&self, evidence: Evidence) {
        self.metrics.caught();
        let mut piece = Piece { evidence, logged: false };
        let mut waiting = self.waiting();
        if waiting.pieces.len() < WAITING_MAX {
            waiting.pieces.push(piece);
            waiting.fresh = true;
            self.metrics.evidence_unsaved(waiting.pieces.len());
        } else {
            piece.missed(&format!("{WAITING_MAX} others wait for the disk"));
        }
        self.changed.notify_all();
    }

    /// Writes what is caught until it is told to end; then what waits is tried a last time.
    pub fn run(&self) {
        let mut pause = PAUSE.0;
        loop {
            let (pieces, ending) = self.next(pause);
            let failed = self.write(pieces);
            pause = match failed.is_empty() {
                true => PAUSE.0,
                false => PAUSE.1.min(2 * pause),
            };
            let mut waiting = self.waiting();
            waiting.pieces.splice(0..0, failed);
            self.metrics.evidence_unsaved(waiting.pieces.len());
            if ending && !waiting.fresh {
                return;
            }
        }
    }

    /// Tells the writer to end.
    pub fn end(&self) {
        self.waiting().ending = true;
        self.changed.notify_all();
    }

    /// What is to be written, once there is something; what failed before after a pause.
    fn next(&self, pause: Duration) -> (Vec<Piece>, bool) {
        let mut waiting = self.waiting();
        loop {
            let tried = !waiting.pieces.is_empty();
            let idle = |waiting: &mut Waiting| !waiting.fresh && !waiting.ending;
            let longest = if tried { pause } else { Duration::MAX };
            let (held, timeout) = self
                .changed
                .wait_timeout_while(waiting, longest, idle)
                .unwrap_or_else(PoisonError::into_inner);
            waiting = held;
            if !idle(&mut waiting) || timeout.timed_out() {
                waiting.fresh = false;
                return (std::mem::take(&mut waiting.pieces), waiting.ending);
            }
        }
    }

    /// Writes pieces; those that the disk does not take come back.
    fn write(&self, mut pieces: Vec<Piece>) -> Vec<Piece> {
        pieces.retain_mut(|piece| match self.folder.keep(&piece.evidence) {
            Ok(Some(path)) => {
                let path = path.display();
                tracing::error!(%path, "evidence of a double vote is kept: hand it on");
                false
            }
            Ok(None) => false,
            Err(error) => {
                piece.missed(&format!("{error:#}"));
                true
            }
        });
        pieces
    }

    /// Counts the files, for the series.
    pub fn measure(&self) {
        match self.folder.files() {
            Ok(files) => self.metrics.evidence_files(files.len()),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "evidence is not counted"),
        }
    }
}

impl Piece {
    /// Says that it is not on disk, and the first time what it is.
    fn missed(&mut self, why: &str) {
        if std::mem::replace(&mut self.logged, true) {
            return tracing::error!(%why, "evidence of a double vote is still not kept");
        }
        let evidence = hex::encode(self.evidence.encode());
        tracing::error!(
            %why, %evidence,
            "evidence of a double vote is NOT kept: take it from here; `xxd -r -p` makes a file of \
             it that `piaogen evidence verify` reads"
        );
    }
}

#[cfg(test)]
mod tests;
