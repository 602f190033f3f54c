//! The data folder itself: whose it is, and who may write.
//!
//! `FORMAT` is written last when a folder is created, so a folder with it is complete; `CREATING`
//! marks one whose creation was cut short, which is then done again. Without either, a folder that
//! is not empty belongs to somebody else and is refused. `RESTORING` marks one that is being built
//! from a snapshot; only another restore takes it. One that a snapshot replaces keeps what it has
//! until the new one is whole, in a folder inside it.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::effects::Digest;
use crate::error::{During, Result, StoreError};
use crate::files::{create_folder, delete, sync_folder, write_durably};
use crate::held::Held;

/// Text before the version in `FORMAT`.
const FIRST_LINE: &str = "piaogen-store 2";

/// Present while a folder is built from a snapshot.
const RESTORING: &str = "RESTORING";
/// What a store keeps in its folder, the folders of shards aside.
const OWN: [&str; 8] = [
    "FORMAT.new",
    "CREATING",
    "status.undo",
    "blocks",
    "history",
    "index",
    "incoming",
    REPLACEMENT,
];
/// Where the folder is built that replaces the one around it.
const REPLACEMENT: &str = "replacement";

/// Whose data a folder holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) chain: Digest,
    pub(crate) partitions: u32,
}

/// Takes a folder for writing. Says whether it has yet to be created: then the caller creates what
/// belongs in it and calls [`created`].
pub(crate) fn claim(dir: &Path, owner: Owner) -> Result<(Held, bool)> {
    create_folder(dir)?;
    let found = read_format(dir)?;
    if found.is_none() && dir.join(RESTORING).exists() {
        return Err(StoreError::Refused(format!(
            "a restore into {} was cut short: run `piaogen snapshot restore` again",
            dir.display()
        )));
    }
    let foreign = found.is_none() && !dir.join("CREATING").exists() && !is_empty(dir)?;
    if foreign {
        return Err(StoreError::Refused(format!(
            "{} is not empty and has no FORMAT file, so it is not a data folder of piaogen: \
             name an empty folder",
            dir.display()
        )));
    }
    let lock = lock(dir)?;
    match found {
        Some(found) => check(dir, found, owner).map(|()| (lock, false)),
        None => {
            write_durably(&dir.join("CREATING"), b"")?;
            sync_folder(dir)?;
            let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
            sync_folder(above.unwrap_or(Path::new(".")))?;
            Ok((lock, true))
        }
    }
}

/// What a store keeps in its folder, whole or half done.
fn own(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut own = Vec::new();
    for entry in std::fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        let name = entry.file_name();
        let ours = |name: &str| OWN.contains(&name) || name.starts_with("shard-");
        own.extend(name.to_str().filter(|name| ours(name)).map(|_| entry.path()));
    }
    Ok(own)
}

fn delete_all(path: &Path) -> Result<()> {
    let gone = match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    gone.at("delete", path)
}

/// Takes a folder in order to build it from a snapshot: what an earlier restore left half done is
/// deleted, what others keep beside it (votes, stream, archive) stays.
pub(crate) fn claim_restore(dir: &Path) -> Result<Held> {
    create_folder(dir)?;
    let (begun, own) = (dir.join(RESTORING).exists(), own(dir)?);
    if read_format(dir)?.is_some() || (!begun && !own.is_empty()) {
        return Err(StoreError::Refused(format!(
            "{} holds data already: a snapshot is restored into a new folder, or with --replace in \
             the place of what is there",
            dir.display()
        )));
    }
    let lock = lock(dir)?;
    write_durably(&dir.join(RESTORING), b"")?;
    sync_folder(dir)?;
    own.iter().try_for_each(|path| delete_all(path))?;
    Ok(lock)
}

/// Takes a folder that holds data in order to build another inside it, and where that goes; nothing
/// where the folder holds none.
pub(crate) fn claim_replaced(dir: &Path, owner: Owner) -> Result<Option<(Held, PathBuf)>> {
    let Some(found) = read_format(dir)? else { return Ok(None) };
    check(dir, found, owner)?;
    let (lock, inner) = (lock(dir)?, dir.join(REPLACEMENT));
    if inner.exists() {
        delete_all(&inner)?;
    }
    Ok(Some((lock, inner)))
}

/// Puts the whole folder that was built inside another into its place. A crash on the way leaves one
/// that only another restore takes.
pub(crate) fn replace(dir: &Path, owner: Owner) -> Result<()> {
    let inner = dir.join(REPLACEMENT);
    write_durably(&dir.join(RESTORING), b"")?;
    sync_folder(dir)?;
    delete(&dir.join("FORMAT"))?;
    sync_folder(dir)?;
    let old = own(dir)?;
    old.iter().filter(|path| **path != inner).try_for_each(|path| delete_all(path))?;
    for entry in std::fs::read_dir(&inner).at("list", &inner)? {
        let entry = entry.at("list", &inner)?;
        let name = entry.file_name();
        if name != "LOCK" && name != "FORMAT" {
            let to = dir.join(name);
            std::fs::rename(entry.path(), &to).at("rename to", &to)?;
        }
    }
    delete_all(&inner)?;
    created(dir, owner)
}

