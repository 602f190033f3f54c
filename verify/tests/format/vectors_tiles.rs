//! Vectors of heads, tiles, their paths and bundles: good ones, and bad ones for each step.

use super::receipts::step_of;
use super::{hexed, parsed};
use crate::common::chain::Chain;
use crate::common::epochs::{Epochs, TIP};
use crate::common::life::Life;
use piaogen_crypto::Digest;
use piaogen_verify::encoding::DecodeError;
use piaogen_verify::follow::Link;
use piaogen_verify::header::{HEADER_LEN, Header};
use piaogen_verify::merkle::{self, leaf};
use piaogen_verify::refusal::{Refusal, Step};
use piaogen_verify::tiles::{Head, Log, Part, Tile, TileError, TileHashes, Tiles, encode_bundle};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Height of the head: its history has a tile of fewer than 256 headers.
const HEIGHT: usize = TIP - 1;
/// Height of the last header in a bundle, behind the first that ends an epoch.
const LINKED: usize = 12;
/// Sizes of the logs that proofs are read from: with one level of tiles, and with three.
const SIZES: [u64; 2] = [300, 66_000];

/// All of section 11.2.
pub(super) fn tiles(chain: &Chain, life: &Life, epochs: &Epochs) -> Value {
    let good = head(life, epochs);
    json!({
        "trust_root": parsed(&chain.trust.to_json()),
        "heads": heads(chain, &good, epochs),
        "paths": paths(),
        "parts": parts(),
        "proofs": proofs(),
        "bundles": bundles(chain, life, epochs),
    })
}

/// The head of the fourth epoch.
fn head(life: &Life, epochs: &Epochs) -> Head {
    let header = epochs.headers[HEIGHT];
    let certificate = epochs.certify(&header, 2 * header.height, 1).encode();
    Head { header, certificate, changes: epochs.proof().changes, shards: life.shards.clone() }
}

type Spoil = fn(&Epochs, &mut Head);

fn heads(chain: &Chain, good: &Head, epochs: &Epochs) -> Vec<Value> {
    good.verify(&chain.trust).unwrap();
    assert_eq!(Head::decode(&good.encode()).as_ref(), Ok(good));
    let sizes: BTreeMap<String, u64> = (0..=good.shards.len() as u32)
        .filter_map(|shard| Some((shard.to_string(), good.size(Log::Shard(shard))?)))
        .chain(good.size(Log::History).map(|size| (Log::History.to_string(), size)))
        .collect();
    let mut cases =
        vec![json!({"name": "good", "head": hexed(good.encode()), "step": null, "logs": sizes})];
    let bytes = good.encode();
    let certificate = 3 + HEADER_LEN;
    let bad_bytes = [
        ("empty", Vec::new()),
        ("magic", [b"PC\x01", &bytes[3..]].concat()),
        ("short", bytes[..bytes.len() - 1].to_vec()),
        ("trailing", [&bytes[..], &[0]].concat()),
        ("no_certificate", [&bytes[..certificate], &[0], &bytes[certificate..]].concat()),
        ("too_many_shards", {
            let shards = bytes.len() - 92 * good.shards.len() - 1;
            [&bytes[..shards], &[0x82, 0x20], &bytes[shards + 1..]].concat()
        }),
    ];
    let mut bad: Vec<_> =
        bad_bytes.into_iter().map(|(name, bytes)| (name, Step::Decode, bytes)).collect();
    for (name, step, spoil) in spoils_of_heads() {
        let mut head = good.clone();
        spoil(epochs, &mut head);
        bad.push((name, step, head.encode()));
    }
    for (name, step, bytes) in bad {
        let decoded = Head::decode(&bytes).map_err(Refusal::from);
        let found = step_of(decoded.and_then(|head| head.verify(&chain.trust)));
        assert_eq!(found, step.name(), "{name}");
        cases.push(json!({"name": name, "head": hexed(bytes), "step": step.name()}));
    }
    cases
}

/// The head with another header, which its set certifies.
fn sealed(epochs: &Epochs, head: &mut Head, edit: impl Fn(&mut Header)) {
    edit(&mut head.header);
    head.certificate = epochs.certify(&head.header, 2 * head.header.height, 1).encode();
}

