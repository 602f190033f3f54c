//! Drives generated records through a chain of one validator that lives in this file, and checks
//! that good answers are accepted and every kind of false answer is found.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as its test does")]

use piaogen_crypto::Digest;
use piaogen_loadgen::drive::{Answers, DriveError, Plan, drive};
use piaogen_loadgen::generator::{Generator, GeneratorConfig, Shares};
use piaogen_loadgen::genesis::{DemoChain, demo_chain};
use piaogen_loadgen::outcomes::{Checker, ReceiptSource, Report};
use piaogen_loadgen::send::{Ack, Memory, SendError, Sink};
use piaogen_loadgen::source::{Generated, Source};
use piaogen_verify::certificate::Certificate;
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::header::{Header, ShardEntry, shards_root};
use piaogen_verify::merkle::{prove_inclusion, root_of_leaves};
use piaogen_verify::receipt::{OpenedField, Receipt};
use piaogen_verify::trust_root::TrustRoot;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const PARTITIONS: u32 = 3;
const RECORDS: u64 = 600;

type Spoil = fn(&mut Receipt);
type Lie = fn(&mut Generated);
type Log = BTreeMap<u32, Vec<Generated>>;

/// Keeps which record stands where; says `Busy` now and then.
struct Stream {
    inner: Memory,
    log: Rc<RefCell<Log>>,
    made: Vec<Generated>,
    calls: u64,
}

impl Sink for Stream {
    fn send(&mut self, partition: u32, payload: &[u8], token: u64) -> Result<(), SendError> {
        self.calls += 1;
        if self.calls.is_multiple_of(50) {
            return Err(SendError::Busy);
        }
        let generated = self.made[token as usize].clone();
        assert_eq!((generated.record.as_slice(), generated.partition), (payload, partition));
        self.log.borrow_mut().entry(partition).or_default().push(generated);
        self.inner.send(partition, payload, token)
    }

    fn poll_acks(&mut self, out: &mut Vec<Ack>) -> Result<(), SendError> {
        self.inner.poll_acks(out)
    }

    fn flush(&mut self) -> Result<(), SendError> {
        Ok(())
    }
}

/// Answers for all records once all are there, in one block.
struct Chain<'a> {
    chain: &'a DemoChain,
    log: Rc<RefCell<Log>>,
    spoil: Spoil,
    shards: Vec<(ShardEntry, Vec<Entry>, Vec<Digest>)>,
    header: Option<(Header, Vec<u8>)>,
}

impl Chain<'_> {
    fn build(&mut self) {
        let log = self.log.borrow();
        let mut shards = Vec::new();
        for shard in 0..=PARTITIONS {
            let records = log.get(&shard).map(Vec::as_slice).unwrap_or_default();
            let entries: Vec<Entry> = (0u64..).zip(records).map(|(i, g)| entry(i, g)).collect();
            let leaves: Vec<Digest> = entries.iter().map(Entry::leaf).collect();
            let mut of_shard = ShardEntry::empty(shard);
            of_shard.log_size = leaves.len() as u64;
            of_shard.next_offset = leaves.len() as u64;
            of_shard.log_root = root_of_leaves(&leaves);
            shards.push((of_shard, entries, leaves));
        }
        let all: Vec<ShardEntry> = shards.iter().map(|shard| shard.0).collect();
        let genesis = self.chain.genesis.header();
        let header = Header {
            height: 1,
            parent: genesis.digest(),
            shards_root: shards_root(&all),
            history_root: root_of_leaves(&[genesis.leaf()]),
            ..genesis
        };
        let mut certificate = Certificate {
            epoch: 0,
            view: 1,
            parent: 0,
            payload: header.digest(),
            validators: 1,
            signers: vec![0],
            signatures: Vec::new(),
        };
        let message = certificate.signed(&self.chain.genesis.chain);
        certificate.signatures.push(self.chain.validators[0].sign(&message));
        self.header = Some((header, certificate.encode()));
        self.shards = shards;
    }
}

fn entry(offset: u64, generated: &Generated) -> Entry {
    let mut entry = generated.expected_entry();
    entry.offset = offset;
    let invoice = generated.record_kind.is_some_and(|kind| kind.is_invoice());
    entry.issue = (entry.outcome == Outcome::Accepted && invoice).then_some(offset);
    entry
}

impl ReceiptSource for Chain<'_> {
    fn receipt(&mut self, partition: u32, offset: u64) -> Option<Vec<u8>> {
        if self.log.borrow().values().map(Vec::len).sum::<usize>() < RECORDS as usize {
            return None;
        }
        if self.header.is_none() {
            self.build();
        }
        let (header, certificate) = self.header.clone()?;
        let (shard, entries, leaves) = &self.shards[partition as usize];
        let all: Vec<Digest> = self.shards.iter().map(|shard| shard.0.leaf()).collect();
        let count = all.len() as u64;
        let Ok(inclusion) = prove_inclusion(leaves.as_slice(), offset, shard.log_size);
        let Ok(shard_proof) = prove_inclusion(all.as_slice(), u64::from(partition), count);
        let log = self.log.borrow();
        let document = log[&partition][offset as usize].document.as_ref();
        let mut receipt = Receipt {
            fields: document.map(OpenedField::all_hidden).unwrap_or_default(),
            entry: entries[offset as usize].clone(),
            log_index: offset,
            inclusion,
            shard: *shard,
            shard_proof,
            header,
            history: None,
            certificate,
            changes: Vec::new(),
            cosigned: None,
        };
        if offset == 7 {
            (self.spoil)(&mut receipt);
        }
        Some(receipt.encode())
    }
}

