//! A shard with one invoice and all actors, for tests of events.
//!
//! Each step is a block of its own unless it is said otherwise, and storage is maps. After every
//! block the world checks what must hold whatever the event was: the status tree against a naive
//! one, the status document against its digest, the amounts.

use crate::alert::Alert;
use crate::log::Log;
use crate::registry::Registry;
use crate::shard::{Context, Index, Place, Shard, Wait};
use crate::tree;
use piaogen_crypto::sm2::SecretKey;
use piaogen_crypto::{Digest, Lanes, sm3};
use piaogen_verify::checked::{Checked, CheckedBatch, SignatureCheck};
use piaogen_verify::document::Fields;
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::event::check_event;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::genesis::{EPOCH_BLOCKS, FORMAT, Founder, Genesis, GenesisFile, ROLES};
use piaogen_verify::header::ShardEntry;
use piaogen_verify::opening;
use piaogen_verify::policy::Policy;
use piaogen_verify::record::{self, Class, Draft, RecordKind};
use piaogen_verify::scheme::{Scheme, usual};
use piaogen_verify::status::{Day, Status, ZERO, interior};
use piaogen_verify::value;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// Every actor has the name of his role in the protocol's table; K, L are banks, U, W units.
pub(crate) const ACTORS: &[(&str, &str)] = &[
    ("T", "authority"),
    ("S", "issuer"),
    ("B", "company"),
    ("U", "company"),
    ("W", "company"),
    ("K", "bank"),
    ("L", "bank"),
    ("J", "court"),
    ("A", "auditor"),
    ("G", "governor"),
];
const CHAIN: Digest = [5; 32];
/// The time of the first block.
pub(crate) const START: i64 = 1_795_000_000_000;
/// The number of the invoice that an event is about where nothing else is said.
pub(crate) const NUMBER: &str = "26442000000000000001";

fn key_of(actor: &str) -> SecretKey {
    SecretKey::from_bytes(&sm3::hash(actor.as_bytes())).unwrap()
}

/// The participants of a world and their key ids: points take longer than all the rest of a test.
static FOUNDED: LazyLock<(Registry, HashMap<String, Digest>)> = LazyLock::new(|| {
    let founder = |(party, role): &(&str, &str)| Founder {
        party: (*party).into(),
        name: (*party).into(),
        roles: vec![(*role).into()],
        public_key: hex(&key_of(party).public_key().to_compressed()),
    };
    assert!(ACTORS.iter().all(|(_, role)| ROLES.iter().any(|(_, known)| known == role)));
    let file = GenesisFile {
        format: FORMAT.into(),
        chain_id: "t".into(),
        time_ms: START,
        partitions: 1,
        validators: vec![hex(&key_of("V").public_key().to_compressed())],
        participants: ACTORS.iter().map(founder).collect(),
        schemes: usual::all(),
        clock_skew_ms: 10,
        epoch_blocks: EPOCH_BLOCKS,
        authority_quorum: None,
    };
    let genesis = Genesis::parse(&serde_json::to_vec(&file).unwrap()).unwrap();
    let id_of = |actor: &str| (actor.to_owned(), key_of(actor).public_key().key_id());
    let ids = ACTORS.iter().map(|(actor, _)| id_of(actor)).collect();
    (Registry::genesis(&genesis), ids)
});

/// An event before it is signed.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: RecordKind,
    pub(crate) fields: Fields,
    /// Whether the world adds the opening; the default.
    pub(crate) opens: bool,
    /// Tells events with the same fields apart; where it is absent every event is new.
    pub(crate) secret: Option<u8>,
}

impl Event {
    pub(crate) fn of(kind: RecordKind) -> Event {
        let mut fields = Fields::new();
        fields.set_text(tag::SCHEME, usual::CN_EINV);
        fields.set_text(tag::NUMBER, NUMBER);
        Event { kind, fields, opens: true, secret: None }
    }

    pub(crate) fn set(mut self, tag: Tag, bytes: Vec<u8>) -> Event {
        self.fields.set(tag, bytes);
        self
    }

    pub(crate) fn text(self, tag: Tag, text: &str) -> Event {
        self.set(tag, value::text(text))
    }

    pub(crate) fn uint(self, tag: Tag, n: u64) -> Event {
        self.set(tag, value::uint(n))
    }

    pub(crate) fn amount(self, minor_units: i128) -> Event {
        self.set(tag::AMOUNT, value::amount(minor_units))
    }

    pub(crate) fn tax(self, minor_units: i128) -> Event {
        self.set(tag::TAX_AMOUNT, value::amount(minor_units))
    }

    pub(crate) fn reference(self, text: &str) -> Event {
        self.text(tag::REFERENCE, text)
    }

