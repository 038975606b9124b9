//! Rotation and addition, with the reference's bits.

use super::vector::{load, load_part, store, store_part};
use crate::kernels::contract::{Kernels, RopeStyle};
use crate::kernels::reference::Reference;
use std::arch::x86_64::*;

/// See [`Kernels::add`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    Reference.add(x, y); // the compiler makes the best of it
}

/// See [`Kernels::rope`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rope(style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let n_pairs = cos.len();
    assert!(sin.len() == n_pairs && 2 * n_pairs <= head.len(), "{n_pairs} angles for a head of {}", head.len());
    let whole = n_pairs - n_pairs % 8;
    let head = &mut head[..2 * n_pairs];
    match style {
        RopeStyle::Interleaved => {
            rotate_neighbours(&mut head[..2 * whole], &cos[..whole], &sin[..whole]);
            Reference.rope(style, &mut head[2 * whole..], &cos[whole..], &sin[whole..]);
        }
        RopeStyle::Halves => {
            let (first, second) = head.split_at_mut(n_pairs);
            rotate_halves(first, second, cos, sin);
        }
    }
}

/// `(a cos - b sin, b cos + a sin)` without fused operations, as the reference rounds it.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rotate(a: __m256, b: __m256, cos: __m256, sin: __m256) -> (__m256, __m256) {
    let x = _mm256_sub_ps(_mm256_mul_ps(a, cos), _mm256_mul_ps(b, sin));
    let y = _mm256_add_ps(_mm256_mul_ps(b, cos), _mm256_mul_ps(a, sin));
    (x, y)
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rotate_halves(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) {
    let ((a, a_rest), (b, b_rest)) = (first.as_chunks_mut::<8>(), second.as_chunks_mut::<8>());
    let ((cos, cos_rest), (sin, sin_rest)) = (cos.as_chunks::<8>(), sin.as_chunks::<8>());
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        let (x, y) = rotate(load(a), load(b), load(cos), load(sin));
        store(a, x);
        store(b, y);
    }
    let (x, y) = rotate(load_part(a_rest), load_part(b_rest), load_part(cos_rest), load_part(sin_rest));
    store_part(a_rest, x);
    store_part(b_rest, y);
}

/// Eight pairs at a time; sorting evens from odds and back works within 128-bit halves, so the angles are sorted alike.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rotate_neighbours(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let order = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
    let angles = cos.as_chunks::<8>().0.iter().zip(sin.as_chunks::<8>().0);
    for (sixteen, (cos, sin)) in head.as_chunks_mut::<16>().0.iter_mut().zip(angles) {
        let [low, high] = sixteen.as_chunks_mut::<8>().0 else { return };
        let a = _mm256_shuffle_ps::<0b_10_00_10_00>(load(low), load(high));
        let b = _mm256_shuffle_ps::<0b_11_01_11_01>(load(low), load(high));
        let (cos, sin) = (_mm256_permutevar8x32_ps(load(cos), order), _mm256_permutevar8x32_ps(load(sin), order));
        let (x, y) = rotate(a, b, cos, sin);
        store(low, _mm256_unpacklo_ps(x, y));
        store(high, _mm256_unpackhi_ps(x, y));
    }
}
