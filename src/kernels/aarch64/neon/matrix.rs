//! Products of matrices of bytes: one instruction multiplies two weight rows by two activation rows, eight columns of each.
//!
//! Its four sums lie as `[w0 x0, w0 x1, w1 x0, w1 x1]`. So the sums of a tile's eight rows with two activation rows are four vectors, a
//! vector for every two weight rows.

use super::NeonI8mm;
use super::vector::Words8;
use std::arch::aarch64::*;
use std::arch::asm;

/// Words of each two rows side by side: of the first vector's word of a row, then of the second's.
#[inline(always)]
pub(super) fn pairs(w: [Words8; 2]) -> [Words8; 2] {
    // SAFETY: NEON is part of the architecture.
    unsafe {
        let [first, second] = w.map(|w| w.map(|w| vreinterpretq_u32_u8(w)));
        let pairs = |i: usize| [vzip1q_u32(first[i], second[i]), vzip2q_u32(first[i], second[i])].map(|x| vreinterpretq_u8_u32(x));
        [pairs(0), pairs(1)]
    }
}

/// The sums of two activation rows, each with those of all weight rows: what [`dot`] has made, in the order of lanes.
#[inline(always)]
pub(super) fn rows(sums: [Words8; 2]) -> [Words8; 2] {
    // SAFETY: NEON is part of the architecture.
    unsafe {
        let [low, high] = sums.map(|sums| sums.map(|x| vreinterpretq_u32_u8(x)));
        let first = [vuzp1q_u32(low[0], low[1]), vuzp1q_u32(high[0], high[1])];
        let second = [vuzp2q_u32(low[0], low[1]), vuzp2q_u32(high[0], high[1])];
        [first, second].map(|sums| sums.map(|x| vreinterpretq_u8_u32(x)))
    }
}

/// `sums + w . x`: eight signed bytes of each weight row, as [`pairs`] gives them, by eight of each activation row.
#[inline(always)]
pub(super) fn dot(_proof: NeonI8mm, sums: [Words8; 2], w: [Words8; 2], x: [[[u8; 4]; 2]; 2]) -> [Words8; 2] {
    let [[mut a, mut b], [mut c, mut d]] = sums;
    // SAFETY: `x` is 16 readable bytes, and the load needs no alignment; the products work on registers alone, and `_proof` proves that they
    // exist. (The intrinsic is not stable yet.)
    unsafe {
        let x = vld1q_u8(x.as_ptr().cast());
        asm!(
            ".arch_extension i8mm",
            "smmla {a:v}.4s, {w0:v}.16b, {x:v}.16b",
            "smmla {b:v}.4s, {w1:v}.16b, {x:v}.16b",
            "smmla {c:v}.4s, {w2:v}.16b, {x:v}.16b",
            "smmla {d:v}.4s, {w3:v}.16b, {x:v}.16b",
            a = inout(vreg) a,
            b = inout(vreg) b,
            c = inout(vreg) c,
            d = inout(vreg) d,
            w0 = in(vreg) w[0][0],
            w1 = in(vreg) w[0][1],
            w2 = in(vreg) w[1][0],
            w3 = in(vreg) w[1][1],
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [[a, b], [c, d]]
}
