//! Mirrors: what they take is checked as it comes, and what they keep proves itself.
//!
//! Sources are files that are computed the long way over a chain of headers, honest ones, spoilt
//! ones and those of a lying quorum; and a real node.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/headers.rs"]
mod headers;
#[path = "common/web.rs"]
mod web;

use headers::{Chain, NONE};
use piaogen_node::mirror::{Mirror, Pulled, check};
use piaogen_node::sinks::fetch;
use piaogen_node::site::Site;
use piaogen_verify::evidence::Evidence;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::record::subject_parts;
use piaogen_verify::tiles::Head;
use piaogen_verify::trust_root::TrustRoot;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const QUICK: Duration = Duration::ZERO;
/// Enough for a second level of tiles, and for a bundle that is just full.
const GROWTH: [u64; 3] = [97, 0, 64];

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(trust: &str) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        std::fs::write(place.path("trust-root.json"), trust).unwrap();
        place
    }

    fn of(chain: &Chain) -> Place {
        Place::new(&chain.trust().to_json())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    fn command(&self, from: &str, to: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piaogen"));
        command.args(["mirror", "--from", from, "--to", &self.text(to), "--trust-root"]);
        command.arg(self.path("trust-root.json"));
        command
    }

    fn mirror(&self, from: &str, to: &str) -> Output {
        self.command(from, to).output().unwrap()
    }

    /// Runs a subcommand under the trust root; its exit code, and what it said.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piaogen"));
        let output = command.args(arguments).output().unwrap();
        (output.status.code(), said(&output))
    }

    fn check(&self, dir: &str) -> (Option<i32>, String) {
        let (dir, trust) = (self.text(dir), self.text("trust-root.json"));
        self.run(&["mirror", "check", &dir, "--trust-root", &trust])
    }

    /// The files of evidence in a folder.
    fn evidence(&self, dir: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path(dir)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.to_str().unwrap().contains("evidence-")).collect()
    }

    /// What a file proves to whoever has nothing but it and the trust root.
    fn proved(&self, file: &Path) -> Evidence {
        let (path, trust) = (file.to_str().unwrap(), self.text("trust-root.json"));
        let (code, text) = self.run(&["evidence", "verify", path, "--trust-root", &trust]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("PROVED"), "{text}");
        Evidence::from_json(&std::fs::read_to_string(file).unwrap()).unwrap()
    }
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

/// All files that a web server would hand out, by path.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![dir.join("v1")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_string();
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    found
}

/// The height that a folder hands out.
fn height(dir: &Path) -> Option<u64> {
    let bytes = std::fs::read(dir.join("v1/head")).ok()?;
    Some(Head::decode(&bytes).unwrap().header.height)
}

#[test]
fn a_mirror_has_what_its_head_names_and_of_the_head_before() {
    let chain = Chain::growing(30, GROWTH);
    let place = Place::of(&chain);
    let (url, asked) = web::serve(&place.path("site"), QUICK);
    const BARE: fn(usize) -> bool = |height| height == 27;
    let (mut before, mut last) = (BTreeMap::new(), BTreeMap::<String, Vec<u8>>::new());
    // From one bundle to many, over an index that becomes full, and where nothing is new.
    for (height, bare) in [(1, NONE), (2, NONE), (4, NONE), (4, NONE), (29, BARE), (30, BARE)] {
        let site = place.path("site");
        std::fs::remove_dir_all(&site).ok();
        chain.publish(&site, height, bare);
        good(&place.mirror(&url, "m"));
        let (now, mut kept) = (files(&site), files(&place.path("m")));
        for (path, bytes) in &now {
            assert!(kept.remove(path).as_ref() == Some(bytes), "{path} at {height}");
        }
        if last.get("v1/head") != now.get("v1/head") {
            before = std::mem::replace(&mut last, now);
        }
        // What is left is what the head before named and this one does not.
        for (path, bytes) in kept {
            assert!(before.get(&path) == Some(&bytes), "{path} is left at {height}");
            assert!(path.contains(".p/"), "{path}");
        }
        let (code, text) = place.check("m");
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains(&format!("block {height} and all before it")), "{text}");
    }
    // Nothing that was kept was asked for again: of a shard each full file came once.
    let asked = asked.lock().unwrap().clone();
    let full = asked.iter().filter(|path| path.contains("tiles/") && !path.contains(".p/"));
    let once: BTreeSet<&String> = full.clone().filter(|path| !path.contains("history")).collect();
    assert_eq!(once.len(), full.filter(|path| !path.contains("history")).count(), "{asked:?}");
    assert!(once.len() > 20, "{once:?}");
    // A mirror of a mirror is the same.
    good(&place.mirror(&place.text("m"), "m2"));
    let (first, second) = (files(&place.path("m")), files(&place.path("m2")));
    assert!(second.iter().all(|(path, bytes)| first.get(path) == Some(bytes)));
    assert_eq!(place.check("m2").0, Some(0));
}

