//! The story at the end of the demo: one invoice, booked twice, pledged to two banks.
//!
//! Each step is a record of its own, signed by who acts; what is refused is shown with the receipt
//! that proves the refusal, checked offline like everything else.

use crate::run::chain::clock_ms;
use crate::run::receipts::{Prover, Show};
use crate::run::{Node, rebuild_registry};
use crate::sinks;
use anyhow::{Context, Result, ensure};
use piaogen_crypto::sm2::SecretKey;
use piaogen_crypto::sm3;
use piaogen_loadgen::send::Sink;
use piaogen_storage::Store;
use piaogen_verify::check::{Question, Standing, check};
use piaogen_verify::document::{Document, Fields};
use piaogen_verify::entry::Outcome;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::genesis::{Genesis, ROLE_BANK, ROLE_COMPANY, ROLE_ISSUER};
use piaogen_verify::opening;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::record::{Draft, RecordKind, decode, partition};
use piaogen_verify::scheme::usual::CN_EINV;
use piaogen_verify::status::{FACTS_SHOWN, SCOPES};
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who acts: name and roles.
const ACTORS: [(&str, u64); 4] = [
    ("SELLER", ROLE_ISSUER),
    ("BUYER", ROLE_COMPANY),
    ("FIRST-BANK", ROLE_BANK),
    ("SECOND-BANK", ROLE_BANK),
];
const DAY_MS: i64 = 86_400_000;

/// What happened, line by line.
pub(super) struct Story<'a> {
    /// The chain.
    pub(super) genesis: &'a Genesis,
    /// The node that runs it.
    pub(super) node: &'a Arc<Node>,
    /// Where records go.
    pub(super) sink: &'a mut dyn Sink,
    /// Who registers the actors.
    pub(super) authority: &'a SecretKey,
    /// Says a line.
    pub(super) say: &'a dyn Fn(&str),
}

fn key_of(actor: &str) -> Result<SecretKey> {
    Ok(SecretKey::from_bytes(&sm3::hash_parts(&[b"piaogen demo story ", actor.as_bytes()]))?)
}

/// An event's field.
type Field = (Tag, Vec<u8>);

