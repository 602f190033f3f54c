//! The lives of some invoices through a node as a process: who came second is told so, what became
//! of each is proved offline, who must be warned is warned, near-duplicates are found, and neither
//! SIGKILL nor rebuilding changes any of it.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use common::{Carrier, Chain, TIME_MS, copy, forge, kafka, prefix, send, send_registrations};
use piaogen_crypto::Digest;
use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::SecretKey;
use piaogen_loadgen::parties::key;
use piaogen_loadgen::send::Sink;
use piaogen_node::run::receipts::{self, Prover, Show, provable_at_rest};
use piaogen_node::setup;
use piaogen_storage::snapshot::PartKind;
use piaogen_storage::{IdPlace, Row, Store, StoreReader};
use piaogen_verify::alert::{Alert, Place, SignedAlert};
use piaogen_verify::document::Fields;
use piaogen_verify::entry::Entry;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::genesis::{ROLE_BANK, ROLE_COMPANY, ROLE_ISSUER};
use piaogen_verify::opening;
use piaogen_verify::policy::Policy;
use piaogen_verify::record::{self, Draft, RecordKind as R};
use piaogen_verify::scheme::usual;
use piaogen_verify::status::{Status, StatusProof, ZERO};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::value;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

const GROSS: i128 = 11_300;
const SECRET: [u8; 16] = [9; 16];
const PARTITIONS: u32 = 3;
/// How long a slip waits in these stories: no kill takes so long that one which is to be used lapses.
const SLIP_MS: u64 = 20_000;
/// When both sides are warned of it.
const WARNED_MS: u64 = 1_000;
/// From here on the policy of these stories holds, some blocks after the chain begins.
const POLICY_HEIGHT: u64 = 10;

/// What is sent, in order, and what must become of it.
struct Story<'a> {
    chain: &'a Chain,
    now: i64,
    sent: Vec<(u32, Vec<u8>, &'static str)>,
}

fn actor(name: &str) -> SecretKey {
    key(7, name, 0)
}

fn invoice(number: &str) -> Fields {
    let mut fields = Fields::new();
    for (tag, text) in [
        (tag::SCHEME, usual::CN_EINV),
        (tag::NUMBER, number),
        (tag::TYPE_CODE, "380"),
        (tag::VAT_TYPE, "01"),
        (tag::SELLER_NAME, "卖方"),
        (tag::SELLER_PARTY, "S"),
        (tag::BUYER_PARTY, "B"),
    ] {
        fields.set_text(tag, text);
    }
    fields.set(tag::ISSUE_DATE, value::date(2026, 9, 25));
    fields.set(tag::CURRENCY, value::currency(*b"CNY", 2));
    fields.set_amount(tag::TOTAL_NET, GROSS * 100 / 113);
    fields.set_amount(tag::TOTAL_VAT, GROSS - GROSS * 100 / 113);
    fields.set_amount(tag::TOTAL_GROSS, GROSS);
    fields
}

fn amount(minor_units: i128) -> (Tag, Vec<u8>) {
    (tag::AMOUNT, value::amount(minor_units))
}

fn text(tag: Tag, text: &str) -> (Tag, Vec<u8>) {
    (tag, value::text(text))
}

fn uint(tag: Tag, number: u64) -> (Tag, Vec<u8>) {
    (tag, value::uint(number))
}

fn subject(number: &str) -> Vec<u8> {
    record::subject(usual::CN_EINV.as_bytes(), None, number.as_bytes())
}

