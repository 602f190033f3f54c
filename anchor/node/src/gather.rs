//! Gathers the cosignatures of several witnesses over one log of headers into one note.
//!
//! Each witness hands out notes with its own cosignature, as files: over its newest size, and over
//! those that all witnesses sign (`FORMAT.md` section 12.1). Which these are follows from the
//! newest, so nobody lists them and nobody is told: the newest size at which enough have signed is
//! looked for from above.
//!
//! Invariants
//! - A line counts where it holds and is of a witness that the trust root knows; others are left
//!   out.
//! - Every two witnesses are compared at the newest size that both signed. Two roots are evidence,
//!   and then nothing is gathered.
//! - A witness that is away, or shows nothing that holds, is one signature less and no error.

use crate::site::{Site, read_bounded};
use crate::witness::{CHECKPOINT, CHECKPOINTS};
use anyhow::{Context, Result, ensure};
use piaogen_verify::checkpoint::{CHECKPOINT_MAX, Checkpoint};
use piaogen_verify::evidence::Evidence;
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::{Cosignature, is_shared, shared_sizes};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Longest time for one note.
const PATIENCE: Duration = Duration::from_secs(10);
/// At how many sizes enough cosignatures are looked for: where the files of the newest ones are not
/// there, those of older ones are not worth a request each.
const SIZES_MAX: usize = 64;

/// What gathering came to.
#[derive(Debug)]
pub enum Gathered {
    /// The note over the newest size that enough have signed, with the lines of all who did.
    Enough(Checkpoint),
    /// There is no such size; how far each has signed.
    Few(String),
    /// Two roots of one size were signed, and this proves it.
    Split(Box<Evidence>),
}

/// Where the notes of a witness come from; or one note.
struct Shelf {
    from: String,
    /// None where it is one note in a file.
    site: Option<Site>,
    /// The note over the newest size.
    newest: Checkpoint,
}

/// A note with those of its lines that hold and are of witnesses who are known.
pub fn known_lines(note: &str, trust: &TrustRoot) -> Result<Checkpoint> {
    let note = Checkpoint::parse(note)?;
    let (chain, wanted) = (&note.chain_id, &trust.chain_id);
    ensure!(chain == wanted, "the checkpoint is of chain {chain}, not of {wanted}");
    trust.witnesses_of(&note, &note.cosignatures())?;
    let mut lines = note.clone();
    lines.signatures.retain(|line| {
        let own = |one: Cosignature| trust.witnesses.iter().any(|witness| one.is_of(witness));
        Cosignature::of_line(line).is_some_and(own)
    });
    ensure!(!lines.signatures.is_empty(), "no witness of the trust root has signed it");
    // Joined with nothing, so that each signer is there once.
    let mut known = Checkpoint::new(&note.chain_id, note.size, note.root);
    known.join(&lines);
    Ok(known)
}

fn known_bytes(bytes: Vec<u8>, trust: &TrustRoot) -> Result<Checkpoint> {
    known_lines(&String::from_utf8(bytes).context("the checkpoint is no text")?, trust)
}

impl Shelf {
    fn open(from: &str, trust: &TrustRoot) -> Result<Shelf> {
        let limit = CHECKPOINT_MAX as u64;
        let (site, bytes) = if Path::new(from).is_file() {
            (None, read_bounded(Path::new(from), limit)?.context("the file is gone")?)
        } else {
            let site = Site::open(from, "", PATIENCE)?;
            let bytes = site.ask(CHECKPOINT, limit)?;
            (Some(site), bytes)
        };
        Ok(Shelf { from: from.into(), site, newest: known_bytes(bytes, trust)? })
    }

    /// Whether it should have a note over this size.
    fn has(&self, size: u64) -> bool {
        let newest = self.newest.size;
        size == newest || (self.site.is_some() && is_shared(size, newest))
    }

    /// The sizes of its notes, the newest first.
    fn sizes(&self) -> impl Iterator<Item = u64> {
        let newest = self.newest.size;
        let shared = self.site.is_some().then(|| shared_sizes(newest));
        let shared = shared.into_iter().flatten().filter(move |size| *size != newest);
        std::iter::once(newest).chain(shared)
    }

    fn note(&self, size: u64, trust: &TrustRoot) -> Result<Checkpoint> {
        let Some(site) = self.site.as_ref().filter(|_| size != self.newest.size) else {
            return Ok(self.newest.clone());
        };
        let bytes = site.ask(&format!("{CHECKPOINTS}/{size}"), CHECKPOINT_MAX as u64)?;
        let note = known_bytes(bytes, trust)?;
        ensure!(note.size == size, "{CHECKPOINTS}/{size} is over {} headers", note.size);
        Ok(note)
    }
}

/// All that is asked, and what was read so far.
struct Gatherer<'a> {
    trust: &'a TrustRoot,
    shelves: Vec<Shelf>,
    joined: BTreeMap<u64, Option<Checkpoint>>,
}

