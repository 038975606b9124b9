//! Activations for integer products: largest magnitudes and rounding, with the instructions of this set.

use super::Avx2;
use super::vector::{load, store_bytes};
use crate::kernels::contract::Activation;
use crate::kernels::vectors::{self, Rounding};
use std::arch::x86_64::*;

impl Rounding for Avx2 {
    #[inline(always)]
    fn largest_magnitude(self, x: &[[f32; 32]]) -> u32 {
        // SAFETY: `self` proves the features.
        unsafe { largest_magnitude(x) }
    }

    #[inline(always)]
    fn round_32(self, x: &[f32; 32], inverse: f32, quants: &mut [u8; 32]) -> [i32; 2] {
        // SAFETY: `self` proves the features.
        unsafe { round_32(x, inverse, quants) }
    }
}

/// See [`Kernels::quantize`](crate::kernels::Kernels::quantize).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn quantize(v: Avx2, layout: Activation, x: &[f32], out: &mut [u8]) {
    vectors::quantize(v, layout, x, out);
}

/// The bits of the largest magnitude: floats without a sign order as integers, NaN above infinity.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn largest_magnitude(x: &[[f32; 32]]) -> u32 {
    let mut max = _mm256_setzero_si256();
    for eight in x.as_flattened().as_chunks::<8>().0 {
        let magnitude = _mm256_and_si256(_mm256_castps_si256(load(eight)), _mm256_set1_epi32(i32::MAX));
        max = _mm256_max_epi32(max, magnitude);
    }
    let four = _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256::<1>(max));
    let two = _mm_max_epi32(four, _mm_shuffle_epi32::<0b_01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32::<0b_10_11_00_01>(two))).cast_unsigned()
}

/// `round(x * inverse)`, and the sums of both halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn round_32(x: &[f32; 32], inverse: f32, quants: &mut [u8; 32]) -> [i32; 2] {
    let inverse = _mm256_set1_ps(inverse);
    let x = x.as_chunks::<8>().0;
    let mut q = [_mm256_setzero_si256(); 4];
    for (q, x) in q.iter_mut().zip(x) {
        *q = _mm256_cvtps_epi32(_mm256_mul_ps(load(x), inverse)); // rounds half to even
    }
    // Packing works within 128-bit halves; the permutation puts the fours back in order.
    let words = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    let packed = _mm256_permutevar8x32_epi32(words, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    store_bytes(quants, packed);
    sums_of_16(packed)
}

/// The sums of the lower and the upper 16 signed bytes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn sums_of_16(x: __m256i) -> [i32; 2] {
    // The instruction sums unsigned bytes, eight at a time: flipping the sign bit adds 128 to each.
    let eights = _mm256_sad_epu8(_mm256_xor_si256(x, _mm256_set1_epi8(i8::MIN)), _mm256_setzero_si256());
    let sixteens = _mm256_add_epi32(eights, _mm256_bsrli_epi128::<8>(eights));
    [_mm256_extract_epi32::<0>(sixteens) - 16 * 128, _mm256_extract_epi32::<4>(sixteens) - 16 * 128]
}
