//! Holds batches to OpenSSL: it verifies what the lanes sign, and the lanes verify what it signs,
//! altered signatures among both, on every backend that this machine has.
//!
//! `PIAOGEN_RANDOM` says how many; 100,000 are what a release should see. OpenSSL works through
//! `openssl_batch.c` beside this file, as a process for each signature would take most of an hour.
//! Where there is no C compiler, or no OpenSSL to compile with, the tests say so and pass.

#![allow(clippy::unwrap_used)]

mod common;

use common::Random;
use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::{Job, KeyTable, SecretKey, Signature};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const KEYS: usize = 40;
/// Signatures of one batch: more than the lanes take at a time, and no multiple of their widths.
const BATCH: usize = 1_999;

fn count() -> usize {
    std::env::var("PIAOGEN_RANDOM").map_or(400, |text| text.parse().unwrap())
}

/// The program, or nothing where it cannot be built or cannot do SM2.
fn program(folder: &Path) -> Option<PathBuf> {
    let path = folder.join("openssl_batch");
    let built = Command::new("cc")
        .args(["-O2", "tests/openssl_batch.c", "-lcrypto", "-o"])
        .arg(&path)
        .output()
        .is_ok_and(|output| output.status.success());
    if !built || !Command::new(&path).stdin(Stdio::null()).status().is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: no C compiler, or no OpenSSL 3 to compile with");
        return None;
    }
    Some(path)
}

/// The program's answers to tasks.
fn answers(program: &Path, tasks: String) -> Vec<String> {
    let mut child =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // From a thread of its own: both pipes may be full at once.
    let writer = std::thread::spawn(move || stdin.write_all(tasks.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "OpenSSL refused a key or a task");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

struct Case {
    key: usize,
    message: Vec<u8>,
}

fn cases(random: &mut Random, count: usize) -> Vec<Case> {
    let case = |_| {
        let length = 1 + random.below(200);
        let message = (0..length).map(|_| random.next() as u8).collect();
        Case { key: random.below(KEYS), message }
    };
    (0..count).map(case).collect()
}

fn keys(random: &mut Random) -> Vec<SecretKey> {
    let key = |_| {
        let bytes = std::array::from_fn(|_| random.next() as u8);
        SecretKey::from_bytes(&bytes).unwrap()
    };
    (0..KEYS).map(key).collect()
}

/// Every fourth signature altered in one bit, and which ones.
fn alter(random: &mut Random, signatures: &mut [Signature]) -> Vec<bool> {
    signatures
        .iter_mut()
        .map(|signature| {
            let alters = random.below(4) == 0;
            if alters {
                signature.0[random.below(64)] ^= 1 << random.below(8);
            }
            !alters
        })
        .collect()
}

#[test]
fn openssl_verifies_what_the_lanes_sign() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let Some(program) = program(folder.path()) else { return };
    let mut random = Random::new(1);
    let keys = keys(&mut random);
    let public: Vec<String> =
        keys.iter().map(|key| hex::encode(key.public_key().to_spki_der())).collect();
    let mut checked = 0;
    while checked < count() {
        let cases = cases(&mut random, BATCH.min(count() - checked));
        let jobs: Vec<(&SecretKey, &[u8])> =
            cases.iter().map(|case| (&keys[case.key], &case.message[..])).collect();
        let mut signatures = vec![Signature([0; 64]); cases.len()];
        for lanes in Lanes::all() {
            let mut signed = signatures.clone();
            lanes.sm2_sign(&jobs, &mut signed);
            // One for all: signatures are deterministic, so every backend gives the same ones.
            assert!(signatures[0].0 == [0; 64] || signatures == signed, "{}", lanes.name());
            signatures = signed;
        }
        let good = alter(&mut random, &mut signatures);
        let mut tasks = String::new();
        for (case, signature) in cases.iter().zip(&signatures) {
            let (message, der) = (hex::encode(&case.message), hex::encode(signature.to_der()));
            writeln!(tasks, "verify {} {message} {der}", public[case.key]).unwrap();
        }
        let verdicts: Vec<bool> = answers(&program, tasks).iter().map(|text| text == "1").collect();
        assert_eq!(verdicts, good, "from {checked} on");
        checked += cases.len();
    }
    println!("OpenSSL agreed on {checked} signatures of the lanes");
}

#[test]
fn the_lanes_verify_what_openssl_signs() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let Some(program) = program(folder.path()) else { return };
    let mut random = Random::new(2);
    let keys = keys(&mut random);
    let secret: Vec<String> = keys.iter().map(|key| hex::encode(&*key.to_pkcs8_der())).collect();
    let public: Vec<_> = keys.iter().map(SecretKey::public_key).collect();
    let mut checked = 0;
    while checked < count() {
        let cases = cases(&mut random, BATCH.min(count() - checked));
        let mut tasks = String::new();
        for case in &cases {
            let message = hex::encode(&case.message);
            writeln!(tasks, "sign {} {message}", secret[case.key]).unwrap();
        }
        let read = |hex: &String| Signature::from_der(&hex::decode(hex).unwrap()).unwrap();
        let mut signatures: Vec<Signature> = answers(&program, tasks).iter().map(read).collect();
        let good = alter(&mut random, &mut signatures);
        let jobs: Vec<Job<'_>> = cases
            .iter()
            .zip(&signatures)
            .map(|(case, signature)| Job {
                key: &public[case.key],
                message: &case.message,
                signature,
            })
            .collect();
        for lanes in Lanes::all() {
            let tables = lanes.sm2_tables(&public.iter().collect::<Vec<_>>());
            let known: Vec<Option<&KeyTable>> =
                cases.iter().map(|case| Some(&tables[case.key])).collect();
            for known in [&known[..], &[]] {
                let mut verdicts = vec![false; jobs.len()];
                lanes.sm2_verify_known(&jobs, known, &mut verdicts);
                let name = lanes.name();
                assert_eq!(verdicts, good, "{name}, {} tables, from {checked} on", known.len());
            }
        }
        checked += jobs.len();
    }
    println!("the lanes agreed on {checked} signatures of OpenSSL");
}
