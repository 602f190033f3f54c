//! Proofs that anybody asks a node for: what became of an invoice, and that one header extends
//! another; of a validator and an observer, from liars, and while the state moves.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use common::{Chain, PATIENCE, Set, Stop, TIME_MS, generator, send, send_all, send_registrations};
use piaogen_crypto::Lanes;
use piaogen_loadgen::send::Sink;
use piaogen_loadgen::source::{Kind, Source};
use piaogen_node::site::{Busy, Site, encoded};
use piaogen_verify::consistency::Consistency;
use piaogen_verify::document::{Document, Fields};
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::json;
use piaogen_verify::opening;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::record::{self, Draft, RecordKind};
use piaogen_verify::scheme::usual;
use piaogen_verify::status::{FACTS_SHOWN, Right, StatusReceipt};
use piaogen_verify::tiles::Head;
use piaogen_verify::trust_root::TrustRoot;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FREQUENT: &str = "[blocks]\ninterval_ms = 50\nidle_interval_ms = 200\n[store]\n\
    flush_interval_ms = 300\n[limits]\nkey_tables_mib = 16\nqueue_mib = 32\n";
const RECORDS: u64 = 300;

/// A validator with its observer, and two good invoices of their stream.
struct World {
    set: Set,
    invoices: [Document; 2],
}

fn piaogen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_piaogen")).args(arguments).output().unwrap()
}

/// Runs a command that must end with this code; what it printed, standard error last.
fn run(code: i32, arguments: &[&str]) -> String {
    let output = piaogen(arguments);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
    format!("{out}{err}")
}

fn number(document: &Document) -> &str {
    std::str::from_utf8(document.fields.get(tag::NUMBER).unwrap()).unwrap()
}

impl World {
    /// Both run, everything is provable, and the first invoice is frozen.
    fn create(dir: &Path) -> World {
        let mut set = Set::observed(dir, 1, 1, 2, FREQUENT);
        let chain = set.chain(0);
        let source = generator(&chain, 20);
        let registrations = source.registrations(&chain.keys.authority);
        send_registrations(&chain, &registrations);
        [0, 1].into_iter().for_each(|index| set.start(index));
        // Who is registered issues from the next block on.
        let registered = Some(registrations.len() as u64);
        set.wait("the registrations are executed", |set| {
            set.series(0, "piaogen_executed_records_total") >= registered
        });
        let good = source.batch(0..RECORDS, Lanes::detect()).unwrap().into_iter();
        let good = good.filter(|one| one.kind == Kind::Blue).map(|one| one.index);
        let found: Vec<Document> = good.take(2).map(|i| source.document(i).unwrap()).collect();
        send_all(&chain, &source, RECORDS);
        let world = World { invoices: found.try_into().unwrap(), set };
        let text = json::document_to_json(&world.invoices[0]);
        std::fs::write(dir.join("document.json"), text).unwrap();
        world.event("freeze", "order-1");
        world.set.settle(&[0, 1]);
        world.set.wait("both can prove it", |set| {
            let proved = |index| {
                let proof = asked(set, index).ask(&path(&world.invoices[0]), 1 << 20);
                proof.is_ok_and(|bytes| frozen(&bytes))
            };
            proved(0) && proved(1)
        });
        world
    }

    /// An authority says something of the first invoice.
    fn event(&self, kind: &str, order: &str) {
        let dir = self.set.chain(0).dir;
        let (key, document) = (self.file("authority.pem"), self.file("document.json"));
        let fields = format!("{{\"reference\": \"{order}\"}}");
        let submit = ["submit", "--dir", dir.to_str().unwrap(), "--key", &key, "event", kind];
        run(0, &[&submit[..], &["--document", &document, "--fields", &fields]].concat());
    }

    fn file(&self, name: &str) -> String {
        self.set.dir.join(name).to_str().unwrap().to_string()
    }

    fn trust(&self) -> TrustRoot {
        TrustRoot::of_genesis(&self.set.keys.genesis)
    }

