//! Products with rows as they lie in a file: which weight row meets which activation rows when. The arithmetic is in the `dot_*` files.

use super::dot_bytes::Bytes32;
use super::dot_float::Floats;
use super::element::{BF16, F16, F32};
use crate::dtype::DType;
use crate::kernels::contract::{ActivationRows, Kernels, WeightRows};
use crate::kernels::reference::Reference;
use crate::kernels::shape::MatmulShape;
use crate::sys::columns::ColumnsMut;
use std::ops::Range;

/// Activation rows that share one pass over a weight row: as many as accumulators, operands and masks fit into 16 registers.
const TILE: usize = 4;

/// Activation bytes that are kept hot while all weight rows pass by: half of the smallest L2 cache of an AVX2 machine (256 KiB).
const HOT_BYTES: usize = 128 << 10;

/// The inner product of one weight type.
pub(super) trait Dot {
    /// The products of `R` weight rows with `M` activation rows. Each result is made by the same operations whatever `R` and `M` are.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C.
    unsafe fn dot<const R: usize, const M: usize>(weights: [&[u8]; R], x: [&[u8]; M]) -> [[f32; M]; R];
}

/// See [`Kernels::matmul`]; for rows as in a file.
///
/// The second parameter is how many weight rows meet the activations at once. Of plain ones three fit (twelve accumulators), which hides
/// the latency of the addition and reads the wide `f32` activations less often. Types that are always packed take the reference's path.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn matmul(weights: WeightRows<'_>, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>) {
    match weights.dtype {
        DType::F32 => walk::<Floats<F32>, 3>(weights, x, out),
        DType::F16 => walk::<Floats<F16>, 3>(weights, x, out),
        DType::BF16 => walk::<Floats<BF16>, 3>(weights, x, out),
        DType::Q8_0 => walk::<Bytes32, 1>(weights, x, out),
        _ => Reference.matmul(weights, x, out),
    }
}

/// All outputs: groups of activation rows that fit the cache, `R` weight rows at a time for each group, tiles of the group for those.
#[target_feature(enable = "avx2,fma,f16c")]
fn walk<D: Dot, const R: usize>(weights: WeightRows<'_>, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>) {
    let product = Product { shape: MatmulShape::check(&weights, &x, out), weights, x };
    let n_out = product.shape.n_out;
    let hot_rows = (HOT_BYTES / product.shape.activation_bytes.max(1)).next_multiple_of(TILE).max(TILE);
    for first in (0..x.n_rows).step_by(hot_rows) {
        let group = first..x.n_rows.min(first + hot_rows);
        for i in (0..n_out - n_out % R).step_by(R) {
            product.rows::<D, R>(i, group.clone(), out);
        }
        for i in n_out - n_out % R..n_out {
            product.rows::<D, 1>(i, group.clone(), out);
        }
    }
}

/// A checked product.
#[derive(Clone, Copy)]
struct Product<'a> {
    shape: MatmulShape,
    weights: WeightRows<'a>,
    x: ActivationRows<'a>,
}

impl Product<'_> {
    /// Outputs `(group, i..i + R)`.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn rows<D: Dot, const R: usize>(self, i: usize, group: Range<usize>, out: &mut ColumnsMut<'_, f32>) {
        for m in group.clone().step_by(TILE) {
            match group.end - m {
                1 => self.tile::<D, R, 1>(i, m, out),
                2 => self.tile::<D, R, 2>(i, m, out),
                3 => self.tile::<D, R, 3>(i, m, out),
                _ => self.tile::<D, R, TILE>(i, m, out),
            }
        }
    }

    /// Outputs `(m..m + M, i..i + R)`.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn tile<D: Dot, const R: usize, const M: usize>(self, i: usize, m: usize, out: &mut ColumnsMut<'_, f32>) {
        let weights = std::array::from_fn(|r| self.shape.tile_row(&self.weights, i + r));
        let x = std::array::from_fn(|j| self.shape.activation_row(&self.x, m + j));
        // SAFETY: this function has the same features.
        let products = unsafe { D::dot::<R, M>(weights, x) };
        for j in 0..M {
            let out = &mut out.row(m + j)[i..i + R];
            for (out, products) in out.iter_mut().zip(&products) {
                *out = products[j];
            }
        }
    }
}