/// A log with more than one tile of the second level.
#[test]
fn a_large_log_is_taken_from_the_root_down() {
    let chain = Chain::growing(24, [3_000, 0, 0]);
    let place = Place::of(&chain);
    for height in [22, 23, 24] {
        let from = chain.publish(&place.path(&format!("site-{height}")), height, NONE);
        good(&place.mirror(&from, "m"));
        let site = files(&place.path(&format!("site-{height}")));
        let kept = files(&place.path("m"));
        assert!(kept.keys().any(|path| path.starts_with("v1/tiles/0/2/")), "{height}");
        assert!(site.iter().all(|(path, bytes)| kept.get(path) == Some(bytes)));
    }
    let checked = check(&place.path("m"), &chain.trust()).unwrap();
    assert_eq!((checked.height, checked.headers, checked.entries), (24, 25, 72_000));
}

/// Changes a file of a source.
type Spoil = fn(&mut Vec<u8>);

/// Each kind of file, spoilt in each way, in a source that a mirror has a part of already.
#[test]
fn what_was_tampered_with_is_refused_and_not_kept() {
    let chain = Chain::growing(300, [9, 1, 0]);
    let place = Place::of(&chain);
    let begin = chain.publish(&place.path("begin"), 40, NONE);
    let site = place.path("site");
    let from = chain.publish(&site, 300, NONE);
    let spoil: [(&str, Spoil); 3] = [
        ("changed", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }),
        ("cut", |bytes| bytes.truncate(bytes.len() - 1)),
        ("longer", |bytes| bytes.extend([0; 40_000])),
    ];
    let targets = [
        ("v1/head", "head"),
        ("v1/tiles/history/entries/000", "the source's headers are no chain"),
        ("v1/tiles/history/entries/001.p/45", "the source's headers are no chain"),
        ("v1/tiles/0/0/005", "tiles/0/0/005"),
        ("v1/tiles/0/0/010.p/140", "shard 0"),
        ("v1/tiles/0/1/000.p/10", "shard 0"),
        ("v1/tiles/0/entries/007", "tiles/0/entries/007"),
        ("v1/tiles/1/entries/001.p/44", "tiles/1/entries/001"),
    ];
    for (path, named) in targets {
        let whole = std::fs::read(site.join(path)).unwrap();
        for (how, spoil) in spoil {
            let mut bytes = whole.clone();
            spoil(&mut bytes);
            std::fs::write(site.join(path), &bytes).unwrap();
            let to = format!("m-{}-{how}", path.replace('/', "-"));
            good(&place.mirror(&begin, &to));
            let output = place.mirror(&from, &to);
            assert_eq!(output.status.code(), Some(2), "{path} {how}: {}", said(&output));
            let text = said(&output);
            assert!(text.contains(named) || text.contains(path), "{path} {how}: {text}");
            assert_ne!(files(&place.path(&to)).get(path), Some(&bytes), "{path} {how}");
            assert_eq!(height(&place.path(&to)), Some(40));
            assert_eq!(place.check(&to).0, Some(0));
        }
        // What is missing is asked for again with the head, and then said.
        std::fs::remove_file(site.join(path)).unwrap();
        let to = format!("missing-{}", path.replace('/', "-"));
        let output = place.mirror(&from, &to);
        assert_eq!(output.status.code(), Some(2), "{path}: {}", said(&output));
        assert!(said(&output).contains("is not there"), "{path}: {}", said(&output));
        std::fs::write(site.join(path), &whole).unwrap();
        good(&place.mirror(&from, &to));
        assert_eq!(place.check(&to).0, Some(0));
    }
}

