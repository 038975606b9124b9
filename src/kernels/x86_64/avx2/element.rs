//! Unquantised elements, eight at a time: weights as `f32`, `f16`, `bf16`.

use super::vector::{load_bytes, load_half};
use crate::kernels::block::{Block, blocks};
use std::arch::x86_64::*;

/// An element type that widens to `f32`.
pub(super) trait Element: 'static {
    /// The bytes of eight elements.
    type Eight: Block;

    /// Eight elements as `f32`, exactly.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C.
    unsafe fn widen(eight: &Self::Eight) -> __m256;
}

/// IEEE single precision.
pub(super) struct F32;
/// IEEE half precision.
pub(super) struct F16;
/// The upper half of an IEEE single.
pub(super) struct BF16;

impl Element for F32 {
    type Eight = [u8; 32];

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn widen(eight: &[u8; 32]) -> __m256 {
        _mm256_castsi256_ps(load_bytes(eight))
    }
}

impl Element for F16 {
    type Eight = [u8; 16];

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn widen(eight: &[u8; 16]) -> __m256 {
        _mm256_cvtph_ps(load_half(eight))
    }
}

impl Element for BF16 {
    type Eight = [u8; 16];

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn widen(eight: &[u8; 16]) -> __m256 {
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_half(eight))))
    }
}

/// A row as whole eights and the bytes of the (fewer than eight) elements behind them.
#[inline]
pub(super) fn eights<E: Element>(row: &[u8]) -> (&[E::Eight], &[u8]) {
    let (whole, rest) = row.split_at(row.len() - row.len() % size_of::<E::Eight>());
    (blocks(whole), rest)
}

/// Fewer than eight elements, zeros behind them.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn widen_part<E: Element>(rest: &[u8]) -> __m256 {
    let mut bytes = [0; 32];
    bytes[..rest.len()].copy_from_slice(rest);
    // SAFETY: this function has the same features.
    unsafe { E::widen(&blocks(&bytes[..size_of::<E::Eight>()])[0]) }
}
