//! Hashes with SM3 and signs and verifies with SM2, one message or many lanes.
//!
//! Everything here is a pure function of its arguments: no clock, thread, socket, file or
//! randomness, `no_std` with `alloc`, so that a bank can embed it. Single-message functions live in
//! [`sm3`] and [`sm2`]; whoever has many goes through a [`Lanes`] value, which is chosen once at
//! start and hides which backend does the work.
//!
//! ```
//! use piaogen_crypto::{Lanes, sm2, sm3};
//!
//! # fn main() -> Result<(), sm2::KeyError> {
//! let key = sm2::SecretKey::from_bytes(&[7; 32])?;
//! let signature = key.sign(b"message digest");
//! assert!(sm2::verify(&key.public_key(), b"message digest", &signature));
//!
//! let mut digests = [[0; 32]; 2];
//! Lanes::detect().sm3_many(&[b"abc", b"abd"], &mut digests);
//! assert_eq!(digests[0], sm3::hash(b"abc"));
//! # Ok(())
//! # }
//! ```
//!
//! Invariants
//! - The portable backend is the definition; any other backend must equal it on every input.
//! - A batch gives one verdict for each job, whatever its neighbours are.
//! - Verification is total: no bytes make it panic, and anything irregular is `false`.
//! - A [`sm2::PublicKey`] is a point on the curve other than infinity, a [`sm2::SecretKey`] lies in
//!   1..=n-2; neither can be constructed otherwise.
//! - Signatures are deterministic: the same key, message and entropy give the same bytes.
//!
//! Timing. Portable signing is as constant-time as the field, scalar and point arithmetic of
//! the `sm2` crate: it branches on neither key nor nonce, rejected candidates for a nonce aside
//! (chance 2^-32 each). That is a property of the source; no compiler's output has been audited.
//! SM3 and HMAC have no secret-dependent branch or index. Verification, and decoding of public
//! keys, take whatever time the public input takes. Secrets are overwritten when dropped, the
//! copies that the compiler leaves in registers and on the stack excepted. How the lanes work, and
//! what their timing tells, is in the module `design` of the built documentation, `DESIGN.md`.

#![no_std]

extern crate alloc;

#[cfg(doc)]
#[doc = include_str!("../DESIGN.md")]
pub mod design {}

#[cfg(feature = "certificate")]
pub mod certificate;
mod cpu;
mod lanes;
mod simd;
pub mod sm2;
pub mod sm3;

pub use lanes::Lanes;
pub use zeroize::Zeroizing;

/// An SM3 digest.
pub type Digest = [u8; 32];
