//! Holds the multiples of a point that verification adds up, one cache line a point.
//!
//! For windows of `width` bits: row i holds the odd multiples 1, 3, .., 2^width - 1 of
//! 2^(width i) P. A multiplier's digit picks one of the row or its negative.

use super::super::PublicKey;
use super::field::Fe;
use super::invert::Fast;
use super::jacobian::{Jacobian, doublings, odd_multiples};
use super::scalar::{from_bytes, windows};
use super::sum::Point;
use crate::simd::limbs::{MAX_LANES, Step, Vector, Words, Work};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use once_cell::race::OnceBox;

/// Bits of a window of a key's table: 43 rows of 32 points, 86 KB.
pub(super) const KEY_WIDTH: usize = 6;
/// Bits of a window of the generator's table.
pub(super) const BASE_WIDTH: usize = 13;
/// Bits of a window of the generator's table for secret multipliers, which is read whole.
pub(super) const SECRET_WIDTH: usize = 6;

/// An affine point, x and then y, both in Montgomery form below p, least word first.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [u64; 8]);

/// The rows of one point.
pub(super) struct Table {
    width: usize,
    lines: Vec<Line>,
}

impl Table {
    fn zero(width: usize) -> Self {
        Self { width, lines: vec![Line([0; 8]); windows(width) << (width - 1)] }
    }

    /// Of a table of windows of `WIDTH` bits.
    #[inline(always)]
    pub(super) fn line<const WIDTH: usize>(&self, window: usize, index: usize) -> &Line {
        &self.lines[(window << (WIDTH - 1)) + index]
    }
}

/// A table for one public key. It never changes; share it with an `Arc`.
pub struct KeyTable {
    key: PublicKey,
    pub(super) table: Table,
}

impl KeyTable {
    /// The key that the table belongs to.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The memory that a table takes, in bytes.
    #[must_use]
    pub const fn bytes() -> usize {
        size_of::<Self>() + (windows(KEY_WIDTH) << (KEY_WIDTH - 1)) * size_of::<Line>()
    }
}

#[cfg(test)]
impl KeyTable {
    pub(super) fn same_points(&self, other: &Self) -> bool {
        let lines = |table: &Self| table.table.lines.iter().map(|line| line.0).collect::<Vec<_>>();
        lines(self) == lines(other)
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyTable").field(&self.key).finish()
    }
}

/// The affine point of a key in Montgomery form, a key a lane; the last key fills up.
#[inline(always)]
pub(super) fn load_keys<'a, V: Vector>(
    token: V::Token,
    key: impl Fn(usize) -> &'a PublicKey,
) -> Point<V> {
    let (mut x, mut y) = ([[0; MAX_LANES]; 4], [[0; MAX_LANES]; 4]);
    for lane in 0..V::LANES {
        let bytes = key(lane).to_uncompressed();
        for (words, from) in [(&mut x, 1), (&mut y, 33)] {
            let mut number = [0; 32];
            number.copy_from_slice(&bytes[from..from + 32]);
            for (word, value) in words.iter_mut().zip(from_bytes(&number)) {
                word[lane] = value;
            }
        }
    }
    Point { x: Fe::load(token, &x).to_montgomery(), y: Fe::load(token, &y).to_montgomery() }
}

/// Fills tables of one width, a table a lane.
#[inline(always)]
fn fill<V: Vector>(token: V::Token, point: &Point<V>, tables: &mut [Table]) {
    let Some(width) = tables.first().map(|table| table.width) else { return };
    let mut power = [Jacobian::new(token, point)];
    let powers = doublings(&mut power, width * windows(width));
    let points = odd_multiples::<V, Fast>(&powers, width);
    let points = &points[..windows(width) << (width - 1)];
    V::enter(token, Store { points, tables });
}

/// Writes points into tables, a table a lane.
struct Store<'a, V> {
    points: &'a [Point<V>],
    tables: &'a mut [Table],
}

impl<V: Vector> Step for Store<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (place, point) in self.points.iter().enumerate() {
            let (x, y) = (point.x.canonical().store(), point.y.canonical().store());
            for (lane, table) in self.tables.iter_mut().enumerate() {
                let line = &mut table.lines[place].0;
                for i in 0..4 {
                    line[i] = x[i][lane];
                    line[4 + i] = y[i][lane];
                }
            }
        }
    }
}

/// Builds the tables of some keys.
pub(super) struct Build<'a>(pub(super) &'a [&'a PublicKey]);

impl Work for Build<'_> {
    type Output = Vec<KeyTable>;

    #[inline(always)]
    fn run<V: Vector>(self, token: V::Token) -> Vec<KeyTable> {
        let mut built = Vec::with_capacity(self.0.len());
        for keys in self.0.chunks(V::LANES) {
            let point = load_keys::<V>(token, |lane| keys[lane.min(keys.len() - 1)]);
            let mut tables: Vec<Table> = Vec::new();
            for _ in keys {
                tables.push(Table::zero(KEY_WIDTH));
            }
            fill::<V>(token, &point, &mut tables);
            for (key, table) in keys.iter().zip(tables) {
                built.push(KeyTable { key: (*key).clone(), table });
            }
        }
        built
    }
}

fn generator(width: usize) -> Table {
    let key = PublicKey::generator();
    let mut tables = vec![Table::zero(width)];
    fill::<Words<1>>((), &load_keys((), |_| &key), &mut tables);
    tables.remove(0)
}

/// The generator's table for public multipliers, made on first use.
pub(super) fn base() -> &'static Table {
    static TABLE: OnceBox<Table> = OnceBox::new();
    TABLE.get_or_init(|| Box::new(generator(BASE_WIDTH)))
}

/// A row of the table for secret multipliers: x and y in limbs.
pub(super) type SecretRow = [[[u64; 5]; 2]; 1 << (SECRET_WIDTH - 1)];

/// The generator's table for secret multipliers, made on first use.
pub(super) fn secret_base() -> &'static [SecretRow] {
    static TABLE: OnceBox<Vec<SecretRow>> = OnceBox::new();
    TABLE.get_or_init(|| {
        let table = generator(SECRET_WIDTH);
        let rows = table.lines.as_chunks::<{ 1 << (SECRET_WIDTH - 1) }>().0;
        Box::new(
            rows.iter()
                .map(|row| row.map(|line| [limbs(&line.0[..4]), limbs(&line.0[4..])]))
                .collect(),
        )
    })
}

/// The limbs of a number.
fn limbs(number: &[u64]) -> [u64; 5] {
    let words: [Words<1>; 4] = core::array::from_fn(|i| Words::splat((), number[i]));
    Fe::unpack(&words).limbs_of_lane(0)
}