    /// The proof of a status by the command, from one of the nodes.
    fn status(&self, node: usize, document: &Document, out: &str) -> StatusReceipt {
        let from = format!("http://{}", self.set.members[node].http);
        let (root, out) = (self.file("trust-root.json"), self.file(out));
        let ask = ["status", "--from", &from, "--number", number(document)];
        run(0, &[&ask[..], &["--trust-root", &root, "--out", &out, "--compact"]].concat());
        let said = run(0, &["verify", &out, "--trust-root", &root]);
        assert!(said.contains("VERIFIED"), "{said}");
        // Whoever has the document can tell that it is the one.
        let whole = ["--document", &self.file("document.json")];
        let code = i32::from(document.secret != self.invoices[0].secret);
        run(code, &[&["verify", &out, "--trust-root", &root][..], &whole].concat());
        StatusReceipt::decode(&std::fs::read(out).unwrap()).unwrap()
    }
}

fn asked(set: &Set, node: usize) -> Site {
    let from = format!("http://{}", set.members[node].http);
    Site::node(&from, PATIENCE).unwrap().unwrap()
}

fn path(document: &Document) -> String {
    format!("status/CN-EINV/{}", encoded(number(document)))
}

fn frozen(bytes: &[u8]) -> bool {
    let proof = StatusReceipt::decode(bytes).unwrap();
    proof.part(tag::FACE).is_some() && proof.record() != [0; 32]
}

/// What a status proof that everybody gets shows: the face and what goes with it, no figure.
fn shows_nothing_else(proof: &StatusReceipt) {
    assert!(proof.receipt.fields.is_empty());
    let shown = proof.fields.iter().filter(|field| field.value().is_some());
    let shown: Vec<u16> = shown.map(|field| field.tag).collect();
    assert!(shown.iter().all(|tag| Right::Public.parts().contains(tag)), "{shown:?}");
}

/// Each of some bytes changed; none is believed.
fn none_is_believed(bytes: &[u8], holds: impl Fn(&[u8]) -> bool) {
    assert!(holds(bytes));
    for at in (0..bytes.len()).step_by(1 + bytes.len() / 150) {
        let mut other = bytes.to_vec();
        other[at] ^= 1 << (at % 8);
        assert!(!holds(&other), "byte {at} of {}", bytes.len());
        assert!(!holds(&bytes[..at]), "cut at {at}");
    }
}

/// Answers one request with these bytes; where.
fn liar(bytes: Vec<u8>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let from = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4_096]).unwrap();
        let length = bytes.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").unwrap();
        stream.write_all(&bytes).unwrap();
    });
    from
}

#[test]
fn what_became_of_an_invoice_is_proved_to_whoever_asks() {
    let root = tempfile::tempdir().unwrap();
    let mut world = World::create(root.path());
    let trust = world.trust();
    let [touched, untouched] = &world.invoices;
    for node in [0, 1] {
        let proof = world.status(node, touched, "touched");
        let verified = proof.verify(&trust).unwrap();
        let face = verified.face.clone().unwrap();
        assert!(face.frozen && face.version == 1 && verified.no_lien() && !verified.untouched());
        assert!(!verified.shown.contains(&tag::FREEZES) && verified.parts.contains(&tag::FREEZES));
        shows_nothing_else(&proof);
        none_is_believed(&proof.encode(), |bytes| {
            StatusReceipt::decode(bytes).is_ok_and(|proof| proof.verify(&trust).is_ok())
        });
        let proof = world.status(node, untouched, "untouched");
        let verified = proof.verify(&trust).unwrap();
        assert!(verified.untouched() && verified.no_lien() && verified.no_booking());
        shows_nothing_else(&proof);
    }
    let from = format!("http://{}", world.set.members[1].http);
    let said = run(2, &["status", "--from", &from, "--number", "0/0?#"]);
    assert!(said.contains("404 no such invoice was accepted"), "{said}");
    let said = run(2, &["status", "--from", &from, "--number", "1", "--parts", "all"]);
    assert!(said.contains("cannot be used with"), "{said}");

    // The proof of another invoice, and one that was touched on the way.
    let (good, trust_root) = (world.file("touched"), world.file("trust-root.json"));
    let good = std::fs::read(good).unwrap();
    let ask = |from: &str, document: &Document| {
        let ask = ["status", "--from", from, "--number", number(document)];
        run(1, &[&ask[..], &["--trust-root", &trust_root]].concat())
    };
    let said = ask(&liar(good.clone()), untouched);
    assert!(said.contains("another invoice"), "{said}");
    let mut other = good;
    *other.last_mut().unwrap() ^= 1;
    let said = ask(&liar(other), touched);
    assert!(said.contains("proves nothing"), "{said}");
    for node in [1, 0] {
        assert_eq!(world.set.end(node), Some(0), "{}", world.set.log(node));
    }
}

