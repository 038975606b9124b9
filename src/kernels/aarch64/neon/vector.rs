//! Instructions on pairs of vectors, which hold a tile's eight rows, and loads and stores of those. All of it is NEON's baseline, which
//! this architecture always has, but the product of bytes.

use super::Neon;
use std::arch::aarch64::*;
use std::arch::asm;

/// Eight words.
pub(super) type Words8 = [uint8x16_t; 2];

/// Eight floats.
pub(super) type Floats8 = [float32x4_t; 2];

/// 32 bytes at any address.
#[inline(always)]
pub(super) fn load_words(x: &[[u8; 4]; 8]) -> Words8 {
    // SAFETY: `x` is 32 readable bytes, and the instruction needs no alignment; NEON is part of the architecture.
    unsafe {
        let x = x.as_ptr().cast::<u8>();
        [vld1q_u8(x), vld1q_u8(x.add(16))]
    }
}

/// Nothing but zeros.
#[inline(always)]
pub(super) fn zero() -> uint8x16_t {
    // SAFETY: NEON is part of the architecture.
    unsafe { vdupq_n_u8(0) }
}

/// Four words of four rows: `[i]` of the result is word `i` of each.
#[inline(always)]
pub(super) fn transposed(rows: [[u8; 16]; 4]) -> [uint8x16_t; 4] {
    // SAFETY: each row is 16 readable bytes, and the instruction needs no alignment; NEON is part of the architecture.
    unsafe {
        let x = rows.map(|row| vreinterpretq_u32_u8(vld1q_u8(row.as_ptr())));
        let even = [vtrn1q_u32(x[0], x[1]), vtrn1q_u32(x[2], x[3])].map(|x| vreinterpretq_u64_u32(x));
        let odd = [vtrn2q_u32(x[0], x[1]), vtrn2q_u32(x[2], x[3])].map(|x| vreinterpretq_u64_u32(x));
        let columns = [vtrn1q_u64(even[0], even[1]), vtrn1q_u64(odd[0], odd[1]), vtrn2q_u64(even[0], even[1]), vtrn2q_u64(odd[0], odd[1])];
        columns.map(|x| vreinterpretq_u8_u64(x))
    }
}

/// Eight floats at any address.
#[inline(always)]
pub(super) fn load_floats(x: &[f32; 8]) -> Floats8 {
    // SAFETY: `x` is 8 readable floats, and the instruction needs no alignment; NEON is part of the architecture.
    unsafe { [vld1q_f32(x.as_ptr()), vld1q_f32(x.as_ptr().add(4))] }
}

/// Eight floats to any address.
#[inline(always)]
pub(super) fn store_floats(out: &mut [f32; 8], x: Floats8) {
    // SAFETY: `out` is 8 writable floats, and the instruction needs no alignment; NEON is part of the architecture.
    unsafe {
        vst1q_f32(out.as_mut_ptr(), x[0]);
        vst1q_f32(out.as_mut_ptr().add(4), x[1]);
    }
}

/// Eight 16-bit integers, widened.
#[inline(always)]
pub(super) fn load_u16(x: &[[u8; 2]; 8]) -> [uint32x4_t; 2] {
    // SAFETY: `x` is 16 readable bytes, and the instruction needs no alignment; NEON is part of the architecture.
    unsafe {
        let x = vreinterpretq_u16_u8(vld1q_u8(x.as_ptr().cast()));
        [vmovl_u16(vget_low_u16(x)), vmovl_high_u16(x)]
    }
}

/// Eight bytes.
#[inline(always)]
pub(super) fn load_bytes(x: &[u8; 8]) -> uint8x8_t {
    // SAFETY: `x` is 8 readable bytes, and the instruction needs no alignment; NEON is part of the architecture.
    unsafe { vld1_u8(x.as_ptr()) }
}

/// Four bytes, or a pair of `i16`, in every word.
#[inline(always)]
pub(super) fn splat(x: [u8; 4]) -> int32x4_t {
    // SAFETY: NEON is part of the architecture.
    unsafe { vdupq_n_s32(i32::from_ne_bytes(x)) }
}

/// `sum + w . x`, four signed bytes of each row by four signed ones.
#[inline(always)]
pub(super) fn dot<const I8MM: bool>(_proof: Neon<I8MM>, sum: Words8, w: Words8, x: [u8; 4]) -> Words8 {
    let (x, [mut low, mut high]) = (splat(x), sum);
    // SAFETY: the instructions work on registers alone, and `_proof` proves that they exist. (The intrinsic is not stable yet.)
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {low:v}.4s, {w_low:v}.16b, {x:v}.16b",
            "sdot {high:v}.4s, {w_high:v}.16b, {x:v}.16b",
            low = inout(vreg) low,
            high = inout(vreg) high,
            w_low = in(vreg) w[0],
            w_high = in(vreg) w[1],
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [low, high]
}

/// Eight `f16` as `f32`, exactly. (The type `f16` is not stable yet, nor are the intrinsics in the oldest compiler that we support.)
#[inline(always)]
pub(super) fn widen_f16(x: &[[u8; 2]; 8]) -> Floats8 {
    let (low, high);
    // SAFETY: `x` is 16 readable bytes, and the load needs no alignment; NEON is part of the architecture.
    unsafe {
        asm!(
            "fcvtl {low:v}.4s, {x:v}.4h",
            "fcvtl2 {high:v}.4s, {x:v}.8h",
            low = out(vreg) low,
            high = out(vreg) high,
            x = in(vreg) vld1q_u8(x.as_ptr().cast()),
            options(pure, nomem, nostack),
        );
    }
    [low, high]
}

/// Eight `f32` as `f16`, rounded half to even.
#[inline(always)]
pub(super) fn narrow_f16(x: Floats8) -> [[u8; 2]; 8] {
    let mut bytes = [[0; 2]; 8];
    // SAFETY: `bytes` is 16 writable bytes, and the store needs no alignment; NEON is part of the architecture.
    unsafe {
        let eight: uint8x16_t;
        asm!(
            "fcvtn {eight:v}.4h, {low:v}.4s",
            "fcvtn2 {eight:v}.8h, {high:v}.4s",
            eight = out(vreg) eight,
            low = in(vreg) x[0],
            high = in(vreg) x[1],
            options(pure, nomem, nostack),
        );
        vst1q_u8(bytes.as_mut_ptr().cast(), eight);
    }
    bytes
}

/// Asks for the cache line of `at` before it is read.
#[inline(always)]
pub(super) fn prefetch(at: *const u8) {
    // SAFETY: a hint: it never faults, whatever the address, and changes nothing that a program can see. (The intrinsic is not stable yet.)
    unsafe { asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags)) }
}
