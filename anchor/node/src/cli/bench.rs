//! `piaogen bench crypto`: what this processor computes a second, with every backend that it has.
//!
//! Each figure is the best of several windows, which is what the machine does when left alone, on
//! one core and on all at once. `openssl speed`, where OpenSSL is installed, runs in between, as a
//! peer that anyone knows: a ratio taken in one run says more than a figure from another day.

use super::{Output, progress};
use anyhow::{Context, Result, ensure};
use piaogen_crypto::{Digest, Lanes, sm2, sm3};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Hash, verify and sign with every backend of this processor, beside OpenSSL.
    Crypto(CryptoArguments),
}

#[derive(Debug, clap::Args)]
struct CryptoArguments {
    /// How long each figure is measured.
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    seconds: f64,
}

/// Windows of each figure.
const WINDOWS: u32 = 5;
/// Messages of a batch that is hashed.
const HASHES: usize = 1_024;
/// Signatures of a batch.
const SIGNATURES: usize = 2_048;
/// Keys that take turns in a batch.
const KEYS: usize = 64;

/// What is measured; the name is the key in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Hash64,
    Hash512,
    Hash16K,
    Interior,
    VerifyKnown,
    VerifyUnknown,
    Sign,
}

impl Operation {
    const ALL: [Operation; 7] = [
        Operation::Hash64,
        Operation::Hash512,
        Operation::Hash16K,
        Operation::Interior,
        Operation::VerifyKnown,
        Operation::VerifyUnknown,
        Operation::Sign,
    ];

    fn name(self) -> &'static str {
        match self {
            Operation::Hash64 => "sm3_64_bytes",
            Operation::Hash512 => "sm3_512_bytes",
            Operation::Hash16K => "sm3_16384_bytes",
            Operation::Interior => "sm3_interior",
            Operation::VerifyKnown => "sm2_verify_known_keys",
            Operation::VerifyUnknown => "sm2_verify_unknown_keys",
            Operation::Sign => "sm2_sign",
        }
    }

    /// The figure of OpenSSL that it stands beside.
    fn peer(self) -> &'static str {
        match self {
            Operation::Hash64 | Operation::Interior => "sm3_64",
            Operation::Hash512 => "sm3_512",
            Operation::Hash16K => "sm3_16384",
            Operation::VerifyKnown | Operation::VerifyUnknown => "verify",
            Operation::Sign => "sign",
        }
    }
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let What::Crypto(CryptoArguments { seconds }) = arguments.what;
    ensure!((0.01..=60.0).contains(&seconds), "--seconds {seconds} is not within 0.01 to 60");
    let window = Duration::from_secs_f64(seconds / f64::from(WINDOWS));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = Work::new()?;
    let backends = Lanes::all();
    let bar = progress((backends.len() * Operation::ALL.len()) as u64, "measuring");
    let peer = openssl(seconds);
    let mut rows = Vec::new();
    for lanes in backends {
        for operation in Operation::ALL {
            let one = work.best(lanes, operation, window);
            let all = work.best_on(cores, lanes, operation, window);
            rows.push(Row { lanes, operation, one, all });
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let json: Vec<_> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "operation": row.operation.name(), "backend": row.lanes.name(),
                "one_core_per_second": row.one, "all_cores_per_second": row.all,
                "openssl_per_second": peer.get(row.operation.peer()),
            })
        })
        .collect();
    let json = serde_json::json!({ "cores": cores, "seconds": seconds, "figures": json });
    output.print(&json, || table(&rows, &peer, cores))
}

/// Signatures of known keys that one core verifies a second: in `lanes`, and portably. A first
/// impression, which takes about a second, most of it for one portable batch.
pub(super) fn glance(lanes: Lanes) -> Result<(f64, f64)> {
    let work = Work::new()?;
    let (known, window) = (Operation::VerifyKnown, Duration::from_millis(20));
    Ok((work.best(lanes, known, window), work.rate(Lanes::portable(), known, window)))
}

struct Row {
    lanes: Lanes,
    operation: Operation,
    one: f64,
    all: f64,
}

fn table(rows: &[Row], peer: &BTreeMap<&'static str, f64>, cores: usize) -> String {
    let all = format!("{cores} cores");
    let mut text = format!(
        "{:<25}{:<10}{:>13}{:>13}{:>12}{:>12}\n",
        "operations a second", "backend", "1 core", all, "× portable", "× OpenSSL"
    );
    for operation in Operation::ALL {
        let of_this = || rows.iter().filter(|row| row.operation == operation);
        let portable = of_this().next().map_or(f64::NAN, |row| row.one);
        for row in of_this() {
            let ratio = match peer.get(operation.peer()) {
                Some(peer) => format!("{:.1}", row.one / peer),
                None => "-".into(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<25}{:<10}{:>13.0}{:>13.0}{:>12.1}{:>12}",
                operation.name(),
                row.lanes.name(),
                row.one,
                row.all,
                row.one / portable,
                ratio
            );
        }
    }
    if peer.is_empty() {
        text.push_str("no `openssl` that speaks SM2 and SM3 is installed to compare with\n");
    }
    text
}

/// What the operations work on.
struct Work {
    message: Vec<u8>,
    children: Vec<Digest>,
    secrets: Vec<sm2::SecretKey>,
    keys: Vec<sm2::PublicKey>,
    signatures: Vec<sm2::Signature>,
    tables: Vec<sm2::KeyTable>,
}