#[test]
fn a_mirror_that_was_tampered_with_says_where() {
    let chain = Chain::growing(300, [9, 1, 0]);
    let place = Place::of(&chain);
    good(&place.mirror(&chain.publish(&place.path("site"), 300, NONE), "m"));
    let dir = place.path("m");
    let all = files(&dir);
    assert!(all.len() > 20);
    for (path, whole) in all {
        // The tile of leaves, and whatever else is named, is named by its own path.
        let mut bytes = whole.clone();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(dir.join(&path), bytes).unwrap();
        let (code, text) = place.check("m");
        assert_eq!(code, Some(1), "{path}: {text}");
        let of = path.rsplit_once("tiles/").map_or("", |(_, tile)| tile);
        let log = of.split('/').next().unwrap();
        assert!(text.contains(log) || path == "v1/head", "{path}: {text}");
        std::fs::remove_file(dir.join(&path)).unwrap();
        let (code, text) = place.check("m");
        assert_eq!(code, Some(1), "{path}: {text}");
        assert!(text.contains(of), "{path}: {text}");
        std::fs::write(dir.join(&path), whole).unwrap();
    }
    assert_eq!(place.check("m").0, Some(0));
}

#[test]
fn a_fork_and_an_older_head_are_refused() {
    let chain = Chain::growing(45, [20, 1, 0]);
    let place = Place::of(&chain);
    good(&place.mirror(&chain.publish(&place.path("site"), 35, NONE), "m"));
    let before = files(&place.path("m"));
    // Another history, which all validators signed, as long and longer.
    for to in [35, 45] {
        let fork = chain.fork(25, to);
        let output = place.mirror(&fork.publish(&place.path(&format!("fork-{to}")), to, NONE), "m");
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("SPLIT VIEW"), "{}", said(&output));
    }
    let evidence = place.evidence("m");
    assert_eq!(evidence.len(), 1, "both forks are one");
    assert_eq!(place.proved(&evidence[0]).kind(), "fork");
    // An older head, of this history.
    let output = place.mirror(&chain.publish(&place.path("older"), 30, NONE), "m");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("it is behind, or was cut short"), "{}", said(&output));
    // Nothing that is handed out was changed by any of this.
    assert!(before == files(&place.path("m")));
}

/// Headers that go on, over a log of shard 0 that is another: in an entry, or shorter, or as long.
#[test]
fn a_rewritten_log_is_refused_and_proved() {
    let chain = Chain::growing(35, [20, 1, 0]);
    let place = Place::of(&chain);
    good(&place.mirror(&chain.publish(&place.path("site"), 35, NONE), "honest"));
    let before = files(&place.path("honest"));
    // At height 35 the log has 700 entries.
    let cases = [
        ("an entry", 20, 45, Some(0), "entry 0 is another"),
        ("an entry within", 20, 45, Some(300), "entry 300 is another"),
        ("the last entry", 20, 45, Some(699), "entry 699 is another"),
        ("many levels above", 2_000, 36, Some(255), "entry 255 is another"),
        ("shorter", 10, 45, None, "700 entries in final block 35, and 450 in final block 45"),
        ("gone", 0, 45, None, "700 entries in final block 35, and 0 in final block 45"),
        ("as long", 10, 70, Some(699), "700 entries in final blocks 35 and 70, and not the same"),
    ];
    for (case, growth, height, rewritten, what) in cases {
        let (site, to) = (place.path(&format!("site of {case}")), format!("m {case}"));
        good(&place.mirror(&place.text("site"), &to));
        let mut other = Chain { rewritten, growth: [growth, 1, 0], ..chain.clone() };
        other.grow(height, 0);
        let output = place.mirror(&other.publish(&site, height, NONE), &to);
        assert_eq!(output.status.code(), Some(1), "{case}: {}", said(&output));
        assert!(said(&output).contains("REWRITTEN LOG: the log of shard 0"), "{}", said(&output));
        let evidence = place.evidence(&to);
        assert_eq!(evidence.len(), 1, "{case}");
        let proved = place.proved(&evidence[0]);
        assert_eq!(proved.kind(), "rewritten_log");
        let verdict = proved.verify(&chain.trust()).unwrap();
        assert!(verdict.what.contains(what), "{case}: {}", verdict.what);
        assert_eq!((verdict.liars.len(), verdict.liars_min), (3, 3), "who signed both");
        // Nothing that is handed out was changed, and the honest source is still followed.
        let after = files(&place.path(&to));
        let shards = before.iter().filter(|(path, _)| !path.contains("history"));
        assert!(shards.clone().all(|(path, bytes)| after.get(path) == Some(bytes)));
        assert_eq!(self::height(&place.path(&to)), Some(35));
        assert_eq!(place.check(&to).0, Some(0));
    }
    // An entry beyond what is kept is no concern of this mirror's.
    let mut later = Chain { rewritten: Some(700), ..chain.clone() };
    later.grow(45, 0);
    good(&place.mirror(&later.publish(&place.path("later"), 45, NONE), "honest"));
    assert_eq!(place.check("honest").0, Some(0));
}