impl Gatherer<'_> {
    /// The lines of all who signed this size; evidence where they signed two roots.
    fn at(&mut self, size: u64) -> Result<Option<&Checkpoint>, Box<Evidence>> {
        if !self.joined.contains_key(&size) {
            let mut joined: Option<Checkpoint> = None;
            for shelf in self.shelves.iter().filter(|shelf| shelf.has(size)) {
                let note = match shelf.note(size, self.trust) {
                    Ok(note) => note,
                    Err(error) => {
                        let error = format!("{error:#}");
                        tracing::warn!(error, from = shelf.from, size, "a note is passed over");
                        continue;
                    }
                };
                match &mut joined {
                    None => joined = Some(note),
                    Some(first) => {
                        if !first.join(&note) {
                            let (first, second) = (first.clone(), note);
                            let conflict = Evidence::Cosigned { first, second, prefix: None };
                            return Err(Box::new(conflict));
                        }
                    }
                }
            }
            self.joined.insert(size, joined);
        }
        Ok(self.joined.get(&size).and_then(Option::as_ref))
    }

    /// Compares every two at the newest size that both signed.
    fn compare(&mut self) -> Result<(), Box<Evidence>> {
        let mut met = BTreeSet::new();
        for (at, one) in self.shelves.iter().enumerate() {
            let others = &self.shelves[at + 1..];
            met.extend(others.iter().filter_map(|o| one.sizes().find(|size| o.has(*size))));
        }
        met.into_iter().try_for_each(|size| self.at(size).map(|_| ()))
    }

    /// The note over the newest size that so many have signed.
    fn newest(&mut self, quorum: u32) -> Result<Option<Checkpoint>, Box<Evidence>> {
        let sizes: BTreeSet<u64> = self.shelves.iter().flat_map(Shelf::sizes).collect();
        let lines = |shelf: &Shelf| shelf.newest.signatures.len();
        let may = |size: &u64| {
            let holders = self.shelves.iter().filter(|shelf| shelf.has(*size));
            holders.map(lines).sum::<usize>() >= quorum as usize
        };
        let sizes: Vec<u64> = sizes.into_iter().rev().filter(may).take(SIZES_MAX).collect();
        for size in sizes {
            if let Some(joined) = self.at(size)?
                && joined.signatures.len() >= quorum as usize
            {
                return Ok(Some(joined.clone()));
            }
        }
        Ok(None)
    }
}

