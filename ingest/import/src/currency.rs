//! Knows how many decimals a currency has, and reads amounts of it (ISO 4217).
//!
//! Only the currencies whose exponent is not 2 are listed; the code is checked for its shape alone,
//! so that a currency that comes into being tomorrow needs no new table unless it is unusual.

use crate::error::ImportError;
use crate::tree::Element;
use piaogen_verify::value::parse_decimal;

const NO_DECIMALS: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
const THREE_DECIMALS: &str = "BHD IQD JOD KWD LYD OMR TND";
const FOUR_DECIMALS: &str = "CLF UYW";

/// A currency and its number of decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Currency {
    pub(crate) code: [u8; 3],
    pub(crate) exponent: u8,
}

impl Currency {
    /// The currency with this code, if it has the shape of one.
    pub(crate) fn of(code: &str) -> Option<Currency> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        if !bytes.iter().all(u8::is_ascii_uppercase) {
            return None;
        }
        let listed = |list: &str| list.split(' ').any(|listed| listed == code);
        let exponent = match () {
            () if listed(NO_DECIMALS) => 0,
            () if listed(THREE_DECIMALS) => 3,
            () if listed(FOUR_DECIMALS) => 4,
            () => 2,
        };
        Some(Currency { code: bytes, exponent })
    }

    /// The code as text.
    pub(crate) fn name(&self) -> &str {
        std::str::from_utf8(&self.code).unwrap_or("???")
    }

    /// An amount in minor units. Decimals beyond those of the currency must be zeros.
    pub(crate) fn amount(&self, element: Element<'_>) -> Result<i128, ImportError> {
        self.check_named(element)?;
        let (mantissa, scale) = parse_decimal(element.text())
            .ok_or_else(|| element.malformed("is no decimal number of at most 18 decimals"))?;
        let too_large = || element.malformed("has more than 30 digits in minor units");
        if scale <= self.exponent {
            let factor = 10i128.pow(u32::from(self.exponent - scale));
            return mantissa.checked_mul(factor).filter(fits).ok_or_else(too_large);
        }
        let divisor = 10i128.pow(u32::from(scale - self.exponent));
        if mantissa % divisor != 0 {
            let (name, exponent) = (self.name(), self.exponent);
            return Err(element.malformed(format!(
                "has {scale} decimals, and amounts in {name} have {exponent}"
            )));
        }
        Ok(mantissa / divisor)
    }

    /// Uses the attribute `currencyID`, which must name this currency where it is present.
    pub(crate) fn check_named(&self, element: Element<'_>) -> Result<(), ImportError> {
        element.use_attribute("currencyID");
        match element.attribute("currencyID") {
            Some(other) if other != self.name() => Err(element.malformed(format!(
                "has currencyID {other:?}, and the currency of the invoice is {:?}",
                self.name()
            ))),
            _ => Ok(()),
        }
    }
}

fn fits(amount: &i128) -> bool {
    amount.abs() < piaogen_verify::value::AMOUNT_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Tree, Vocabulary};

    #[test]
    fn exponents() {
        for (code, exponent) in [("JPY", 0), ("KWD", 3), ("CLF", 4), ("EUR", 2), ("CNY", 2)] {
            assert_eq!(Currency::of(code).map(|currency| currency.exponent), Some(exponent));
        }
        assert_eq!(Currency::of("eur"), None);
        assert_eq!(Currency::of("EURO"), None);
    }

    #[test]
    fn amounts_are_exact_or_refused() {
        let read = |code: &str, text: &str| {
            let tree = Tree::parse(&format!("<a>{text}</a>"), Vocabulary::Plain).expect("XML");
            Currency::of(code).expect("a currency").amount(tree.root()).ok()
        };
        for (code, text, expected) in [
            ("EUR", "1.5", Some(150)),
            ("EUR", "-1.500", Some(-150)),
            ("EUR", "1.505", None),
            ("JPY", "100.00", Some(100)),
            ("JPY", "100.5", None),
            ("KWD", "1.234", Some(1234)),
            ("EUR", "1e3", None),
            ("EUR", "1,5", None),
            ("EUR", "99999999999999999999999999999", None),
        ] {
            assert_eq!(read(code, text), expected, "{code} {text}");
        }
    }
}