/// Whoever rewrote a log does not hand out what shows where, and whoever kept it may have lost a part.
#[test]
fn a_rewritten_log_is_proved_as_far_as_its_tiles_are_there() {
    let chain = Chain::growing(35, [20, 1, 0]);
    let place = Place::of(&chain);
    let honest = chain.publish(&place.path("site"), 35, NONE);
    let mut other = Chain { rewritten: Some(300), ..chain.clone() };
    other.grow(45, 0);
    let site = place.path("rewritten");
    let from = other.publish(&site, 45, NONE);
    std::fs::remove_file(site.join("v1/tiles/0/0/001")).unwrap();
    good(&place.mirror(&honest, "m"));
    let output = place.mirror(&from, "m");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("one of entries 256 to 511 is another"), "{}", said(&output));
    let evidence = place.evidence("m");
    place.proved(&evidence[0]);
    // What was damaged here is not put before anybody as evidence.
    good(&place.mirror(&honest, "damaged"));
    let tile = place.path("damaged").join("v1/tiles/0/0/002.p/188");
    std::fs::write(&tile, [7; 188 * 32]).unwrap();
    let output = place.mirror(&from, "damaged");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let text = said(&output);
    assert!(
        text.contains("does not extend") && text.contains("run piaogen mirror check"),
        "{text}"
    );
    assert!(place.evidence("damaged").is_empty());
}

/// A node leaves the changes of the set out of its head where they are too many for a receipt.
#[test]
fn a_head_without_changes_is_proved_by_the_headers_beside_it() {
    let chain = Chain::turning(35, [20, 1, 0], 3);
    let place = Place::of(&chain);
    let site = place.path("site");
    let hand_out = |head: &Head| std::fs::write(site.join("v1/head"), head.encode()).unwrap();
    for height in [5, 15, 35] {
        let from = chain.publish(&site, height, NONE);
        let whole = chain.head(height);
        let turns = whole.changes.len();
        assert_eq!(turns, (height / 10).min(2));
        let bare = Head { changes: Vec::new(), ..whole.clone() };
        assert_eq!(
            bare.verify(&chain.trust()).is_ok(),
            turns == 0,
            "the genesis alone proves it not"
        );
        for (head, to) in [(&whole, "whole"), (&bare, "bare")] {
            hand_out(head);
            good(&place.mirror(&from, to));
            assert_eq!(self::height(&place.path(to)), Some(height as u64));
            assert_eq!(place.check(to), place.check("whole"), "{to} at {height}");
        }
    }
    // What a mirror proves under such a head needs a trust root that was led to its set.
    assert_eq!(files(&place.path("bare"))["v1/head"], {
        Head { changes: Vec::new(), ..chain.head(35) }.encode()
    });
    // Neither without the changes nor with some of them is a head believed for its own sake.
    let mut later = chain.clone();
    later.grow(45, 0);
    let from = later.publish(&site, 45, NONE);
    let whole = later.head(45);
    let mut forged = Chain { sets: vec![chain.sets[0].clone()], ..later.clone() }.head(45);
    forged.changes.clear();
    let some = Head { changes: whole.changes[..1].to_vec(), ..whole.clone() };
    let wrong = [(&forged, "`signature`"), (&some, "`validators`")];
    for (head, step) in wrong {
        hand_out(head);
        let output = place.mirror(&from, "bare");
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(step), "{}", said(&output));
        assert_eq!(self::height(&place.path("bare")), Some(35));
    }
    // A log that was rewritten is proved with the changes that the headers have.
    let mut other = Chain { rewritten: Some(1), ..chain.clone() };
    other.grow(45, 0);
    let from = other.publish(&site, 45, NONE);
    hand_out(&Head { changes: Vec::new(), ..other.head(45) });
    good(&place.mirror(&chain.publish(&place.path("first"), 35, NONE), "m"));
    assert_eq!(place.mirror(&from, "m").status.code(), Some(1));
    assert_eq!(place.proved(&place.evidence("m")[0]).kind(), "rewritten_log");
}