fn run(spoil: Spoil, lie: fn(&mut Generated)) -> Report {
    let chain = demo_chain(4, PARTITIONS, 1, 1_795_000_000_000);
    let mut config = GeneratorConfig::new(4, &chain.genesis);
    (config.sellers, config.shares) = (5, Shares::with_bad(40_000));
    let generator = Generator::new(config);
    let made = generator.generate_batch(0..RECORDS, piaogen_crypto::Lanes::detect());
    let log = Rc::new(RefCell::new(Log::new()));
    let mut stream = Stream { inner: Memory::default(), log: log.clone(), made, calls: 0 };
    // What the chain says of record 20 differs from what was sent.
    lie(&mut stream.made[20]);
    let mut source = Chain { chain: &chain, log, spoil, shards: Vec::new(), header: None };
    let checker = Checker::new(TrustRoot::of_genesis(&chain.genesis));
    let answers = Answers { source: &mut source, checker: &checker, watch: None };
    let mut plan = Plan::new(RECORDS);
    (plan.batch, plan.compare_every) = (64, 3);
    drive(&generator, &plan, &mut stream, Some(answers), &mut |_, _| {}).unwrap()
}

#[test]
fn good_answers_are_accepted_and_counted() {
    let report = run(|_| {}, |_| {});
    assert!(report.is_good(), "{}", report.to_text());
    assert_eq!((report.sent, report.acked, report.checked), (RECORDS, RECORDS, RECORDS));
    assert_eq!(report.outcomes, report.expected);
    assert!(report.outcomes.len() > 10 && report.outcomes["ACCEPTED"] > 300);
    assert_eq!((report.to_receipt.len(), report.to_ack.len()), (RECORDS, RECORDS));
    let mut csv = Vec::new();
    report.write_csv(&mut csv).unwrap();
    let csv = String::from_utf8(csv).unwrap();
    assert!(csv.starts_with("metric,value,unit\nsent,600,records\n"));
    assert!(csv.lines().all(|line| line.split(',').count() == 3));
}

#[test]
fn every_false_answer_is_found() {
    let spoils: [(Spoil, &str); 4] = [
        (|r| r.entry.offset += 1, "inclusion"),
        (|r| r.shard.invoices += 1, "shard"),
        (|r| r.header.records += 1, "quorum"),
        (|r| *r.certificate.last_mut().unwrap() ^= 1, "signature"),
    ];
    for (spoil, step) in spoils {
        let report = run(spoil, |_| {});
        assert!(!report.is_good());
        // Offset 7 of each of the three partitions, and of the registry where it has so many.
        assert!((3..=4).contains(&report.mismatched), "{}", report.to_text());
        assert!(report.mismatches.iter().all(|m| m.what.contains(step)), "{}", report.to_text());
        assert_eq!(report.checked + report.mismatched, RECORDS);
    }
}

#[test]
fn an_answer_about_something_else_is_found() {
    let lies: [(Lie, &str); 4] = [
        (
            |g| g.expected = piaogen_loadgen::source::Expected::Exactly(Outcome::NotFound),
            "expected",
        ),
        (|g| g.commitment = [1; 32], "commitment"),
        (|g| g.signer = [1; 32], "signer"),
        (|g| g.subject.push(1), "subject"),
    ];
    for (lie, word) in lies {
        let report = run(|_| {}, lie);
        assert_eq!(report.mismatched, 1, "{}", report.to_text());
        assert!(report.mismatches[0].what.contains(word), "{}", report.to_text());
    }
}

#[test]
fn without_receipts_a_run_says_what_was_sent() {
    let chain = demo_chain(4, PARTITIONS, 1, 1_795_000_000_000);
    let mut config = GeneratorConfig::new(4, &chain.genesis);
    (config.sellers, config.records) = (5, Some(90));
    let generator = Generator::new(config);
    assert_eq!(generator.len(), Some(90));
    let mut sink = Memory::default();
    let plan = Plan { first: 10, ..Plan::new(1_000) };
    let report = drive(&generator, &plan, &mut sink, None, &mut |_, _| {}).unwrap();
    assert_eq!((report.sent, report.acked, report.unanswered), (80, 80, 0));
    assert_eq!(sink.partitions.values().map(Vec::len).sum::<usize>(), 80);
}

#[test]
fn a_stream_that_fails_ends_the_run() {
    struct Broken;
    impl Sink for Broken {
        fn send(&mut self, _: u32, _: &[u8], _: u64) -> Result<(), SendError> {
            Err(SendError::Fatal("gone".into()))
        }
        fn poll_acks(&mut self, _: &mut Vec<Ack>) -> Result<(), SendError> {
            Ok(())
        }
        fn flush(&mut self) -> Result<(), SendError> {
            Ok(())
        }
    }
    let chain = demo_chain(4, PARTITIONS, 1, 1_795_000_000_000);
    let mut config = GeneratorConfig::new(4, &chain.genesis);
    config.sellers = 2;
    let generator = Generator::new(config);
    let result = drive(&generator, &Plan::new(50_000), &mut Broken, None, &mut |_, _| {});
    assert!(matches!(result, Err(DriveError::Send(SendError::Fatal(_)))), "{result:?}");
}
