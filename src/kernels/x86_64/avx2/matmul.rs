//! The walk over a matrix product: which weight row meets which activation rows when. The arithmetic is in the `dot_*` files.

use super::dot_32::Blocks32;
use super::dot_256::SuperBlocks;
use super::dot_float::Floats;
use super::element::{BF16, F16, F32};
use crate::dtype::DType;
use crate::kernels::block::{BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0};
use crate::kernels::contract::{ActivationRows, WeightRows};
use crate::kernels::shape::MatmulShape;
use crate::sys::columns::ColumnsMut;

/// Activation rows that share one pass over a weight row: as many as accumulators, operands and masks fit into 16 registers.
const TILE: usize = 4;

/// Activation bytes that are kept hot while all weight rows pass by: half of the smallest L2 cache of an AVX2 machine (256 KiB).
const HOT_BYTES: usize = 128 << 10;

/// The inner product of one weight type.
pub(super) trait Dot {
    /// The products of one weight row with `M` activation rows. Each result is made by the same operations whatever `M` is.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C.
    unsafe fn dot<const M: usize>(weights: &[u8], x: [&[u8]; M]) -> [f32; M];
}

/// See [`Kernels::matmul`](crate::kernels::Kernels::matmul).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn matmul(weights: WeightRows<'_>, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>) {
    match weights.dtype {
        DType::F32 => walk::<Floats<F32>>(weights, x, out),
        DType::F16 => walk::<Floats<F16>>(weights, x, out),
        DType::BF16 => walk::<Floats<BF16>>(weights, x, out),
        DType::Q4_0 => walk::<Blocks32<BlockQ4_0>>(weights, x, out),
        DType::Q4_1 => walk::<Blocks32<BlockQ4_1>>(weights, x, out),
        DType::Q5_0 => walk::<Blocks32<BlockQ5_0>>(weights, x, out),
        DType::Q5_1 => walk::<Blocks32<BlockQ5_1>>(weights, x, out),
        DType::Q8_0 => walk::<Blocks32<BlockQ8_0>>(weights, x, out),
        DType::Q2_K => walk::<SuperBlocks<BlockQ2K>>(weights, x, out),
        DType::Q3_K => walk::<SuperBlocks<BlockQ3K>>(weights, x, out),
        DType::Q4_K => walk::<SuperBlocks<BlockQ4K>>(weights, x, out),
        DType::Q5_K => walk::<SuperBlocks<BlockQ5K>>(weights, x, out),
        DType::Q6_K => walk::<SuperBlocks<BlockQ6K>>(weights, x, out),
    }
}

/// All outputs: groups of activation rows that fit the cache, all weight rows for each group, tiles of the group for each weight row.
#[target_feature(enable = "avx2,fma,f16c")]
fn walk<D: Dot>(weights: WeightRows<'_>, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>) {
    let shape = MatmulShape::check(&weights, &x, out);
    let hot_rows = (HOT_BYTES / shape.activation_bytes.max(1)).next_multiple_of(TILE).max(TILE);
    for first in (0..x.n_rows).step_by(hot_rows) {
        let last = x.n_rows.min(first + hot_rows);
        for i in 0..shape.n_out {
            let row = shape.weight_row(&weights, i);
            for m in (first..last).step_by(TILE) {
                match last - m {
                    1 => tile::<D, 1>(&shape, row, x, m, i, out),
                    2 => tile::<D, 2>(&shape, row, x, m, i, out),
                    3 => tile::<D, 3>(&shape, row, x, m, i, out),
                    _ => tile::<D, TILE>(&shape, row, x, m, i, out),
                }
            }
        }
    }
}

/// Outputs `(m..m + M, i)`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn tile<D: Dot, const M: usize>(shape: &MatmulShape, row: &[u8], x: ActivationRows<'_>, m: usize, i: usize, out: &mut ColumnsMut<'_, f32>) {
    let x = std::array::from_fn(|j| shape.activation_row(&x, m + j));
    // SAFETY: this function has the same features.
    let products = unsafe { D::dot::<M>(row, x) };
    for (j, product) in products.into_iter().enumerate() {
        out.row(m + j)[i] = product;
    }
}
