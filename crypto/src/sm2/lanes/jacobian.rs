//! Doubles and adds points without division, for multipliers of points that have no table.
//!
//! A point (X, Y, Z) stands for (X / Z^2, Y / Z^3). An addition of two points of one x yields
//! Z = 0, and Z stays 0 from there on; so the last Z says whether any step failed.
//!
//! Invariants
//! - X and Y are *tight*, Z is below 2.9 p.

use super::field::Fe;
use super::invert::Invert;
use super::sum::{Addition, Point, add_all, invert_lanes};
use crate::simd::limbs::{Step, Vector};
use alloc::vec;
use alloc::vec::Vec;

/// A point in each lane.
#[derive(Clone, Copy)]
pub(super) struct Jacobian<V> {
    pub(super) x: Fe<V>,
    pub(super) y: Fe<V>,
    pub(super) z: Fe<V>,
}

impl<V: Vector> Jacobian<V> {
    pub(super) fn new(token: V::Token, point: &Point<V>) -> Self {
        // y may be negative: 4 p more, and reduced again.
        let y = point.y.sub(&Fe::splat(token, &[0; 5])).reduced();
        Self { x: point.x, y, z: Fe::one(token) }
    }

    /// 2^`times` times the point.
    pub(super) fn double_times(&self, times: usize) -> Self {
        V::enter(self.x.token(), Double(*self, times))
    }

    /// The sum with `point`, or with its negative where `sign` is all ones.
    pub(super) fn plus(&self, point: &Point<V>, sign: V) -> Self {
        V::enter(sign.token(), Add(self, point, sign))
    }

    /// Twice the point: 4 M, 3 S and a half.
    #[inline(always)]
    fn double(&self) -> Self {
        let delta = self.z.square();
        let gamma = self.y.square();
        let beta4 = self.x.mul_shl(&gamma, 2);
        let alpha = self.x.sub(&delta).mul_triple(&self.x.add(&delta));
        let x = alpha.square_sub_double(&beta4);
        let y = alpha.mul_add(&beta4.sub(&x), &gamma.minus_eight_times(), &gamma);
        let z = self.y.mul_double(&self.z);
        Self { x, y, z }
    }

    /// The sum with an affine point: 8 M and 3 S.
    #[inline(always)]
    fn add(&self, point: &Point<V>, sign: V) -> Self {
        let zz = self.z.square();
        let u = point.x.mul(&zz);
        let s = point.y.mul(&self.z.mul(&zz));
        let h = u.sub(&self.x);
        let r = s.negate_if(sign).sub(&self.y);
        let hh = h.square();
        let hhh = h.mul(&hh);
        let v = self.x.mul(&hh);
        let x = r.square_sub_twice(&hhh, &v);
        let y = r.mul_add(&v.sub(&x), &self.y.neg(), &hhh);
        Self { x, y, z: self.z.mul(&h) }
    }
}

struct Double<V>(Jacobian<V>, usize);

impl<V: Vector> Step for Double<V> {
    type Output = Jacobian<V>;

    #[inline(always)]
    fn run(self) -> Jacobian<V> {
        let mut point = self.0;
        for _ in 0..self.1 {
            point = point.double();
        }
        point
    }
}

struct Add<'a, V>(&'a Jacobian<V>, &'a Point<V>, V);

impl<V: Vector> Step for Add<'_, V> {
    type Output = Jacobian<V>;

    #[inline(always)]
    fn run(self) -> Jacobian<V> {
        self.0.add(self.1, self.2)
    }
}

/// The affine form, given 1 / Z.
struct Affine<'a, V>(&'a Jacobian<V>, &'a Fe<V>);

impl<V: Vector> Step for Affine<'_, V> {
    type Output = Point<V>;

    #[inline(always)]
    fn run(self) -> Point<V> {
        let square = self.1.square();
        let x = self.0.x.mul(&square).canonical();
        Point { x, y: self.0.y.mul(&square.mul(self.1)).canonical() }
    }
}

/// The affine forms. No Z may be zero.
pub(super) fn normalize<V: Vector, I: Invert>(points: &[Jacobian<V>]) -> Vec<Point<V>> {
    let Some(first) = points.first() else { return Vec::new() };
    let mut product = Fe::one(first.x.token());
    let mut prefixes = Vec::with_capacity(points.len());
    for point in points {
        prefixes.push(product);
        product = product.times(&point.z);
    }
    let mut inverse = invert_lanes::<V, I>(&product);
    let mut affine = vec![Point::blank(first.x.token()); points.len()];
    for i in (0..points.len()).rev() {
        let this = inverse.times(&prefixes[i]);
        inverse = inverse.times(&points[i].z);
        affine[i] = V::enter(this.token(), Affine(&points[i], &this));
    }
    affine
}

/// The odd multiples 1, 3, .., 2^width - 1 of each base B, given B, 2 B, 4 B, .., 2^(width-1) B of
/// each base: 2^(width-1) points for each base, one base after the other, then other points.
///
/// No two summands have the same x: the multiples are different and small, and the order is prime.
pub(super) fn odd_multiples<V: Vector, I: Invert>(
    powers: &[Jacobian<V>],
    width: usize,
) -> Vec<Point<V>> {
    let Some(first) = powers.first() else { return Vec::new() };
    let (bases, row) = (powers.len() / width, 1 << (width - 1));
    let mut points = vec![Point::blank(first.x.token()); bases * row];
    points.extend(normalize::<V, I>(powers));
    for base in 0..bases {
        points[base * row] = points[bases * row + base * width];
    }
    let (mut prefixes, mut additions) = (Vec::new(), Vec::new());
    for level in 1..width {
        let known = 1 << (level - 1);
        additions.clear();
        for base in 0..bases {
            for a in base * row..base * row + known {
                let b = bases * row + base * width + level;
                additions.push(Addition { a, b, sum: a + known });
            }
        }
        add_all::<V, I>(&mut points, &additions, &mut prefixes, |_, _| {});
    }
    points
}
