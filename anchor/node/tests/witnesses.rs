//! Several witnesses, each a process: what they signed comes together, whoever of them is killed or
//! follows a mirror, and two histories that were signed are found.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;
#[path = "common/headers.rs"]
mod headers;
#[path = "common/web.rs"]
mod web;

use common::{Chain, PATIENCE, Running, Set};
use piaogen_loadgen::outcomes::ReceiptSource;
use piaogen_node::sinks::{HttpReceipts, cosigned_receipts};
use piaogen_verify::checkpoint::Checkpoint;
use piaogen_verify::entry::Outcome;
use piaogen_verify::evidence::Evidence;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::record::subject_parts;
use piaogen_verify::status::StatusReceipt;
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::SHARED_EVERY;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const FREQUENT: &str = "[blocks]\ninterval_ms = 50\nidle_interval_ms = 100\n[store]\n\
    flush_interval_ms = 300\ncosigned = \"../cosigned\"\n[limits]\nkey_tables_mib = 16\n\
    queue_mib = 32\n";
const NAMES: [&str; 3] = ["w0.example", "w1.example", "w2.example"];

fn piaogen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_piaogen")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// A command that must end with this code; what it said.
fn run(code: i32, arguments: &[&str]) -> String {
    let output = piaogen(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    said(&output)
}

/// Three witnesses with keys and folders, and the trust root that demands two of them.
struct Desk {
    dir: PathBuf,
    running: [Option<Running>; 3],
}

impl Desk {
    fn new(dir: &Path) -> Desk {
        let desk = Desk { dir: dir.into(), running: [const { None }; 3] };
        let mut arguments = ["trust", "witnesses", "--quorum", "2"].map(String::from).to_vec();
        arguments.extend(["--trust-root".into(), desk.text("trust-root.json")]);
        arguments.extend(["--out".into(), desk.text("watched.json")]);
        for (index, name) in NAMES.iter().enumerate() {
            let (secret, public) = (desk.text(&format!("w{index}.pem")), format!("w{index}.pub"));
            run(0, &["keygen", "--out", &secret, "--public", &desk.text(&public)]);
            arguments.extend(["--witness".into(), format!("{name}={}", desk.text(&public))]);
        }
        run(0, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        desk
    }

    fn text(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().into()
    }

    fn folder(&self, index: usize) -> String {
        self.text(&format!("w{index}"))
    }

    fn trust(&self) -> TrustRoot {
        let text = std::fs::read_to_string(self.text("watched.json")).unwrap();
        TrustRoot::from_json(&text).unwrap()
    }

    fn command(&self, index: usize, from: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piaogen"));
        command.args(["witness", "--from", from, "--name", NAMES[index]]);
        command.args([
            "--dir",
            &self.folder(index),
            "--key",
            &format!("{}.pem", self.folder(index)),
        ]);
        command.args(["--trust-root", &self.text("trust-root.json")]);
        command
    }

    /// Starts one that goes on; what it says of failures is said by the test.
    fn start(&mut self, index: usize, from: &str) {
        let mut command = self.command(index, from);
        command.args(["--every", "1"]).stdout(Stdio::null());
        self.running[index] = Some(Running::new(command.spawn().unwrap()));
    }

    /// Kills one with SIGKILL.
    fn kill(&mut self, index: usize) {
        self.running[index].take().unwrap().kill();
    }

    /// Gathers from all; the exit code and what was said.
    fn gather(&self, quorum: &str, out: &str) -> Output {
        let (trust, out) = (self.text("watched.json"), self.text(out));
        let from = [0, 1, 2].map(|index| self.folder(index));
        let from = from.iter().flat_map(|from| ["--from", from]);
        let arguments =
            ["witness", "gather", "--trust-root", &trust, "--quorum", quorum, "--out", &out];
        piaogen(&arguments.into_iter().chain(from).collect::<Vec<_>>())
    }

    /// Gathers until so many have signed more than so many headers.
    fn gathered(&self, quorum: &str, out: &str, above: u64) -> Checkpoint {
        wait(&format!("{quorum} have signed more than {above} headers"), || {
            let output = self.gather(quorum, out);
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 3)), "{code:?}: {}", said(&output));
            let note = std::fs::read_to_string(self.text(out)).ok()?;
            Some(Checkpoint::parse(&note).unwrap()).filter(|note| note.size > above)
        })
    }

    /// Has a mirror attach a note to a proof.
    fn attach(&self, proof: &str, note: &str, out: &str) -> Output {
        let mirror = self.text("mirror");
        let (proof, note, out) = (self.text(proof), self.text(note), self.text(out));
        let arguments = ["--attach", &proof, "--cosigned", &note, "--out", &out];
        piaogen(&[&["mirror", "prove", &mirror], &arguments[..]].concat())
    }

    fn verify(&self, receipt: &str, quorum: &str) -> Output {
        let (receipt, trust) = (self.text(receipt), self.text("watched.json"));
        piaogen(&["verify", &receipt, "--trust-root", &trust, "--witness-quorum", quorum])
    }
}

