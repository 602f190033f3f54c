//! Fetches a snapshot part by part, from a folder or from a node over HTTP.
//!
//! The manifest is proved before anything else is asked for, and each part is checked against it as
//! it comes; one that is wrong is asked for again. What is whole already stays, so a fetch that was
//! cut short goes on where it was.
//!
//! Invariants
//! - The manifest gets its name last: with it, all parts are there.

use super::{Proved, parse_manifest, prove};
use crate::setup::replace;
use crate::site::Site;
use anyhow::{Context, Result};
use piaogen_crypto::Lanes;
use piaogen_storage::snapshot::{MANIFEST, MANIFEST_BYTES, PART_FILE_BYTES, PartInfo, check};
use piaogen_verify::trust_root::TrustRoot;
use std::path::Path;
use std::time::Duration;

/// Longest time that a node may take for one part.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a part is asked for.
const TRIES: usize = 3;

/// What was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The snapshot.
    pub proved: Proved,
    /// Parts that came now.
    pub fresh: usize,
    /// Parts that had come wrong at first, by name.
    pub again: Vec<String>,
}

/// A file of the snapshot, at most so long.
fn get(site: &Site, name: &str, limit: usize) -> Result<Vec<u8>> {
    site.get(name, limit as u64)?.with_context(|| format!("{name} is not there"))
}

/// Fetches what is not here yet, and gives the snapshot its name when all is.
pub fn fetch(
    from: &str,
    to: &Path,
    trust: &TrustRoot,
    lanes: Lanes,
    advance: &dyn Fn(u64),
) -> Result<Fetched> {
    let site = Site::open(from, "/v1/snapshot", PATIENCE)?;
    let bytes = get(&site, MANIFEST, MANIFEST_BYTES)?;
    let proved = prove(parse_manifest(&bytes)?, trust)?;
    std::fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    drop_others(to, &proved)?;
    let mut fetched = Fetched { proved, fresh: 0, again: Vec::new() };
    for info in &fetched.proved.manifest.parts {
        let path = to.join(&info.name);
        let whole = std::fs::metadata(&path).is_ok_and(|file| file.len() == info.bytes)
            && std::fs::read(&path).is_ok_and(|bytes| check(info, lanes, &bytes).is_ok());
        if !whole {
            if path.exists() {
                fetched.again.push(info.name.clone());
            }
            let (bytes, tries) = get_part(&site, info, lanes)?;
            if tries > 0 {
                fetched.again.push(info.name.clone());
            }
            replace(&path, &bytes)?;
            fetched.fresh += 1;
        }
        advance(info.bytes);
    }
    replace(&to.join(MANIFEST), &bytes)?;
    Ok(fetched)
}

/// A part that checks, and how often it came wrong before.
fn get_part(site: &Site, info: &PartInfo, lanes: Lanes) -> Result<(Vec<u8>, usize)> {
    let mut last = None;
    for tries in 0..TRIES {
        let bytes = get(site, &info.name, PART_FILE_BYTES);
        match bytes.and_then(|bytes| Ok(check(info, lanes, &bytes).map(|()| bytes)?)) {
            Ok(bytes) => return Ok((bytes, tries)),
            Err(error) => {
                tracing::warn!(part = %info.name, error = format!("{error:#}"), "asked for again");
                last = Some(error);
            }
        }
    }
    Err(last.context("a part was never asked for")?)
        .with_context(|| format!("part {} came wrong {TRIES} times: ask another node", info.name))
}

/// Deletes parts of another snapshot, which an earlier fetch left.
fn drop_others(to: &Path, proved: &Proved) -> Result<()> {
    let named: std::collections::HashSet<&str> =
        proved.manifest.parts.iter().map(|part| part.name.as_str()).collect();
    for entry in std::fs::read_dir(to).with_context(|| to.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let part = name.ends_with(".part") || name.ends_with(".new");
        if name == MANIFEST || (part && !named.contains(name)) {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}
