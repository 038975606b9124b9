//! Blocks of a file as words of four columns: what packing reads. [`reference::unpack`](crate::kernels::reference) says what they mean.

use super::element::{Element, F16, HalfPower};
use super::quants::Quads;
use super::scales::RowScales;
use crate::kernels::block::{
    Block, BlockIQ4NL, BlockIQ4XS, BlockMXFP4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0, packed_scales,
};

/// A block of 32 columns.
pub(super) trait Source32: Block {
    /// What the scale and the minimum are.
    type Factor: Element;

    /// The bytes of the scale, and of the minimum (0 if there is none).
    fn factors(&self) -> [<Self::Factor as Element>::Bytes; 2];

    /// The integers, as they are stored.
    fn quads(&self) -> Quads;
}

/// A block of 256 columns.
pub(super) trait Source256: Block {
    /// The bytes of the scale of the scales, and of that of the minima (0 if there is none).
    fn factors(&self) -> [[u8; 2]; 2];

    /// Scales and minima of the groups.
    fn scales(&self) -> RowScales;

    /// The integers of columns `32 s ..`, as they are stored.
    fn quads(&self, s: usize) -> Quads;
}

/// `mask` in each byte.
const fn each(mask: u8) -> u32 {
    u32::from_ne_bytes([mask; 4])
}

/// Word `j` of `bytes`.
#[inline]
fn word(bytes: &[u8], j: usize) -> u32 {
    bytes.as_chunks().0.get(j).map_or(0, |word| u32::from_ne_bytes(*word))
}

/// Bits `shift..` of each byte of the eight words of `bytes`, as many as `mask` has.
#[inline]
fn bits(bytes: &[u8], shift: usize, mask: u8) -> Quads {
    std::array::from_fn(|j| (word(bytes, j) >> shift) & each(mask))
}

/// `low | high << SHIFT` in each byte.
#[inline]
fn join<const SHIFT: u32>(low: Quads, high: Quads) -> Quads {
    std::array::from_fn(|j| low[j] | high[j] << SHIFT)
}

/// The four-bit integers of a legacy block: the second half of the columns is in the high halves of the bytes.
#[inline]
fn nibbles(qs: &[u8; 16]) -> Quads {
    std::array::from_fn(|j| (word(qs, j % 4) >> (4 * (j / 4))) & each(15))
}

/// Bit `i` of `qh` (little-endian) in the lowest bit of column `i`.
#[inline]
fn spread(qh: [u8; 4]) -> Quads {
    let four = |j: usize| (u32::from_le_bytes(qh) >> (4 * j)) & 15;
    // The product holds copies of the four bits, shifted so that bit `b` meets bit `8 b`.
    std::array::from_fn(|j| u32::from_ne_bytes(((four(j) * 0x0020_4081) & 0x0101_0101).to_le_bytes()))
}

/// Scales and minima of Q4_K and Q5_K, per 32 columns, repeated for each 16.
#[inline]
fn six_bits(packed: &[u8; 12]) -> RowScales {
    let (scales, mins) = packed_scales(packed);
    let (scales, mins) = (scales.to_le_bytes(), mins.to_le_bytes());
    RowScales { scales: std::array::from_fn(|g| scales[g / 2].cast_signed()), mins: std::array::from_fn(|g| mins[g / 2]) }
}

/// `scales` without minima.
#[inline]
fn without_mins(scales: [i8; 16]) -> RowScales {
    RowScales { scales, mins: [0; 16] }
}

/// Of each block `b`: what its factors are, those, and its integers.
macro_rules! sources_of_32 {
    ($($block:ident: $factor:ident |$b:ident| $factors:expr, $quads:expr;)+) => {
        $(impl Source32 for $block {
            type Factor = $factor;

            fn factors(&self) -> [<$factor as Element>::Bytes; 2] {
                let $b = self;
                $factors
            }

            #[inline]
            fn quads(&self) -> Quads {
                let $b = self;
                $quads
            }
        })+
    };
}

sources_of_32! {
    BlockQ4_0: F16 |b| [b.d.0, [0; 2]], nibbles(&b.qs);
    BlockQ4_1: F16 |b| [b.d.0, b.m.0], nibbles(&b.qs);
    BlockQ5_0: F16 |b| [b.d.0, [0; 2]], join::<4>(nibbles(&b.qs), spread(b.qh));
    BlockQ5_1: F16 |b| [b.d.0, b.m.0], join::<4>(nibbles(&b.qs), spread(b.qh));
    BlockQ8_0: F16 |b| [b.d.0, [0; 2]], bits(&b.qs, 0, 0xff);
    BlockIQ4NL: F16 |b| [b.d.0, [0; 2]], nibbles(&b.qs);
    BlockMXFP4: HalfPower |b| [b.e, [0]], nibbles(&b.qs);
}

/// Of each block `b`: its factors, its scales, and its integers of columns `32 s ..`.
macro_rules! sources_of_256 {
    ($($block:ident: |$b:ident, $s:ident| $factors:expr, $scales:expr, $quads:expr;)+) => {
        $(impl Source256 for $block {
            fn factors(&self) -> [[u8; 2]; 2] {
                let $b = self;
                $factors
            }

            #[inline]
            fn scales(&self) -> RowScales {
                let $b = self;
                $scales
            }

            #[inline]
            fn quads(&self, $s: usize) -> Quads {
                let $b = self;
                $quads
            }
        })+
    };
}

sources_of_256! {
    BlockQ2K: |b, s| [b.d.0, b.dmin.0],
        RowScales { scales: b.scales.map(|s| (s & 15).cast_signed()), mins: b.scales.map(|s| s >> 4) },
        bits(&b.qs[32 * (s / 4)..], 2 * (s % 4), 3);
    BlockQ3K: |b, s| [b.d.0, [0; 2]], without_mins(b.group_scales()),
        join::<2>(bits(&b.qs[32 * (s / 4)..], 2 * (s % 4), 3), bits(&b.hmask, s, 1));
    BlockQ4K: |b, s| [b.d.0, b.dmin.0], six_bits(&b.scales), bits(&b.qs[32 * (s / 2)..], 4 * (s % 2), 15);
    BlockQ5K: |b, s| [b.d.0, b.dmin.0], six_bits(&b.scales),
        join::<4>(bits(&b.qs[32 * (s / 2)..], 4 * (s % 2), 15), bits(&b.qh, s, 1));
    BlockQ6K: |b, s| [b.d.0, [0; 2]], without_mins(b.scales.map(u8::cast_signed)), six_bit_quads(b, s);
    BlockIQ4XS: |b, s| [b.d.0, [0; 2]], without_mins(b.group_scales()), b.qs.as_chunks().0.get(s).map_or([0; 8], nibbles);
}

/// The integers of columns `32 s ..` of Q6_K.
#[inline]
fn six_bit_quads(block: &BlockQ6K, s: usize) -> Quads {
    let (half, quarter) = (s / 4, s % 4);
    let low = bits(&block.ql[64 * half + 32 * (quarter % 2)..], 4 * (quarter / 2), 15);
    join::<4>(low, bits(&block.qh[32 * half..], 2 * quarter, 3))
}