impl Story<'_> {
    /// Tells it; an error where an outcome is not what the story says.
    pub(super) fn tell(&mut self) -> Result<()> {
        self.register()?;
        let (invoice, neighbour) =
            (document("26000000000000000001"), document("26000000000000000002"));
        for document in [&invoice, &neighbour] {
            self.send(RecordKind::Issue, "SELLER", document.secret, &document.fields, "ACCEPTED")?;
        }
        (self.say)("an invoice over 113.00 is issued, and its neighbour");
        let amount = || (tag::AMOUNT, value::amount(11_300));
        let number = || (tag::REFERENCE, value::text("V-2026-118"));
        self.event(RecordKind::Book, "BUYER", &invoice, &[amount(), number()], "ACCEPTED")?;
        (self.say)("the buyer books it");
        self.event(RecordKind::Book, "BUYER", &invoice, &[amount(), number()], "ALREADY_BOOKED")?;
        let until = value::time(clock_ms() + 30 * DAY_MS);
        for bank in ["FIRST-BANK", "SECOND-BANK"] {
            let consent = [
                (tag::ACTOR, value::text(bank)),
                (tag::EXPIRES, until.clone()),
                (tag::SCOPE, value::uint(SCOPES)),
            ];
            self.event(RecordKind::ConsentGrant, "SELLER", &invoice, &consent, "ACCEPTED")?;
        }
        let pledge =
            [amount(), (tag::FORM, value::text("pledge")), (tag::ADVANCED, value::amount(9_000))];
        self.event(RecordKind::FinanceOpen, "FIRST-BANK", &invoice, &pledge, "ACCEPTED")?;
        (self.say)("it is pledged to a bank");
        self.event(RecordKind::FinanceOpen, "SECOND-BANK", &invoice, &pledge, "ENCUMBERED")?;
        self.check(&invoice, "SECOND-BANK", "stop")?;
        self.prove_no_lien(&neighbour)
    }

    fn register(&mut self) -> Result<()> {
        let mut records = Vec::new();
        for (party, roles) in ACTORS {
            let mut fields = Fields::new();
            fields.set_text(tag::PARTY, party);
            fields.set_text(tag::PARTY_NAME, party);
            fields.set(tag::ROLES, value::uint(roles));
            let key = key_of(party)?.public_key();
            fields.set(tag::PUBLIC_KEY, key.to_compressed().to_vec());
            records.push(self.signed(RecordKind::Register, self.authority, [0; 16], &fields));
        }
        let registry = self.genesis.file.partitions;
        let before = self.node.chain.tip().shards[registry as usize].log_size;
        sinks::register(self.node, self.sink, &records, registry)?;
        // `register` counts from the beginning of the log.
        let wanted = before + records.len() as u64;
        self.wait("registrations", |node| {
            node.chain.tip().shards[registry as usize].log_size >= wanted
        })
    }

    fn signed(
        &self,
        kind: RecordKind,
        key: &SecretKey,
        secret: [u8; 16],
        fields: &Fields,
    ) -> Vec<u8> {
        Draft { kind, signed_at: clock_ms(), secret, fields: fields.pairs() }
            .sign(&self.genesis.chain, key)
    }

    fn event(
        &mut self,
        kind: RecordKind,
        actor: &str,
        document: &Document,
        own: &[Field],
        expected: &str,
    ) -> Result<()> {
        let mut fields: Fields = own.iter().cloned().collect();
        fields.set_text(tag::SCHEME, CN_EINV);
        fields.set_text(tag::NUMBER, document.fields.text(tag::NUMBER));
        let shown = |tag| FACTS_SHOWN.contains(&tag);
        let opened = opening::open(document.secret, &document.fields, shown);
        fields.set(tag::OPENING, opening::encode(&opened));
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        self.send(kind, actor, secret, &fields, expected)
    }

    /// Sends a record, waits for its receipt, checks it offline, and says what was refused.
    fn send(
        &mut self,
        kind: RecordKind,
        actor: &str,
        secret: [u8; 16],
        fields: &Fields,
        expected: &str,
    ) -> Result<()> {
        let bytes = self.signed(kind, &key_of(actor)?, secret, fields);
        let subject = decode(&bytes)
            .ok()
            .and_then(|record| record.subject(&self.genesis.file.schemes).ok())
            .context("a record of the story has no subject")?;
        let shard = partition(&subject, self.genesis.file.partitions);
        self.sink.send(shard, &bytes, 0)?;
        self.sink.flush()?;
        let mut acks = Vec::new();
        self.sink.poll_acks(&mut acks)?;
        let offset = acks.last().context("no acknowledgement came")?.offset;
        self.wait("a record", |node| node.drained().unwrap_or(false))?;
        let receipt = self.receipt(shard, offset)?;
        receipt.verify(&TrustRoot::of_genesis(self.genesis))?;
        let outcome = receipt.entry.outcome;
        ensure!(outcome.name() == expected, "{} is {}", kind.name(), outcome.name());
        if outcome != Outcome::Accepted {
            (self.say)(&format!(
                "{} again by {actor}: refused, {}: {}; the receipt of the refusal, {} bytes, \
                 verifies offline",
                kind.name(),
                outcome.name(),
                outcome.explain(),
                receipt.encode().len()
            ));
        }
        Ok(())
    }

    fn wait(&self, what: &str, done: impl Fn(&Node) -> bool) -> Result<()> {
        let begun = Instant::now();
        while !done(self.node) {
            if let Some(failure) = self.node.failure() {
                return Err(crate::run::Fatal(failure).into());
            }
            ensure!(begun.elapsed() < Duration::from_secs(300), "{what} did not become final");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn receipt(&self, shard: u32, offset: u64) -> Result<Receipt> {
        self.with_prover(|prover| {
            let index = prover.index_of_offset(shard, offset)?.context("no such record")?;
            let row = prover.row(shard, index)?.context("no such row")?;
            prover.receipt(shard, &row, &Show::Only(Vec::new()))
        })
    }

    fn with_prover<T>(&self, ask: impl FnOnce(&Prover<'_, Store>) -> Result<T>) -> Result<T> {
        let provable = self.node.chain.provable().context("nothing is provable yet")?;
        let archive = self.node.archiver.archive();
        ask(&Prover { store: &*self.node.store, archive, provable })
    }

    /// The bank's question, before it lends.
    fn check(&self, document: &Document, asker: &str, expected: &str) -> Result<()> {
        let trust = TrustRoot::of_genesis(self.genesis);
        let (proved, policy) = self.status_of(document)?;
        proved.proof.verify(&trust)?;
        let standing = Standing {
            receipt: &proved.proof.receipt,
            status: proved.status.as_ref(),
            policy: &policy,
            time_ms: proved.proof.receipt.header.time_ms,
        };
        let question =
            Question { asker: Some(asker), amount: Some(11_300), document: Some(document) };
        let answer = check(&standing, &question);
        ensure!(answer.verdict.name() == expected, "check says {}", answer.verdict.name());
        let why: Vec<&str> = answer.findings.iter().map(|f| f.words.as_str()).take(2).collect();
        (self.say)(&format!("{asker} asks first the next time: {expected}: {}", why.join("; ")));
        Ok(())
    }

    fn prove_no_lien(&self, neighbour: &Document) -> Result<()> {
        let (proved, _) = self.status_of(neighbour)?;
        let verified = proved.proof.verify(&TrustRoot::of_genesis(self.genesis))?;
        ensure!(verified.no_lien() && verified.untouched(), "the neighbour is not untouched");
        (self.say)(&format!(
            "its neighbour: no lien, no booking, nothing, {}: proved in {} bytes",
            verified.as_of(),
            proved.proof.encode().len()
        ));
        Ok(())
    }

    fn status_of(
        &self,
        document: &Document,
    ) -> Result<(crate::run::statuses::Proved, piaogen_verify::policy::Policy)> {
        let number = document.fields.text(tag::NUMBER);
        let subject = piaogen_verify::record::subject(CN_EINV.as_bytes(), None, number.as_bytes());
        let shard = partition(&subject, self.genesis.file.partitions);
        self.with_prover(|prover| {
            let place = prover.store.find(shard, &subject)?.context("the invoice is not there")?;
            let row = prover.row(shard, place.log_index)?.context("no such row")?;
            let parts = [tag::FACE, tag::ORIGIN, tag::COMMITMENT];
            let proved = prover.status(shard, &row, &Show::Only(Vec::new()), &parts)?;
            let registry = prover.provable.shards.last().map_or(0, |shard| shard.log_size);
            let archive = self.node.archiver.archive();
            let registry = rebuild_registry(self.genesis, archive, prover.store, registry)?;
            Ok((proved, registry.policy_at(prover.provable.header.height + 1)))
        })
    }
}

/// An invoice of SELLER to BUYER over 113.00, 13.00 of it tax.
fn document(number: &str) -> Document {
    let mut fields = Fields::new();
    fields.set_text(tag::SCHEME, CN_EINV);
    fields.set_text(tag::NUMBER, number);
    fields.set_text(tag::TYPE_CODE, "380");
    fields.set_text(tag::VAT_TYPE, "01");
    fields.set_text(tag::SELLER_PARTY, "SELLER");
    fields.set_text(tag::SELLER_NAME, "示例纸业有限公司");
    fields.set_text(tag::BUYER_PARTY, "BUYER");
    fields.set_text(tag::BUYER_NAME, "示例贸易有限公司");
    let (year, month, day) = value::day_of_days(clock_ms() / DAY_MS);
    fields.set(tag::ISSUE_DATE, value::date(year, month, day));
    fields.set(tag::CURRENCY, value::currency(*b"CNY", 2));
    fields.set_amount(tag::TOTAL_NET, 10_000);
    fields.set_amount(tag::TOTAL_VAT, 1_300);
    fields.set_amount(tag::TOTAL_GROSS, 11_300);
    let secret = sm3::hash(number.as_bytes());
    let mut document = Document { secret: [0; 16], fields, lines: Vec::new() };
    document.secret.copy_from_slice(&secret[..16]);
    document
}
