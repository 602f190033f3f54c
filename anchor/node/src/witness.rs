//! A witness: follows the headers of a chain, keeps them, and signs that they are one history.
//!
//! What it signs it must never contradict, whatever happens to it in between. So it keeps every
//! header that it took, up to one that is certified, durably and in order, and signs nothing else
//! than the log of these. Where a source shows a history that does not extend the one it keeps, it
//! signs nothing, and makes evidence of the two.
//!
//! Besides the newest size it signs those that all witnesses meet, so that whoever gathers finds
//! several cosignatures over one log (`FORMAT.md` section 12.1). They are prefixes of what it signs
//! anyway: they say nothing new, and what of them a crash prevents is signed the next time.
//!
//! Invariants
//! - Headers, then the mark of what will be signed, are durable before a signature is made.
//! - No root is signed that the last header, which is certified, does not bind.
//! - What is kept only grows, and ends with a certified header; one process at a time keeps it.
//! - A folder that lost what it signed is not used again.

use crate::history::{Followed, Headers, LinkFile, Source, follow};
use crate::run::Fatal;
use crate::setup::replace;
use anyhow::{Context, Result, ensure};
use piaogen_crypto::Digest;
use piaogen_crypto::sm2::Signer;
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::follow::Final;
use piaogen_verify::header::Header;
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::{Cosignature, is_shared, shared_sizes};
use std::path::{Path, PathBuf};

/// What was signed last, or was about to be.
const SIGNED: &str = "signed.json";
/// The newest checkpoint with the cosignature.
pub const CHECKPOINT: &str = "checkpoint";
/// The folder of those over shared sizes, each with the size as its name.
pub const CHECKPOINTS: &str = "checkpoints";

