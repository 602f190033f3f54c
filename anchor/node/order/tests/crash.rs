//! Kills a validator with SIGKILL again and again and checks that its chain never forks.
//!
//! The test runs itself as a child process: an application that keeps blocks and finalizations in
//! two files. After every kill the parent reads the files: what was final stays final, in one chain
//! from genesis, every block with a valid certificate of its own. Sometimes the parent also cuts
//! the newest finalizations off, as if the application's disk were behind the engine's, and they
//! must come back unchanged.

#![allow(clippy::unwrap_used, reason = "a test; helpers outside test functions included")]

use piaogen_crypto::sm2::{PublicKey, SecretKey};
use piaogen_crypto::{Digest, sm3};
use piaogen_order::{Application, FinalBlock, Finalized, Identity, OrderConfig, Verdict, start};
use piaogen_verify::evidence::Evidence;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const NAMESPACE: &[u8] = b"piaogen-crash";
const GENESIS: Digest = [0x67; 32];
const FOLDER: &str = "PIAOGEN_CRASH_FOLDER";
const KILLS: usize = 12;

fn secret() -> SecretKey {
    SecretKey::from_bytes(&[5; 32]).unwrap()
}

/// Parent, height, view and a number that no other run of the process would use.
const BLOCK: usize = 32 + 8 + 8 + 8;

fn blocks(folder: &Path) -> HashMap<Digest, Vec<u8>> {
    let bytes = fs::read(folder.join("blocks")).unwrap_or_default();
    bytes.chunks_exact(BLOCK).map(|block| (sm3::hash(block), block.to_vec())).collect()
}

fn identity(body: &[u8]) -> Identity {
    let parent = body[..32].try_into().unwrap();
    let height = u64::from_be_bytes(body[32..40].try_into().unwrap());
    Identity { block: sm3::hash(body), parent, height, closes: false }
}

/// Finalizations, with the place in the file where each ends.
fn finals(folder: &Path) -> Vec<(Vec<u8>, u64)> {
    let bytes = fs::read(folder.join("finals")).unwrap_or_default();
    let (mut at, mut finals) = (0, Vec::new());
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let Some(finalization) = bytes.get(at + 4..at + 4 + length) else { break };
        at += 4 + length;
        finals.push((finalization.to_vec(), at as u64));
    }
    finals
}

struct Files {
    blocks: Mutex<(File, HashMap<Digest, Vec<u8>>)>,
    finals: Mutex<(File, Identity)>,
}

impl Files {
    fn open(folder: &Path) -> (Self, Option<Vec<u8>>) {
        let open = |name, end| {
            let path = folder.join(name);
            let mut options = OpenOptions::new();
            let file = options.append(true).create(true).open(path).unwrap();
            // What was torn by the kill is cut off.
            file.set_len(end).unwrap();
            file
        };
        let whole = fs::metadata(folder.join("blocks")).map_or(0, |meta| meta.len());
        let known = blocks(folder);
        let genesis = Identity { block: GENESIS, parent: [0; 32], height: 0, closes: false };
        let newest = finals(folder).pop();
        let last = newest.as_ref().map_or(genesis, |(bytes, _)| {
            identity(&known[&Finalized::decode(bytes).unwrap().block])
        });
        let end = newest.as_ref().map_or(0, |(_, end)| *end);
        let files = Self {
            blocks: Mutex::new((open("blocks", whole - whole % BLOCK as u64), known)),
            finals: Mutex::new((open("finals", end), last)),
        };
        let last = newest;
        (files, last.map(|(bytes, _)| bytes))
    }
}

impl Application for Files {
    fn identify(&self, body: &[u8]) -> Option<Identity> {
        (body.len() == BLOCK).then(|| identity(body))
    }

    fn propose(&self, view: u64, parent: Digest) -> Option<Digest> {
        std::thread::sleep(Duration::from_millis(rand::random_range(0..20)));
        let number: u64 = rand::random();
        let mut blocks = self.blocks.lock().unwrap();
        let height = blocks.1.get(&parent).map_or(0, |body| identity(body).height) + 1;
        let numbers = [height, view, number].map(u64::to_be_bytes);
        let block = [&parent[..], &numbers.concat()].concat();
        blocks.0.write_all(&block).unwrap();
        blocks.0.sync_data().unwrap();
        let digest = sm3::hash(&block);
        blocks.1.insert(digest, block);
        Some(digest)
    }

