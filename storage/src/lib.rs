//! Keep what was agreed: flat files, RocksDB, Parquet.
//!
//! The stream is the write-ahead log and execution is deterministic, so the store is durable at
//! *flush points* only, and a crash goes back to the last one: see [`Store`]. What lies on disk,
//! and why recovery is right, is in `LAYOUT.md` beside this crate. The store hashes nothing; what
//! the bytes mean is the business of those who hand them over.
//!
//! | file | topic |
//! |---|---|
//! | `store.rs`, `store/flush.rs` | the store: apply, flush, recover |
//! | `shard.rs` | one shard of it; `levels.rs`, `tiles.rs`, `undo.rs`, `tail.rs` are its files |
//! | `status.rs` | look-ups in the status tree; `past.rs` has what it was a few blocks ago |
//! | `hot.rs` | hashes of record logs that stay in memory |
//! | `index.rs` | RocksDB |
//! | `waits.rs` | deadlines whose parties are to be told |
//! | `blocks.rs` | blocks, certificates, proposed bodies |
//! | `view.rs` | what can be read; `reader.rs` opens it beside the node |
//! | `snapshot.rs` | the state of a height in parts, and a folder built from it |
//! | `archive.rs` | the archive in Parquet, and its audit |
//!
//! **Invariant**: after a crash at any moment, opening finds exactly the state of one height, and
//! every block that `append_block` returned for.

#[cfg(test)]
extern crate self as piaogen_storage;

pub mod archive;
mod blocks;
mod config;
mod effects;
mod error;
mod files;
mod folder;
mod frame;
mod held;
mod hot;
mod index;
mod levels;
mod overlay;
mod past;
mod reader;
mod shard;
pub mod snapshot;
mod status;
mod store;
mod tail;
mod tiles;
mod undo;
mod view;
mod waits;

pub use blocks::{BLOCK_BYTES, Block, HEADER_BYTES, PENDING_BLOCKS};
pub use config::StoreConfig;
pub use effects::{
    DOCUMENT_BYTES, Digest, FlushPoint, IdPlace, Row, RowChunk, RowRef, STATUS_DEPTH, ShardEffects,
    ShardState,
};
pub use error::{Result, StoreError};
pub use held::Held;
pub use index::Documents;
pub use reader::StoreReader;
pub use shard::{SUBJECT_BYTES, StatusPath};
pub use store::{Recovered, Sizes, Store};
pub use tail::Rows;
pub use view::View;
pub use waits::Wait;