/// Waits until there is something.
fn wait<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A lone validator that has executed invoices, and a mirror that follows it.
fn begin(root: &Path) -> (Set, Running) {
    let set = Set::lone(root, 2, FREQUENT, 200);
    let mut command = Command::new(env!("CARGO_BIN_EXE_piaogen"));
    command.args(["mirror", "--every", "1", "--log", "error"]);
    command.args(["--from", &format!("http://{}", set.members[0].http)]);
    command.arg("--to").arg(root.join("mirror"));
    command.arg("--trust-root").arg(root.join("trust-root.json"));
    let mirror = Running::new(command.stdout(Stdio::null()).spawn().unwrap());
    (set, mirror)
}

/// The receipt of the first invoice of a partition that was accepted.
fn accepted(http: &str, partition: u32) -> Receipt {
    let mut receipts = HttpReceipts::new(http);
    let accepted = (0..100).find_map(|offset| {
        let receipt = Receipt::decode(&receipts.receipt(partition, offset)?).unwrap();
        (receipt.entry.outcome == Outcome::Accepted).then_some(receipt)
    });
    accepted.unwrap()
}

fn number(receipt: &Receipt) -> &str {
    subject_parts(&receipt.entry.subject).unwrap().1
}

/// Writes the proof of a status that a node gives; its height.
fn write_status(set: &Set, path: &str) -> u64 {
    let http = &set.members[0].http;
    let (node, receipt) = (format!("http://{http}"), accepted(http, 0));
    run(0, &["status", "--from", &node, "--number", number(&receipt), "--out", path]);
    let status = StatusReceipt::from_json(&std::fs::read_to_string(path).unwrap()).unwrap();
    status.receipt.header.height
}

/// A node hands receipts out with what was gathered, and finds each new file by itself.
fn check_node(desk: &Desk, http: &str, trust: &TrustRoot) {
    let mut before = 0;
    for _ in 0..2 {
        let (size, receipts) = wait("the node hands out what was gathered", || {
            let size = desk.gathered("3", "cosigned", before).size;
            let receipts = cosigned_receipts(http, 1, 10).ok()?;
            let receipts = receipts.iter().map(|bytes| Receipt::decode(bytes).unwrap());
            let receipts: Vec<Receipt> = receipts.collect();
            (receipts.len() == 10).then_some((size, receipts))
        });
        for receipt in receipts {
            assert_eq!(receipt.verify(trust).unwrap().witnesses, 3);
            assert_eq!(receipt.cosigned.unwrap().size, size);
        }
        before = size;
    }
    let url = format!("http://{http}/v1/receipts/1/0");
    let plain = ureq::get(&url).call().unwrap().body_mut().read_to_vec().unwrap();
    assert_eq!(Receipt::decode(&plain[4..]).unwrap().cosigned, None, "only where it is asked for");
    get_from_node(desk, http);
}

