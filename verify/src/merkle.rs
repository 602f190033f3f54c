//! Merkle trees of the shape of RFC 6962 with SM3: roots, inclusion and consistency proofs.
//!
//! Provers read interior hashes through `Hashes`, so the same code proves from memory and from flat
//! files; verifiers need nothing but the proof.
//!
//! Invariants
//! - Interior hashes are stored for complete subtrees only, which never change.
//! - A proof of the wrong length is refused before anything is hashed.

use alloc::vec::Vec;
use piaogen_crypto::{Digest, sm3};

/// Most hashes of an inclusion proof: a tree has fewer than 2^64 leaves.
pub const PROOF_MAX: u64 = 64;

/// The hash of a leaf.
pub fn leaf(data: &[u8]) -> Digest {
    sm3::hash_parts(&[&[0], data])
}

/// The hash over two children.
pub fn interior(left: &Digest, right: &Digest) -> Digest {
    let mut block = [0u8; 65];
    block[0] = 1;
    block[1..33].copy_from_slice(left);
    block[33..].copy_from_slice(right);
    sm3::hash(&block)
}

/// The root of a tree without leaves.
pub fn empty_root() -> Digest {
    sm3::hash(&[])
}

/// Hashes of complete subtrees: `get(level, index)` is the root of leaves
/// `index << level .. (index + 1) << level`.
pub trait Hashes {
    /// What reading may fail with.
    type Error;
    /// Reads one hash. Called only for complete subtrees of the tree's size.
    fn get(&self, level: u8, index: u64) -> Result<Digest, Self::Error>;
}

/// All leaves in memory; for small trees and for tests.
impl Hashes for [Digest] {
    type Error = core::convert::Infallible;

    fn get(&self, level: u8, index: u64) -> Result<Digest, Self::Error> {
        let width = 1usize << level;
        let begin = index as usize * width;
        Ok(root_of_leaves(&self[begin..begin + width]))
    }
}

/// The root over leaf hashes, by the recursion of RFC 6962.
pub fn root_of_leaves(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
            interior(&root_of_leaves(left), &root_of_leaves(right))
        }
    }
}

/// The largest power of two below `n`, for n above 1.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The root of the first `size` leaves.
pub fn root<H: Hashes + ?Sized>(hashes: &H, size: u64) -> Result<Digest, H::Error> {
    subtree(hashes, 0, size)
}

/// The root of leaves `begin..end`, `begin` a multiple of the power of two that covers them.
fn subtree<H: Hashes + ?Sized>(hashes: &H, begin: u64, end: u64) -> Result<Digest, H::Error> {
    let mut folded: Option<Digest> = None;
    let (mut right, size) = (end, end - begin);
    if size == 0 {
        return Ok(empty_root());
    }
    // The set bits of the size are the complete subtrees, smallest to the right.
    for level in 0..64u8 {
        if size >> level & 1 == 1 {
            let width = 1u64 << level;
            let hash = hashes.get(level, (right - width) >> level)?;
            folded = Some(match folded {
                None => hash,
                Some(rest) => interior(&hash, &rest),
            });
            right -= width;
        }
    }
    Ok(folded.unwrap_or_else(empty_root))
}

/// The inclusion proof of leaf `index` in the tree of the first `size` leaves; `index < size`.
pub fn prove_inclusion<H: Hashes + ?Sized>(
    hashes: &H,
    index: u64,
    size: u64,
) -> Result<Vec<Digest>, H::Error> {
    prove_subtree(hashes, 0, index, size)
}