    pub(crate) fn digest(self, seed: u8) -> Event {
        self.set(tag::DIGEST, vec![seed; 32])
    }

    pub(crate) fn financing(self, id: u64) -> Event {
        self.uint(tag::FINANCING, id)
    }

    /// Expires so many milliseconds after the first block.
    pub(crate) fn expires(self, after_start: i64) -> Event {
        self.set(tag::EXPIRES, value::time(START + after_start))
    }

    pub(crate) fn flag(self, tag: Tag) -> Event {
        self.set(tag, vec![1])
    }

    pub(crate) fn number(self, number: &str) -> Event {
        self.text(tag::NUMBER, number)
    }
}

#[derive(Default)]
struct Stored {
    places: BTreeMap<Vec<u8>, Place>,
    statuses: HashMap<u64, Vec<u8>>,
    nodes: HashMap<(u8, u64), Digest>,
    waits: BTreeMap<(i64, u64), Wait>,
}

impl Index for Stored {
    type Error = std::convert::Infallible;

    fn find(&self, subjects: &[&[u8]]) -> Result<Vec<Option<Place>>, Self::Error> {
        Ok(subjects.iter().map(|subject| self.places.get(*subject).copied()).collect())
    }

    fn statuses(&self, issues: &[u64]) -> Result<Vec<Option<Status>>, Self::Error> {
        let status = |issue| self.statuses.get(issue).map(|b: &Vec<u8>| Status::decode(b).unwrap());
        Ok(issues.iter().map(status).collect())
    }

    fn status_nodes(&self, places: &[(u8, u64)]) -> Result<Vec<Digest>, Self::Error> {
        assert!(places.is_sorted());
        Ok(places.iter().map(|place| self.nodes.get(place).copied().unwrap_or(ZERO)).collect())
    }

    fn waits(&self, until: i64) -> Result<Vec<Wait>, Self::Error> {
        Ok(self.waits.range(..=(until, u64::MAX)).map(|(_, wait)| wait.clone()).collect())
    }
}

/// A shard, its storage, its participants and its clock.
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) schemes: Vec<Scheme>,
    pub(crate) policy: Policy,
    /// The time of the header before the next block.
    pub(crate) now: i64,
    /// The entries of the log, in order.
    pub(crate) entries: Vec<Entry>,
    /// All alerts so far.
    pub(crate) alerts: Vec<Alert>,
    shard: Shard,
    stored: Stored,
    /// Statuses that were checked, and their digests.
    checked: HashMap<u64, (Vec<u8>, Digest)>,
    documents: HashMap<String, Fields>,
    height: u64,
    count: u64,
}

impl World {
    pub(crate) fn new() -> World {
        let entry = ShardEntry {
            shard: 0,
            next_offset: 0,
            log_size: 0,
            log_root: Log::default().root(),
            invoices: 0,
            status_root: ZERO,
        };
        World {
            registry: FOUNDED.0.clone(),
            schemes: usual::all(),
            policy: Policy::default(),
            now: START,
            entries: Vec::new(),
            alerts: Vec::new(),
            shard: Shard::new(&entry, Log::default()),
            stored: Stored::default(),
            checked: HashMap::new(),
            documents: HashMap::new(),
            height: 0,
            count: 0,
        }
    }

    /// A world with one special VAT invoice of S to B over so much, 13 % tax in it, due after ten
    /// days.
    pub(crate) fn with_invoice(gross: i128) -> World {
        let mut world = World::new();
        world.issue(gross);
        world
    }

    /// Issues the invoice [`NUMBER`].
    pub(crate) fn issue(&mut self, gross: i128) {
        let fields = document(NUMBER, gross);
        assert_eq!(self.issue_as(RecordKind::Issue, "T", fields), Outcome::Accepted);
    }

    /// Issues some invoice.
    pub(crate) fn issue_as(&mut self, kind: RecordKind, actor: &str, fields: Fields) -> Outcome {
        let bytes = self.prepare(kind, actor, fields);
        self.block(&[bytes])[0]
    }

    /// The signed record of an invoice, whose fields later events open.
    pub(crate) fn prepare(&mut self, kind: RecordKind, actor: &str, fields: Fields) -> Vec<u8> {
        let number = fields.text(tag::NUMBER).to_owned();
        let bytes = self.signed(kind, actor, &fields, [9; 16]);
        self.documents.insert(number, fields);
        bytes
    }

    /// The principal lets another do these kinds for him.
    pub(crate) fn delegate(&mut self, principal: &str, to: &str, kinds: u64, until: i64) {
        let mut fields = Fields::new();
        fields.set_text(tag::PARTY, to);
        fields.set(tag::KINDS, value::uint(kinds));
        fields.set(tag::UNTIL, value::time(until));
        let bytes = self.signed(RecordKind::Delegate, principal, &fields, [0; 16]);
        let record = record::decode(&bytes).unwrap();
        assert_eq!(self.registry.execute(&record, 0), Ok(()));
    }

