//! A witness: follows the headers of a chain, keeps them, and signs that they are one history.
//!
//! What it signs it must never contradict, whatever happens to it in between. So it keeps every
//! header that it took, up to one that is certified, durably and in order, and signs nothing else
//! than the log of these. Where a source shows a history that does not extend the one it keeps, it
//! signs nothing, and makes evidence of the two.
//!
//! Invariants
//! - Headers, then the mark of what will be signed, are durable before the signature is made.
//! - What is kept only grows, and ends with a certified header; one process at a time keeps it.
//! - A folder that lost what it signed is not used again.

mod fork;
mod source;

pub use fork::evidence;
pub use source::{Source, open as open_source};

use crate::run::Fatal;
use crate::setup::replace;
use anyhow::{Context, Result, ensure};
use piaogen_crypto::sm2::Signer;
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::evidence::Evidence;
use piaogen_verify::follow::{Final, Follower, LINK_MAX, Link};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::Cosignature;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Headers that are asked for at once.
const BATCH: u64 = 500;
/// The headers, each behind its length.
const LINKS: &str = "headers";
/// What was signed last, or was about to be.
const SIGNED: &str = "signed.json";
/// The checkpoint with the cosignature.
pub const CHECKPOINT: &str = "checkpoint";

/// The folder of a witness, opened.
#[derive(Debug)]
pub struct Witness {
    dir: PathBuf,
    trust: TrustRoot,
    links: File,
    /// Where each link begins, and where the file ends.
    offsets: Vec<u64>,
    follower: Follower,
    _lock: File,
}

/// What following a source came to.
#[derive(Debug)]
pub enum Followed {
    /// The source extends what is kept, by so many headers.
    Extended(u64),
    /// It shows another history, and this proves it.
    Split(Box<Evidence>),
}

/// What a witness remembers of its last signature.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    size: u64,
    root: String,
    time: u64,
}

