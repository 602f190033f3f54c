//! Kills a process that writes to the embedded log, again and again, and looks at what is left.
//!
//! The test starts itself as the writer. The writer prints what has been acknowledged; whatever it
//! printed before it was killed has to be there, whole and in order, with nothing doubled.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as its test does")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use piaogen_ingest::stream::log::{EmbeddedLog, LogOptions};
use piaogen_ingest::stream::{Batch, Reader, Stream};

const FOLDER: &str = "PIAOGEN_TEST_LOG_FOLDER";
const PATIENCE: Duration = Duration::from_secs(300);

fn open(folder: &Path) -> EmbeddedLog {
    let options = LogOptions {
        segment_bytes: 1 << 20,
        commit_interval: Duration::from_millis(2),
        ..LogOptions::default()
    };
    EmbeddedLog::create(folder, "records", 2, options).unwrap()
}

fn payload(i: u64) -> Vec<u8> {
    let mut out = i.to_le_bytes().to_vec();
    out.resize(8 + (i * 7919 % 1500) as usize, i as u8);
    out
}

/// Writes until it is killed; a line for each group of acknowledgements: how many records in all.
fn write_forever(folder: &Path) {
    let log = open(folder);
    let mut writer = log.writer().unwrap();
    let mut next = [log.end_offset(0).unwrap(), log.end_offset(1).unwrap()];
    let mut durable = next;
    let (mut acks, mut out) = (Vec::new(), std::io::stdout());
    loop {
        for (partition, next) in (0..).zip(&mut next) {
            writer.send_waiting(partition, &payload(*next), *next, PATIENCE).unwrap();
            *next += 1;
        }
        writer.poll_acks(&mut acks).unwrap();
        for ack in acks.drain(..) {
            assert_eq!((ack.token, ack.offset), (ack.offset, durable[ack.partition as usize]));
            durable[ack.partition as usize] += 1;
        }
        writeln!(out, "durable {} {}", durable[0], durable[1]).unwrap();
    }
}

fn check(reader: &mut dyn Reader, end: u64) {
    let mut batch = Batch::new(1000, 1 << 20);
    while reader.next_offset() < end {
        batch.clear();
        let next = reader.next_offset();
        reader.poll(&mut batch, PATIENCE).unwrap();
        assert!(!batch.is_empty(), "nothing at {next} of {end}");
        for (i, entry) in (next..).zip(batch.iter()) {
            assert!(entry.offset == i && entry.payload == payload(i), "record {i}");
        }
    }
    assert_eq!(reader.next_offset(), end);
}

#[test]
fn a_killed_writer_loses_nothing_that_was_acknowledged() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return write_forever(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut before = [0, 0];
    for round in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_writer_loses_nothing_that_was_acknowledged", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut promised = before;
        let begun = Instant::now();
        let mut killed = false;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(numbers) = line.strip_prefix("durable ") else { continue };
            let Some((a, b)) = numbers.split_once(' ') else { continue };
            // The last line may be cut off by the kill, and a shorter number promises less.
            let (Ok(a), Ok(b)) = (a.parse::<u64>(), b.parse::<u64>()) else { continue };
            promised = [promised[0].max(a), promised[1].max(b)];
            let enough = promised[0] > before[0] && promised[1] > before[1];
            if !killed && enough && begun.elapsed() > Duration::from_millis(37 * round) {
                child.kill().unwrap();
                killed = true;
            }
            assert!(begun.elapsed() < PATIENCE, "the writer makes no progress");
        }
        assert!(killed && !child.wait().unwrap().success());
        let log = open(folder.path());
        for (partition, promised) in (0..).zip(promised) {
            let end = log.end_offset(partition).unwrap();
            assert!(end >= promised, "{promised} were acknowledged and {end} are left");
            check(&mut *log.reader(partition, 0).unwrap(), end);
            before[partition as usize] = end;
        }
    }
}