impl Story<'_> {
    fn sign(&mut self, who: &SecretKey, kind: R, fields: &Fields, outcome: &'static str) {
        let secret = match kind {
            R::Issue => SECRET,
            _ => u128::try_from(self.sent.len()).unwrap().to_be_bytes(),
        };
        let draft = Draft { kind, signed_at: self.now, secret, fields: fields.pairs() };
        let bytes = draft.sign(&self.chain.genesis().chain, who);
        let partition = record::partition(&subject(fields.text(tag::NUMBER)), PARTITIONS);
        self.sent.push((partition, bytes, outcome));
    }

    fn issue(&mut self, number: &str) {
        self.sign(&actor("S"), R::Issue, &invoice(number), "ACCEPTED");
    }

    /// An event on an invoice, which it opens.
    fn event(
        &mut self,
        who: &str,
        kind: R,
        number: &str,
        fields: &[(Tag, Vec<u8>)],
        outcome: &'static str,
    ) {
        let mut all: Fields = fields.iter().cloned().collect();
        all.set_text(tag::SCHEME, usual::CN_EINV);
        all.set_text(tag::NUMBER, number);
        let opened = opening::open(SECRET, &invoice(number), |tag| tag != tag::SELLER_NAME);
        all.set(tag::OPENING, opening::encode(&opened));
        let key = if who == "T" { self.chain.keys.authority.clone() } else { actor(who) };
        self.sign(&key, kind, &all, outcome);
    }

    fn again(&mut self, outcome: &'static str) {
        let (partition, bytes, _) = self.sent.last().unwrap().clone();
        self.sent.push((partition, bytes, outcome));
    }

    /// Booked once, and what the second is told. The buyer wants a part credited, and the seller
    /// says nothing to that until it lapses.
    fn booked(&mut self, number: &str) {
        self.issue(number);
        self.event("B", R::Book, number, &[amount(GROSS)], "ACCEPTED");
        self.again("REPLAY");
        self.event("B", R::Book, number, &[amount(GROSS)], "ALREADY_BOOKED");
        self.event("S", R::Book, number, &[amount(GROSS)], "NOT_BUYER");
        let slip =
            [amount(100), (tag::TAX_AMOUNT, value::amount(11)), text(tag::REASON_CODE, "02")];
        self.event("B", R::SlipOpen, number, &slip, "ACCEPTED");
    }

    /// Held and financed by one bank; what the other is told, and the seller who wants it red.
    fn financed(&mut self, number: &str) {
        self.issue(number);
        let until = (tag::EXPIRES, value::time(self.now + 3_600_000));
        self.event("K", R::FinanceHold, number, &[amount(GROSS), until.clone()], "NO_CONSENT");
        for bank in ["K", "L"] {
            let consent = [text(tag::ACTOR, bank), uint(tag::SCOPE, 7), until.clone()];
            self.event("S", R::ConsentGrant, number, &consent, "ACCEPTED");
        }
        self.event("K", R::FinanceHold, number, &[amount(GROSS), until.clone()], "ACCEPTED");
        self.event("L", R::FinanceHold, number, &[amount(GROSS), until.clone()], "HELD");
        let form = text(tag::FORM, "pledge");
        let open = [amount(GROSS), form, (tag::ADVANCED, value::amount(9_000))];
        let with_hold = [&open[..], &[uint(tag::FINANCING, 1)]].concat();
        self.event("L", R::FinanceOpen, number, &with_hold, "NOT_HOLDER");
        self.event("K", R::FinanceOpen, number, &with_hold, "ACCEPTED");
        self.event("L", R::FinanceOpen, number, &open, "ENCUMBERED");
        self.event("L", R::Query, number, &[], "ACCEPTED");
        let red = [amount(100), (tag::TAX_AMOUNT, value::amount(11)), text(tag::REASON_CODE, "02")];
        self.event("S", R::RedRequest, number, &red, "ENCUMBERED");
    }

    /// Credited in part, and no further than what was agreed.
    fn credited(&mut self, number: &str) {
        self.issue(number);
        let half = [amount(GROSS / 2), (tag::TAX_AMOUNT, value::amount(650))];
        let request = [&half[..], &[text(tag::REASON_CODE, "02")]].concat();
        self.event("T", R::Void, number, &[], "NOT_VOIDABLE");
        self.event("S", R::RedRequest, number, &request, "ACCEPTED");
        let apply = |red: &str| [&half[..], &[text(tag::RED_NUMBER, red)]].concat();
        self.event("T", R::RedApply, number, &apply("R1"), "ACCEPTED");
        self.event("T", R::RedApply, number, &apply("R2"), "NO_SLIP");
        self.event("B", R::Book, number, &[amount(GROSS)], "AMOUNT_EXCEEDED");
        self.event("B", R::Book, number, &[amount(GROSS / 2)], "ACCEPTED");
    }

    fn send(&self, from: usize) {
        let mut sink = self.chain.sink();
        for (token, (partition, bytes, _)) in (0..).zip(&self.sent[from..]) {
            send(&mut sink, *partition, bytes, token);
        }
        sink.flush().unwrap();
    }
}

