//! Doubles and adds points without division, for multipliers of points that have no table.
//!
//! A point (X, Y, Z) stands for (X / Z^2, Y / Z^3). An addition of two points of one x yields
//! Z = 0, and Z stays 0 from there on; so the last Z says whether any step failed.
//!
//! Doublings and additions take several points at a time, and each step of a formula is done for all
//! of them before the next one: a formula's steps wait for each other, those of different points do
//! not.
//!
//! Invariants
//! - X and Y are *tight*, Z is below 2.9 p.

use super::field::Fe;
use super::invert::Invert;
use super::sum::{Addition, CHAINS, Point, add_all, invert_lanes};
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
}

/// 2^`times` times each point.
pub(super) fn double_times<V: Vector>(points: &mut [Jacobian<V>], times: usize) {
    for points in points.chunks_mut(CHAINS) {
        V::enter(points[0].x.token(), Double(points, times));
    }
}

/// P, 2 P, 4 P, .., `count` of them, of each point, one point's after the other's. The points are
/// used up.
pub(super) fn doublings<V: Vector>(points: &mut [Jacobian<V>], count: usize) -> Vec<Jacobian<V>> {
    let Some(first) = points.first() else { return Vec::new() };
    let mut all = vec![*first; points.len() * count];
    for i in 0..count {
        for (powers, point) in all.chunks_exact_mut(count).zip(&*points) {
            powers[i] = *point;
        }
        if i + 1 < count {
            double_times(points, 1);
        }
    }
    all
}

/// Adds to each point its summand, or the negative where the sign beside it is all ones.
pub(super) fn add_each<V: Vector>(points: &mut [Jacobian<V>], summands: &[(Point<V>, V)]) {
    for (points, summands) in points.chunks_mut(CHAINS).zip(summands.chunks(CHAINS)) {
        V::enter(points[0].x.token(), Add(points, summands));
    }
}

/// Twice each of at most [`CHAINS`] points, so many times: 4 M, 3 S and a half.
struct Double<'a, V>(&'a mut [Jacobian<V>], usize);

impl<V: Vector> Step for Double<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self(points, times) = self;
        let mut gammas = [points[0].x; CHAINS];
        let (mut betas, mut alphas) = (gammas, gammas);
        for _ in 0..times {
            for ((gamma, alpha), p) in gammas.iter_mut().zip(&mut alphas).zip(&*points) {
                // For now it is delta.
                *alpha = p.z.square();
                *gamma = p.y.square();
            }
            for ((beta4, gamma), p) in betas.iter_mut().zip(&gammas).zip(&mut *points) {
                *beta4 = p.x.mul_shl(gamma, 2);
                p.z = p.y.mul_double(&p.z);
            }
            for (alpha, p) in alphas.iter_mut().zip(&*points) {
                *alpha = p.x.sub(alpha).mul_triple(&p.x.add(alpha));
            }
            for ((alpha, beta4), p) in alphas.iter().zip(&betas).zip(&mut *points) {
                p.x = alpha.square_sub_double(beta4);
            }
            for ((p, alpha), (beta4, gamma)) in
                points.iter_mut().zip(&alphas).zip(betas.iter().zip(&gammas))
            {
                p.y = alpha.mul_add(&beta4.sub(&p.x), &gamma.minus_eight_times(), gamma);
            }
        }
    }
}

/// The sums of at most [`CHAINS`] points with affine ones: 8 M and 3 S.
struct Add<'a, V>(&'a mut [Jacobian<V>], &'a [(Point<V>, V)]);

impl<V: Vector> Step for Add<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self(points, summands) = self;
        let mut hs = [points[0].x; CHAINS];
        let (mut rs, mut cubes, mut vs) = (hs, hs, hs);
        for (square, p) in hs.iter_mut().zip(&*points) {
            // For now it is the square of Z.
            *square = p.z.square();
        }
        for ((r, square), (p, (summand, _))) in
            rs.iter_mut().zip(&hs).zip(points.iter().zip(summands))
        {
            *r = summand.y.mul(&p.z.mul(square));
        }
        for ((h, r), (p, (summand, sign))) in
            hs.iter_mut().zip(&mut rs).zip(points.iter().zip(summands))
        {
            *h = summand.x.mul(h).sub(&p.x);
            *r = r.negate_if(*sign).sub(&p.y);
        }
        for ((cube, v), (h, p)) in cubes.iter_mut().zip(&mut vs).zip(hs.iter().zip(&mut *points)) {
            // For now it is the square of h.
            *cube = h.square();
            p.z = p.z.mul(h);
            *v = p.x.mul(cube);
        }
        for (cube, h) in cubes.iter_mut().zip(&hs) {
            *cube = h.mul(cube);
        }
        for ((r, cube), (v, p)) in rs.iter().zip(&cubes).zip(vs.iter().zip(&mut *points)) {
            p.x = r.square_sub_twice(cube, v);
        }
        for ((r, cube), (v, p)) in rs.iter().zip(&cubes).zip(vs.iter().zip(points)) {
            p.y = r.mul_add(&v.sub(&p.x), &p.y.neg(), cube);
        }
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
