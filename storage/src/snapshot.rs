//! Snapshots: what a node needs to go on behind a flush point, in parts of bounded size
//! (`LAYOUT.md` section 11).
//!
//! Here are the bytes: the manifest, the parts, and the building of a data folder from what they
//! hold. Whether it is true is the business of those who hand it over, as with everything in this
//! crate; here each part is the one that the manifest names, and every length is bounded.
//!
//! | file | topic |
//! |---|---|
//! | `snapshot/manifest.rs` | what a snapshot holds, and that its parts cover it |
//! | `snapshot/part.rs` | one part: writing, checking, reading |
//! | `snapshot/build.rs` | a data folder from a snapshot |
//! | `snapshot/replace.rs` | a data folder in the place of another |
//!
//! Invariants
//! - A folder is a snapshot if and only if it has a manifest, which is written last.
//! - A part is read only after its length and digest were found to be those of the manifest.

mod build;
mod manifest;
mod part;
mod replace;

pub use build::Builder;
pub use manifest::{FORMAT, MANIFEST, MANIFEST_BYTES, Manifest, PartInfo, PartKind, ShardInfo};
pub use part::{PART_BYTES, PART_FILE_BYTES, Part, PartWriter, check, read};
pub use replace::Replacement;
