//! Vectors of 512 bits for tiles of sixteen rows. One instruction multiplies bytes and adds four products to an `i32`.

use super::Avx512Vnni;
use crate::kernels::block::check_stride;
use crate::kernels::packed::{Dot, Format, Gather, Lanes, Operands, PART_BITS, Panel, Rows, Unfold, Words};
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

/// Shuffle patterns: byte `t` of each word in its highest byte.
const LAST: [[u8; 64]; 4] = patterns(4);

/// Shuffle patterns: bytes `t` and `t + 1` of each word in the high bytes of its halves. (There is no pair of the last byte.)
const PAIR: [[u8; 64]; 4] = patterns(2);

/// The even halves of words, then the odd ones.
const HALVES: [u16; 32] = {
    let mut halves = [0; 32];
    let mut i = 0;
    while i < 16 {
        halves[i] = 2 * i as u16;
        halves[16 + i] = 2 * i as u16 + 1;
        i += 1;
    }
    halves
};

/// For each `t`: consecutive bytes of each word from `t` on in the last one of every `step` bytes, zeros elsewhere.
const fn patterns(step: usize) -> [[u8; 64]; 4] {
    let mut patterns = [[0x80; 64]; 4]; // the high bit asks for a zero
    let mut i = 0;
    while i < 4 * 64 {
        let (t, byte) = (i / 64, i % 64);
        if byte % step == step - 1 {
            patterns[t][byte] = (byte % 16 / 4 * 4 + (t + byte % 4 / step) % 4) as u8;
        }
        i += 1;
    }
    patterns
}

impl Words<16> for Avx512Vnni {
    type I = __m512i;

    #[inline(always)]
    fn words(self, x: &[[u8; 4]; 16]) -> __m512i {
        // SAFETY: `x` is 64 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn right(self, x: __m512i, n: usize, mask: u8) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_and_si512(_mm512_srl_epi16(x, _mm_cvtsi32_si128(n as i32)), _mm512_set1_epi8(mask.cast_signed())) }
    }

    #[inline(always)]
    fn left(self, x: __m512i, n: usize, mask: u8) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_and_si512(_mm512_sll_epi16(x, _mm_cvtsi32_si128(n as i32)), _mm512_set1_epi8(mask.cast_signed())) }
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn sub_bytes(self, x: __m512i, n: u8) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_sub_epi8(x, _mm512_set1_epi8(n.cast_signed())) }
    }

    #[inline(always)]
    fn look_up(self, table: &[u8; 16], x: __m512i) -> __m512i {
        // SAFETY: `table` is 16 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), x) }
    }

    #[inline(always)]
    fn nibbles(self, x: &[[u8; 2]; 16]) -> __m512i {
        // SAFETY: `x` is 32 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe {
            let x = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_or_si512(x, _mm512_slli_epi32::<12>(x))
        }
    }
}

/// Four bytes, or a pair of `i16`, in every word.
#[inline(always)]
fn splat_word(_proof: Avx512Vnni, x: [u8; 4]) -> __m512i {
    // SAFETY: `_proof` proves the features.
    unsafe { _mm512_set1_epi32(i32::from_ne_bytes(x)) }
}

impl Lanes<16> for Avx512Vnni {
    type F = __m512;

    const WIDE: bool = true;
    const SIGNED_BIAS: u8 = 128;
    const ROWS: usize = 12;
    const FLOAT_ROWS: usize = 12;

