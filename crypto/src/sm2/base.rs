//! Multiplies the generator by a secret number, with a table, in constant time.
//!
//! The `sm2` crate has such a table too, but only where there is `std`. Ours is affine, which makes
//! each addition cheaper: 64 rows for the 64 digits of base 16, each holding the multiples 1 to 8
//! of 16^row times the generator; digits lie in -8..=8, so a row of eight serves sixteen. It is
//! made once, on first use (about 37 KB, about a millisecond).
//!
//! Invariants
//! - Which rows are read and what is done with them does not depend on the number: each row is read
//!   whole, the digit selects by mask.

use ::sm2::elliptic_curve::point::BatchNormalize;
use ::sm2::elliptic_curve::subtle::{ConditionallySelectable, ConstantTimeEq};
use ::sm2::elliptic_curve::{Group, PrimeField};
use ::sm2::{AffinePoint, ProjectivePoint, Scalar};
use alloc::boxed::Box;
use alloc::vec::Vec;
use once_cell::race::OnceBox;
use zeroize::Zeroizing;

const ROWS: usize = 64;

type Table = Vec<[AffinePoint; 8]>;

static TABLE: OnceBox<Table> = OnceBox::new();

fn build() -> Box<Table> {
    let mut row = ProjectivePoint::GENERATOR;
    let mut points = Vec::with_capacity(ROWS * 8);
    for _ in 0..ROWS {
        let mut multiple = row;
        for _ in 0..8 {
            points.push(multiple);
            multiple += row;
        }
        // The eighth multiple, doubled, is the next row's first.
        row = points[points.len() - 1].double();
    }
    let affine: Vec<AffinePoint> = ProjectivePoint::batch_normalize(points.as_slice());
    Box::new(affine.as_chunks::<8>().0.to_vec())
}

/// The digits of `k` in base 16, least first, each in -8..=7. The last one keeps its carry: it is
/// at most 8 if `k` is below 2^255.
fn digits(k: &Scalar) -> Zeroizing<[i8; ROWS]> {
    let bytes = Zeroizing::new(<[u8; 32]>::from(k.to_repr()));
    let mut digits = Zeroizing::new([0i8; ROWS]);
    let mut carry = 0;
    for i in 0..ROWS {
        let nibble = (bytes[31 - i / 2] >> (4 * (i % 2)) & 15) as i8 + carry;
        // At the top the carry has nowhere to go, and stays.
        carry = if i + 1 < ROWS { (nibble + 8) >> 4 } else { 0 };
        digits[i] = nibble - (carry << 4);
    }
    digits
}

/// `k` times the generator.
pub(super) fn multiply(k: &Scalar) -> ProjectivePoint {
    // Of k and n-k one is below 2^255; taking that keeps the top digit at 8 or below.
    let bytes = Zeroizing::new(<[u8; 32]>::from(k.to_repr()));
    let negate = (bytes[0] >> 7).into();
    let small = Zeroizing::new(Scalar::conditional_select(k, &-*k, negate));
    let mut sum = ProjectivePoint::IDENTITY;
    for (row, digit) in TABLE.get_or_init(build).iter().zip(digits(&small).iter()) {
        let sign = digit >> 7;
        let magnitude = ((digit ^ sign) - sign) as u8;
        let mut point = AffinePoint::IDENTITY;
        for (multiple, candidate) in (1u8..).zip(row) {
            point.conditional_assign(candidate, magnitude.ct_eq(&multiple));
        }
        let negative = -point;
        point.conditional_assign(&negative, ((sign & 1) as u8).into());
        sum += point;
    }
    ProjectivePoint::conditional_select(&sum, &-sum, negate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplies_as_the_curve_crate_does() {
        let mut power = Scalar::ONE;
        let check = |k: Scalar| {
            let expected = (ProjectivePoint::GENERATOR * k).to_affine();
            assert_eq!(multiply(&k).to_affine(), expected, "{k:?}");
        };
        check(Scalar::ZERO);
        for small in 1..=40u64 {
            check(Scalar::from(small));
            check(-Scalar::from(small));
        }
        for _ in 0..256 {
            for near in [power - Scalar::ONE, power, power + Scalar::ONE, -power] {
                check(near);
            }
            power += power;
        }
        let mut k = Scalar::from(3u64);
        for _ in 0..200 {
            k = k * k + Scalar::from(7u64);
            check(k);
        }
    }
}