/// Freezes invoices of one shard, one each few milliseconds and again and again, until it is told to
/// stop; every eighth time the first of them.
fn freeze_steadily(chain: &Chain, invoices: &[Document], stop: &AtomicBool) {
    let genesis = chain.genesis();
    let mut sink = chain.sink();
    for order in 0.. {
        let at = if order % 8 == 0 { 0 } else { order % invoices.len() };
        let Document { secret, fields, .. } = &invoices[at];
        let mut event = Fields::new();
        event.set_text(tag::SCHEME, fields.text(tag::SCHEME));
        event.set_text(tag::NUMBER, fields.text(tag::NUMBER));
        event.set_text(tag::REFERENCE, &format!("order-{order}"));
        let opened = opening::open(*secret, fields, |tag| FACTS_SHOWN.contains(&tag));
        event.set(tag::OPENING, opening::encode(&opened));
        let secret = (order as u128).to_be_bytes();
        let draft =
            Draft { kind: RecordKind::Freeze, signed_at: TIME_MS, secret, fields: event.pairs() };
        let record = draft.sign(&genesis.chain, &chain.keys.authority);
        send(&mut sink, shard_of(&invoices[at], &genesis), &record, order as u64);
        sink.poll_acks(&mut Vec::new()).unwrap();
        if stop.load(Ordering::Acquire) {
            return sink.flush().unwrap();
        }
        std::thread::sleep(Duration::from_millis(4));
    }
}

fn shard_of(document: &Document, genesis: &Genesis) -> u32 {
    let subject = record::subject(usual::CN_EINV.as_bytes(), None, number(document).as_bytes());
    record::partition(&subject, genesis.file.partitions)
}

/// Asks for a status until it was proved by so many headers. Every answer is one that holds, and none
/// is of an older header than the one before. The version of the last. A node is busy only where no
/// header comes to prove it by.
fn ask_steadily(world: &World, node: usize, headers: usize) -> u64 {
    let (site, path, trust) = (asked(&world.set, node), path(&world.invoices[0]), world.trust());
    let (mut last, mut seen) = ((0, 0), 0);
    let until = Instant::now() + PATIENCE;
    while seen < headers {
        assert!(Instant::now() < until, "node {node}: {seen} of {headers}, the last {last:?}");
        let before = head(&site);
        let bytes = match site.ask(&path, 1 << 20) {
            Err(error) if error.is::<Busy>() => {
                let after = head(&site);
                assert!(after < before + 8, "node {node}: {error}, from {before} to {after}");
                continue;
            }
            answer => answer.unwrap(),
        };
        let proof = StatusReceipt::decode(&bytes).unwrap();
        let verified = proof.verify(&trust).unwrap();
        let now = (verified.block.height, verified.face.unwrap().version);
        assert!(last.0 <= now.0 && last.1 <= now.1, "node {node}: {now:?} after {last:?}");
        seen += usize::from(now.0 > last.0);
        last = now;
    }
    last.1
}

/// The height of the newest header that proves something.
fn head(site: &Site) -> u64 {
    Head::decode(&site.ask("head", 1 << 20).unwrap()).unwrap().header.height
}

