//! The body of a block: its header, its cut, and the shards that the header speaks of.
//!
//! Bodies travel between validators, and wait on disk until they are final (PROTOCOL section 5.2). The
//! header's digest binds all of it: the cut through `cut`, the entries through `shards_root`. The
//! entries are not needed to check a block; they are there so that who disagrees can say in which
//! shard.
//!
//! Invariants
//! - What `decode` takes is bound by the header, and `encode` gives the same bytes.

use piaogen_verify::encoding::Reader;
use piaogen_verify::header::{
    Cut, HEADER_LEN, Header, SHARD_LEN, SHARDS_MAX, ShardEntry, shards_root,
};
use std::fmt::Write as _;

/// Most shards that are named in a message.
const NAMED_MAX: usize = 8;

/// A block, as validators send it to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Its header.
    pub header: Header,
    /// Its cut.
    pub cut: Cut,
    /// The shards under the header's `shards_root`; a final block is stored without them.
    pub entries: Option<Vec<ShardEntry>>,
}

impl Body {
    /// Longest body with so many shards.
    pub fn bytes_max(shards: usize) -> usize {
        HEADER_LEN + 10 + shards * (8 + SHARD_LEN)
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.header.encode().to_vec();
        out.extend_from_slice(&self.cut.encode());
        for entry in self.entries.iter().flatten() {
            out.extend_from_slice(&entry.encode());
        }
        out
    }

    /// Reads a body; `None` where it is not exactly one, or its parts are not the header's.
    pub fn decode(bytes: &[u8]) -> Option<Body> {
        let mut reader = Reader::new(bytes);
        let header = Header::decode(&mut reader).ok()?;
        let count = reader.count("shards", SHARDS_MAX).ok()?;
        let offsets = (0..count).map(|_| reader.u64()).collect::<Result<_, _>>().ok()?;
        let cut = Cut(offsets);
        if cut.digest() != header.cut {
            return None;
        }
        if reader.remaining() == 0 {
            return Some(Body { header, cut, entries: None });
        }
        let entries = (0..count).map(|_| ShardEntry::decode(&mut reader));
        let entries = entries.collect::<Result<Vec<_>, _>>().ok()?;
        reader.end().ok()?;
        (shards_root(&entries) == header.shards_root).then_some(Body {
            header,
            cut,
            entries: Some(entries),
        })
    }
}

/// In which shards `own` and `theirs` differ, for people.
pub fn differences(own: &[ShardEntry], theirs: Option<&[ShardEntry]>) -> String {
    let Some(theirs) = theirs else {
        return format!("in which of {} shards is not known here", own.len());
    };
    let differing: Vec<(&ShardEntry, Option<&ShardEntry>)> = own
        .iter()
        .enumerate()
        .map(|(i, entry)| (entry, theirs.get(i)))
        .filter(|(entry, other)| Some(*entry) != *other)
        .collect();
    let mut text = format!("{} of {} shards differ", differing.len(), own.len());
    for (entry, other) in differing.iter().take(NAMED_MAX) {
        // Writing to a string cannot fail.
        let _ = write!(text, ": shard {} here {}", entry.shard, shown(entry));
        let _ = write!(text, ", there {}", other.map_or_else(|| "missing".into(), shown));
    }
    text
}

fn shown(entry: &ShardEntry) -> String {
    format!(
        "next offset {}, log size {}, log_root {}, invoices {}, status_root {}",
        entry.next_offset,
        entry.log_size,
        hex::encode(entry.log_root),
        entry.invoices,
        hex::encode(entry.status_root)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use piaogen_crypto::sm2::SecretKey;
    use piaogen_verify::header::ValidatorSet;

    fn body() -> Body {
        let key = SecretKey::from_bytes(&[7; 32]).unwrap().public_key();
        let cut = Cut(vec![1, 2, 3]);
        let entries: Vec<ShardEntry> = (0..3).map(ShardEntry::empty).collect();
        let header = Header {
            cut: cut.digest(),
            shards_root: shards_root(&entries),
            height: 5,
            ..Header::genesis([1; 32], 1_000, 2, &ValidatorSet::new(vec![key]).unwrap())
        };
        Body { header, cut, entries: Some(entries) }
    }

    #[test]
    fn a_body_is_read_exactly_with_and_without_entries() {
        let with = body();
        let without = Body { entries: None, ..body() };
        for body in [&with, &without] {
            let bytes = body.encode();
            assert!(bytes.len() <= Body::bytes_max(3));
            assert_eq!(Body::decode(&bytes).as_ref(), Some(body));
            assert_eq!(Body::decode(&[&bytes[..], &[0]].concat()), None);
        }
        let bytes = with.encode();
        for cut in (0..bytes.len()).filter(|cut| *cut != without.encode().len()) {
            assert_eq!(Body::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn every_bit_is_bound_by_the_digest() {
        let original = body();
        let bytes = original.encode();
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 1;
            let same = Body::decode(&bent)
                .is_some_and(|read| read.header.digest() == original.header.digest());
            assert!(!same, "byte {at}");
        }
    }

    #[test]
    fn differences_name_shard_and_both_sides() {
        let own = body().entries.unwrap();
        let mut other = own.clone();
        other[1].log_size = 9;
        let text = differences(&own, Some(&other));
        assert!(text.contains("1 of 3 shards differ: shard 1 here"), "{text}");
        assert!(text.contains("log size 0") && text.contains("log size 9"), "{text}");
        assert!(differences(&own, None).contains("not known here"));
        assert!(differences(&own, Some(&other[..1])).contains("missing"));
    }
}
