//! The embedded log against a list in memory, through torn tails, damage and dead writers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::stream::{Ack, Batch, MAX_PAYLOAD, NO_ACK};

const PATIENCE: Duration = Duration::from_secs(120);

/// Commits happen when a test flushes and not before.
fn quiet(segment_bytes: u32) -> LogOptions {
    LogOptions { segment_bytes, commit_interval: Duration::from_secs(600), ..LogOptions::default() }
}

fn make(folder: &Path, partitions: u32, segment_bytes: u32) -> EmbeddedLog {
    EmbeddedLog::create(folder, "records", partitions, quiet(segment_bytes)).unwrap()
}

fn payload(i: u64) -> Vec<u8> {
    (0..i % 97).map(|j| (i * 31 + j * 7) as u8).collect()
}

/// Reads from an offset to the end, in small batches.
fn read(log: &EmbeddedLog, partition: u32, from: u64) -> Result<Vec<Vec<u8>>, StreamError> {
    let mut reader = log.reader(partition, from)?;
    let mut batch = Batch::new(7, 512);
    let mut out = Vec::new();
    loop {
        batch.clear();
        reader.poll(&mut batch, Duration::ZERO)?;
        if batch.is_empty() {
            assert_eq!(reader.next_offset(), log.end_offset(partition)?);
            return Ok(out);
        }
        for entry in batch.iter() {
            assert_eq!(entry.offset, from + out.len() as u64);
            assert!(entry.timestamp > 1_600_000_000_000);
            out.push(entry.payload.to_vec());
        }
        assert_eq!(reader.next_offset(), from + out.len() as u64);
    }
}

/// A topic of one partition with `count` durable records.
fn filled(folder: &Path, segment_bytes: u32, count: u64) -> EmbeddedLog {
    let log = make(folder, 1, segment_bytes);
    let mut writer = log.writer().unwrap();
    for i in 0..count {
        writer.send(0, &payload(i), NO_ACK).unwrap();
    }
    writer.flush().unwrap();
    log
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn partitions_segments_and_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = vec![Vec::new(); 3];
    for round in 0..4 {
        let log = make(folder.path(), 3, 4096);
        let mut writer = log.writer().unwrap();
        for i in 0..500 {
            let partition = (i % 3) as u32;
            writer.send(partition, &payload(i + round), NO_ACK).unwrap();
            expected[partition as usize].push(payload(i + round));
        }
        if round % 2 == 0 {
            writer.flush().unwrap();
        }
        drop(writer); // commits the rest
        for (partition, expected) in (0..).zip(&expected) {
            assert_eq!(log.end_offset(partition).unwrap(), expected.len() as u64);
            for from in [0, 1, expected.len() / 2, expected.len() - 1, expected.len()] {
                assert_eq!(read(&log, partition, from as u64).unwrap(), expected[from..]);
            }
        }
    }
    assert!(segment::bases(&segment::folder(folder.path(), 1)).unwrap().len() > 4);
}

#[test]
fn acknowledgements_name_the_offset_and_come_after_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let log = make(folder.path(), 2, 1 << 20);
    let mut writer = log.writer().unwrap();
    let mut acks = Vec::new();
    for (token, partition) in [(11, 0), (12, 1), (13, 0)] {
        writer.send(partition, b"x", token).unwrap();
    }
    writer.send(1, b"x", NO_ACK).unwrap();
    writer.poll_acks(&mut acks).unwrap();
    assert_eq!((acks.len(), log.end_offset(0).unwrap()), (0, 0));
    let mut batch = Batch::new(10, 100);
    log.reader(0, 0).unwrap().poll(&mut batch, Duration::from_millis(5)).unwrap();
    assert!(batch.is_empty(), "not durable and shown all the same");
    writer.flush().unwrap();
    writer.poll_acks(&mut acks).unwrap();
    acks.sort_by_key(|ack| ack.token);
    let expected = [(11, 0, 0), (12, 1, 0), (13, 0, 1)];
    let expected = expected.map(|(token, partition, offset)| Ack { token, partition, offset });
    assert_eq!(acks, expected);
    assert_eq!((log.end_offset(0).unwrap(), log.end_offset(1).unwrap()), (2, 2));
}

