//! kill -9 at random moments, on real RocksDB and real files.
//!
//! The test starts itself again as a child that applies and flushes blocks as fast as it can, and
//! says what it was promised; kills it; and looks at what is there: exactly the state of one
//! height, not below the last flush that returned, and every block whose append returned. Then on
//! from there, twenty times.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::{Model, block, compare, config};
use piaogen_storage::Store;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod common;

const DIR: &str = "PIAOGEN_CRASH_DIR";
const SEED: u64 = 77;
const RECORDS: u64 = 20;

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the parent reads");
}

/// Runs only as a child of the test below, until it is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = Store::open(Path::new(&dir), config()).unwrap();
    let mut model = Model::at(SEED, store.recovered().height);
    let (wake, woken) = mpsc::sync_channel::<()>(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for () in woken {
                say(&format!("flushed {}", store.flush().unwrap()));
                for (shard, state) in store.flushed().unwrap().shards.iter().enumerate() {
                    store.tail_release(shard as u32, state.log_size.saturating_sub(500)).unwrap();
                }
            }
        });
        loop {
            let effects = model.next(RECORDS);
            for height in store.tip().map_or(0, |tip| tip + 1)..=model.height {
                store.append_block(&block(height)).unwrap();
                say(&format!("block {height}"));
            }
            while !store.has_room().unwrap() {
                std::thread::sleep(Duration::from_millis(1));
            }
            store.apply(model.height, effects).unwrap();
            if model.height.is_multiple_of(3) {
                let _busy = wake.try_send(());
            }
        }
    });
}

/// Runs the child for a while; returns the last block and flush it said were done.
fn run_and_kill(dir: &Path, life: Duration) -> (Option<u64>, Option<u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // Count its life from the first thing it does, so that opening takes nothing from it.
    let first =
        lines.by_ref().find(|line| line.starts_with("block ") || line.starts_with("flushed"));
    let killer = std::thread::spawn(move || {
        std::thread::sleep(life);
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let said: Vec<String> = first.into_iter().chain(lines).collect();
    killer.join().unwrap();
    let last = |what: &str| {
        let found = said.iter().rev().find_map(|line| line.strip_prefix(what));
        found.and_then(|number| number.trim().parse().ok())
    };
    (last("block "), last("flushed "))
}

#[test]
fn twenty_kills_lose_nothing_that_was_promised() {
    let dir = tempfile::tempdir().unwrap();
    let seed = rand::random();
    println!("the moments of the kills are of seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut model = Model::new(SEED);
    let (mut restored, mut repeated) = (0, 0);
    let mut kills = 0;
    // More where the disk is so slow that it gets nowhere.
    while kills < 20 || (model.height <= 20 && kills < 400) {
        let round = kills;
        kills += 1;
        let life = Duration::from_millis(rng.random_range(1..250));
        let (last_block, last_flush) = run_and_kill(dir.path(), life);
        let store = Store::open(dir.path(), config()).unwrap();
        let found = store.recovered();
        assert!(found.height >= model.height.max(last_flush.unwrap_or(0)), "round {round}");
        assert!(store.tip() >= last_block, "round {round}: a promised block is gone");
        restored += usize::from(found.notes.iter().any(|note| note.contains("put back")));
        repeated += store.tip().unwrap_or(0) - found.height;
        while model.height < found.height {
            model.next(RECORDS);
        }
        compare(&store, &model);
        for (height, found) in (0..).zip(store.blocks_from(0)) {
            assert_eq!(found.unwrap(), block(height));
        }
    }
    println!(
        "{kills} kills: height {}, {repeated} blocks to execute again in all, {restored} undone flushes",
        model.height
    );
    assert!(model.height > 20, "it got on between the kills");
}