/// The command gets what is cosigned unasked, and puts cosignatures into what it has: those of the
/// node, or of a file.
fn get_from_node(desk: &Desk, http: &str) {
    let (node, one) = (&format!("http://{http}"), accepted(http, 1));
    let place = format!("1:{}", one.entry.offset);
    let read = |name: &str| {
        Receipt::from_json(&std::fs::read_to_string(desk.text(name)).unwrap()).unwrap()
    };
    let get = |out: &str, which: &[&str]| {
        let (command, out) = (["receipt", "--from", node, "--out"], desk.text(out));
        run(0, &[&command[..], &[&out], which].concat())
    };
    let said = get("got.json", &["--at", &place, "--show", "all"]);
    assert!(said.contains("3 cosignatures"), "{said}");
    assert!(desk.verify("got.json", "3").status.success());
    let newest = get("newest.json", &["--at", &place, "--newest"]);
    assert!(!newest.contains("cosignatures"), "{newest}");
    assert_eq!(desk.verify("newest.json", "1").status.code(), Some(1));
    let (got, newest) = (read("got.json"), read("newest.json"));
    assert_eq!((&got.entry, &newest.entry), (&one.entry, &one.entry));
    get("number.json", &["--number", number(&one)]);
    assert!(desk.verify("number.json", "3").status.success());
    // It is newer than what was signed; the file may be ahead of what the node was given.
    let path = desk.text("newest.json");
    desk.gathered("3", "ahead", newest.header.height);
    let ahead = desk.text("ahead");
    get("attached.json", &["--attach", &path, "--cosigned", &ahead]);
    assert!(desk.verify("attached.json", "3").status.success());
    desk.gathered("3", "cosigned", newest.header.height);
    for (plain, carries) in [("newest.json", "attached.json"), ("status.json", "known.json")] {
        get(carries, &["--attach", &desk.text(plain)]);
        assert!(desk.verify(carries, "3").status.success());
    }
    assert_eq!(Receipt { cosigned: None, ..read("attached.json") }, newest);
    // Of another history nothing is put into it.
    let note = std::fs::read_to_string(&ahead).unwrap();
    let mut forged = Checkpoint::parse(&note).unwrap();
    forged.root[0] ^= 1;
    std::fs::write(&ahead, forged.to_note()).unwrap();
    let attach = ["receipt", "--from", node, "--attach", &path, "--cosigned", &ahead];
    assert!(run(2, &attach).contains("not of one history"));
}

/// A folder at rest attaches cosignatures, from one file of each witness.
fn attach_at_rest(desk: &Desk, chain: &Chain, size: u64) -> Receipt {
    let note = |index: usize| match size % SHARED_EVERY {
        0 => format!("{}/checkpoints/{size}", desk.folder(index)),
        _ => format!("{}/checkpoint", desk.folder(index)),
    };
    let (plain, notes) = (desk.text("plain.json"), [note(0), note(1), note(2)]);
    let mut arguments = vec!["receipt", "--attach", &plain];
    arguments.extend(notes.iter().flat_map(|note| ["--cosigned", note]));
    let output = chain.piaogen(&arguments);
    assert!(output.status.success(), "{}", said(&output));
    Receipt::from_json(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

#[test]
fn receipts_demand_two_of_three_witnesses_and_then_all() {
    let root = tempfile::tempdir().unwrap();
    let (mut set, mirror) = begin(root.path());
    let mut desk = Desk::new(root.path());
    let node = format!("http://{}", set.members[0].http);
    // Two follow the node, the third the files of the mirror.
    let (site, _) = web::serve(&root.path().join("mirror"), Duration::ZERO);
    desk.start(0, &node);
    desk.start(1, &node);
    desk.start(2, &site);
    let early = desk.gathered("3", "three", 0);
    desk.kill(1);
    let killed = std::fs::read_to_string(desk.text("w1/checkpoint")).unwrap();
    let killed = Checkpoint::parse(&killed).unwrap().size;
    assert!(early.size <= killed);
    // A receipt of now, which the one that was killed has not seen.
    let receipt = set.receipt(0, 0, killed + 8);
    let height = receipt.header.height;
    std::fs::write(desk.text("plain.json"), receipt.to_json()).unwrap();
    let status = write_status(&set, &desk.text("status.json"));
    let two = desk.gathered("2", "two", height.max(status));
    assert_eq!(two.signatures.iter().filter(|line| line.name == NAMES[1]).count(), 0);
    wait("the mirror has the headers that were signed", || {
        desk.attach("plain.json", "two", "cosigned.json").status.success().then_some(())
    });
    assert!(desk.verify("cosigned.json", "2").status.success());
    // A status proof carries them in the receipt in it.
    assert!(desk.attach("status.json", "two", "known.json").status.success());
    assert!(desk.verify("known.json", "2").status.success());
    assert_eq!(desk.verify("status.json", "2").status.code(), Some(1));
    for (receipt, quorum) in [("plain.json", "1"), ("cosigned.json", "3")] {
        let output = desk.verify(receipt, quorum);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("`witness`"), "{}", said(&output));
    }
    // All three have signed older headers only.
    let third = desk.gathered("3", "three", 0);
    assert!(third.size <= killed && third.signatures.len() == 3);
    let output = desk.attach("plain.json", "three", "never.json");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("let the witnesses catch up"), "{}", said(&output));
    desk.start(1, &node);
    desk.gathered("3", "three", height);
    wait("the mirror has them", || {
        desk.attach("plain.json", "three", "all.json").status.success().then_some(())
    });
    assert!(desk.verify("all.json", "3").status.success());
    let trust = TrustRoot { witness_quorum: 3, ..desk.trust() };
    check_node(&desk, &set.members[0].http, &trust);
    mirror.kill();
    assert_eq!(set.end(0), Some(0), "{}", set.log(0));
    // Of those that run one may be about to sign what it has followed.
    [0, 1, 2].into_iter().for_each(|index| desk.kill(index));
    let size = desk.gathered("3", "three", height).size;
    let attached = attach_at_rest(&desk, &set.chain(0), size);
    assert_eq!(attached.verify(&trust).unwrap().witnesses, 3);
    assert_eq!(Receipt { cosigned: None, ..attached }, receipt);
}