/// Signed before the first block, by whose header before they are judged.
fn registrations(chain: &Chain, slip_ms: u64, warned_ms: u64) -> Vec<Vec<u8>> {
    let roles = [
        ("S", ROLE_ISSUER | ROLE_COMPANY),
        ("B", ROLE_COMPANY),
        ("K", ROLE_BANK),
        ("L", ROLE_BANK),
    ];
    let register = |(party, roles): (&str, u64)| {
        let mut fields = Fields::new();
        fields.set_text(tag::PARTY, party);
        fields.set_text(tag::PARTY_NAME, party);
        fields.set(tag::ROLES, value::uint(roles));
        let public = actor(party).public_key().to_compressed();
        fields.set(tag::PUBLIC_KEY, public.to_vec());
        let (kind, secret) = (R::Register, [0; 16]);
        Draft { kind, signed_at: TIME_MS, secret, fields: fields.pairs() }
            .sign(&chain.genesis().chain, &chain.keys.authority)
    };
    let policy = Policy { slip_ms, slip_warning_ms: slip_ms - warned_ms, ..Policy::default() };
    let mut fields: Fields =
        policy.values().into_iter().map(|(tag, number)| uint(tag, number)).collect();
    fields.set(tag::EFFECTIVE_HEIGHT, value::uint(POLICY_HEIGHT));
    let draft =
        Draft { kind: R::Policy, signed_at: TIME_MS, secret: [0; 16], fields: fields.pairs() };
    let policy = draft.sign(&chain.genesis().chain, &chain.keys.authority);
    roles.into_iter().map(register).chain([policy]).collect()
}

/// Registers everybody, and runs the node until the policy is in force.
fn begin(chain: &Chain, slip_ms: u64, warned_ms: u64) {
    let records = registrations(chain, slip_ms, warned_ms);
    send_registrations(chain, &records);
    let mut node = chain.spawn();
    let reader = || StoreReader::open(&chain.config().dir).ok();
    node.wait("the policy is in force", || {
        reader().is_some_and(|reader| reader.flushed().height >= POLICY_HEIGHT)
    });
    node.kill();
    chain.drain();
    let registry = StoreReader::open(&chain.config().dir).unwrap();
    let registered = registry.flushed().shards[PARTITIONS as usize].log_size;
    assert_eq!(registered, records.len() as u64);
}

/// Every leaf says what it must, and every receipt holds against the trust root alone.
fn check_leaves(story: &Story<'_>) {
    let config = story.chain.config();
    let trust = TrustRoot::of_genesis(&story.chain.genesis());
    let reader = StoreReader::open(&config.dir).unwrap();
    let archive = setup::archive_at_rest(&config, Some(trust.chain)).unwrap();
    let provable = provable_at_rest(&story.chain.genesis(), &archive, &reader).unwrap();
    let prover = Prover { store: &reader, archive: &archive, provable };
    let mut next = [0u64; PARTITIONS as usize];
    for (partition, bytes, outcome) in &story.sent {
        let index = next[*partition as usize];
        next[*partition as usize] += 1;
        let row = prover.row(*partition, index).unwrap().unwrap();
        let entry = Entry::decode(&row.entry).unwrap();
        let kind = entry.kind.unwrap();
        assert_eq!(&row.record, bytes);
        assert_eq!(entry.outcome.name(), *outcome, "{} {}", kind.name(), entry.outcome.explain());
        let place = reader.find(*partition, &entry.subject).unwrap().unwrap();
        let accepted = *outcome == "ACCEPTED";
        assert_eq!(entry.issue, accepted.then_some(place.issue_index));
        // These come first in the stories above: they met an untouched invoice.
        let untouched = ["NO_CONSENT", "NOT_VOIDABLE"].contains(outcome) || kind == R::Issue;
        assert_eq!(entry.status == ZERO, untouched, "{} {outcome}", kind.name());
        let receipt = prover.receipt(*partition, &row, &Show::All).unwrap();
        receipt.verify(&trust).unwrap();
    }
}

