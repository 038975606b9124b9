//! Eight floats in two vectors: what [`vectors`](crate::kernels::vectors) asks for.

use super::Neon;
use super::vector::{Floats8, load_bytes, narrow_f16};
use crate::kernels::vectors::Floats;
use std::arch::aarch64::*;

impl<const I8MM: bool> Floats for Neon<I8MM> {
    #[inline(always)]
    fn add(self, a: Floats8, b: Floats8) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    fn minus(self, a: Floats8, b: Floats8) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { [vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    fn div(self, a: Floats8, b: Floats8) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { [vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    fn min(self, a: Floats8, b: Floats8) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { [vminq_f32(a[0], b[0]), vminq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    fn max(self, a: Floats8, b: Floats8) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { [vmaxq_f32(a[0], b[0]), vmaxq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    fn round(self, x: Floats8) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe { [vrndnq_f32(x[0]), vrndnq_f32(x[1])] }
    }

    #[inline(always)]
    fn power_of_2(self, n: Floats8) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let power = |n| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127))));
            [power(n[0]), power(n[1])]
        }
    }

    #[inline(always)]
    fn sum(self, x: Floats8) -> f32 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let four = vaddq_f32(x[0], x[1]);
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }

    #[inline(always)]
    fn largest(self, x: Floats8) -> f32 {
        // SAFETY: NEON is part of the architecture.
        unsafe { vmaxvq_f32(vmaxq_f32(x[0], x[1])) }
    }

    #[inline(always)]
    fn bytes(self, x: &[u8; 8]) -> Floats8 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let x = vmovl_s8(vreinterpret_s8_u8(load_bytes(x)));
            [vcvtq_f32_s32(vmovl_s16(vget_low_s16(x))), vcvtq_f32_s32(vmovl_high_s16(x))]
        }
    }

    #[inline(always)]
    fn narrow(self, x: Floats8) -> [[u8; 2]; 8] {
        narrow_f16(x)
    }
}
