//! Asks by statistics whether the time of signing tells something of the key or the nonce.
//!
//! The method is that of dudect (Reparaz, Balasch, Verbauwhede: Dude, is my code constant time?,
//! 2017). An operation is measured with inputs of two classes, one input again and again and random
//! ones, in random turns; Welch's t says whether the two means differ by more than chance. The
//! longest times are left out at several quantiles, as interrupts hide small differences, and the
//! largest |t| counts. Verification, which may take what time it takes, is the control that the
//! method has to find out.
//!
//! A |t| above 10 is a leak, below 5 nothing was found; that proves no absence of leaks. The
//! inputs of both classes are prepared before anything is measured and lie mixed in memory: with
//! two pools apart, the addresses alone made a difference.
//!
//! Minutes of a quiet machine are needed, so it runs on demand only:
//! `cargo test --release -p piaogen-crypto --test constant_time -- --ignored --nocapture`;
//! `PIAOGEN_SECONDS` says how long each operation is measured, 10 by default.

#![allow(clippy::unwrap_used)]

mod common;

use common::Random;
use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::{Job, PublicKey, SecretKey, Signature, verify};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Inputs of each class; a power of two.
const POOL: usize = 256;
/// Signatures of one batch.
const BATCH: usize = 64;
const LEAK: f64 = 10.0;

/// What is signed, and with which key.
struct Input {
    key: SecretKey,
    public: PublicKey,
    message: [u8; 32],
    signature: Signature,
}

fn input(key: [u8; 32], message: [u8; 32]) -> Input {
    let key = SecretKey::from_bytes(&key).unwrap();
    let signature = key.sign(&message);
    Input { public: key.public_key(), key, message, signature }
}

/// The inputs of both classes.
struct Pools {
    /// Of both, in random order: addresses must not tell the class.
    inputs: Vec<Input>,
    /// Where those of each class lie.
    places: [Vec<usize>; 2],
}

impl Pools {
    /// Fixed inputs, and random ones, whose keys vary if `keys` says so. The nonce depends on key
    /// and message, so it varies always.
    fn new(keys: bool) -> Self {
        const FIXED: [u8; 32] = [0x5a; 32];
        let mut random = Random::new(7);
        let mut pools = Self { inputs: Vec::new(), places: [Vec::new(), Vec::new()] };
        while pools.places.iter().any(|places| places.len() < POOL) {
            let class = random.below(2);
            let mut bytes = || std::array::from_fn(|_| random.next() as u8);
            let (key, message) = (bytes(), bytes());
            let (key, message) = match class {
                0 => (FIXED, FIXED),
                _ => (if keys { key } else { FIXED }, message),
            };
            if pools.places[class].len() < POOL {
                pools.places[class].push(pools.inputs.len());
                pools.inputs.push(input(key, message));
            }
        }
        pools
    }

    fn class(&self, class: usize) -> Vec<&Input> {
        self.places[class].iter().map(|place| &self.inputs[*place]).collect()
    }
}

/// Mean, variance and count of times.
fn moments(times: &[f64]) -> (f64, f64, f64) {
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance, count)
}

fn welch(a: &[f64], b: &[f64]) -> f64 {
    let ((mean_a, var_a, n_a), (mean_b, var_b, n_b)) = (moments(a), moments(b));
    (mean_a - mean_b) / (var_a / n_a + var_b / n_b).sqrt()
}

/// The t of the largest size over all croppings.
fn largest_t(times: &[Vec<f64>; 2]) -> f64 {
    let mut all = times.concat();
    all.sort_by(f64::total_cmp);
    let mut largest = 0.0f64;
    for kept in [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0] {
        let most = all[((all.len() as f64 * kept) as usize).clamp(1, all.len()) - 1];
        let [a, b] = times.each_ref().map(|class| -> Vec<f64> {
            class.iter().copied().filter(|time| *time <= most).collect()
        });
        if a.len().min(b.len()) < 100 {
            continue;
        }
        let t = welch(&a, &b);
        if t.abs() > largest.abs() {
            largest = t;
        }
    }
    largest
}

/// Measures `operation` on inputs from the given place on of a pool; prints and gives t.
fn measure(name: &str, pools: &Pools, mut operation: impl FnMut(&[&Input], usize)) -> f64 {
    let seconds = std::env::var("PIAOGEN_SECONDS").map_or(10, |text| text.parse().unwrap());
    let mut random = Random::new(11);
    let inputs = [pools.class(0), pools.class(1)];
    let mut times = [Vec::new(), Vec::new()];
    let begin = Instant::now();
    let mut round = 0;
    while begin.elapsed() < Duration::from_secs(seconds) {
        let turn = random.next();
        let (class, place) = ((turn >> 40) as usize % 2, (turn >> 20) as usize % POOL);
        let start = Instant::now();
        operation(&inputs[class], place);
        let time = start.elapsed().as_nanos() as f64;
        // The first ones warm up.
        if round >= 200 {
            times[class].push(time);
        }
        round += 1;
    }
    let t = largest_t(&times);
    let mean = moments(&times[0]).0 / 1000.0;
    println!("{name:48} {round:8} times  {mean:9.1} us  t = {t:8.2}");
    t
}

fn lanes_sign(lanes: Lanes, pool: &[&Input], place: usize, out: &mut [Signature]) {
    let inputs = (0..BATCH).map(|i| pool[(place + i) % POOL]);
    let jobs: Vec<(&SecretKey, &[u8])> =
        inputs.map(|input| (&input.key, &input.message[..])).collect();
    lanes.sm2_sign(&jobs, out);
}

fn lanes_verify(lanes: Lanes, pool: &[&Input], place: usize, out: &mut [bool]) {
    let inputs = (0..BATCH).map(|i| pool[(place + i) % POOL]);
    let jobs: Vec<Job<'_>> = inputs
        .map(|input| Job {
            key: &input.public,
            message: &input.message,
            signature: &input.signature,
        })
        .collect();
    lanes.sm2_verify(&jobs, out);
}

#[test]
#[ignore = "measures for a minute, and wants the machine for itself"]
fn signing_takes_the_same_time_whatever_key_and_nonce() {
    let (both, nonces) = (Pools::new(true), Pools::new(false));
    let mut found = Vec::new();
    for (what, pools) in [("key and nonce", &both), ("nonce", &nonces)] {
        found.push(measure(&format!("sign, {what}"), pools, |pool, place| {
            black_box(pool[place].key.sign(&pool[place].message));
        }));
        for lanes in Lanes::all().into_iter().skip(1) {
            let mut out = vec![Signature([0; 64]); BATCH];
            let name = format!("{BATCH} in lanes of {}, {what}", lanes.name());
            found.push(measure(&name, pools, |pool, place| {
                lanes_sign(lanes, pool, place, &mut out);
                black_box(&out);
            }));
        }
    }
    let control = measure("control: verify", &both, |pool, place| {
        let input = pool[place];
        assert!(verify(&input.public, &input.message, &input.signature));
    });
    assert!(control.abs() > LEAK, "the method has missed the control: t = {control}");
    let lanes = Lanes::detect();
    let mut out = vec![false; BATCH];
    measure(&format!("control: {BATCH} verified by {}", lanes.name()), &both, |pool, place| {
        lanes_verify(lanes, pool, place, &mut out);
        assert!(out.iter().all(|good| *good));
    });
    assert!(found.iter().all(|t| t.abs() < LEAK), "a leak: t = {found:?}");
}
