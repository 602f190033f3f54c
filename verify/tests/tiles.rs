//! Tiles against the tree that they are cut from, at sizes around the powers of 256, and the head
//! against every step that may refuse it.

#![allow(clippy::unwrap_used)]

mod common;

use common::chain::Chain;
use piaogen_crypto::Digest;
use piaogen_verify::Step;
use piaogen_verify::merkle::{self, Hashes};
use piaogen_verify::tiles::{Head, Log, Part, Tile, TileError, TileHashes, Tiles};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

const SIZES: [u64; 17] = [
    1, 2, 3, 255, 256, 257, 511, 512, 513, 767, 768, 1_000, 65_535, 65_536, 65_537, 65_792, 66_000,
];

/// All levels of a tree, complete hashes only; the way of a child who adds pair by pair.
fn levels(size: u64) -> Vec<Vec<Digest>> {
    let mut all = vec![(0..size).map(|i| merkle::leaf(&i.to_be_bytes())).collect::<Vec<_>>()];
    while all[all.len() - 1].len() > 1 {
        let (pairs, _) = all[all.len() - 1].as_chunks::<2>();
        all.push(pairs.iter().map(|[left, right]| merkle::interior(left, right)).collect());
    }
    all
}

impl Hashes for Naive {
    type Error = ();

    fn get(&self, level: u8, index: u64) -> Result<Digest, ()> {
        self.0.get(usize::from(level)).and_then(|row| row.get(index as usize)).copied().ok_or(())
    }
}

struct Naive(Vec<Vec<Digest>>);

/// Files by path, and which of them were read.
#[derive(Default)]
struct Folder {
    files: HashMap<String, Vec<u8>>,
    read: RefCell<HashSet<String>>,
}

impl Tiles for &Folder {
    type Error = String;

    fn tile(&self, tile: &Tile) -> Result<Vec<Digest>, String> {
        self.read.borrow_mut().insert(tile.to_string());
        let bytes = self.files.get(&tile.to_string()).ok_or_else(|| tile.to_string())?;
        tile.decode(bytes).map_err(|error| error.to_string())
    }
}

/// What a server of a log of this size has, and nothing else.
fn folder(tree: &[Vec<Digest>], size: u64) -> Folder {
    let mut folder = Folder::default();
    for level in 0..8u8 {
        let tiles = (0..).map_while(|i| Tile::of(Log::Shard(3), Part::Hashes(level), i, size));
        for tile in tiles {
            let wider = Tile { width: tile.width + 1, ..tile };
            assert!(tile.is_in(size) && (tile.width == 256 || !wider.is_in(size)));
            let row = &tree[usize::from(8 * level)];
            let from = tile.first() as usize;
            let bytes = row[from..from + usize::from(tile.width)].concat();
            assert_eq!(Tile::parse(&tile.to_string()), Some(tile));
            folder.files.insert(tile.to_string(), bytes);
        }
    }
    folder
}

#[test]
fn proofs_from_tiles_are_those_of_the_tree() {
    for size in SIZES {
        let tree = levels(size);
        let folder = folder(&tree, size);
        let naive = Naive(tree);
        let tiles = TileHashes { tiles: &folder, log: Log::Shard(3), size };
        folder.read.borrow_mut().clear();
        assert_eq!(merkle::root(&tiles, size).unwrap(), merkle::root(&naive, size).unwrap());
        let edge = Tile::edge(Log::Shard(3), size).map(|tile| tile.to_string());
        assert_eq!(*folder.read.borrow(), edge.collect(), "the root of {size} leaves");
        for index in [0, 1, 254, 255, 256, 257, size / 2, size - 1] {
            let index = index.min(size - 1);
            let proof = merkle::prove_inclusion(&tiles, index, size).unwrap();
            assert_eq!(proof, merkle::prove_inclusion(&naive, index, size).unwrap());
            let proof = merkle::prove_consistency(&tiles, index + 1, size).unwrap();
            assert_eq!(proof, merkle::prove_consistency(&naive, index + 1, size).unwrap());
        }
    }
}

