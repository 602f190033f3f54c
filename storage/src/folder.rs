//! The data folder itself: whose it is, and who may write.
//!
//! `FORMAT` is written last when a folder is created, so a folder with it is complete; `CREATING`
//! marks one whose creation was cut short, which is then done again. Without either, a folder that
//! is not empty belongs to somebody else and is refused. `RESTORING` marks one that is being built
//! from a snapshot; only another restore takes it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::effects::Digest;
use crate::error::{During, Result, StoreError};
use crate::files::{create_folder, delete, sync_folder, write_durably};

/// Text before the version in `FORMAT`.
const FIRST_LINE: &str = "piaogen-store 2";

/// Present while a folder is built from a snapshot.
const RESTORING: &str = "RESTORING";
/// What a store keeps in its folder, the folders of shards aside.
const OWN: [&str; 7] =
    ["FORMAT.new", "CREATING", "status.undo", "blocks", "history", "index", "incoming"];

/// Whose data a folder holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) chain: Digest,
    pub(crate) partitions: u32,
}

/// The right to write, held while this value lives.
pub(crate) struct Lock(#[allow(dead_code, reason = "held for its lock")] File);

/// Takes a folder for writing. Says whether it has yet to be created: then the caller creates what
/// belongs in it and calls [`created`].
pub(crate) fn claim(dir: &Path, owner: Owner) -> Result<(Lock, bool)> {
    create_folder(dir)?;
    let found = read_format(dir)?;
    if found.is_none() && dir.join(RESTORING).exists() {
        return Err(StoreError::Refused(format!(
            "a restore into {} was cut short: run `piaogen snapshot restore` again, or delete the \
             folder",
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

/// Takes a folder in order to build it from a snapshot: what an earlier restore left half done is
/// deleted, what others keep beside it (votes, stream, archive) stays.
pub(crate) fn claim_restore(dir: &Path) -> Result<Lock> {
    create_folder(dir)?;
    let (begun, mut own) = (dir.join(RESTORING).exists(), Vec::new());
    for entry in std::fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        let name = entry.file_name();
        let ours = |name: &str| OWN.contains(&name) || name.starts_with("shard-");
        own.extend(name.to_str().filter(|name| ours(name)).map(|_| entry.path()));
    }
    if read_format(dir)?.is_some() || (!begun && !own.is_empty()) {
        return Err(StoreError::Refused(format!(
            "{} holds data already: a snapshot is restored into a new folder; move this one away",
            dir.display()
        )));
    }
    let lock = lock(dir)?;
    write_durably(&dir.join(RESTORING), b"")?;
    sync_folder(dir)?;
    for path in own {
        let gone = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        gone.at("delete", &path)?;
    }
    Ok(lock)
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

fn lock(dir: &Path) -> Result<Lock> {
    let path = dir.join("LOCK");
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.at("open", &path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            return Err(StoreError::Refused(format!(
                "{} is in use by process {}: stop it, or read beside it",
                dir.display(),
                holder.trim()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(error).at("lock", &path),
    }
    // The number is for the message above only; the lock is the kernel's.
    file.set_len(0).at("write", &path)?;
    writeln!(file, "{}", std::process::id()).at("write", &path)?;
    Ok(Lock(file))
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

    fn message(result: Result<(Lock, bool)>) -> String {
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
        std::fs::create_dir(at("order")).unwrap();
        drop(claim_restore(dir.path()).unwrap());
        std::fs::create_dir(at("blocks")).unwrap();
        std::fs::create_dir(at("shard-0001")).unwrap();
        // A node does not take it; another restore does, and begins anew.
        assert!(message(claim(dir.path(), OWNER)).contains("piaogen snapshot restore"));
        let lock = claim_restore(dir.path()).unwrap();
        assert!(!at("blocks").exists() && !at("shard-0001").exists() && at("order").exists());
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
}
