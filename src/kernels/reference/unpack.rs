//! What each quantised block means, spelled out element by element. The oracle of every faster way to read the same bytes.

use crate::kernels::block::{
    Block, BlockIQ4NL, BlockIQ4XS, BlockMXFP4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K,
    BlockQ6K, BlockQ8_0, F16Bytes, FP4_VALUES, IQ4_VALUES, half_power, packed_scales,
};

/// The factor of a type that has none.
const NONE: F16Bytes = F16Bytes([0; 2]);

/// A block of 32 weights: `w[i] = d * q[i] + m`.
pub(crate) struct Plain32 {
    pub(crate) d: f32,
    pub(crate) m: f32,
    pub(crate) q: [i8; 32],
}

/// A block of 256 weights: `w[i] = d * scales[i / 16] * q[i] - dmin * mins[i / 16]`.
pub(crate) struct Plain256 {
    pub(crate) d: F16Bytes,
    pub(crate) dmin: F16Bytes,
    pub(crate) scales: [i8; 16],
    pub(crate) mins: [u8; 16],
    pub(crate) q: [i8; 256],
}

/// A block type that can be spelled out as a `Plain`.
pub(crate) trait Unpack<Plain>: Block {
    /// The block's integers and scales.
    fn unpack(&self) -> Plain;
}

/// Element `i` of 32 whose four bits are packed as in [`BlockQ4_0`].
fn nibble(qs: &[u8; 16], i: usize) -> u8 {
    if i < 16 { qs[i] & 15 } else { qs[i - 16] >> 4 }
}

/// Element `i` of 32 whose fifth bit is in `qh`, as in [`BlockQ5_0`].
fn five_bits(qs: &[u8; 16], qh: [u8; 4], i: usize) -> u8 {
    nibble(qs, i) | (((u32::from_le_bytes(qh) >> i) & 1) as u8) << 4
}

impl Unpack<Plain32> for BlockQ4_0 {
    fn unpack(&self) -> Plain32 {
        Plain32 { d: self.d.to_f32(), m: 0.0, q: std::array::from_fn(|i| nibble(&self.qs, i) as i8 - 8) }
    }
}

impl Unpack<Plain32> for BlockQ4_1 {
    fn unpack(&self) -> Plain32 {
        Plain32 { d: self.d.to_f32(), m: self.m.to_f32(), q: std::array::from_fn(|i| nibble(&self.qs, i) as i8) }
    }
}

impl Unpack<Plain32> for BlockQ5_0 {
    fn unpack(&self) -> Plain32 {
        Plain32 { d: self.d.to_f32(), m: 0.0, q: std::array::from_fn(|i| five_bits(&self.qs, self.qh, i) as i8 - 16) }
    }
}

impl Unpack<Plain32> for BlockQ5_1 {
    fn unpack(&self) -> Plain32 {
        Plain32 { d: self.d.to_f32(), m: self.m.to_f32(), q: std::array::from_fn(|i| five_bits(&self.qs, self.qh, i) as i8) }
    }
}

impl Unpack<Plain32> for BlockQ8_0 {
    fn unpack(&self) -> Plain32 {
        Plain32 { d: self.d.to_f32(), m: 0.0, q: self.qs.map(|q| q as i8) }
    }
}

impl Unpack<Plain32> for BlockIQ4NL {
    fn unpack(&self) -> Plain32 {
        let value = |i: usize| IQ4_VALUES[usize::from(nibble(&self.qs, i))];
        Plain32 { d: self.d.to_f32(), m: 0.0, q: std::array::from_fn(value) }
    }
}

impl Unpack<Plain32> for BlockMXFP4 {
    fn unpack(&self) -> Plain32 {
        let value = |i: usize| FP4_VALUES[usize::from(nibble(&self.qs, i))];
        Plain32 { d: half_power(self.e[0]), m: 0.0, q: std::array::from_fn(value) }
    }
}

/// Two bits of element `i` of 256, packed as in [`BlockQ2K`].
fn two_bits(qs: &[u8; 64], i: usize) -> u8 {
    let (half, shift, byte) = (i / 128, i % 128 / 32 * 2, i % 32);
    (qs[32 * half + byte] >> shift) & 3
}