    /// Runs an event in a block of its own.
    pub(crate) fn run(&mut self, actor: &str, event: &Event) -> Outcome {
        self.run_all(&[(actor, event)])[0]
    }

    /// Runs an event that must be accepted.
    pub(crate) fn accept(&mut self, actor: &str, event: &Event) {
        let outcome = self.run(actor, event);
        assert_eq!(outcome, Outcome::Accepted, "{} {}", event.kind.name(), outcome.explain());
    }

    /// Runs events in one block, in this order.
    pub(crate) fn run_all(&mut self, events: &[(&str, &Event)]) -> Vec<Outcome> {
        let records: Vec<Vec<u8>> =
            events.iter().map(|(actor, event)| self.event_record(actor, event)).collect();
        self.block(&records)
    }

    /// The signed record of an event.
    pub(crate) fn event_record(&mut self, actor: &str, event: &Event) -> Vec<u8> {
        let mut fields = event.fields.clone();
        let document = self.documents.get(fields.text(tag::NUMBER));
        if let (true, Some(document)) = (event.opens, document) {
            let opened = opening::open([9; 16], document, |_| true);
            fields.set(tag::OPENING, opening::encode(&opened));
        }
        self.count += 1;
        let secret = match event.secret {
            Some(seed) => [seed; 16],
            None => (u128::from(self.count) << 64).to_be_bytes(),
        };
        self.signed(event.kind, actor, &fields, secret)
    }

    fn signed(&self, kind: RecordKind, actor: &str, fields: &Fields, secret: [u8; 16]) -> Vec<u8> {
        let draft = Draft { kind, signed_at: START, secret, fields: fields.pairs() };
        // Whether signatures hold is for others to test; making them would take most of the time.
        let signature = piaogen_crypto::sm2::Signature([1; 64]);
        let known = FOUNDED.1.get(actor).copied();
        let id = known.unwrap_or_else(|| key_of(actor).public_key().key_id());
        draft.encode(&id, &signature)
    }

    /// Executes records in one block; their outcomes.
    pub(crate) fn block(&mut self, records: &[Vec<u8>]) -> Vec<Outcome> {
        let mut batch = CheckedBatch::default();
        for bytes in records {
            let offset = self.shard.entry().log_size + batch.records.len() as u64;
            push(&mut batch, bytes, offset, &self.schemes);
        }
        self.height += 1;
        let context = Context {
            chain: &CHAIN,
            registry: &self.registry,
            height: self.height,
            policy: self.policy,
            schemes: &self.schemes,
            time_ms: self.now,
            clock_skew_ms: 10,
            lanes: Lanes::detect(),
            signatures: false,
        };
        let cut = self.shard.entry().log_size + records.len() as u64;
        let Ok(effects) = self.shard.execute(&context, &self.stored, &batch, cut);
        let entries: Vec<Entry> = effects.iter().map(|e| Entry::decode(e).unwrap()).collect();
        self.stored.places.extend(effects.ids);
        self.stored.statuses.extend(effects.statuses);
        let nodes = effects.status_nodes.into_iter();
        self.stored.nodes.extend(nodes.map(|(level, at, hash)| ((level, at), hash)));
        if let Some(done) = effects.waits_done {
            self.stored.waits.retain(|(at, _), _| *at > done);
        }
        let waits = effects.waits.into_iter();
        self.stored.waits.extend(waits.map(|wait| ((wait.at, wait.issue_index), wait)));
        self.alerts.extend(effects.alerts);
        let outcomes = entries.iter().map(|entry| entry.outcome).collect();
        self.entries.extend(entries);
        self.check();
        outcomes
    }

    /// What holds after every block.
    fn check(&mut self) {
        for (issue, bytes) in &self.stored.statuses {
            // What did not change was checked before.
            if self.checked.get(issue).is_none_or(|(known, _)| known != bytes) {
                let status = Status::decode(bytes).unwrap();
                check_amounts(&status);
                self.checked.insert(*issue, (bytes.clone(), status.digest()));
            }
        }
        let leaves = self.checked.iter().map(|(issue, (_, digest))| (*issue, *digest)).collect();
        let mut level: BTreeMap<u64, Digest> = leaves;
        for _ in 0..40 {
            let mut above = BTreeMap::new();
            for at in level.keys() {
                let child = |at| level.get(&at).copied().unwrap_or(ZERO);
                above.insert(at / 2, interior(&child(at & !1), &child(at | 1)));
            }
            level = above;
        }
        let root = level.get(&0).copied().unwrap_or(ZERO);
        assert_eq!(self.shard.entry().status_root, root);
    }

