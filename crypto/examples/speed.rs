//! Prints how many operations a second one core does, so that backends and peers can be compared.
//!
//! Each line is the best of several windows, which is what the machine can do when left alone.

use ::sm3::Digest as _;
use piaogen_crypto::{Digest, Lanes, sm2, sm3};
use std::hint::black_box;
use std::time::{Duration, Instant};

const WINDOWS: usize = 25;
const WINDOW: Duration = Duration::from_millis(10);

/// Runs `work`, which does `count` operations, and prints the best rate.
fn measure(name: &str, count: usize, bytes: usize, mut work: impl FnMut()) {
    let mut best = 0.0f64;
    for _ in 0..WINDOWS {
        let start = Instant::now();
        let mut done = 0;
        while start.elapsed() < WINDOW {
            work();
            done += count;
        }
        best = best.max(done as f64 / start.elapsed().as_secs_f64());
    }
    let megabytes = best * bytes as f64 / 1e6;
    let rate = if bytes > 0 { format!("{megabytes:10.0} MB/s") } else { String::new() };
    println!("{name:<28}{best:>14.0} /s{rate}");
}

fn main() {
    let lanes = Lanes::detect();
    println!("backend {}", lanes.name());
    for length in [32, 64, 512, 16384] {
        let message = vec![0x5a; length];
        measure(&format!("sm3::hash {length}"), 1, length, || {
            black_box(sm3::hash(black_box(&message)));
        });
        measure(&format!("  the sm3 crate {length}"), 1, length, || {
            black_box(::sm3::Sm3::digest(black_box(&message)));
        });
        let messages = vec![&message[..]; 64];
        let mut out = vec![[0; 32]; 64];
        measure(&format!("sm3_many 64 x {length}"), 64, length, || {
            lanes.sm3_many(black_box(&messages), &mut out);
        });
    }
    let children: Vec<Digest> = (0..2048).map(|i| [i as u8; 32]).collect();
    let mut parents = vec![[0; 32]; 1024];
    measure("sm3_pairs", 1024, 65, || lanes.sm3_pairs(1, black_box(&children), &mut parents));

    let key = sm2::SecretKey::from_bytes(&[7; 32]).expect("in range");
    let public = key.public_key();
    let message = [0x5a; 512];
    let signature = key.sign(&message);
    measure("sm2 sign 512", 1, 0, || {
        black_box(key.sign(black_box(&message)));
    });
    measure("sm2::verify 512", 1, 0, || {
        assert!(sm2::verify(&public, black_box(&message), &signature));
    });
    let compressed = public.to_compressed();
    measure("sm2 from_compressed", 1, 0, || {
        black_box(sm2::PublicKey::from_compressed(black_box(&compressed)).expect("on the curve"));
    });
}
