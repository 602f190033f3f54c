//! Witnesses: they follow a chain, sign it, and prove when it shows two histories.
//!
//! The chain is made of headers alone, with the keys of all four validators, so that a quorum of
//! liars can certify a second history. A source is a file of links, or an HTTP node.

#![allow(clippy::unwrap_used)]

use headers::{Chain, NONE};
use piaogen_node::history::{Followed, open_source};
use piaogen_node::keys::KeySource;
use piaogen_node::setup;
use piaogen_node::witness::{CHECKPOINT, CHECKPOINTS, Witness};
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::evidence::Evidence;
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness as cosigning;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[path = "common/headers.rs"]
mod headers;
#[path = "common/web.rs"]
mod web;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(chain: &Chain) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        let key = setup::random_key().unwrap();
        let pem = key.to_pkcs8_pem();
        setup::write_new(&place.path("witness.pem"), pem.as_bytes(), true).unwrap();
        std::fs::write(place.path("trust-root.json"), chain.trust().to_json()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    fn witness(&self, from: &str) -> Output {
        let (dir, key) = (self.text("witness"), self.text("witness.pem"));
        let trust = self.text("trust-root.json");
        piaogen(&[
            "witness",
            "--dir",
            &dir,
            "--from",
            from,
            "--key",
            &key,
            "--name",
            "w.example",
            "--trust-root",
            &trust,
        ])
    }

    /// The trust root that knows this witness and demands it.
    fn watched(&self, chain: &Chain) -> TrustRoot {
        let key = KeySource::from(self.path("witness.pem")).public_key().unwrap();
        let witness = cosigning::Witness { name: "w.example".into(), key };
        TrustRoot { witnesses: vec![witness], witness_quorum: 1, ..chain.trust() }
    }

    fn evidence(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("witness")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let named = |path: &PathBuf| path.to_str().unwrap().contains("evidence-");
        paths.filter(named).collect()
    }
}

fn piaogen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_piaogen")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// The note that a witness wrote, whose cosignature holds.
fn checked(place: &Place, chain: &Chain) -> Checkpoint {
    let note = std::fs::read_to_string(place.path("witness").join(CHECKPOINT)).unwrap();
    let checkpoint = Checkpoint::parse(&note).unwrap();
    let trust = place.watched(chain);
    assert_eq!(trust.witnesses_of(&checkpoint, &checkpoint.cosignatures()), Ok(vec![0]));
    assert_eq!(checkpoint.root, chain.root(checkpoint.size as usize));
    checkpoint
}

#[test]
fn a_witness_follows_and_signs_what_is_final_and_only_more() {
    let chain = Chain::new(45);
    let place = Place::new(&chain);
    let from = place.path("links");
    for (to, size) in [(3, 4), (20, 21), (20, 21), (44, 43), (45, 46)] {
        // Blocks 43 and 44 have no certificate of their own.
        let from = chain.export(&from, to, |height| height == 43 || height == 44);
        let output = place.witness(&from);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(checked(&place, &chain).size, size, "up to {to}");
    }
    // A source that is behind is no fork, and nothing shorter is signed.
    let from = chain.export(&from, 30, NONE);
    let output = place.witness(&from);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(checked(&place, &chain).size, 46);
    assert!(place.evidence().is_empty());
}

#[test]
fn a_quorum_that_lies_is_proved_by_both_headers() {
    let chain = Chain::new(45);
    // Where both sides are certified at one height, and where they are at different ones.
    type Chosen = fn(usize) -> bool;
    let cases: [(Chosen, &str); 3] =
        [(NONE, "fork"), (|height| height < 27, "rewrite"), (|height| height == 25, "rewrite")];
    for (bare, kind) in cases {
        let place = Place::new(&chain);
        let from = chain.export(&place.path("links"), 35, NONE);
        assert!(place.witness(&from).status.success());
        let signed = checked(&place, &chain);
        let fork = chain.fork(25, 45);
        let from = fork.export(&place.path("fork"), 45, bare);
        let output = place.witness(&from);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("SPLIT VIEW"), "{}", said(&output));
        // Nothing new was signed, and the evidence holds for everybody.
        assert_eq!(checked(&place, &chain), signed);
        let files = place.evidence();
        assert_eq!(files.len(), 1);
        let evidence = Evidence::from_json(&std::fs::read_to_string(&files[0]).unwrap()).unwrap();
        assert_eq!(evidence.kind(), kind);
        let verdict = evidence.verify(&chain.trust()).unwrap();
        assert_eq!((verdict.first.len(), verdict.second.len()), (3, 3));
        assert_eq!(verdict.liars_min, 2, "f + 1 of four");
        let trust = place.text("trust-root.json");
        let file = files[0].to_str().unwrap();
        let output = piaogen(&["evidence", "verify", file, "--trust-root", &trust]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("PROVED"), "{}", said(&output));
        // The honest source is still followed.
        let from = chain.export(&place.path("links"), 45, NONE);
        assert!(place.witness(&from).status.success());
        assert_eq!(checked(&place, &chain).size, 46);
    }
}