/// More changes of the set than evidence has room for: what is left out lies beside it.
#[test]
fn evidence_of_a_chain_with_many_changes_is_led_to() {
    const SETS: u64 = 72;
    let chain = Chain::turning(706, [1, 0, 0], SETS);
    let place = Place::of(&chain);
    let rewritten = |height: usize| {
        let mut other = chain.up_to(height);
        other.rewritten = Some(1);
        other.grow(708, 0);
        other
    };
    let fork = chain.fork(703, 706);
    // What is kept, what comes then, the kind of evidence, where it begins, and who is named.
    let cases = [
        ("few since", 695, rewritten(696), "rewritten_log", 6, 3),
        ("many since", 25, rewritten(26), "rewritten_log", 6, 0),
        ("a fork", 706, fork, "fork", 6, 3),
    ];
    for (case, kept, other, kind, begins, named) in cases {
        let (site, to) = (place.path(&format!("site of {case}")), format!("m {case}"));
        good(&place.mirror(&chain.publish(&site, kept, NONE), &to));
        let (code, text) = place.check(&to);
        assert_eq!(code, Some(0), "{case}: {text}");
        let from =
            other.publish(&place.path(&format!("other of {case}")), other.headers.len() - 1, NONE);
        let output = place.mirror(&from, &to);
        assert_eq!(output.status.code(), Some(1), "{case}: {}", said(&output));
        let proof = place.path(&to).join(format!("epochs-{begins}.json"));
        let proof = proof.to_str().unwrap();
        assert!(said(&output).contains(&format!("--proof {proof}")), "{}", said(&output));
        let file = place.evidence(&to).remove(0);
        let (file, led) = (file.to_str().unwrap(), place.text("led.json"));
        // The genesis does not do, and what leads on from it does.
        let genesis = place.text("trust-root.json");
        let verify = |trust: &str| place.run(&["evidence", "verify", file, "--trust-root", trust]);
        let (code, text) = verify(&genesis);
        assert_eq!(code, Some(1), "{case}: {text}");
        assert!(text.contains(&format!("between epochs 0 and {begins}")), "{case}: {text}");
        let advance =
            ["trust", "advance", "--trust-root", &genesis, "--proof", proof, "--out", &led];
        let (code, text) = place.run(&advance);
        assert_eq!(code, Some(0), "{case}: {text}");
        let (code, text) = verify(&led);
        assert_eq!(code, Some(0), "{case}: {text}");
        assert!(text.contains("PROVED"), "{case}: {text}");
        let evidence = Evidence::from_json(&std::fs::read_to_string(file).unwrap()).unwrap();
        let trust = TrustRoot::from_json(&std::fs::read_to_string(&led).unwrap()).unwrap();
        let verdict = evidence.verify(&trust).unwrap();
        assert_eq!((trust.epoch, verdict.kind), (begins, kind), "{case}");
        assert_eq!((verdict.first.len(), verdict.second.len()), (named, 3), "{case}");
    }
}

