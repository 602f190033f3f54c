#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod document;
pub mod encoding;
pub mod entry;
pub mod fields;
pub mod genesis;
pub mod header;
pub mod merkle;
pub mod record;
pub mod scheme;
pub mod status;
pub mod value;

pub use piaogen_crypto::Digest;
