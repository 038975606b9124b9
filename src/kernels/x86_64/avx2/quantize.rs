//! Activations for integer products: the same bytes as the reference, 32 elements at a time.

use super::vector::{load, store_bytes};
use crate::kernels::activation::{Q8Row32Mut, Q8Row256Mut, block_scale, row_bytes, sum_index, used_bytes};
use crate::kernels::contract::Activation;
use std::arch::x86_64::*;

/// See [`Kernels::quantize`](crate::kernels::Kernels::quantize).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn quantize(layout: Activation, x: &[f32], out: &mut [u8]) {
    assert_eq!(out.len(), row_bytes(layout, x.len()), "bytes of an activation row of {} columns", x.len());
    let (used, padding) = out.split_at_mut(used_bytes(layout, x.len()));
    padding.fill(0);
    match layout {
        Activation::F32 => used.as_chunks_mut().0.iter_mut().zip(x).for_each(|(out, x)| *out = x.to_ne_bytes()),
        Activation::Q8Block32 => blocks_of_32(x, Q8Row32Mut::new(used, x.len() / 32)),
        Activation::Q8Block256 => blocks_of_256(x, Q8Row256Mut::new(used, x.len() / 256)),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn blocks_of_32(x: &[f32], row: Q8Row32Mut<'_>) {
    let planes = row.quants.iter_mut().zip(row.scales).zip(row.sums);
    for (x, ((quants, scale_out), sum_out)) in x.as_chunks::<32>().0.iter().zip(planes) {
        let (scale, inverse) = block_scale(largest(std::slice::from_ref(x)));
        let sums = quantize_32(x, inverse, quants);
        *scale_out = scale.to_ne_bytes();
        *sum_out = (scale * (sums[0] + sums[1]) as f32).to_ne_bytes();
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn blocks_of_256(x: &[f32], row: Q8Row256Mut<'_>) {
    let planes = row.quants.iter_mut().zip(row.scales).zip(row.sums);
    for (x, ((quants, scale_out), sums_out)) in x.as_chunks::<256>().0.iter().zip(planes) {
        let x = x.as_chunks::<32>().0;
        let (scale, inverse) = block_scale(largest(x));
        *scale_out = scale.to_ne_bytes();
        let sums_out = sums_out.as_chunks_mut::<2>().0;
        for (j, (x, quants)) in x.iter().zip(quants.as_chunks_mut().0).enumerate() {
            let sums = quantize_32(x, inverse, quants);
            sums_out[sum_index(2 * j)] = (sums[0] as i16).to_ne_bytes();
            sums_out[sum_index(2 * j + 1)] = (sums[1] as i16).to_ne_bytes();
        }
    }
}

/// The bits of the largest magnitude: floats without a sign order as integers, NaN above infinity.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn largest(x: &[[f32; 32]]) -> u32 {
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
fn quantize_32(x: &[f32; 32], inverse: f32, quants: &mut [u8; 32]) -> [i32; 2] {
    if inverse == 0.0 {
        // Nothing, or something not finite, which the conversion would turn into -128.
        *quants = [0; 32];
        return [0; 2];
    }
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
