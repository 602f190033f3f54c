//! The schemes of the formats that are imported and replayed, with the rules that go with them.
//!
//! They are the defaults of a genesis file; a chain may change any of them, since what counts is
//! the scheme in its genesis.

use super::{RedSign, Scheme};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// Code of [`en16931`].
pub const EN16931: &str = "EN16931";
/// Code of [`cn_einv`].
pub const CN_EINV: &str = "CN-EINV";
/// Code of [`uk_retail`].
pub const UK_RETAIL: &str = "UK-RETAIL";

/// UNTDID 1001 codes of invoices (EN 16931 rule BR-CL-01).
const EN_INVOICES: &str = "71 80 81 82 84 102 130 202 203 204 211 218 219 295 325 326 331 380 382 \
    383 384 385 386 387 388 389 390 393 394 395 456 457 471 472 473 500 501 527 553 575 623 633 \
    751 780 817 870 875 876 877 935";
/// UNTDID 1001 codes of credit notes (EN 16931 rule BR-CL-01).
const EN_CREDITS: &str = "81 83 261 262 296 308 381 396 420 458 502 503 532";

fn codes(list: &str) -> Vec<String> {
    list.split_ascii_whitespace().map(str::to_owned).collect()
}

/// All of them: what a new chain has where nobody says otherwise.
pub fn all() -> Vec<Scheme> {
    [cn_einv(), en16931(), uk_retail()].into()
}

/// EN 16931 invoices and credit notes, each seller with numbers of its own.
///
/// Totals must hold exactly; the tax of a VAT breakdown entry may differ by less than one unit of
/// the currency, as in rule BR-CO-17. A credit note is positive, but one that takes back a credit
/// note is negative, so that both signs occur.
pub fn en16931() -> Scheme {
    Scheme {
        code: EN16931.into(),
        per_seller: true,
        blue_types: codes(EN_INVOICES),
        red_types: codes(EN_CREDITS),
        red_sign: RedSign::Any,
        tolerance_totals: 0,
        tolerance_tax: 99,
        slips: false,
        voidable: false,
        deductible_vat_types: Vec::new(),
    }
}

/// Chinese fully digitalized e-invoices: one number range for all, reds negative.
///
/// A blue invoice has the type code 380 and a red one 381, since the list of BT-3 is UNTDID 1001;
/// what China calls the type of VAT invoice is in the field `vat_type`. The tax of one rate may
/// differ from taxable × rate by what issuing software lets a whole invoice gather from rounding
/// its lines, 1.27. A red invoice of a used or booked one needs a slip, none can be voided, and
/// only special VAT invoices (`vat_type` 01) give a deduction.
pub fn cn_einv() -> Scheme {
    Scheme {
        code: CN_EINV.into(),
        per_seller: false,
        blue_types: codes("380"),
        red_types: codes("381"),
        red_sign: RedSign::Negative,
        tolerance_totals: 0,
        tolerance_tax: 127,
        slips: true,
        voidable: false,
        deductible_vat_types: codes("01"),
    }
}

/// The sales of a British retailer: one number range, credits negative, totals exact.
pub fn uk_retail() -> Scheme {
    Scheme {
        code: UK_RETAIL.into(),
        per_seller: false,
        blue_types: codes("380"),
        red_types: codes("381"),
        red_sign: RedSign::Negative,
        tolerance_totals: 0,
        tolerance_tax: 0,
        slips: false,
        voidable: false,
        deductible_vat_types: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{DOCUMENT, Kind, by_tag, tag};
    use crate::value;

    #[test]
    fn codes_fit_their_fields() {
        let kind = |tag| by_tag(DOCUMENT, tag).map_or(Kind::Flag, |field| field.kind);
        for scheme in all() {
            assert_eq!(value::check(kind(tag::SCHEME), scheme.code.as_bytes()), Ok(()));
            for code in scheme.blue_types.iter().chain(&scheme.red_types) {
                assert_eq!(value::check(kind(tag::TYPE_CODE), code.as_bytes()), Ok(()), "{code}");
            }
        }
        assert_eq!(en16931().blue_types.len(), 50);
        assert_eq!(en16931().red_types.len(), 13);
    }
}
