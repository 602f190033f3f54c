//! Adds affine points in every lane, many at once, with one inversion for all of them.
//!
//! An affine addition needs the inverse of the difference of two x. Montgomery's trick turns many
//! inversions into one and three multiplications each: multiply all differences up, invert the
//! product, and walk back. A multiplication costs so little in lanes that this beats any formula
//! without division: five multiplications and a square for an addition.
//!
//! A sum of many points is a tree: neighbours are added, then the sums of neighbours, and so on.
//! All additions of one level share one inversion, so a signature's 63 points take six levels and a
//! batch needs not be large.
//!
//! Two points of one x poison the shared product: it becomes zero, and who holds a key can make
//! that happen. Nothing is compared for it in the normal case. A product of zero says that it
//! happened, and in which lane; then that lane is searched, the lane's job is marked, and its two
//! points are replaced by ones that can be added. Marked jobs are settled elsewhere, one by one.
//! That costs the batch one more pass for each such signature, about what the signature itself
//! costs.

use super::field::Fe;
use super::invert::Invert;
use crate::simd::limbs::{MAX_LANES, Step, Vector};
use alloc::vec::Vec;

/// A point in each lane; x and y *tight*, but y may have signed limbs and be negative.
#[derive(Clone, Copy)]
pub(super) struct Point<V> {
    pub(super) x: Fe<V>,
    pub(super) y: Fe<V>,
}

impl<V: Vector> Point<V> {
    /// Finite stand-in coordinates whose only purpose is that differences are not zero.
    pub(super) fn blank(token: V::Token) -> Self {
        Self { x: Fe::one(token), y: Fe::one(token) }
    }
}

/// Chains of multiplications that do not wait for each other: one alone waits for its own results
/// most of the time, and the processor works on the others meanwhile.
pub(super) const CHAINS: usize = 4;

/// One addition: the places of both summands and of the sum.
#[derive(Clone, Copy)]
pub(super) struct Addition {
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) sum: usize,
}

/// The differences of x multiplied up, from the last to the first, in several chains: addition i
/// belongs to chain i mod [`CHAINS`]. What each is multiplied to goes to its place in `prefixes`,
/// and the products of the chains come back.
struct Differences<'a, V: Vector> {
    points: &'a [Point<V>],
    additions: &'a [Addition],
    prefixes: &'a mut [Fe<V>],
    one: Fe<V>,
}

impl<V: Vector> Step for Differences<'_, V> {
    type Output = [Fe<V>; CHAINS];

    #[inline(always)]
    fn run(self) -> [Fe<V>; CHAINS] {
        let mut products = [self.one; CHAINS];
        let additions = self.additions.chunks(CHAINS).rev();
        for (additions, prefixes) in additions.zip(self.prefixes.chunks_mut(CHAINS).rev()) {
            for (chain, product) in products.iter_mut().enumerate().take(additions.len()) {
                prefixes[chain] = *product;
                *product = product.mul(&difference(self.points, &additions[chain]));
            }
        }
        products
    }
}

/// The additions themselves, from the first to the last.
struct Additions<'a, V: Vector> {
    points: &'a mut [Point<V>],
    additions: &'a [Addition],
    prefixes: &'a [Fe<V>],
    /// Of the products of the chains.
    inverses: [Fe<V>; CHAINS],
}

impl<V: Vector> Step for Additions<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { points, additions, prefixes, mut inverses } = self;
        let (mut slopes, mut xs) = (inverses, inverses);
        for (additions, prefixes) in additions.chunks(CHAINS).zip(prefixes.chunks(CHAINS)) {
            let count = additions.len();
            for (chain, inverse) in inverses.iter_mut().enumerate().take(count) {
                slopes[chain] = inverse.mul(&prefixes[chain]);
                *inverse = inverse.mul(&difference(points, &additions[chain]));
            }
            for (slope, addition) in slopes.iter_mut().zip(additions) {
                let (p, q) = (&points[addition.a], &points[addition.b]);
                *slope = q.y.sub(&p.y).mul(slope);
            }
            for ((x, slope), addition) in xs.iter_mut().zip(&slopes).zip(additions) {
                *x = slope.square_sub(&points[addition.a].x, &points[addition.b].x);
            }
            for ((x, slope), addition) in xs.iter().zip(&slopes).zip(additions) {
                let p = &points[addition.a];
                let y = slope.mul_sub(&p.x.sub(x), &p.y);
                points[addition.sum] = Point { x: *x, y };
            }
        }
    }
}