impl Work {
    fn new() -> Result<Work> {
        let secrets = (1..=KEYS as u64)
            .map(|i| sm2::SecretKey::from_bytes(&sm3::hash(&i.to_be_bytes())))
            .collect::<Result<Vec<_>, _>>()
            .context("making keys")?;
        let message = vec![0x5a; 16_384];
        let jobs: Vec<_> = secrets.iter().map(|key| (key, &message[..SIGNED])).collect();
        let mut signatures = vec![sm2::Signature([0; 64]); KEYS];
        Lanes::detect().sm2_sign(&jobs, &mut signatures);
        let keys: Vec<_> = secrets.iter().map(sm2::SecretKey::public_key).collect();
        let tables = Lanes::detect().sm2_tables(&keys.iter().collect::<Vec<_>>());
        let children = (0..2 * HASHES).map(|i| sm3::hash(&i.to_be_bytes())).collect();
        Ok(Work { message, children, secrets, keys, signatures, tables })
    }

    /// Operations a second on this thread, the best of the windows.
    fn best(&self, lanes: Lanes, operation: Operation, window: Duration) -> f64 {
        (0..WINDOWS).map(|_| self.rate(lanes, operation, window)).fold(0.0, f64::max)
    }

    /// As [`Work::best`], on so many threads at once.
    fn best_on(&self, threads: usize, lanes: Lanes, operation: Operation, window: Duration) -> f64 {
        let together = || {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..threads)
                    .map(|_| scope.spawn(|| self.rate(lanes, operation, window)))
                    .collect();
                threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
            })
        };
        (0..WINDOWS).map(|_| together()).fold(0.0, f64::max)
    }

    fn rate(&self, lanes: Lanes, operation: Operation, window: Duration) -> f64 {
        match operation {
            Operation::Hash64 => self.hashes(lanes, 64, window),
            Operation::Hash512 => self.hashes(lanes, 512, window),
            Operation::Hash16K => self.hashes(lanes, 16_384, window),
            Operation::Interior => {
                let mut out = vec![[0; 32]; HASHES];
                repeat(window, HASHES, || {
                    lanes.sm3_pairs(1, black_box(&self.children), &mut out);
                })
            }
            Operation::VerifyKnown => self.verifications(lanes, true, window),
            Operation::VerifyUnknown => self.verifications(lanes, false, window),
            Operation::Sign => {
                let jobs: Vec<_> = (0..SIGNATURES)
                    .map(|i| (&self.secrets[i % KEYS], &self.message[i..i + SIGNED]))
                    .collect();
                let mut out = vec![sm2::Signature([0; 64]); SIGNATURES];
                repeat(window, SIGNATURES, || lanes.sm2_sign(black_box(&jobs), &mut out))
            }
        }
    }

    fn hashes(&self, lanes: Lanes, length: usize, window: Duration) -> f64 {
        let messages = vec![&self.message[..length]; HASHES];
        let mut out = vec![[0; 32]; HASHES];
        repeat(window, HASHES, || lanes.sm3_many(black_box(&messages), &mut out))
    }

    fn verifications(&self, lanes: Lanes, known: bool, window: Duration) -> f64 {
        let jobs: Vec<_> = (0..SIGNATURES)
            .map(|i| sm2::Job {
                key: &self.keys[i % KEYS],
                message: &self.message[..SIGNED],
                signature: &self.signatures[i % KEYS],
            })
            .collect();
        let tables: Vec<_> =
            (0..SIGNATURES).map(|i| known.then(|| &self.tables[i % KEYS])).collect();
        let mut out = vec![false; SIGNATURES];
        repeat(window, SIGNATURES, || {
            lanes.sm2_verify_known(black_box(&jobs), &tables, &mut out);
            assert!(out.iter().all(|valid| *valid), "these signatures hold");
        })
    }
}

/// Bytes of what is signed: what a record signs.
const SIGNED: usize = piaogen_verify::record::SIGNED_LEN;

/// Repeats `work`, which does `count` operations, at least once, for a window.
fn repeat(window: Duration, count: usize, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut done = 0;
    loop {
        work();
        done += count;
        let elapsed = start.elapsed();
        if elapsed >= window {
            return done as f64 / elapsed.as_secs_f64();
        }
    }
}

/// What `openssl speed` says, as operations a second; nothing where it is not installed.
fn openssl(seconds: f64) -> BTreeMap<&'static str, f64> {
    let seconds = seconds.ceil().to_string();
    let speed = |arguments: &[&str]| -> Option<String> {
        let mut command = Command::new("openssl");
        command.args(["speed", "-mr", "-seconds", &seconds]).args(arguments);
        let done = command.output().ok().filter(|done| done.status.success())?;
        String::from_utf8(done.stdout).ok()
    };
    let field = |text: &str, line: &str, from_end: usize| -> Option<f64> {
        text.lines().find(|l| l.starts_with(line))?.rsplit(':').nth(from_end)?.trim().parse().ok()
    };
    let mut figures = BTreeMap::new();
    for (name, bytes) in [("sm3_64", "64"), ("sm3_512", "512"), ("sm3_16384", "16384")] {
        let text = speed(&["-evp", "sm3", "-bytes", bytes]).unwrap_or_default();
        let length: f64 = bytes.parse().unwrap_or(f64::NAN);
        figures.extend(field(&text, "+F:", 0).map(|rate| (name, rate / length)));
    }
    // The last two fields are signatures and verifications a second.
    let text = speed(&["sm2"]).unwrap_or_default();
    figures.extend(field(&text, "+F7:", 1).map(|rate| ("sign", rate)));
    figures.extend(field(&text, "+F7:", 0).map(|rate| ("verify", rate)));
    figures
}
