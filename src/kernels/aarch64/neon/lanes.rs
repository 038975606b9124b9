//! Two vectors of 128 bits for tiles of eight rows. One instruction multiplies bytes and adds four products to an `i32`.

use super::Neon;
use super::matrix;
use super::vector::{
    Floats8, Words8, dot, load_bytes, load_floats, load_u16, load_words, prefetch, splat, store_floats, transposed, widen_f16, zero,
};
use crate::kernels::block::strided;
use crate::kernels::packed::{Dot, Gather, Lanes, Operands, Rows, Words};
use std::arch::aarch64::*;

/// Byte positions: bytes `t` and `t + 1` of each word in the high bytes of its halves, nothing in the low ones. (There is no pair of the
/// last byte.)
const PAIR: [[u8; 16]; 4] = {
    let mut patterns = [[0xff; 16]; 4]; // out of range asks for a zero
    let mut i = 0;
    while i < 4 * 8 {
        let (t, half) = (i / 8, i % 8);
        patterns[t][2 * half + 1] = (half / 2 * 4 + (t + half % 2) % 4) as u8;
        i += 1;
    }
    patterns
};

/// Both vectors as `i32` lanes.
#[inline(always)]
fn ints(x: Words8) -> [int32x4_t; 2] {
    // SAFETY: NEON is part of the architecture.
    unsafe { [vreinterpretq_s32_u8(x[0]), vreinterpretq_s32_u8(x[1])] }
}

/// The reverse of [`ints`].
#[inline(always)]
fn words(x: [int32x4_t; 2]) -> Words8 {
    // SAFETY: NEON is part of the architecture.
    unsafe { [vreinterpretq_u8_s32(x[0]), vreinterpretq_u8_s32(x[1])] }
}

/// Bits as floats.
#[inline(always)]
fn floats(x: [uint32x4_t; 2]) -> Floats8 {
    // SAFETY: NEON is part of the architecture.
    unsafe { [vreinterpretq_f32_u32(x[0]), vreinterpretq_f32_u32(x[1])] }
}

/// `x << n` in each byte, to the right if `n` is negative, without the bits outside of `mask`.
#[inline(always)]
fn shifted(x: Words8, n: i8, mask: u8) -> Words8 {
    // SAFETY: NEON is part of the architecture.
    unsafe {
        let (n, mask) = (vdupq_n_s8(n), vdupq_n_u8(mask));
        [vandq_u8(vshlq_u8(x[0], n), mask), vandq_u8(vshlq_u8(x[1], n), mask)]
    }
}

/// Both vectors' bytes at the positions of `pattern`.
#[inline(always)]
fn permuted(x: Words8, pattern: &[u8; 16]) -> Words8 {
    // SAFETY: `pattern` is 16 readable bytes, and the instruction needs no alignment; NEON is part of the architecture.
    unsafe {
        let pattern = vld1q_u8(pattern.as_ptr());
        [vqtbl1q_u8(x[0], pattern), vqtbl1q_u8(x[1], pattern)]
    }
}

impl<const I8MM: bool> Words<8> for Neon<I8MM> {
    type I = Words8;

    #[inline(always)]
    fn words(self, x: &[[u8; 4]; 8]) -> Words8 {
        load_words(x)
    }

    #[inline(always)]
    fn right(self, x: Words8, n: usize, mask: u8) -> Words8 {
        shifted(x, -(n as i8), mask)
    }

    #[inline(always)]
    fn left(self, x: Words8, n: usize, mask: u8) -> Words8 {
        shifted(x, n as i8, mask)
    }

    #[inline(always)]
    fn or(self, a: Words8, b: Words8) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { [vorrq_u8(a[0], b[0]), vorrq_u8(a[1], b[1])] }
    }

    #[inline(always)]
    fn sub_bytes(self, x: Words8, n: u8) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let n = vdupq_n_u8(n);
            [vsubq_u8(x[0], n), vsubq_u8(x[1], n)]
        }
    }

    #[inline(always)]
    fn look_up(self, table: &[u8; 16], x: Words8) -> Words8 {
        // SAFETY: `table` is 16 readable bytes, and the instruction needs no alignment; NEON is part of the architecture.
        unsafe {
            let table = vld1q_u8(table.as_ptr());
            [vqtbl1q_u8(table, x[0]), vqtbl1q_u8(table, x[1])]
        }
    }

    #[inline(always)]
    fn nibbles(self, x: &[[u8; 2]; 8]) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let [low, high] = load_u16(x);
            [vreinterpretq_u8_u32(vsliq_n_u32::<12>(low, low)), vreinterpretq_u8_u32(vsliq_n_u32::<12>(high, high))]
        }
    }
}