#[test]
fn commits_happen_by_themselves_after_the_interval_and_after_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = quiet(1 << 20);
    options.commit_interval = Duration::from_millis(5);
    for (records, options) in
        [(1, options), (200, LogOptions { commit_bytes: 1000, ..quiet(1 << 20) })]
    {
        let log = EmbeddedLog::create(folder.path(), "t", 1, options).unwrap();
        let from = log.end_offset(0).unwrap();
        let mut reader = log.reader(0, from).unwrap();
        let mut writer = log.writer().unwrap();
        for _ in 0..records {
            writer.send(0, b"some payload", NO_ACK).unwrap();
        }
        let mut batch = Batch::new(1, 100);
        reader.poll(&mut batch, PATIENCE).unwrap();
        assert_eq!(batch.get(0).map(|e| (e.offset, e.payload)), Some((from, &b"some payload"[..])));
    }
}

#[test]
fn full_queues_are_busy_and_wrong_calls_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { queue_bytes: 1000, queue_acks: 3, ..quiet(1 << 20) };
    let log = EmbeddedLog::create(folder.path(), "t", 1, options).unwrap();
    let mut writer = log.writer().unwrap();
    assert!(matches!(writer.send(1, b"", 0), Err(StreamError::Refused(_))));
    let long = vec![0; MAX_PAYLOAD + 1];
    assert!(matches!(writer.send(0, &long, 0), Err(StreamError::Refused(_))));
    writer.send(0, &long[1..], NO_ACK).unwrap();
    assert!(writer.send(0, b"", NO_ACK).unwrap_err().is_busy());
    writer.flush().unwrap();
    for token in 0..3 {
        writer.send(0, b"", token).unwrap();
    }
    writer.flush().unwrap();
    assert!(writer.send(0, b"", 3).unwrap_err().is_busy());
    writer.send(0, b"", NO_ACK).unwrap();
    writer.poll_acks(&mut Vec::new()).unwrap();
    writer.send(0, b"", 3).unwrap();
    assert!(matches!(log.writer(), Err(StreamError::Refused(_))), "a second writer");
    drop(writer);
    assert!(log.writer().is_ok());
    assert_eq!(read(&log, 0, 0).unwrap().len(), 6);

    let other = EmbeddedLog::create(folder.path(), "t", 2, quiet(1 << 20));
    assert!(matches!(other, Err(StreamError::Refused(_))));
    let nowhere = EmbeddedLog::open(&folder.path().join("no"), "t", quiet(1 << 20));
    assert!(matches!(nowhere, Err(StreamError::Refused(_))));
    assert!(matches!(log.reader(0, 7), Err(StreamError::Fatal(_))), "beyond the end");
    assert!(matches!(log.reader(1, 0), Err(StreamError::Refused(_))));
}

/// Leaves a topic as a power cut can: `kept` records published, and of the frames after them only
/// the first `bytes` on the disk.
fn tear(whole: &Path, ends: &Path, to: &Path, bytes: u64) {
    copy(whole, to);
    fs::copy(ends, EndsFile::path(to)).unwrap();
    let log = segment::log_path(&segment::folder(to, 0), 0);
    File::options().write(true).open(log).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_tail_torn_at_every_byte_is_cut_to_whole_frames() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, ends) = (folder.path().join("whole"), folder.path().join("ends"));
    let log = filled(&whole, 1 << 20, 5);
    fs::copy(EndsFile::path(&whole), &ends).unwrap();
    let file = segment::log_path(&segment::folder(&whole, 0), 0);
    let mut marks = vec![fs::metadata(&file).unwrap().len()];
    let mut writer = log.writer().unwrap();
    for i in 5..8 {
        writer.send(0, &payload(i), NO_ACK).unwrap();
        writer.flush().unwrap();
        marks.push(fs::metadata(&file).unwrap().len());
    }
    drop(writer);
    for bytes in marks[0]..=marks[3] {
        let torn = folder.path().join(format!("torn-{bytes}"));
        tear(&whole, &ends, &torn, bytes);
        let kept = 4 + marks.iter().filter(|&&mark| mark <= bytes).count() as u64;
        let log = EmbeddedLog::open(&torn, "t", quiet(1 << 20)).unwrap();
        let expected: Vec<_> = (0..kept).map(payload).collect();
        assert_eq!(read(&log, 0, 0).unwrap(), expected, "{bytes} bytes");
        let mut writer = log.writer().unwrap();
        writer.send(0, b"after", NO_ACK).unwrap();
        writer.flush().unwrap();
        drop(writer);
        assert_eq!(read(&log, 0, kept).unwrap(), [b"after"]);
        fs::remove_dir_all(&torn).unwrap();
    }
    // Below what was published it is no torn tail but damage.
    let torn = folder.path().join("short");
    tear(&whole, &ends, &torn, marks[0] - 1);
    let error = EmbeddedLog::open(&torn, "t", quiet(1 << 20)).unwrap_err();
    assert!(matches!(error, StreamError::Fatal(_)), "{error}");
}

