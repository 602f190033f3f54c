//! Heads that a node keeps: after a restart, a kill, or with damaged files it hands out the
//! receipts that witnesses have cosigned, or fewer, and never others.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;
#[path = "common/headers.rs"]
mod headers;

use common::Set;
use headers::{Chain, NONE};
use piaogen_node::run::chain::Provable;
use piaogen_node::run::heads::{FOLDER, HEADS_MAX, Heads, Known, Passed};
use piaogen_node::sinks::cosigned_receipts;
use piaogen_storage::Block;
use piaogen_verify::header::Cut;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::tiles::{HEAD_MAX, Head};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::SHARED_EVERY;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// What a node opens that has executed so many blocks of a chain.
fn open(heads: &Heads, chain: &Chain, executed: usize) -> Passed {
    let block = |height: u64| {
        let link = (height < chain.headers.len() as u64).then(|| chain.link(height as usize, NONE));
        Ok(link.map(|link| Block {
            height,
            header: link.header.encode().to_vec(),
            cut: Cut(vec![0; 3]).encode(),
            finalization: link.certificate,
        }))
    };
    let changes = Arc::new(chain.head(executed + 1).changes);
    let id = chain.headers[0].chain;
    heads.open(&Known { chain: id, executed: executed as u64, changes, block: &block })
}

fn heights(passed: &Passed) -> Vec<u64> {
    passed.newest_first().map(|head| head.header.height).collect()
}

/// Goes through the blocks of a chain up to a height, and keeps what there is to keep.
fn go_through(heads: &Heads, chain: &Chain, bare: fn(usize) -> bool, to: usize) -> Passed {
    let (mut passed, mut last) = (Passed::default(), None);
    for height in (1..=to).filter(|height| !bare(*height)) {
        let newest: Provable = chain.head(height).into();
        passed.go_on(last.take(), &newest).iter().for_each(|head| heads.keep(head));
        last = Some(newest);
    }
    passed
}

fn file(data: &Path, size: u64) -> PathBuf {
    data.join(FOLDER).join(size.to_string())
}

fn files(data: &Path) -> usize {
    std::fs::read_dir(data.join(FOLDER)).unwrap().count()
}

#[test]
fn the_last_head_below_each_shared_size_is_kept_and_found_again() {
    let chain = Chain::turning(60, [1, 2, 3], 3);
    for (bare, expected) in [
        (NONE, vec![55, 47, 39, 31, 23, 15, 7]),
        // Blocks without certificates of their own prove nothing.
        (|height| (14..=17).contains(&height) || height == 55, vec![54, 47, 39, 31, 23, 13, 7]),
    ] {
        let data = tempfile::tempdir().unwrap();
        let heads = Heads::of(data.path());
        assert!(heights(&open(&heads, &chain, 0)).is_empty(), "no folder");
        let passed = go_through(&heads, &chain, bare, 59);
        assert_eq!(heights(&passed), expected);
        // What is newest is kept where a node ends.
        heads.keep(&chain.head(59).into());
        let again = open(&Heads::of(data.path()), &chain, 59);
        assert_eq!(heights(&again), [&[59][..], &expected].concat());
        for head in again.newest_first() {
            assert_eq!(head.head(), chain.head(head.header.height as usize));
            assert_eq!(head.head().verify(&chain.trust()), Ok(()));
        }
    }
}

#[test]
fn no_more_heads_are_kept_than_the_limit() {
    let more = 3 * SHARED_EVERY as usize;
    let chain = Chain::new(HEADS_MAX * SHARED_EVERY as usize + more);
    let data = tempfile::tempdir().unwrap();
    let passed = go_through(&Heads::of(data.path()), &chain, NONE, chain.headers.len() - 1);
    assert_eq!((heights(&passed).len(), files(data.path())), (HEADS_MAX, HEADS_MAX));
    let size = 3 * SHARED_EVERY;
    std::fs::write(file(data.path(), size), chain.head(size as usize - 1).encode()).unwrap();
    let again = open(&Heads::of(data.path()), &chain, chain.headers.len() - 2);
    assert_eq!(heights(&again), heights(&passed));
    assert!(!file(data.path(), size).exists(), "one too many is deleted");
}

