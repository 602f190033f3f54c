//! Where a witness gets headers from: a node over HTTP, a data folder at rest, or a file of links.
//!
//! Invariants
//! - Nothing that comes from a source is believed; here only its length is bounded.

use super::read_link;
use crate::ask::Asked;
use crate::cli::Folder;
use crate::config::Config;
use crate::run::epochs::links;
use anyhow::{Context, Result, bail};
use piaogen_verify::follow::{LINK_MAX, Link};
use piaogen_verify::header::ValidatorSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

/// Longest time that a node may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Headers of a chain, from somebody.
pub trait Source {
    /// Links from a height on, in order, at most `count`; none where there are no more yet.
    fn links(&mut self, height: u64, count: u64) -> Result<Vec<Link>>;
}

/// Opens what an argument names: a URL, a folder, or a file.
pub fn open(from: &str) -> Result<Box<dyn Source>> {
    if let Some(node) = Asked::open(from, PATIENCE)? {
        return Ok(Box::new(node));
    }
    let path = Path::new(from);
    if path.is_dir() {
        let folder = Folder::open(&Config::load(&path.join("node.toml"))?)?;
        return Ok(Box::new(AtRest::new(folder)?));
    }
    let file = File::open(path).with_context(|| format!("opening {from}"))?;
    let mut reader = BufReader::new(file);
    let mut all = Vec::new();
    while let Some(bytes) = read_link(&mut reader)? {
        let link = Link::decode(&bytes);
        all.push(link.with_context(|| format!("{from}: link {}", all.len()))?);
    }
    Ok(Box::new(Exported(all)))
}

impl Source for Asked {
    fn links(&mut self, height: u64, count: u64) -> Result<Vec<Link>> {
        let path = format!("/v1/headers/{height}?count={count}");
        let body = self.get(&path, count * (LINK_MAX + 4))?;
        let (mut rest, mut out) = (&body[..], Vec::new());
        while let Some(bytes) = read_link(&mut rest)? {
            out.push(Link::decode(&bytes).with_context(|| path.clone())?);
        }
        if !rest.is_empty() || out.len() as u64 > count {
            bail!("{path}: the answer is no list of headers");
        }
        Ok(out)
    }
}

/// A data folder whose node does not run.
struct AtRest {
    folder: Folder,
    sets: Vec<ValidatorSet>,
    end: u64,
}

impl AtRest {
    fn new(folder: Folder) -> Result<AtRest> {
        let registry = folder.registry()?;
        let sets = registry.governance().sets(folder.reader.flushed().height);
        let sets = sets.into_iter().map(|change| change.set).collect();
        let end = folder.reader.tip().map_or(0, |tip| tip + 1);
        Ok(AtRest { folder, sets, end })
    }
}

impl Source for AtRest {
    fn links(&mut self, height: u64, count: u64) -> Result<Vec<Link>> {
        let end = self.end.min(height.saturating_add(count));
        links(&self.folder.reader, &self.sets, height..end)
    }
}

/// A file of links.
struct Exported(Vec<Link>);

impl Source for Exported {
    fn links(&mut self, height: u64, count: u64) -> Result<Vec<Link>> {
        let from = usize::try_from(height)?.min(self.0.len());
        Ok(self.0[from..].iter().take(count as usize).cloned().collect())
    }
}
