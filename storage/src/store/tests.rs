//! Tests of the store as a whole: against a model, with faults at every step of a flush.

use super::*;
use crate::past::KEPT;
use crate::store::tests::common::{Model, block, compare, compare_past, compare_reader, config};
use crate::undo::write_nodes;
use crate::{RowChunk, StoreReader};
use piaogen_verify::status::Origin;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

#[path = "../../tests/common/mod.rs"]
mod common;

fn open(dir: &Path) -> Store {
    Store::open(dir, config()).unwrap()
}

/// Applies blocks until the model is at a height.
fn run(store: &Store, model: &mut Model, height: u64) {
    while model.height < height {
        let effects = model.next(20);
        if store.tip().is_none_or(|tip| tip < model.height) {
            (store.tip().map_or(0, |tip| tip + 1)..=model.height)
                .for_each(|height| store.append_block(&block(height)).unwrap());
        }
        store.apply(model.height, effects).unwrap();
    }
}

#[test]
fn any_order_of_blocks_flushes_and_restarts_agrees_with_the_model() {
    for seed in 0..6 {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut model = Model::new(seed);
        let mut flushed = 0;
        let mut past = vec![model.clone()];
        // How many of them the store can still answer for.
        let mut readable = 1;
        for _ in 0..60 {
            match rng.random_range(0..10) {
                0..6 => {
                    let to = model.height + 1;
                    run(&store, &mut model, to);
                    past.push(model.clone());
                    readable = 5.min(readable + 1);
                }
                6..8 => {
                    assert_eq!(store.flush().unwrap(), model.height);
                    flushed = model.height;
                    compare_reader(&StoreReader::open(dir.path()).unwrap(), &model);
                }
                8 => {
                    let shard = rng.random_range(0..4);
                    let size = store.state(shard).unwrap().log_size;
                    store.tail_release(shard, rng.random_range(0..=size)).unwrap();
                    let durable = store.flushed().unwrap().shards[shard as usize].log_size;
                    assert!(store.tail_first(shard).unwrap() <= durable);
                }
                _ => {
                    drop(store);
                    store = open(dir.path());
                    assert_eq!(store.recovered().height, flushed);
                    model = Model::at(seed, flushed);
                    past.truncate(flushed as usize + 1);
                    readable = 1;
                }
            }
            compare(&store, &model);
            compare_past(&store, &past, readable);
        }
        let tip = store.tip().unwrap();
        let heights: Vec<_> = store.blocks_from(0).map(|b| b.unwrap()).collect();
        assert_eq!(heights, (0..=tip).map(block).collect::<Vec<_>>());
    }
}

/// Reads statuses as of heights that were given out before, until it has read enough of them.
fn read_past(store: &Store, past: &Mutex<Vec<Arc<Model>>>, seed: u64, reads: &AtomicU64) {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let (mut below, mut heights) = (0, 0);
    while below < 3_000 || heights < 150 {
        let model = {
            let past = past.lock().unwrap();
            heights = past.len();
            past[heights - 1 - rng.random_range(0..heights.min(3))].clone()
        };
        let number = rng.random_range(0..4);
        let shard = &model.shards[number];
        let newest = shard.state.invoices + 2;
        let issue = rng.random_range(newest.saturating_sub(60)..newest);
        let path = store.status_path(number as u32, issue, &shard.state.status_root).unwrap();
        match path {
            Some(path) => {
                assert_eq!(path, shard.path(issue), "{issue} of {number} as of {}", model.height);
                let moved = store.state(number as u32).unwrap() != shard.state;
                below += u64::from(moved);
                reads.fetch_add(u64::from(moved), Ordering::Relaxed);
            }
            // The block that is being applied may have dropped it already.
            None => assert!(store.height().unwrap() >= model.height + KEPT, "{}", model.height),
        }
    }
}

#[test]
fn the_past_is_read_while_blocks_are_applied_and_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut model = Model::new(3);
    run(&store, &mut model, 1);
    let past = Mutex::new(vec![Arc::new(model.clone())]);
    let (reads, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let readers = [1, 2].map(|seed| {
            let (store, past, reads) = (&store, &past, &reads);
            scope.spawn(move || read_past(store, past, seed, reads))
        });
        let flusher = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                store.flush().unwrap();
            }
        });
        while readers.iter().any(|reader| !reader.is_finished()) {
            // A block for some reads, so that readers find it in its first moments.
            let before = reads.load(Ordering::Relaxed);
            let to = model.height + 1;
            run(&store, &mut model, to);
            past.lock().unwrap().push(Arc::new(model.clone()));
            while reads.load(Ordering::Relaxed) < before + 20
                && readers.iter().any(|reader| !reader.is_finished())
                && past.lock().unwrap().len() > 2
            {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Release);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        flusher.join().unwrap();
    });
    compare(&store, &model);
}

