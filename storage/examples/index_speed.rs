//! How fast the store takes ids, and what they cost on disk.
//!
//! `index_speed [COUNT] [RECORD_BYTES] [DIR]`: looks up and inserts COUNT ids (default 5 million)
//! in blocks over 8 shards, flushing beside it as a node does, with records of RECORD_BYTES
//! (default 0: index and logs alone). Prints ids a second, CPU time, look-up times, bytes on disk.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use piaogen_storage::{
    Block, HEADER_BYTES, IdPlace, Result, RowChunk, ShardEffects, ShardState, Store, StoreConfig,
};
use piaogen_verify::status::Origin;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SHARDS: u32 = 8;
const PER_BLOCK: u64 = 80_000;

fn subject(shard: u32, i: u64) -> Vec<u8> {
    // Numbers of 20 digits, scattered as those of many sellers are.
    let mixed = (i * u64::from(SHARDS) + u64::from(shard)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("\x07CN-NEXT\x1426{:018}", mixed % 1_000_000_000_000_000_000).into_bytes()
}

fn effects(shard: u32, from: u64, to: u64, height: u64, record: usize) -> Result<ShardEffects> {
    let mut rng = ChaCha8Rng::seed_from_u64(from << 8 | u64::from(shard));
    let levels = (0..64).take_while(|level| to >> level > 0);
    let mut rows = RowChunk::new(from, height, 0);
    let mut filler = vec![0u8; record];
    let ids = (from..to).map(|i| {
        let place = IdPlace {
            log_index: i,
            issue_index: i,
            commitment: rng.random(),
            origin: Origin::Blue,
        };
        (subject(shard, i), place)
    });
    let ids = ids.collect();
    for _ in from..to {
        // Half random, half text: about what a signed record is.
        rng.fill(&mut filler[..record / 2]);
        rows.push(&[], &filler)?;
    }
    Ok(ShardEffects {
        shard,
        levels: levels
            .map(|level| {
                let count = (to >> level) - (from >> level);
                (0..count).map(|_| [7; 32]).collect()
            })
            .collect(),
        ids,
        rows,
        state: ShardState { log_size: to, invoices: to, ..ShardState::default() },
        ..ShardEffects::default()
    })
}

/// CPU seconds of this process so far, all threads.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// CPU seconds of the calling thread so far.
fn thread_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

#[derive(Default)]
struct Times {
    made: Duration,
    looked_up: Duration,
    applied: Duration,
    worst: Duration,
    made_cpu: f64,
}

fn run(store: &Store, count: u64, record: usize, times: &mut Times) -> Result<()> {
    let per_shard = PER_BLOCK / u64::from(SHARDS);
    for height in 1..=count.div_ceil(PER_BLOCK) {
        let (from, to) = ((height - 1) * per_shard, height * per_shard);
        let (start, before) = (Instant::now(), thread_cpu());
        let all: Result<Vec<_>> =
            (0..SHARDS).map(|shard| effects(shard, from, to, height, record)).collect();
        let all = all?;
        times.made += start.elapsed();
        times.made_cpu += thread_cpu() - before;
        let start = Instant::now();
        for one in &all {
            let keys: Vec<&[u8]> = one.ids.iter().map(|(subject, _)| &subject[..]).collect();
            let found = store.find_many(one.shard, &keys)?;
            assert!(found.iter().all(Option::is_none));
        }
        times.looked_up += start.elapsed();
        let start = Instant::now();
        store.append_block(&Block {
            height,
            header: vec![0; HEADER_BYTES],
            cut: Vec::new(),
            finalization: Vec::new(),
        })?;
        while !store.has_room()? {
            std::thread::sleep(Duration::from_millis(5));
        }
        store.apply(height, all)?;
        times.applied += start.elapsed();
        times.worst = times.worst.max(start.elapsed());
    }
    Ok(())
}

fn present(store: &Store, count: u64) -> Result<f64> {
    let per_shard = count.div_ceil(PER_BLOCK) * PER_BLOCK / u64::from(SHARDS);
    let subjects: Vec<_> = (0..20_000).map(|i| subject(3, i * 7919 % per_shard)).collect();
    let start = Instant::now();
    for subject in &subjects {
        assert!(store.find(3, subject)?.is_some());
    }
    Ok(start.elapsed().as_secs_f64() / subjects.len() as f64 * 1e6)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize, default| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (count, record) = (number(1, 5_000_000), number(2, 0) as usize);
    let default = std::env::temp_dir().join(format!("index-speed-{}", std::process::id()));
    let dir = args.get(3).map_or(default, PathBuf::from);
    let store = Store::open(&dir, StoreConfig::new([0; 32], SHARDS))?;
    let genesis = Block {
        height: 0,
        header: vec![0; HEADER_BYTES],
        cut: Vec::new(),
        finalization: Vec::new(),
    };
    store.append_block(&genesis)?;
    let (done, mut times) = (AtomicBool::new(false), Times::default());
    let (start, cpu_start) = (Instant::now(), cpu());
    std::thread::scope(|scope| -> Result<()> {
        let flusher = scope.spawn(|| -> Result<(u32, Duration)> {
            let (mut flushes, mut took) = (0, Duration::ZERO);
            while !done.load(Ordering::Relaxed) {
                if store.should_flush()? {
                    let start = Instant::now();
                    store.flush()?;
                    (flushes, took) = (flushes + 1, took + start.elapsed());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok((flushes, took))
        });
        let ran = run(&store, count, record, &mut times);
        done.store(true, Ordering::Relaxed);
        let (flushes, took) = flusher.join().expect("the flusher does not panic")?;
        println!("{flushes} flushes beside, {:.2} s each", took.as_secs_f64() / f64::from(flushes));
        ran
    })?;
    store.flush()?;
    let wall = (start.elapsed() - times.made).as_secs_f64();
    let cpu = cpu() - cpu_start - times.made_cpu;
    let n = count.div_ceil(PER_BLOCK) as f64 * PER_BLOCK as f64;
    println!("{n} ids in {wall:.2} s: {:.0} ids/s; CPU {:.2} us an id", n / wall, cpu / n * 1e6);
    println!("absent look-up {:.2} us", times.looked_up.as_secs_f64() / n * 1e6);
    println!(
        "apply {:.2} us an id, worst block {:?}",
        times.applied.as_secs_f64() / n * 1e6,
        times.worst
    );
    println!("present look-up, one at a time: {:.2} us", present(&store, count)?);
    let each = |name: &str, sizes: piaogen_storage::Sizes| {
        let per = |bytes: u64| bytes as f64 / n;
        let (index, log, tail) = (per(sizes.index), per(sizes.log), per(sizes.tail));
        println!("{name}: bytes an id: index {index:.1}, log {log:.1}, tail {tail:.1}");
    };
    each("as it is", store.sizes()?);
    if record == 0 {
        store.merge_index()?;
        each("merged", store.sizes()?);
        println!("present look-up, merged: {:.2} us", present(&store, count)?);
    }
    drop(store);
    let start = Instant::now();
    let store = Store::open(&dir, StoreConfig::new([0; 32], SHARDS))?;
    println!("opened again in {:?} at height {}", start.elapsed(), store.recovered().height);
    drop(store);
    std::fs::remove_dir_all(&dir).ok();
    Ok(())
}
