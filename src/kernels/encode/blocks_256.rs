//! The k-quants: groups are fitted by themselves, then their scales are rounded to a few bits, then their integers follow.

use super::fit::{fit_affine, fit_scale, inverse, nearest_stored, rounded};
use super::{Encode, to_f16};
use crate::kernels::block::{BlockQ4K, BlockQ5K, BlockQ6K, F16Bytes};

/// Starts of a fit with a minimum, in multiples of the scale that spans the group.
const AFFINE_STARTS: [f32; 12] = [0.9, 0.93, 0.95, 0.97, 0.985, 1.0, 1.015, 1.03, 1.05, 1.07, 1.1, 1.14];

/// Starts of a fit of six bits: the borders matter less.
const STARTS: [f32; 9] = [1.0, 0.975, 0.984, 0.992, 1.008, 1.016, 1.024, 1.034, 1.045];

/// Eight groups of 32 with six bits for each scale and minimum: what Q4_K and Q5_K share.
struct Affine {
    d: F16Bytes,
    dmin: F16Bytes,
    scales: [u8; 12],
    q: [u8; 256],
}

/// Fits `x` to integers in `0..=high`.
fn affine(x: &[f32; 256], high: f32) -> Affine {
    let groups = x.as_chunks::<32>().0;
    let mut fits = [(0.0, 0.0); 8];
    fits.iter_mut().zip(groups).for_each(|(fit, x)| *fit = fit_affine(x, high, &AFFINE_STARTS));
    let largest = fits.iter().fold((0.0_f32, 0.0_f32), |(s, m), fit| (s.max(fit.0), m.max(fit.1)));
    let ((d, unit), (dmin, min_unit)) = (to_f16(largest.0 / 63.0), to_f16(largest.1 / 63.0));
    let (mut stored, mut q) = ([(0, 0); 8], [0; 256]);
    for (g, x) in groups.iter().enumerate() {
        stored[g] = nearest_stored(x, high, fits[g], (unit, min_unit), 63.0);
        let (scale, min) = (unit * f32::from(stored[g].0), min_unit * f32::from(stored[g].1));
        let by_scale = inverse(scale);
        q[32 * g..][..32].iter_mut().zip(x).for_each(|(q, x)| *q = rounded((x + min) * by_scale, 0.0, high) as u8);
    }
    Affine { d, dmin, scales: packed(&stored), q }
}

/// Scales and minima in the order of [`packed_scales`](crate::kernels::block::packed_scales).
fn packed(stored: &[(u8, u8); 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for i in 0..4 {
        let ((scale, min), (scale_4, min_4)) = (stored[i], stored[i + 4]);
        packed[i] = scale | scale_4 >> 4 << 6;
        packed[i + 4] = min | min_4 >> 4 << 6;
        packed[i + 8] = (scale_4 & 15) | min_4 << 4;
    }
    packed
}

/// Integers of four bits: columns `64 c ..` in low halves, the 32 behind them in high ones.
fn nibbles(q: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|i| (q[64 * (i / 32) + i % 32] & 15) | q[64 * (i / 32) + 32 + i % 32] << 4)
}

impl Encode<256> for BlockQ4K {
    fn encode(x: &[f32; 256]) -> Self {
        let Affine { d, dmin, scales, q } = affine(x, 15.0);
        Self { d, dmin, scales, qs: nibbles(&q) }
    }
}

impl Encode<256> for BlockQ5K {
    fn encode(x: &[f32; 256]) -> Self {
        let Affine { d, dmin, scales, q } = affine(x, 31.0);
        let fifth_bits = |i: usize| (0..8).fold(0, |bits, j| bits | (q[32 * j + i] >> 4) << j);
        Self { d, dmin, scales, qh: std::array::from_fn(fifth_bits), qs: nibbles(&q) }
    }
}

impl Encode<256> for BlockQ6K {
    fn encode(x: &[f32; 256]) -> Self {
        let groups = x.as_chunks::<16>().0;
        let mut fits = [0.0_f32; 16];
        fits.iter_mut().zip(groups).for_each(|(fit, x)| *fit = fit_scale(x, -32.0, &STARTS));
        // One more negative scale than positive ones: the largest takes it.
        let extreme = fits.iter().fold(0.0_f32, |extreme, &s| if s.abs() > extreme.abs() { s } else { extreme });
        let (d, unit) = to_f16(extreme / -128.0);
        let by_unit = inverse(unit);
        let (mut scales, mut q) = ([0; 16], [0; 256]);
        for (g, x) in groups.iter().enumerate() {
            let stored = rounded(fits[g] * by_unit, -128.0, 127.0);
            scales[g] = (stored as i8).cast_unsigned();
            let by_scale = inverse(unit * stored);
            q[16 * g..][..16].iter_mut().zip(x).for_each(|(q, x)| *q = (rounded(x * by_scale, -32.0, 31.0) + 32.0) as u8);
        }
        let low = |i: usize| {
            let (half, byte) = (i / 64, i % 64);
            (q[128 * half + byte] & 15) | q[128 * half + 64 + byte] << 4
        };
        let high = |i: usize| (0..4).fold(0, |bits, j| bits | (q[128 * (i / 32) + 32 * j + i % 32] >> 4) << (2 * j));
        Self { ql: std::array::from_fn(low), qh: std::array::from_fn(high), scales, d }
    }
}
