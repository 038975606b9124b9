//! Products with weights in blocks of 32: exact integer sums in eight lanes per block, then one fused multiply-add with both scales.

use super::matmul::Dot;
use super::vector::{broadcast, broadcast_f16, load_bytes, load_half, sum};
use crate::kernels::activation::Q8Row32;
use crate::kernels::block::{Block, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, F16Bytes, blocks};
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// Weights stored as blocks of 32.
pub(super) struct Blocks32<B>(PhantomData<B>);

/// A block of 32 weights `d * q + m`.
trait Block32: Block {
    /// Whether there is an `m`. Then `q` is unsigned, otherwise signed.
    const HAS_MIN: bool;

    /// The scale.
    fn d(&self) -> F16Bytes;

    /// The minimum; +0 where there is none.
    fn m(&self) -> F16Bytes {
        F16Bytes([0, 0])
    }

    /// The 32 integers, one per byte, in order.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C.
    unsafe fn quants(&self) -> __m256i;
}

/// The sums of one activation row: two chains of lanes, which take turns over the blocks, and the minima.
#[derive(Clone, Copy)]
struct Sums {
    even: __m256,
    odd: __m256,
    mins: f32,
}

impl<B: Block32> Dot for Blocks32<B> {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<const R: usize, const M: usize>(weights: [&[u8]; R], x: [&[u8]; M]) -> [[f32; M]; R] {
        weights.map(|weights| dot_row::<B, M>(weights, x))
    }
}

/// The products of one weight row.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn dot_row<B: Block32, const M: usize>(weights: &[u8], x: [&[u8]; M]) -> [f32; M] {
    let w = blocks::<B>(weights);
    let mut rows = [Q8Row32::new(x[0], w.len()); M];
    for m in 1..M {
        rows[m] = Q8Row32::new(x[m], w.len());
    }
    let mut sums = [Sums { even: _mm256_setzero_ps(), odd: _mm256_setzero_ps(), mins: 0.0 }; M];
    for (i, pair) in w.chunks(2).enumerate() {
        let even = Weights::new(&pair[0]);
        for m in 0..M {
            sums[m].even = even.add_to(sums[m].even, &rows[m], 2 * i);
            sums[m].mins = even.add_min_to(sums[m].mins, &rows[m], 2 * i);
        }
        let Some(odd) = pair.get(1) else { break };
        let odd = Weights::new(odd);
        for m in 0..M {
            sums[m].odd = odd.add_to(sums[m].odd, &rows[m], 2 * i + 1);
            sums[m].mins = odd.add_min_to(sums[m].mins, &rows[m], 2 * i + 1);
        }
    }
    let mut out = [0.0; M];
    for m in 0..M {
        out[m] = sum(_mm256_add_ps(sums[m].even, sums[m].odd)) + sums[m].mins;
    }
    out
}

/// A block in registers, ready to meet several activation rows.
struct Weights<B> {
    /// The integers, and where they are signed their magnitudes.
    quants: __m256i,
    magnitudes: __m256i,
    d: __m256,
    m: f32,
    block: PhantomData<B>,
}

impl<B: Block32> Weights<B> {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn new(block: &B) -> Self {
        // SAFETY: this function has the same features.
        let quants = unsafe { block.quants() };
        let magnitudes = if B::HAS_MIN { quants } else { _mm256_abs_epi8(quants) };
        let m = if B::HAS_MIN { _mm256_cvtss_f32(broadcast_f16(block.m())) } else { 0.0 };
        Self { quants, magnitudes, d: broadcast_f16(block.d()), m, block: PhantomData }
    }

    /// `acc + d * scale * (quants . x)` in eight lanes, with block `b` of `x`.
    ///
    /// The multiplication takes unsigned by signed bytes, so a signed weight hands its sign to the activation. Two products fit an `i16`:
    /// at most 2 * 128 * 127 = 32512.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn add_to(&self, acc: __m256, x: &Q8Row32<'_>, b: usize) -> __m256 {
        let q = load_bytes(&x.quants[b]);
        let q = if B::HAS_MIN { q } else { _mm256_sign_epi8(q, self.quants) };
        let pairs = _mm256_maddubs_epi16(self.magnitudes, q);
        let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        let scale = _mm256_mul_ps(self.d, broadcast(&x.scales[b]));
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(fours), scale, acc)
    }

    /// `acc + m * sum(x)` with block `b` of `x`.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn add_min_to(&self, acc: f32, x: &Q8Row32<'_>, b: usize) -> f32 {
        if B::HAS_MIN { self.m.mul_add(f32::from_ne_bytes(x.sums[b]), acc) } else { acc }
    }
}

/// The 32 four-bit integers packed as in [`BlockQ4_0`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn nibbles(qs: &[u8; 16]) -> __m256i {
    let packed = load_half(qs);
    _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed), _mm256_set1_epi8(15))
}

/// 0x10 in each byte whose bit in `qh` is set, else 0.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn fifth_bits(qh: [u8; 4]) -> __m256i {
    // Byte i receives the byte of `qh` with its bit, then is tested against that bit.
    let byte_of = _mm256_set_epi64x(0x0303_0303_0303_0303, 0x0202_0202_0202_0202, 0x0101_0101_0101_0101, 0);
    let bit_of = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let bits = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(qh)), byte_of), bit_of);
    _mm256_and_si256(_mm256_cmpeq_epi8(bits, bit_of), _mm256_set1_epi8(0x10))
}

impl Block32 for BlockQ4_0 {
    const HAS_MIN: bool = false;

    fn d(&self) -> F16Bytes {
        self.d
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn quants(&self) -> __m256i {
        _mm256_sub_epi8(nibbles(&self.qs), _mm256_set1_epi8(8))
    }
}

impl Block32 for BlockQ4_1 {
    const HAS_MIN: bool = true;

    fn d(&self) -> F16Bytes {
        self.d
    }

    fn m(&self) -> F16Bytes {
        self.m
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn quants(&self) -> __m256i {
        nibbles(&self.qs)
    }
}

impl Block32 for BlockQ5_0 {
    const HAS_MIN: bool = false;

    fn d(&self) -> F16Bytes {
        self.d
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn quants(&self) -> __m256i {
        _mm256_sub_epi8(_mm256_or_si256(nibbles(&self.qs), fifth_bits(self.qh)), _mm256_set1_epi8(16))
    }
}

impl Block32 for BlockQ5_1 {
    const HAS_MIN: bool = true;

    fn d(&self) -> F16Bytes {
        self.d
    }

    fn m(&self) -> F16Bytes {
        self.m
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn quants(&self) -> __m256i {
        _mm256_or_si256(nibbles(&self.qs), fifth_bits(self.qh))
    }
}

impl Block32 for BlockQ8_0 {
    const HAS_MIN: bool = false;

    fn d(&self) -> F16Bytes {
        self.d
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn quants(&self) -> __m256i {
        load_bytes(&self.qs)
    }
}
