//! What a status proof proves, and which parts of a status who may see.
//!
//! Invariants
//! - A predicate that holds is proved; one that does not hold may just not be shown.
//! - What somebody may see grows from `Public` on; nobody but seller, buyer and authority sees a
//!   third party's name.

use super::parts::{BuyerState, Face, Lifecycle, Risk};
use super::{Status, ZERO};
use crate::fields::{STATUS, Tag, tag};
use crate::receipt::Verified;
use crate::value;
use alloc::string::String;
use alloc::vec::Vec;
use piaogen_crypto::Digest;

/// What a status proof proves, as of its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedStatus {
    /// The block that it is of, and who certified it.
    pub block: Verified,
    /// The issue index of the invoice.
    pub issue: u64,
    /// The status digest; zeros where the invoice is untouched.
    pub record: Digest,
    /// What everybody may know, where it is shown; of an untouched invoice it is known.
    pub face: Option<Face>,
    /// Tags of the parts that the status has, shown or hidden.
    pub parts: Vec<Tag>,
    /// Tags of the parts that are shown.
    pub shown: Vec<Tag>,
}

impl VerifiedStatus {
    /// Whether nothing ever happened to the invoice.
    pub fn untouched(&self) -> bool {
        self.record == ZERO
    }

    /// Whether it is proved that no hold and no financing stands against the invoice. A hold counts
    /// until the event after its end.
    pub fn no_lien(&self) -> bool {
        self.lacks(tag::FINANCINGS) || self.face.as_ref().is_some_and(|face| face.liens == 0)
    }

    /// Whether it is proved that no unit has booked the invoice.
    pub fn no_booking(&self) -> bool {
        self.lacks(tag::BOOKINGS) || self.face.as_ref().is_some_and(|face| !face.booked)
    }

    /// Whether the status has no such part: all that it has are in the proof, shown or hidden.
    pub fn lacks(&self, part: Tag) -> bool {
        self.parts.binary_search(&part).is_err()
    }

    /// What the proof is worth, in words: `as of block 7, 2026-11-21 08:00:14 UTC`.
    pub fn as_of(&self) -> String {
        let seconds = self.block.time_ms.div_euclid(1_000);
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let height = self.block.height;
        // The calendar of the formats is wide enough for any block; beyond it is a plain count.
        if !(-719_162..=2_932_896).contains(&days) {
            return alloc::format!("as of block {height}, {} ms since 1970", self.block.time_ms);
        }
        let (year, month, day) = value::day_of_days(days);
        alloc::format!(
            "as of block {height}, {year:04}-{month:02}-{day:02} \
             {hour:02}:{minute:02}:{second:02} UTC"
        )
    }
}

impl Face {
    /// The face of an invoice that nothing happened to.
    pub fn untouched() -> Face {
        Face {
            version: 0,
            lifecycle: Lifecycle::Active,
            risk: Risk::Normal,
            frozen: false,
            red_pending: false,
            used: false,
            booked: false,
            claimed: false,
            liens: 0,
            buyer: BuyerState::None,
            over_financed: false,
        }
    }
}

/// Who asks for a status proof, and so which parts of the status it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Anybody who has the number of the invoice.
    Public,
    /// A bank that has financed the invoice or holds capacity of it.
    Holder,
    /// The buyer.
    Buyer,
    /// The seller.
    Seller,
    /// An authority or auditor.
    Authority,
}

const PUBLIC: &[Tag] = &[tag::FACE, tag::ORIGIN, tag::COMMITMENT];
const HOLDER: &[Tag] = &[
    tag::TYPE_CODE,
    tag::CURRENCY,
    tag::DUE_DATE,
    tag::TOTAL_VAT,
    tag::TOTAL_GROSS,
    tag::SELLER_PARTY,
    tag::BUYER_PARTY,
    tag::VAT_TYPE,
    tag::FACE,
    tag::ORIGIN,
    tag::COMMITMENT,
    tag::RED,
    tag::RED_INVOICES,
    tag::SLIP,
    tag::CONFIRMATION,
    tag::FREEZES,
    tag::FACTS,
];

impl Right {
    /// The right of a participant who is not an authority, as the status knows him.
    pub fn of(status: &Status, party: &str) -> Right {
        if status.facts.seller == party {
            Right::Seller
        } else if status.facts.buyer.as_deref() == Some(party) {
            Right::Buyer
        } else if status.financings.iter().any(|financing| financing.holder == party) {
            Right::Holder
        } else {
            Right::Public
        }
    }

    /// The parts that he may see. A bank sees the list of financings only where all of them are its
    /// own, because others' stand in the same list: see [`Right::parts_for`].
    pub fn parts(self) -> Vec<Tag> {
        let but = |hidden: &[Tag]| {
            let all = STATUS.iter().map(|field| field.tag);
            all.filter(|tag| !hidden.contains(tag)).collect()
        };
        match self {
            Right::Public => PUBLIC.to_vec(),
            Right::Holder => HOLDER.to_vec(),
            Right::Buyer => but(&[tag::CONSENTS]),
            Right::Seller => but(&[tag::BOOKINGS, tag::CLAIMS, tag::DEDUCTION]),
            Right::Authority => but(&[]),
        }
    }

    /// The parts of this status that this participant may see.
    pub fn parts_for(status: &Status, party: &str) -> Vec<Tag> {
        let right = Right::of(status, party);
        let mut parts = right.parts();
        let own = status.financings.iter().all(|financing| financing.holder == party);
        if right == Right::Holder && own {
            parts.push(tag::FINANCINGS);
        }
        parts
    }
}
