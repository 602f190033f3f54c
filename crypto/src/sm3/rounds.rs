//! The compression function of SM3, for one message or for one message in each lane of vectors.
//!
//! It is written once, over [`Word`]: a `u32`, or a vector with a `u32` of another message in each
//! lane. The rounds are unrolled, so that no word of the state ever moves, and the words of the
//! expanded message live in a ring of sixteen, each made when it is needed.
//!
//! Invariants
//! - What a lane comes to depends on that lane alone.

/// What the rounds do with 32-bit words, lane by lane.
pub(crate) trait Word: Copy {
    /// `value` in every lane.
    fn same(self, value: u32) -> Self;
    /// Sum modulo 2^32.
    fn add(self, other: Self) -> Self;
    /// Exclusive or.
    fn xor(self, other: Self) -> Self;
    /// Rotation by `bits`, which is below 32.
    fn rotate(self, bits: u32) -> Self;
    /// Exclusive or of three.
    fn parity(self, y: Self, z: Self) -> Self;
    /// For each bit, what at least two of three are.
    fn majority(self, y: Self, z: Self) -> Self;
    /// For each bit, that of `y` where `self` has one, else that of `z`.
    fn choose(self, y: Self, z: Self) -> Self;
}

impl Word for u32 {
    #[inline(always)]
    fn same(self, value: u32) -> Self {
        value
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self ^ other
    }

    #[inline(always)]
    fn rotate(self, bits: u32) -> Self {
        self.rotate_left(bits)
    }

    #[inline(always)]
    fn parity(self, y: Self, z: Self) -> Self {
        self ^ y ^ z
    }

    #[inline(always)]
    fn majority(self, y: Self, z: Self) -> Self {
        (self & y) | ((self | y) & z)
    }

    #[inline(always)]
    fn choose(self, y: Self, z: Self) -> Self {
        ((y ^ z) & self) ^ z
    }
}

/// The round constants, rotated as the rounds use them.
const T: [u32; 64] = {
    let mut t = [0; 64];
    let mut j = 0;
    while j < 64 {
        let base: u32 = if j < 16 { 0x79cc_4519 } else { 0x7a87_9d8a };
        t[j] = base.rotate_left(j as u32 % 32);
        j += 1;
    }
    t
};

/// Words j and j+4 of the expanded message feed round j; this makes word j+4.
#[inline(always)]
fn expand<W: Word>(w: &mut [W; 16], j: usize) {
    let x = w[j % 16].parity(w[(j + 7) % 16], w[(j + 13) % 16].rotate(15));
    let p1 = x.parity(x.rotate(15), x.rotate(23));
    w[j % 16] = p1.parity(w[(j + 3) % 16].rotate(7), w[(j + 10) % 16]);
}

macro_rules! round {
    ($ff:ident, $gg:ident, $w:ident, $j:expr,
     $a:ident, $b:ident, $c:ident, $d:ident, $e:ident, $f:ident, $g:ident, $h:ident) => {{
        let j: usize = $j;
        if j >= 12 {
            expand(&mut $w, j + 4);
        }
        let (w, w_and_4) = ($w[j % 16], $w[j % 16].xor($w[(j + 4) % 16]));
        let a12 = $a.rotate(12);
        let ss1 = $e.add($e.same(T[j])).add(a12).rotate(7);
        let tt1 = $a.$ff($b, $c).add($d).add(w_and_4).add(ss1.xor(a12));
        let tt2 = $e.$gg($f, $g).add($h).add(w).add(ss1);
        $b = $b.rotate(9);
        $d = tt1;
        $f = $f.rotate(19);
        $h = tt2.parity(tt2.rotate(9), tt2.rotate(17));
    }};
}

/// Groups of four rounds, after each of which every variable has its own name back.
macro_rules! rounds {
    ($ff:ident, $gg:ident, $w:ident, $($j:expr),+;
     $a:ident, $b:ident, $c:ident, $d:ident, $e:ident, $f:ident, $g:ident, $h:ident) => {
        $(
            round!($ff, $gg, $w, $j, $a, $b, $c, $d, $e, $f, $g, $h);
            round!($ff, $gg, $w, $j + 1, $d, $a, $b, $c, $h, $e, $f, $g);
            round!($ff, $gg, $w, $j + 2, $c, $d, $a, $b, $g, $h, $e, $f);
            round!($ff, $gg, $w, $j + 3, $b, $c, $d, $a, $f, $g, $h, $e);
        )+
    };
}

/// Takes one block into the state.
#[inline(always)]
pub(crate) fn compress<W: Word>(state: &mut [W; 8], mut w: [W; 16]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    rounds!(parity, parity, w, 0, 4, 8, 12; a, b, c, d, e, f, g, h);
    rounds!(majority, choose, w, 16, 20, 24, 28, 32, 36; a, b, c, d, e, f, g, h);
    rounds!(majority, choose, w, 40, 44, 48, 52, 56, 60; a, b, c, d, e, f, g, h);
    for (old, new) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *old = old.xor(new);
    }
}