/// What is in the outbox, told apart by id: alerts of one id are the same.
fn told(chain: &Chain) -> HashMap<Digest, Alert> {
    let output = chain.piaogen(&["alerts"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let alerts = text.lines().map(|line| SignedAlert::from_json(line).unwrap().alert);
    alerts.map(|alert| (alert.id(), alert)).collect()
}

/// Invoices that were accepted, in order of execution, and slips that were opened.
fn issued(chain: &Chain) -> (Vec<Place>, Vec<Place>) {
    let config = chain.config();
    let reader = StoreReader::open(&config.dir).unwrap();
    let archive = setup::archive_at_rest(&config, None).unwrap();
    let (mut issued, mut slips) = (Vec::new(), Vec::new());
    for partition in 0..PARTITIONS {
        let size = reader.flushed().shards[partition as usize].log_size;
        let mut next = 0;
        while next < size {
            for row in receipts::rows(&archive, &reader, partition, next, 1_000).unwrap() {
                let entry = Entry::decode(&row.entry).unwrap();
                let at = Place { shard: partition, log_index: row.log_index };
                next = row.log_index + 1;
                match entry.kind.filter(|_| entry.outcome.name() == "ACCEPTED") {
                    Some(R::Issue) => issued.push((row.height, at)),
                    Some(R::SlipOpen) => slips.push(at),
                    _ => {}
                }
            }
        }
    }
    issued.sort_by_key(|(height, at)| (*height, at.shard, at.log_index));
    (issued.into_iter().map(|(_, at)| at).collect(), slips)
}

/// However often the node was killed: both sides of every slip are warned once, and every invoice
/// is told to be like the one before it, since all of them are.
fn check_alerts(story: &Story<'_>) {
    let (issued, slips) = issued(story.chain);
    let told = told(story.chain);
    let all = |kinds: &[&str], at: Place| -> Vec<&Alert> {
        told.values().filter(|a| kinds.contains(&a.kind.as_str()) && a.at == at).collect()
    };
    assert_eq!(all(&["near_amount"], issued[0]), Vec::<&Alert>::new());
    for pair in issued.windows(2) {
        let near = all(&["near_amount"], pair[1]);
        assert!(near.len() == 1 && near[0].other == Some(pair[0]), "{pair:?}: {near:?}");
    }
    for slip in slips {
        let warned = all(&["slip_lapsing", "slip_lapsed"], slip);
        let mut to: Vec<&str> = warned.iter().filter_map(|alert| alert.to.as_deref()).collect();
        to.sort_unstable();
        assert_eq!(to, ["B", "S"], "{slip:?}");
    }
}

/// What became of an invoice is proved under the status root of its shard; `None`: untouched.
fn proved(chain: &Chain, number: &str) -> Option<Status> {
    let (config, genesis) = (chain.config(), chain.genesis());
    let reader = StoreReader::open(&config.dir).unwrap();
    let archive = setup::archive_at_rest(&config, Some(genesis.chain)).unwrap();
    let provable = provable_at_rest(&genesis, &archive, &reader).unwrap();
    let subject = subject(number);
    let shard = record::partition(&subject, PARTITIONS);
    let issue = reader.find(shard, &subject).unwrap().unwrap().issue_index;
    let root = provable.shards[shard as usize].status_root;
    let path = reader.status_path(shard, issue, &root).unwrap().unwrap();
    let proof = StatusProof { siblings: path.siblings.try_into().unwrap() };
    assert_eq!(proof.root(&path.record, issue), Some(root));
    let status = path.document.map(|bytes| Status::decode(&bytes).unwrap());
    assert_eq!(status.as_ref().map_or(ZERO, Status::digest), path.record);
    status
}

fn check_proofs(chain: &Chain) {
    let booked = proved(chain, "booked-0").unwrap();
    assert_eq!((booked.face().booked, booked.version()), (true, 2));
    let financed = proved(chain, "financed-0").unwrap();
    assert_eq!((financed.face().liens, financed.capacity()), (1, 0));
    assert_eq!(financed.liens().next().unwrap().holder, "K");
    let credited = proved(chain, "credited-0").unwrap();
    assert_eq!((credited.remainder(), credited.booked()), (GROSS / 2, GROSS / 2));
    assert_eq!(proved(chain, "untouched"), None);
}

/// Runs `piaogen verify` on a file; its exit code, and what it printed.
fn verify(chain: &Chain, file: &Path, more: &[&str]) -> (i32, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_piaogen"));
    command.arg("verify").arg(file).arg("--trust-root").arg(chain.dir.join("trust-root.json"));
    let output = command.args(more).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// What `piaogen status` writes, `piaogen verify` reads: each kind in each form, known by itself;
/// and it names the step where anything of it was changed.
fn check_files(chain: &Chain) {
    let file = chain.dir.join("proof");
    let write = |number: &str, more: &[&str]| {
        let which = ["status", "--number", number, "--out", file.to_str().unwrap()];
        let output = chain.piaogen(&[&which[..], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(&file).unwrap()
    };
    let ends = "it says nothing of later blocks";
    for form in [&[][..], &["--compact"]] {
        for (number, history, kind, words) in [
            ("untouched", false, "untouched", "nothing ever happened to it"),
            ("booked-0", false, "status", "no lien stands against it; it is booked"),
            ("financed-0", false, "status", "one lien stands against it; nobody has booked it"),
            ("financed-0", true, "history", "4 records made its status, these and no others"),
            ("untouched", true, "history", "0 records made its status"),
        ] {
            let history: &[&str] = if history { &["--history"] } else { &[] };
            let more = [form, history].concat();
            write(number, &more);
            let (code, said) = verify(chain, &file, &[]);
            assert_eq!(code, 0, "{said}");
            for words in [words, "VERIFIED: CN-EINV", ", as of block ", ends] {
                assert!(said.contains(words), "{number} {more:?}: {said}");
            }
            let (code, json) = verify(chain, &file, &["--json"]);
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!((code, json["kind"].as_str()), (0, Some(kind)), "{json:#}");
            assert!(json["height"].as_u64().unwrap() > 1, "{json:#}");
        }
        let mut torn = write("booked-0", form);
        torn.truncate(torn.len() - 2);
        std::fs::write(&file, torn).unwrap();
        refused(chain, &file, "decode");
    }
    altered(chain, &file, write("booked-0", &[]), "/status/face/value/0/booked", "path");
    altered(chain, &file, write("booked-0", &[]), "/path/0", "path");
    altered(chain, &file, write("booked-0", &[]), "/receipt/log_index", "inclusion");
    altered(chain, &file, write("financed-0", &["--history"]), "/records/1", "records");
    let history = write("financed-0", &["--history"]);
    altered(chain, &file, history, "/status/receipt/header/height", "quorum");
    let (code, said) = verify(chain, &chain.dir.join("no such file"), &[]);
    assert_eq!(code, 2, "{said}");
    refused(chain, &chain.dir.join("trust-root.json"), "decode");
}

fn refused(chain: &Chain, file: &Path, step: &str) {
    let (code, said) = verify(chain, file, &["--json"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("\"step\": {step:?}")), "{step}: {said}");
    let (code, said) = verify(chain, file, &[]);
    assert!(code == 1 && said.contains(&format!("refused at step `{step}`")), "{step}: {said}");
}

/// Changes one thing in a proof, or takes it out, and expects this step to find it.
fn altered(chain: &Chain, file: &Path, proof: Vec<u8>, pointer: &str, step: &str) {
    let mut json: serde_json::Value = serde_json::from_slice(&proof).unwrap();
    let (above, last) = pointer.rsplit_once('/').unwrap();
    match json.pointer_mut(above).unwrap() {
        serde_json::Value::Array(list) => {
            list.remove(last.parse().unwrap());
        }
        serde_json::Value::Object(object) => match object[last].as_u64() {
            Some(number) => object[last] = (number + 1).into(),
            None => {
                object.remove(last);
            }
        },
        other => panic!("{other}"),
    }
    std::fs::write(file, json.to_string()).unwrap();
    refused(chain, file, step);
}

/// Deletes the index of numbers and builds it again from the rows.
fn rebuild(chain: &Chain) {
    let (config, genesis) = (chain.config(), chain.genesis());
    let archive = setup::archive_at_rest(&config, Some(genesis.chain)).unwrap();
    let mut store = Store::open(&config.dir, setup::store_config(&config, &genesis)).unwrap();
    let mut ids = Vec::new();
    for (shard, state) in (0..PARTITIONS).zip(store.recovered().shards.clone()) {
        let mut next = 0;
        while next < state.log_size {
            let rows: Vec<Row> = receipts::rows(&archive, &store, shard, next, 1_000).unwrap();
            for row in &rows {
                let entry = Entry::decode(&row.entry).unwrap();
                if let Some(place) = IdPlace::of_entry(row.log_index, &entry) {
                    ids.push((shard, entry.subject, place));
                }
            }
            next += rows.len() as u64;
        }
        let before = ids.iter().filter(|(of, ..)| *of == shard);
        assert_eq!(before.clone().count() as u64, state.invoices);
        for (_, subject, place) in before {
            assert_eq!(store.find(shard, subject).unwrap().as_ref(), Some(place));
        }
    }
    assert_eq!(store.rebuild_ids(ids.clone().into_iter()).unwrap(), ids.len() as u64);
}

fn run(dir: &Path, carrier: Carrier<'_>) {
    let frequent = "[store]\nflush_interval_ms = 100\n[blocks]\ninterval_ms = 20\n\
        idle_interval_ms = 100\n";
    let chain = Chain::create(dir, carrier, PARTITIONS, frequent);
    begin(&chain, SLIP_MS, WARNED_MS);
    let now = piaogen_node::run::chain::clock_ms();
    let mut story = Story { chain: &chain, now, sent: Vec::new() };
    story.issue("untouched");
    story.booked("booked-0");
    story.financed("financed-0");
    story.send(0);
    // Killed again and again, with more coming.
    for round in 1..=8u64 {
        let from = story.sent.len();
        for n in 0..40 {
            story.booked(&format!("booked-{round}-{n}"));
            story.financed(&format!("financed-{round}-{n}"));
            story.credited(&format!("credited-{round}-{n}"));
        }
        let node = chain.spawn();
        std::thread::sleep(Duration::from_millis(40 * round));
        story.send(from);
        std::thread::sleep(Duration::from_millis(45 * (9 - round)));
        node.kill();
    }
    let from = story.sent.len();
    story.credited("credited-0");
    story.send(from);
    chain.drain();
    assert_eq!(chain.check(), story.sent.len() as u64 + 5);
    check_leaves(&story);
    check_proofs(&chain);
    check_files(&chain);
    rebuild(&chain);
    // Only block time decides; let it pass the last deadline.
    std::thread::sleep(Duration::from_millis(SLIP_MS));
    let from = story.sent.len();
    story.issue("after");
    story.send(from);
    chain.drain();
    check_proofs(&chain);
    chain.check();
    check_alerts(&story);
}

#[test]
fn killed_eight_times_over_the_embedded_log() {
    let dir = tempfile::tempdir().unwrap();
    run(&dir.path().join("chain"), Carrier::Embedded);
}

#[test]
fn killed_eight_times_over_kafka() {
    let Some(broker) = kafka("killed_eight_times_over_kafka") else { return };
    let dir = tempfile::tempdir().unwrap();
    let prefix = prefix("life");
    run(&dir.path().join("chain"), Carrier::Kafka(&broker, &prefix));
}

/// Fingerprints that a node remembers on disk, in order, each with its place.
fn remembered(chain: &Chain) -> Vec<Vec<u8>> {
    let folder = chain.config().dir.join("alerts/window");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = &bytes[16..];
        while !rest.is_empty() {
            let count = u32::from_be_bytes(rest[4..8].try_into().unwrap()) as usize;
            let (entries, after) = rest[24..].split_at(20 * count);
            found.extend(entries.chunks(20).map(<[u8]>::to_vec));
            rest = after;
        }
    }
    found
}

/// What a data folder answers: everything that a restored one must answer too.
fn same_answers(original: &Chain, restored: &Chain, story: &Story<'_>) {
    let open = |chain: &Chain| StoreReader::open(&chain.config().dir).unwrap();
    let (a, b) = (open(original), open(restored));
    assert_eq!(a.flushed(), b.flushed());
    for shard in 0..=PARTITIONS {
        let size = a.flushed().shards[shard as usize].log_size;
        for level in 0..20 {
            for index in 0..(size >> level) {
                assert_eq!(
                    a.log_hash(shard, level, index).unwrap(),
                    b.log_hash(shard, level, index).unwrap()
                );
            }
        }
        let all = |reader: &StoreReader| {
            (
                reader.waits(shard, i64::MAX).unwrap(),
                reader.status_documents(shard, 0, 9_999).unwrap(),
            )
        };
        assert_eq!(all(&a), all(&b), "shard {shard}");
    }
    for (partition, bytes, _) in &story.sent {
        let decoded = record::decode(bytes).unwrap();
        let subject = subject(decoded.text(tag::NUMBER));
        let place = a.find(*partition, &subject).unwrap();
        assert_eq!(b.find(*partition, &subject).unwrap(), place);
        let Some(place) = place else { continue };
        let path = |reader: &StoreReader| {
            let root = reader.flushed().shards[*partition as usize].status_root;
            reader.status_path(*partition, place.issue_index, &root).unwrap().unwrap()
        };
        assert_eq!(path(&a), path(&b));
    }
}

/// A restored node, which saw one invoice more, remembers what the original does, and tells the same
/// of what resembles an earlier one.
fn same_memory(original: &Chain, restored: &Chain) {
    let (before, after) = (remembered(original), remembered(restored));
    assert!(after.starts_with(&before) && after.len() == before.len() + 1, "{}", after.len());
    let last = issued(original).0.pop();
    let near = told(restored).into_values().filter(|alert| alert.kind == "near_amount");
    let others: Vec<_> = near.map(|alert| (alert.number, alert.other)).collect();
    assert_eq!(others, [("after".to_string(), last)]);
}

/// A status that is left out, and one whose secret is another, lead to another root.
fn statuses_that_lie(chain: &Chain, twin: &Chain, snapshot: &Path) {
    let lie = chain.dir.join("lie");
    for left_out in [true, false] {
        copy(snapshot, &lie);
        forge(&lie, PartKind::Statuses, |parts, dir, info| {
            let part = piaogen_storage::snapshot::read(dir, info, Lanes::detect()).unwrap();
            for (i, (issue, document)) in part.statuses().unwrap().into_iter().enumerate() {
                let mut document = document.to_vec();
                document[0] ^= u8::from(i == 3);
                if i != 3 || !left_out {
                    parts.status(issue, &document).unwrap();
                }
            }
        });
        let output = twin.restore(&lie, chain);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("parts statuses-0000") && said.contains("status root"), "{said}");
    }
}

#[test]
fn a_snapshot_amid_their_lives_answers_like_the_original() {
    let dir = tempfile::tempdir().unwrap();
    let stream = dir.path().join("stream");
    let frequent = "[store]\nflush_interval_ms = 50\n[blocks]\ninterval_ms = 20\n\
        idle_interval_ms = 100\n[archive]\nsegment_age_ms = 700\n";
    let chain = Chain::create(&dir.path().join("chain"), Carrier::Shared(&stream), PARTITIONS, "");
    let toml = std::fs::read_to_string(chain.dir.join("node.toml")).unwrap();
    let toml = toml.replace("[archive]\n", frequent);
    std::fs::write(chain.dir.join("node.toml"), toml).unwrap();
    // Some slips wait through all of it, and are in the snapshot.
    begin(&chain, 3_600_000, 1_800_000);
    let now = piaogen_node::run::chain::clock_ms();
    let mut story = Story { chain: &chain, now, sent: Vec::new() };
    let mut waits = 0;
    for round in 0..4u64 {
        let from = story.sent.len();
        for n in 0..30 {
            story.booked(&format!("booked-{round}-{n}"));
            story.financed(&format!("financed-{round}-{n}"));
            story.credited(&format!("credited-{round}-{n}"));
        }
        let node = chain.spawn();
        std::thread::sleep(Duration::from_millis(100));
        story.send(from);
        std::thread::sleep(Duration::from_millis(350 * (round + 1)));
        let taken = dir.path().join(format!("snapshot-{round}"));
        // Beside the running node, and of the node at rest where everything is sealed.
        let beside = dir.path().join(format!("beside-{round}"));
        chain.json(&["snapshot", "make", "--to", beside.to_str().unwrap()]);
        node.kill();
        if round % 2 == 0 {
            chain.drain();
        }
        let other = chain.twin(&dir.path().join(format!("other-{round}")));
        let output = other.restore(&beside, &chain);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(other.json(&["fsck"])["clean"], true);
        if round % 2 == 1 {
            continue;
        }
        chain.json(&["snapshot", "make", "--to", taken.to_str().unwrap()]);
        let twin = chain.twin(&dir.path().join(format!("twin-{round}")));
        let output = twin.restore(&taken, &chain);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        same_answers(&chain, &twin, &story);
        assert_eq!(twin.check(), story.sent.len() as u64 + 5);
        let reader = StoreReader::open(&twin.config().dir).unwrap();
        waits += (0..PARTITIONS).map(|s| reader.waits(s, i64::MAX).unwrap().len()).sum::<usize>();
    }
    assert!(waits > 60, "{waits}");
    // A validator whose disk was lost but for its votes goes on from the last one.
    chain.drain();
    let taken = dir.path().join("snapshot");
    chain.json(&["snapshot", "make", "--to", taken.to_str().unwrap()]);
    let twin = chain.twin(&dir.path().join("twin"));
    statuses_that_lie(&chain, &twin, &taken);
    assert!(twin.restore(&taken, &chain).status.success());
    let lone = twin.piaogen(&["node", "--until-drained"]);
    // Without its votes, a lone validator does not vote; and it says what to do.
    let said = String::from_utf8_lossy(&lone.stderr).into_owned();
    assert!(!lone.status.success() && said.contains("put back its own"), "{said}");
    assert!(said.contains("has nobody to follow") && said.contains("/order"), "{said}");
    assert!(!twin.config().dir.join("order").exists());
    std::fs::rename(chain.config().dir.join("order"), twin.config().dir.join("order")).unwrap();
    let from = story.sent.len();
    story.issue("after");
    story.send(from);
    twin.drain();
    assert_eq!(twin.check(), story.sent.len() as u64 + 5);
    same_memory(&chain, &twin);
}
