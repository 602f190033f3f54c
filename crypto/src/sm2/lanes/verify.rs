//! Verifies signatures in lanes: those of keys that have a table, and those of any key.
//!
//! Both compute s G + t P and compare its x with what r and e demand. What does not fit the lanes
//! (two points of one x in some addition, or an x of n or more, which nobody has ever seen) is
//! marked and settled by the portable code; the rest of the batch does not notice.

use super::super::{PublicKey, Signature, verify_digest};
use super::field::Fe;
use super::invert::Fast;
use super::jacobian::{Jacobian, add_each, double_times, doublings, odd_multiples};
use super::scalar::{self, Multiplier, Number, Odd};
use super::sum::{Point, sum_windows};
use super::table::{BASE_WIDTH, KEY_WIDTH, KeyTable, Table, base, load_keys};
use crate::Digest;
use crate::simd::limbs::{MAX_LANES, Step, Vector, Work, prefetch};
use alloc::vec::Vec;

/// Bits of a window for keys without a table.
const WIDTH: usize = 5;

/// Signatures whose points are looked up and added together, as far as [`FEW`] points for each:
/// more share an inversion, fewer stay in the cache.
const CHUNK: usize = 128;
/// Signatures whose few points are then added together: what is left takes so much less memory
/// that more can share the inversions.
const WIDE_CHUNK: usize = 512;
/// See [`CHUNK`]: after three levels of six.
const FEW: usize = 8;

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
        for jobs in known.chunks(WIDE_CHUNK) {
            chunk.known(jobs);
            chunk.settle(jobs, out, &mut unsettled);
        }
        for jobs in unknown.chunks(CHUNK) {
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
    /// What is left of the points of several chunks, as [`sum_windows`] wants them.
    few: Vec<Point<V>>,
    prefixes: Vec<Fe<V>>,
    /// A bit for each lane of each group: the verdict.
    equal: Vec<u32>,
    /// A bit for each lane of each group: whether the verdict means nothing.
    marked: Vec<u32>,
}

impl<V: Vector> Chunk<V> {
    fn new(token: V::Token) -> Self {
        Self {
            token,
            points: Vec::new(),
            few: Vec::new(),
            prefixes: Vec::new(),
            equal: Vec::new(),
            marked: Vec::new(),
        }
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
        self.marked.clear();
        self.marked.resize(groups, 0);
        self.few.clear();
        self.few.resize(FEW * groups, Point::blank(self.token));
        let windows = scalar::windows(KEY_WIDTH) + scalar::windows(BASE_WIDTH);
        let mut left = windows;
        for (chunk, jobs) in jobs.chunks(CHUNK).enumerate() {
            let keys = windows - scalar::windows(BASE_WIDTH);
            self.make_room(windows, jobs);
            self.gather::<KEY_WIDTH>(jobs, 0, |job| (job.table.unwrap_or(base()), &job.t));
            self.gather::<BASE_WIDTH>(jobs, keys, |job| (base(), &job.s));
            let (first, count) = (chunk * CHUNK / V::LANES, jobs.len().div_ceil(V::LANES));
            left = self.sum((windows, FEW), first, count);
            for (row, points) in self.points.chunks_exact(count).take(left).enumerate() {
                self.few[row * groups + first..][..count].copy_from_slice(points);
            }
        }
        core::mem::swap(&mut self.points, &mut self.few);
        self.sum((left, 1), 0, groups);
        self.equal.clear();
        for group in 0..groups {
            // x is in Montgomery form, and so becomes what is demanded by R^2.
            let x = self.points[group].x;
            let difference = demanded(self.token, jobs, group).to_montgomery().sub(&x);
            self.equal.push(difference.zeros());
        }
    }