/// The folder of a witness, opened.
#[derive(Debug)]
pub struct Witness {
    dir: PathBuf,
    links: LinkFile,
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
        let links = LinkFile::open(dir, trust, "witness")?;
        let witness = Witness { dir: dir.to_path_buf(), links };
        if let Some(signed) = witness.signed()?
            && !witness.holds(&signed)?
        {
            let why = format!(
                "{} does not hold the headers that this witness has signed: never start it again \
                 with this key; make a new witness with a new key",
                dir.display()
            );
            return Err(Fatal(why).into());
        }
        witness.links.cut()?;
        Ok(witness)
    }

    /// Whether what is kept extends what was signed.
    fn holds(&self, signed: &Signed) -> Result<bool> {
        match self.links.follower().newest_final() {
            Some(log) if log.size == signed.size => Ok(signed.is_of(&log)),
            Some(log) if log.size > signed.size => self.extends(signed),
            _ => Ok(false),
        }
    }

    /// Whether the header after those that were signed names the root that was signed, and the last
    /// one that is kept descends from it. Only where a crash came before the next signature.
    fn extends(&self, signed: &Signed) -> Result<bool> {
        let mut named = false;
        let descends = self.descends(signed.size, |header| {
            if header.height == signed.size {
                named = signed.root == hex::encode(header.history_root);
            }
        })?;
        Ok(descends && named)
    }

    /// Shows the headers from a height on, and says whether the last one that is kept descends from
    /// the first: only then are they what was followed, whatever the disk says.
    fn descends(&self, from: u64, mut see: impl FnMut(&Header)) -> Result<bool> {
        let mut parent = None;
        for height in from..self.size() {
            let header = self.links.link(height)?.header;
            if parent.is_some_and(|parent| header.parent != parent) {
                return Ok(false);
            }
            see(&header);
            parent = Some(header.digest());
        }
        Ok(parent == self.links.follower().last().map(Header::digest))
    }

    /// How many headers are kept.
    pub fn size(&self) -> u64 {
        self.links.size()
    }

    /// Takes what a source has beyond what is kept, or finds that it has another history.
    pub fn follow(&mut self, source: &mut dyn Source) -> Result<Followed> {
        follow(&mut self.links, source)
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

    /// Signs the log of what is kept, and its beginnings that other witnesses sign too. `clock` is
    /// the time in seconds since 1970.
    pub fn cosign(&self, name: &str, key: &dyn Signer, clock: u64) -> Result<Checkpoint> {
        let log =
            self.links.follower().newest_final().context("no final block was followed yet")?;
        let before = self.signed()?;
        // A clock that was set back must not make an older statement look newer.
        let time = clock.max(before.as_ref().map_or(0, |signed| signed.time));
        ensure!(
            before.is_none_or(|signed| signed.size < log.size || signed.is_of(&log)),
            "{} was changed while the witness ran",
            self.dir.display()
        );
        let shared = self.shared(&log)?;
        let signed = Signed { size: log.size, root: hex::encode(log.root), time };
        replace(&self.dir.join(SIGNED), &serde_json::to_vec_pretty(&signed)?)?;
        let sign = |size: u64, root: Digest| -> Result<Checkpoint> {
            let mut checkpoint = Checkpoint::new(&self.links.trust().chain_id, size, root);
            let cosignature = Cosignature::sign_by(name, key, &checkpoint, time)?;
            checkpoint.signatures.push(cosignature.to_line());
            Ok(checkpoint)
        };
        // The smallest first: what a crash prevents is above all that is there.
        for (size, root) in shared {
            let note = sign(size, root)?.to_note();
            replace(&self.dir.join(CHECKPOINTS).join(size.to_string()), note.as_bytes())?;
        }
        self.forget(log.size)?;
        let checkpoint = sign(log.size, log.root)?;
        replace(&self.dir.join(CHECKPOINT), checkpoint.to_note().as_bytes())?;
        Ok(checkpoint)
    }

    /// The shared sizes that are not signed yet, ascending, each with the root that the header
    /// after it names.
    fn shared(&self, log: &Final) -> Result<Vec<(u64, Digest)>> {
        let last = self.shared_files()?.into_iter().max().unwrap_or(0);
        let mut sizes: Vec<u64> = shared_sizes(log.size).take_while(|size| *size > last).collect();
        sizes.reverse();
        let Some(first) = sizes.first() else { return Ok(Vec::new()) };
        let (mut roots, mut wanted) = (Vec::new(), sizes.iter().peekable());
        let descends = self.descends(*first, |header| {
            if wanted.next_if(|size| **size == header.height).is_some() {
                roots.push((header.height, header.history_root));
            }
        })?;
        // Of all that is kept, the root is known, and no header is after it.
        if wanted.next_if(|size| **size == log.size).is_some() {
            roots.push((log.size, log.root));
        }
        let whole = roots.len() == sizes.len() && (descends || *first == log.size);
        let damaged = || {
            let dir = self.dir.display();
            format!("{dir}: what is kept from header {first} on does not lead to the last one")
        };
        ensure!(whole, Fatal(damaged()));
        Ok(roots)
    }

    /// The shared sizes of which there are files.
    fn shared_files(&self) -> Result<Vec<u64>> {
        let dir = self.dir.join(CHECKPOINTS);
        let named = || dir.display().to_string();
        std::fs::create_dir_all(&dir).with_context(named)?;
        let mut sizes = Vec::new();
        for entry in std::fs::read_dir(&dir).with_context(named)? {
            let name = entry?.file_name();
            let size = name.to_str().and_then(|name| name.parse::<u64>().ok());
            sizes.extend(size.filter(|size| name == *size.to_string()));
        }
        Ok(sizes)
    }

    /// Deletes the files of sizes that are no longer shared.
    fn forget(&self, newest: u64) -> Result<()> {
        for size in self.shared_files()?.into_iter().filter(|size| !is_shared(*size, newest)) {
            let path = self.dir.join(CHECKPOINTS).join(size.to_string());
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

impl Signed {
    fn is_of(&self, log: &Final) -> bool {
        self.size == log.size && self.root == hex::encode(log.root)
    }
}