    /// The status of an invoice; `None` while it is untouched.
    pub(crate) fn status_of(&self, number: &str) -> Option<Status> {
        self.status_in(usual::CN_EINV, number)
    }

    /// The status of an invoice of another scheme.
    pub(crate) fn status_in(&self, scheme: &str, number: &str) -> Option<Status> {
        let subject = record::subject(scheme.as_bytes(), None, number.as_bytes());
        let place = self.stored.places.get(&subject)?;
        self.stored.statuses.get(&place.issue_index).map(|bytes| Status::decode(bytes).unwrap())
    }

    /// Changes the status of [`NUMBER`], which was touched, past all rules: what other events would
    /// have made of it.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Status)) {
        let subject = record::subject(usual::CN_EINV.as_bytes(), None, NUMBER.as_bytes());
        let issue = self.stored.places[&subject].issue_index;
        let mut status = self.status();
        change(&mut status);
        let (invoices, changed) = (self.shard.entry().invoices, [(issue, status.digest())]);
        let Ok((nodes, root)) = tree::update(Lanes::detect(), &self.stored, invoices, &changed);
        self.stored.nodes.extend(nodes.into_iter().map(|(level, at, hash)| ((level, at), hash)));
        self.stored.statuses.insert(issue, status.encode());
        self.shard.set_status_root(root);
    }

    /// The status of [`NUMBER`], which was touched.
    pub(crate) fn status(&self) -> Status {
        self.status_of(NUMBER).expect("touched")
    }
}

fn check_amounts(status: &Status) {
    assert!((0..=status.facts.gross.max(0)).contains(&status.red.amount));
    assert!(status.red_lines.iter().all(|line| (0..=line.of).contains(&line.credited)));
    assert!(status.liens().all(|lien| lien.assigned > 0));
    assert!(status.financings.iter().all(|f| f.advanced.is_none_or(|a| a <= f.assigned.max(a))));
    assert!(status.paid() >= 0 && status.booked() >= 0);
    assert_eq!(Status::decode(&status.encode()).as_ref(), Ok(status));
}

/// Checks a record as lanes do, without signatures.
fn push(batch: &mut CheckedBatch, bytes: &[u8], offset: u64, schemes: &[Scheme]) {
    let begin = batch.arena.len() as u32;
    batch.arena.extend_from_slice(bytes);
    let decoded = record::decode(bytes).unwrap();
    let at = batch.subjects.len() as u32;
    decoded.put_subject(schemes, &mut batch.subjects).unwrap();
    let content = match decoded.kind.class() {
        Class::Event => check_event(&decoded).err(),
        _ => None,
    };
    batch.records.push(Checked {
        offset,
        kind: Some(decoded.kind),
        signer: decoded.signer,
        commitment: decoded.commitment(),
        opened: None,
        signed_at: decoded.signed_at,
        issued_ms: i64::MIN,
        subject: at..batch.subjects.len() as u32,
        bytes: begin..batch.arena.len() as u32,
        seller: 0..0,
        fingerprints: [0; 3],
        early: None,
        signature: SignatureCheck::Valid,
        content,
    });
}

/// The fields of an invoice of S to B with 13 % tax, due ten days after the first block.
pub(crate) fn document(number: &str, gross: i128) -> Fields {
    let (tax, mut fields) = (gross - gross * 100 / 113, Fields::new());
    fields.set_text(tag::SCHEME, usual::CN_EINV);
    fields.set_text(tag::NUMBER, number);
    fields.set_text(tag::TYPE_CODE, "380");
    fields.set_text(tag::VAT_TYPE, "01");
    fields.set_text(tag::SELLER_PARTY, "S");
    fields.set_text(tag::BUYER_PARTY, "B");
    fields.set(tag::CURRENCY, value::currency(*b"CNY", 2));
    fields.set(tag::DUE_DATE, Day(due()).0.to_be_bytes().to_vec());
    fields.set_amount(tag::TOTAL_VAT, tax);
    fields.set_amount(tag::TOTAL_NET, gross - tax);
    fields.set_amount(tag::TOTAL_GROSS, gross);
    let rate = vec![
        (tag::TAXABLE, value::amount(gross - tax)),
        (tag::TAX, value::amount(tax)),
        (tag::VAT_RATE, value::decimal(13, 0)),
    ];
    fields.set(tag::VAT_BREAKDOWN, value::list(&[rate]));
    fields
}

fn due() -> u32 {
    let (year, month, day) = value::day_of_days(START / 86_400_000 + 10);
    year * 10_000 + month * 100 + day
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