#[test]
fn a_tail_of_zeros_or_with_a_hole_is_cut_at_the_first_bad_frame() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, ends) = (folder.path().join("whole"), folder.path().join("ends"));
    let log = filled(&whole, 1 << 20, 60);
    fs::copy(EndsFile::path(&whole), &ends).unwrap();
    let file = segment::log_path(&segment::folder(&whole, 0), 0);
    let durable = fs::metadata(&file).unwrap().len();
    let mut writer = log.writer().unwrap();
    for i in 60..90 {
        writer.send(0, &payload(i), NO_ACK).unwrap();
    }
    drop(writer);
    let long = fs::metadata(&file).unwrap().len();
    for (case, hole) in [(0, durable..long), (1, durable + 20..durable + 21)] {
        let torn = folder.path().join(format!("torn-{case}"));
        tear(&whole, &ends, &torn, long + 4096); // a file can grow before its data comes
        let path = segment::log_path(&segment::folder(&torn, 0), 0);
        let mut bytes = fs::read(&path).unwrap();
        bytes[hole.start as usize..hole.end as usize].fill(0);
        fs::write(&path, bytes).unwrap();
        let log = EmbeddedLog::open(&torn, "t", quiet(1 << 20)).unwrap();
        assert_eq!(read(&log, 0, 0).unwrap(), (0..60).map(payload).collect::<Vec<_>>());
        assert_eq!(fs::metadata(&path).unwrap().len(), durable);
    }
}

#[test]
fn unpublished_segments_are_settled_too() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, ends) = (folder.path().join("whole"), folder.path().join("ends"));
    let log = filled(&whole, 4096, 20);
    fs::copy(EndsFile::path(&whole), &ends).unwrap();
    let mut writer = log.writer().unwrap();
    for i in 20..400 {
        writer.send(0, &payload(i), NO_ACK).unwrap();
    }
    drop(writer);
    let expected: Vec<_> = (0..400).map(payload).collect();
    let bases = segment::bases(&segment::folder(&whole, 0)).unwrap();
    assert!(bases.len() > 3);
    for (case, broken) in [(0, None), (1, Some(bases[1])), (2, Some(bases[2]))] {
        let torn = folder.path().join(format!("torn-{case}"));
        copy(&whole, &torn);
        fs::copy(&ends, EndsFile::path(&torn)).unwrap();
        if let Some(base) = broken {
            let path = segment::log_path(&segment::folder(&torn, 0), base);
            let mut bytes = fs::read(&path).unwrap();
            bytes[0] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
        let log = EmbeddedLog::open(&torn, "t", quiet(4096)).unwrap();
        let kept = broken.unwrap_or(400) as usize;
        assert_eq!(read(&log, 0, 0).unwrap(), expected[..kept]);
        let mut writer = log.writer().unwrap();
        for i in kept..400 {
            writer.send(0, &payload(i as u64), NO_ACK).unwrap();
        }
        drop(writer);
        assert_eq!(read(&log, 0, 0).unwrap(), expected);
    }
}

