//! Products with Q8_0 rows as they lie in a file: exact integer sums in eight lanes per block, then one fused multiply-add with both scales.

use super::matmul::Dot;
use super::vector::{broadcast, broadcast_f16, load_bytes, sum};
use crate::kernels::activation::Q8Row32;
use crate::kernels::block::{BlockQ8_0, blocks};
use std::arch::x86_64::*;

/// Weights stored as [`BlockQ8_0`].
pub(super) struct Bytes32;

/// The sums of one activation row: two chains of lanes, which take turns over the blocks.
#[derive(Clone, Copy)]
struct Sums {
    even: __m256,
    odd: __m256,
}

impl Dot for Bytes32 {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<const R: usize, const M: usize>(weights: [&[u8]; R], x: [&[u8]; M]) -> [[f32; M]; R] {
        weights.map(|weights| dot_row(weights, x))
    }
}

/// The products of one weight row.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn dot_row<const M: usize>(weights: &[u8], x: [&[u8]; M]) -> [f32; M] {
    let w = blocks::<BlockQ8_0>(weights);
    let mut rows = [Q8Row32::new(x[0], w.len()); M];
    for m in 1..M {
        rows[m] = Q8Row32::new(x[m], w.len());
    }
    let mut sums = [Sums { even: _mm256_setzero_ps(), odd: _mm256_setzero_ps() }; M];
    for (i, pair) in w.chunks(2).enumerate() {
        for m in 0..M {
            sums[m].even = add_block(sums[m].even, &pair[0], &rows[m], 2 * i);
        }
        let Some(odd) = pair.get(1) else { break };
        for m in 0..M {
            sums[m].odd = add_block(sums[m].odd, odd, &rows[m], 2 * i + 1);
        }
    }
    let mut out = [0.0; M];
    for m in 0..M {
        out[m] = sum(_mm256_add_ps(sums[m].even, sums[m].odd));
    }
    out
}

/// `acc + d * scale * (quants . x)` in eight lanes, with block `b` of `x`.
///
/// The multiplication takes unsigned by signed bytes, so a weight hands its sign to the activation. Two products fit an `i16`: at most
/// 2 * 128 * 127 = 32512.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_block(acc: __m256, w: &BlockQ8_0, x: &Q8Row32<'_>, b: usize) -> __m256 {
    let quants = load_bytes(&w.qs);
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(quants), _mm256_sign_epi8(load_bytes(&x.quants[b]), quants));
    let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    let scale = _mm256_mul_ps(broadcast_f16(w.d), broadcast(&x.scales[b]));
    _mm256_fmadd_ps(_mm256_cvtepi32_ps(fours), scale, acc)
}
