//! Loads, stores and reductions of 256-bit vectors. They take arrays, so a wrong length does not compile.

use std::arch::x86_64::*;

/// 32 bytes to any address.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn store_bytes(out: &mut [u8; 32], x: __m256i) {
    // SAFETY: `out` is 32 writable bytes, and the instruction needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), x) }
}

/// Eight floats.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn load(x: &[f32; 8]) -> __m256 {
    // SAFETY: `x` is 8 readable floats, and the instruction needs no alignment.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

/// Eight floats.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn store(out: &mut [f32; 8], x: __m256) {
    // SAFETY: `out` is 8 writable floats, and the instruction needs no alignment.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), x) }
}

/// Up to eight floats, zeros behind them.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn load_part(x: &[f32]) -> __m256 {
    let mut eight = [0.0; 8];
    eight[..x.len()].copy_from_slice(x);
    load(&eight)
}

/// The first `out.len()` (up to eight) floats of `x`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn store_part(out: &mut [f32], x: __m256) {
    let mut eight = [0.0; 8];
    store(&mut eight, x);
    out.copy_from_slice(&eight[..out.len()]);
}

/// The sum of the lanes: halves, then quarters, then the last two. Part of the order that bit-stability fixes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn sum(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// The largest lane.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn largest(x: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}
