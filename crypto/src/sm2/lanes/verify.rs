//! Verifies signatures in lanes: those of keys that have a table, and those of any key.
//!
//! Both compute s G + t P and compare its x with what r and e demand. What does not fit the lanes
//! (two points of one x in some addition, or an x of n or more, which nobody has ever seen) is
//! marked and settled by the portable code; the rest of the batch does not notice.

use super::super::{PublicKey, Signature, verify_digest};
use super::field::Fe;
use super::invert::Fast;
use super::jacobian::{Jacobian, odd_multiples};
use super::scalar::{self, Number, Odd};
use super::sum::{Point, sum_windows};
use super::table::{BASE_WIDTH, KEY_WIDTH, KeyTable, Table, base, load_keys};
use crate::Digest;
use crate::simd::limbs::{MAX_LANES, Step, Vector, Work, prefetch};
use alloc::vec::Vec;

/// Bits of a window for keys without a table.
const WIDTH: usize = 5;

/// Signatures whose points are added together: more share an inversion, fewer stay in the cache.
const KNOWN_CHUNK: usize = 128;
const UNKNOWN_CHUNK: usize = 128;

/// One verification, with e given.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) key: &'a PublicKey,
    pub(crate) e: &'a Digest,
    pub(crate) signature: &'a Signature,
    /// The key's table, if it has one.
    pub(crate) table: Option<&'a KeyTable>,
}

/// A verification whose r and s are in range, and t not zero.
struct Ready<'a> {
    /// Its place in the batch.
    place: usize,
    key: &'a PublicKey,
    table: Option<&'a Table>,
    s: Odd,
    t: Odd,
    /// x(s G + t P) must be this, modulo n.
    x: Number,
}

impl<'a> Ready<'a> {
    fn new(place: usize, item: &Item<'a>) -> Option<Self> {
        let r = scalar::from_bytes(item.signature.r());
        let s = scalar::from_bytes(item.signature.s());
        if !scalar::in_range(&r) || !scalar::in_range(&s) {
            return None;
        }
        let t = scalar::add_mod(&r, &s);
        scalar::in_range(&t).then(|| Self {
            place,
            key: item.key,
            // A table of another key would be a mistake of the caller; it must not forge anything.
            table: item.table.filter(|table| table.key() == item.key).map(|table| &table.table),
            s: Odd::new(&s),
            t: Odd::new(&t),
            x: scalar::sub_mod(&r, &scalar::reduce(item.e)),
        })
    }
}

/// Only jobs with a table come to where this is called.
fn key_table<'a, 'b>(job: &'b Ready<'a>) -> (&'a Table, &'b Odd) {
    (job.table.unwrap_or(base()), &job.t)
}

fn base_table<'a, 'b>(job: &'b Ready<'a>) -> (&'a Table, &'b Odd) {
    (base(), &job.s)
}

/// Verifies a batch and writes each verdict.
pub(super) struct Verify<'a, 'b> {
    pub(super) items: &'a [Item<'a>],
    pub(super) out: &'b mut [bool],
}

impl Work for Verify<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, token: V::Token) {
        let Self { items, out } = self;
        let (mut known, mut unknown, mut unsettled) = (Vec::new(), Vec::new(), Vec::new());
        for (place, item) in items.iter().enumerate() {
            out[place] = false;
            match Ready::new(place, item) {
                None => {}
                Some(ready) if scalar::is_ambiguous(&ready.x) => unsettled.push(place),
                Some(ready) if ready.table.is_some() => known.push(ready),
                Some(ready) => unknown.push(ready),
            }
        }
        let mut chunk = Chunk::<V>::new(token);
        for jobs in known.chunks(KNOWN_CHUNK) {
            chunk.known(jobs);
            chunk.settle(jobs, out, &mut unsettled);
        }
        for jobs in unknown.chunks(UNKNOWN_CHUNK) {
            chunk.unknown(jobs);
            chunk.settle(jobs, out, &mut unsettled);
        }
        for place in unsettled {
            let item = &items[place];
            out[place] = verify_digest(item.key, item.e, item.signature);
        }
    }
}

