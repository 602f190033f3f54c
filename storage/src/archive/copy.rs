//! Copies the beginning of an archive into another: segments as they are, manifests byte for byte.
//!
//! For a node that begins with a snapshot, so that its archive has all rows from the first one on,
//! like that of every other node. Segments that are there already are passed over, so a copy that
//! was cut short goes on where it was.
//!
//! Invariants
//! - A file is published only when its bytes are those of its manifest.
//! - What the target has is a beginning of what the source has, or the copy is refused.

use std::fs::File;
use std::io::Write;

use parquet::file::reader::{ChunkReader, Length};

use super::digest::FileHasher;
use super::manifest::{Linked, SegmentInfo, Series, follows};
use super::medium::Ranged;
use super::{Archive, GENESIS};
use crate::error::{During, Result, StoreError};
use crate::files::delete;

/// What was copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Copied {
    /// Segments, those that were there before included.
    pub segments: u64,
    /// Bytes of their files that were read now.
    pub bytes: u64,
}

impl Archive {
    /// Whether this archive has nothing but a beginning of another up to a limit, segment for segment,
    /// so that what is missing can be copied.
    pub fn begins(&self, source: &Archive, limit: impl Fn(Series) -> u64) -> bool {
        let theirs: Vec<_> =
            source.segments().into_iter().filter(|s| s.last < limit(s.series())).collect();
        self.segments().iter().all(|segment| theirs.contains(segment))
    }

    /// Copies the segments of another archive that end below a limit: log size of each shard, and
    /// how many blocks. Whether they are true is for an audit to find.
    pub fn copy_from(&self, source: &Archive, limit: impl Fn(Series) -> u64) -> Result<Copied> {
        self.check_writable()?;
        if source.chain != self.chain {
            return Err(StoreError::Refused(format!(
                "{} is the archive of another chain: name one of this chain",
                source.medium.name(GENESIS)
            )));
        }
        let mut copied = Copied::default();
        let mut own = self.segments().into_iter().peekable();
        for segment in source.segments().into_iter().filter(|s| s.last < limit(s.series())) {
            copied.segments += 1;
            match own.next_if(|have| have.series() <= segment.series()) {
                Some(have) if have == segment => continue,
                Some(have) => return Err(self.other(&have)),
                None => copied.bytes += self.copy_segment(source, &segment)?,
            }
        }
        match own.next() {
            Some(have) => Err(self.other(&have)),
            None => Ok(copied),
        }
    }

    fn other(&self, have: &SegmentInfo) -> StoreError {
        StoreError::Refused(format!(
            "{} has {}, which the source has not below the snapshot: copy into an empty archive",
            self.medium.name(""),
            have.path
        ))
    }

    fn copy_segment(&self, source: &Archive, segment: &SegmentInfo) -> Result<u64> {
        let path = &segment.path;
        let damaged = |what: &str| source.damaged(path, what);
        let manifest = segment.manifest_path();
        let manifest_bytes = source.medium.read(&manifest)?.ok_or_else(|| damaged("it is gone"))?;
        let last = self.known().series.get(&segment.series()).and_then(|all| all.last().cloned());
        follows(last.as_ref(), segment).map_err(StoreError::Refused)?;
        let file = source.medium.open_whole(path)?.ok_or_else(|| damaged("it is missing"))?;
        let file = Ranged::of_file(file).at("read", path.as_ref())?;
        let scratch = self.medium.scratch()?;
        let mut out = File::create(&scratch).at("create", &scratch)?;
        let mut hasher = FileHasher::new(self.lanes);
        let mut at = 0;
        while at < file.len() {
            let length = (file.len() - at).min(1 << 20) as usize;
            let bytes = file.get_bytes(at, length).at("read", path.as_ref())?;
            hasher.update(&bytes);
            out.write_all(&bytes).at("write", &scratch)?;
            at += length as u64;
        }
        if at != segment.bytes || hex::encode(hasher.finalize()) != segment.parts_sm3 {
            delete(&scratch)?;
            return Err(damaged("its bytes are not those of its manifest"));
        }
        self.medium.sync(&out, &scratch)?;
        self.medium.publish(&scratch, path)?;
        self.medium.put(&manifest, &manifest_bytes)?;
        let linked = Linked::new(segment.clone(), &manifest_bytes);
        self.known().series.entry(segment.series()).or_default().push(linked);
        Ok(at)
    }
}
