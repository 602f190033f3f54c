//! What a block says: shard entries, cut, validator set, header (`FORMAT.md` section 7).
//!
//! A header is of fixed size and binds everything before it: the roots of all shards after the cut
//! of the block before, and the root of the log of all earlier headers.
//!
//! Invariants
//! - Encodings are of fixed size where nothing in them is a list.
//! - Validators stand in ascending order of their compressed keys, without repetition.
//! - Only the last header of an epoch names the set of the next: `next_validators` is zero in all
//!   others.

use crate::encoding::{DecodeError, Reader, put_vint};
use crate::merkle;
use alloc::vec::Vec;
use piaogen_crypto::sm2::PublicKey;
use piaogen_crypto::{Digest, sm3};

/// Length of a header.
pub const HEADER_LEN: usize = 264;
/// Length of a shard entry.
pub const SHARD_LEN: usize = 92;
/// Most shards, the registry included.
pub const SHARDS_MAX: u64 = 4_097;
/// Most validators: each vote goes to all of them, and a certificate holds a signature of each.
pub const VALIDATORS_MAX: u64 = 100;
/// What `next_validators` is in a header that closes no epoch.
pub const NO_SET: Digest = [0; 32];
const MAGIC: [u8; 4] = *b"PH\x01\x00";

/// The state of one shard after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardEntry {
    /// Which shard.
    pub shard: u32,
    /// Next offset of its partition.
    pub next_offset: u64,
    /// Leaves in its record log.
    pub log_size: u64,
    /// Root of its record log.
    pub log_root: Digest,
    /// Invoices that it accepted.
    pub invoices: u64,
    /// Root of its status tree.
    pub status_root: Digest,
}

impl ShardEntry {
    /// A shard that has seen nothing.
    pub fn empty(shard: u32) -> ShardEntry {
        ShardEntry {
            shard,
            next_offset: 0,
            log_size: 0,
            log_root: merkle::empty_root(),
            invoices: 0,
            status_root: crate::status::ZERO,
        }
    }

    /// The encoding.
    pub fn encode(&self) -> [u8; SHARD_LEN] {
        let mut out = [0; SHARD_LEN];
        out[..4].copy_from_slice(&self.shard.to_be_bytes());
        out[4..12].copy_from_slice(&self.next_offset.to_be_bytes());
        out[12..20].copy_from_slice(&self.log_size.to_be_bytes());
        out[20..52].copy_from_slice(&self.log_root);
        out[52..60].copy_from_slice(&self.invoices.to_be_bytes());
        out[60..].copy_from_slice(&self.status_root);
        out
    }

    /// Takes an entry.
    pub fn decode(r: &mut Reader<'_>) -> Result<ShardEntry, DecodeError> {
        Ok(ShardEntry {
            shard: r.u32()?,
            next_offset: r.u64()?,
            log_size: r.u64()?,
            log_root: r.array()?,
            invoices: r.u64()?,
            status_root: r.array()?,
        })
    }

    /// The leaf under `shards_root`.
    pub fn leaf(&self) -> Digest {
        merkle::leaf(&self.encode())
    }
}

/// The root over all shard entries.
pub fn shards_root(shards: &[ShardEntry]) -> Digest {
    let leaves: Vec<Digest> = shards.iter().map(ShardEntry::leaf).collect();
    merkle::root_of_leaves(&leaves)
}

/// For each shard the next offset that is not in the block, the registry last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut(pub Vec<u64>);

impl Cut {
    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(3 + self.0.len() * 8);
        put_vint(&mut out, self.0.len() as u64);
        for offset in &self.0 {
            out.extend_from_slice(&offset.to_be_bytes());
        }
        out
    }

    /// Reads a cut; nothing may follow.
    pub fn decode(bytes: &[u8]) -> Result<Cut, DecodeError> {
        let mut r = Reader::new(bytes);
        let count = r.count("shards", SHARDS_MAX)?;
        let offsets = (0..count).map(|_| r.u64()).collect::<Result<_, _>>()?;
        r.end()?;
        Ok(Cut(offsets))
    }

    /// The digest in the header.
    pub fn digest(&self) -> Digest {
        sm3::hash_parts(&[&[11], &self.encode()])
    }
}

/// The keys that vote in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorSet(Vec<PublicKey>);