#[test]
fn a_status_is_proved_whenever_it_is_asked_for_however_steadily_its_shard_changes() {
    let root = tempfile::tempdir().unwrap();
    let mut world = World::create(root.path());
    let (chain, first) = (world.set.chain(0), world.invoices[0].clone());
    let genesis = chain.genesis();
    let shard = shard_of(&first, &genesis);
    let source = generator(&chain, 20);
    let good = source.batch(0..RECORDS, Lanes::detect()).unwrap().into_iter();
    let good = good.filter(|one| one.kind == Kind::Blue).map(|one| one.index);
    let beside = good.map(|index| source.document(index).unwrap());
    let beside = beside.filter(|one| shard_of(one, &genesis) == shard);
    let invoices: Vec<Document> = [first].into_iter().chain(beside.skip(1)).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| freeze_steadily(&chain, &invoices, &stop));
        let _stopping = Stop(&stop);
        let versions = std::thread::scope(|scope| {
            let world = &world;
            let asking = [0, 1].map(|node| scope.spawn(move || ask_steadily(world, node, 40)));
            asking.map(|thread| thread.join().unwrap())
        });
        // A node that dies under it remembers nothing of the past, and answers again from the first
        // header that it can prove on; until then it is busy, and says of no invoice that it is not.
        world.set.kill(0);
        world.set.start(0);
        let (site, path) = (asked(&world.set, 0), path(&world.invoices[0]));
        let mut refused = Vec::new();
        let until = Instant::now() + PATIENCE;
        while let Err(error) = site.ask(&path, 1 << 20) {
            assert!(Instant::now() < until, "{error:#}\n{}", world.set.log(0));
            refused.push(format!("{error:#}"));
            std::thread::sleep(Duration::from_millis(1));
        }
        let again = ask_steadily(&world, 0, 10);
        assert!(refused.iter().all(|error| !error.contains("404")), "{refused:#?}");
        assert!(versions.into_iter().chain([again]).all(|version| version > 3));
    });
    assert_eq!(world.set.end(1), Some(0));
    assert_eq!(world.set.end(0), Some(0));
}

