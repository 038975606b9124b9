//! How quantised activation rows lie in memory: planes, so that a vector load never straddles two blocks. Shared by all kernel sets.

use super::block::{blocks, blocks_mut};
use super::contract::Activation;

/// Activation rows begin at multiples of this: a cache line.
const ROW_ALIGN: usize = 64;

/// The largest magnitude of a quantised activation. Symmetric, so that a byte can be negated.
pub(crate) const Q8_MAX: f32 = 127.0;

/// Elements of a block, and the bytes they take in all planes together.
const fn block_of(layout: Activation) -> (usize, usize) {
    match layout {
        Activation::F32 => (1, size_of::<f32>()),
        Activation::Q8Block32 => (32, 32 + 2 * size_of::<f32>()),
        Activation::Q8Block256 => (256, 256 + (16 + 8) * size_of::<i16>() + size_of::<f32>()),
    }
}

/// Bytes of a row of `n_cols` elements, padded to an odd number of cache lines: the same column of some rows is read side by side, and
/// at a distance of a power of two all of it would fall into one set of the cache.
///
/// # Panics
/// As [`used_bytes`].
pub(crate) fn row_bytes(layout: Activation, n_cols: usize) -> usize {
    let lines = used_bytes(layout, n_cols).div_ceil(ROW_ALIGN) | 1;
    lines.checked_mul(ROW_ALIGN).expect("an activation row fits into memory")
}

/// Bytes of a row of `n_cols` elements without its padding.
///
/// # Panics
/// If `n_cols` is not whole blocks of the layout, or the size overflows.
pub(crate) fn used_bytes(layout: Activation, n_cols: usize) -> usize {
    let (block_len, block_bytes) = block_of(layout);
    assert!(n_cols.is_multiple_of(block_len), "{n_cols} columns are not whole blocks of {block_len}");
    (n_cols / block_len).checked_mul(block_bytes).expect("an activation row fits into memory")
}

/// A row quantised in blocks of 32: `x[i] = scales[i / 32] * quants[i]`.
#[derive(Clone, Copy)]
pub(crate) struct Q8Row32<'a> {
    /// `(n_blocks, 32)` signed bytes in `-127..=127`
    pub quants: &'a [[u8; 32]],
    /// `(n_blocks,)`
    pub scales: &'a [[u8; 4]],
    /// `(n_blocks,)` of `i32`: the sum of the quants.
    pub sums: &'a [[u8; 4]],
}

impl<'a> Q8Row32<'a> {
    /// The planes of a row of `n_blocks` blocks.
    ///
    /// # Panics
    /// If `bytes` is too short.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], n_blocks: usize) -> Self {
        let (quants, rest) = bytes.split_at(32 * n_blocks);
        let (scales, rest) = rest.split_at(4 * n_blocks);
        // Cut once more by the number of blocks, which lets the compiler drop the bounds checks of a loop over them.
        let (scales, sums) = (&blocks(scales)[..n_blocks], &blocks(&rest[..4 * n_blocks])[..n_blocks]);
        Self { quants: &blocks(quants)[..n_blocks], scales, sums }
    }
}

/// The planes of [`Q8Row32`], to be written.
pub(crate) struct Q8Row32Mut<'a> {
    /// `(n_blocks, 32)`
    pub quants: &'a mut [[u8; 32]],
    /// `(n_blocks,)`
    pub scales: &'a mut [[u8; 4]],
    /// `(n_blocks,)`
    pub sums: &'a mut [[u8; 4]],
}

impl<'a> Q8Row32Mut<'a> {
    /// As [`Q8Row32::new`].
    pub(crate) fn new(bytes: &'a mut [u8], n_blocks: usize) -> Self {
        let (quants, rest) = bytes.split_at_mut(32 * n_blocks);
        let (scales, rest) = rest.split_at_mut(4 * n_blocks);
        let sums = &mut rest[..4 * n_blocks];
        Self { quants: quants.as_chunks_mut().0, scales: scales.as_chunks_mut().0, sums: sums.as_chunks_mut().0 }
    }
}

/// A row quantised in blocks of 256: `x[i] = scales[i / 256] * quants[i]`.
#[derive(Clone, Copy)]
pub(crate) struct Q8Row256<'a> {
    /// `(n_blocks, 256)` signed bytes in `-127..=127`
    pub quants: &'a [[[u8; 32]; 8]],
    /// `(n_blocks, 16)` of `i16`, two to a word: sums of 16 quants each.
    pub sums_16: &'a [[[u8; 4]; 8]],
    /// `(n_blocks, 8)` of `i16`, two to a word: sums of 32 quants each.
    pub sums_32: &'a [[[u8; 4]; 4]],
    /// `(n_blocks,)`
    pub scales: &'a [[u8; 4]],
}

// SAFETY: nested arrays of bytes.
unsafe impl<const N: usize, const M: usize> super::block::Block for [[u8; N]; M] {}

impl<'a> Q8Row256<'a> {
    /// The planes of a row of `n_blocks` blocks.
    ///
    /// # Panics
    /// If `bytes` is too short.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], n_blocks: usize) -> Self {
        let (quants, rest) = bytes.split_at(256 * n_blocks);
        let (sums_16, rest) = rest.split_at(32 * n_blocks);
        let (sums_32, rest) = rest.split_at(16 * n_blocks);
        // As in `Q8Row32::new`.
        let (sums_16, sums_32) = (&blocks(sums_16)[..n_blocks], &blocks(sums_32)[..n_blocks]);
        Self { quants: &blocks(quants)[..n_blocks], sums_16, sums_32, scales: &blocks(&rest[..4 * n_blocks])[..n_blocks] }
    }
}

/// The planes of [`Q8Row256`], to be written.
pub(crate) struct Q8Row256Mut<'a> {
    /// `(n_blocks, 256)`
    pub quants: &'a mut [[u8; 256]],
    /// `(n_blocks, 16)` of `i16`
    pub sums_16: &'a mut [[[u8; 2]; 16]],
    /// `(n_blocks, 8)` of `i16`
    pub sums_32: &'a mut [[[u8; 2]; 8]],
    /// `(n_blocks,)`
    pub scales: &'a mut [[u8; 4]],
}

impl<'a> Q8Row256Mut<'a> {
    /// As [`Q8Row256::new`].
    pub(crate) fn new(bytes: &'a mut [u8], n_blocks: usize) -> Self {
        let (quants, rest) = bytes.split_at_mut(256 * n_blocks);
        let (sums_16, rest) = rest.split_at_mut(32 * n_blocks);
        let (sums_32, rest) = rest.split_at_mut(16 * n_blocks);
        let scales = rest[..4 * n_blocks].as_chunks_mut().0;
        Self { quants: quants.as_chunks_mut().0, sums_16: blocks_mut(sums_16), sums_32: blocks_mut(sums_32), scales }
    }
}

/// Scale and its inverse for a block whose largest magnitude has the bits `largest` (of an `f32` without its sign).
///
/// `(0, 0)` for a block of zeros, or so close to it that the inverse overflows; `(NaN, 0)` for one with an infinity or a NaN, so that
/// every product with it is NaN rather than a plausible number.
#[inline]
pub(crate) fn block_scale(largest: u32) -> (f32, f32) {
    let largest = f32::from_bits(largest);
    let inverse = Q8_MAX / largest;
    if !largest.is_finite() {
        (f32::NAN, 0.0)
    } else if !inverse.is_finite() {
        (0.0, 0.0)
    } else {
        (largest / Q8_MAX, inverse)
    }
}