impl ValidatorSet {
    /// A set of these keys, in whatever order they come; `None` if there is none, too many, or one
    /// twice.
    pub fn new(mut keys: Vec<PublicKey>) -> Option<ValidatorSet> {
        keys.sort_by_key(PublicKey::to_compressed);
        let repeated = keys.windows(2).any(|pair| pair[0] == pair[1]);
        let fits = !keys.is_empty() && keys.len() as u64 <= VALIDATORS_MAX;
        (fits && !repeated).then_some(ValidatorSet(keys))
    }

    /// The keys, ascending.
    pub fn keys(&self) -> &[PublicKey] {
        &self.0
    }

    /// How many must sign: n − ⌊(n−1)/3⌋.
    pub fn quorum(&self) -> usize {
        self.0.len() - (self.0.len() - 1) / 3
    }

    /// Whether the key is in the set.
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.place(key).is_some()
    }

    /// The number of a key in the set.
    pub fn place(&self, key: &PublicKey) -> Option<usize> {
        let wanted = key.to_compressed();
        self.0.binary_search_by(|own| own.to_compressed().cmp(&wanted)).ok()
    }

    /// Appends the encoding.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        put_vint(out, self.0.len() as u64);
        for key in &self.0 {
            out.extend_from_slice(&key.to_compressed());
        }
    }

    /// Takes a set: at least one key, ascending, each a point of the curve.
    pub fn decode(r: &mut Reader<'_>) -> Result<ValidatorSet, DecodeError> {
        let count = r.count("validators", VALIDATORS_MAX)?;
        let bytes: Vec<[u8; 33]> = (0..count).map(|_| r.array()).collect::<Result<_, _>>()?;
        ValidatorSet::of_compressed(&bytes).ok_or(DecodeError::Fixed { what: "validator set" })
    }

    /// The set of these compressed keys, which ascend; `None` where they are no set.
    pub fn of_compressed(keys: &[[u8; 33]]) -> Option<ValidatorSet> {
        let ascend = keys.windows(2).all(|pair| pair[0] < pair[1]);
        let fits = !keys.is_empty() && keys.len() as u64 <= VALIDATORS_MAX;
        if !ascend || !fits {
            return None;
        }
        let point = |key: &[u8; 33]| PublicKey::from_compressed(key).ok();
        Some(ValidatorSet(keys.iter().map(point).collect::<Option<_>>()?))
    }

    /// The digest in the header.
    pub fn digest(&self) -> Digest {
        let mut message = alloc::vec![12];
        self.encode_to(&mut message);
        sm3::hash(&message)
    }
}

/// A block's fixed-size summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The genesis digest.
    pub chain: Digest,
    /// Number of the block.
    pub height: u64,
    /// Range of heights with one validator set.
    pub epoch: u64,
    /// Block time, milliseconds since 1970.
    pub time_ms: i64,
    /// Digest of the header before.
    pub parent: Digest,
    /// Digest of the cut that the block agrees on.
    pub cut: Digest,
    /// Root over the shards after the cut of the block before.
    pub shards_root: Digest,
    /// Root of the log of all earlier headers.
    pub history_root: Digest,
    /// Digest of the validator set that finalizes the block.
    pub validators: Digest,
    /// In the last block of an epoch the digest of the set of the next, else [`NO_SET`].
    pub next_validators: Digest,
    /// Number of shard entries.
    pub shards: u32,
    /// Leaves in all logs, after the cut of the block before.
    pub records: u64,
}

impl Header {
    /// The header of height 0.
    pub fn genesis(
        chain: Digest,
        time_ms: i64,
        partitions: u32,
        validators: &ValidatorSet,
    ) -> Header {
        let shards: Vec<ShardEntry> = (0..=partitions).map(ShardEntry::empty).collect();
        Header {
            chain,
            height: 0,
            epoch: 0,
            time_ms,
            parent: [0; 32],
            cut: Cut(alloc::vec![0; shards.len()]).digest(),
            shards_root: shards_root(&shards),
            history_root: merkle::empty_root(),
            validators: validators.digest(),
            next_validators: NO_SET,
            shards: partitions + 1,
            records: 0,
        }
    }