/// The work space of one chunk after the other.
struct Chunk<V: Vector> {
    token: V::Token,
    points: Vec<Point<V>>,
    prefixes: Vec<Fe<V>>,
    /// A bit for each lane of each group: the verdict.
    equal: Vec<u32>,
    /// A bit for each lane of each group: whether the verdict means nothing.
    marked: Vec<u32>,
}

impl<V: Vector> Chunk<V> {
    fn new(token: V::Token) -> Self {
        let (points, prefixes) = (Vec::new(), Vec::new());
        Self { token, points, prefixes, equal: Vec::new(), marked: Vec::new() }
    }

    fn settle(&self, jobs: &[Ready<'_>], out: &mut [bool], unsettled: &mut Vec<usize>) {
        for (i, job) in jobs.iter().enumerate() {
            let (group, lane) = (i / V::LANES, i % V::LANES);
            out[job.place] = self.equal[group] >> lane & 1 == 1;
            if self.marked[group] >> lane & 1 == 1 {
                unsettled.push(job.place);
            }
        }
    }

    /// s G + t P from tables, as one sum.
    #[inline(always)]
    fn known<'a>(&mut self, jobs: &[Ready<'a>]) {
        let groups = jobs.len().div_ceil(V::LANES);
        self.points.clear();
        self.marked.clear();
        self.marked.resize(groups, 0);
        let windows = scalar::windows(KEY_WIDTH);
        for window in 0..windows {
            let (token, points) = (self.token, &mut self.points);
            let step = Gather::<V, _, KEY_WIDTH> { token, points, jobs, window, pick: key_table };
            V::enter(token, step);
        }
        self.push_base(jobs);
        self.sum(windows + scalar::windows(BASE_WIDTH), groups);
        self.equal.clear();
        for group in 0..groups {
            // x is in Montgomery form, and so becomes what is demanded by R^2.
            let x = self.points[group].x;
            let difference = demanded(self.token, jobs, group).to_montgomery().sub(&x);
            self.equal.push(difference.zeros());
        }
    }

    /// The points whose sum is s G.
    #[inline(always)]
    fn push_base<'a>(&mut self, jobs: &[Ready<'a>]) {
        for window in 0..scalar::windows(BASE_WIDTH) {
            let (token, points) = (self.token, &mut self.points);
            let step = Gather::<V, _, BASE_WIDTH> { token, points, jobs, window, pick: base_table };
            V::enter(token, step);
        }
    }

    #[inline(always)]
    fn sum(&mut self, windows: usize, groups: usize) {
        let marked = &mut self.marked;
        sum_windows::<V, Fast>(
            &mut self.points,
            windows,
            groups,
            &mut self.prefixes,
            |group, lane| marked[group] |= 1 << lane,
        );
    }

    /// s G from the table as one sum; t P by doubling and adding.
    #[inline(always)]
    fn unknown(&mut self, jobs: &[Ready<'_>]) {
        let groups = jobs.len().div_ceil(V::LANES);
        self.points.clear();
        self.marked.clear();
        self.marked.resize(groups, 0);
        self.equal.clear();
        self.push_base(jobs);
        self.sum(scalar::windows(BASE_WIDTH), groups);

        let mut powers = Vec::with_capacity(groups * WIDTH);
        for group in 0..groups {
            let keys = &jobs[group * V::LANES..];
            let point = load_keys::<V>(self.token, |lane| keys[lane.min(keys.len() - 1)].key);
            let mut power = Jacobian::new(self.token, &point);
            for _ in 0..WIDTH {
                powers.push(power);
                power = power.double_times(1);
            }
        }
        let multiples = odd_multiples::<V, Fast>(&powers, WIDTH);
        for (group, row) in multiples.chunks_exact(1 << (WIDTH - 1)).enumerate().take(groups) {
            let product = self.multiply(jobs, group, row);
            let sum = product.plus(&self.points[group], V::splat(self.token, 0));
            let wanted = demanded::<V>(self.token, jobs, group).to_montgomery();
            let difference = wanted.times(&sum.z.times(&sum.z)).sub(&sum.x);
            self.equal.push(difference.zeros());
            self.marked[group] |= sum.z.zeros();
        }
    }

    /// t P for one group.
    #[inline(always)]
    fn multiply(&self, jobs: &[Ready<'_>], group: usize, row: &[Point<V>]) -> Jacobian<V> {
        let windows = scalar::windows(WIDTH);
        let (point, sign) = self.digit(jobs, group, row, windows - 1);
        let signed = Point { x: point.x, y: point.y.negate_if(sign) };
        let mut product = Jacobian::new(self.token, &signed);
        for window in (0..windows - 1).rev() {
            product = product.double_times(WIDTH);
            let (point, sign) = self.digit(jobs, group, row, window);
            product = product.plus(&point, sign);
        }
        product
    }

    /// The multiple that each lane's digit picks, and all ones where it is to be negated.
    #[inline(always)]
    fn digit(
        &self,
        jobs: &[Ready<'_>],
        group: usize,
        row: &[Point<V>],
        window: usize,
    ) -> (Point<V>, V) {
        let (mut indexes, mut signs) = ([0; MAX_LANES], [0; MAX_LANES]);
        for lane in 0..V::LANES {
            let job = &jobs[(group * V::LANES + lane).min(jobs.len() - 1)];
            let (index, negative) = job.t.digit::<WIDTH>(window);
            indexes[lane] = index as u64;
            signs[lane] = u64::from(negative).wrapping_neg();
        }
        let indexes = V::load(self.token, &indexes);
        let mut point = row[0];
        for (index, candidate) in row.iter().enumerate().skip(1) {
            let mask = indexes.equal(V::splat(self.token, index as u64));
            point.x = candidate.x.select(mask, &point.x);
            point.y = candidate.y.select(mask, &point.y);
        }
        (point, V::load(self.token, &signs))
    }
}

/// The x demanded, a job a lane, not in Montgomery form.
#[inline(always)]
fn demanded<V: Vector>(token: V::Token, jobs: &[Ready<'_>], group: usize) -> Fe<V> {
    let mut words = [[0; MAX_LANES]; 4];
    for lane in 0..V::LANES {
        let job = &jobs[(group * V::LANES + lane).min(jobs.len() - 1)];
        for (word, value) in words.iter_mut().zip(job.x) {
            word[lane] = value;
        }
    }
    Fe::load(token, &words)
}

/// Pushes one window's points of all jobs, a job a lane; the last job fills up.
struct Gather<'a, 'b, V: Vector, F, const WIDTH: usize> {
    token: V::Token,
    points: &'b mut Vec<Point<V>>,
    jobs: &'b [Ready<'a>],
    window: usize,
    /// The table and the multiplier of a job.
    pick: F,
}

impl<'a, V: Vector, F, const WIDTH: usize> Step for Gather<'a, '_, V, F, WIDTH>
where
    F: for<'c> Fn(&'c Ready<'a>) -> (&'a Table, &'c Odd),
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // First all addresses: the lines are on their way while the next addresses are computed.
        let mut lines: [&[u64; 8]; KNOWN_CHUNK] = [&[0; 8]; KNOWN_CHUNK];
        let mut signs = [0; KNOWN_CHUNK.div_ceil(4)];
        for (i, job) in self.jobs.iter().enumerate().take(KNOWN_CHUNK) {
            let (table, number) = (self.pick)(job);
            let (index, negative) = number.digit::<WIDTH>(self.window);
            lines[i] = &table.line::<WIDTH>(self.window, index).0;
            prefetch(lines[i]);
            signs[i / V::LANES] |= u32::from(negative) << (i % V::LANES);
        }
        let lines = &lines[..self.jobs.len().min(KNOWN_CHUNK)];
        for (lines, signs) in lines.chunks(V::LANES).zip(signs) {
            let mut full = [lines[0]; MAX_LANES];
            full[..lines.len()].copy_from_slice(lines);
            let [x0, x1, x2, x3, y0, y1, y2, y3] = V::transpose(self.token, &full);
            let y = Fe::unpack(&[y0, y1, y2, y3]).negate_if(V::spread(self.token, signs));
            self.points.push(Point { x: Fe::unpack(&[x0, x1, x2, x3]), y });
        }
    }
}

/// Verifies one by one, as the portable backend does.
pub(super) fn portable(items: &[Item<'_>], out: &mut [bool]) {
    for (item, verdict) in items.iter().zip(out) {
        *verdict = verify_digest(item.key, item.e, item.signature);
    }
}
