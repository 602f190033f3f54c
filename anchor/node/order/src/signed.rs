//! Keeps, outside the votes, how far this key has signed, so that an older copy of the votes is
//! recognized before it votes again.
//!
//! The engine's journal holds every vote before it leaves; what it cannot know is that it was
//! replaced by a copy of itself. This record can: it is one small file for each key, in a folder of
//! its own, raised and synced before the first vote of a view leaves. Its bytes are in the crate's
//! documentation.
//!
//! The order is journal, record, network. So a crash at any place leaves the journal at least as far
//! as the record, and a journal that is behind the record was not written here last.
//!
//! Invariants
//! - No vote leaves of a view above the one that is on disk here.
//! - One of two slots is whole at any time; a write goes to the other.
//! - The running process holds the file locked.

use crate::digest::Digest;
use crate::error::{Fatal, Refused};
use crate::key::Key;
use crate::scheme::Scheme;
use crate::{Status, held};
use commonware_actor::{Feedback, Unreliable};
use commonware_codec::DecodeExt;
use commonware_consensus::simplex::types::Vote;
use commonware_consensus::{Epochable, Viewable};
use commonware_p2p::{CheckedSender, LimitedSender, Recipients};
use commonware_runtime::IoBufs;
use piaogen_crypto::sm3;
use std::fs::{File, TryLockError, create_dir_all};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

const MAGIC: [u8; 4] = *b"PSg1";
/// Where the slots are: in sectors of their own, so that a torn write leaves one.
const SLOTS: [u64; 2] = [0, 512];
const SLOT_BYTES: usize = 32;
const FILE_BYTES: usize = 1024;

/// A view of an epoch; later epochs are higher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) epoch: u64,
    pub(crate) view: u64,
}

/// Where the record is written; what is written is durable when this returns.
pub(crate) trait Medium: Send {
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
}

impl Medium for File {
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, at)?;
        self.sync_data()
    }
}

/// How far one key has signed.
pub(crate) struct Record<M> {
    medium: M,
    key: Key,
    last: Place,
    /// The slot that holds `last`.
    slot: usize,
}

/// The record of a process, and where it is for messages.
pub(crate) struct Kept {
    pub(crate) record: Record<File>,
    pub(crate) path: PathBuf,
    /// Whether it was made now: nobody knows what came before.
    pub(crate) fresh: bool,
}

fn slot(key: &Key, place: Place) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..12].copy_from_slice(&place.epoch.to_be_bytes());
    bytes[12..20].copy_from_slice(&place.view.to_be_bytes());
    let check = sm3::hash_parts(&[key, &bytes[..20]]);
    bytes[20..].copy_from_slice(&check[..12]);
    bytes
}

fn read_slot(key: &Key, bytes: &[u8]) -> Option<Place> {
    let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let place = Place { epoch: number(4)?, view: number(12)? };
    (slot(key, place)[..] == *bytes).then_some(place)
}

/// The highest slot that is whole, and which it is.
fn read(key: &Key, bytes: &[u8]) -> Option<(Place, usize)> {
    let whole = |(index, at): (usize, u64)| {
        let at = usize::try_from(at).ok()?;
        Some((read_slot(key, bytes.get(at..at + SLOT_BYTES)?)?, index))
    };
    SLOTS.into_iter().enumerate().filter_map(whole).max()
}

impl<M: Medium> Record<M> {
    pub(crate) fn last(&self) -> Place {
        self.last
    }

    /// Makes sure that the record says no less than `place`, before anything of it leaves.
    pub(crate) fn raise(&mut self, place: Place) -> io::Result<()> {
        if place <= self.last {
            return Ok(());
        }
        let other = 1 - self.slot;
        self.medium.write(SLOTS[other], &slot(&self.key, place))?;
        (self.last, self.slot) = (place, other);
        Ok(())
    }
}

