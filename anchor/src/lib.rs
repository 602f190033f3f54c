#![doc = include_str!("../PROTOCOL.md")]
#![forbid(unsafe_code)]

pub mod block;
pub mod log;
pub mod registry;
pub mod shard;

pub use shard::{Context, Effects, Index, Place, Shard};