/// Each damage: the head is not used, its file goes, the others stay, and it is kept anew.
#[test]
fn what_is_damaged_or_of_another_chain_is_deleted_and_kept_anew() {
    let chain = Chain::turning(40, [1, 2, 3], 3);
    let mut other = chain.fork(20, 40);
    other.headers.iter_mut().for_each(|header| header.chain = [7; 32]);
    let fork = chain.fork(20, 40);
    let data = tempfile::tempdir().unwrap();
    let heads = Heads::of(data.path());
    let all = heights(&go_through(&heads, &chain, NONE, 39));
    let whole = std::fs::read(file(data.path(), 32)).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    };
    let mut bare = chain.head(31);
    bare.changes.clear();
    let mut cases: Vec<Vec<u8>> = (0..whole.len()).map(flipped).collect();
    cases.extend((0..whole.len()).step_by(97).map(|end| whole[..end].to_vec()));
    cases.push([&whole[..], &[0]].concat());
    cases.push(vec![0; HEAD_MAX as usize + 1]);
    cases.extend([other.head(31), fork.head(31), chain.head(30), chain.head(23), bare].map(
        // Block 30 is below the same size, and is what it was: that one is taken.
        |head| head.encode(),
    ));
    for bytes in cases {
        std::fs::write(file(data.path(), 32), &bytes).unwrap();
        let taken = heights(&open(&Heads::of(data.path()), &chain, 39));
        if bytes == chain.head(30).encode() {
            assert_eq!(taken, [39, 30, 23, 15, 7]);
            continue;
        }
        assert_eq!(taken, [39, 23, 15, 7]);
        assert!(!file(data.path(), 32).exists());
        // What is gone is no complaint, and comes back with the block.
        let heads = Heads::of(data.path());
        assert_eq!(heights(&open(&heads, &chain, 39)), [39, 23, 15, 7]);
        heads.keep(&chain.head(31).into());
        assert_eq!(heights(&open(&Heads::of(data.path()), &chain, 39)), all);
    }
    // Of a folder that has other blocks, or fewer, nothing is taken that they do not make.
    assert_eq!(heights(&open(&Heads::of(data.path()), &fork, 39)), [15, 7]);
}

#[test]
fn what_a_crash_leaves_is_no_head_and_no_hindrance() {
    let chain = Chain::growing(40, [1, 0, 2]);
    let data = tempfile::tempdir().unwrap();
    let all = heights(&go_through(&Heads::of(data.path()), &chain, NONE, 39));
    // Torn beside a whole one, beside none, and what is nobody's.
    let head = chain.head(31).encode();
    for name in ["32.new", "48.new", "notes"] {
        std::fs::write(data.path().join(FOLDER).join(name), &head[..100]).unwrap();
    }
    assert_eq!(heights(&open(&Heads::of(data.path()), &chain, 39)), all);
    assert_eq!(files(data.path()), all.len() + 1);
    assert!(data.path().join(FOLDER).join("notes").exists());
    // The state goes back: heads above it come again with their blocks, and are written again.
    let heads = Heads::of(data.path());
    assert_eq!(heights(&open(&heads, &chain, 22)), [23, 15, 7]);
    std::fs::write(file(data.path(), 32), &head[..100]).unwrap();
    assert_eq!(heights(&open(&heads, &chain, 22)), [23, 15, 7]);
    heads.keep(&chain.head(31).into());
    assert_eq!(heights(&open(&Heads::of(data.path()), &chain, 39)), all);
    // A folder in the place of a file is said, and stops nothing.
    std::fs::remove_file(file(data.path(), 32)).unwrap();
    std::fs::create_dir(file(data.path(), 32)).unwrap();
    let heads = Heads::of(data.path());
    assert_eq!(heights(&open(&heads, &chain, 39)), [39, 23, 15, 7]);
    heads.keep(&chain.head(31).into());
    assert_eq!(heights(&open(&heads, &chain, 39)), [39, 23, 15, 7]);
}

const TOML: &str = "[blocks]\ninterval_ms = 50\nidle_interval_ms = 100\n[store]\n\
    flush_interval_ms = 300\ncosigned = \"../cosigned\"\n[limits]\nkey_tables_mib = 16\n\
    queue_mib = 32\n";

/// A lone validator with records, and two witnesses of it.
struct Desk {
    set: Set,
    dir: PathBuf,
    names: [&'static str; 2],
}

impl Desk {
    fn new(dir: &Path) -> Desk {
        let set = Set::lone(dir, 2, TOML, 100);
        let desk = Desk { set, dir: dir.into(), names: ["first.example", "second.example"] };
        for name in desk.names {
            desk.run(&["keygen", "--out", &desk.text(name), "--public", &desk.public(name)]);
        }
        desk
    }

    fn text(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().into()
    }

    fn public(&self, name: &str) -> String {
        self.text(&format!("{name}.pub"))
    }

