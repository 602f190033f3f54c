//! Takes finalizations apart, checks and prints them.
//!
//! A finalization is what the engine hands out when a block is final: the proposal and the
//! certificate over it, in the engine's own encoding (the bytes are in the crate's documentation).
//! Receipts carry these bytes unchanged.

use crate::digest::Digest;
use crate::error::Refused;
use crate::key::Key;
use crate::scheme::{Scheme, VALIDATORS_MAX};
use commonware_codec::{Decode, Encode};
use commonware_consensus::simplex::types::Proposal;
use commonware_consensus::types::{Epoch, Round, View};
use commonware_consensus::{Epochable, Viewable};
use commonware_parallel::Sequential;
use commonware_utils::ordered::Set;
use commonware_utils::{TryCollect as _, union, union_unique};
use piaogen_crypto::sm2::PublicKey;
use std::fmt;

/// The engine's finalization, over SM2 and SM3.
pub(crate) type Finalization = commonware_consensus::simplex::types::Finalization<Scheme, Digest>;

/// Longest finalization that is read: the largest set, everybody signed. Epoch and views have up
/// to 10 bytes each, the number of signatures has up to 5.
pub const FINALIZATION_BYTES_MAX: usize =
    30 + 32 + 8 + (VALIDATORS_MAX as usize).div_ceil(8) + 5 + 64 * VALIDATORS_MAX as usize;

/// A finalization, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finalized {
    /// Epoch of the validator set.
    pub epoch: u64,
    /// View in which the block became final.
    pub view: u64,
    /// View of the block that it stands on; 0 is genesis.
    pub parent_view: u64,
    /// Digest of the block.
    pub block: piaogen_crypto::Digest,
    /// How many validators the certificate speaks of.
    pub validators: u32,
    /// Index and signature of each who signed, by index.
    pub signatures: Vec<(u32, [u8; 64])>,
}

impl Finalized {
    /// Reads a finalization; it may still be signed by nobody who counts.
    ///
    /// # Errors
    /// `Malformed` when the bytes are not exactly one finalization.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        Ok(Self::from(&decode(bytes)?))
    }

    /// Reads a finalization and checks it against a validator set, given in any order.
    ///
    /// # Errors
    /// `Malformed`, `Epoch` or `NotSigned`; `Validators` or `DuplicateValidator` for the set.
    pub fn check(
        bytes: &[u8],
        namespace: &[u8],
        epoch: u64,
        validators: &[PublicKey],
    ) -> Result<Self, Refused> {
        let scheme = Scheme::verifier(namespace, sorted(validators)?);
        let finalization = decode(bytes)?;
        verify(&finalization, epoch, &scheme)?;
        Ok(Self::from(&finalization))
    }

    /// The bytes that each of the signatures signs.
    pub fn signed_bytes(&self, namespace: &[u8]) -> Vec<u8> {
        let round = Round::new(Epoch::new(self.epoch), View::new(self.view));
        let proposal = Proposal::new(round, View::new(self.parent_view), Digest(self.block));
        union_unique(&union(namespace, b"_FINALIZE"), &proposal.encode())
    }
}

impl From<&Finalization> for Finalized {
    fn from(finalization: &Finalization) -> Self {
        let certificate = &finalization.certificate;
        let signatures = certificate.signers.iter().zip(&certificate.signatures);
        Self {
            epoch: finalization.epoch().get(),
            view: finalization.view().get(),
            parent_view: finalization.proposal.parent.get(),
            block: finalization.proposal.payload.0,
            validators: u32::try_from(certificate.signers.len()).unwrap_or(u32::MAX),
            signatures: signatures
                .filter_map(|(signer, signature)| Some((signer.get(), signature.get()?.0)))
                .collect(),
        }
    }
}

impl fmt::Display for Finalized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "block       {}", hex::encode(self.block))?;
        writeln!(f, "epoch       {}", self.epoch)?;
        writeln!(f, "view        {} on view {}", self.view, self.parent_view)?;
        write!(f, "signed by   {} of {}", self.signatures.len(), self.validators)?;
        for (index, signature) in &self.signatures {
            write!(f, "\n  {index:>9} {}", hex::encode(signature))?;
        }
        Ok(())
    }
}

/// Validators in the order in which certificates count them.
///
/// # Errors
/// `Validators` when there are none or too many, `DuplicateValidator` when one is listed twice.
pub fn sort_validators(validators: &[PublicKey]) -> Result<Vec<PublicKey>, Refused> {
    Ok(sorted(validators)?.iter().map(|key| key.point().clone()).collect())
}

pub(crate) fn sorted(validators: &[PublicKey]) -> Result<Set<Key>, Refused> {
    let count = validators.len();
    if count == 0 || count > VALIDATORS_MAX as usize {
        return Err(Refused::Validators { count, limit: VALIDATORS_MAX });
    }
    let mut keys: Vec<Key> = validators.iter().cloned().map(Key::from).collect();
    keys.sort();
    if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Refused::DuplicateValidator { key: pair[0].to_string() });
    }
    keys.into_iter().try_collect().map_err(|_| Refused::Validators { count, limit: VALIDATORS_MAX })
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Finalization, Refused> {
    let length = bytes.len();
    let malformed = |reason: String| Refused::Malformed { length, reason };
    if length > FINALIZATION_BYTES_MAX {
        return Err(malformed(format!("the limit is {FINALIZATION_BYTES_MAX} bytes")));
    }
    Finalization::decode_cfg(bytes.to_vec(), &(VALIDATORS_MAX as usize))
        .map_err(|error| malformed(error.to_string()))
}

pub(crate) fn verify(
    finalization: &Finalization,
    epoch: u64,
    scheme: &Scheme,
) -> Result<(), Refused> {
    use commonware_cryptography::certificate::Scheme as _;
    let (found, view) = (finalization.epoch().get(), finalization.view().get());
    if found != epoch {
        return Err(Refused::Epoch { found, expected: epoch });
    }
    // SM2 signatures are checked one by one, so the randomness for batches is never drawn.
    if view == 0 || !finalization.verify(&mut rand::rng(), scheme, &Sequential) {
        let validators = scheme.participants().len();
        return Err(Refused::NotSigned { view, quorum: scheme.quorum(), validators });
    }
    Ok(())
}