fn spoils_of_heads() -> Vec<(&'static str, Step, Spoil)> {
    vec![
        ("shard_left_out", Step::Shard, |_, h| h.shards.truncate(1)),
        ("no_shards", Step::Shard, |_, h| h.shards.clear()),
        ("shards_swapped", Step::Shard, |_, h| h.shards.swap(0, 1)),
        ("shard_numbered_twice", Step::Shard, |_, h| h.shards[1].shard = 0),
        ("shard_added", Step::Shard, |_, h| h.shards.push(h.shards[0])),
        ("log_longer", Step::Shard, |_, h| h.shards[0].log_size += 1),
        ("log_of_another_root", Step::Shard, |_, h| h.shards[0].log_root[0] ^= 1),
        ("other_shards_signed", Step::Shard, |e, h| sealed(e, h, |h| h.shards_root[0] ^= 1)),
        ("chain", Step::Chain, |e, h| sealed(e, h, |h| h.chain[0] ^= 1)),
        ("chain_of_a_change", Step::Chain, |_, h| h.changes[0].header.chain[0] ^= 1),
        ("changes_in_the_wrong_order", Step::Validators, |_, h| h.changes.swap(0, 1)),
        ("the_same_change_twice", Step::Epoch, |_, h| h.changes[1] = h.changes[0].clone()),
        ("no_changes", Step::Validators, |_, h| h.changes.clear()),
        ("of_an_earlier_epoch", Step::Epoch, |e, h| {
            let header = e.headers[9];
            let certificate = e.certify(&header, 18, 1).encode();
            h.header = Header { shards_root: h.header.shards_root, ..header };
            h.certificate = certificate;
        }),
        ("certificate_of_another_block", Step::Quorum, |e, h| {
            h.certificate = e.certify(&e.headers[HEIGHT - 1], 60, 1).encode();
        }),
        ("header_that_was_not_signed", Step::Quorum, |_, h| h.header.time_ms += 1),
        ("too_few", Step::Quorum, |e, h| {
            h.certificate = e.certify(&h.header, 64, 3).encode();
        }),
        ("signature", Step::Signature, |_, h| *h.certificate.last_mut().unwrap() ^= 1),
    ]
}

fn part_name(part: Part) -> Value {
    match part {
        Part::Hashes(level) => json!(level),
        Part::Entries => json!("entries"),
    }
}

fn paths() -> Value {
    let mut good = Vec::new();
    for log in [Log::History, Log::Shard(0), Log::Shard(12), Log::Shard(4_096)] {
        for part in [Part::Entries, Part::Hashes(0), Part::Hashes(7)] {
            for (index, width) in [
                (0, 256),
                (5, 1),
                (999, 255),
                (1_000, 256),
                (1_234_067, 256),
                (1_000_000, 9),
                ((1 << 56) - 1, 256),
            ] {
                let tile = Tile { log, part, index, width };
                let path = tile.to_string();
                assert_eq!(Tile::parse(&path), Some(tile));
                good.push(json!({
                    "path": path, "log": log.to_string(), "part": part_name(part),
                    "index": index, "width": width,
                }));
            }
        }
    }
    let bad = [
        "",
        "0",
        "0/0",
        "0/0/",
        "0/0/5",
        "0/0/0005",
        "0/0/+05",
        "0/0/٠٠٥",
        "0/8/005",
        "0/00/005",
        "00/0/005",
        "-1/0/005",
        "+1/0/005",
        "4294967296/0/005",
        "History/0/005",
        "history/Entries/005",
        "0/0/005.p/0",
        "0/0/005.p/256",
        "0/0/005.p/09",
        "0/0/005.p/",
        "0/0/005.p",
        "0/0/005.p/9/",
        "0/0/005.p/9.p/9",
        "0/0/x000/005",
        "0/0/001/005",
        "0/0/x01/005",
        "0/0/x001/x005",
        "0/0/X001/005",
        "0/0/005/",
        "0/0//005",
        "/0/0/005",
        "0/0/../005",
        "0/0/005\n",
        " 0/0/005",
        "0/0/x072/x057/x594/x037/x927/936",
        "0/0/x999/x999/x999/x999/x999/999",
        "0/0/x001/x000/x000/x000/x000/x000/000",
    ];
    for path in bad {
        assert_eq!(Tile::parse(path), None, "{path}");
    }
    json!({"good": good, "bad": bad.to_vec()})
}

