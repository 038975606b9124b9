//! The blocks that quantised GGUF rows are made of, as they lie in a file. Every kernel set reads weights through them.
//!
//! A format is a fact of `ggml-common.h`; what its fields mean is spelled out once, in [`reference::unpack`](super::reference::unpack).
//! All blocks have alignment 1, because rows are packed and come from anywhere in a file.

use half::f16;

/// A type that any bytes are a valid value of, at any address.
///
/// # Safety
/// Alignment 1, no padding, no invalid bit patterns.
pub(crate) unsafe trait Block: Copy + 'static {}

// SAFETY: bytes.
unsafe impl<const N: usize> Block for [u8; N] {}

/// `bytes` as whole blocks.
///
/// # Panics
/// If `bytes` is not a whole number of blocks.
pub(crate) fn blocks<B: Block>(bytes: &[u8]) -> &[B] {
    const { assert!(align_of::<B>() == 1 && size_of::<B>() > 0) };
    assert!(bytes.len().is_multiple_of(size_of::<B>()), "{} bytes are not whole blocks of {}", bytes.len(), size_of::<B>());
    // SAFETY: the pointer is valid for `bytes.len()` bytes, which is what the blocks occupy; any bytes at any address are a `B`.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<B>()) }
}

/// `R` blocks, each `stride` bytes behind the one before.
///
/// # Panics
/// If `bytes` is too short.
#[inline(always)]
pub(crate) fn strided<B: Block, const R: usize>(bytes: &[u8], stride: usize) -> [B; R] {
    const { assert!(align_of::<B>() == 1 && R > 0) };
    check_stride::<R>(bytes, stride, size_of::<B>());
    // SAFETY: the last one ends at `(R - 1) * stride + size_of::<B>()`, which the check has found inside; any bytes at any address are a `B`.
    std::array::from_fn(|r| unsafe { bytes.as_ptr().add(r * stride).cast::<B>().read() })
}

/// That `bytes` has `R` times `len` bytes at this distance.
#[inline(always)]
pub(crate) fn check_stride<const R: usize>(bytes: &[u8], stride: usize, len: usize) {
    let end = (R - 1).checked_mul(stride).and_then(|last| last.checked_add(len));
    assert!(end.is_some_and(|end| end <= bytes.len()), "{R} rows every {stride} bytes of {}", bytes.len());
}

/// As [`blocks`], to be written.
///
/// # Panics
/// As [`blocks`].
pub(crate) fn blocks_mut<B: Block>(bytes: &mut [u8]) -> &mut [B] {
    const { assert!(align_of::<B>() == 1 && size_of::<B>() > 0) };
    assert!(bytes.len().is_multiple_of(size_of::<B>()), "{} bytes are not whole blocks of {}", bytes.len(), size_of::<B>());
    // SAFETY: as in `blocks`; a block has no padding, so whatever is written leaves initialised bytes.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size_of::<B>()) }
}

/// A little-endian `f16` at any address.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct F16Bytes(pub [u8; 2]);

// SAFETY: bytes in a transparent struct.
unsafe impl Block for F16Bytes {}

impl F16Bytes {
    /// The value, exactly.
    pub(crate) fn to_f32(self) -> f32 {
        f16::from_le_bytes(self.0).to_f32()
    }
}