#[inline(always)]
fn difference<V: Vector>(points: &[Point<V>], addition: &Addition) -> Fe<V> {
    points[addition.b].x.sub(&points[addition.a].x)
}

/// Adds points in place: all additions of one level. `marked` is told the place of the first
/// summand and the lane of every addition that cannot be done.
///
/// A sum may take the place of a summand of its own or of an earlier addition.
pub(super) fn add_all<V: Vector, I: Invert>(
    points: &mut [Point<V>],
    additions: &[Addition],
    prefixes: &mut Vec<Fe<V>>,
    mut marked: impl FnMut(usize, usize),
) {
    let Some(first) = points.first() else { return };
    let token = first.x.token();
    let one = Fe::one(token);
    if prefixes.len() < additions.len() {
        prefixes.resize(additions.len(), one);
    }
    let prefixes = &mut prefixes[..additions.len()];
    let inverses = loop {
        let products = V::enter(token, Differences { points, additions, prefixes, one });
        let product = products[1..].iter().fold(products[0], |all, one| all.times(one));
        let zeros = product.zeros();
        if zeros == 0 {
            break invert_all::<V, I>(&products);
        }
        for addition in additions {
            let equal = difference(points, addition).zeros() & zeros;
            for lane in (0..V::LANES).filter(|lane| equal >> lane & 1 == 1) {
                marked(addition.a, lane);
                points[addition.a].x.set_lane(lane, 0);
                points[addition.b].x.set_lane(lane, 1);
            }
        }
    };
    V::enter(token, Additions { points, additions, prefixes, inverses });
}

/// Sums `windows` points for each of `groups` groups, `points[window * groups + group]`, level by
/// level until no more than `enough` are left, and returns how many: they are the first
/// `groups` times so many points afterwards. `marked` is told group and lane.
pub(super) fn sum_windows<V: Vector, I: Invert>(
    points: &mut [Point<V>],
    (windows, enough): (usize, usize),
    groups: usize,
    prefixes: &mut Vec<Fe<V>>,
    mut marked: impl FnMut(usize, usize),
) -> usize {
    let mut additions = Vec::with_capacity(windows / 2 * groups);
    let mut left = windows;
    while left > enough {
        let pairs = left / 2;
        additions.clear();
        for sum in 0..pairs * groups {
            let a = sum + sum / groups * groups;
            additions.push(Addition { a, b: a + groups, sum });
        }
        add_all::<V, I>(points, &additions, prefixes, |place, lane| marked(place % groups, lane));
        if left % 2 == 1 {
            points.copy_within((left - 1) * groups..left * groups, pairs * groups);
        }
        left = left.div_ceil(2);
    }
    left
}

/// Inverts every lane of several elements with one inversion. No lane may be zero.
fn invert_all<V: Vector, I: Invert>(elements: &[Fe<V>; CHAINS]) -> [Fe<V>; CHAINS] {
    let mut inverses = *elements;
    let mut product = elements[0];
    for (inverse, element) in inverses.iter_mut().zip(elements).skip(1) {
        *inverse = product;
        product = product.times(element);
    }
    let mut inverse = invert_lanes::<V, I>(&product);
    for i in (1..CHAINS).rev() {
        inverses[i] = inverses[i].times(&inverse);
        inverse = inverse.times(&elements[i]);
    }
    inverses[0] = inverse;
    inverses
}

/// Inverts every lane with one inversion. No lane may be zero.
///
/// A vector times itself with its lanes moved on by half their number holds every product of two
/// lanes twice; moved on by a quarter next, and so on, until each lane holds the product of all.
/// Its inverse goes back the same way.
pub(super) fn invert_lanes<V: Vector, I: Invert>(fe: &Fe<V>) -> Fe<V> {
    let token = fe.token();
    let steps = V::LANES.ilog2() as usize;
    // What each step multiplied by.
    let mut moved = [*fe; MAX_LANES.ilog2() as usize];
    let mut product = *fe;
    for (step, moved) in moved.iter_mut().enumerate().take(steps) {
        *moved = product.rotate(V::LANES >> (step + 1));
        product = product.times(moved);
    }
    let number = product.reduced().store().map(|words| words[0]);
    let inverse = I::invert(&number).map(|word| V::splat(token, word));
    let mut inverse = Fe::unpack(&inverse).mend_inverse();
    for moved in moved[..steps].iter().rev() {
        inverse = inverse.times(moved);
    }
    inverse
}
