#![doc = include_str!("../PROTOCOL.md")]
#![forbid(unsafe_code)]

pub mod alert;
pub mod block;
pub mod body;
mod events;
pub mod log;
pub mod registry;
pub mod shard;
pub mod tree;

pub use alert::{Alert, AlertKind};
pub use shard::{Context, Effects, Index, Place, Shard, Wait};