    fn check(&self, _: u64, body: &[u8], _: bool) -> Verdict {
        // Its own, which it voted for before it was killed.
        assert!(self.body(sm3::hash(body)).is_some());
        Verdict::Good
    }

    fn body(&self, block: Digest) -> Option<Vec<u8>> {
        self.blocks.lock().unwrap().1.get(&block).cloned()
    }

    fn last(&self) -> Identity {
        self.finals.lock().unwrap().1
    }

    fn finals(&self, _: u64, _: usize, _: usize) -> Vec<FinalBlock> {
        Vec::new()
    }

    fn finalized(&self, block: Digest, body: &[u8], finalization: &[u8]) {
        let read = Finalized::decode(finalization).unwrap();
        assert_eq!(read.block, block);
        let mut finals = self.finals.lock().unwrap();
        let identity = identity(body);
        assert_eq!((identity.parent, identity.height), (finals.1.block, finals.1.height + 1));
        let length = u32::try_from(finalization.len()).unwrap().to_be_bytes();
        finals.0.write_all(&[&length, finalization].concat()).unwrap();
        finals.0.sync_data().unwrap();
        finals.1 = identity;
    }

    fn caught(&self, _: Evidence) {}
}

#[test]
#[ignore = "the child of the test below"]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let (files, finalized) = Files::open(&folder);
    let validators = vec![secret().public_key()];
    let mut config = OrderConfig::new(NAMESPACE, validators, folder.join("order"), GENESIS);
    config.finalized = finalized;
    let handle = start(config, &secret(), Arc::new(files)).unwrap();
    loop {
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(handle.failed(), None);
    }
}

fn spawn(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until there are more than `count` finalizations; how long it took.
fn wait(folder: &Path, child: &mut Child, count: usize) -> Duration {
    let begin = Instant::now();
    while finals(folder).len() <= count {
        assert!(begin.elapsed() < Duration::from_secs(300), "no block after a restart");
        assert!(child.try_wait().unwrap().is_none(), "the validator stopped by itself");
        std::thread::sleep(Duration::from_millis(2));
    }
    begin.elapsed()
}

/// Checks the files; the finalizations in them.
fn check(folder: &Path, keys: &[PublicKey], before: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let parents = blocks(folder);
    let finals: Vec<Vec<u8>> = finals(folder).into_iter().map(|(bytes, _)| bytes).collect();
    let common = before.len().min(finals.len());
    assert_eq!(finals[..common], before[..common], "what was final has changed");
    let mut tip = GENESIS;
    for bytes in &finals {
        let read = Finalized::check(bytes, NAMESPACE, 0, keys).unwrap();
        assert_eq!(
            identity(&parents[&read.block]).parent,
            tip,
            "view {} does not stand on the last",
            read.view
        );
        tip = read.block;
    }
    finals
}

#[test]
fn killed_again_and_again_the_chain_never_forks() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let keys = [secret().public_key()];
    let seed = rand::random();
    println!("the moments of the kills are of seed {seed}");
    let mut moments = StdRng::seed_from_u64(seed);
    let mut known: Vec<Vec<u8>> = Vec::new();
    let mut slowest = Duration::ZERO;
    for kill in 0..KILLS {
        let mut child = spawn(folder);
        // Every fourth time it is killed while it starts.
        if kill % 4 != 3 {
            slowest = slowest.max(wait(folder, &mut child, known.len()));
        }
        std::thread::sleep(Duration::from_micros(moments.random_range(0..300_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let now = check(folder, &keys, &known);
        if now.len() > known.len() {
            known = now;
        }
        if kill % 3 == 1 {
            let all = finals(folder);
            let kept = all.len().saturating_sub(1 + kill % 4);
            let end = kept.checked_sub(1).map_or(0, |last| all[last].1);
            OpenOptions::new()
                .write(true)
                .open(folder.join("finals"))
                .unwrap()
                .set_len(end)
                .unwrap();
        }
    }
    let mut child = spawn(folder);
    slowest = slowest.max(wait(folder, &mut child, known.len() + 5));
    child.kill().unwrap();
    child.wait().unwrap();
    let now = check(folder, &keys, &known);
    assert!(now.len() > known.len());
    println!("{} blocks final over {KILLS} kills, slowest restart {slowest:?}", now.len());
}