impl Witness {
    /// Opens or makes the folder. What a crash left of a header that was not kept is cut off.
    pub fn open(dir: &Path, trust: &TrustRoot) -> Result<Witness> {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let open = |name: &str| {
            let path = dir.join(name);
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true);
            options.open(&path).with_context(|| path.display().to_string())
        };
        let lock = open("lock")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                anyhow::bail!("{} is in use by another witness", dir.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).context("lock"),
        }
        let links = open(LINKS)?;
        let follower = Follower::new(trust)?;
        let offsets = vec![0];
        let (dir, trust) = (dir.to_path_buf(), trust.clone());
        let mut witness = Witness { dir, trust, links, offsets, follower, _lock: lock };
        witness.recover()?;
        Ok(witness)
    }

    fn recover(&mut self) -> Result<()> {
        let signed = self.signed()?;
        let mut reader = BufReader::new(self.links.try_clone()?);
        // A tail without certificate was never finished, and nothing of it was signed.
        let mut kept = (self.follower.clone(), 1);
        let mut agrees = signed.is_none();
        while let Some(bytes) = read_link(&mut reader)? {
            let Ok(link) = Link::decode(&bytes) else { break };
            if self.follower.take_again(&link).is_err() {
                break;
            }
            self.offsets.push(self.end() + 4 + bytes.len() as u64);
            if !link.certificate.is_empty() {
                kept = (self.follower.clone(), self.offsets.len());
            }
            agrees |= match (&signed, self.follower.newest_final()) {
                (Some(signed), Some(log)) => signed.is_of(&log),
                _ => false,
            };
        }
        self.follower = kept.0;
        self.offsets.truncate(kept.1);
        if !agrees {
            let why = format!(
                "{} does not hold the headers that this witness has signed: never start it again \
                 with this key; make a new witness with a new key",
                self.dir.display()
            );
            return Err(Fatal(why).into());
        }
        self.links.set_len(self.end())?;
        Ok(())
    }

    fn end(&self) -> u64 {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// How many headers are kept.
    pub fn size(&self) -> u64 {
        self.follower.size()
    }

    /// A header that is kept.
    fn link(&self, height: u64) -> Result<Link> {
        let place = usize::try_from(height)?;
        let (from, to) = (self.offsets[place] + 4, self.offsets[place + 1]);
        let mut bytes = vec![0; (to - from) as usize];
        self.links.read_exact_at(&mut bytes, from)?;
        Ok(Link::decode(&bytes)?)
    }

    /// Takes what a source has beyond what is kept, or finds that it has another history.
    pub fn follow(&mut self, source: &mut dyn Source) -> Result<Followed> {
        let before = self.size();
        loop {
            let from = self.size();
            // The last one again: it must still be the same.
            let links = source.links(from.saturating_sub(1), BATCH)?;
            let overlap = usize::from(from > 0);
            if let (Some(last), Some(first)) = (self.follower.last(), links.first())
                && first.header != *last
            {
                return self.split(last.height, source);
            }
            if links.is_empty()
                && let Some(height) = self.differs_below(source)?
            {
                return self.split(height, source);
            }
            if links.len() <= overlap || !self.take(&links[overlap..])? {
                return Ok(Followed::Extended(self.size() - before));
            }
        }
    }

    fn split(&self, height: u64, source: &mut dyn Source) -> Result<Followed> {
        Ok(Followed::Split(Box::new(evidence(self, height, source)?)))
    }

    /// A height at which a source that is behind has another header than what is kept.
    fn differs_below(&self, source: &mut dyn Source) -> Result<Option<u64>> {
        let (top, mut back) = (self.size().saturating_sub(1), 1);
        while back < top {
            if let Some(last) = source.links(top - back, BATCH)?.last() {
                let height = last.header.height;
                let other = height <= top && self.link(height)?.header != last.header;
                return Ok(other.then_some(height));
            }
            back *= 2;
        }
        Ok(None)
    }

    /// Keeps links up to the last one that is certified; whether there was one.
    fn take(&mut self, links: &[Link]) -> Result<bool> {
        let mut ahead = self.follower.clone();
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let mut kept = None;
        for link in links {
            ahead.take(link).context("the source's headers are no chain")?;
            let link_bytes = link.encode();
            bytes.extend_from_slice(&(link_bytes.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&link_bytes);
            ends.push(self.end() + bytes.len() as u64);
            if !link.certificate.is_empty() {
                kept = Some((ahead.clone(), ends.len(), bytes.len()));
            }
        }
        let Some((follower, count, length)) = kept else { return Ok(false) };
        self.links.write_all_at(&bytes[..length], self.end())?;
        self.links.sync_data()?;
        self.offsets.extend_from_slice(&ends[..count]);
        self.follower = follower;
        Ok(true)
    }

    fn signed(&self) -> Result<Option<Signed>> {
        let path = self.dir.join(SIGNED);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let signed = serde_json::from_slice(&bytes);
                Ok(Some(signed.with_context(|| path.display().to_string())?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Signs the log of what is kept. `clock` is the time in seconds since 1970.
    pub fn cosign(&self, name: &str, key: &dyn Signer, clock: u64) -> Result<Checkpoint> {
        let log = self.follower.newest_final().context("no final block was followed yet")?;
        let before = self.signed()?;
        // A clock that was set back must not make an older statement look newer.
        let time = clock.max(before.as_ref().map_or(0, |signed| signed.time));
        ensure!(
            before.is_none_or(|signed| signed.size < log.size || signed.is_of(&log)),
            "{} was changed while the witness ran",
            self.dir.display()
        );
        let signed = Signed { size: log.size, root: hex::encode(log.root), time };
        replace(&self.dir.join(SIGNED), &serde_json::to_vec_pretty(&signed)?)?;
        let mut checkpoint = Checkpoint::new(&self.trust.chain_id, log.size, log.root);
        let cosignature = Cosignature::sign_by(name, key, &checkpoint, time)?;
        checkpoint.signatures.push(cosignature.to_line());
        replace(&self.dir.join(CHECKPOINT), checkpoint.to_note().as_bytes())?;
        Ok(checkpoint)
    }

    /// Keeps evidence; returns where.
    pub fn keep(&self, evidence: &Evidence) -> Result<PathBuf> {
        let digest = piaogen_crypto::sm3::hash(&evidence.encode());
        let name = format!("evidence-{}-{}.json", evidence.kind(), hex::encode(&digest[..4]));
        let path = self.dir.join(name);
        replace(&path, evidence.to_json().as_bytes())?;
        Ok(path)
    }
}

impl Signed {
    fn is_of(&self, log: &Final) -> bool {
        self.size == log.size && self.root == hex::encode(log.root)
    }
}

/// The next link; none at the end, and where the rest is shorter than it should be.
fn read_link(reader: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let short = |error: &std::io::Error| error.kind() == std::io::ErrorKind::UnexpectedEof;
    match reader.read_exact(&mut length) {
        Err(error) if short(&error) => return Ok(None),
        read => read?,
    }
    let length = u64::from(u32::from_be_bytes(length));
    if length > LINK_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; length as usize];
    match reader.read_exact(&mut bytes) {
        Err(error) if short(&error) => Ok(None),
        read => Ok(read.map(|()| Some(bytes))?),
    }
}
