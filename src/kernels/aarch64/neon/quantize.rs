//! Activations for integer products: largest magnitudes and rounding, with the instructions of this set.

use super::Neon;
use super::vector::load_floats;
use crate::kernels::vectors::Rounding;
use std::arch::aarch64::*;

impl<const I8MM: bool> Rounding for Neon<I8MM> {
    #[inline(always)]
    fn largest_magnitude(self, x: &[[f32; 32]]) -> u32 {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let mut max = [vdupq_n_u32(0); 2];
            for eight in x.as_flattened().as_chunks::<8>().0 {
                for (max, x) in max.iter_mut().zip(load_floats(eight)) {
                    *max = vmaxq_u32(*max, vreinterpretq_u32_f32(vabsq_f32(x)));
                }
            }
            vmaxvq_u32(vmaxq_u32(max[0], max[1]))
        }
    }

    #[inline(always)]
    fn round_32(self, x: &[f32; 32], inverse: f32, quants: &mut [u8; 32]) -> [i32; 2] {
        // SAFETY: `quants` is 16 writable bytes, and the instruction needs no alignment; NEON is part of the architecture.
        unsafe {
            let mut sums = [0; 2];
            let halves = x.as_chunks::<16>().0.iter().zip(quants.as_chunks_mut::<16>().0);
            for ((x, quants), sum) in halves.zip(&mut sums) {
                let mut eights = [vdup_n_s8(0); 2];
                for (eight, x) in eights.iter_mut().zip(x.as_chunks::<8>().0) {
                    let [low, high] = load_floats(x);
                    // Rounds half to even.
                    let (low, high) = (vcvtnq_s32_f32(vmulq_n_f32(low, inverse)), vcvtnq_s32_f32(vmulq_n_f32(high, inverse)));
                    *eight = vmovn_s16(vcombine_s16(vmovn_s32(low), vmovn_s32(high)));
                }
                let sixteen = vcombine_s8(eights[0], eights[1]);
                *sum = i32::from(vaddlvq_s8(sixteen));
                vst1q_s8(quants.as_mut_ptr().cast(), sixteen);
            }
            sums
        }
    }
}