#[test]
fn one_proof_needs_few_tiles_and_a_missing_or_short_one_is_an_error() {
    let size = 66_000;
    let mut folder = folder(&levels(size), size);
    let proof = |folder: &Folder| {
        let tiles = TileHashes { tiles: folder, log: Log::Shard(3), size };
        merkle::prove_inclusion(&tiles, 300, size)
    };
    proof(&folder).unwrap();
    let read: Vec<String> = folder.read.borrow().iter().cloned().collect();
    assert!(read.len() <= 6, "{read:?}");
    for path in read {
        let bytes = folder.files.remove(&path).unwrap();
        assert_eq!(proof(&folder), Err(TileError::Read(path.clone())));
        folder.files.insert(path.clone(), bytes[..bytes.len() - 1].to_vec());
        assert!(matches!(proof(&folder), Err(TileError::Read(_))), "{path}");
        folder.files.insert(path, bytes);
    }
    let tiles = TileHashes { tiles: &folder, log: Log::Shard(3), size };
    assert_eq!(tiles.get(0, size), Err(TileError::Absent { level: 0, index: size }));
    assert!(tiles.get(255, u64::MAX).is_err());
}

#[test]
fn a_path_has_one_form() {
    let tile = |index, width| Tile { log: Log::History, part: Part::Hashes(7), index, width };
    assert_eq!(tile(1_234_067, 256).to_string(), "history/7/x001/x234/067");
    assert_eq!(tile(5, 9).to_string(), "history/7/005.p/9");
    let entries = Tile { log: Log::Shard(12), part: Part::Entries, index: 1_000, width: 256 };
    assert_eq!(Tile::parse("12/entries/x001/000"), Some(entries));
    for wrong in [
        "",
        "0",
        "0/0",
        "0/0/",
        "0/0/5",
        "0/0/0005",
        "0/0/+05",
        "0/8/005",
        "0/00/005",
        "00/0/005",
        "-1/0/005",
        "4294967296/0/005",
        "0/0/005.p/0",
        "0/0/005.p/256",
        "0/0/005.p/09",
        "0/0/005.p/",
        "0/0/x000/005",
        "0/0/001/005",
        "0/0/x01/005",
        "0/0/x001/x005",
        "0/0/005/",
        "0/0//005",
        "0/0/x999/x999/x999/x999/x999/999",
        "0/0/x001/x000/x000/x000/x000/x000/000",
        "log/0/005",
    ] {
        assert_eq!(Tile::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_head_is_refused_at_the_step_that_fails() {
    let chain = Chain::build();
    let trust = chain.trust.clone();
    let good = Head {
        header: chain.headers[2],
        certificate: chain.certify(&chain.headers[2], &[0, 1, 3]).encode(),
        changes: Vec::new(),
        shards: chain.shards.clone(),
    };
    good.verify(&trust).unwrap();
    assert_eq!(good.size(Log::History), Some(good.header.height + 1));
    assert_eq!(good.size(Log::Shard(99)), None);
    let step = |change: fn(&mut Head)| {
        let mut head = good.clone();
        change(&mut head);
        head.verify(&trust).map_err(|refusal| refusal.step)
    };
    assert_eq!(step(|head| head.shards.truncate(1)), Err(Step::Shard));
    assert_eq!(step(|head| head.shards.swap(0, 1)), Err(Step::Shard));
    assert_eq!(step(|head| head.shards[0].log_size += 1), Err(Step::Shard));
    assert_eq!(step(|head| head.header.chain[0] ^= 1), Err(Step::Chain));
    assert!(matches!(step(|head| head.header.time_ms += 1), Err(Step::Quorum | Step::Signature)));
    assert_eq!(step(|head| head.header.validators[0] ^= 1), Err(Step::Validators));
}