    #[inline(always)]
    fn splat_int(self, x: i32) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    fn dot(self, run: __m512i, w: __m512i, x: [u8; 4]) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_dpbusd_epi32(run, w, splat_word(self, x)) }
    }

    /// The instruction takes unsigned by signed bytes; flipping the sign bit adds 128.
    #[inline(always)]
    fn dot_signed(self, run: __m512i, w: __m512i, x: [u8; 4]) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { self.dot(run, _mm512_xor_si512(w, _mm512_set1_epi8(i8::MIN)), x) }
    }

    #[inline(always)]
    fn add_run(self, sum: __m512i, run: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_add_epi32(sum, run) }
    }

    #[inline(always)]
    fn scale(self, x: __m512i, t: usize) -> __m512i {
        // SAFETY: a pattern is 64 readable bytes; `self` proves the features.
        unsafe { _mm512_srai_epi32::<24>(_mm512_shuffle_epi8(x, _mm512_loadu_si512(LAST[t].as_ptr().cast()))) }
    }

    #[inline(always)]
    fn add_scaled(self, sum: __m512i, run: __m512i, scale: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_add_epi32(sum, _mm512_mullo_epi32(run, scale)) }
    }

    #[inline(always)]
    fn pair(self, x: __m512i, t: usize) -> __m512i {
        // SAFETY: a pattern is 64 readable bytes; `self` proves the features.
        unsafe { _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(x, _mm512_loadu_si512(PAIR[t].as_ptr().cast()))) }
    }

    #[inline(always)]
    fn dot_pairs(self, sum: __m512i, w: __m512i, x: [u8; 4]) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_dpwssd_epi32(sum, w, splat_word(self, x)) }
    }

    #[inline(always)]
    fn times_power(self, x: __m512i, n: u32) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_sll_epi32(x, _mm_cvtsi32_si128(n.cast_signed())) }
    }

    #[inline(always)]
    fn sub(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_sub_epi32(a, b) }
    }

    #[inline(always)]
    fn to_float(self, x: __m512i) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn splat(self, x: [u8; 4]) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_set1_ps(f32::from_ne_bytes(x)) }
    }

    #[inline(always)]
    fn f16(self, x: &[[u8; 2]; 16]) -> __m512 {
        // SAFETY: `x` is 32 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }

    #[inline(always)]
    fn half_power(self, x: &[[u8; 1]; 16]) -> __m512 {
        // SAFETY: `x` is 16 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe {
            let e = _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            let one = _mm512_set1_epi32(1);
            // The bits of the normal numbers, or something below those of the two others.
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(_mm512_max_epi32(e, one), one));
            let smallest = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), _mm512_min_epi32(e, one));
            _mm512_castsi512_ps(_mm512_max_epi32(normal, smallest))
        }
    }

    #[inline(always)]
    fn bf16(self, x: &[[u8; 2]; 16]) -> __m512 {
        // SAFETY: `x` is 32 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast())))) }
    }

    #[inline(always)]
    fn f32(self, x: &[[u8; 4]; 16]) -> __m512 {
        // SAFETY: `x` is 64 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm512_loadu_ps(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn mul_sub(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> __m512 {
        // SAFETY: `x` is 16 readable floats, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, x: __m512, out: &mut [f32; 16]) {
        // SAFETY: `out` is 16 writable floats, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &T, bytes: usize) {
        // SAFETY: a hint of every x86-64: it never faults, whatever the address, and changes nothing that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(from).cast::<i8>().wrapping_add(bytes)) }
    }

    /// In each quarter of a vector lie four columns of four rows.
    #[inline(always)]
    fn transpose(self, bytes: &[u8], stride: usize) -> [__m512i; 8] {
        check_stride::<16>(bytes, stride, 32);
        // SAFETY: each row has 32 readable bytes, as was checked, and the loads need no alignment; `self` proves the features.
        unsafe {
            let mut columns = [_mm512_setzero_si512(); 8];
            for h in 0..2 {
                let mut x = [_mm512_setzero_si512(); 4];
                for (r, x) in x.iter_mut().enumerate() {
                    let four = bytes.as_ptr().add(16 * h + r * stride);
                    let one = _mm512_castsi128_si512(_mm_loadu_si128(four.cast()));
                    let two = _mm512_inserti32x4::<1>(one, _mm_loadu_si128(four.add(4 * stride).cast()));
                    let three = _mm512_inserti32x4::<2>(two, _mm_loadu_si128(four.add(8 * stride).cast()));
                    *x = _mm512_inserti32x4::<3>(three, _mm_loadu_si128(four.add(12 * stride).cast()));
                }
                let [a, b] = [_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[0], x[1])];
                let [c, d] = [_mm512_unpacklo_epi32(x[2], x[3]), _mm512_unpackhi_epi32(x[2], x[3])];
                columns[4 * h] = _mm512_unpacklo_epi64(a, c);
                columns[4 * h + 1] = _mm512_unpackhi_epi64(a, c);
                columns[4 * h + 2] = _mm512_unpacklo_epi64(b, d);
                columns[4 * h + 3] = _mm512_unpackhi_epi64(b, d);
            }
            columns
        }
    }

    #[inline(always)]
    fn halves(self, x: __m512i) -> __m512i {
        // SAFETY: `HALVES` is 64 readable bytes; `self` proves the features.
        unsafe { _mm512_permutexvar_epi16(_mm512_loadu_si512(HALVES.as_ptr().cast()), x) }
    }

    #[inline(always)]
    fn store_words(self, x: __m512i, out: &mut [[u8; 4]; 16]) {
        // SAFETY: `out` is 64 writable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    fn gather<G: Gather<16>>(self, rows: Rows<'_>, tile: &mut [u8]) {
        // SAFETY: `self` proves the features.
        unsafe { gather::<G>(self, rows, tile) }
    }

    #[inline(always)]
    fn in_order(self) {
        // SAFETY: no instruction. That it might touch memory is what keeps reads in their places.
        unsafe { asm!("", options(nostack, preserves_flags)) }
    }

    #[inline(always)]
    fn run<D: Dot<16>, const T: usize, const M: usize>(self, operands: Operands<'_, T, M>, sums: &mut [[[f32; 16]; M]; T]) {
        // SAFETY: `self` proves the features.
        unsafe { run::<D, T, M>(self, operands, sums) }
    }
}

