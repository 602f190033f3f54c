//! Where headers come from: a node or a mirror over HTTP, the folder of a mirror or of a node at rest,
//! or a file of links.
//!
//! A node answers for any headers. A mirror has files only, and its headers are the bundles of the
//! log over them; a node has these too, but asking for the few headers that are new is cheaper.
//!
//! Invariants
//! - Nothing that comes from a source is believed; here only its length is bounded.

use super::file::read_link;
use crate::cli::Folder;
use crate::config::Config;
use crate::run::epochs::links;
use crate::site::Site;
use anyhow::{Context, Result, ensure};
use piaogen_verify::follow::{LINK_MAX, Link};
use piaogen_verify::header::ValidatorSet;
use piaogen_verify::tiles::{HEAD_MAX, Head, Log, Part, Tile, WIDTH};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

/// Longest time that a node may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes of a bundle of links.
const BUNDLE_MAX: u64 = WIDTH * (2 + LINK_MAX);

/// Headers of a chain, from somebody.
pub trait Source {
    /// Links from a height on, in order, at most `count`; none where there are no more yet.
    fn links(&mut self, height: u64, count: u64) -> Result<Vec<Link>>;
}

/// Opens what an argument names: a URL, a folder, or a file.
pub fn open(from: &str) -> Result<Box<dyn Source>> {
    let path = Path::new(from);
    if from.contains("://") || path.join("v1/head").is_file() {
        let site = Site::open(from, "", PATIENCE)?;
        return Ok(Box::new(Online { site, published: None }));
    }
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

/// A node or a mirror: the bundles, once it had no other answer.
struct Online {
    site: Site,
    published: Option<Published>,
}

impl Source for Online {
    fn links(&mut self, height: u64, count: u64) -> Result<Vec<Link>> {
        if self.published.is_none() {
            let path = format!("v1/headers/{height}?count={count}");
            if let Some(body) = self.site.get(&path, count * (LINK_MAX + 4))? {
                return listed(&body, count).with_context(|| path);
            }
        }
        self.published.get_or_insert_default().links(&self.site, height, count)
    }
}

/// The links of an answer, each behind its length.
fn listed(body: &[u8], count: u64) -> Result<Vec<Link>> {
    let (mut rest, mut out) = (body, Vec::new());
    while let Some(bytes) = read_link(&mut rest)? {
        out.push(Link::decode(&bytes)?);
    }
    ensure!(rest.is_empty() && out.len() as u64 <= count, "the answer is no list of headers");
    Ok(out)
}

/// The headers up to a head, in bundles that never change.
#[derive(Default)]
pub struct Published {
    size: u64,
    /// The bundle that was read last.
    bundle: Option<(Tile, Vec<Link>)>,
}

impl Published {
    /// Those up to this head.
    pub fn at(head: &Head) -> Published {
        Published { size: head.header.height.saturating_add(1), bundle: None }
    }

    /// Links from a height on, at most `count`. Where the head is not known yet, or is gone with its
    /// partial bundle, the present one is asked for.
    fn links(&mut self, site: &Site, height: u64, count: u64) -> Result<Vec<Link>> {
        if height >= self.size {
            let none = "neither v1/headers nor v1/head is there: it is no node and no mirror, or has \
                        no final block yet";
            let bytes = site.get("v1/head", HEAD_MAX)?.context(none)?;
            *self = Published::at(&Head::decode(&bytes).context("v1/head")?);
        }
        match self.read(site, height, count)? {
            Some(links) => Ok(links),
            None => {
                let bytes = site.get("v1/head", HEAD_MAX)?.context("v1/head is gone")?;
                *self = Published::at(&Head::decode(&bytes).context("v1/head")?);
                let gone = "the bundle of headers that the head needs is not there";
                self.read(site, height, count)?.context(gone)
            }
        }
    }

    /// The same up to the head that is known; nothing where a bundle is not there.
    pub fn read(&mut self, site: &Site, height: u64, count: u64) -> Result<Option<Vec<Link>>> {
        let end = height.saturating_add(count).min(self.size);
        let mut out: Vec<Link> = Vec::new();
        let mut at = height;
        while at < end {
            let tile = Tile::of(Log::History, Part::Entries, at / WIDTH, self.size);
            let tile = tile.context("a header above the head")?;
            if self.bundle.as_ref().is_none_or(|(known, _)| *known != tile) {
                let path = format!("v1/tiles/{tile}");
                let Some(bytes) = site.get(&path, BUNDLE_MAX)? else { return Ok(None) };
                let links = decode(&tile, &bytes).with_context(|| path)?;
                self.bundle = Some((tile, links));
            }
            let links = self.bundle.as_ref().map_or(&[][..], |(_, links)| links);
            let from = (at - tile.first()) as usize;
            out.extend(links[from..].iter().take((end - at) as usize).cloned());
            at = tile.first() + u64::from(tile.width);
        }
        Ok(Some(out))
    }
}

/// The links of a bundle.
pub fn decode(tile: &Tile, bytes: &[u8]) -> Result<Vec<Link>> {
    let items = tile.decode_bundle(bytes)?;
    items.into_iter().map(|item| Ok(Link::decode(item)?)).collect()
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