/// A real process that is killed after so many answers, while it waits for one more, again and again.
#[test]
fn killed_anywhere_it_goes_on_and_takes_nothing_twice() {
    let chain = Chain::growing(40, [150, 0, 7]);
    let place = Place::of(&chain);
    good(&place.mirror(&chain.publish(&place.path("begin"), 3, NONE), "m"));
    let site = place.path("site");
    chain.publish(&site, 40, NONE);
    let (url, asked, limit) = web::serve_up_to(&site, 0);
    let mut killed = 0;
    for answers in (3..).step_by(5) {
        let had: BTreeSet<String> = files(&place.path("m")).into_keys().collect();
        asked.lock().unwrap().clear();
        limit.store(answers, Ordering::SeqCst);
        let mut command = place.command(&url, "m");
        let mut mirror = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + common::PATIENCE;
        let ended = loop {
            if let Some(status) = mirror.try_wait().unwrap() {
                break Some(status);
            }
            let late = Instant::now() > until;
            if asked.lock().unwrap().len() > answers || late {
                mirror.kill().unwrap();
                mirror.wait().unwrap();
                assert!(!late, "it asks for nothing more: {:?}", asked.lock().unwrap());
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let again: Vec<String> = asked.lock().unwrap().clone();
        let again = again.iter().filter(|path| !path.contains(".p/") && had.contains(*path));
        assert_eq!(again.collect::<Vec<_>>(), ["v1/head"], "{killed} times killed");
        match ended {
            // As it was before, whole.
            None => assert_eq!(height(&place.path("m")), Some(3)),
            Some(status) => {
                assert!(status.success());
                break;
            }
        }
        assert_eq!(place.check("m").0, Some(0));
        killed += 1;
    }
    assert!(killed >= 3, "{killed}");
    assert_eq!(height(&place.path("m")), Some(40));
    assert_eq!(place.check("m").0, Some(0));
    let (whole, kept) = (files(&site), files(&place.path("m")));
    assert!(whole.iter().all(|(path, bytes)| kept.get(path) == Some(bytes)));
}

/// Whatever a source says, a mirror neither panics nor hands out what does not check.
#[test]
fn a_hostile_source_gets_nothing_in() {
    let chain = Chain::growing(40, [30, 2, 0]);
    let place = Place::of(&chain);
    let trust = chain.trust();
    let begin = chain.publish(&place.path("begin"), 20, NONE);
    let site = place.path("site");
    chain.publish(&site, 40, NONE);
    let paths: Vec<String> = files(&site).into_keys().collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut taken = 0;
    for round in 0..150 {
        let dir = place.path(&format!("m-{round}"));
        let open = |from: &str| Site::open(from, "", common::PATIENCE).unwrap();
        Mirror::open(&dir, &trust).unwrap().pull(&open(&begin)).unwrap();
        let path = site.join(&paths[random(paths.len())]);
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let at = random(bytes.len());
        match random(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random(256) as u8),
            2 => drop(bytes.drain(at..(at + 32).min(whole.len()))),
            3 => bytes = std::fs::read(site.join(&paths[random(paths.len())])).unwrap(),
            _ => bytes[at] ^= 1 << random(8),
        }
        std::fs::write(&path, &bytes).unwrap();
        let pulled = Mirror::open(&dir, &trust).unwrap().pull(&open(site.to_str().unwrap()));
        taken += usize::from(matches!(pulled, Ok(Pulled::Grown { .. })));
        check(&dir, &trust).unwrap();
        assert_eq!(height(&dir), Some(if pulled.is_ok() { 40 } else { 20 }), "round {round}");
        std::fs::write(&path, whole).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }
    // Files that nobody needs, and bytes that came out the same.
    assert!(taken < 60, "{taken}");
}

/// Everything that is proved from a mirror verifies, in both forms; the last one is left in `proof`.
fn proves(place: &Place, dir: &str, which: &[&[&str]]) {
    let (out, trust) = (place.text("proof"), place.text("trust-root.json"));
    for which in which {
        for form in [&["--compact"][..], &[]] {
            let prove = [&["mirror", "prove", dir, "--out", &out][..], which, form].concat();
            let (code, text) = place.run(&prove);
            assert_eq!(code, Some(0), "{which:?}: {text}");
            let (code, text) = place.run(&["verify", &out, "--trust-root", &trust]);
            assert_eq!(code, Some(0), "{which:?}: {text}");
            assert!(text.contains("VERIFIED"), "{text}");
        }
    }
}

/// A receipt of an early mirror is renewed by a later one: what it says is the same, the header is
/// the later mirror's.
fn renews(place: &Place, early: &str, dir: &str, at: &str) {
    let (old, trust) = (place.text("old"), place.text("trust-root.json"));
    let (code, text) = place.run(&["mirror", "prove", early, "--at", at, "--out", &old]);
    assert_eq!(code, Some(0), "{text}");
    proves(place, dir, &[&["--renew", &old]]);
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let [before, renewed] =
        [old, place.text("proof")].map(|path| Receipt::from_json(&read(&path)).unwrap());
    assert!(before.history.is_none());
    let (header, _) = renewed.history.clone().unwrap();
    assert_eq!(Some(header.height), height(Path::new(dir)));
    let Receipt { history, certificate, changes, .. } = before.clone();
    assert_eq!(Receipt { history, certificate, changes, ..renewed }, before);
    // Neither to an earlier header, nor from a header that is not in the history.
    let mut other = before;
    other.header.time_ms += 1;
    std::fs::write(place.path("other"), other.to_json()).unwrap();
    let (late, other) = (place.text("late"), place.text("other"));
    let prove = ["mirror", "prove", dir, "--at", at, "--out", &late];
    assert_eq!(place.run(&prove).0, Some(0));
    let refused = [
        (early, &late, "the newest header is"),
        (dir, &late, "the newest header is"),
        (dir, &other, "do not lead from"),
        (dir, &trust, "`decode`"),
    ];
    for (from, receipt, why) in refused {
        let (code, text) = place.run(&["mirror", "prove", from, "--renew", receipt]);
        assert!(code != Some(0) && text.contains(why), "{receipt}: {text}");
    }
}

#[test]
fn a_mirror_of_a_node_follows_it_and_proves_without_it() {
    let root = tempfile::tempdir().unwrap();
    let frequent = "[blocks]\ninterval_ms = 100\nidle_interval_ms = 200\n";
    let mut set = common::Set::observed(&root.path().join("set"), 1, 0, 2, frequent);
    let chain = set.chain(0);
    let trust = std::fs::read_to_string(chain.dir.join("trust-root.json"));
    let trust = trust.unwrap_or_else(|_| TrustRoot::of_genesis(&set.keys.genesis).to_json());
    let place = Place::new(&trust);
    let source = common::generator(&chain, 20);
    common::send_registrations(&chain, &source.registrations(&chain.keys.authority));
    let sent = common::send_all(&chain, &source, 1_500);
    set.start(0);
    let settled = |set: &common::Set| {
        set.settle(&[0]);
        set.grow(&[0], 3);
    };
    settled(&set);
    let url = format!("http://{}", set.members[0].http);
    // One process goes on beside the node, while the log grows.
    let mut command = place.command(&url, "m");
    let following = command.args(["--every", "1"]).stdout(Stdio::null()).spawn();
    let following = common::Running::new(following.unwrap());
    let until = |more: u64| {
        set.wait("the mirror has it", |_| height(&place.path("m")) >= Some(more));
    };
    until(1);
    let fetched = fetch(&set.members[0].http, "/health/live").unwrap();
    assert_eq!(fetched, "ok validator\n");
    let first = height(&place.path("m")).unwrap();
    let (code, text) = place.check("m");
    assert_eq!(code, Some(0), "{text}");
    // A mirror that stays where it is.
    good(&place.mirror(&url, "early"));
    common::send_all(&chain, &common::generator(&chain, 20), 1_500);
    settled(&set);
    let newest = set.value(0, "piaogen_block_height");
    until(newest);
    following.kill();
    // A mirror of the mirror, through a web server that knows nothing of it; then all by itself.
    let (web, _) = web::serve(&place.path("m"), QUICK);
    good(&place.mirror(&web, "m2"));
    set.kill(0);
    let (code, text) = place.check("m2");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("entries"), "{text}");
    let (dir, at) = (place.text("m2"), format!("{}:5", sent[700].partition));
    let (_, number) = subject_parts(&sent[700].subject).unwrap();
    let first = first.to_string();
    let which: [&[&str]; 4] =
        [&["--at", &at], &["--number", number], &["--at", "2:1"], &["--consistency", &first]];
    proves(&place, &dir, &which);
    renews(&place, &place.text("early"), &dir, &at);
    for wrong in [["--at", "9:0"], ["--at", "0:99999999"], ["--number", "none"]] {
        let (code, text) = place.run(&[&["mirror", "prove", &dir][..], &wrong].concat());
        assert_eq!(code, Some(2), "{text}");
    }
}
