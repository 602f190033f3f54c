//! What can go wrong, by what the caller should do about it.
//!
//! Three classes, as everywhere: `Refused` (the request is wrong), `Busy` (a limit was reached, try
//! again), `Fatal` (nobody knows any more what is on disk: stop, and let recovery find out). A
//! failed write is always fatal; the store then refuses to write again.

use std::error::Error;
use std::path::Path;

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A failure of the store; the variant is its class.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The request cannot be met, now or later; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// A limit was reached; nothing was changed, and the same call may succeed later.
    #[error("{0}")]
    Busy(String),
    /// The state on disk is unknown or damaged: stop the process; opening again recovers.
    #[error("{what}")]
    Fatal {
        /// What was being done, to what, and what to do next.
        what: String,
        /// The failure below, if there is one.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl StoreError {
    /// A fatal error with no failure below it: damage that was found.
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Fatal { what: what.into(), source: None }
    }

    /// Whether the process has to stop.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal { .. })
    }
}

/// Says what was being done when something below failed.
pub(crate) trait During<T> {
    /// Makes the failure fatal, described by `what`.
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;

    /// The same, for an action on a path.
    fn at(self, action: &str, path: &Path) -> Result<T>;
}

impl<T, E: Error + Send + Sync + 'static> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| StoreError::Fatal {
            what: format!("{}: {error}", what()),
            source: Some(Box::new(error)),
        })
    }

    fn at(self, action: &str, path: &Path) -> Result<T> {
        self.during(|| format!("cannot {action} {}", path.display()))
    }
}