#[test]
fn every_damaged_byte_of_durable_frames_is_fatal_to_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 4096, 150);
    let bases = segment::bases(&segment::folder(folder.path(), 0)).unwrap();
    assert!(bases.len() > 1);
    for base in bases {
        let path = segment::log_path(&segment::folder(folder.path(), 0), base);
        let good = fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(13) {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            fs::write(&path, &bytes).unwrap();
            let log = EmbeddedLog::open(folder.path(), "t", quiet(4096)).unwrap();
            let error = read(&log, 0, 0).unwrap_err();
            assert!(matches!(error, StreamError::Fatal(_)), "{error}");
        }
        fs::write(&path, &good).unwrap();
    }
    let log = EmbeddedLog::open(folder.path(), "t", quiet(4096)).unwrap();
    assert_eq!(read(&log, 0, 0).unwrap().len(), 150);
}

#[test]
fn the_index_finds_places_and_a_bad_one_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let log = make(folder.path(), 1, 64 << 20);
    let mut writer = log.writer().unwrap();
    for i in 0..3000u64 {
        writer.send(0, &[i as u8; 500], NO_ACK).unwrap();
    }
    drop(writer);
    let index = segment::index_path(&segment::folder(folder.path(), 0), 0);
    let good = fs::read(&index).unwrap();
    assert_eq!(good.len(), 8 * (3000_usize * 516).div_ceil(64 << 10));
    let first = |log: &EmbeddedLog, from: u64| {
        let mut batch = Batch::new(1, 1000);
        log.reader(0, from).unwrap().poll(&mut batch, PATIENCE).unwrap();
        batch.get(0).map(|e| (e.offset, e.payload[0])).unwrap()
    };
    let mut shifted = good.clone();
    shifted.remove(9);
    for bytes in [good.clone(), Vec::new(), vec![0xff; 80], vec![0; 80], shifted] {
        fs::write(&index, &bytes).unwrap();
        for from in [0, 1, 126, 127, 128, 1700, 2999] {
            assert_eq!(first(&log, from), (from, from as u8));
        }
    }
    fs::remove_file(&index).unwrap();
    assert_eq!(first(&log, 2500), (2500, 2500_u64 as u8));
}

#[test]
fn readers_follow_a_writer_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = quiet(16 << 10);
    options.commit_interval = Duration::from_millis(1);
    let log = EmbeddedLog::create(folder.path(), "t", 2, options).unwrap();
    const COUNT: u64 = 20_000;
    std::thread::scope(|scope| {
        for partition in 0..2 {
            let mut reader = log.reader(partition, 0).unwrap();
            scope.spawn(move || {
                let mut batch = Batch::new(100, 4000);
                let mut next = 0;
                while next < COUNT {
                    batch.clear();
                    reader.poll(&mut batch, PATIENCE).unwrap();
                    assert!(!batch.is_empty(), "nothing for long after {next}");
                    for entry in batch.iter() {
                        assert_eq!((entry.offset, entry.payload), (next, &payload(next)[..]));
                        next += 1;
                    }
                }
            });
        }
        let mut writer = log.writer().unwrap();
        for i in 0..COUNT {
            for partition in 0..2 {
                writer.send_waiting(partition, &payload(i), NO_ACK, PATIENCE).unwrap();
            }
        }
    });
}

#[derive(Debug, Clone)]
enum Step {
    Send(u32, usize),
    Flush,
    Reopen,
    /// A power cut that loses so many bytes of what was not durable.
    Crash(usize),
    Read(u32, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..2u32, 0..900usize).prop_map(|(p, n)| Step::Send(p, n)),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => (0..3000usize).prop_map(Step::Crash),
        3 => (0..2u32, 0..60usize).prop_map(|(p, n)| Step::Read(p, n)),
    ];
    prop::collection::vec(step, 1..80)
}

