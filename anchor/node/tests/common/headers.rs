//! A chain of headers alone, with the keys of all its validators, so that a quorum of liars can
//! certify what it likes; and what its logs are as files, computed the long way.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part")]

use piaogen_crypto::sm2::SecretKey;
use piaogen_loadgen::genesis::{DemoChain, demo_chain};
use piaogen_verify::certificate::Certificate;
use piaogen_verify::epoch::{CHANGES_MAX, Change};
use piaogen_verify::follow::Link;
use piaogen_verify::header::{Header, NO_SET, ShardEntry, ValidatorSet, shards_root};
use piaogen_verify::merkle;
use piaogen_verify::tiles::{Head, Log, Part, Tile, encode_bundle};
use piaogen_verify::trust_root::TrustRoot;
use std::path::Path;

const TIME_MS: i64 = 1_790_000_000_000;

pub const NONE: fn(usize) -> bool = |_| false;

/// Four validators; epochs of ten blocks; three shards.
#[derive(Clone)]
pub struct Chain {
    pub keys: DemoChain,
    /// The validators of each epoch; the last ones stay.
    pub sets: Vec<Vec<SecretKey>>,
    pub headers: Vec<Header>,
    /// The shards under each header.
    pub shards: Vec<Vec<ShardEntry>>,
    /// How many entries each block adds to a shard's log.
    pub growth: [u64; 3],
    /// From which entry on those of shard 0 are others.
    pub rewritten: Option<u64>,
}

impl Chain {
    pub fn new(blocks: usize) -> Chain {
        Chain::growing(blocks, [0; 3])
    }

    /// The same with logs that grow.
    pub fn growing(blocks: usize, growth: [u64; 3]) -> Chain {
        Chain::turning(blocks, growth, 1)
    }

    /// The same with so many sets of validators, one an epoch.
    pub fn turning(blocks: usize, growth: [u64; 3], sets: u64) -> Chain {
        let keys = demo_chain(7, 2, 4, TIME_MS);
        let sets = (7..7 + sets).map(|seed| demo_chain(seed, 2, 4, TIME_MS).validators).collect();
        let headers = vec![keys.genesis.header()];
        let shards = vec![entries_of(&[Vec::new(), Vec::new(), Vec::new()])];
        let mut chain = Chain { keys, sets, headers, shards, growth, rewritten: None };
        assert_eq!(chain.headers[0].shards_root, shards_root(&chain.shards[0]));
        chain.grow(blocks, 0);
        chain
    }

    /// Another history from a height on.
    pub fn fork(&self, at: usize, blocks: usize) -> Chain {
        let mut fork = self.up_to(at);
        fork.grow(blocks, 1);
        fork
    }

    /// The same history below a height.
    pub fn up_to(&self, at: usize) -> Chain {
        let (headers, shards) = (self.headers[..at].to_vec(), self.shards[..at].to_vec());
        Chain { headers, shards, ..self.clone() }
    }

    /// An entry of a shard.
    pub fn entry(&self, shard: usize, index: u64) -> Vec<u8> {
        let other = shard == 0 && self.rewritten.is_some_and(|from| index >= from);
        format!("entry {index} of shard {shard}{}", if other { ", rewritten" } else { "" }).into()
    }

    /// The entries of a shard as of a header.
    pub fn entries(&self, shard: usize, height: usize) -> Vec<Vec<u8>> {
        let count = self.growth[shard] * height as u64;
        (0..count).map(|index| self.entry(shard, index)).collect()
    }

    fn keys_of(&self, epoch: u64) -> &[SecretKey] {
        &self.sets[(epoch as usize).min(self.sets.len() - 1)]
    }

    fn set(&self, epoch: u64) -> ValidatorSet {
        let keys = self.keys_of(epoch).iter().map(SecretKey::public_key);
        ValidatorSet::new(keys.collect()).unwrap()
    }

    pub fn grow(&mut self, to: usize, late_ms: i64) {
        while self.headers.len() <= to {
            let last = self.headers[self.headers.len() - 1];
            let leaves: Vec<_> = self.headers.iter().map(Header::leaf).collect();
            let (epoch, validators) = last.next_epoch();
            let height = last.height + 1;
            let closes = height.is_multiple_of(10);
            let shards = match self.growth {
                [0, 0, 0] => self.shards[self.shards.len() - 1].clone(),
                _ => entries_of(&[0, 1, 2].map(|shard| self.entries(shard, height as usize))),
            };
            self.headers.push(Header {
                height,
                epoch,
                validators,
                time_ms: last.time_ms + 1_000 + late_ms,
                parent: last.digest(),
                history_root: merkle::root_of_leaves(&leaves),
                next_validators: if closes { self.set(epoch + 1).digest() } else { NO_SET },
                shards_root: shards_root(&shards),
                records: shards.iter().map(|shard| shard.log_size).sum(),
                ..last
            });
            self.shards.push(shards);
        }
    }