impl Kept {
    /// Opens the record of a key in this folder, or makes one; locks it.
    pub(crate) fn open(folder: &Path, key: &Key) -> Result<Kept, Refused> {
        let path = folder.join(format!("{key}.signed"));
        let unusable =
            |error: io::Error| Refused::Record { path: path.clone(), reason: error.to_string() };
        create_dir_all(folder).map_err(unusable)?;
        let fresh = !path.try_exists().map_err(unusable)?;
        if fresh {
            create(folder, &path, key).map_err(unusable)?;
        }
        let file = File::options().read(true).write(true).open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Refused::KeyInUse { path }),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let mut bytes = vec![0; FILE_BYTES];
        let length = file.read_at(&mut bytes, 0).map_err(unusable)?;
        let Some((last, slot)) = read(key, &bytes[..length]) else {
            let reason = "neither slot is whole, or they are another key's".to_owned();
            return Err(Refused::Record { path, reason });
        };
        Ok(Kept { record: Record { medium: file, key: key.clone(), last, slot }, path, fresh })
    }
}

/// Whether a folder has records of other keys, and none of this one.
pub(crate) fn is_new(folder: &Path, key: &Key) -> bool {
    let mut files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let any = files.any(|file| file.path().extension().is_some_and(|ending| ending == "signed"));
    any && !folder.join(format!("{key}.signed")).exists()
}

/// Makes a record that says nothing yet: whole, or not there.
fn create(folder: &Path, path: &Path, key: &Key) -> io::Result<()> {
    let mut bytes = [0; FILE_BYTES];
    for at in SLOTS {
        let at = usize::try_from(at).map_err(io::Error::other)?;
        bytes[at..at + SLOT_BYTES].copy_from_slice(&slot(key, Place::default()));
    }
    let new = path.with_extension("new");
    std::fs::write(&new, bytes)?;
    File::open(&new)?.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

/// Lets votes out once the record covers them.
#[derive(Clone)]
pub(crate) struct Noted<S> {
    inner: S,
    /// None on channels that carry no votes.
    gate: Option<Gate>,
}

#[derive(Clone)]
pub(crate) struct Gate {
    kept: Arc<Mutex<Kept>>,
    status: Arc<Status>,
}

impl Gate {
    pub(crate) fn new(kept: Kept, status: Arc<Status>) -> Self {
        Self { kept: Arc::new(Mutex::new(kept)), status }
    }

    /// Whether this message may leave.
    fn note(&self, message: &IoBufs) -> bool {
        let Ok(vote) = Vote::<Scheme, Digest>::decode(message.clone()) else {
            // The engine sends nothing else on this channel.
            return false;
        };
        let place = Place { epoch: vote.epoch().get(), view: vote.view().get() };
        let mut kept = held(&self.kept);
        match kept.record.raise(place) {
            Ok(()) => true,
            Err(error) => {
                let (path, reason) = (kept.path.clone(), error.to_string());
                self.status.fail(Fatal::Record { path, reason });
                false
            }
        }
    }
}

impl<S> Noted<S> {
    pub(crate) fn new(inner: S, gate: Option<Gate>) -> Self {
        Self { inner, gate }
    }
}

/// A sender that was checked, and the gate before it.
pub(crate) struct Passed<C> {
    inner: C,
    gate: Option<Gate>,
}

impl<S: LimitedSender<PublicKey = Key>> LimitedSender for Noted<S> {
    type PublicKey = Key;
    type Checked<'a> = Passed<S::Checked<'a>>;

    fn check(&mut self, recipients: Recipients<Key>) -> Result<Self::Checked<'_>, SystemTime> {
        let gate = self.gate.clone();
        Ok(Passed { inner: self.inner.check(recipients)?, gate })
    }
}

impl<C: CheckedSender<PublicKey = Key>> CheckedSender for Passed<C> {
    type PublicKey = Key;

    fn recipients(&self) -> Vec<Key> {
        self.inner.recipients()
    }