/// By number and by place, showing what is wanted; led to a later header. This node has nothing that
/// witnesses cosigned, and says so.
fn receipts_come_from_a_node(world: &World, from: &str) {
    let (out, root) = (world.file("receipt.json"), world.file("trust-root.json"));
    let (whole, wanted) = (world.file("document.json"), number(&world.invoices[0]));
    let read = || Receipt::from_json(&std::fs::read_to_string(&out).unwrap()).unwrap();
    let get = |which: &[&str]| {
        let get = ["receipt", "--from", from, "--out", &out];
        run(0, &[&get[..], which].concat())
    };
    let said = get(&["--number", wanted, "--show", "number,total_gross"]);
    assert!(said.contains("the node has no cosignatures over this record yet"), "{said}");
    let receipt = read();
    let shown = receipt.fields.iter().filter(|field| field.value().is_some());
    assert_eq!(shown.map(|field| field.tag).collect::<Vec<_>>(), [tag::NUMBER, tag::TOTAL_GROSS]);
    run(0, &["verify", &out, "--trust-root", &root, "--document", &whole]);
    let place = format!("{}:{}", receipt.shard.shard, receipt.entry.offset);
    let said = get(&["--at", &place, "--newest"]);
    assert!(!said.contains("cosignatures"), "{said}");
    let hidden = read();
    assert_eq!(hidden.entry, receipt.entry);
    assert!(hidden.fields.iter().all(|field| field.value().is_none()));
    assert_eq!(hidden.fields.len(), world.invoices[0].fields.len());
    world.set.grow(&[1], 2);
    let old = world.file("old.json");
    std::fs::rename(&out, &old).unwrap();
    get(&["--renew", &old]);
    let renewed = read();
    assert_eq!(renewed.header, hidden.header);
    assert!(renewed.history.is_some_and(|(newer, _)| newer.height > hidden.header.height));
    run(0, &["verify", &out, "--trust-root", &root]);
    let said = run(2, &["receipt", "--from", from, "--attach", &old]);
    assert!(said.contains("let the witnesses catch up"), "{said}");
    for (which, why) in [
        (["--number", "1"], "no such invoice"),
        (["--at", "0:99999999"], "no provable record"),
        (["--at", "9:0"], "there is no shard 9"),
    ] {
        let said = run(2, &[&["receipt", "--from", from][..], &which].concat());
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn one_header_is_proved_to_extend_another() {
    let root = tempfile::tempdir().unwrap();
    let mut world = World::create(root.path());
    let trust = world.trust();
    world.set.grow(&[0, 1], 5);
    for node in [0, 1] {
        let asked = asked(&world.set, node);
        let newest = head(&asked);
        assert!(newest > 3, "{newest}");
        let pairs = [(0, 1), (0, newest), (1, 2), (newest - 1, newest), (2, newest - 1)];
        for (older, newer) in pairs {
            let bytes = asked.ask(&format!("consistency/{older}/{newer}"), 1 << 20).unwrap();
            let proof = Consistency::decode(&bytes).unwrap();
            proof.verify(&trust).unwrap();
            assert_eq!((proof.older.height, proof.newer.height), (older, newer));
            none_is_believed(&bytes, |bytes| {
                Consistency::decode(bytes).is_ok_and(|proof| proof.verify(&trust).is_ok())
            });
        }
        for wrong in ["7/7", "8/7", "0/99999999", "-1/5", "0/18446744073709551615", "a/b"] {
            let error = asked.ask(&format!("consistency/{wrong}"), 1 << 20).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(": 400 ") || error.contains(": 404 "), "{error}");
        }
    }
    let from = format!("http://{}", world.set.members[1].http);
    let (out, root) = (world.file("consistency.json"), world.file("trust-root.json"));
    let make = ["receipt", "--from", &from, "--consistency", "1", "--out", &out];
    run(0, &make);
    let said = run(0, &["verify", &out, "--trust-root", &root]);
    assert!(said.contains("extends block 1"), "{said}");
    let text = std::fs::read_to_string(&out).unwrap();
    let at = text.find("\"proof\"").unwrap() + 20;
    let old = &text[at..at + 1];
    let forged =
        format!("{}{}{}", &text[..at], if old == "0" { "1" } else { "0" }, &text[at + 1..]);
    std::fs::write(&out, forged).unwrap();
    let said = run(1, &["verify", &out, "--trust-root", &root]);
    assert!(said.contains("history"), "{said}");
    receipts_come_from_a_node(&world, &from);
    assert_eq!(world.set.end(1), Some(0));
    assert_eq!(world.set.end(0), Some(0));
}

#[test]
fn whatever_is_asked_a_node_goes_on_and_ends_when_it_is_told() {
    let root = tempfile::tempdir().unwrap();
    let mut world = World::create(root.path());
    let address = world.set.members[0].http.clone();
    let ask = |request: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be refused before all is said.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).get(9..12).unwrap_or_default().to_string()
    };
    let get = |path: &str| ask(&format!("GET /v1/{path} HTTP/1.1\r\nConnection: close\r\n\r\n"));
    for path in [
        "status/CN-EINV/%2e%2e%2f%2e%2e%2fvalidator.pem".into(),
        "status/../../validator.pem".into(),
        "snapshot/..%2fvalidator.pem".into(),
        "tiles/..%2f..%2fvalidator.pem".into(),
        "tiles/0/7/x072/x057/x594/x037/x927/935".into(),
        "tiles/history/entries/x001/000".into(),
        "tiles/4294967295/0/000".into(),
        format!("status/CN-EINV/{}", "9".repeat(8_000)),
        format!("status/{}/9?seller={}", "x".repeat(300), "%00".repeat(300)),
    ] {
        assert_eq!(get(&path), "404", "{path}");
    }
    for path in ["status/%ff/%ff", "headers/x", "receipts/0/0?count=0"] {
        assert_eq!(get(path), "400", "{path}");
    }
    assert_eq!(get("headers/18446744073709551615?count=1000"), "200");
    assert_eq!(get("receipts/0/18446744073709551615?count=1000"), "200");
    assert_eq!(
        ask("POST /v1/head HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        "405"
    );
    let live = || ask("GET /health/live HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert_eq!(live(), "200");
    // Neither a silent connection nor half a question keeps it from ending.
    let held = ["", "GET /v1/head HTTP/1.1\r\nHost"].map(|said| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        stream
    });
    assert_eq!(live(), "200");
    assert_eq!(world.set.end(1), Some(0), "{}", world.set.log(1));
    assert_eq!(world.set.end(0), Some(0), "{}", world.set.log(0));
    drop(held);
}
