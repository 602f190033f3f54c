#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod alert;
pub mod certificate;
pub mod check;
pub mod checked;
pub mod checkpoint;
pub mod conflict;
pub mod consistency;
pub mod document;
pub mod encoding;
pub mod entry;
pub mod epoch;
pub mod event;
pub mod evidence;
pub mod fields;
pub mod fingerprint;
pub mod follow;
pub mod genesis;
pub mod header;
pub mod json;
pub mod merkle;
pub mod opening;
pub mod policy;
pub mod receipt;
pub mod record;
pub mod refusal;
pub mod scheme;
pub mod status;
pub mod tiles;
pub mod trust_root;
pub mod value;
pub mod witness;

pub use piaogen_crypto::Digest;
pub use refusal::{Refusal, Step};
