//! Which tile each storage type becomes: the table, and what needs no vectors, packing and reading a row.

use super::blocks_32::Blocks32;
use super::blocks_256::Blocks256;
use super::element::{BF16, F16, F32};
use super::floats::Floats;
use super::matmul::Dot;
use super::panel::{Panel, Shape, Unfold};
use super::quants::{Eight, Five, Four, Six, Three, Two};
use super::scales::{Halves, Signed6, Signed6Of32, Signed8, Six32};
use super::tables::{Coded, Fp4, Iq4};
use crate::dtype::DType;
use crate::kernels::block::{
    BlockIQ4NL, BlockIQ4XS, BlockMXFP4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0,
};
use std::ops::Range;

/// A tile format of `R` rows.
pub(in crate::kernels) trait Format<const R: usize>: Dot<R> {
    /// Writes `R` rows, as they lie in a file, into a `tile` of as many bytes.
    fn pack(rows: &[u8], tile: &mut [u8]);

    /// Expands row `r` of `tile`.
    fn dequantize(tile: &[u8], r: usize, out: &mut [f32]);

    /// What its panels hold; `None` for floats, which have none.
    const PANEL: Option<Shape> = None;

    /// Writes `columns` of `tile`, whole blocks and at most [`PANEL_COLUMNS`](super::PANEL_COLUMNS), as [`Self::PANEL`] says.
    #[inline(always)]
    fn unfold<V: Unfold<R>>(_v: V, _tile: &[u8], _columns: Range<usize>, _panel: &mut Panel<R>) {}
}

/// Something to do with the format of a type.
pub(in crate::kernels) trait Visitor<const R: usize> {
    /// Does it.
    fn visit<F: Format<R>>(self);
}

/// Calls `visitor` with the format of `dtype`.
pub(in crate::kernels) fn with_format<const R: usize>(dtype: DType, visitor: impl Visitor<R>) {
    match dtype {
        DType::F32 => visitor.visit::<Floats<F32>>(),
        DType::F16 => visitor.visit::<Floats<F16>>(),
        DType::BF16 => visitor.visit::<Floats<BF16>>(),
        DType::Q4_0 => visitor.visit::<Blocks32<BlockQ4_0, Four<R>, 1>>(),
        DType::Q4_1 => visitor.visit::<Blocks32<BlockQ4_1, Four<R>, 2>>(),
        DType::Q5_0 => visitor.visit::<Blocks32<BlockQ5_0, Five<R>, 1>>(),
        DType::Q5_1 => visitor.visit::<Blocks32<BlockQ5_1, Five<R>, 2>>(),
        DType::Q8_0 => visitor.visit::<Blocks32<BlockQ8_0, Eight<R>, 1>>(),
        DType::Q2_K => visitor.visit::<Blocks256<BlockQ2K, Two<R>, Halves<R>, 2>>(),
        DType::Q3_K => visitor.visit::<Blocks256<BlockQ3K, Three<R>, Signed6<R>, 1>>(),
        DType::Q4_K => visitor.visit::<Blocks256<BlockQ4K, Four<R>, Six32<R>, 2>>(),
        DType::Q5_K => visitor.visit::<Blocks256<BlockQ5K, Five<R>, Six32<R>, 2>>(),
        DType::Q6_K => visitor.visit::<Blocks256<BlockQ6K, Six<R>, Signed8<R>, 1>>(),
        DType::IQ4_NL => visitor.visit::<Blocks32<BlockIQ4NL, Coded<Iq4, R>, 1>>(),
        DType::IQ4_XS => visitor.visit::<Blocks256<BlockIQ4XS, Coded<Iq4, R>, Signed6Of32<R>, 1>>(),
        DType::MXFP4 => visitor.visit::<Blocks32<BlockMXFP4, Coded<Fp4, R>, 1>>(),
    }
}

/// See [`Kernels::pack`](crate::kernels::Kernels::pack).
pub(in crate::kernels) fn pack<const R: usize>(dtype: DType, rows: &[u8], tile: &mut [u8]) {
    struct Pack<'a>(&'a [u8], &'a mut [u8]);
    impl<const R: usize> Visitor<R> for Pack<'_> {
        fn visit<F: Format<R>>(self) {
            F::pack(self.0, self.1);
        }
    }
    let whole_rows = dtype.block_bytes() * R;
    assert!(rows.len() == tile.len() && rows.len().is_multiple_of(whole_rows), "a tile of {R} rows of {}", dtype.name());
    with_format::<R>(dtype, Pack(rows, tile));
}

/// Expands row `r` of `tile` into `out`.
///
/// # Panics
/// If `tile` is not `R` rows of `out.len()` elements.
pub(in crate::kernels) fn dequantize<const R: usize>(dtype: DType, tile: &[u8], r: usize, out: &mut [f32]) {
    struct Dequantize<'a>(&'a [u8], usize, &'a mut [f32]);
    impl<const R: usize> Visitor<R> for Dequantize<'_> {
        fn visit<F: Format<R>>(self) {
            F::dequantize(self.0, self.1, self.2);
        }
    }
    let bytes = dtype.row_bytes(out.len()).and_then(|n| n.checked_mul(R));
    assert!(bytes == Some(tile.len()) && r < R, "row {r} of a tile of {R} rows of {} {}", out.len(), dtype.name());
    with_format::<R>(dtype, Dequantize(tile, r, out));
}

/// The integers that a file means by a word of them.
#[inline]
pub(super) fn signed_bytes(quad: [u8; 4], bias: u8) -> [i8; 4] {
    quad.map(|q| q.wrapping_sub(bias).cast_signed())
}
