//! Products with k-quants: exact integer sums per block of 256, sub-block scales included, then one fused multiply-add.
//!
//! Quants stay unsigned, as the multiplication wants them. What was subtracted from them to make them signed (or is a minimum) meets the
//! activation's sums of 16 instead. The formats themselves are read in [`unpack_256`](super::unpack_256).

use super::matmul::Dot;
use super::vector::{broadcast, broadcast_f16, load_bytes, sum};
use crate::kernels::activation::Q8Row256;
use crate::kernels::block::{Block, F16Bytes, blocks};
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// Weights stored as blocks of 256.
pub(super) struct SuperBlocks<B>(PhantomData<B>);

/// What is taken from `d * scale * quant` for each element.
pub(super) enum Below {
    /// `dmin * min`, with its own scale.
    Min(F16Bytes),
    /// `d * scale * 2^shift`: the quant is stored with `2^shift` added.
    Shift(i32),
}

/// A block of 256 weights.
pub(super) trait Block256: Block {
    /// The scale of the scales.
    fn d(&self) -> F16Bytes;

    /// What is subtracted. Its variant is the same for all blocks of a type.
    fn below(&self) -> Below;

    /// Scales and minima as 16 x `i16`: word `j` of half `h` is of the elements `32 j + 16 h ..` (see
    /// [`sum_index`](crate::kernels::activation::sum_index)). With [`Below::Shift`] the minima are the scales.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C.
    unsafe fn scales(&self) -> (__m256i, __m256i);

    /// The unsigned quants of elements `128 * half ..`, 32 per vector, in order.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C.
    unsafe fn quants(&self, half: usize) -> [__m256i; 4];
}

/// Shuffle patterns: word `j` of each half, in all words of that half.
const WORD: [[u8; 32]; 8] = {
    let mut patterns = [[0; 32]; 8];
    let mut i = 0;
    while i < 8 * 32 {
        patterns[i / 32][i % 32] = (2 * (i / 32) + i % 2) as u8;
        i += 1;
    }
    patterns
};

impl<B: Block256> Dot for SuperBlocks<B> {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<const R: usize, const M: usize>(weights: [&[u8]; R], x: [&[u8]; M]) -> [[f32; M]; R] {
        weights.map(|weights| dot_row::<B, M>(weights, x))
    }
}

/// The products of one weight row.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn dot_row<B: Block256, const M: usize>(weights: &[u8], x: [&[u8]; M]) -> [f32; M] {
    let w = blocks::<B>(weights);
    let mut rows = [Q8Row256::new(x[0], w.len()); M];
    for m in 1..M {
        rows[m] = Q8Row256::new(x[m], w.len());
    }
    let mut acc = [_mm256_setzero_ps(); M];
    for (b, block) in w.iter().enumerate() {
        // SAFETY: this function has the same features.
        let (scales, mins) = unsafe { block.scales() };
        let products = integer_products::<B, M>(block, scales, &rows, b);
        let d = broadcast_f16(block.d());
        for m in 0..M {
            let scale = broadcast(&rows[m].scales[b]);
            let below = _mm256_madd_epi16(mins, load_bytes(&rows[m].sums[b]));
            acc[m] = match block.below() {
                Below::Min(dmin) => {
                    let acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[m]), _mm256_mul_ps(d, scale), acc[m]);
                    let dmin = _mm256_mul_ps(broadcast_f16(dmin), scale);
                    _mm256_fnmadd_ps(_mm256_cvtepi32_ps(below), dmin, acc)
                }
                Below::Shift(shift) => {
                    let below = _mm256_sll_epi32(below, _mm_cvtsi32_si128(shift));
                    let signed = _mm256_cvtepi32_ps(_mm256_sub_epi32(products[m], below));
                    _mm256_fmadd_ps(signed, _mm256_mul_ps(d, scale), acc[m])
                }
            };
        }
    }
    let mut out = [0.0; M];
    for m in 0..M {
        out[m] = sum(acc[m]);
    }
    out
}

/// `sum(scale * quant * x)` over block `b`, in eight lanes.
///
/// Bounds: two products of a quant below 64 and an activation up to 127 fit an `i16` (16002); scaled by up to 128 and added over the
/// 32 terms of a lane they fit an `i32` (2^25).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn integer_products<B: Block256, const M: usize>(block: &B, scales: __m256i, x: &[Q8Row256<'_>; M], b: usize) -> [__m256i; M] {
    let mut acc = [_mm256_setzero_si256(); M];
    for half in 0..2 {
        // SAFETY: this function has the same features.
        let quants = unsafe { block.quants(half) };
        for v in 0..4 {
            let scale = _mm256_shuffle_epi8(scales, load_bytes(&WORD[4 * half + v]));
            for m in 0..M {
                let pairs = _mm256_maddubs_epi16(quants[v], load_bytes(&x[m].quants[b][4 * half + v]));
                acc[m] = _mm256_add_epi32(acc[m], _mm256_madd_epi16(pairs, scale));
            }
        }
    }
    acc
}
