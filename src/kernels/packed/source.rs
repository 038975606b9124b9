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

impl Source32 for BlockQ4_0 {
    type Factor = F16;

    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, [0; 2]]
    }

    #[inline]
    fn quads(&self) -> Quads {
        nibbles(&self.qs)
    }
}

impl Source32 for BlockQ4_1 {
    type Factor = F16;

    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, self.m.0]
    }

    #[inline]
    fn quads(&self) -> Quads {
        nibbles(&self.qs)
    }
}

impl Source32 for BlockQ5_0 {
    type Factor = F16;

    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, [0; 2]]
    }

    #[inline]
    fn quads(&self) -> Quads {
        join::<4>(nibbles(&self.qs), spread(self.qh))
    }
}

impl Source32 for BlockQ5_1 {
    type Factor = F16;

    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, self.m.0]
    }

    #[inline]
    fn quads(&self) -> Quads {
        join::<4>(nibbles(&self.qs), spread(self.qh))
    }
}

impl Source32 for BlockIQ4NL {
    type Factor = F16;

    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, [0; 2]]
    }

    #[inline]
    fn quads(&self) -> Quads {
        nibbles(&self.qs)
    }
}

impl Source32 for BlockMXFP4 {
    type Factor = HalfPower;

    fn factors(&self) -> [[u8; 1]; 2] {
        [self.e, [0]]
    }

    #[inline]
    fn quads(&self) -> Quads {
        nibbles(&self.qs)
    }
}

impl Source32 for BlockQ8_0 {
    type Factor = F16;

    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, [0; 2]]
    }

    #[inline]
    fn quads(&self) -> Quads {
        bits(&self.qs, 0, 0xff)
    }
}

/// Scales and minima of Q4_K and Q5_K, per 32 columns, repeated for each 16.
#[inline]
fn six_bits(packed: &[u8; 12]) -> RowScales {
    let (scales, mins) = packed_scales(packed);
    let (scales, mins) = (scales.to_le_bytes(), mins.to_le_bytes());
    RowScales { scales: std::array::from_fn(|g| scales[g / 2].cast_signed()), mins: std::array::from_fn(|g| mins[g / 2]) }
}

impl Source256 for BlockQ2K {
    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, self.dmin.0]
    }

    #[inline]
    fn scales(&self) -> RowScales {
        RowScales { scales: self.scales.map(|s| (s & 15).cast_signed()), mins: self.scales.map(|s| s >> 4) }
    }

    #[inline]
    fn quads(&self, s: usize) -> Quads {
        bits(&self.qs[32 * (s / 4)..], 2 * (s % 4), 3)
    }
}

impl Source256 for BlockQ3K {
    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, [0; 2]]
    }

    #[inline]
    fn scales(&self) -> RowScales {
        RowScales { scales: self.group_scales(), mins: [0; 16] }
    }

    #[inline]
    fn quads(&self, s: usize) -> Quads {
        join::<2>(bits(&self.qs[32 * (s / 4)..], 2 * (s % 4), 3), bits(&self.hmask, s, 1))
    }
}

impl Source256 for BlockQ4K {
    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, self.dmin.0]
    }

    #[inline]
    fn scales(&self) -> RowScales {
        six_bits(&self.scales)
    }

    #[inline]
    fn quads(&self, s: usize) -> Quads {
        bits(&self.qs[32 * (s / 2)..], 4 * (s % 2), 15)
    }
}

impl Source256 for BlockQ5K {
    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, self.dmin.0]
    }

    #[inline]
    fn scales(&self) -> RowScales {
        six_bits(&self.scales)
    }

    #[inline]
    fn quads(&self, s: usize) -> Quads {
        join::<4>(bits(&self.qs[32 * (s / 2)..], 4 * (s % 2), 15), bits(&self.qh, s, 1))
    }
}

impl Source256 for BlockQ6K {
    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, [0; 2]]
    }

    #[inline]
    fn scales(&self) -> RowScales {
        RowScales { scales: self.scales.map(u8::cast_signed), mins: [0; 16] }
    }

    #[inline]
    fn quads(&self, s: usize) -> Quads {
        let (half, quarter) = (s / 4, s % 4);
        let low = bits(&self.ql[64 * half + 32 * (quarter % 2)..], 4 * (quarter / 2), 15);
        join::<4>(low, bits(&self.qh[32 * half..], 2 * quarter, 3))
    }
}

impl Source256 for BlockIQ4XS {
    fn factors(&self) -> [[u8; 2]; 2] {
        [self.d.0, [0; 2]]
    }

    #[inline]
    fn scales(&self) -> RowScales {
        RowScales { scales: self.group_scales(), mins: [0; 16] }
    }

    #[inline]
    fn quads(&self, s: usize) -> Quads {
        self.qs.as_chunks().0.get(s).map_or([0; 8], nibbles)
    }
}