    fn send(self, message: impl Into<IoBufs> + Send, priority: bool) -> Unreliable<Feedback> {
        let message = message.into();
        if self.gate.is_some_and(|gate| !gate.note(&message)) {
            return Unreliable::new(Feedback::Closed);
        }
        self.inner.send(message, priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_crypto::sm2::SecretKey;

    fn key(seed: u8) -> Key {
        SecretKey::from_bytes(&[seed; 32]).unwrap().public_key().into()
    }

    fn place(epoch: u64, view: u64) -> Place {
        Place { epoch, view }
    }

    #[test]
    fn a_key_is_new_where_another_has_voted_and_it_has_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("signed");
        assert!(!is_new(&folder, &key(1)), "nobody has voted, or it was forgotten who");
        drop(Kept::open(&folder, &key(1)).unwrap());
        assert!(!is_new(&folder, &key(1)) && is_new(&folder, &key(2)));
        drop(Kept::open(&folder, &key(2)).unwrap());
        assert!(!is_new(&folder, &key(2)) && is_new(&folder, &key(3)));
    }

    /// A disk whose next write fails, having done a part of its work or all of it.
    struct Disk {
        bytes: Vec<u8>,
        fails: Option<usize>,
    }

    impl Medium for Disk {
        fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            let done = self.fails.unwrap_or(bytes.len());
            self.bytes[at..at + done].copy_from_slice(&bytes[..done]);
            self.fails.map_or(Ok(()), |_| Err(io::Error::other("no")))
        }
    }

    fn record(last: Place) -> Record<Disk> {
        let mut bytes = vec![0; FILE_BYTES];
        for at in [0, 512] {
            bytes[at..at + SLOT_BYTES].copy_from_slice(&slot(&key(1), last));
        }
        let medium = Disk { bytes, fails: None };
        Record { medium, key: key(1), last, slot: 0 }
    }

    #[test]
    fn it_only_rises_and_says_the_last_after_any_tear() {
        for done in 0..=SLOT_BYTES {
            let mut record = record(place(0, 0));
            record.raise(place(0, 1)).unwrap();
            record.raise(place(0, 7)).unwrap();
            record.raise(place(0, 3)).unwrap();
            assert_eq!(record.last(), place(0, 7));
            // Failed, in part or altogether, or failed and took effect.
            record.medium.fails = Some(done);
            record.raise(place(1, 2)).unwrap_err();
            assert_eq!(record.last(), place(0, 7), "what failed is not counted on");
            let found = read(&key(1), &record.medium.bytes).unwrap().0;
            let took_effect = if done == SLOT_BYTES { place(1, 2) } else { place(0, 7) };
            assert_eq!(found, took_effect, "{done} bytes written");
            // It goes on where the disk does.
            record.medium.fails = None;
            record.raise(place(1, 2)).unwrap();
            assert_eq!(read(&key(1), &record.medium.bytes).unwrap().0, place(1, 2));
        }
    }

    #[test]
    fn it_has_the_documented_bytes_and_any_other_is_no_record() {
        let bytes = slot(&key(1), place(3, 0x0102));
        assert_eq!(bytes[..20], *b"PSg1\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\x01\x02");
        let check = sm3::hash(&[&key(1)[..], &bytes[..20]].concat());
        assert_eq!(bytes[20..], check[..12]);
        assert_eq!(read_slot(&key(1), &bytes), Some(place(3, 0x0102)));
        assert_eq!(read_slot(&key(2), &bytes), None, "another key's");
        for at in 0..SLOT_BYTES {
            let mut bent = bytes;
            bent[at] ^= 1;
            assert_eq!(read_slot(&key(1), &bent), None, "byte {at}");
        }
        for length in 0..SLOT_BYTES {
            assert_eq!(read_slot(&key(1), &bytes[..length]), None);
            assert_eq!(read(&key(1), &bytes[..length]), None);
        }
    }