impl<const I8MM: bool> Lanes<8> for Neon<I8MM> {
    type F = Floats8;

    const WIDE: bool = true;
    const SIGNED_BIAS: u8 = 0;
    const MATRICES: bool = I8MM;
    const ROWS: usize = 4;
    const FLOAT_ROWS: usize = 6;

    #[inline(always)]
    fn splat_int(self, x: i32) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { words([vdupq_n_s32(x); 2]) }
    }

    /// The instruction takes signed by signed bytes. Unsigned weights have seven bits at most.
    #[inline(always)]
    fn dot(self, run: Words8, w: Words8, x: [u8; 4]) -> Words8 {
        dot(self, run, w, x)
    }

    #[inline(always)]
    fn dot_signed(self, run: Words8, w: Words8, x: [u8; 4]) -> Words8 {
        dot(self, run, w, x)
    }

    #[inline(always)]
    fn add_run(self, sum: Words8, run: Words8) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let (sum, run) = (ints(sum), ints(run));
            words([vaddq_s32(sum[0], run[0]), vaddq_s32(sum[1], run[1])])
        }
    }

    #[inline(always)]
    fn scale(self, x: Words8, t: usize) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let (x, n) = (ints(x), vdupq_n_s32(24 - 8 * t as i32));
            words([vshrq_n_s32::<24>(vshlq_s32(x[0], n)), vshrq_n_s32::<24>(vshlq_s32(x[1], n))])
        }
    }

    #[inline(always)]
    fn add_scaled(self, sum: Words8, run: Words8, scale: Words8) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let (sum, run, scale) = (ints(sum), ints(run), ints(scale));
            words([vmlaq_s32(sum[0], run[0], scale[0]), vmlaq_s32(sum[1], run[1], scale[1])])
        }
    }

    #[inline(always)]
    fn pair(self, x: Words8, t: usize) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let x = permuted(x, &PAIR[t]);
            let narrow = [vshrq_n_s16::<8>(vreinterpretq_s16_u8(x[0])), vshrq_n_s16::<8>(vreinterpretq_s16_u8(x[1]))];
            [vreinterpretq_u8_s16(narrow[0]), vreinterpretq_u8_s16(narrow[1])]
        }
    }

    #[inline(always)]
    fn dot_pairs(self, sum: Words8, w: Words8, x: [u8; 4]) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let (w, sum) = (ints(w), ints(sum));
            let [first, second] = [[x[0], x[1]], [x[2], x[3]]].map(|x| vdupq_n_s32(i32::from(i16::from_ne_bytes(x))));
            let with_first = |sum, w| vmlaq_s32(sum, vshrq_n_s32::<16>(vshlq_n_s32::<16>(w)), first);
            let with_second = |sum, w| vmlaq_s32(sum, vshrq_n_s32::<16>(w), second);
            words([with_second(with_first(sum[0], w[0]), w[0]), with_second(with_first(sum[1], w[1]), w[1])])
        }
    }

    #[inline(always)]
    fn times_power(self, x: Words8, n: u32) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let (x, n) = (ints(x), vdupq_n_s32(n.cast_signed()));
            words([vshlq_s32(x[0], n), vshlq_s32(x[1], n)])
        }
    }

    #[inline(always)]
    fn sub(self, a: Words8, b: Words8) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let (a, b) = (ints(a), ints(b));
            words([vsubq_s32(a[0], b[0]), vsubq_s32(a[1], b[1])])
        }
    }

    #[inline(always)]
    fn to_float(self, x: Words8) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let x = ints(x);
            [vcvtq_f32_s32(x[0]), vcvtq_f32_s32(x[1])]
        }
    }

    #[inline(always)]
    fn splat(self, x: [u8; 4]) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { [vreinterpretq_f32_s32(splat(x)); 2] }
    }

    #[inline(always)]
    fn f16(self, x: &[[u8; 2]; 8]) -> Floats8 {
        widen_f16(x)
    }

    #[inline(always)]
    fn half_power(self, x: &[[u8; 1]; 8]) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let e = vmovl_u8(load_bytes(&x.map(|[e]| e)));
            let bits = |e| {
                // The bits of the normal numbers, or something below those of the two others.
                let normal = vshlq_n_u32::<23>(vqsubq_u32(e, vdupq_n_u32(1)));
                let smallest = vshlq_u32(vdupq_n_u32(0x0020_0000), vreinterpretq_s32_u32(vminq_u32(e, vdupq_n_u32(1))));
                vmaxq_u32(normal, smallest)
            };
            floats([bits(vmovl_u16(vget_low_u16(e))), bits(vmovl_high_u16(e))])
        }
    }

    #[inline(always)]
    fn bf16(self, x: &[[u8; 2]; 8]) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let [low, high] = load_u16(x);
            floats([vshlq_n_u32::<16>(low), vshlq_n_u32::<16>(high)])
        }
    }

    #[inline(always)]
    fn f32(self, x: &[[u8; 4]; 8]) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let x = load_words(x);
            [vreinterpretq_f32_u8(x[0]), vreinterpretq_f32_u8(x[1])]
        }
    }

    #[inline(always)]
    fn mul(self, a: Floats8, b: Floats8) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul_add(self, a: Floats8, b: Floats8, c: Floats8) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])] }
    }

    #[inline(always)]
    fn mul_sub(self, a: Floats8, b: Floats8, c: Floats8) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { [vfmsq_f32(c[0], a[0], b[0]), vfmsq_f32(c[1], a[1], b[1])] }
    }

    #[inline(always)]
    fn load(self, x: &[f32; 8]) -> Floats8 {
        load_floats(x)
    }

    #[inline(always)]
    fn store(self, x: Floats8, out: &mut [f32; 8]) {
        store_floats(out, x);
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &T, bytes: usize) {
        prefetch(std::ptr::from_ref(from).cast::<u8>().wrapping_add(bytes));
    }

    #[inline(always)]
    fn transpose(self, bytes: &[u8], stride: usize) -> [Words8; 8] {
        let rows: [[[u8; 16]; 2]; 8] = strided(bytes, stride);
        let mut columns = [[zero(), zero()]; 8];
        for h in 0..2 {
            for group in 0..2 {
                let four = transposed([0, 1, 2, 3].map(|r| rows[4 * group + r][h]));
                for (c, word) in four.into_iter().enumerate() {
                    columns[4 * h + c][group] = word;
                }
            }
        }
        columns
    }

    #[inline(always)]
    fn halves(self, x: Words8) -> Words8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let [low, high] = x.map(|x| vreinterpretq_u16_u8(x));
            [vreinterpretq_u8_u16(vuzp1q_u16(low, high)), vreinterpretq_u8_u16(vuzp2q_u16(low, high))]
        }
    }

    #[inline(always)]
    fn store_words(self, x: Words8, out: &mut [[u8; 4]; 8]) {
        // SAFETY: `out` is 32 writable bytes, and the instruction needs no alignment; NEON is part of the architecture.
        unsafe {
            let out = out.as_mut_ptr().cast::<u8>();
            vst1q_u8(out, x[0]);
            vst1q_u8(out.add(16), x[1]);
        }
    }

    #[inline(always)]
    fn matrix_pairs(self, w: [Words8; 2]) -> [Words8; 2] {
        matrix::pairs(w)
    }

    #[inline(always)]
    fn matrix_scales(self, scale: Words8) -> [Words8; 2] {
        matrix::pairs([scale, scale])
    }

    #[inline(always)]
    fn matrix_dot(self, sums: [Words8; 2], w: [Words8; 2], x: [[[u8; 4]; 2]; 2]) -> [Words8; 2] {
        match self.i8mm() {
            Some(v) => matrix::dot(v, sums, w, x),
            None => sums, // never asked for
        }
    }

    #[inline(always)]
    fn matrix_rows(self, sums: [Words8; 2]) -> [Words8; 2] {
        matrix::rows(sums)
    }

    #[inline(always)]
    fn gather<G: Gather<8>>(self, rows: Rows<'_>, tile: &mut [u8]) {
        G::gather(self, rows, tile);
    }

    #[inline(always)]
    fn run<D: Dot<8>, const T: usize, const M: usize>(self, operands: Operands<'_, T, M>, sums: &mut [[[f32; 8]; M]; T]) {
        D::dot(self, operands, sums);
    }
}