#[test]
fn a_quiet_shard_lets_go_of_its_past() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut model = Model::new(5);
    run(&store, &mut model, 8);
    let old = model.clone();
    run(&store, &mut model, 9);
    let moved =
        (0..4).find(|i| old.shards[*i].state.status_root != model.shards[*i].state.status_root);
    let (number, root) = moved.map(|i| (i as u32, old.shards[i].state.status_root)).unwrap();
    let readable = || store.status_path(number, 0, &root).unwrap().is_some();
    for height in 10..9 + KEPT {
        store.append_block(&block(height)).unwrap();
        store.apply(height, Vec::new()).unwrap();
    }
    store.flush().unwrap();
    assert!(readable());
    let last = 9 + KEPT;
    store.append_block(&block(last)).unwrap();
    store.apply(last, Vec::new()).unwrap();
    store.flush().unwrap();
    assert!(!readable());
}

const STEPS: [Step; 6] =
    [Step::Append, Step::Undo, Step::InPlace, Step::Ids, Step::Point, Step::Release];

/// What else a crash may leave, given the step it came in.
fn disturb(dir: &Path, step: Step, after: bool) {
    if (step, after) == (Step::Append, false) {
        for shard in 0..4 {
            for name in ["log/level-00", "log/level-03"] {
                let path = dir.join(format!("shard-{shard:04}")).join(name);
                let mut bytes = std::fs::read(&path).unwrap();
                bytes.extend_from_slice(&[0xee; 50]);
                std::fs::write(&path, bytes).unwrap();
            }
        }
    }
    if (step, after) == (Step::Undo, true) {
        // Half of the hashes were overwritten.
        let files = Files::new(dir, true, 64);
        let undo = Undo::load(dir).unwrap().unwrap();
        let half = undo.old.keys().step_by(2).map(|place| (*place, [0xee; 32])).collect();
        write_nodes(&files, half).unwrap();
    }
    if (step, after) == (Step::Undo, false) {
        // The undo file itself was torn.
        std::fs::write(dir.join("status.undo"), b"PUn1\0\0\0\0").unwrap();
    }
}

#[test]
fn a_flush_that_fails_at_any_step_or_fails_after_it_took_effect_is_recovered() {
    for step in STEPS {
        for after in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut model = Model::new(9);
            let store = open(dir.path());
            run(&store, &mut model, 15);
            store.flush().unwrap();
            let old = model.clone();
            run(&store, &mut model, 21);
            let mut past = vec![model.clone()];
            while model.height < 25 {
                let to = model.height + 1;
                run(&store, &mut model, to);
                past.push(model.clone());
            }
            *store.fault.lock().unwrap() = Some((step, after));
            assert!(store.flush().unwrap_err().is_fatal());
            // Reads go on, writes do not.
            compare(&store, &model);
            compare_past(&store, &past, 5);
            assert!(store.flush().unwrap_err().is_fatal());
            assert!(store.apply(26, Vec::new()).unwrap_err().is_fatal());
            assert!(store.append_block(&block(26)).unwrap_err().is_fatal());
            drop(store);
            disturb(dir.path(), step, after);

            let done = step == Step::Release || (step, after) == (Step::Point, true);
            let expected = if done { model.clone() } else { old };
            compare_reader(&StoreReader::open(dir.path()).unwrap(), &expected);
            for _ in 0..2 {
                let store = open(dir.path());
                assert_eq!(store.recovered().height, expected.height, "{step:?} {after}");
                compare(&store, &expected);
                assert_eq!(store.tip(), Some(25));
            }
            let store = open(dir.path());
            let mut model = expected;
            run(&store, &mut model, 40);
            compare(&store, &model);
            store.flush().unwrap();
            compare(&store, &model);
            drop(store);
            compare(&open(dir.path()), &model);
        }
    }
}

#[test]
fn blocks_are_applied_while_a_flush_runs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut model = Model::new(4);
    run(&store, &mut model, 5);
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            for _ in 0..30 {
                store.flush().unwrap();
            }
        });
        while !flusher.is_finished() {
            let to = model.height + 1;
            run(&store, &mut model, to);
            compare(&store, &model);
        }
    });
    store.flush().unwrap();
    compare(&store, &model);
    drop(store);
    compare(&open(dir.path()), &model);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut model = Model::new(2);
    run(&store, &mut model, 8);
    let mut ahead = model.clone();
    let mut effects = ahead.next(20);
    while effects.iter().all(|one| one.rows.count == 0) {
        (effects, ahead) = {
            let mut a = model.clone();
            a.seed += 1;
            (a.next(20), a)
        };
    }
    let good = effects.clone();
    let full = effects.iter().position(|one| one.rows.count > 0).unwrap();
    let mut cases: Vec<(u64, Vec<ShardEffects>)> = vec![(8, good.clone()), (10, good.clone())];
    let mut broken = |change: &dyn Fn(&mut ShardEffects)| {
        let mut bad = good.clone();
        change(&mut bad[full]);
        cases.push((9, bad));
    };
    broken(&|one| one.shard = 4);
    broken(&|one| one.levels[0].push([1; 32]));
    broken(&|one| one.state.log_size += 1);
    broken(&|one| one.rows = RowChunk::new(one.rows.first_index, 9, 0));
    broken(&|one| one.rows.first_index += 1);
    broken(&|one| one.rows.bytes.push(0));
    broken(&|one| one.status_nodes.push((40, 1, [1; 32])));
    broken(&|one| one.status_nodes.push((41, 0, [1; 32])));
    broken(&|one| one.status_documents.push((0, vec![0; 65_537])));
    broken(&|one| one.ids.push((vec![0; 1025], one_place())));
    cases.push((9, vec![good[full].clone(), good[full].clone()]));
    for (i, (height, effects)) in cases.into_iter().enumerate() {
        let refused = store.apply(height, effects);
        assert!(matches!(refused, Err(StoreError::Refused(_))), "case {i}: {refused:?}");
        compare(&store, &model);
    }
    store.apply(9, good).unwrap();
    compare(&store, &ahead);
    // State does not become durable ahead of its block.
    assert!(matches!(store.flush(), Err(StoreError::Refused(_))));
    store.append_block(&block(9)).unwrap();
    assert_eq!(store.flush().unwrap(), 9);
}

