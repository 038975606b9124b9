//! What the arithmetic of tiles asks of a set's vectors. A value is the proof that the CPU has the instructions, so the methods are safe.

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// How far ahead of the products weights are asked for, in bytes: what memory delivers in the time that a line takes to come.
pub(super) const AHEAD: usize = 4096;

/// From how many activation rows on weights are asked for. With fewer the core itself has enough reads in flight, and hints only take
/// their places; with more, the instructions that it looks ahead cover less memory than the latency, and speed doubles.
pub(super) const AHEAD_ROWS: usize = 4;

/// A vector of `R` words of four bytes: all that reading a tile needs.
pub(in crate::kernels) trait Words<const R: usize>: Copy {
    /// The vector.
    type I: Copy;

    /// One word per row.
    fn words(self, x: &[[u8; 4]; R]) -> Self::I;

    /// `(x >> n) & mask` in each byte, `n < 8`; the mask keeps no bit that came from another byte.
    fn right(self, x: Self::I, n: usize, mask: u8) -> Self::I;

    /// `(x << n) & mask` in each byte, likewise.
    fn left(self, x: Self::I, n: usize, mask: u8) -> Self::I;

    /// `a | b`
    fn or(self, a: Self::I, b: Self::I) -> Self::I;

    /// `x - n` in each byte.
    fn sub_bytes(self, x: Self::I, n: u8) -> Self::I;

    /// The entry of `table` that each byte, below 16, names.
    fn look_up(self, table: &[u8; 16], x: Self::I) -> Self::I;

    /// The four halves of each pair of bytes, in the low halves of the bytes of a word: the low ones of both, then the high ones. What is
    /// in the high halves is not said.
    fn nibbles(self, x: &[[u8; 2]; R]) -> Self::I;
}

/// A set's vectors of `R` rows: words, `i32` and `f32` lanes, and the products of small integers.
///
/// A **run** is a sum of products of bytes that have one scale. Where [`Self::WIDE`], it has `i32` lanes; otherwise each lane is a pair of
/// `i16`, and the caller ends the run before they overflow.
pub(in crate::kernels) trait Lanes<const R: usize>: Words<R> {
    /// `R` floats.
    type F: Copy;

    /// Whether a run has `i32` lanes.
    const WIDE: bool;

    /// What [`Self::dot_signed`] adds to each weight: 0, or a power of two.
    const SIGNED_BIAS: u8;

    /// Whether products of bytes with two activation rows or more are those of matrices: see [`paired`](super::paired).
    const MATRICES: bool = false;

    /// Activation rows that share one pass over a tile of integers: their sums fit the registers.
    const ROWS: usize;

    /// Activation rows that share one pass over a tile of floats.
    const FLOAT_ROWS: usize;

    /// `x` in each `i32`.
    fn splat_int(self, x: i32) -> Self::I;

    /// `run + w . x`, four unsigned bytes of each row by four signed ones.
    fn dot(self, run: Self::I, w: Self::I, x: [u8; 4]) -> Self::I;

    /// `run + (w + SIGNED_BIAS) . x`, four signed bytes of each row by four signed ones. Where a run is not wide, this is all of it.
    fn dot_signed(self, run: Self::I, w: Self::I, x: [u8; 4]) -> Self::I;

    /// `sum + run`
    fn add_run(self, sum: Self::I, run: Self::I) -> Self::I;

    /// Signed byte `t` of each word as the factor of a run.
    fn scale(self, x: Self::I, t: usize) -> Self::I;

    /// `sum + run * scale`
    fn add_scaled(self, sum: Self::I, run: Self::I, scale: Self::I) -> Self::I;

    /// Signed bytes `t` and `t + 1` of each word as a pair of `i16`.
    fn pair(self, x: Self::I, t: usize) -> Self::I;

    /// `sum + w . x`, two `i16` of each row by two of `x`.
    fn dot_pairs(self, sum: Self::I, w: Self::I, x: [u8; 4]) -> Self::I;

    /// `x * 2^n` in `i32` lanes.
    fn times_power(self, x: Self::I, n: u32) -> Self::I;

    /// `a - b` in `i32` lanes.
    fn sub(self, a: Self::I, b: Self::I) -> Self::I;

    /// `i32` lanes as floats, rounded.
    fn to_float(self, x: Self::I) -> Self::F;

    /// The `f32` with these bytes, in each lane.
    fn splat(self, x: [u8; 4]) -> Self::F;

    /// One `f16` per row.
    fn f16(self, x: &[[u8; 2]; R]) -> Self::F;