#[test]
fn a_witness_that_was_led_into_another_history_is_found_by_what_it_signed() {
    let root = tempfile::tempdir().unwrap();
    let chain = headers::Chain::new(101);
    let path = |name: &str| root.path().join(name);
    std::fs::write(path("trust-root.json"), chain.trust().to_json()).unwrap();
    let desk = Desk::new(root.path());
    let sign = |index: usize, from: &str| {
        let output = desk.command(index, from).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    sign(0, &chain.export(&path("links"), 100, headers::NONE));
    sign(1, &chain.export(&path("links"), 98, headers::NONE));
    // The liars show the third another history, which their quorum certifies: until it has passed
    // a size that the others signed there is nothing to see.
    let fork = chain.fork(65, 90);
    sign(2, &fork.export(&path("fork"), 68, headers::NONE));
    let output = desk.gather("2", "cosigned");
    assert!(output.status.success(), "{}", said(&output));
    let before = std::fs::read(path("cosigned")).unwrap();
    assert_eq!(Checkpoint::parse(std::str::from_utf8(&before).unwrap()).unwrap().size, 96);
    sign(2, &fork.export(&path("fork"), 90, headers::NONE));
    for quorum in ["1", "2", "3"] {
        let output = desk.gather(quorum, "cosigned");
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("SPLIT VIEW"), "{}", said(&output));
    }
    assert_eq!(std::fs::read(path("cosigned")).unwrap(), before, "nothing was gathered");
    let files = std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path());
    let evidence: Vec<PathBuf> =
        files.filter(|path| path.to_str().unwrap().contains("evidence-cosigned-")).collect();
    let text = std::fs::read_to_string(&evidence[0]).unwrap();
    let verdict = Evidence::from_json(&text).unwrap().verify(&desk.trust()).unwrap();
    assert_eq!(verdict.kind, "cosigned");
    let file = evidence[0].to_str().unwrap();
    let proved = run(0, &["evidence", "verify", file, "--trust-root", &desk.text("watched.json")]);
    assert!(proved.contains("PROVED") && proved.contains("w2.example"), "{proved}");
    // By hand they are not joined either: of one size, of two, of two chains.
    let site = chain.publish(&path("site"), 100, headers::NONE);
    let join = |code: i32, notes: [&str; 2]| {
        let notes = notes.map(|note| desk.text(note));
        let by_hand = ["mirror", "prove", &site, "--at", "0:0", "--cosigned", &notes[0]];
        run(code, &[&by_hand[..], &["--cosigned", &notes[1]]].concat())
    };
    let said = join(1, ["w0/checkpoints/88", "w2/checkpoints/88"]);
    assert!(said.contains("TWO HISTORIES") && said.contains("first 88 headers"), "{said}");
    let said = join(2, ["w0/checkpoint", "w1/checkpoint"]);
    assert!(said.contains("over 99 headers, the one before it over 101"), "{said}");
    let other = std::fs::read_to_string(path("w0/checkpoint")).unwrap();
    std::fs::write(path("other"), other.replacen("piaogen/", "piaogen/x", 1)).unwrap();
    assert!(join(2, ["w0/checkpoint", "other"]).contains("is of chain x"));
}