/// `2^(e - 128)`: a scale that is an exponent alone (OCP Microscaling Formats 1.0, "E8M0"), halved as ggml does, whose FP4 values are
/// whole numbers, twice as large. The two smallest are subnormal.
pub(crate) fn half_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// What the sixteen codes of IQ4_NL and IQ4_XS stand for (`kvalues_iq4nl` of ggml).
pub(crate) const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// What the sixteen codes of MXFP4 stand for: twice the E2M1 numbers of the OCP Microscaling Formats 1.0; the fourth bit is the sign.
pub(crate) const FP4_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Declares block structs with their size in a file, and asserts that [`DType`](crate::dtype::DType) agrees.
macro_rules! block {
    ($(#[$doc:meta])* $name:ident, $dtype:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        pub(crate) struct $name { $($(#[$field_doc])* pub $field: $type,)+ }

        const _: () = assert!(size_of::<$name>() == crate::dtype::DType::$dtype.block_bytes());

        // SAFETY: `repr(C)` of arrays of bytes: alignment 1, and so no padding; every bit pattern of a byte is valid.
        unsafe impl Block for $name {}
    };
}

block! {
    /// 32 weights `d * (q - 8)`, `q` in 4 bits.
    BlockQ4_0, Q4_0 {
        /// The scale.
        d: F16Bytes,
        /// Byte `i` holds element `i` in its low half and element `i + 16` in its high half.
        qs: [u8; 16],
    }
}

block! {
    /// 32 weights `d * q + m`, `q` in 4 bits.
    BlockQ4_1, Q4_1 {
        /// The scale.
        d: F16Bytes,
        /// The minimum.
        m: F16Bytes,
        /// As in [`BlockQ4_0`].
        qs: [u8; 16],
    }
}

block! {
    /// 32 weights `d * (q - 16)`, `q` in 5 bits.
    BlockQ5_0, Q5_0 {
        /// The scale.
        d: F16Bytes,
        /// Bit `i` (little-endian) is the fifth bit of element `i`.
        qh: [u8; 4],
        /// The low four bits, as in [`BlockQ4_0`].
        qs: [u8; 16],
    }
}

block! {
    /// 32 weights `d * q + m`, `q` in 5 bits.
    BlockQ5_1, Q5_1 {
        /// The scale.
        d: F16Bytes,
        /// The minimum.
        m: F16Bytes,
        /// As in [`BlockQ5_0`].
        qh: [u8; 4],
        /// As in [`BlockQ4_0`].
        qs: [u8; 16],
    }
}

block! {
    /// 32 weights `d * q`, `q` a signed byte.
    BlockQ8_0, Q8_0 {
        /// The scale.
        d: F16Bytes,
        /// Signed bytes, in order.
        qs: [u8; 32],
    }
}

block! {
    /// 256 weights `d * scale * q - dmin * min`, `q` in 2 bits, scale and minimum (4 bits each) per 16.
    BlockQ2K, Q2_K {
        /// Of 16 elements each: the scale in the low half, the minimum in the high half.
        scales: [u8; 16],
        /// Byte `32 h + i` holds the elements `128 h + 32 j + i` at bit `2 j`.
        qs: [u8; 64],
        /// Scale of the scales.
        d: F16Bytes,
        /// Scale of the minima.
        dmin: F16Bytes,
    }
}

block! {
    /// 256 weights `d * (scale - 32) * (q - 4)`, `q` in 3 bits, a 6-bit scale per 16.
    BlockQ3K, Q3_K {
        /// Bit `4 h + j` of byte `i` is the third bit of element `128 h + 32 j + i`.
        hmask: [u8; 32],
        /// The low two bits, as in [`BlockQ2K`].
        qs: [u8; 64],
        /// Sixteen 6-bit scales: low halves in bytes 0..8 (two each), high pairs of bits in bytes 8..12 (four each).
        scales: [u8; 12],
        /// Scale of the scales.
        d: F16Bytes,
    }
}

block! {
    /// 256 weights `d * scale * q - dmin * min`, `q` in 4 bits, scale and minimum (6 bits each) per 32.
    BlockQ4K, Q4_K {
        /// Scale of the scales.
        d: F16Bytes,
        /// Scale of the minima.
        dmin: F16Bytes,
        /// Eight scales and eight minima of 6 bits; see [`packed_scales`].
        scales: [u8; 12],
        /// Byte `32 c + i` holds element `64 c + i` in its low half and element `64 c + 32 + i` in its high half.
        qs: [u8; 128],
    }
}

block! {
    /// 256 weights `d * scale * q - dmin * min`, `q` in 5 bits, scale and minimum (6 bits each) per 32.
    BlockQ5K, Q5_K {
        /// Scale of the scales.
        d: F16Bytes,
        /// Scale of the minima.
        dmin: F16Bytes,
        /// As in [`BlockQ4K`].
        scales: [u8; 12],
        /// Bit `j` of byte `i` is the fifth bit of element `32 j + i`.
        qh: [u8; 32],
        /// The low four bits, as in [`BlockQ4K`].
        qs: [u8; 128],
    }
}

block! {
    /// 256 weights `d * scale * (q - 32)`, `q` in 6 bits, a signed 8-bit scale per 16.
    BlockQ6K, Q6_K {
        /// Byte `64 h + i` holds, for `i` in 0..64, the low four bits of element `128 h + i` in its low half and of `128 h + 64 + i` in its high half.
        ql: [u8; 128],
        /// Byte `32 h + i` holds the high two bits of element `128 h + 32 j + i` at bit `2 j`.
        qh: [u8; 64],
        /// Signed bytes, one per 16 elements.
        scales: [u8; 16],
        /// Scale of the scales.
        d: F16Bytes,
    }
}

block! {
    /// 32 weights `d * IQ4_VALUES[code]`, a code of 4 bits.
    BlockIQ4NL, IQ4_NL {
        /// The scale.
        d: F16Bytes,
        /// As in [`BlockQ4_0`].
        qs: [u8; 16],
    }
}

block! {
    /// 256 weights `d * (scale - 32) * IQ4_VALUES[code]`, a code of 4 bits, a 6-bit scale per 32.
    BlockIQ4XS, IQ4_XS {
        /// Scale of the scales.
        d: F16Bytes,
        /// High two bits of scale `s` at bit `2 s` (little-endian).
        scales_h: [u8; 2],
        /// Low four bits of two scales each, the first in the low half.
        scales_l: [u8; 4],
        /// Sixteen bytes per 32 weights, each as in [`BlockQ4_0`].
        qs: [u8; 128],
    }
}

block! {
    /// 32 weights `half_power(e) * FP4_VALUES[code]`, a code of 4 bits.
    BlockMXFP4, MXFP4 {
        /// The exponent of the scale.
        e: [u8; 1],
        /// As in [`BlockQ4_0`].
        qs: [u8; 16],
    }
}

/// The eight 6-bit scales and the eight 6-bit minima of a Q4_K or Q5_K block, as little-endian bytes of two words.
///
/// The first four of each lie in the low six bits of bytes 0..4 and 4..8; the last four have their low half in bytes 8..12 and their high
/// two bits on top of the first four. Four bytes are handled at once, which is why the sets share this function.
#[inline]
pub(crate) fn packed_scales(packed: &[u8; 12]) -> (u64, u64) {
    let word = |i: usize| u32::from_le_bytes([packed[i], packed[i + 1], packed[i + 2], packed[i + 3]]);
    let (first, second, third) = (word(0), word(4), word(8));
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let scales = join(first & 0x3f3f_3f3f, (third & 0x0f0f_0f0f) | ((first >> 2) & 0x3030_3030));
    let mins = join(second & 0x3f3f_3f3f, ((third >> 4) & 0x0f0f_0f0f) | ((second >> 2) & 0x3030_3030));
    (scales, mins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_need_no_alignment() {
        let bytes: Vec<u8> = (0..37).collect();
        let row = blocks::<BlockQ8_0>(&bytes[3..]);
        assert_eq!((row.len(), row[0].d.0, row[0].qs[31]), (1, [3, 4], 36));
    }

    #[test]
    #[should_panic(expected = "whole blocks")]
    fn half_a_block_is_refused() {
        blocks::<BlockQ4_0>(&[0; 19]);
    }

    #[test]
    fn packed_scales_join_their_bits() {
        // Scale j = 8 j + 1, minimum j = 63 - j, packed by the definition of the format.
        let (scale, min) = (|j: u8| 8 * j + 1, |j: u8| 63 - j);
        let mut packed = [0; 12];
        for j in 0..4 {
            packed[usize::from(j)] = scale(j) | (scale(j + 4) >> 4) << 6;
            packed[usize::from(j) + 4] = min(j) | (min(j + 4) >> 4) << 6;
            packed[usize::from(j) + 8] = (scale(j + 4) & 15) | (min(j + 4) & 15) << 4;
        }
        let (scales, mins) = packed_scales(&packed);
        assert_eq!(scales.to_le_bytes(), std::array::from_fn(|j| scale(j as u8)));
        assert_eq!(mins.to_le_bytes(), std::array::from_fn(|j| min(j as u8)));
    }
}
