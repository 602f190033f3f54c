//! Tests of the tail: reading any range, cutting at any byte, releasing.

use super::*;
use crate::files::create_folder;

fn rows(first: u64, count: u64, height: u64) -> RowChunk {
    let mut chunk = RowChunk::new(first, height, height as i64 * 1000);
    for i in first..first + count {
        let record = vec![i as u8; 600 + (i % 50) as usize];
        chunk.push(format!("entry {i}").as_bytes(), &record).unwrap();
    }
    chunk
}

struct Bench {
    dir: tempfile::TempDir,
    files: Files,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        create_folder(&dir.path().join("shard-0002/tail")).unwrap();
        let files = Files::new(dir.path(), true, 64);
        Self { dir, files }
    }

    fn open(&self, size: u64) -> Result<Tail> {
        Tail::open(2, size, 4096, &self.files, true)
    }

    fn append(&self, tail: &mut Tail, rows: &RowChunk) {
        tail.append(&encode(rows, true).unwrap(), &rows.bytes, &self.files).unwrap();
    }

    fn read(&self, tail: &Tail, from: u64, max_rows: u64, max_bytes: u64) -> Rows {
        let frames = tail.frames(from, max_rows, max_bytes).into_iter();
        let frames = frames.map(|at| Arc::new(read_frame(&self.files, at).unwrap())).collect();
        rows_of(frames, from, max_rows)
    }
}

#[test]
fn any_range_reads_back() {
    let bench = Bench::new();
    let mut tail = bench.open(0).unwrap();
    for (height, count) in [700, 1, 0, 299, 500].into_iter().enumerate() {
        let first = tail.next();
        let rows = rows(first, count, height as u64);
        let encoded = encode(&rows, height % 3 == 0).unwrap();
        tail.check(&encoded, first + count).unwrap();
        assert!(tail.check(&encoded, first + count + 1).is_err());
        tail.append(&encoded, &rows.bytes, &bench.files).unwrap();
    }
    assert!(tail.chunks.len() > 1, "files are bounded");
    for place in tail.take_dirty() {
        sync(&bench.files, place).unwrap();
    }
    for tail in [tail, bench.open(1500).unwrap()] {
        for (from, max) in [(0, 1500), (0, 1), (699, 2), (701, 3), (1499, 10), (200, 1000)] {
            let read = bench.read(&tail, from, max, u64::MAX);
            assert_eq!(read.len() as u64, max.min(1500 - from));
            assert_eq!(read.iter().count(), read.len());
            for (row, i) in read.iter().zip(from..) {
                assert_eq!(row.log_index, i);
                assert_eq!(row.entry, format!("entry {i}").as_bytes());
                let height = [700, 701, 1000].iter().filter(|end| i >= **end).count();
                assert_eq!(row.height, [0, 1, 3, 4][height]);
            }
        }
        assert!(bench.read(&tail, 1500, 10, u64::MAX).is_empty());
        let few = bench.read(&tail, 0, u64::MAX, 1);
        assert!(!few.is_empty() && few.len() < 1500, "bounded by bytes");
    }
}

#[test]
fn what_lies_past_the_flush_point_is_cut_whatever_it_is() {
    let bench = Bench::new();
    let mut tail = bench.open(0).unwrap();
    bench.append(&mut tail, &rows(0, 40, 1));
    let kept = tail.bytes();
    bench.append(&mut tail, &rows(40, 3, 2));
    let path = bench.files.path(Place::Tail { shard: 2, first: 0 });
    let whole = std::fs::read(&path).unwrap();
    for cut in kept as usize..=whole.len() {
        for garbage in [0usize, 100] {
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(cut + garbage, 0x5a);
            std::fs::write(&path, &bytes).unwrap();
            std::fs::write(bench.dir.path().join("shard-0002/tail/00000000000000000043.rows"), "x")
                .unwrap();
            let tail = bench.open(40).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len(), kept);
            assert_eq!(bench.read(&tail, 0, 100, u64::MAX).len(), 40);
            assert_eq!(chunk_files(&path).unwrap(), [0]);
        }
    }
    // Before the flush point nothing may be missing: every missing byte is found.
    for cut in 0..kept as usize {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(bench.open(40).err().unwrap().is_fatal(), "cut at {cut}");
    }
}

#[test]
fn sealed_files_are_deleted_and_the_tail_goes_on() {
    let bench = Bench::new();
    let mut tail = bench.open(0).unwrap();
    for height in 0..20 {
        bench.append(&mut tail, &rows(height * 100, 100, height));
    }
    let before = tail.bytes();
    tail.release(950, &bench.files).unwrap();
    assert!(tail.first() > 0 && tail.first() <= 950);
    assert!(tail.bytes() < before);
    assert_eq!(bench.read(&tail, 950, 5, u64::MAX).iter().next().unwrap().log_index, 950);
    let skipped = bench.read(&bench.open(2000).unwrap(), 0, 5, u64::MAX);
    assert_eq!(skipped.iter().map(|row| row.log_index).next(), Some(tail.first()));
    assert_eq!((skipped.len() as u64, skipped.end()), (5, tail.first() + 5));
    tail.release(2000, &bench.files).unwrap();
    assert_eq!((tail.first(), tail.bytes()), (2000, 0));
    let mut tail = bench.open(2000).unwrap();
    bench.append(&mut tail, &rows(2000, 10, 21));
    assert_eq!(bench.read(&tail, 2003, 2, u64::MAX).len(), 2);
}
