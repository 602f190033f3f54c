//! What became of an invoice, and the tree that proves it by issue index (`FORMAT.md` section 6).
//!
//! An untouched invoice has the zero record, and a subtree of zeros has the zero hash, so issuing
//! costs nothing here and "nothing ever happened to this invoice" is a short proof.
//!
//! Invariants
//! - The depth is fixed, so that a record can never be taken for an interior hash.

mod answer;
mod document;
mod history;
mod part;
mod parts;
mod receipt;
mod text;

pub use answer::{Right, VerifiedStatus};
pub use document::{FACTS_SHOWN, Facts, Status, StatusError};
pub use history::{HISTORY_PROOF_MAX, History, HistoryRecord};
pub use part::Day;
pub use parts::*;
pub use receipt::{STATUS_RECEIPT_MAX, StatusReceipt, StatusShowError};
pub use text::{HISTORY_FORMAT, STATUS_FORMAT};

use crate::encoding::{DecodeError, Reader};
use crate::merkle;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// Levels above the records.
pub const DEPTH: u8 = 40;
/// The record of an untouched invoice, and the root of a tree of such.
pub const ZERO: Digest = [0; 32];

/// Prefix of the status digest: the commitment over the fields of a status document.
pub const STATUS_PREFIX: u8 = 6;

/// The hash over two children: zero over two zeros.
pub fn interior(left: &Digest, right: &Digest) -> Digest {
    if *left == ZERO && *right == ZERO { ZERO } else { merkle::interior(left, right) }
}

/// The siblings on the way from a record to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusProof {
    /// One for each level, the one next to the record first.
    pub siblings: [Digest; DEPTH as usize],
}

impl StatusProof {
    /// The root that the record at `index` leads to, or `None` where the index is outside the tree.
    pub fn root(&self, record: &Digest, index: u64) -> Option<Digest> {
        if index >> DEPTH != 0 {
            return None;
        }
        let mut hash = *record;
        for (level, sibling) in self.siblings.iter().enumerate() {
            hash = if index >> level & 1 == 0 {
                interior(&hash, sibling)
            } else {
                interior(sibling, &hash)
            };
        }
        Some(hash)
    }

    /// Appends the compact encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let bitmap = self
            .siblings
            .iter()
            .enumerate()
            .fold(0u64, |bits, (level, sibling)| bits | u64::from(*sibling != ZERO) << level);
        out.extend_from_slice(&bitmap.to_be_bytes()[3..]);
        for sibling in self.siblings.iter().filter(|sibling| **sibling != ZERO) {
            out.extend_from_slice(sibling);
        }
    }

    /// Takes the compact encoding. A sibling that is sent though zero is refused.
    pub fn decode(reader: &mut Reader<'_>) -> Result<StatusProof, DecodeError> {
        let mut bitmap = [0; 8];
        bitmap[3..].copy_from_slice(reader.take(5)?);
        let bitmap = u64::from_be_bytes(bitmap);
        let mut siblings = [ZERO; DEPTH as usize];
        for (level, sibling) in siblings.iter_mut().enumerate() {
            if bitmap >> level & 1 == 1 {
                *sibling = reader.array()?;
                if *sibling == ZERO {
                    return Err(DecodeError::Fixed { what: "status proof sibling" });
                }
            }
        }
        Ok(StatusProof { siblings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untouched_tree_has_the_zero_root() {
        let proof = StatusProof { siblings: [ZERO; 40] };
        assert_eq!(proof.root(&ZERO, 12_345), Some(ZERO));
        assert_ne!(proof.root(&digest(b"lien"), 12_345), Some(ZERO));
        assert_eq!(proof.root(&ZERO, 1 << 40), None);
        let mut out = Vec::new();
        proof.encode(&mut out);
        assert_eq!(out, [0; 5]);
    }

    fn digest(seed: &[u8]) -> Digest {
        piaogen_crypto::sm3::hash(seed)
    }

    #[test]
    fn two_touched_neighbours_prove_each_other() {
        let (a, b) = (digest(b"a"), digest(b"b"));
        let mut of_a = StatusProof { siblings: [ZERO; 40] };
        let mut of_b = of_a.clone();
        of_a.siblings[2] = merkle_up(b, 2, 0b101);
        of_b.siblings[2] = merkle_up(a, 2, 0b010);
        let root = of_a.root(&a, 0b0010);
        assert_eq!(root, of_b.root(&b, 0b0101));
        let mut out = Vec::new();
        of_a.encode(&mut out);
        assert_eq!(out.len(), 37);
        assert_eq!(StatusProof::decode(&mut Reader::new(&out)), Ok(of_a));
    }

    fn merkle_up(mut hash: Digest, levels: u8, index: u64) -> Digest {
        for level in 0..levels {
            hash = if index >> level & 1 == 0 {
                interior(&hash, &ZERO)
            } else {
                interior(&ZERO, &hash)
            };
        }
        hash
    }
}