/// The inclusion proof of the complete subtree of leaves `index << level .. (index + 1) << level`;
/// `index < size >> level`.
pub fn prove_subtree<H: Hashes + ?Sized>(
    hashes: &H,
    level: u8,
    index: u64,
    size: u64,
) -> Result<Vec<Digest>, H::Error> {
    let mut proof = Vec::new();
    let (first, width) = (index << level, 1 << level);
    let (mut begin, mut end) = (0, size);
    while end - begin > width {
        let middle = begin + split(end - begin);
        if first < middle {
            proof.push(subtree(hashes, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(hashes, begin, middle)?);
            begin = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The consistency proof from the first `old` leaves to the first `new`; `0 < old <= new`.
pub fn prove_consistency<H: Hashes + ?Sized>(
    hashes: &H,
    old: u64,
    new: u64,
) -> Result<Vec<Digest>, H::Error> {
    let mut proof = Vec::new();
    let (mut begin, mut end, mut complete) = (0, new, true);
    while old != end {
        let middle = begin + split(end - begin);
        if old <= middle {
            proof.push(subtree(hashes, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(hashes, begin, middle)?);
            begin = middle;
            complete = false;
        }
    }
    if !complete {
        proof.push(subtree(hashes, begin, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root that an inclusion proof leads to, or `None` if the proof does not fit index and size
/// (RFC 9162 section 2.1.3.2).
pub fn root_from_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
) -> Option<Digest> {
    if index >= size {
        return None;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut root = *leaf;
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            root = interior(sibling, &root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            root = interior(&root, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

/// The root that the inclusion proof of a complete subtree leads to, or `None` if the proof does not
/// fit, or the tree has not all leaves of the subtree. Above the subtree it is a leaf of a tree of
/// such subtrees, the last of which may be smaller.
pub fn root_from_subtree(
    hash: &Digest,
    level: u8,
    index: u64,
    size: u64,
    proof: &[Digest],
) -> Option<Digest> {
    if index >= size.checked_shr(level.into())? {
        return None;
    }
    root_from_inclusion(hash, index, ((size - 1) >> level) + 1, proof)
}

/// Whether the tree of `new` leaves with `new_root` extends that of `old` leaves with `old_root`
/// (RFC 9162 section 2.1.4.2). An empty old tree is extended by every tree, with an empty proof.
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: &Digest,
    new_root: &Digest,
    proof: &[Digest],
) -> bool {
    if old > new {
        return false;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    // A complete old tree is itself the first hash and is not sent.
    let (first, rest) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        match proof.split_first() {
            Some((first, rest)) => (*first, rest),
            None => return false,
        }
    };
    let (mut from_old, mut from_new) = (first, first);
    for hash in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            from_old = interior(hash, &from_old);
            from_new = interior(hash, &from_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            from_new = interior(&from_new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && from_old == *old_root && from_new == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: u64) -> Vec<Digest> {
        (0..n).map(|i| leaf(&i.to_be_bytes())).collect()
    }

    #[test]
    fn proofs_agree_with_the_recursion() {
        for size in 0..70u64 {
            let all = leaves(size);
            let expected = root_of_leaves(&all);
            assert_eq!(root(&all[..], size), Ok(expected));
            for index in 0..size {
                let proof = prove_inclusion(&all[..], index, size).unwrap();
                let hash = &all[index as usize];
                assert_eq!(root_from_inclusion(hash, index, size, &proof), Some(expected));
                let mut longer = proof.clone();
                longer.push(*hash);
                assert_eq!(root_from_inclusion(hash, index, size, &longer), None);
                if let Some((_, shorter)) = proof.split_last() {
                    assert_eq!(root_from_inclusion(hash, index, size, shorter), None);
                }
                let other = (index + 1) % size;
                assert!(
                    size == 1 || root_from_inclusion(hash, other, size, &proof) != Some(expected)
                );
            }
            for old in 1..=size {
                let proof = prove_consistency(&all[..], old, size).unwrap();
                let old_root = root_of_leaves(&all[..old as usize]);
                assert!(verify_consistency(old, size, &old_root, &expected, &proof));
                assert_eq!(
                    verify_consistency(old, size, &expected, &expected, &proof),
                    old == size
                );
                let mut longer = proof.clone();
                longer.push(old_root);
                assert!(!verify_consistency(old, size, &old_root, &expected, &longer));
            }
        }
    }

    #[test]
    fn complete_subtrees_are_proved_like_leaves_and_no_others_are() {
        for size in 0..70u64 {
            let all = leaves(size);
            let root = root_of_leaves(&all);
            for level in 0..8u8 {
                for index in 0..size >> level {
                    let (begin, end) = (index << level, (index + 1) << level);
                    let hash = root_of_leaves(&all[begin as usize..end as usize]);
                    let proof = prove_subtree(&all[..], level, index, size).unwrap();
                    let found = |hash| root_from_subtree(hash, level, index, size, &proof);
                    assert_eq!(found(&hash), Some(root));
                    assert_ne!(found(&[7; 32]), Some(root));
                    // It is the end of the proof of any of its leaves.
                    let whole = prove_inclusion(&all[..], begin, size).unwrap();
                    assert_eq!(whole[usize::from(level)..], proof);
                    if let Some((_, shorter)) = proof.split_last() {
                        assert_eq!(root_from_subtree(&hash, level, index, size, shorter), None);
                    }
                }
                // The rest of the log, which is no complete subtree, though its hash leads to the root.
                let index = size >> level;
                let rest = root_of_leaves(&all[(index << level) as usize..]);
                let proof = match size {
                    0 => Vec::new(),
                    _ => prove_inclusion(&all[..], size - 1, size).unwrap(),
                };
                for from in 0..=proof.len() {
                    assert_eq!(root_from_subtree(&rest, level, index, size, &proof[from..]), None);
                }
            }
        }
        assert_eq!(root_from_subtree(&[0; 32], 64, 0, u64::MAX, &[]), None);
    }

    #[test]
    fn an_index_outside_is_refused() {
        assert_eq!(root_from_inclusion(&[0; 32], 1, 1, &[]), None);
        assert_eq!(root_from_inclusion(&[0; 32], 0, 0, &[]), None);
        assert!(!verify_consistency(2, 1, &[0; 32], &[0; 32], &[]));
    }
}