/// All of the above with the features of the set, so that it can be inlined.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vnni")]
fn run<D: Dot<16>, const T: usize, const M: usize>(v: Avx512Vnni, operands: Operands<'_, T, M>, sums: &mut [[[f32; 16]; M]; T]) {
    D::dot(v, operands, sums);
}

/// As [`run`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vnni")]
fn gather<G: Gather<16>>(v: Avx512Vnni, rows: Rows<'_>, tile: &mut [u8]) {
    G::gather(v, rows, tile);
}

/// Every other byte, from the second on.
const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;

impl Unfold<16> for Avx512Vnni {
    #[inline(always)]
    fn put(self, x: __m512i, to: &mut [[u8; 4]; 16]) {
        // SAFETY: `to` is 64 writable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), x) }
    }

    /// Even and odd bytes are multiplied in halves of words of their own.
    #[inline(always)]
    fn scaled(self, x: __m512i, scale: __m512i) -> [__m512i; 2] {
        // SAFETY: `self` proves the features.
        unsafe {
            let scale = _mm512_mask_blend_epi16(ODD as u32, scale, _mm512_slli_epi32::<16>(scale));
            let even = _mm512_mullo_epi16(_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x)), scale);
            let odd = _mm512_mullo_epi16(_mm512_srai_epi16::<8>(x), scale);
            let low = _mm512_mask_blend_epi8(ODD, even, _mm512_slli_epi16::<8>(odd));
            let high = _mm512_mask_blend_epi8(ODD, _mm512_srli_epi16::<PART_BITS>(even), _mm512_slli_epi16::<{ 8 - PART_BITS }>(odd));
            [_mm512_and_si512(low, _mm512_set1_epi8(0x7f)), high]
        }
    }
}

impl Avx512Vnni {
    /// [`Format::unfold`] with the features of the set.
    pub(in crate::kernels::x86_64) fn unfold<F: Format<16>>(self, tile: &[u8], columns: Range<usize>, panel: &mut Panel<16>) {
        // SAFETY: `self` proves the features.
        unsafe { unfold::<F>(self, tile, columns, panel) }
    }

    /// The `i32` lanes of `x`.
    #[inline(always)]
    pub(in crate::kernels::x86_64) fn ints(self, x: &[i32; 16]) -> __m512i {
        // SAFETY: `x` is 64 readable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }
}

/// As [`run`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vnni")]
fn unfold<F: Format<16>>(v: Avx512Vnni, tile: &[u8], columns: Range<usize>, panel: &mut Panel<16>) {
    F::unfold(v, tile, columns, panel);
}
