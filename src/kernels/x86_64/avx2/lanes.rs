//! Vectors of 256 bits for tiles of eight rows. Runs are pairs of `i16`: one addition per multiplication, one widening per run. With VNNI
//! one instruction multiplies bytes and adds four products to an `i32`.

use super::{Avx2, Ymm, vnni};
use crate::kernels::block::check_stride;
use crate::kernels::packed::{Dot, Gather, Lanes, Operands, Rows, Words};
use std::arch::x86_64::*;

/// Shuffle patterns: byte `t` of each word in the high byte of both halves of the word.
const BOTH: [[u8; 32]; 4] = patterns([0, 0]);

/// Shuffle patterns: bytes `t` and `t + 1` of each word in the high bytes of its halves. (There is no pair of the last byte.)
const PAIR: [[u8; 32]; 4] = patterns([0, 1]);

/// For each `t`: bytes `t + offsets` of each word in the high bytes of its halves, zeros in the low ones.
const fn patterns(offsets: [usize; 2]) -> [[u8; 32]; 4] {
    let mut patterns = [[0x80; 32]; 4]; // the high bit asks for a zero
    let mut i = 0;
    while i < 4 * 16 {
        let (t, half) = (i / 16, i % 16);
        patterns[t][2 * half + 1] = (half / 2 % 4 * 4 + (t + offsets[half % 2]) % 4) as u8;
        i += 1;
    }
    patterns
}

impl<const VNNI: bool> Words<8> for Ymm<VNNI> {
    type I = __m256i;

    #[inline(always)]
    fn words(self, x: &[[u8; 4]; 8]) -> __m256i {
        // SAFETY: `x` is 32 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn right(self, x: __m256i, n: usize, mask: u8) -> __m256i {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_and_si256(_mm256_srl_epi16(x, _mm_cvtsi32_si128(n as i32)), _mm256_set1_epi8(mask.cast_signed())) }
    }

    #[inline(always)]
    fn left(self, x: __m256i, n: usize, mask: u8) -> __m256i {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_and_si256(_mm256_sll_epi16(x, _mm_cvtsi32_si128(n as i32)), _mm256_set1_epi8(mask.cast_signed())) }
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    fn sub_bytes(self, x: __m256i, n: u8) -> __m256i {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_sub_epi8(x, _mm256_set1_epi8(n.cast_signed())) }
    }

    #[inline(always)]
    fn look_up(self, table: &[u8; 16], x: __m256i) -> __m256i {
        // SAFETY: `table` is 16 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())), x) }
    }

    #[inline(always)]
    fn nibbles(self, x: &[[u8; 2]; 8]) -> __m256i {
        // SAFETY: `x` is 16 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe {
            let x = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            _mm256_or_si256(x, _mm256_slli_epi32::<12>(x))
        }
    }
}

/// Four bytes, or a pair of `i16`, in every word.
#[inline(always)]
pub(super) fn splat_word<const VNNI: bool>(_proof: Ymm<VNNI>, x: [u8; 4]) -> __m256i {
    // SAFETY: `_proof` proves the features.
    unsafe { _mm256_set1_epi32(i32::from_ne_bytes(x)) }
}

impl<const VNNI: bool> Lanes<8> for Ymm<VNNI> {
    type F = __m256;

    const WIDE: bool = VNNI;
    const SIGNED_BIAS: u8 = if VNNI { vnni::SIGNED_BIAS } else { 0 };
    const ROWS: usize = 4;
    const FLOAT_ROWS: usize = 6;