#[test]
fn trust_roots_list_witnesses_by_command_and_keys_are_shown() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let chain = headers::Chain::new(1);
    std::fs::write(path("trust-root.json"), chain.trust().to_json()).unwrap();
    let desk = Desk::new(root.path());
    let trust = desk.trust();
    assert_eq!(trust.witness_quorum, 2);
    assert_eq!(trust.witnesses.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), NAMES);
    assert_eq!(
        TrustRoot { witnesses: Vec::new(), witness_quorum: 0, ..trust.clone() },
        chain.trust()
    );
    // The key is shown as configurations and trust roots have it, from either half.
    for name in ["w1.pub", "w1.pem"] {
        let shown = run(0, &["inspect", "key", &desk.text(name)]);
        assert!(shown.contains(&hex::encode(trust.witnesses[1].key.to_compressed())), "{shown}");
        assert!(shown.contains(&hex::encode(trust.witnesses[1].key.key_id())), "{shown}");
    }
    run(2, &["inspect", "key", &desk.text("trust-root.json")]);
    let [from, out] = ["watched.json", "out.json"].map(|name| desk.text(name));
    let named = |name: &str, key: &str| format!("{name}={}", desk.text(key));
    let (first, second) = (named("a.example", "w0.pub"), named("b.example", "w1.pub"));
    let (twice, same) = (named("a.example", "w1.pub"), named("b.example", "w0.pub"));
    let spaced = named("a example", "w0.pub");
    let [first, second, twice, same, spaced] =
        [&first, &second, &twice, &same, &spaced].map(String::as_str);
    let make = |code: i32, quorum: &str, witnesses: &[&str]| {
        let arguments = ["trust", "witnesses", "--trust-root", &from, "--out", &out, "--quorum"];
        let witnesses = witnesses.iter().flat_map(|witness| ["--witness", witness]);
        run(code, &arguments.into_iter().chain([quorum]).chain(witnesses).collect::<Vec<_>>())
    };
    for (quorum, witnesses) in [
        ("3", &[first, second][..]),
        ("1", &[]),
        ("1", &[first, twice]),
        ("1", &[first, same]),
        ("1", &[spaced]),
        ("1", &["a.example"]),
        ("1", &["a.example=no-such-file"]),
    ] {
        make(2, quorum, witnesses);
        assert!(!path("out.json").exists());
    }
    make(0, "1", &[first, second]);
    make(0, "0", &[]);
    let bare = TrustRoot::from_json(&std::fs::read_to_string(path("out.json")).unwrap()).unwrap();
    assert_eq!(bare, chain.trust());
    // Without witnesses there is nothing to gather, and nothing else is overwritten.
    let (trust, key) = (desk.text("out.json"), desk.text("w0.pem"));
    let gather = |trust: &str, more: &[&str]| {
        let from = desk.folder(0);
        let arguments = ["witness", "gather", "--trust-root", trust, "--from", &from];
        run(2, &[&arguments[..], more].concat())
    };
    assert!(gather(&trust, &["--out", &desk.text("new")]).contains("lists no witnesses"));
    assert!(gather(&from, &["--out", &key]).contains("is no checkpoint"));
    let many = gather(&from, &["--quorum", "4", "--out", &desk.text("new")]);
    assert!(many.contains("demand 1 to 3"), "{many}");
}
