//! A file by whose lock one process at a time has what lies beside it.
//!
//! The lock is the kernel's (`flock`), so it ends with the process, however that ends. It is let go
//! of explicitly too: a process that another thread is just starting still has all open files, and
//! would hold it a moment longer.

use std::fs::{File, TryLockError};
use std::io::Result;

/// A locked file; unlocked when this is dropped.
#[derive(Debug)]
pub struct Held(File);

impl Held {
    /// Locks the file, or gives nothing where somebody else has it locked.
    ///
    /// # Errors
    ///
    /// What the operating system says, where its file system cannot lock.
    pub fn take(file: File) -> Result<Option<Held>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Held(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The file.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Where that fails, the lock ends with the last who has the file open.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_free_again_though_a_copy_of_the_open_file_lives_on() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::create(dir.path().join("LOCK")).unwrap();
        let mut held = Held::take(open()).unwrap().unwrap();
        let copy = held.file().try_clone().unwrap();
        assert!(Held::take(open()).unwrap().is_none());
        drop(held);
        assert!(Held::take(open()).unwrap().is_some());
        drop(copy);
    }
}
