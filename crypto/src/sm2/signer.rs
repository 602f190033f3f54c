//! Says what it takes to sign, so that whoever signs need not hold a secret number.
//!
//! A secret key may lie in a file, in a variable, or in a device that never gives it out. All that
//! a protocol needs of it is the public half and signatures; [`Signer`] is that. [`SecretKey`] is a
//! signer that cannot fail; a device is another, outside of this crate, and can.
//!
//! Invariants
//! - What [`Signer::try_sign`] returns verifies under [`Signer::public_key`]; whoever implements it
//!   on something that is not his own checks that before he returns it.

use super::{PublicKey, SecretKey, Signature};
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

/// Why there is no signature: a device is away, or refuses. Holds nothing secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no signature: {reason}")]
pub struct SignError {
    /// What the device said, and what to do.
    pub reason: String,
}

/// Signs with one key, wherever that is.
///
/// The same message may get another signature each time: a device chooses its nonces itself.
pub trait Signer: Send + Sync + fmt::Debug {
    /// The public half.
    fn public_key(&self) -> PublicKey;

    /// Signs `message` (the message itself) under [`super::DEFAULT_ID`].
    ///
    /// # Errors
    /// [`SignError`] where the key is out of reach.
    fn try_sign(&self, message: &[u8]) -> Result<Signature, SignError>;

    /// The key itself where it lies in memory, for lanes that make many signatures at once.
    fn in_memory(&self) -> Option<&SecretKey> {
        None
    }
}

impl Signer for SecretKey {
    fn public_key(&self) -> PublicKey {
        self.public().clone()
    }

    fn try_sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        Ok(self.sign(message))
    }

    fn in_memory(&self) -> Option<&SecretKey> {
        Some(self)
    }
}

impl From<&SecretKey> for Arc<dyn Signer> {
    fn from(key: &SecretKey) -> Self {
        Arc::new(key.clone())
    }
}
