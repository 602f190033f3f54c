//! Runs the command line with a host whose embedded log is memory.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as its test does")]

use clap::Parser;
use piaogen_loadgen::cli::{Answer, Command, Host, run};
use piaogen_loadgen::genesis::demo_chain;
use piaogen_loadgen::outcomes::{ReceiptSource, Report};
use piaogen_loadgen::scenario::Stage;
use piaogen_loadgen::send::{Ack, Memory, SendError, Sink};
use piaogen_verify::genesis::Genesis;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Memory>>);

impl Sink for Shared {
    fn send(&mut self, partition: u32, payload: &[u8], token: u64) -> Result<(), SendError> {
        self.0.borrow_mut().send(partition, payload, token)
    }
    fn poll_acks(&mut self, out: &mut Vec<Ack>) -> Result<(), SendError> {
        self.0.borrow_mut().poll_acks(out)
    }
    fn flush(&mut self) -> Result<(), SendError> {
        self.0.borrow_mut().flush()
    }
}

impl Host for Shared {
    fn embedded(&mut self, _: &Path, _: &Genesis) -> anyhow::Result<Box<dyn Sink>> {
        Ok(Box::new(self.clone()))
    }
    fn receipts(&mut self, _: &str) -> anyhow::Result<Box<dyn ReceiptSource>> {
        anyhow::bail!("there is no node")
    }
    fn stage(&mut self, _: u64, _: u32) -> anyhow::Result<Stage> {
        anyhow::bail!("there is no stage")
    }
}

fn call(host: &mut Shared, line: &str) -> anyhow::Result<Option<Report>> {
    let words = std::iter::once("loadgen").chain(line.split_whitespace());
    match run(&Line::try_parse_from(words)?.command, host)? {
        Answer::Sent(report) => Ok(Some(*report)),
        _ => Ok(None),
    }
}

fn streams(host: &Shared) -> std::collections::BTreeMap<u32, Vec<Vec<u8>>> {
    host.0.borrow().partitions.clone()
}

#[test]
fn what_was_made_beforehand_is_what_is_sent_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let chain = demo_chain(1, 3, 1, 1_795_000_000_000);
    std::fs::write(folder.path().join("genesis.json"), &chain.bytes).unwrap();
    for (events, registrations) in [(0, 8), (60, 16)] {
        let content = format!(
            "--genesis {at}/genesis.json --sellers 6 --bad 20000 --records 500 --events {events}"
        );
        let delivery = format!("--embedded {at}/log --settle-ms 0");
        let (mut made, mut sent) = (Shared::default(), Shared::default());
        let make = format!("make {content} --out {at}/pack-{events}");
        assert!(call(&mut made, &make).unwrap().is_none());
        let pack = format!("--pack {at}/pack-{events} --report {at}/report.csv");
        let report = call(&mut made, &format!("send {content} {delivery} {pack}"));
        let report = report.unwrap().unwrap();
        assert_eq!((report.sent, report.is_good()), (500, true));
        call(&mut sent, &format!("send {content} {delivery} --rate 100000")).unwrap();
        assert_eq!(streams(&made), streams(&sent));
        assert!(streams(&sent)[&3].len() >= registrations, "registrations go to the registry");
        let report = std::fs::read_to_string(folder.path().join("report.csv")).unwrap();
        assert!(report.contains("sent,500,records"));
        // The file exists: it is not written over.
        assert!(call(&mut made, &make).is_err());
    }
}

#[test]
fn what_cannot_work_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let chain = demo_chain(1, 3, 1, 1_795_000_000_000);
    let other = demo_chain(2, 3, 1, 1_795_000_000_000);
    std::fs::write(folder.path().join("genesis.json"), &chain.bytes).unwrap();
    std::fs::write(folder.path().join("other.json"), &other.bytes).unwrap();
    let mut host = Shared::default();
    let content = "--sellers 2 --records 10";
    let delivery = format!("--embedded {at}/log --settle-ms 0");
    call(&mut host, &format!("make --genesis {at}/genesis.json {content} --out {at}/pack"))
        .unwrap();
    let mut fails = |line: String, word: &str| {
        let error = format!("{:#}", call(&mut host, &line).unwrap_err());
        assert!(error.contains(word), "{error}");
    };
    fails(format!("send --genesis {at}/other.json {content} {delivery}"), "--authority-key");
    fails(
        format!("send --genesis {at}/other.json {content} {delivery} --pack {at}/pack"),
        "another chain",
    );
    fails(format!("send --genesis {at}/none.json {content} {delivery}"), "piaogen genesis");
    fails(format!("send --genesis {at}/genesis.json {content}"), "--kafka");
    fails(
        format!("replay --genesis {at}/genesis.json {delivery} --online-retail {at}/none.csv"),
        "online_retail.csv",
    );
}

#[test]
fn a_small_shop_is_replayed_and_what_is_no_invoice_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let chain = demo_chain(1, 2, 1, 1_795_000_000_000);
    std::fs::write(folder.path().join("genesis.json"), &chain.bytes).unwrap();
    let rows = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n\
        1,85123A,A,3,2010-12-01 08:26:00,0.335,17850,United Kingdom\n\
        2,M,,-5,2010-12-01 08:27:00,0,,United Kingdom\n\
        C3,85123A,X,-1,2010-12-02 08:28:00,2.005,17850,France\n";
    std::fs::write(folder.path().join("shop.csv"), rows).unwrap();
    let pairs = "credit_invoice,original_invoice,a,b,c\nC3,1,3,1,1\n";
    std::fs::write(folder.path().join("reversal_pairs.csv"), pairs).unwrap();
    let mut host = Shared::default();
    let line = format!(
        "replay --genesis {at}/genesis.json --online-retail {at}/shop.csv --rounds 3 \
         --rejects {at}/rejects.csv --embedded {at}/log --settle-ms 0"
    );
    let report = call(&mut host, &line).unwrap().unwrap();
    assert_eq!((report.sent, report.expected["ACCEPTED"]), (6, 6));
    let rejects = std::fs::read_to_string(folder.path().join("rejects.csv")).unwrap();
    assert_eq!(rejects, "row,invoice,reason\n2,\"2\",NOT_AN_INVOICE\n");
    let sent: Vec<Vec<u8>> = streams(&host).range(..2).flat_map(|(_, all)| all.clone()).collect();
    let named = |needle: &[u8]| {
        sent.iter().filter(|r| r.windows(needle.len()).any(|w| w == needle)).count()
    };
    assert_eq!((sent.len(), named(b"C3-r2"), named(b"17850-r1")), (6, 1, 2));
}