/// What a log of a size has.
fn parts() -> Vec<Value> {
    let mut out = Vec::new();
    for size in [0, 1, 255, 256, 257, 65_535, 65_536, 66_000, u64::MAX] {
        for part in [Part::Entries, Part::Hashes(0), Part::Hashes(1), Part::Hashes(7)] {
            for index in [0, 1, 256, 257] {
                let tile = Tile::of(Log::Shard(3), part, index, size);
                let path = tile.map(|tile| tile.to_string());
                out.push(json!({
                    "size": size, "part": part_name(part), "index": index, "path": path,
                }));
            }
        }
    }
    out
}

/// The leaf at an index of the logs of `SIZES`.
fn counted(index: u64) -> Digest {
    leaf(&index.to_be_bytes())
}

/// Tiles cut from leaves, or what a case says instead; and which were read.
#[derive(Default)]
struct Served<'a> {
    rows: &'a [Vec<Digest>],
    instead: BTreeMap<String, Vec<u8>>,
    read: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Tiles for &Served<'_> {
    type Error = DecodeError;

    fn tile(&self, tile: &Tile) -> Result<Vec<Digest>, DecodeError> {
        let path = tile.to_string();
        let bytes = self.instead.get(&path).cloned().unwrap_or_else(|| {
            let Part::Hashes(level) = tile.part else { panic!("{path} has no hashes") };
            let from = tile.first() as usize;
            self.rows[usize::from(level)][from..from + usize::from(tile.width)].concat()
        });
        self.read.borrow_mut().insert(path, bytes.clone());
        tile.decode(&bytes)
    }
}

/// The digests of each level of tiles, all of them complete subtrees.
fn rows(size: u64) -> Vec<Vec<Digest>> {
    let mut rows = vec![(0..size).map(counted).collect::<Vec<_>>()];
    while let Some(last) = rows.last().filter(|last| last.len() >= 256) {
        let (tiles, _) = last.as_chunks::<256>();
        rows.push(tiles.iter().map(|tile| merkle::root_of_leaves(tile)).collect());
    }
    rows
}

/// What a reader of tiles does: a proof whose digests all lead to the root that is known.
fn read(served: &Served<'_>, size: u64, index: u64, known: &Digest) -> Result<Vec<Digest>, Step> {
    let tiles = TileHashes { tiles: served, log: Log::Shard(3), size };
    let step = |error: TileError<DecodeError>| match error {
        TileError::Read(_) => Step::Decode,
        TileError::Absent { .. } => panic!("what a log has is asked for"),
    };
    let root = merkle::root(&tiles, size).map_err(step)?;
    let proof = merkle::prove_inclusion(&tiles, index, size).map_err(step)?;
    let leads = merkle::root_from_inclusion(&counted(index), index, size, &proof);
    if root != *known || leads != Some(root) {
        return Err(Step::Inclusion);
    }
    Ok(proof)
}

/// Logs with the tiles that a reader of some proofs takes; good proofs, and bad tiles.
fn proofs() -> Vec<Value> {
    let proofs_of = |size: u64| {
        let rows = rows(size);
        let root = merkle::root_of_leaves(&rows[0]);
        let mut served = Served { rows: &rows, ..Served::default() };
        let mut cases = Vec::new();
        for index in [0, 255, 256, size - 1] {
            let proof = read(&served, size, index, &root).unwrap();
            assert_eq!(Ok(&proof), merkle::prove_inclusion(&rows[0][..], index, size).as_ref());
            let proof: Vec<Value> = proof.iter().map(hexed).collect();
            cases.push(json!({
                "name": "good", "index": index, "leaf": hexed(counted(index)), "step": null,
                "proof": proof,
            }));
        }
        let tiles = served.read.take();
        read(&served, size, 255, &root).unwrap();
        for (path, bytes) in served.read.take() {
            let lengths = size == SIZES[0];
            let spoils = spoils_of(&bytes).into_iter();
            for (name, step, spoiled) in spoils.filter(|spoil| lengths || spoil.1 != Step::Decode) {
                served.instead = BTreeMap::from([(path.clone(), spoiled.clone())]);
                assert_eq!(read(&served, size, 255, &root), Err(step), "{name} {path}");
                cases.push(json!({
                    "name": name, "index": 255, "leaf": hexed(counted(255)),
                    "step": step.name(), "instead": {path.clone(): hexed(spoiled)},
                }));
            }
        }
        let tiles: BTreeMap<String, Value> =
            tiles.into_iter().map(|(path, bytes)| (path, hexed(bytes))).collect();
        json!({"log": "3", "size": size, "root": hexed(root), "tiles": tiles, "cases": cases})
    };
    SIZES.into_iter().map(proofs_of).collect()
}