    #[test]
    fn whatever_is_in_the_file_it_says_a_place_that_was_written_or_nothing() {
        use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
        let mut random = StdRng::seed_from_u64(1);
        let mut whole = record(place(3, 7));
        whole.raise(place(3, 9)).unwrap();
        let written = [place(3, 7), place(3, 9)];
        let (mut none, mut some) = (0, 0);
        for _ in 0..20_000 {
            let mut bytes = whole.medium.bytes.clone();
            for _ in 0..random.random_range(0..4) {
                let at = SLOTS[random.random_range(0..2)] as usize;
                bytes[at + random.random_range(0..SLOT_BYTES)] = random.random();
            }
            bytes.truncate(random.random_range(0..=2 * FILE_BYTES));
            match read(&key(1), &bytes) {
                Some((found, _)) => {
                    assert!(written.contains(&found));
                    some += 1;
                }
                None => none += 1,
            }
            let mut garbage = vec![0; random.random_range(0..=2 * FILE_BYTES)];
            random.fill(&mut garbage[..]);
            assert_eq!(read(&key(1), &garbage), None);
        }
        assert!(none > 0 && some > 0);
    }

    #[test]
    fn a_vote_leaves_only_when_the_record_covers_it() {
        use commonware_codec::Encode as _;
        use commonware_consensus::simplex::types::Nullify;
        use commonware_consensus::types::{Epoch, Round, View};
        let folder = tempfile::tempdir().unwrap();
        let secret = SecretKey::from_bytes(&[1; 32]).unwrap();
        let keys = crate::finalization::sorted(&[secret.public_key()]).unwrap();
        let scheme = Scheme::signer(b"ns", keys, secret).unwrap();
        let vote = |view| {
            let round = Round::new(Epoch::new(2), View::new(view));
            let vote =
                Vote::<Scheme, Digest>::Nullify(Nullify::sign::<Digest>(&scheme, round).unwrap());
            IoBufs::from(vote.encode().to_vec())
        };
        let status = Arc::new(Status::default());
        let kept = Kept::open(folder.path(), &key(1)).unwrap();
        let path = kept.path.clone();
        let gate = Gate::new(kept, status.clone());
        assert!(gate.note(&vote(5)) && gate.note(&vote(4)) && gate.note(&vote(5)));
        assert_eq!(held(&gate.kept).record.last(), place(2, 5));
        let on_disk = read(&key(1), &std::fs::read(&path).unwrap()).unwrap().0;
        assert_eq!(on_disk, place(2, 5));
        assert!(!gate.note(&IoBufs::from(vec![9; 40])), "only votes leave here");
        // A file that may only be read: the write fails, and the vote stays.
        held(&gate.kept).record.medium = File::open(&path).unwrap();
        assert!(!gate.note(&vote(6)));
        assert!(matches!(status.failure(), Some(Fatal::Record { .. })));
        assert!(gate.note(&vote(5)), "what is covered may be said again");
    }

    #[test]
    fn a_file_is_made_kept_locked_and_refused_when_it_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(folder.path(), &key(1)).unwrap();
        assert!(kept.fresh && kept.record.last() == Place::default());
        kept.record.raise(place(2, 9)).unwrap();
        let error = Kept::open(folder.path(), &key(1)).err().unwrap();
        assert!(matches!(error, Refused::KeyInUse { .. }), "{error}");
        assert!(Kept::open(folder.path(), &key(2)).unwrap().fresh, "another key has its own");
        let path = kept.path.clone();
        drop(kept);
        let kept = Kept::open(folder.path(), &key(1)).unwrap();
        assert!(!kept.fresh && kept.record.last() == place(2, 9));
        drop(kept);
        std::fs::write(&path, [0; FILE_BYTES]).unwrap();
        let error = Kept::open(folder.path(), &key(1)).err().unwrap();
        assert!(matches!(error, Refused::Record { .. }), "{error}");
    }
}
