//! Q4_0 and Q8_0.

use super::fit::{fit_scale, inverse, rounded};
use super::{Encode, to_f16};
use crate::kernels::block::{BlockQ4_0, BlockQ8_0};

/// How far the largest weight is from the end of the integers: a little beyond it, the others gain more than it loses.
const STARTS: [f32; 9] = [1.0, 0.92, 0.95, 0.975, 1.025, 1.05, 1.08, 1.12, 1.16];

impl Encode<32> for BlockQ4_0 {
    fn encode(x: &[f32; 32]) -> Self {
        let (d, scale) = to_f16(fit_scale(x, -8.0, &STARTS));
        let by_scale = inverse(scale);
        let q = |i: usize| (rounded(x[i] * by_scale, -8.0, 7.0) + 8.0) as u8;
        Self { d, qs: std::array::from_fn(|i| q(i) | q(i + 16) << 4) }
    }
}

impl Encode<32> for BlockQ8_0 {
    fn encode(x: &[f32; 32]) -> Self {
        let largest = x.iter().fold(0.0_f32, |largest, x| if x.abs() > largest { x.abs() } else { largest });
        let (d, scale) = to_f16(largest / 127.0);
        let by_scale = inverse(scale);
        Self { d, qs: x.map(|x| (rounded(x * by_scale, -127.0, 127.0) as i8).cast_unsigned()) }
    }
}
