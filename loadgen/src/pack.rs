//! Keeps records made beforehand in a file, with the entry that the leaf of each must have.
//!
//! Signing costs more than sending, so for large volumes records are made once and sent often. The
//! file is written and read from front to back.
//!
//! Invariants
//! - A file belongs to one chain and one number of partitions; both are in its head.
//! - Lengths are bounded before anything is allocated.
//!
//! Format: `"piaogen/pack/1\n"`, chain (32), `u32` partitions, `u64` records, `u16` number of
//! registrations, each `u32` length and bytes; then for each record `u8` kind, `u32` partition,
//! `u32` length and bytes of the expected entry (`verify/FORMAT.md` section 5), `u32` length and
//! bytes of the record.

use crate::source::{Expected, Generated, Kind, Source, SourceError};
use piaogen_crypto::{Digest, Lanes};
use piaogen_verify::conflict::Form;
use piaogen_verify::document::Document;
use piaogen_verify::entry::{Entry, Outcome};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const MAGIC: &[u8; 15] = b"piaogen/pack/1\n";
/// Most bytes of a record or an entry in a file; bad records exceed the limit of good ones.
const PART_MAX: usize = 131_072;

/// Writes a file of records.
#[derive(Debug)]
pub struct PackWriter(BufWriter<File>);

impl PackWriter {
    /// Creates the file, which must not exist.
    pub fn create(
        path: &Path,
        chain: &Digest,
        partitions: u32,
        records: u64,
        registrations: &[Vec<u8>],
    ) -> io::Result<PackWriter> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
        out.write_all(MAGIC)?;
        out.write_all(chain)?;
        out.write_all(&partitions.to_be_bytes())?;
        out.write_all(&records.to_be_bytes())?;
        let count = u16::try_from(registrations.len())
            .map_err(|_| io::Error::other("more than 65,535 registrations do not fit a pack"))?;
        out.write_all(&count.to_be_bytes())?;
        for registration in registrations {
            put(&mut out, registration)?;
        }
        Ok(PackWriter(out))
    }

    /// Appends one record.
    pub fn push(&mut self, generated: &Generated) -> io::Result<()> {
        let kind = Kind::ALL.iter().position(|kind| *kind == generated.kind).unwrap_or(0);
        self.0.write_all(&[kind as u8])?;
        self.0.write_all(&generated.partition.to_be_bytes())?;
        put(&mut self.0, &generated.expected_entry().encode())?;
        put(&mut self.0, &generated.record)
    }

    /// Writes what is buffered.
    pub fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn put(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u32).to_be_bytes())?;
    out.write_all(bytes)
}

