//! Parameters that execution follows, set on the registry (`FORMAT.md` section 4.2).
//!
//! What one country forbids another allows, and laws change: a policy is a record that an
//! authority or the governor signs, that names every parameter, and that holds from a height on.
//!
//! Invariants
//! - A policy is complete: a record that leaves a parameter out is refused.

use crate::fields::Tag;
use crate::record::Record;
use crate::value;

macro_rules! policy {
    ($($(#[doc = $doc:literal])+ $field:ident = $tag:literal $default:expr, $limit:expr,)+) => {
        /// The parameters that execution follows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Policy {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl Default for Policy {
            fn default() -> Policy {
                Policy { $($field: $default,)+ }
            }
        }

        impl Policy {
            /// The tags of the parameters.
            pub const TAGS: &'static [Tag] = &[$($tag,)+];

            /// The policy that a record sets; the error is the first tag that is missing or out of
            /// its range.
            pub fn of_record(record: &Record<'_>) -> Result<Policy, (Tag, value::Cause)> {
                let read = |tag: Tag, limit: u64| {
                    let bytes = record.get(tag).ok_or((tag, value::Cause::Missing))?;
                    match value::uint_of(bytes) {
                        Ok(value) if value <= limit => Ok(value),
                        _ => Err((tag, value::Cause::Range)),
                    }
                };
                Ok(Policy { $($field: read($tag, $limit)?,)+ })
            }

            /// Each parameter's tag and value.
            pub fn values(&self) -> [(Tag, u64); Policy::TAGS.len()] {
                [$(($tag, self.$field),)+]
            }
        }
    };
}

const HOUR: u64 = 3_600_000;
const YEAR: u64 = 366 * 24 * HOUR;

policy! {
    /// 1: a lien blocks red and void requests; 0: its holder is only alerted.
    lien_blocks = 3011 1, 1,
    /// Longest hold, in milliseconds.
    hold_max_ms = 3012 7 * 24 * HOUR, YEAR,
    /// How long a slip waits for the other side, in milliseconds.
    slip_ms = 3013 72 * HOUR, YEAR,
    /// Longest claim of reimbursement, in milliseconds.
    claim_max_ms = 3014 90 * 24 * HOUR, YEAR,
    /// 1: less than the whole amount may be financed.
    partial_financing = 3015 1, 1,
    /// 1: only what the buyer confirmed may be financed.
    confirmation_required = 3016 0, 1,
    /// 1: imported invoices may be financed.
    imported_financeable = 3017 0, 1,
    /// 1: a bank that the seller lets ask is told the remaining capacity; 0: yes or no.
    disclose_capacity = 3018 1, 1,
    /// By how many minor units bookings may exceed what remains.
    tolerance = 3019 0, 1_000_000,
    /// The first open tax period, year × 100 + month.
    open_period = 3020 0, 999_999,
    /// How long before its deadline the parties of a slip are warned, in milliseconds.
    slip_warning_ms = 3021 12 * HOUR, YEAR,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Fields;
    use crate::record::{Draft, RecordKind, decode};
    use alloc::vec::Vec;
    use piaogen_crypto::sm2::SecretKey;

    fn record(values: &[(Tag, u64)]) -> Vec<u8> {
        let fields: Fields = values.iter().map(|(tag, v)| (*tag, value::uint(*v))).collect();
        let (kind, secret) = (RecordKind::Policy, [0; 16]);
        let draft = Draft { kind, signed_at: 1, secret, fields: fields.pairs() };
        draft.sign(&[0; 32], &SecretKey::from_bytes(&[7; 32]).unwrap())
    }

    #[test]
    fn a_policy_is_complete_and_in_range() {
        let policy = Policy { tolerance: 5, ..Policy::default() };
        let values = policy.values();
        let bytes = record(&values);
        assert_eq!(Policy::of_record(&decode(&bytes).unwrap()), Ok(policy));
        for i in 0..values.len() {
            let mut fewer = values.to_vec();
            fewer.remove(i);
            let bytes = record(&fewer);
            let error = Policy::of_record(&decode(&bytes).unwrap()).unwrap_err();
            assert_eq!(error, (values[i].0, value::Cause::Missing));
            let mut out = values;
            out[i].1 = u64::MAX;
            let bytes = record(&out);
            let error = Policy::of_record(&decode(&bytes).unwrap()).unwrap_err();
            assert_eq!(error, (values[i].0, value::Cause::Range));
        }
    }
}