    /// The encoding.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..4].copy_from_slice(&MAGIC);
        out[4..36].copy_from_slice(&self.chain);
        out[36..44].copy_from_slice(&self.height.to_be_bytes());
        out[44..52].copy_from_slice(&self.epoch.to_be_bytes());
        out[52..60].copy_from_slice(&self.time_ms.to_be_bytes());
        out[60..92].copy_from_slice(&self.parent);
        out[92..124].copy_from_slice(&self.cut);
        out[124..156].copy_from_slice(&self.shards_root);
        out[156..188].copy_from_slice(&self.history_root);
        out[188..220].copy_from_slice(&self.validators);
        out[220..252].copy_from_slice(&self.next_validators);
        out[252..256].copy_from_slice(&self.shards.to_be_bytes());
        out[256..].copy_from_slice(&self.records.to_be_bytes());
        out
    }

    /// Takes a header.
    pub fn decode(r: &mut Reader<'_>) -> Result<Header, DecodeError> {
        r.fixed("header magic", &MAGIC)?;
        Ok(Header {
            chain: r.array()?,
            height: r.u64()?,
            epoch: r.u64()?,
            time_ms: r.i64()?,
            parent: r.array()?,
            cut: r.array()?,
            shards_root: r.array()?,
            history_root: r.array()?,
            validators: r.array()?,
            next_validators: r.array()?,
            shards: r.u32()?,
            records: r.u64()?,
        })
    }

    /// Whether this is the last block of its epoch.
    pub fn closes_epoch(&self) -> bool {
        self.next_validators != NO_SET
    }

    /// The epoch and the validators of the header after this one.
    pub fn next_epoch(&self) -> (u64, Digest) {
        match self.closes_epoch() {
            true => (self.epoch.saturating_add(1), self.next_validators),
            false => (self.epoch, self.validators),
        }
    }

    /// The leaf under the `history_root` of later headers.
    pub fn leaf(&self) -> Digest {
        merkle::leaf(&self.digest())
    }

    /// The digest: what validators sign.
    pub fn digest(&self) -> Digest {
        sm3::hash_parts(&[&[10], &self.encode()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_cuts_round_trip() {
        let key = piaogen_crypto::sm2::SecretKey::from_bytes(&[7; 32]).unwrap().public_key();
        let set = ValidatorSet::new(alloc::vec![key.clone()]).unwrap();
        assert_eq!(set.quorum(), 1);
        assert_eq!(ValidatorSet::new(alloc::vec![key.clone(), key]), None);
        let header = Header::genesis([9; 32], 1, 4, &set);
        let bytes = header.encode();
        let mut reader = Reader::new(&bytes);
        assert_eq!(Header::decode(&mut reader), Ok(header));
        assert_eq!(reader.end(), Ok(()));
        let cut = Cut(alloc::vec![0, 5, u64::MAX]);
        assert_eq!(Cut::decode(&cut.encode()), Ok(cut));
    }

    #[test]
    fn a_set_has_one_encoding_and_its_limits() {
        let keys: Vec<PublicKey> = (1..=101)
            .map(|i| piaogen_crypto::sm2::SecretKey::from_bytes(&[i; 32]).unwrap().public_key())
            .collect();
        let decode = |bytes: &[u8]| ValidatorSet::decode(&mut Reader::new(bytes)).ok();
        for n in [1, 4, 100] {
            let set = ValidatorSet::new(keys[..n].to_vec()).unwrap();
            let mut bytes = Vec::new();
            set.encode_to(&mut bytes);
            assert_eq!(decode(&bytes), Some(set.clone()));
            assert!(set.keys().iter().enumerate().all(|(i, key)| set.place(key) == Some(i)));
            assert!(!set.contains(&keys[100]));
            let Some(last) = bytes.len().checked_sub(66).filter(|_| n > 1) else { continue };
            let (low, high) = (bytes[last..last + 33].to_vec(), bytes[last + 33..].to_vec());
            let ends = [[high, low.clone()].concat(), [low.clone(), low].concat()];
            for end in ends {
                assert_eq!(decode(&[&bytes[..last], &end[..]].concat()), None);
            }
        }
        assert_eq!(ValidatorSet::new(keys.clone()), None);
        assert_eq!(ValidatorSet::new(Vec::new()), None);
        assert_eq!(decode(&[0]), None);
        assert_eq!(decode(&[[101].to_vec(), alloc::vec![2; 101 * 33]].concat()), None);
        assert_eq!(decode(&[[1].to_vec(), alloc::vec![2; 33]].concat()), None, "not on the curve");
    }
}