    /// Makes room for so many points of each job.
    fn make_room(&mut self, windows: usize, jobs: &[Ready<'_>]) {
        let points = windows * jobs.len().div_ceil(V::LANES);
        if self.points.len() < points {
            self.points.resize(points, Point::blank(self.token));
        }
    }

    /// Looks up the points whose sum is a multiple of what the table belongs to, from row `row` on.
    #[inline(always)]
    fn gather<'a, const WIDTH: usize>(
        &mut self,
        jobs: &[Ready<'a>],
        row: usize,
        pick: impl for<'b> Fn(&'b Ready<'a>) -> (&'a Table, &'b Odd),
    ) {
        let groups = jobs.len().div_ceil(V::LANES);
        let points = &mut self.points[row * groups..][..scalar::windows(WIDTH) * groups];
        let mut picked = Vec::with_capacity(groups);
        for jobs in jobs.chunks(V::LANES) {
            let job = |lane: usize| &jobs[lane.min(jobs.len() - 1)];
            let mut tables = [pick(job(0)).0; MAX_LANES];
            for (lane, table) in tables.iter_mut().enumerate() {
                *table = pick(job(lane)).0;
            }
            let multiplier = Multiplier::load(self.token, |lane| pick(job(lane)).1);
            picked.push((tables, multiplier));
        }
        V::enter(self.token, Gather::<V, WIDTH> { token: self.token, picked: &picked, points });
    }

    /// Sums the points of `groups` groups, of which the first is group `first` of the job.
    #[inline(always)]
    fn sum(&mut self, windows: (usize, usize), first: usize, groups: usize) -> usize {
        let (points, marked) = (&mut self.points, &mut self.marked[first..]);
        sum_windows::<V, Fast>(points, windows, groups, &mut self.prefixes, |group, lane| {
            marked[group] |= 1 << lane;
        })
    }

    /// s G from the table as one sum; t P by doubling and adding.
    #[inline(always)]
    fn unknown(&mut self, jobs: &[Ready<'_>]) {
        let groups = jobs.len().div_ceil(V::LANES);
        self.marked.clear();
        self.marked.resize(groups, 0);
        self.equal.clear();
        self.make_room(scalar::windows(BASE_WIDTH), jobs);
        self.gather::<BASE_WIDTH>(jobs, 0, |job| (base(), &job.s));
        self.sum((scalar::windows(BASE_WIDTH), 1), 0, groups);

        let multiples = self.odd_multiples(jobs, groups);
        let mut sums = self.multiply(jobs, &multiples);
        let mut base = Vec::with_capacity(groups);
        for point in &self.points[..groups] {
            base.push((*point, V::splat(self.token, 0)));
        }
        add_each(&mut sums, &base);
        for (group, sum) in sums.iter().enumerate() {
            let wanted = demanded::<V>(self.token, jobs, group).to_montgomery();
            let difference = wanted.times(&sum.z.times(&sum.z)).sub(&sum.x);
            self.equal.push(difference.zeros());
            self.marked[group] |= sum.z.zeros();
        }
    }

    /// P, 3 P, 5 P, .. of each group's keys.
    #[inline(always)]
    fn odd_multiples(&self, jobs: &[Ready<'_>], groups: usize) -> Vec<Point<V>> {
        let mut keys = Vec::with_capacity(groups);
        for jobs in jobs.chunks(V::LANES) {
            let point = load_keys::<V>(self.token, |lane| jobs[lane.min(jobs.len() - 1)].key);
            keys.push(Jacobian::new(self.token, &point));
        }
        let mut multiples = odd_multiples::<V, Fast>(&doublings(&mut keys, WIDTH), WIDTH);
        multiples.truncate(groups << (WIDTH - 1));
        multiples
    }

    /// t P of each group.
    #[inline(always)]
    fn multiply(&self, jobs: &[Ready<'_>], multiples: &[Point<V>]) -> Vec<Jacobian<V>> {
        let windows = scalar::windows(WIDTH);
        let mut multipliers = Vec::new();
        for jobs in jobs.chunks(V::LANES) {
            let load = |lane: usize| &jobs[lane.min(jobs.len() - 1)].t;
            multipliers.push(Multiplier::load(self.token, load));
        }
        let mut summands = Vec::new();
        self.digits(&multipliers, multiples, windows - 1, &mut summands);
        let mut products = Vec::with_capacity(summands.len());
        for (point, sign) in &summands {
            let signed = Point { x: point.x, y: point.y.negate_if(*sign) };
            products.push(Jacobian::new(self.token, &signed));
        }
        for window in (0..windows - 1).rev() {
            double_times(&mut products, WIDTH);
            self.digits(&multipliers, multiples, window, &mut summands);
            add_each(&mut products, &summands);
        }
        products
    }

    /// What one window adds to each group.
    #[inline(always)]
    fn digits(
        &self,
        multipliers: &[Multiplier<V>],
        multiples: &[Point<V>],
        window: usize,
        summands: &mut Vec<(Point<V>, V)>,
    ) {
        summands.clear();
        for (multiplier, row) in multipliers.iter().zip(multiples.chunks_exact(1 << (WIDTH - 1))) {
            summands.push(V::enter(self.token, Digit { multiplier, row, window }));
        }
    }
}

/// The multiple that each lane's digit picks of its row, and all ones where it is to be negated.
struct Digit<'a, V> {
    multiplier: &'a Multiplier<V>,
    row: &'a [Point<V>],
    window: usize,
}

impl<V: Vector> Step for Digit<'_, V> {
    type Output = (Point<V>, V);

    #[inline(always)]
    fn run(self) -> (Point<V>, V) {
        let Self { multiplier, row, window } = self;
        let (indexes, signs) = multiplier.digit::<WIDTH>(window);
        let mut point = row[0];
        for (index, candidate) in row.iter().enumerate().skip(1) {
            let mask = indexes.equal(indexes.like(index as u64));
            point.x = candidate.x.select(mask, &point.x);
            point.y = candidate.y.select(mask, &point.y);
        }
        (point, signs)
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

/// Looks up the points of all windows: `points[window * groups + group]`, a job a lane.
struct Gather<'a, 'b, V: Vector, const WIDTH: usize> {
    token: V::Token,
    /// The tables and the multipliers of each group.
    picked: &'b [([&'a Table; MAX_LANES], Multiplier<V>)],
    points: &'b mut [Point<V>],
}

impl<V: Vector, const WIDTH: usize> Step for Gather<'_, '_, V, WIDTH> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { token, picked, points } = self;
        let none: &[u64; 8] = &[0; 8];
        let zero = V::splat(token, 0);
        // While the lines of one window are taken, those of the next are on their way.
        let mut next = [([none; MAX_LANES], zero); CHUNK];
        for window in 0..=scalar::windows(WIDTH) {
            for (group, (tables, multiplier)) in picked.iter().enumerate() {
                let (lines, sign) = next[group];
                if window < scalar::windows(WIDTH) {
                    let (index, sign) = multiplier.digit::<WIDTH>(window);
                    let mut indexes = [0; MAX_LANES];
                    index.store(&mut indexes);
                    let (lines, next_sign) = &mut next[group];
                    *next_sign = sign;
                    for ((line, table), index) in lines.iter_mut().zip(tables).zip(indexes) {
                        *line = &table.line::<WIDTH>(window, index as usize).0;
                        prefetch(line);
                    }
                }
                if window > 0 {
                    let [x0, x1, x2, x3, y0, y1, y2, y3] = V::transpose(token, &lines);
                    let point = &mut points[(window - 1) * picked.len() + group];
                    point.x = Fe::unpack(&[x0, x1, x2, x3]);
                    point.y = Fe::unpack(&[y0, y1, y2, y3]).negate_if(sign);
                }
            }
        }
    }
}

/// Verifies one by one, as the portable backend does.
pub(super) fn portable(items: &[Item<'_>], out: &mut [bool]) {
    for (item, verdict) in items.iter().zip(out) {
        *verdict = verify_digest(item.key, item.e, item.signature);
    }
}
