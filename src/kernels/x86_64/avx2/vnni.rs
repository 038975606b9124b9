//! Products of bytes with AVX-VNNI: runs are `i32` lanes, as in AVX-512.

use super::AvxVnni;
use super::lanes::splat_word;
use crate::kernels::packed::{Dot, Operands};
use std::arch::x86_64::*;

/// What [`dot_signed`] adds to each weight.
pub(super) const SIGNED_BIAS: u8 = 128;

/// `run + w . x`, four unsigned bytes of each row by four signed ones.
#[inline(always)]
pub(super) fn dot(v: AvxVnni, run: __m256i, w: __m256i, x: [u8; 4]) -> __m256i {
    // SAFETY: `v` proves the features.
    unsafe { _mm256_dpbusd_avx_epi32(run, w, splat_word(v, x)) }
}

/// `run + (w + SIGNED_BIAS) . x`, four signed bytes of each row by four signed ones: flipping the sign bit adds 128.
#[inline(always)]
pub(super) fn dot_signed(v: AvxVnni, run: __m256i, w: __m256i, x: [u8; 4]) -> __m256i {
    // SAFETY: `v` proves the features.
    unsafe { dot(v, run, _mm256_xor_si256(w, _mm256_set1_epi8(i8::MIN)), x) }
}

/// `a + b`
#[inline(always)]
pub(super) fn add(_proof: AvxVnni, a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: `_proof` proves the features.
    unsafe { _mm256_add_epi32(a, b) }
}

/// Signed byte `t` of each word.
#[inline(always)]
pub(super) fn scale(_proof: AvxVnni, x: __m256i, t: usize) -> __m256i {
    // SAFETY: `_proof` proves the features.
    unsafe { _mm256_srai_epi32::<24>(_mm256_sll_epi32(x, _mm_cvtsi32_si128(24 - 8 * t as i32))) }
}

/// `sum + run * scale`
#[inline(always)]
pub(super) fn add_scaled(_proof: AvxVnni, sum: __m256i, run: __m256i, scale: __m256i) -> __m256i {
    // SAFETY: `_proof` proves the features.
    unsafe { _mm256_add_epi32(sum, _mm256_mullo_epi32(run, scale)) }
}

/// A product with the features of the set, so that all of this can be inlined.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) fn run<D: Dot<8>, const T: usize, const M: usize>(v: AvxVnni, operands: Operands<'_, T, M>, sums: &mut [[[f32; 8]; M]; T]) {
    D::dot(v, operands, sums);
}
