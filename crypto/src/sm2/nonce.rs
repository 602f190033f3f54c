//! Derives nonces from the key and the digest, so that signing needs no source of randomness.
//!
//! The HMAC-DRBG of RFC 6979 section 3.2 with SM3 in place of SHA-2. A nonce that repeats for two
//! messages, or is guessed in part, gives the key away; this way it depends on both key and
//! message.

use super::scalar_in_range;
use crate::{Digest, sm3};
use ::sm2::Scalar;
use zeroize::{Zeroize, Zeroizing};

/// An endless supply of nonces for one signature; nearly always only the first is used.
pub(super) struct Nonces {
    k: Digest,
    v: Digest,
}

impl Nonces {
    /// `e` is the digest reduced modulo n.
    pub(super) fn new(secret: &[u8; 32], e: &[u8; 32], entropy: &[u8]) -> Self {
        let mut nonces = Self { k: [0; 32], v: [1; 32] };
        for step in [0, 1] {
            nonces.k = sm3::hmac_parts(&nonces.k, &[&nonces.v, &[step], secret, e, entropy]);
            nonces.v = sm3::hmac(&nonces.k, &nonces.v);
        }
        nonces
    }

    /// The next nonce, in 1..=n-1.
    pub(super) fn next(&mut self) -> Zeroizing<Scalar> {
        loop {
            self.v = sm3::hmac(&self.k, &self.v);
            let candidate = scalar_in_range(&self.v);
            self.k = sm3::hmac_parts(&self.k, &[&self.v, &[0]]);
            self.v = sm3::hmac(&self.k, &self.v);
            if let Some(nonce) = candidate {
                return Zeroizing::new(nonce);
            }
        }
    }
}

impl Drop for Nonces {
    fn drop(&mut self) {
        self.k.zeroize();
        self.v.zeroize();
    }
}