/// A tile with another digest in its middle, too long, too short. (The digest of the subtree that
/// a proof is for is in no proof.)
fn spoils_of(tile: &[u8]) -> [(&'static str, Step, Vec<u8>); 4] {
    let mut other = tile.to_vec();
    other[tile.len() / 2] ^= 1;
    [
        ("another_digest", Step::Inclusion, other),
        ("longer", Step::Decode, [tile, &[0; 32]].concat()),
        ("shorter", Step::Decode, tile[..tile.len() - 32].to_vec()),
        ("not_whole", Step::Decode, tile[..tile.len() - 1].to_vec()),
    ]
}

/// Bundles of a shard's entries and of links, beside the tile of their leaves.
fn bundles(chain: &Chain, life: &Life, epochs: &Epochs) -> Vec<Value> {
    let shard = life.shards.iter().max_by_key(|shard| shard.log_size).unwrap();
    let mut entries: Vec<_> = chain.items.iter().chain(&life.items).collect();
    entries.retain(|item| item.shard == shard.shard);
    let entries: Vec<Vec<u8>> = entries.iter().map(|item| item.entry.encode()).collect();
    let leaves: Vec<Digest> = entries.iter().map(|entry| leaf(entry)).collect();
    assert_eq!(leaves, life.leaves[shard.shard as usize]);
    let links: Vec<Vec<u8>> = (0..=LINKED).map(|height| epochs.link(height).encode()).collect();
    let headers: Vec<Digest> = epochs.headers[..=LINKED].iter().map(Header::leaf).collect();
    let mut out = Vec::new();
    for (log, items, leaves) in
        [(Log::Shard(shard.shard), entries, leaves), (Log::History, links, headers)]
    {
        let tile = Tile::of(log, Part::Entries, 0, items.len() as u64).unwrap();
        let bundle = encode_bundle(items.iter().map(Vec::as_slice)).unwrap();
        let mut add = |name: &str, bundle: &[u8], leaves: &[Digest], step: Option<Step>| {
            assert_eq!(check_bundle(&tile, bundle, leaves).err(), step, "{name} {log}");
            let mut case = json!({
                "name": name, "path": tile.to_string(), "bundle": hexed(bundle),
                "hashes": hexed(leaves.concat()), "step": step.map(Step::name),
            });
            if step.is_none() {
                case["items"] = items.iter().map(hexed).collect();
            }
            out.push(case);
        };
        add("good", &bundle, &leaves, None);
        let spoiled = |edit: fn(&mut Vec<Vec<u8>>)| {
            let mut items = items.clone();
            edit(&mut items);
            encode_bundle(items.iter().map(Vec::as_slice)).unwrap()
        };
        let last_length = bundle.len() - items[items.len() - 1].len() - 1;
        let mut longer = bundle.clone();
        longer[last_length] += 1;
        for (name, step, bundle) in [
            ("short", Step::Decode, bundle[..bundle.len() - 1].to_vec()),
            ("trailing", Step::Decode, [&bundle[..], &[0, 0]].concat()),
            ("last_left_out", Step::Decode, spoiled(|items| drop(items.pop()))),
            ("longer_than_it_is", Step::Decode, longer),
            ("swapped", Step::Inclusion, spoiled(|items| items.swap(1, 2))),
            ("first_twice", Step::Inclusion, spoiled(|items| items[1] = items[0].clone())),
            ("other_bytes", Step::Inclusion, spoiled(|items| items[1][20] ^= 1)),
        ] {
            add(name, &bundle, &leaves, Some(step));
        }
        let mut other = leaves.clone();
        other[0][0] ^= 1;
        add("another_tile", &bundle, &other, Some(Step::Inclusion));
    }
    out
}

/// The leaf hash of an item of a bundle: of an entry itself, of a link its header's.
fn leaf_of(log: Log, item: &[u8]) -> Result<Digest, DecodeError> {
    match log {
        Log::Shard(_) => Ok(leaf(item)),
        Log::History => Ok(Link::decode(item)?.header.leaf()),
    }
}

fn check_bundle(tile: &Tile, bundle: &[u8], leaves: &[Digest]) -> Result<(), Step> {
    let items = tile.decode_bundle(bundle).map_err(|_| Step::Decode)?;
    let found = items.iter().map(|item| leaf_of(tile.log, item)).collect::<Result<Vec<_>, _>>();
    match found.map_err(|_| Step::Decode)? == leaves {
        true => Ok(()),
        false => Err(Step::Inclusion),
    }
}
