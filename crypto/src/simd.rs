//! The vector instructions of processors, behind types that show that they may be used.
//!
//! All of the crate's `unsafe` is here. A vector is made from a token of [`crate::cpu`], or from
//! another vector; so whoever holds one runs on a processor that has its instructions. The code
//! that uses vectors is generic, always inlined, and ends up in functions compiled for the
//! instruction set: the entry points below.

pub(crate) mod limbs;
#[cfg(target_arch = "x86_64")]
pub(crate) mod words;