    pub fn root(&self, size: usize) -> [u8; 32] {
        let leaves: Vec<_> = self.headers[..size].iter().map(Header::leaf).collect();
        merkle::root_of_leaves(&leaves)
    }

    /// The link of a height; `bare` of them have no certificate of their own.
    pub fn link(&self, height: usize, bare: fn(usize) -> bool) -> Link {
        let header = self.headers[height];
        let next = header.closes_epoch().then(|| self.set(header.epoch + 1));
        if height == 0 || (bare(height) && next.is_none()) {
            return Link { header, certificate: Vec::new(), next };
        }
        let mut certificate = Certificate {
            epoch: header.epoch,
            view: 2 * header.height,
            parent: 2 * header.height - 1,
            payload: header.digest(),
            validators: 4,
            signers: vec![0, 1, 2],
            signatures: Vec::new(),
        };
        let message = certificate.signed(&header.chain);
        let keys = &self.keys_of(header.epoch)[..3];
        certificate.signatures = keys.iter().map(|key| key.sign(&message)).collect();
        Link { header, certificate: certificate.encode(), next }
    }

    /// Writes a file of links up to a height.
    pub fn export(&self, path: &Path, to: usize, bare: fn(usize) -> bool) -> String {
        let mut bytes = Vec::new();
        for height in 0..=to {
            let link = self.link(height, bare).encode();
            bytes.extend_from_slice(&(link.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&link);
        }
        std::fs::write(path, bytes).unwrap();
        path.to_str().unwrap().into()
    }

    /// The head of a height; without changes of the set where they are more than a head has.
    pub fn head(&self, height: usize) -> Head {
        let (link, shards) = (self.link(height, NONE), self.shards[height].clone());
        let (header, certificate) = (link.header, link.certificate);
        let turns = header.epoch.min(self.sets.len() as u64 - 1);
        let turns = (1..=turns).filter(|_| turns <= CHANGES_MAX);
        let change = |epoch| {
            let Link { header, certificate, next } = self.link(10 * epoch as usize, NONE);
            Change { header, certificate, next: next.unwrap() }
        };
        Head { header, certificate, changes: turns.map(change).collect(), shards }
    }

    /// Writes all that a head names below a folder, as a web server would have it; the folder.
    pub fn publish(&self, dir: &Path, height: usize, bare: fn(usize) -> bool) -> String {
        for shard in 0..3 {
            write_log(dir, Log::Shard(shard as u32), &self.entries(shard, height), merkle::leaf);
        }
        let links = (0..=height).map(|height| self.link(height, bare).encode());
        write_log(dir, Log::History, &links.collect::<Vec<_>>(), |link| {
            Link::decode(link).unwrap().header.leaf()
        });
        std::fs::write(dir.join("v1/head"), self.head(height).encode()).unwrap();
        dir.to_str().unwrap().into()
    }

    pub fn trust(&self) -> TrustRoot {
        TrustRoot::of_genesis(&self.keys.genesis)
    }

    /// The same, advanced to the set of an epoch.
    pub fn led(&self, epoch: u64) -> TrustRoot {
        TrustRoot { epoch, validators: self.set(epoch), ..self.trust() }
    }
}

fn entries_of(logs: &[Vec<Vec<u8>>; 3]) -> Vec<ShardEntry> {
    let state = |(shard, log): (u32, &Vec<Vec<u8>>)| {
        let leaves: Vec<_> = log.iter().map(|entry| merkle::leaf(entry)).collect();
        ShardEntry {
            shard,
            next_offset: log.len() as u64,
            log_size: log.len() as u64,
            log_root: merkle::root_of_leaves(&leaves),
            invoices: 0,
            status_root: [0; 32],
        }
    };
    (0..).zip(logs).map(state).collect()
}

/// Writes bundles and all levels of tiles of a log.
fn write_log(dir: &Path, log: Log, items: &[Vec<u8>], leaf: fn(&[u8]) -> [u8; 32]) {
    let size = items.len() as u64;
    let write = |tile: Tile, bytes: Vec<u8>| {
        let path = dir.join(format!("v1/tiles/{tile}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    for (index, items) in (0..).zip(items.chunks(256)) {
        let tile = Tile::of(log, Part::Entries, index, size).unwrap();
        write(tile, encode_bundle(items.iter().map(Vec::as_slice)).unwrap());
    }
    let mut hashes: Vec<_> = items.iter().map(|item| leaf(item)).collect();
    for level in 0.. {
        for (index, hashes) in (0..).zip(hashes.chunks(256)) {
            let tile = Tile::of(log, Part::Hashes(level), index, size).unwrap();
            write(tile, hashes.concat());
        }
        hashes = hashes.chunks_exact(256).map(merkle::root_of_leaves).collect();
        if hashes.is_empty() {
            break;
        }
    }
}
