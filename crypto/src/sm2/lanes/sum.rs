//! Adds affine points in every lane, many at once, with one inversion for all of them.
//!
//! An affine addition needs the inverse of the difference of two x. Montgomery's trick turns many
//! inversions into one and three multiplications each: multiply all differences up, invert the
//! product, and walk back. A multiplication costs so little in lanes that this beats any formula
//! without division: five multiplications and a square for an addition.
//!
//! A sum of many points is a tree: neighbours are added, then the sums of neighbours, and so on.
//! All additions of one level share one inversion, so a signature's 65 points take seven levels and
//! a batch needs not be large.
//!
//! Two points of one x poison the shared product: it becomes zero, and who holds a key can make
//! that happen. Nothing is compared for it in the normal case. A product of zero says that it
//! happened, and in which lane; then that lane is searched, the lane's job is marked, and its two
//! points are replaced by ones that can be added. Marked jobs are settled elsewhere, one by one.
//! That costs the batch one more pass for each such signature, about what the signature itself
//! costs.

use super::field::Fe;
use super::invert::Invert;
use crate::simd::limbs::{MAX_LANES, Step, Vector, Words};
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

/// One addition: the places of both summands and of the sum.
#[derive(Clone, Copy)]
pub(super) struct Addition {
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) sum: usize,
}

/// The differences of x multiplied up, from the last to the first; what each is multiplied to goes
/// to `prefixes`, and the whole product comes back.
struct Differences<'a, V: Vector> {
    points: &'a [Point<V>],
    additions: &'a [Addition],
    prefixes: &'a mut Vec<Fe<V>>,
    one: Fe<V>,
}

impl<V: Vector> Step for Differences<'_, V> {
    type Output = Fe<V>;

    #[inline(always)]
    fn run(self) -> Fe<V> {
        let mut product = self.one;
        for addition in self.additions.iter().rev() {
            self.prefixes.push(product);
            let (p, q) = (&self.points[addition.a], &self.points[addition.b]);
            product = product.mul(&q.x.sub(&p.x));
        }
        product
    }
}

/// The additions themselves, from the first to the last.
struct Additions<'a, V: Vector> {
    points: &'a mut [Point<V>],
    additions: &'a [Addition],
    prefixes: &'a [Fe<V>],
    inverse: Fe<V>,
}

impl<V: Vector> Step for Additions<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let mut inverse = self.inverse;
        for (addition, prefix) in self.additions.iter().zip(self.prefixes.iter().rev()) {
            let (p, q) = (self.points[addition.a], self.points[addition.b]);
            let this = inverse.mul(prefix);
            inverse = inverse.mul(&q.x.sub(&p.x));
            self.points[addition.sum] = add_with_inverse(&p, &q, &this);
        }
    }
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
    let inverse = loop {
        prefixes.clear();
        prefixes.reserve(additions.len());
        let one = Fe::one(token);
        let product = V::enter(token, Differences { points, additions, prefixes, one });
        let zeros = product.zeros();
        if zeros == 0 {
            break invert_lanes::<V, I>(&product);
        }
        for addition in additions {
            let Addition { a, b, .. } = *addition;
            let equal = points[b].x.sub(&points[a].x).zeros() & zeros;
            for lane in (0..V::LANES).filter(|lane| equal >> lane & 1 == 1) {
                marked(a, lane);
                points[a].x.set_lane(lane, 0);
                points[b].x.set_lane(lane, 1);
            }
        }
    };
    V::enter(token, Additions { points, additions, prefixes, inverse });
}

#[inline(always)]
fn add_with_inverse<V: Vector>(p: &Point<V>, q: &Point<V>, inverse: &Fe<V>) -> Point<V> {
    let slope = q.y.sub(&p.y).mul(inverse);
    let x = slope.square_sub(&p.x, &q.x);
    let y = slope.mul_sub(&p.x.sub(&x), &p.y);
    Point { x, y }
}

/// Sums `windows` points for each of `groups` groups: `points[window * groups + group]`. The sums
/// are the first `groups` points afterwards. `marked` is told group and lane.
pub(super) fn sum_windows<V: Vector, I: Invert>(
    points: &mut [Point<V>],
    windows: usize,
    groups: usize,
    prefixes: &mut Vec<Fe<V>>,
    mut marked: impl FnMut(usize, usize),
) {
    let mut additions = Vec::with_capacity(windows / 2 * groups);
    let mut left = windows;
    while left > 1 {
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
}

/// Inverts every lane with one inversion. No lane may be zero.
pub(super) fn invert_lanes<V: Vector, I: Invert>(fe: &Fe<V>) -> Fe<V> {
    let numbers = fe.reduced().store();
    let inverses = invert_numbers::<I>(&numbers, V::LANES);
    Fe::load(fe.token(), &inverses)
}

#[inline(never)]
fn invert_numbers<I: Invert>(
    numbers: &[[u64; MAX_LANES]; 4],
    lanes: usize,
) -> [[u64; MAX_LANES]; 4] {
    type One = Words<1>;
    let single = |lane: usize| {
        let words: [One; 4] = core::array::from_fn(|i| One::splat((), numbers[i][lane]));
        Fe::unpack(&words)
    };
    let mut product = Fe::<One>::one(());
    let mut prefixes = [product; MAX_LANES];
    for (lane, prefix) in prefixes.iter_mut().enumerate().take(lanes) {
        *prefix = product;
        product = product.times(&single(lane));
    }
    let mut inverse = invert_one::<I>(&product);
    let mut inverses = [[0; MAX_LANES]; 4];
    for lane in (0..lanes).rev() {
        let this = inverse.times(&prefixes[lane]).reduced().store();
        inverse = inverse.times(&single(lane));
        for (words, word) in inverses.iter_mut().zip(this) {
            words[lane] = word[0];
        }
    }
    inverses
}

fn invert_one<I: Invert>(fe: &Fe<Words<1>>) -> Fe<Words<1>> {
    let number = fe.reduced().store().map(|words| words[0]);
    let words: [Words<1>; 4] = I::invert(&number).map(|word| Words::splat((), word));
    Fe::unpack(&words).mend_inverse()
}
