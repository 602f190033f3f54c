//! Finds votes on disk of which a bit has flipped since they were synced.
//!
//! The journal protects each page of a file by a checksum, and takes a page at the end whose
//! checksum fails for one that was torn in the middle of a write: it cuts it off. A torn write was
//! never synced, so nothing was sent that it holds. With a flipped bit it was, and the validator
//! could vote again and differently in that view. The two are told apart here: a page that one bit
//! makes whole is not torn. Torn by chance into such a page is one in a hundred thousand, and only
//! means that somebody looks.
//!
//! A page is `PAGE` bytes and two slots, each the number of bytes that its checksum covers (2
//! bytes, big-endian, 0 in an empty slot) and the checksum (4 bytes).

use commonware_cryptography::Crc32;
use commonware_runtime::{Blob as _, ReadOptions, Storage};
use commonware_utils::NZU16;
use std::num::NonZeroU16;

/// Bytes of a page of the journal; with its checksums it fills one page of the disk.
pub(crate) const PAGE: NonZeroU16 = NZU16!(4084);
const SLOT: usize = 2 + 4;
const PHYSICAL: usize = PAGE.get() as usize + 2 * SLOT;

/// The highest view with damaged votes. What cannot be opened or read is left to the journal, which
/// says so.
pub(super) async fn newest<E: Storage>(context: &E, partition: &str) -> Option<u64> {
    // One file for each view, named by it.
    let mut names = context.scan(partition).await.ok()?;
    names.sort_unstable();
    for name in names.iter().rev() {
        let Ok(view) = <[u8; 8]>::try_from(&name[..]) else { continue };
        let Ok((blob, size)) = context.open(partition, name).await else { continue };
        for page in 0..size / PHYSICAL as u64 {
            let place = page * PHYSICAL as u64;
            let Ok(bytes) = blob.read_at(place, PHYSICAL, ReadOptions::default()).await else {
                break;
            };
            if is_damaged(bytes.coalesce().as_ref()) {
                return Some(u64::from_be_bytes(view));
            }
        }
    }
    None
}

/// Whether one of the slots of a page holds no longer, and would if one bit were another.
fn is_damaged(page: &[u8]) -> bool {
    let (content, slots) = page.split_at(PAGE.get() as usize);
    slots.chunks_exact(SLOT).any(|slot| {
        let (length, sum) = slot.split_at(2);
        let length = u16::from_be_bytes([length[0], length[1]]);
        let sum = u32::from_be_bytes([sum[0], sum[1], sum[2], sum[3]]);
        let covered = |length: u16| content.get(..length.into()).filter(|bytes| !bytes.is_empty());
        let holds =
            |length: u16| covered(length).is_some_and(|bytes| Crc32::checksum(bytes) == sum);
        if (length == 0 && sum == 0) || holds(length) {
            return false;
        }
        let another_length = (0..u16::BITS).any(|bit| holds(length ^ (1 << bit)));
        let Some(bytes) = covered(length) else { return another_length };
        let difference = Crc32::checksum(bytes) ^ sum;
        another_length || difference.count_ones() == 1 || is_of_one_bit(difference, bytes.len())
    })
}

/// Whether this is the difference that one bit makes to the checksum of so many bytes.
fn is_of_one_bit(difference: u32, length: usize) -> bool {
    // A checksum is linear but for a constant: the same bit makes the same difference in all.
    let mut bytes = vec![0; length];
    let without = Crc32::checksum(&bytes);
    (0..length).any(|at| {
        let mut makes = |bit: u32| {
            bytes[at] = 1 << bit;
            Crc32::checksum(&bytes) ^ without == difference
        };
        let found = (0..8).any(&mut makes);
        bytes[at] = 0;
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of which two lengths are protected.
    fn page(first: u16, second: u16) -> Vec<u8> {
        let content: Vec<u8> = (0..PAGE.get()).map(|i| (i * 7 + i / 251) as u8).collect();
        let slot = |length: u16| match length {
            0 => vec![0; SLOT],
            _ => {
                let sum = Crc32::checksum(&content[..length.into()]);
                [&length.to_be_bytes()[..], &sum.to_be_bytes()].concat()
            }
        };
        [&content[..], &slot(first), &slot(second)].concat()
    }

    #[test]
    fn a_flipped_bit_is_damage_and_a_torn_page_is_not() {
        for (first, second) in [(400, 0), (0, 400), (300, 400), (4084, 300)] {
            let whole = page(first, second);
            assert!(!is_damaged(&whole));
            let longest = usize::from(first.max(second));
            for at in (0..longest).step_by(131).chain(usize::from(PAGE.get())..PHYSICAL) {
                let mut bent = whole.clone();
                bent[at] ^= 1 << (at % 8);
                let of_empty = (first == 0 && at < PHYSICAL - SLOT && at >= PAGE.get().into())
                    || (second == 0 && at >= PHYSICAL - SLOT);
                assert_eq!(is_damaged(&bent), !of_empty, "{first}, {second}: byte {at}");
            }
            // Every other byte, and everything behind a byte.
            let torn = |keep: &dyn Fn(usize) -> bool| {
                let byte = |(at, byte): (usize, &u8)| if keep(at) { *byte } else { 0 };
                whole.iter().enumerate().map(byte).collect::<Vec<u8>>()
            };
            assert!(!is_damaged(&torn(&|at| at % 2 == 0)));
            assert!(!is_damaged(&torn(&|at| at > 200)));
            assert!(!is_damaged(&torn(&|_| false)));
        }
    }
}
