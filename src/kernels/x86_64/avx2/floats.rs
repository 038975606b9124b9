//! Eight floats in one vector: what [`vectors`] asks for, and its functions with the instructions of this set.

use super::Avx2;
use super::vector::{largest, sum};
use crate::kernels::contract::{AttendParams, GateFn, KvTile, KvType, SoftmaxState};
use crate::kernels::vectors::{self, Floats};
use std::arch::x86_64::*;

impl Floats for Avx2 {
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn minus(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn round(self, x: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }

    #[inline(always)]
    fn power_of_2(self, n: __m256) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)))) }
    }

    #[inline(always)]
    fn sum(self, x: __m256) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe { sum(x) }
    }

    #[inline(always)]
    fn largest(self, x: __m256) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe { largest(x) }
    }

    #[inline(always)]
    fn bytes(self, x: &[u8; 8]) -> __m256 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*x)))) }
    }

    #[inline(always)]
    fn narrow(self, x: __m256) -> [[u8; 2]; 8] {
        let mut out = [[0; 2]; 8];
        // SAFETY: `out` is 16 writable bytes, and the instruction needs no alignment; `self` proves the features.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)) };
        out
    }
}

/// See [`Kernels::rms_norm`](crate::kernels::Kernels::rms_norm).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rms_norm(v: Avx2, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    vectors::rms_norm(v, x, weight, eps, out);
}

/// See [`Kernels::layer_norm`](crate::kernels::Kernels::layer_norm).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn layer_norm(v: Avx2, x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    vectors::layer_norm(v, x, weight, bias, eps, out);
}

/// See [`Kernels::glu`](crate::kernels::Kernels::glu).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn glu(v: Avx2, f: GateFn, gate: &mut [f32], up: &[f32]) {
    vectors::glu(v, f, gate, up);
}

/// See [`Kernels::store_key`](crate::kernels::Kernels::store_key).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn store_key(v: Avx2, kind: KvType, key: &[f32], keys: &mut [u8], token: usize) {
    vectors::store_key(v, kind, key, keys, token);
}

/// See [`Kernels::store_value`](crate::kernels::Kernels::store_value).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn store_value(v: Avx2, kind: KvType, value: &[f32], values: &mut [u8], token: usize) {
    vectors::store_value(v, kind, value, values, token);
}

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn attend(
    v: Avx2,
    params: &AttendParams,
    q: &[f32],
    tile: KvTile<'_>,
    next: Option<KvTile<'_>>,
    visible: &[(u32, u32)],
    state: &mut SoftmaxState<'_>,
) {
    vectors::attend(v, params, q, tile, next, visible, state);
}