fn one_place() -> IdPlace {
    IdPlace { log_index: 0, issue_index: 0, commitment: [0; 32], origin: Origin::Blue }
}

#[test]
fn too_much_that_is_not_flushed_is_busy_until_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut limits = config();
    limits.flush_rows = 10;
    let store = Store::open(dir.path(), limits).unwrap();
    let mut model = Model::new(3);
    let mut effects = model.next(20);
    (0..100).for_each(|height| store.append_block(&block(height)).unwrap());
    while store.apply(model.height, effects.clone()).is_ok() {
        effects = model.next(20);
        assert!(model.height < 90);
    }
    assert!(store.should_flush().unwrap() && !store.has_room().unwrap());
    let busy = store.apply(model.height, effects.clone());
    assert!(matches!(busy, Err(StoreError::Busy(_))));
    store.flush().unwrap();
    store.apply(model.height, effects).unwrap();
    compare(&store, &model);
}

#[test]
fn ids_can_be_rebuilt_from_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut model = Model::new(5);
    run(&store, &mut model, 12);
    // In several batches.
    store.config.flush_rows = 50;
    let shards = model.shards.iter().enumerate();
    let rows: Vec<_> = shards
        .flat_map(|(i, shard)| shard.ids.iter().map(move |(s, p)| (i as u32, s.clone(), *p)))
        .collect();
    let count = store.rebuild_ids(rows.clone().into_iter().rev()).unwrap();
    assert_eq!(count, rows.len() as u64);
    compare(&store, &model);
    // One that breaks off is noticed, and can be done again.
    let broken = store.rebuild_ids(rows[1..].iter().cloned().chain([(99, vec![], one_place())]));
    assert!(matches!(broken, Err(StoreError::Refused(_))));
    let (first, _) = model.shards[0].ids.first_key_value().unwrap();
    assert_eq!(store.find(0, first).unwrap(), None, "they were deleted before");
    drop(store);
    let refused = Store::open(dir.path(), config()).err().unwrap();
    assert!(refused.to_string().contains("rebuild the ids"), "{refused}");
    let mut repair = config();
    repair.repair = true;
    let mut store = Store::open(dir.path(), repair).unwrap();
    store.rebuild_ids(rows.into_iter()).unwrap();
    drop(store);
    compare(&open(dir.path()), &model);
}

#[test]
fn the_history_goes_on_where_the_flush_point_left_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let leaf = |height: u64| [height as u8; 32];
    assert!(store.history_append(&[vec![leaf(0)]], 1).is_err(), "no block, no history");
    (0..6).for_each(|height| store.append_block(&block(height)).unwrap());
    store.history_append(&[vec![leaf(0), leaf(1)], vec![[0xaa; 32]]], 2).unwrap();
    store.flush().unwrap();
    store.history_append(&[vec![leaf(2)]], 3).unwrap();
    assert_eq!(store.history_hash(0, 2).unwrap(), Some(leaf(2)));
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.history_size().unwrap(), store.tip()), (2, Some(5)));
    assert_eq!(store.history_hash(1, 0).unwrap(), Some([0xaa; 32]));
    assert_eq!(store.history_hash(0, 2).unwrap(), None);
}

#[test]
fn lost_blocks_and_a_lost_index_are_named_and_nothing_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new(1);
    let store = open(dir.path());
    run(&store, &mut model, 5);
    store.flush().unwrap();
    assert!(store.sizes().unwrap().log > 0 && store.sizes().unwrap().index > 0);
    drop(store);
    let blocks = dir.path().join("blocks/blocks");
    let whole = std::fs::read(&blocks).unwrap();
    std::fs::write(&blocks, &whole[..whole.len() / 2]).unwrap();
    let lost = Store::open(dir.path(), config()).err().unwrap();
    assert!(lost.is_fatal() && lost.to_string().contains("blocks are missing"), "{lost}");
    std::fs::write(&blocks, &whole).unwrap();
    std::fs::rename(dir.path().join("index"), dir.path().join("kept")).unwrap();
    assert!(Store::open(dir.path(), config()).err().unwrap().is_fatal());
    std::fs::remove_dir_all(dir.path().join("index")).ok();
    std::fs::rename(dir.path().join("kept"), dir.path().join("index")).unwrap();
    compare(&open(dir.path()), &model);
}