/// Drops the writer as a power cut would: its last frames may be on the disk and are not published.
fn crash(folder: &Path, ends: &[u8], lost: usize) {
    fs::write(EndsFile::path(folder), ends).unwrap();
    let ends = EndsFile::open(folder).unwrap().read().unwrap();
    for (partition, end) in (0..).zip(&ends.partitions) {
        let folder = segment::folder(folder, partition);
        let last = *segment::bases(&folder).unwrap().last().unwrap();
        let path = segment::log_path(&folder, last);
        let least = if last == end.base { end.position } else { 0 };
        let length = fs::metadata(&path).unwrap().len();
        let cut = length.saturating_sub(lost as u64).max(least);
        File::options().write(true).open(path).unwrap().set_len(cut).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn agrees_with_a_list(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = make(folder.path(), 2, 4096);
        let mut writer = Some(log.writer().unwrap());
        let mut sent: BTreeMap<u32, Vec<Vec<u8>>> = [(0, vec![]), (1, vec![])].into();
        let mut durable = [0usize; 2];
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send(partition, length) => {
                    let payload = vec![i as u8; length];
                    writer.as_mut().unwrap().send(partition, &payload, NO_ACK).unwrap();
                    sent.get_mut(&partition).unwrap().push(payload);
                }
                Step::Flush => {
                    writer.as_mut().unwrap().flush().unwrap();
                    durable = [sent[&0].len(), sent[&1].len()];
                }
                Step::Reopen => {
                    drop(writer.take());
                    log = make(folder.path(), 2, 4096);
                    writer = Some(log.writer().unwrap());
                    durable = [sent[&0].len(), sent[&1].len()];
                }
                Step::Crash(lost) => {
                    let ends = fs::read(EndsFile::path(folder.path())).unwrap();
                    drop(writer.take());
                    crash(folder.path(), &ends, lost);
                    log = make(folder.path(), 2, 4096);
                    for partition in 0..2 {
                        let kept = log.end_offset(partition).unwrap() as usize;
                        prop_assert!(durable[partition as usize] <= kept);
                        sent.get_mut(&partition).unwrap().truncate(kept);
                        durable[partition as usize] = kept;
                    }
                    writer = Some(log.writer().unwrap());
                }
                Step::Read(partition, from) => {
                    let end = durable[partition as usize];
                    let from = from.min(end);
                    let expected = &sent[&partition][from..end];
                    prop_assert_eq!(&read(&log, partition, from as u64).unwrap()[..], expected);
                }
            }
        }
        drop(writer);
        for partition in 0..2 {
            prop_assert_eq!(&read(&log, partition, 0).unwrap(), &sent[&partition]);
        }
    }
}

#[test]
fn whole_segments_below_an_offset_are_deleted_and_the_rest_reads_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(folder.path(), 4096, 3_000);
    let bases = segment::bases(&segment::folder(folder.path(), 0)).unwrap();
    assert!(bases.len() > 10);
    // A reader that stands before what is deleted says so, at the end of what it has open.
    let mut late = log.reader(0, 0).unwrap();
    late.poll(&mut Batch::new(1, 1), Duration::ZERO).unwrap();
    let mut start = 0;
    for below in [0, 1, bases[1] - 1, bases[1], bases[3] + 1, bases[2], bases[7]] {
        let begins = log.delete_before(0, below).unwrap();
        let expected = bases.iter().rev().copied().find(|base| *base <= below).unwrap();
        start = start.max(expected);
        assert_eq!((begins, log.start_offset(0).unwrap()), (start, start), "{below}");
        let rest: Vec<_> = (start..3_000).map(payload).collect();
        assert_eq!(read(&log, 0, start).unwrap(), rest);
        if start > 0 {
            let early = read(&log, 0, start - 1).unwrap_err();
            assert!(early.to_string().contains("piaogen snapshot restore"), "{early}");
        }
    }
    let mut batch = Batch::new(10_000, 1 << 20);
    assert!(matches!(late.poll(&mut batch, Duration::ZERO), Err(StreamError::Fatal(_))));
    // The segment that is written to stays, however far one asks; opened again, it is the same.
    let last = *bases.last().unwrap();
    assert_eq!(log.delete_before(0, u64::MAX).unwrap(), last);
    let again = make(folder.path(), 1, 4096);
    let mut writer = again.writer().unwrap();
    writer.send(0, &payload(3_000), NO_ACK).unwrap();
    writer.flush().unwrap();
    let rest: Vec<_> = (last..3_001).map(payload).collect();
    assert_eq!(read(&again, 0, last).unwrap(), rest);
    assert!(matches!(again.delete_before(1, 0), Err(StreamError::Refused(_))));
}
