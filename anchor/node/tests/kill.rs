//! Kills a node at random moments; nothing may be lost, doubled or different.
//!
//! Two nodes follow the same stream: one is never interrupted, the other is killed twenty times with
//! SIGKILL in the middle of its work. In the end every log and status root must be the same.
//! `PIAOGEN_KILL_RECORDS` sets another volume, `PIAOGEN_KILL_SEED` other moments.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use common::{Carrier, Chain, generator, kafka, prefix, send_all, send_registrations};
use std::path::Path;
use std::time::Duration;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A small generator of moments; the seed is printed, so that a failure can be repeated.
struct Moments(u64);

impl Moments {
    fn next(&mut self, least: u64, most: u64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(least + self.0 % (most - least))
    }
}

fn run(root: &Path, carrier: Carrier<'_>, records: u64) {
    let frequent = "[store]\nflush_interval_ms = 300\n[blocks]\ninterval_ms = 50\n";
    let calm = Chain::create(&root.join("calm"), carrier, 4, frequent);
    let killed = Chain::create(&root.join("killed"), carrier, 4, frequent);
    let generator = generator(&calm, 50);
    send_registrations(&calm, &generator.registrations(&calm.keys.authority));
    calm.drain();
    killed.drain();
    send_all(&calm, &generator, records);
    calm.drain();
    let seed = setting("PIAOGEN_KILL_SEED", std::process::id().into()).max(1);
    eprintln!("PIAOGEN_KILL_SEED={seed}");
    let mut moments = Moments(seed);
    for _ in 0..20 {
        let node = killed.spawn();
        std::thread::sleep(moments.next(30, 600 + records / 200));
        node.kill();
    }
    killed.drain();
    assert_eq!(calm.shards(), killed.shards());
    assert!(killed.check() >= records);
    calm.check();
}

#[test]
fn killed_twenty_times_over_the_embedded_log() {
    let root = tempfile::tempdir().unwrap();
    let stream = root.path().join("stream");
    run(root.path(), Carrier::Shared(&stream), setting("PIAOGEN_KILL_RECORDS", 20_000));
}

#[test]
fn killed_twenty_times_over_kafka() {
    let Some(broker) = kafka("killed_twenty_times_over_kafka") else { return };
    let root = tempfile::tempdir().unwrap();
    let prefix = prefix("kill");
    let carrier = Carrier::Kafka(&broker, &prefix);
    run(root.path(), carrier, setting("PIAOGEN_KILL_RECORDS", 20_000));
}