/// All keys are replaced at the end of each epoch, so nobody of the genesis signed what forked.
#[test]
fn a_later_set_that_lies_is_proved_to_who_trusts_the_genesis() {
    let chain = Chain::turning(45, [0; 3], 5);
    type Chosen = fn(usize) -> bool;
    let cases: [(usize, Chosen, &str); 3] =
        [(25, NONE, "fork"), (31, NONE, "fork"), (28, |height| height < 30, "rewrite")];
    for (at, bare, kind) in cases {
        let place = Place::new(&chain);
        for to in [15, 35] {
            // The second time it goes on from where it rested.
            let from = chain.export(&place.path("links"), to, NONE);
            assert!(place.witness(&from).status.success());
        }
        let fork = chain.fork(at, 45);
        let output = place.witness(&fork.export(&place.path("fork"), 45, bare));
        assert!(said(&output).contains("SPLIT VIEW: "), "{}", said(&output));
        let file = place.evidence().remove(0);
        let evidence = Evidence::from_json(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(evidence.kind(), kind);
        let (file, verify) = (file.to_str().unwrap(), ["evidence", "verify", "--trust-root"]);
        let judge = |trust: &TrustRoot| {
            std::fs::write(place.path("trust"), trust.to_json()).unwrap();
            let output = piaogen(&[&verify[..], &[&place.text("trust"), file]].concat());
            (output.status.success(), said(&output))
        };
        let epoch = (at as u64 - 1) / 10;
        for led in 0..=epoch {
            let (proved, text) = judge(&chain.led(led));
            assert!(proved && text.contains("PROVED"), "{kind} from epoch {led}: {text}");
        }
        let (proved, text) = judge(&chain.led(epoch + 1));
        assert!(!proved && text.contains("`epoch`"), "{text}");
        assert!(text.contains(&format!("advanced to epoch {epoch} at most")), "{text}");
    }
}

#[test]
fn evidence_that_proves_nothing_is_refused_with_its_step() {
    let chain = Chain::new(12);
    let place = Place::new(&chain);
    let trust = place.text("trust-root.json");
    let certified = |chain: &Chain| piaogen_verify::evidence::Certified {
        header: chain.headers[12],
        certificate: chain.link(12, NONE).certificate,
        changes: Vec::new(),
    };
    let same = Evidence::Fork { first: certified(&chain), second: certified(&chain) };
    std::fs::write(place.path("same"), same.encode()).unwrap();
    let output = piaogen(&["evidence", "verify", &place.text("same"), "--trust-root", &trust]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("`conflict`"), "{}", said(&output));
    std::fs::write(place.path("junk"), b"{}").unwrap();
    let output = piaogen(&["evidence", "verify", &place.text("junk"), "--trust-root", &trust]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("`decode`"), "{}", said(&output));
}

#[test]
fn a_fork_that_nobody_certified_is_an_error_and_no_evidence() {
    let chain = Chain::new(30);
    let place = Place::new(&chain);
    let from = chain.export(&place.path("links"), 30, NONE);
    assert!(place.witness(&from).status.success());
    let fork = chain.fork(26, 30);
    let from = fork.export(&place.path("fork"), 29, |height| height >= 26);
    let output = place.witness(&from);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(place.evidence().is_empty());
    assert_eq!(checked(&place, &chain).size, 31);
}

/// What a crash leaves at any byte of the headers is either kept whole or cut off.
#[test]
fn a_torn_file_is_cut_off_and_a_lost_one_is_not_used_again() {
    let chain = Chain::new(12);
    let place = Place::new(&chain);
    let trust = chain.trust();
    let dir = place.path("state");
    let follow = |to: usize| {
        let from = chain.export(&place.path("links"), to, |height| height == 6);
        let mut witness = Witness::open(&dir, &trust).unwrap();
        let followed = witness.follow(&mut *open_source(&from).unwrap()).unwrap();
        assert!(matches!(followed, Followed::Extended(_)));
        witness
    };
    drop(follow(5));
    let before = std::fs::read(dir.join("headers")).unwrap();
    drop(follow(9));
    let after = std::fs::read(dir.join("headers")).unwrap();
    // Six and seven come together, since six has no certificate of its own.
    let mut sizes = Vec::new();
    for end in before.len()..=after.len() {
        std::fs::write(dir.join("headers"), &after[..end]).unwrap();
        let size = Witness::open(&dir, &trust).unwrap().size();
        if sizes.last() != Some(&size) {
            sizes.push(size);
        }
        let kept = std::fs::metadata(dir.join("headers")).unwrap().len();
        assert!(kept <= end as u64 && kept >= before.len() as u64);
    }
    assert_eq!(sizes, [6, 8, 9, 10]);
    // Once something was signed, a file that does not hold it is not used.
    let key = setup::random_key().unwrap();
    let witness = follow(9);
    let note = witness.cosign("w.example", &key, 100).unwrap();
    assert_eq!((note.size, note.root), (10, chain.root(10)));
    let again = witness.cosign("w.example", &key, 50).unwrap();
    assert_eq!(again.cosignatures()[0].time, 100, "a clock that goes back is not followed");
    drop(witness);
    for bytes in [&before[..], b"", &after[..after.len() - 1]] {
        std::fs::write(dir.join("headers"), bytes).unwrap();
        let error = Witness::open(&dir, &trust).unwrap_err();
        assert!(error.to_string().contains("never start it again"), "{error}");
        assert!(error.downcast_ref::<piaogen_node::run::Fatal>().is_some());
    }
    // Nor is one of another history, though it is as long and each header of it is certified.
    let fork = chain.fork(4, 12);
    fork.export(&dir.join("headers"), 9, NONE);
    assert!(Witness::open(&dir, &trust).is_err());
    std::fs::write(dir.join("headers"), &after).unwrap();
    assert_eq!(Witness::open(&dir, &trust).unwrap().size(), 10);
}

/// A start reads what was appended since the follower last rested, and nothing before it.
#[test]
fn a_witness_that_starts_again_goes_on_where_it_rested() {
    let chain = Chain::new(30);
    let place = Place::new(&chain);
    let trust = chain.trust();
    let (dir, from) = (place.path("state"), place.path("links"));
    let key = setup::random_key().unwrap();
    let follow = |to: usize| {
        let from = chain.export(&from, to, NONE);
        let mut witness = Witness::open(&dir, &trust).unwrap();
        witness.follow(&mut *open_source(&from).unwrap()).unwrap();
        witness
    };
    follow(9).cosign("w.example", &key, 100).unwrap();
    let rested = std::fs::read(dir.join("follower")).unwrap();
    drop(follow(20));
    let (headers, later) = (dir.join("headers"), std::fs::read(dir.join("follower")).unwrap());
    let all = std::fs::read(&headers).unwrap();
    // An older follower, one of another moment, none, and one that was changed.
    let mut changed = later.clone();
    changed[40] ^= 1;
    for follower in [&later[..], &rested, b"", &changed, &later[..100]] {
        std::fs::write(dir.join("follower"), follower).unwrap();
        assert_eq!(Witness::open(&dir, &trust).unwrap().size(), 21);
        assert_eq!(std::fs::read(dir.join("follower")).unwrap(), later);
        assert_eq!(std::fs::read(&headers).unwrap(), all);
    }
    // What lies before is not read: a header that was changed is met when it is asked for.
    let mut spoilt = all.clone();
    spoilt[300] ^= 1;
    std::fs::write(&headers, &spoilt).unwrap();
    assert_eq!(Witness::open(&dir, &trust).unwrap().size(), 21);
    // The last one is: it was never kept so, and is taken again.
    spoilt = all.clone();
    spoilt[all.len() - 300] ^= 1;
    std::fs::write(&headers, &spoilt).unwrap();
    assert_eq!(Witness::open(&dir, &trust).unwrap().size(), 20);
    std::fs::write(&headers, &all).unwrap();
    std::fs::write(dir.join("follower"), &later).unwrap();
    // What is kept must descend from what was signed.
    let signed = std::fs::read_to_string(dir.join("signed.json")).unwrap();
    let other = signed.replace("\"size\": 10", "\"size\": 11");
    assert_ne!(other, signed);
    std::fs::write(dir.join("signed.json"), other).unwrap();
    assert!(Witness::open(&dir, &trust).unwrap_err().to_string().contains("never start it again"));
    std::fs::write(dir.join("signed.json"), signed).unwrap();
    assert_eq!(follow(30).cosign("w.example", &key, 100).unwrap().size, 31);
}

/// What a witness hands out over shared sizes, each note of this chain and its key.
fn shared(dir: &Path, chain: &Chain, trust: &TrustRoot) -> Vec<u64> {
    let mut sizes = Vec::new();
    for entry in std::fs::read_dir(dir.join(CHECKPOINTS)).unwrap() {
        let path = entry.unwrap().path();
        let note = Checkpoint::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(trust.witnesses_of(&note, &note.cosignatures()), Ok(vec![0]));
        assert_eq!(note.root, chain.root(note.size as usize));
        assert_eq!(path.file_name().unwrap().to_str(), Some(note.size.to_string().as_str()));
        sizes.push(note.size);
    }
    sizes.sort_unstable_by_key(|size| std::cmp::Reverse(*size));
    sizes
}

/// Whatever a crash prevented is signed the next time, and only what the last header binds.
#[test]
fn a_witness_signs_the_sizes_that_all_share_and_lets_go_of_others() {
    let chain = Chain::new(700);
    let place = Place::new(&chain);
    let (trust, watched, dir) = (chain.trust(), place.watched(&chain), place.path("witness"));
    let key = KeySource::from(place.path("witness.pem")).open().unwrap();
    let follow = |to: usize| {
        let from = chain.export(&place.path("links"), to, NONE);
        let mut witness = Witness::open(&dir, &trust).unwrap();
        witness.follow(&mut *open_source(&from).unwrap()).unwrap();
        witness
    };
    let expected = |size: u64| cosigning::shared_sizes(size).collect::<Vec<_>>();
    for to in [6, 7, 20, 21, 300, 699] {
        follow(to).cosign("w.example", &*key, 100).unwrap();
        let size = to as u64 + 1;
        assert_eq!(shared(&dir, &chain, &watched), expected(size), "{size}");
        assert_eq!(checked(&place, &chain).size, size);
    }
    let path = |size: u64| dir.join(CHECKPOINTS).join(size.to_string());
    let all = expected(700);
    // The smallest is signed first, so a crash leaves the beginning of them.
    for left in [all.len() - 1, 5, 0] {
        all[..all.len() - left].iter().for_each(|size| std::fs::remove_file(path(*size)).unwrap());
        Witness::open(&dir, &trust).unwrap().cosign("w.example", &*key, 100).unwrap();
        assert_eq!(shared(&dir, &chain, &watched), all);
    }
    // What was changed on disk is not signed, though nothing reads it at the start.
    all.iter().for_each(|size| std::fs::remove_file(path(*size)).unwrap());
    let (file, signed) = (dir.join("headers"), std::fs::read(dir.join("signed.json")).unwrap());
    let bytes = std::fs::read(&file).unwrap();
    let length = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let place_of = |height: usize| (0..height).fold(0, |at, _| at + 4 + length(at));
    let note = std::fs::read(dir.join(CHECKPOINT)).unwrap();
    for height in [*all.last().unwrap() as usize, 360, 698] {
        let mut spoilt = bytes.clone();
        spoilt[place_of(height) + 4 + 100] ^= 1;
        std::fs::write(&file, spoilt).unwrap();
        let witness = Witness::open(&dir, &trust).unwrap();
        let error = witness.cosign("w.example", &*key, 200).unwrap_err();
        assert!(error.downcast_ref::<piaogen_node::run::Fatal>().is_some(), "{height}: {error}");
        assert!(shared(&dir, &chain, &watched).is_empty());
        assert_eq!(std::fs::read(dir.join("signed.json")).unwrap(), signed);
        assert_eq!(std::fs::read(dir.join(CHECKPOINT)).unwrap(), note);
    }
    std::fs::write(&file, bytes).unwrap();
    Witness::open(&dir, &trust).unwrap().cosign("w.example", &*key, 200).unwrap();
    assert_eq!(shared(&dir, &chain, &watched), all);
}

#[test]
fn one_folder_is_for_one_witness_at_a_time() {
    let chain = Chain::new(3);
    let place = Place::new(&chain);
    let first = Witness::open(&place.path("state"), &chain.trust()).unwrap();
    let error = Witness::open(&place.path("state"), &chain.trust()).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    drop(first);
    Witness::open(&place.path("state"), &chain.trust()).unwrap();
}

/// Neither asks the other anything: whoever hands the files out knows nothing of headers.
#[test]
fn a_witness_follows_files_of_a_mirror_over_http_and_in_a_folder() {
    let chain = Chain::new(600);
    let place = Place::new(&chain);
    let site = place.path("site");
    let (url, asked) = web::serve(&site, std::time::Duration::ZERO);
    let output = place.witness(&url);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("no node and no mirror"), "{}", said(&output));
    for (height, from) in [(3, &url), (255, &url), (256, &place.text("site")), (600, &url)] {
        chain.publish(&site, height, NONE);
        let output = place.witness(from);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(checked(&place, &chain).size, height as u64 + 1);
    }
    let bundles = asked.lock().unwrap().iter().filter(|path| path.contains("entries")).count();
    assert!(bundles <= 6, "{bundles} bundles were asked for");
    let fork = chain.fork(300, 610);
    fork.publish(&site, 610, NONE);
    let output = place.witness(&url);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(place.evidence().len(), 1);
}
