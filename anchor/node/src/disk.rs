//! What is done to a disk where the order of it matters, as few operations.
//!
//! Whoever keeps files that must survive a power cut at any moment does it through this, so that a
//! test can note what was done and try what a power cut leaves after each step.
//!
//! Invariants
//! - A file that was replaced is the old one or the new one, whole, whenever the power fails.

use std::fs::File;
use std::io::Result;
use std::path::Path;

/// A disk. What is written is durable after `sync` of the file, and a name, new, changed or gone,
/// after `sync` of its folder.
pub trait Disk: std::fmt::Debug + Send + Sync {
    /// Makes a folder and those above it, where they are missing.
    fn create_folder(&self, path: &Path) -> Result<()>;
    /// Writes a file, which is made or emptied before.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()>;
    /// Makes the bytes of a file, or the names in a folder, durable.
    fn sync(&self, path: &Path) -> Result<()>;
    /// Gives a file another name in its folder, in place of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Deletes a folder that is empty.
    fn remove_folder(&self, path: &Path) -> Result<()>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Disk for Plain {
    fn create_folder(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        std::fs::write(path, bytes)
    }

    fn sync(&self, path: &Path) -> Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        std::fs::remove_dir(path)
    }
}

/// Gives a file new bytes, durable all but its name.
pub fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    disk.write(&fresh, bytes)?;
    disk.sync(&fresh)?;
    disk.rename(&fresh, path)
}

/// The same, durable with its name.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    put(disk, path, bytes)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    disk.sync(folder.unwrap_or(Path::new(".")))
}