/// Four bits of element `i` of 256, packed as in [`BlockQ4K`].
fn four_bits(qs: &[u8; 128], i: usize) -> u8 {
    let byte = qs[32 * (i / 64) + i % 32];
    if i % 64 < 32 { byte & 15 } else { byte >> 4 }
}

impl Unpack<Plain256> for BlockQ2K {
    fn unpack(&self) -> Plain256 {
        Plain256 {
            d: self.d,
            dmin: self.dmin,
            scales: self.scales.map(|s| (s & 15) as i8),
            mins: self.scales.map(|s| s >> 4),
            q: std::array::from_fn(|i| two_bits(&self.qs, i) as i8),
        }
    }
}

impl Unpack<Plain256> for BlockQ3K {
    fn unpack(&self) -> Plain256 {
        let quant = |i: usize| (two_bits(&self.qs, i) | ((self.hmask[i % 32] >> (i / 32)) & 1) << 2) as i8 - 4;
        Plain256 { d: self.d, dmin: NONE, scales: self.group_scales(), mins: [0; 16], q: std::array::from_fn(quant) }
    }
}

impl BlockQ3K {
    /// The scales of 16 elements each.
    pub(crate) fn group_scales(&self) -> [i8; 16] {
        std::array::from_fn(|g| {
            let low = if g < 8 { self.scales[g] & 15 } else { self.scales[g - 8] >> 4 };
            let high = (self.scales[8 + g % 4] >> (g / 4 * 2)) & 3;
            (low | high << 4) as i8 - 32
        })
    }
}

/// Scales and minima of Q4_K and Q5_K, one per 32 elements, repeated for each 16.
fn scales_per_16(packed: &[u8; 12]) -> ([i8; 16], [u8; 16]) {
    let (scales, mins) = packed_scales(packed);
    let (scales, mins) = (scales.to_le_bytes(), mins.to_le_bytes());
    (std::array::from_fn(|g| scales[g / 2] as i8), std::array::from_fn(|g| mins[g / 2]))
}

impl Unpack<Plain256> for BlockQ4K {
    fn unpack(&self) -> Plain256 {
        let (scales, mins) = scales_per_16(&self.scales);
        let q = std::array::from_fn(|i| four_bits(&self.qs, i) as i8);
        Plain256 { d: self.d, dmin: self.dmin, scales, mins, q }
    }
}

impl Unpack<Plain256> for BlockQ5K {
    fn unpack(&self) -> Plain256 {
        let (scales, mins) = scales_per_16(&self.scales);
        let quant = |i: usize| (four_bits(&self.qs, i) | ((self.qh[i % 32] >> (i / 32)) & 1) << 4) as i8;
        Plain256 { d: self.d, dmin: self.dmin, scales, mins, q: std::array::from_fn(quant) }
    }
}

impl Unpack<Plain256> for BlockQ6K {
    fn unpack(&self) -> Plain256 {
        let quant = |i: usize| {
            let (half, quarter) = (i / 128, i % 128 / 32);
            let byte = self.ql[64 * half + i % 64];
            let low = if quarter < 2 { byte & 15 } else { byte >> 4 };
            let high = (self.qh[32 * half + i % 32] >> (2 * quarter)) & 3;
            (low | high << 4) as i8 - 32
        };
        Plain256 { d: self.d, dmin: NONE, scales: self.scales.map(|s| s as i8), mins: [0; 16], q: std::array::from_fn(quant) }
    }
}

impl Unpack<Plain256> for BlockIQ4XS {
    fn unpack(&self) -> Plain256 {
        let value = |i: usize| IQ4_VALUES[usize::from(nibble(&self.qs.as_chunks().0[i / 32], i % 32))];
        Plain256 { d: self.d, dmin: NONE, scales: self.group_scales(), mins: [0; 16], q: std::array::from_fn(value) }
    }
}

impl BlockIQ4XS {
    /// The scales, one per 32 elements, repeated for each 16.
    pub(crate) fn group_scales(&self) -> [i8; 16] {
        std::array::from_fn(|g| {
            let s = g / 2;
            let low = (self.scales_l[s / 2] >> (4 * (s % 2))) & 15;
            let high = (u16::from_le_bytes(self.scales_h) >> (2 * s)) & 3;
            (low | (high as u8) << 4) as i8 - 32
        })
    }
}
