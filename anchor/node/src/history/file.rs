//! Headers in one file, each behind its length, and beside it the follower at rest.
//!
//! The file is the truth. The follower saves reading it again at each start: it is replaced after
//! headers were appended, and says where in the file it stood. A start goes on from there, and takes
//! what was appended since; where the two do not fit, the whole file is read.
//!
//! Invariants
//! - What a crash left of headers that were never kept is cut off.
//! - Nothing of the follower is believed that a certificate does not bind.

use super::{FOLLOWER, FOLLOWER_MAX, Headers, lock, open_file};
use crate::setup::replace;
use crate::site::read_bounded;
use anyhow::{Context, Result, ensure};
use piaogen_storage::Held;
use piaogen_verify::follow::{Follower, LINK_MAX, Link};
use piaogen_verify::trust_root::TrustRoot;
use std::cell::RefCell;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The headers, each behind its length.
const LINKS: &str = "headers";

/// A folder with headers in one file.
#[derive(Debug)]
pub struct LinkFile {
    dir: PathBuf,
    trust: TrustRoot,
    file: File,
    follower: Follower,
    /// Where what is kept ends.
    end: u64,
    /// Where each link begins, as far as somebody asked.
    offsets: RefCell<Vec<u64>>,
    _lock: Held,
}

impl LinkFile {
    /// Opens or makes the folder, for who is called what he is.
    pub fn open(dir: &Path, trust: &TrustRoot, who: &str) -> Result<LinkFile> {
        let lock = lock(dir, who)?;
        let file = open_file(&dir.join(LINKS))?;
        let (follower, offsets) = (Follower::new(trust)?, RefCell::new(vec![0]));
        let (dir, trust) = (dir.to_path_buf(), trust.clone());
        let mut links = LinkFile { dir, trust, file, follower, end: 0, offsets, _lock: lock };
        links.recover()?;
        Ok(links)
    }

    /// Takes what is in the file and the follower at rest has not. What is behind the last certified
    /// link was never finished: [`LinkFile::cut`] takes it off, when the caller has seen that nothing
    /// is missing. Certificates are checked again, since a page that was not synced may hold anything.
    fn recover(&mut self) -> Result<()> {
        if let Some(rested) = self.rested()? {
            (self.follower, self.end) = rested;
        }
        let (mut ahead, mut end) = (self.follower.clone(), self.end);
        let mut reader = BufReader::new(self.file.try_clone()?);
        reader.seek(SeekFrom::Start(end))?;
        while let Some(bytes) = read_link(&mut reader)? {
            let Ok(link) = Link::decode(&bytes) else { break };
            if ahead.take(&link).is_err() {
                break;
            }
            end += 4 + bytes.len() as u64;
            if !link.certificate.is_empty() {
                (self.follower, self.end) = (ahead.clone(), end);
            }
        }
        Ok(())
    }

    /// Cuts off what is not kept, and has the follower rest where the file ends.
    pub fn cut(&self) -> Result<()> {
        self.file.set_len(self.end)?;
        self.rest()
    }

    fn rest(&self) -> Result<()> {
        let Some(rest) = self.follower.rest() else { return Ok(()) };
        let bytes = [&self.end.to_be_bytes()[..], &rest].concat();
        replace(&self.dir.join(FOLLOWER), &bytes)
    }

    /// The follower as it rested, and where the file ended, if they fit together.
    fn rested(&self) -> Result<Option<(Follower, u64)>> {
        let Some(bytes) = read_bounded(&self.dir.join(FOLLOWER), FOLLOWER_MAX)? else {
            return Ok(None);
        };
        let Some((end, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let end = u64::from_be_bytes(*end);
        let follower = match Follower::resume(&self.trust, rest) {
            Ok(follower) => follower,
            Err(refusal) => {
                tracing::warn!(%refusal, "the headers are read again from the first on");
                return Ok(None);
            }
        };
        // The last link that it took stands right before there.
        let link = follower.last_link().map(Link::encode).unwrap_or_default();
        let expected = [&(link.len() as u32).to_be_bytes()[..], &link].concat();
        let mut found = vec![0; expected.len()];
        let stands = end
            .checked_sub(expected.len() as u64)
            .is_some_and(|from| self.file.read_exact_at(&mut found, from).is_ok());
        Ok((stands && found == expected).then_some((follower, end)))
    }

    /// Where the links of this height and of the next begin.
    fn place(&self, height: u64) -> Result<(u64, u64)> {
        let damaged = || format!("{} is damaged: header {height}", self.dir.join(LINKS).display());
        let place = usize::try_from(height)?;
        let mut offsets = self.offsets.borrow_mut();
        while offsets.len() < place + 2 {
            let last = offsets.last().copied().unwrap_or(0);
            let mut length = [0; 4];
            self.file.read_exact_at(&mut length, last).with_context(damaged)?;
            let next = last + 4 + u64::from(u32::from_be_bytes(length));
            ensure!(next <= self.end && next - last <= 4 + LINK_MAX, damaged());
            offsets.push(next);
        }
        Ok((offsets[place], offsets[place + 1]))
    }
}

impl Headers for LinkFile {
    fn trust(&self) -> &TrustRoot {
        &self.trust
    }

    fn follower(&self) -> &Follower {
        &self.follower
    }

    fn link(&self, height: u64) -> Result<Link> {
        let (from, to) = self.place(height)?;
        let mut bytes = vec![0; (to - from - 4) as usize];
        self.file.read_exact_at(&mut bytes, from + 4)?;
        let link = Link::decode(&bytes)?;
        ensure!(link.header.height == height, "header {height} is not where it should be");
        Ok(link)
    }

    fn append(&mut self, links: &[Link], follower: Follower) -> Result<()> {
        let mut bytes = Vec::new();
        for link in links {
            let link = link.encode();
            bytes.extend_from_slice(&(link.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&link);
        }
        self.file.write_all_at(&bytes, self.end)?;
        self.file.sync_data()?;
        self.end += bytes.len() as u64;
        self.follower = follower;
        self.rest()
    }
}

/// The next link; none at the end, and where the rest is shorter than it should be.
pub(super) fn read_link(reader: &mut impl Read) -> Result<Option<Vec<u8>>> {
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