    /// The [`half_power`](crate::kernels::block::half_power) of one exponent per row.
    fn half_power(self, x: &[[u8; 1]; R]) -> Self::F;

    /// One `bf16` per row.
    fn bf16(self, x: &[[u8; 2]; R]) -> Self::F;

    /// One `f32` per row.
    fn f32(self, x: &[[u8; 4]; R]) -> Self::F;

    /// `a * b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;

    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;

    /// `c - a * b`, rounded once.
    fn mul_sub(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;

    /// `R` floats.
    fn load(self, x: &[f32; R]) -> Self::F;

    /// Stores the floats.
    fn store(self, x: Self::F, out: &mut [f32; R]);

    /// Asks for the cache line that lies `bytes` behind `from`, even past the end of what `from` is part of: a hint without effect.
    fn prefetch<T>(self, _from: &T, _bytes: usize) {}

    /// Nothing is read earlier than it is written, as the compiler may see to. Left alone it reads the operands of many rows in advance, has
    /// no registers for them, and stores and loads them instead of multiplying.
    #[inline(always)]
    fn in_order(self) {}

    /// Two quads of all rows, as [`Self::matrix_dot`] wants them.
    fn matrix_pairs(self, w: [Self::I; 2]) -> [Self::I; 2] {
        w
    }

    /// The factors of runs, in the order of [`Self::matrix_dot`]'s sums.
    fn matrix_scales(self, scale: Self::I) -> [Self::I; 2] {
        [scale; 2]
    }

    /// `sums + w . x`, eight signed bytes of each row by eight of each of two activation rows. The sums lie in the set's own order.
    fn matrix_dot(self, sums: [Self::I; 2], _w: [Self::I; 2], _x: [[[u8; 4]; 2]; 2]) -> [Self::I; 2] {
        sums
    }

    /// Such sums in the order of lanes, of one activation row and of the other.
    fn matrix_rows(self, sums: [Self::I; 2]) -> [Self::I; 2] {
        sums
    }

    /// Eight words of each row, the rows `stride` bytes apart, word by word: `[i]` of the result is word `i` of each.
    ///
    /// # Panics
    /// If `bytes` is too short.
    fn transpose(self, bytes: &[u8], stride: usize) -> [Self::I; 8];

    /// The first half of each word, then the second half of each.
    fn halves(self, x: Self::I) -> Self::I;

    /// Stores the words.
    fn store_words(self, x: Self::I, out: &mut [[u8; 4]; R]);

    /// [`Gather::gather`](super::Gather::gather) with all that this set's instructions allow.
    fn gather<G: super::Gather<R>>(self, rows: super::Rows<'_>, tile: &mut [u8]);

    /// [`Dot::dot`](super::Dot::dot) with all that this set's instructions allow.
    fn run<D: super::Dot<R>, const T: usize, const M: usize>(self, operands: super::Operands<'_, T, M>, sums: &mut [[[f32; R]; M]; T]);
}

/// `body` once for each of the eight quads of a sub-block, with `j` a constant. A loop with many rows in its body is not unrolled by the
/// compiler, and then has variable shifts.
macro_rules! for_quads {
    ($j:ident, $body:block) => {
        for_quads!(@ $j, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $j:ident, $body:block, $($n:literal)*) => {
        $({
            const $j: usize = $n;
            $body
        })*
    };
}
pub(super) use for_quads;

/// Words on any machine, for reading single rows.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl<const R: usize> Words<R> for Portable {
    type I = [[u8; 4]; R];

    fn words(self, x: &[[u8; 4]; R]) -> Self::I {
        *x
    }

    fn right(self, x: Self::I, n: usize, mask: u8) -> Self::I {
        x.map(|word| word.map(|byte| (byte >> n) & mask))
    }

    fn left(self, x: Self::I, n: usize, mask: u8) -> Self::I {
        x.map(|word| word.map(|byte| (byte << n) & mask))
    }

    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|r| std::array::from_fn(|i| a[r][i] | b[r][i]))
    }

    fn sub_bytes(self, x: Self::I, n: u8) -> Self::I {
        x.map(|word| word.map(|byte| byte.wrapping_sub(n)))
    }

    fn look_up(self, table: &[u8; 16], x: Self::I) -> Self::I {
        x.map(|word| word.map(|byte| table[usize::from(byte)]))
    }

    fn nibbles(self, x: &[[u8; 2]; R]) -> Self::I {
        x.map(|[first, second]| [first, second, first >> 4, second >> 4])
    }
}