fn array<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn part(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = u32::from_be_bytes(array(reader)?) as usize;
    if length > PART_MAX {
        let what = format!("a length of {length} is above {PART_MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[derive(Debug)]
struct Cursor {
    reader: BufReader<File>,
    next: u64,
}

/// A file of records as a source.
#[derive(Debug)]
pub struct Pack {
    path: PathBuf,
    /// The chain whose records these are.
    pub chain: Digest,
    /// Partitions of the topic `records` of that chain.
    pub partitions: u32,
    /// How many records there are.
    pub records: u64,
    /// Records for the topic `registry` that must be in a block before the first record is.
    pub registrations: Vec<Vec<u8>>,
    cursor: Mutex<Cursor>,
}

impl Pack {
    /// Opens a file and reads its head.
    pub fn open(path: &Path) -> io::Result<Pack> {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
        if array::<15>(&mut reader)? != *MAGIC {
            let what = format!("{} is no file of `loadgen make`", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let chain = array(&mut reader)?;
        let partitions = u32::from_be_bytes(array(&mut reader)?);
        let records = u64::from_be_bytes(array(&mut reader)?);
        let count = u16::from_be_bytes(array(&mut reader)?);
        let registrations =
            (0..count).map(|_| part(&mut reader)).collect::<io::Result<Vec<_>>>()?;
        let cursor = Mutex::new(Cursor { reader, next: 0 });
        Ok(Pack { path: path.into(), chain, partitions, records, registrations, cursor })
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<Generated>> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        if range.start < cursor.next {
            let again = Pack::open(&self.path)?;
            *cursor = again.cursor.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        while cursor.next < range.start {
            next(&mut cursor)?;
        }
        (range.start..range.end.min(self.records)).map(|_| next(&mut cursor)).collect()
    }
}

fn next(cursor: &mut Cursor) -> io::Result<Generated> {
    let reader = &mut cursor.reader;
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
    let [kind] = array(reader)?;
    let kind = *Kind::ALL.get(usize::from(kind)).ok_or_else(|| invalid("unknown kind"))?;
    let partition = u32::from_be_bytes(array(reader)?);
    let entry = Entry::decode(&part(reader)?).map_err(|error| invalid(&error.to_string()))?;
    let record = part(reader)?;
    let expected = match entry.outcome {
        Outcome::Replay { first } => Expected::Replay { of: first },
        Outcome::DupDifferent { first, commitment } => {
            Expected::DupDifferent { of: first, commitment }
        }
        // What only the chain knows was not known when the file was made.
        Outcome::Conflict { conflict, .. }
            if matches!(conflict.form(), Form::Index | Form::Time) =>
        {
            Expected::Refused(conflict)
        }
        outcome => Expected::Exactly(outcome),
    };
    let index = cursor.next;
    cursor.next += 1;
    Ok(Generated {
        index,
        kind,
        document: None,
        record,
        partition,
        subject: entry.subject,
        record_kind: entry.kind,
        commitment: entry.commitment,
        signer: entry.signer,
        expected,
    })
}

impl Source for Pack {
    fn len(&self) -> Option<u64> {
        Some(self.records)
    }

    fn batch(&self, range: Range<u64>, _: Lanes) -> Result<Vec<Generated>, SourceError> {
        self.read(range).map_err(|error| SourceError(format!("{}: {error}", self.path.display())))
    }

    fn document(&self, _: u64) -> Option<Document> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{Generator, GeneratorConfig, Shares};
    use crate::genesis::demo_chain;

    #[test]
    fn what_was_written_is_read_in_any_order_and_damage_is_an_error() {
        let chain = demo_chain(3, 4, 1, 1_795_000_000_000);
        let mut config = GeneratorConfig::new(3, &chain.genesis);
        (config.sellers, config.shares) = (4, Shares::with_bad(60_000));
        let generator = Generator::new(config);
        let made = generator.generate_batch(0..300, Lanes::detect());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pack");
        let registrations = generator.registrations(&chain.authority);
        let genesis = &chain.genesis;
        let mut writer = PackWriter::create(&path, &genesis.chain, 4, 300, &registrations).unwrap();
        made.iter().for_each(|generated| writer.push(generated).unwrap());
        writer.finish().unwrap();

        let pack = Pack::open(&path).unwrap();
        assert_eq!((pack.chain, pack.partitions, pack.len()), (genesis.chain, 4, Some(300)));
        assert_eq!(pack.registrations, registrations);
        for range in [0..10, 200..400, 50..60] {
            let read = pack.batch(range.clone(), Lanes::detect()).unwrap();
            let wanted = &made[range.start as usize..range.end.min(300) as usize];
            assert_eq!(read.len(), wanted.len());
            for (read, wanted) in read.iter().zip(wanted) {
                assert_eq!(read.record, wanted.record);
                assert_eq!((read.kind, read.expected), (wanted.kind, wanted.expected));
                assert_eq!(read.expected_entry(), wanted.expected_entry());
            }
        }
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let short = Pack::open(&path).unwrap();
        assert!(short.batch(0..299, Lanes::detect()).is_ok());
        assert!(short.batch(299..300, Lanes::detect()).is_err());
        std::fs::write(&path, b"something else entirely").unwrap();
        assert!(Pack::open(&path).is_err());
    }
}