/// Declares a folder complete.
pub(crate) fn created(dir: &Path, owner: Owner) -> Result<()> {
    let (new, format) = (dir.join("FORMAT.new"), dir.join("FORMAT"));
    write_durably(&new, format_text(owner).as_bytes())?;
    std::fs::rename(&new, &format).at("rename to", &format)?;
    sync_folder(dir)?;
    delete(&dir.join(RESTORING))?;
    delete(&dir.join("CREATING"))
}

/// Whose folder it is, for those who only read.
pub(crate) fn owner(dir: &Path) -> Result<Owner> {
    read_format(dir)?.ok_or_else(|| {
        StoreError::Refused(format!(
            "{} has no FORMAT file, so it is not a data folder of piaogen: \
             name the folder that the node was started with",
            dir.display()
        ))
    })
}

fn check(dir: &Path, found: Owner, asked: Owner) -> Result<()> {
    if found.chain != asked.chain {
        return Err(StoreError::Refused(format!(
            "{} holds chain {}, not {}: use the genesis file it was created with, \
             or another folder",
            dir.display(),
            hex(&found.chain),
            hex(&asked.chain)
        )));
    }
    if found.partitions != asked.partitions {
        return Err(StoreError::Refused(format!(
            "{} has {} partitions, {} were asked for: the number cannot change within a chain",
            dir.display(),
            found.partitions,
            asked.partitions
        )));
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<Held> {
    let path = dir.join("LOCK");
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = opened.at("open", &path)?;
    let Some(mut held) = Held::take(file).at("lock", &path)? else {
        let holder = std::fs::read_to_string(&path).unwrap_or_default();
        return Err(StoreError::Refused(format!(
            "{} is in use by process {}: stop it, or read beside it",
            dir.display(),
            holder.trim()
        )));
    };
    // The number is for the message above only; the lock is the kernel's.
    held.file().set_len(0).at("write", &path)?;
    writeln!(held.file(), "{}", std::process::id()).at("write", &path)?;
    Ok(held)
}

fn is_empty(dir: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(dir).at("list", dir)? {
        // Somebody may have come just as far as the lock; and mkfs leaves its own folder.
        let name = entry.at("list", dir)?.file_name();
        if name != "LOCK" && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn format_text(owner: Owner) -> String {
    format!("{FIRST_LINE}\nchain {}\npartitions {}\n", hex(&owner.chain), owner.partitions)
}

fn read_format(dir: &Path) -> Result<Option<Owner>> {
    let path = dir.join("FORMAT");
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.at("read", &path)?,
    };
    match parse(&text) {
        Some(owner) => Ok(Some(owner)),
        None => Err(StoreError::Refused(format!(
            "{} does not begin with '{FIRST_LINE}', a chain and a number of partitions: \
             this version reads layout 2 only",
            path.display()
        ))),
    }
}

fn parse(text: &str) -> Option<Owner> {
    let rest = text.strip_prefix(FIRST_LINE)?.strip_prefix("\nchain ")?;
    let (chain, rest) = rest.split_once('\n')?;
    let partitions = rest.strip_prefix("partitions ")?.strip_suffix('\n')?.parse().ok()?;
    let mut digest = [0; 32];
    if chain.len() != 64 || !chain.is_ascii() {
        return None;
    }
    for (i, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&chain[2 * i..2 * i + 2], 16).ok()?;
    }
    let owner = Owner { chain: digest, partitions };
    (format_text(owner) == text).then_some(owner)
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { chain: [0xab; 32], partitions: 8 };

    fn message(result: Result<(Held, bool)>) -> String {
        match result {
            Err(StoreError::Refused(text)) => text,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("not refused"),
        }
    }

    #[test]
    fn a_folder_is_created_once_and_then_belongs_to_its_chain() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, new) = claim(dir.path(), OWNER).unwrap();
        assert!(new);
        assert!(message(claim(dir.path(), OWNER)).contains("in use by process"));
        drop(lock);
        // Cut short before `created`: it is done again.
        assert!(claim(dir.path(), OWNER).unwrap().1);
        created(dir.path(), OWNER).unwrap();
        assert!(!claim(dir.path(), OWNER).unwrap().1);
        let other = Owner { chain: [1; 32], ..OWNER };
        assert!(message(claim(dir.path(), other)).contains("holds chain abab"));
        let other = Owner { partitions: 9, ..OWNER };
        assert!(message(claim(dir.path(), other)).contains("has 8 partitions, 9"));
        assert_eq!(owner(dir.path()).unwrap(), OWNER);
        std::fs::write(dir.path().join("FORMAT"), "piaogen-store 1\n").unwrap();
        assert!(message(claim(dir.path(), OWNER)).contains("layout 2 only"));
    }

    #[test]
    fn a_foreign_folder_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.doc"), "x").unwrap();
        assert!(message(claim(dir.path(), OWNER)).contains("not empty"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(matches!(owner(dir.path()), Err(StoreError::Refused(_))));
    }

    #[test]
    fn a_restore_takes_a_new_folder_or_one_that_was_cut_short_and_leaves_the_rest_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["order", "evidence"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        drop(claim_restore(dir.path()).unwrap());
        std::fs::create_dir(at("blocks")).unwrap();
        std::fs::create_dir(at("shard-0001")).unwrap();
        // A node does not take it; another restore does, and begins anew.
        assert!(message(claim(dir.path(), OWNER)).contains("piaogen snapshot restore"));
        let lock = claim_restore(dir.path()).unwrap();
        assert!(!at("blocks").exists() && !at("shard-0001").exists());
        assert!(at("order").exists() && at("evidence").exists());
        let second = claim_restore(dir.path()).map(|lock| (lock, true));
        assert!(message(second).contains("in use by process"));
        created(dir.path(), OWNER).unwrap();
        drop(lock);
        assert!(!at(RESTORING).exists() && !claim(dir.path(), OWNER).unwrap().1);
        let again = claim_restore(dir.path()).map(|lock| (lock, true));
        assert!(message(again).contains("holds data already"));
        // Nor does it take what somebody else made.
        let other = tempfile::tempdir().unwrap();
        std::fs::create_dir(other.path().join("index")).unwrap();
        let foreign = claim_restore(other.path()).map(|lock| (lock, true));
        assert!(message(foreign).contains("holds data already"));
        assert!(other.path().join("index").exists());
    }
    /// A folder of this chain with votes, and a whole one inside it.
    fn replaced(dir: &Path) -> (Held, PathBuf) {
        for name in ["order", "evidence", "blocks", "shard-0000"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        std::fs::write(dir.join("order/vote"), "old").unwrap();
        std::fs::write(dir.join("blocks/old"), "").unwrap();
        created(dir, OWNER).unwrap();
        let (lock, inner) = claim_replaced(dir, OWNER).unwrap().unwrap();
        drop(claim_restore(&inner).unwrap());
        std::fs::create_dir(inner.join("blocks")).unwrap();
        std::fs::write(inner.join("blocks/new"), "").unwrap();
        std::fs::write(inner.join("restored"), "7").unwrap();
        created(&inner, OWNER).unwrap();
        (lock, inner)
    }

    #[test]
    fn a_folder_is_replaced_whole_and_votes_stay() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(claim_replaced(dir.path(), OWNER).unwrap().is_none(), "nothing to replace");
        let (lock, inner) = replaced(dir.path());
        let other = Owner { chain: [1; 32], ..OWNER };
        assert!(claim_replaced(dir.path(), other).is_err());
        let second = claim_replaced(dir.path(), OWNER).map(|_| panic!("taken twice"));
        assert!(message(second).contains("in use by process"));
        // Until it is put into its place, the folder is what it was.
        assert!(at("blocks/old").exists() && owner(dir.path()).is_ok());
        replace(dir.path(), OWNER).unwrap();
        drop(lock);
        assert!(at("blocks/new").exists() && !at("blocks/old").exists() && !inner.exists());
        assert!(!at("shard-0000").exists() && at("restored").exists());
        assert!(at("order/vote").exists() && at("evidence").exists());
        assert!(!claim(dir.path(), OWNER).unwrap().1 && !at(RESTORING).exists());
    }

    #[test]
    fn cut_short_while_it_is_put_into_its_place_only_a_restore_takes_it() {
        // Killed before a rename, and behind one: what is there is deleted and built anew.
        for renamed in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (lock, inner) = replaced(dir.path());
            std::fs::write(dir.path().join(RESTORING), "").unwrap();
            std::fs::remove_file(dir.path().join("FORMAT")).unwrap();
            if renamed {
                std::fs::remove_dir_all(dir.path().join("blocks")).unwrap();
                std::fs::rename(inner.join("blocks"), dir.path().join("blocks")).unwrap();
            }
            drop(lock);
            assert!(message(claim(dir.path(), OWNER)).contains("piaogen snapshot restore"));
            assert!(claim_replaced(dir.path(), OWNER).unwrap().is_none());
            drop(claim_restore(dir.path()).unwrap());
            assert!(!inner.exists() && !dir.path().join("blocks").exists());
            assert!(dir.path().join("order/vote").exists());
        }
    }
}
