//! Inverts one number modulo p, in two ways: quickly, and in a time that says nothing.

use super::scalar::{Number, from_bytes, to_bytes};
use ::sm2::U256;
use ::sm2::elliptic_curve::bigint::Odd;

/// How to invert modulo p. The number is in 1..p.
pub(super) trait Invert {
    fn invert(number: &Number) -> Number;
}

/// For public numbers.
pub(super) struct Fast;
/// For secret ones.
pub(super) struct ConstantTime;

const P: Odd<U256> =
    Odd::<U256>::from_be_hex("fffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffff");

impl Invert for Fast {
    fn invert(number: &Number) -> Number {
        let number = U256::from_be_slice(&to_bytes(number));
        let inverse = Option::<U256>::from(number.invert_odd_mod_vartime(&P));
        inverse.map_or([0; 4], |inverse| from_bytes(&inverse.to_be_bytes().into()))
    }
}

impl Invert for ConstantTime {
    fn invert(number: &Number) -> Number {
        let inverse = U256::from_be_slice(&to_bytes(number)).invert_odd_mod(&P);
        from_bytes(&inverse.to_inner_unchecked().to_be_bytes().into())
    }
}