/// Gathers from folders, URLs and notes the cosignatures of at least so many of the trust root's
/// witnesses.
pub fn gather(from: &[String], trust: &TrustRoot, quorum: u32) -> Gathered {
    let mut shelves = Vec::new();
    for from in from {
        match Shelf::open(from, trust) {
            Ok(shelf) => shelves.push(shelf),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), from, "a witness is passed over");
            }
        }
    }
    let mut gatherer = Gatherer { trust, shelves, joined: BTreeMap::new() };
    match gatherer.compare().and_then(|()| gatherer.newest(quorum)) {
        Ok(Some(checkpoint)) => Gathered::Enough(checkpoint),
        Ok(None) => {
            let far = |shelf: &Shelf| format!("{}: {}", shelf.from, shelf.newest.size);
            let far: Vec<String> = gatherer.shelves.iter().map(far).collect();
            Gathered::Few(format!(
                "no size was signed by {quorum} of these {} witnesses yet; headers signed by [{}]",
                from.len(),
                far.join(", ")
            ))
        }
        Err(evidence) => Gathered::Split(evidence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_crypto::sm2::SecretKey;
    use piaogen_verify::header::ValidatorSet;
    use piaogen_verify::witness::Witness;

    const NAMES: [&str; 3] = ["w0.example", "w1.example", "w2.example"];

    fn key(index: usize) -> SecretKey {
        SecretKey::from_bytes(&[index as u8 + 31; 32]).unwrap()
    }

    fn trust() -> TrustRoot {
        let set = ValidatorSet::new(vec![key(7).public_key()]).unwrap();
        let witness = |(index, name): (usize, &&str)| Witness {
            name: (*name).into(),
            key: key(index).public_key(),
        };
        TrustRoot {
            witnesses: NAMES.iter().enumerate().map(witness).collect(),
            witness_quorum: 2,
            ..TrustRoot::of_set("test-1", [1; 32], set)
        }
    }

    /// Roots of one history, or of another.
    fn note(index: usize, size: u64, other: u8) -> Checkpoint {
        let root = piaogen_crypto::sm3::hash(&[&size.to_be_bytes()[..], &[other]].concat());
        let mut note = Checkpoint::new("test-1", size, root);
        let name = NAMES.get(index).unwrap_or(&"stranger.example");
        note.signatures.push(Cosignature::sign(name, &key(index), &note, 9).to_line());
        note
    }

    /// The folder of a witness at a size, whose history is another from a size on.
    fn write(dir: &Path, index: usize, size: u64, fork: u64) -> String {
        let folder = dir.join(format!("w{index}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join(CHECKPOINTS)).unwrap();
        let text = |size| note(index, size, u8::from(size >= fork)).to_note();
        std::fs::write(folder.join(CHECKPOINT), text(size)).unwrap();
        for size in shared_sizes(size) {
            std::fs::write(folder.join(CHECKPOINTS).join(size.to_string()), text(size)).unwrap();
        }
        folder.to_str().unwrap().into()
    }

    fn enough(from: &[String], quorum: u32) -> Option<(u64, Vec<String>)> {
        match gather(from, &trust(), quorum) {
            Gathered::Enough(note) => {
                let known = trust().witnesses_of(&note, &note.cosignatures()).unwrap();
                assert_eq!(known.len(), note.signatures.len());
                let names = note.signatures.iter().map(|line| line.name.clone());
                Some((note.size, names.collect()))
            }
            Gathered::Few(_) => None,
            Gathered::Split(evidence) => panic!("{evidence:?}"),
        }
    }

    #[test]
    fn the_newest_size_that_enough_have_signed_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut from = vec![
            write(dir.path(), 0, 101, u64::MAX),
            write(dir.path(), 1, 99, u64::MAX),
            write(dir.path(), 2, 50, u64::MAX),
        ];
        let names = |of: &[usize]| of.iter().map(|i| NAMES[*i].to_string()).collect::<Vec<_>>();
        assert_eq!(enough(&from, 1), Some((101, names(&[0]))));
        assert_eq!(enough(&from, 2), Some((96, names(&[0, 1]))));
        assert_eq!(enough(&from, 3), Some((48, names(&[0, 1, 2]))));
        // One file less is one size less; a note in a file stands for itself.
        std::fs::remove_file(dir.path().join("w1/checkpoints/96")).unwrap();
        assert_eq!(enough(&from, 2), Some((88, names(&[0, 1]))));
        let single = dir.path().join("single");
        std::fs::write(&single, note(2, 96, 0).to_note()).unwrap();
        from.push(single.to_str().unwrap().into());
        assert_eq!(enough(&from, 2), Some((96, names(&[0, 2]))));
        // A witness counts once, from however many places.
        assert_eq!(enough(&[from[0].clone(), from[0].clone()], 2), None);
        // Two that stand at one size need no shared one.
        write(dir.path(), 1, 101, u64::MAX);
        assert_eq!(enough(&from, 2), Some((101, names(&[0, 1]))));
    }

    #[test]
    fn who_is_away_or_forges_is_one_signature_less() {
        let dir = tempfile::tempdir().unwrap();
        let from = [
            write(dir.path(), 0, 40, u64::MAX),
            write(dir.path(), 1, 40, u64::MAX),
            write(dir.path(), 2, 40, u64::MAX),
        ];
        let put = |name: &str, note: &Checkpoint| {
            std::fs::write(dir.path().join("w1").join(name), note.to_note()).unwrap();
        };
        let mut forged = note(1, 40, 0);
        forged.signatures[0].bytes[20] ^= 1;
        for bad in [forged, note(7, 40, 0), Checkpoint::new("test-1", 40, note(0, 40, 0).root)] {
            put(CHECKPOINT, &bad);
            assert_eq!(enough(&from, 2).map(|(size, who)| (size, who.len())), Some((40, 2)));
            assert_eq!(enough(&from, 3), None);
        }
        // A stranger's line beside a good one is left out.
        let mut beside = note(1, 40, 0);
        beside.signatures.push(note(7, 40, 0).signatures.remove(0));
        put(CHECKPOINT, &beside);
        assert_eq!(enough(&from, 3).map(|(size, who)| (size, who.len())), Some((40, 3)));
        // Another size under a name is not taken for it.
        put(CHECKPOINT, &note(1, 41, 0));
        put("checkpoints/40", &note(1, 32, 0));
        assert_eq!(enough(&from, 3), Some((32, NAMES.map(String::from).to_vec())));
        std::fs::remove_dir_all(dir.path().join("w1")).unwrap();
        assert_eq!(enough(&from, 3), None);
        assert_eq!(enough(&from, 2).map(|(size, _)| size), Some(40));
    }

    #[test]
    fn two_histories_are_evidence_also_where_enough_agree() {
        let dir = tempfile::tempdir().unwrap();
        for (size, fork) in [(101, 60), (70, 64), (700, 16)] {
            let from = [
                write(dir.path(), 0, 101, u64::MAX),
                write(dir.path(), 1, 99, u64::MAX),
                write(dir.path(), 2, size, fork),
            ];
            let Gathered::Split(evidence) = gather(&from, &trust(), 2) else {
                panic!("{size} {fork}");
            };
            let verdict = evidence.verify(&trust()).unwrap();
            assert_eq!(verdict.kind, "cosigned");
            assert!(verdict.liars.is_empty(), "each signed one history");
        }
        // One that has not come to the fork is of both.
        let from = [write(dir.path(), 0, 101, u64::MAX), write(dir.path(), 2, 70, 71)];
        assert_eq!(enough(&from, 2).map(|(size, _)| size), Some(64));
    }
}