    #[inline(always)]
    fn splat_int(self, x: i32) -> __m256i {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_set1_epi32(x) }
    }

    #[inline(always)]
    fn dot(self, run: __m256i, w: __m256i, x: [u8; 4]) -> __m256i {
        if let Some(v) = self.vnni() {
            return vnni::dot(v, run, w, x);
        }
        // SAFETY: `self` proves the features.
        unsafe { _mm256_add_epi16(run, _mm256_maddubs_epi16(w, splat_word(self, x))) }
    }

    /// The multiplication takes unsigned by signed bytes, so a weight hands its sign to the activation. Two products fit an `i16`:
    /// at most 2 * 128 * 127 = 32512.
    #[inline(always)]
    fn dot_signed(self, run: __m256i, w: __m256i, x: [u8; 4]) -> __m256i {
        if let Some(v) = self.vnni() {
            return vnni::dot_signed(v, run, w, x);
        }
        // SAFETY: `self` proves the features.
        unsafe { _mm256_add_epi16(run, _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(splat_word(self, x), w))) }
    }

    #[inline(always)]
    fn add_run(self, sum: __m256i, run: __m256i) -> __m256i {
        if let Some(v) = self.vnni() {
            return vnni::add(v, sum, run);
        }
        // SAFETY: `self` proves the features.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(run, _mm256_set1_epi16(1))) }
    }

    #[inline(always)]
    fn scale(self, x: __m256i, t: usize) -> __m256i {
        if let Some(v) = self.vnni() {
            return vnni::scale(v, x, t);
        }
        // SAFETY: a pattern is 32 readable bytes; `self` proves the features.
        unsafe { _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(x, _mm256_loadu_si256(BOTH[t].as_ptr().cast()))) }
    }

    #[inline(always)]
    fn add_scaled(self, sum: __m256i, run: __m256i, scale: __m256i) -> __m256i {
        if let Some(v) = self.vnni() {
            return vnni::add_scaled(v, sum, run, scale);
        }
        // SAFETY: `self` proves the features.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(run, scale)) }
    }

    #[inline(always)]
    fn pair(self, x: __m256i, t: usize) -> __m256i {
        // SAFETY: a pattern is 32 readable bytes; `self` proves the features.
        unsafe { _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(x, _mm256_loadu_si256(PAIR[t].as_ptr().cast()))) }
    }

    #[inline(always)]
    fn dot_pairs(self, sum: __m256i, w: __m256i, x: [u8; 4]) -> __m256i {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(w, splat_word(self, x))) }
    }

    #[inline(always)]
    fn times_power(self, x: __m256i, n: u32) -> __m256i {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_sll_epi32(x, _mm_cvtsi32_si128(n.cast_signed())) }
    }

    #[inline(always)]
    fn sub(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_sub_epi32(a, b) }
    }

    #[inline(always)]
    fn to_float(self, x: __m256i) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn splat(self, x: [u8; 4]) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_set1_ps(f32::from_ne_bytes(x)) }
    }

    #[inline(always)]
    fn f16(self, x: &[[u8; 2]; 8]) -> __m256 {
        // SAFETY: `x` is 16 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())) }
    }

    #[inline(always)]
    fn half_power(self, x: &[[u8; 1]; 8]) -> __m256 {
        // SAFETY: `x` is 8 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe {
            let e = _mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().cast()));
            let one = _mm256_set1_epi32(1);
            // The bits of the normal numbers, or something below those of the two others.
            let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(_mm256_max_epi32(e, one), one));
            let smallest = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), _mm256_min_epi32(e, one));
            _mm256_castsi256_ps(_mm256_max_epi32(normal, smallest))
        }
    }

    #[inline(always)]
    fn bf16(self, x: &[[u8; 2]; 8]) -> __m256 {
        // SAFETY: `x` is 16 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast())))) }
    }

    #[inline(always)]
    fn f32(self, x: &[[u8; 4]; 8]) -> __m256 {
        // SAFETY: `x` is 32 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm256_loadu_ps(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn mul_sub(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_fnmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn load(self, x: &[f32; 8]) -> __m256 {
        // SAFETY: `x` is 8 readable floats, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, x: __m256, out: &mut [f32; 8]) {
        // SAFETY: `out` is 8 writable floats, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &T, bytes: usize) {
        // SAFETY: a hint of every x86-64: it never faults, whatever the address, and changes nothing that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(from).cast::<i8>().wrapping_add(bytes)) }
    }

    /// In each half of a vector lie four columns of four rows.
    #[inline(always)]
    fn transpose(self, bytes: &[u8], stride: usize) -> [__m256i; 8] {
        check_stride::<8>(bytes, stride, 32);
        // SAFETY: each row has 32 readable bytes, as was checked, and the loads need no alignment; `self` proves the features.
        unsafe {
            let mut columns = [_mm256_setzero_si256(); 8];
            for h in 0..2 {
                let mut x = [_mm256_setzero_si256(); 4];
                for (r, x) in x.iter_mut().enumerate() {
                    let four = bytes.as_ptr().add(16 * h + r * stride);
                    let low = _mm256_castsi128_si256(_mm_loadu_si128(four.cast()));
                    *x = _mm256_inserti128_si256::<1>(low, _mm_loadu_si128(four.add(4 * stride).cast()));
                }
                let [a, b] = [_mm256_unpacklo_epi32(x[0], x[1]), _mm256_unpackhi_epi32(x[0], x[1])];
                let [c, d] = [_mm256_unpacklo_epi32(x[2], x[3]), _mm256_unpackhi_epi32(x[2], x[3])];
                columns[4 * h] = _mm256_unpacklo_epi64(a, c);
                columns[4 * h + 1] = _mm256_unpackhi_epi64(a, c);
                columns[4 * h + 2] = _mm256_unpacklo_epi64(b, d);
                columns[4 * h + 3] = _mm256_unpackhi_epi64(b, d);
            }
            columns
        }
    }

    #[inline(always)]
    fn halves(self, x: __m256i) -> __m256i {
        const PATTERN: [u8; 16] = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];
        // SAFETY: `PATTERN` is 16 readable bytes; `self` proves the features.
        unsafe {
            let pattern = _mm256_broadcastsi128_si256(_mm_loadu_si128(PATTERN.as_ptr().cast()));
            _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_shuffle_epi8(x, pattern))
        }
    }

    #[inline(always)]
    fn store_words(self, x: __m256i, out: &mut [[u8; 4]; 8]) {
        // SAFETY: `out` is 32 writable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    fn gather<G: Gather<8>>(self, rows: Rows<'_>, tile: &mut [u8]) {
        // SAFETY: `self` proves the features.
        unsafe { gather::<G>(self.plain(), rows, tile) }
    }

    #[inline(always)]
    fn run<D: Dot<8>, const T: usize, const M: usize>(self, operands: Operands<'_, T, M>, sums: &mut [[[f32; 8]; M]; T]) {
        // SAFETY: `self` proves the features.
        unsafe {
            match self.vnni() {
                Some(v) => vnni::run::<D, T, M>(v, operands, sums),
                None => run::<D, T, M>(self.plain(), operands, sums),
            }
        }
    }
}

/// All of the above with the features of the set, so that it can be inlined.
#[target_feature(enable = "avx2,fma,f16c")]
fn run<D: Dot<8>, const T: usize, const M: usize>(v: Avx2, operands: Operands<'_, T, M>, sums: &mut [[[f32; 8]; M]; T]) {
    D::dot(v, operands, sums);
}

/// As [`run`].
#[target_feature(enable = "avx2,fma,f16c")]
fn gather<G: Gather<8>>(v: Avx2, rows: Rows<'_>, tile: &mut [u8]) {
    G::gather(v, rows, tile);
}