    fn run(&self, arguments: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_piaogen")).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }

    /// The trust root that demands this witness.
    fn trust(&self, name: &str) -> TrustRoot {
        let (out, genesis) = (self.text(&format!("{name}.json")), self.text("trust-root.json"));
        let witness = format!("{name}={}", self.public(name));
        let listed = ["--witness", &witness, "--quorum", "1", "--out", &out];
        self.run(&[&["trust", "witnesses", "--trust-root", &genesis], &listed[..]].concat());
        TrustRoot::from_json(&std::fs::read_to_string(&out).unwrap()).unwrap()
    }

    /// Has a witness sign, and gives its note over the newest shared size to the node, which goes
    /// on until nothing but what it kept has the shards below that size; the size.
    fn cosign(&self, name: &str) -> u64 {
        let above = self.set.series(0, "piaogen_block_height").unwrap() + 1;
        let size = Cell::new(0);
        self.set.wait("a witness has signed a later shared size", |set| {
            let (folder, key) = (self.text(&format!("{name}.d")), self.text(name));
            let node = format!("http://{}", set.members[0].http);
            let trust = self.text("trust-root.json");
            let place = ["--dir", &folder, "--from", &node, "--trust-root", &trust];
            self.run(&[&["witness", "--key", &key, "--name", name], &place[..]].concat());
            let sizes = std::fs::read_dir(Path::new(&folder).join("checkpoints")).unwrap();
            let sizes = sizes.filter_map(|one| one.unwrap().file_name().to_str()?.parse().ok());
            size.set(sizes.max().unwrap_or(0));
            size.get() > above
        });
        let note = format!("{name}.d/checkpoints/{}", size.get());
        std::fs::copy(self.dir.join(note), self.dir.join("cosigned")).unwrap();
        self.set.grow(&[0], 2 * SHARED_EVERY);
        size.get()
    }

    /// Receipts with cosignatures, once the node has some.
    fn receipts(&self) -> Vec<Receipt> {
        let found = Cell::new(Vec::new());
        self.set.wait("the node hands out cosigned receipts", |set| {
            let answer = cosigned_receipts(&set.members[0].http, 1, 10);
            let answer = answer.ok().filter(|receipts| !receipts.is_empty());
            answer.map(|receipts| found.set(receipts)).is_some()
        });
        let receipts = found.take();
        assert_eq!(receipts.len(), 10);
        receipts.iter().map(|bytes| Receipt::decode(bytes).unwrap()).collect()
    }

    /// Ends the node, or kills it, and starts it over what is changed meanwhile.
    fn again(&mut self, kill: bool, change: impl FnOnce(&Path)) {
        match kill {
            true => self.set.kill(0),
            false => assert_eq!(self.set.end(0), Some(0), "{}", self.set.log(0)),
        }
        change(&self.set.chain(0).config().dir);
        self.set.start(0);
        // It has executed everything again.
        self.set.wait("it is there again", |set| set.series(0, "piaogen_block_height").is_some());
    }
}

/// Fails unless all were cosigned by the one witness of this trust root, under one of the last
/// headers below this size.
fn check(receipts: &[Receipt], trust: &TrustRoot, size: u64) {
    for receipt in receipts {
        assert_eq!(receipt.verify(trust).unwrap().witnesses, 1);
        assert_eq!(receipt.cosigned.as_ref().unwrap().cosignatures.len(), 1);
        let height = receipt.header.height;
        assert!((size - SHARED_EVERY..size).contains(&height), "{height}, below {size}");
    }
}

#[test]
fn cosigned_receipts_survive_restarts_and_are_never_those_of_a_damaged_head() {
    let root = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(root.path());
    let [first, second] = desk.names;
    let (trust, size) = (desk.trust(first), desk.cosign(first));
    let before = desk.receipts();
    check(&before, &trust, size);
    for kill in [false, true, true] {
        desk.again(kill, |_| {});
        assert_eq!(desk.receipts(), before);
        assert!(!desk.set.log(0).contains("a head that was kept"), "{}", desk.set.log(0));
    }
    // Other witnesses are gathered from while the node is away: nothing of the first is left.
    let trust = desk.trust(second);
    let folder = desk.text("cosigned");
    let size = desk.cosign(second);
    let note = std::fs::read(&folder).unwrap();
    desk.cosign(first);
    desk.again(true, |_| std::fs::write(&folder, note).unwrap());
    check(&desk.receipts(), &trust, size);
    // Damage, and a head of another chain: said, and older receipts are handed out meanwhile.
    let damages: [fn(&Path); 2] = [
        |path| std::fs::write(path, &std::fs::read(path).unwrap()[..300]).unwrap(),
        |path| {
            let mut head = Head::decode(&std::fs::read(path).unwrap()).unwrap();
            head.header.chain = [9; 32];
            std::fs::write(path, head.encode()).unwrap();
        },
    ];
    for (damage, said) in damages.into_iter().zip(["it is no head", "it is of another chain"]) {
        let size = desk.cosign(second);
        desk.again(false, |data| damage(&file(data, size)));
        for receipt in desk.receipts() {
            assert!(receipt.header.height < size - SHARED_EVERY, "{}", receipt.header.height);
            assert_eq!(receipt.verify(&trust).unwrap().witnesses, 1);
        }
        assert!(desk.set.log(0).contains(said), "{}", desk.set.log(0));
        let size = desk.cosign(second);
        check(&desk.receipts(), &trust, size);
    }
    assert_eq!(desk.set.end(0), Some(0), "{}", desk.set.log(0));
}
