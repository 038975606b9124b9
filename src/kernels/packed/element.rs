//! Numbers that are stored narrower than an `f32`: the elements of unquantised tiles and the scales of blocks. `f32` holds each exactly.

use super::lanes::Lanes;
use crate::kernels::block::{Block, F16Bytes, half_power};
use crate::kernels::reference::bf16_to_f32;

/// An element type that widens to `f32` exactly.
pub(super) trait Element {
    /// As it is stored.
    type Bytes: Block;

    /// One element.
    fn widen(x: Self::Bytes) -> f32;

    /// One element per row.
    fn widen_all<V: Lanes<R>, const R: usize>(v: V, x: &[Self::Bytes; R]) -> V::F;
}

/// IEEE single precision.
pub(super) struct F32;
/// IEEE half precision.
pub(super) struct F16;
/// The upper half of an IEEE single.
pub(super) struct BF16;
/// The exponent of [`half_power`].
pub(super) struct HalfPower;

impl Element for F32 {
    type Bytes = [u8; 4];

    fn widen(x: [u8; 4]) -> f32 {
        f32::from_le_bytes(x)
    }

    #[inline(always)]
    fn widen_all<V: Lanes<R>, const R: usize>(v: V, x: &[[u8; 4]; R]) -> V::F {
        v.f32(x)
    }
}

impl Element for F16 {
    type Bytes = [u8; 2];

    fn widen(x: [u8; 2]) -> f32 {
        F16Bytes(x).to_f32()
    }

    #[inline(always)]
    fn widen_all<V: Lanes<R>, const R: usize>(v: V, x: &[[u8; 2]; R]) -> V::F {
        v.f16(x)
    }
}

impl Element for BF16 {
    type Bytes = [u8; 2];

    fn widen(x: [u8; 2]) -> f32 {
        bf16_to_f32(x)
    }

    #[inline(always)]
    fn widen_all<V: Lanes<R>, const R: usize>(v: V, x: &[[u8; 2]; R]) -> V::F {
        v.bf16(x)
    }
}

impl Element for HalfPower {
    type Bytes = [u8; 1];

    fn widen([e]: [u8; 1]) -> f32 {
        half_power(e)
    }

    #[inline(always)]
    fn widen_all<V: Lanes<R>, const R: usize>(v: V, x: &[[u8; 1]; R]) -> V::F {
        v.half_power(x)
    }
}
