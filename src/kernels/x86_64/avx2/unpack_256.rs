//! How each k-quant becomes bytes to multiply and words to scale by. The layouts are documented at the block types.

use super::dot_256::{Below, Block256};
use super::vector::{load_bytes, load_half};
use crate::kernels::block::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, F16Bytes, packed_scales};
use std::arch::x86_64::*;

/// Bits `mask` of each byte of `x`, shifted right by `SHIFT`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn bits<const SHIFT: i32>(x: __m256i, mask: i8) -> __m256i {
    _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(x), _mm256_set1_epi8(mask))
}

/// Bits `mask` of each byte of `x`, shifted left by `SHIFT`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn bits_up<const SHIFT: i32>(x: __m256i, mask: i8) -> __m256i {
    _mm256_and_si256(_mm256_slli_epi16::<SHIFT>(x), _mm256_set1_epi8(mask))
}

/// Sixteen signed bytes as words: even ones in the lower half, odd ones in the upper.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn even_and_odd(x: __m128i) -> __m256i {
    let even = _mm_srai_epi16::<8>(_mm_slli_epi16::<8>(x));
    _mm256_set_m128i(_mm_srai_epi16::<8>(x), even)
}

/// Eight bytes, one per 32 elements, as words in both halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn per_32(bytes: u64) -> __m256i {
    _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(_mm_cvtsi64_si128(bytes.cast_signed())))
}

/// The four vectors of two-bit quants of half a block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn two_bits(qs: &[u8; 64], half: usize) -> [__m256i; 4] {
    let packed = load_bytes(&qs.as_chunks().0[half]);
    [bits::<0>(packed, 3), bits::<2>(packed, 3), bits::<4>(packed, 3), bits::<6>(packed, 3)]
}

/// The four vectors of four-bit quants of half a block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn four_bits(qs: &[u8; 128], half: usize) -> [__m256i; 4] {
    let packed = qs.as_chunks().0;
    let (first, second) = (load_bytes(&packed[2 * half]), load_bytes(&packed[2 * half + 1]));
    [bits::<0>(first, 15), bits::<4>(first, 15), bits::<0>(second, 15), bits::<4>(second, 15)]
}

/// `x`, with the bits of the asked half of a block in the lower half of each byte.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn half_of(x: &[u8; 32], half: usize) -> __m256i {
    _mm256_srl_epi16(load_bytes(x), _mm_cvtsi32_si128(4 * half as i32))
}

impl Block256 for BlockQ2K {
    fn d(&self) -> F16Bytes {
        self.d
    }

    fn below(&self) -> Below {
        Below::Min(self.dmin)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn scales(&self) -> (__m256i, __m256i) {
        let (packed, mask) = (load_half(&self.scales), _mm_set1_epi8(15));
        let scales = _mm_and_si128(packed, mask);
        let mins = _mm_and_si128(_mm_srli_epi16::<4>(packed), mask);
        (even_and_odd(scales), even_and_odd(mins))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn quants(&self, half: usize) -> [__m256i; 4] {
        two_bits(&self.qs, half)
    }
}

impl Block256 for BlockQ3K {
    fn d(&self) -> F16Bytes {
        self.d
    }

    fn below(&self) -> Below {
        Below::Shift(2)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn scales(&self) -> (__m256i, __m256i) {
        let words = self.scales.as_chunks().0;
        let (first, second, high) = (u32::from_le_bytes(words[0]), u32::from_le_bytes(words[1]), u32::from_le_bytes(words[2]));
        let join = |low: u32, high: u32| ((low & 0x0f0f_0f0f) | (high & 0x0303_0303) << 4).cast_signed();
        let packed = _mm_set_epi32(join(second >> 4, high >> 6), join(first >> 4, high >> 4), join(second, high >> 2), join(first, high));
        let scales = even_and_odd(_mm_sub_epi8(packed, _mm_set1_epi8(32)));
        (scales, scales)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn quants(&self, half: usize) -> [__m256i; 4] {
        let (low, high) = (two_bits(&self.qs, half), half_of(&self.hmask, half));
        let third = [bits_up::<2>(high, 4), bits_up::<1>(high, 4), bits::<0>(high, 4), bits::<1>(high, 4)];
        join(low, third)
    }
}

/// The low and high bits of four vectors.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn join(low: [__m256i; 4], high: [__m256i; 4]) -> [__m256i; 4] {
    [_mm256_or_si256(low[0], high[0]), _mm256_or_si256(low[1], high[1]), _mm256_or_si256(low[2], high[2]), _mm256_or_si256(low[3], high[3])]
}

impl Block256 for BlockQ4K {
    fn d(&self) -> F16Bytes {
        self.d
    }

    fn below(&self) -> Below {
        Below::Min(self.dmin)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn scales(&self) -> (__m256i, __m256i) {
        let (scales, mins) = packed_scales(&self.scales);
        (per_32(scales), per_32(mins))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn quants(&self, half: usize) -> [__m256i; 4] {
        four_bits(&self.qs, half)
    }
}

impl Block256 for BlockQ5K {
    fn d(&self) -> F16Bytes {
        self.d
    }

    fn below(&self) -> Below {
        Below::Min(self.dmin)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn scales(&self) -> (__m256i, __m256i) {
        let (scales, mins) = packed_scales(&self.scales);
        (per_32(scales), per_32(mins))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn quants(&self, half: usize) -> [__m256i; 4] {
        let high = half_of(&self.qh, half);
        let fifth = [bits_up::<4>(high, 16), bits_up::<3>(high, 16), bits_up::<2>(high, 16), bits_up::<1>(high, 16)];
        join(four_bits(&self.qs, half), fifth)
    }
}

impl Block256 for BlockQ6K {
    fn d(&self) -> F16Bytes {
        self.d
    }

    fn below(&self) -> Below {
        Below::Shift(5)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn scales(&self) -> (__m256i, __m256i) {
        let scales = even_and_odd(load_half(&self.scales));
        (scales, scales)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn quants(&self, half: usize) -> [__m256i; 4] {
        let low = self.ql.as_chunks().0;
        let (first, second) = (load_bytes(&low[2 * half]), load_bytes(&low[2 * half + 1]));
        let high = load_bytes(&self.qh.as_chunks().0[half]);
        let low = [bits::<0>(first, 15), bits::<0>(second, 15), bits::<4>(first, 15), bits::<4>(second, 15)];
        join(low, [bits_up::<4>(high, 0x30), bits_up::<2>(high, 0x30), bits::<0>(high, 0x30), bits::<2>(high, 0x30)])
    }
}
