//! The walk over a matrix product: which tiles meet which activation rows when.

use super::formats::{Format, Visitor, with_format};
use super::lanes::Lanes;
use crate::kernels::contract::{ActivationRows, WeightRows};
use crate::kernels::shape::MatmulShape;
use crate::sys::columns::ColumnsMut;
use std::ops::Range;

/// Activation bytes that are kept hot while all tiles pass by: half of the smallest L2 cache of a machine with AVX2 (256 KiB).
const HOT_BYTES: usize = 128 << 10;

/// Tiles of floats that are read side by side for a small batch: one chain of additions per output would wait for each addition.
const FLOAT_TILES: usize = 4;

/// `T` tiles and the `M` activation rows that they meet.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Operands<'a, const T: usize, const M: usize> {
    /// Whole rows of tiles.
    pub(super) weights: [&'a [u8]; T],
    /// Quantised as the weights want it.
    pub(super) x: [&'a [u8]; M],
}

/// The inner product of one format.
pub(in crate::kernels) trait Dot<const R: usize> {
    /// Whether it takes floats.
    const IS_FLOAT: bool = false;

    /// The products of `T` tiles with `M` activation rows. Each result is made by the same operations whatever `T` and `M` are.
    fn dot<V: Lanes<R>, const T: usize, const M: usize>(v: V, operands: Operands<'_, T, M>, out: &mut [[[f32; R]; M]; T]);
}

/// See [`Kernels::matmul`](crate::kernels::Kernels::matmul); for weights in tiles of `R` rows.
pub(in crate::kernels) fn matmul<V: Lanes<R>, const R: usize>(
    v: V,
    weights: WeightRows<'_>,
    x: ActivationRows<'_>,
    out: &mut ColumnsMut<'_, f32>,
) {
    let shape = MatmulShape::check(&weights, &x, out);
    with_format::<R>(weights.dtype, Product { v, shape, weights, x, out });
}

/// A checked product.
struct Product<'a, 'o, V> {
    v: V,
    shape: MatmulShape,
    weights: WeightRows<'a>,
    x: ActivationRows<'a>,
    out: &'a mut ColumnsMut<'o, f32>,
}

impl<V: Lanes<R>, const R: usize> Visitor<R> for Product<'_, '_, V> {
    /// All outputs: groups of activation rows that fit the cache, some tiles at a time for each group, parts of the group for those.
    fn visit<F: Format<R>>(mut self) {
        let n_tiles = (self.weights.skip + self.shape.n_out).div_ceil(R);
        let step = if F::IS_FLOAT { V::FLOAT_ROWS } else { V::ROWS };
        let hot_rows = (HOT_BYTES / self.shape.activation_bytes.max(1)).next_multiple_of(step).max(step);
        for first in (0..self.x.n_rows).step_by(hot_rows) {
            let group = first..self.x.n_rows.min(first + hot_rows);
            let mut tile = 0;
            if F::IS_FLOAT && group.len() < V::FLOAT_ROWS {
                while tile + FLOAT_TILES <= n_tiles {
                    self.narrow::<F, R>(tile, group.clone());
                    tile += FLOAT_TILES;
                }
            }
            for tile in tile..n_tiles {
                self.wide::<F, R>(tile, group.clone());
            }
        }
    }
}

impl<V> Product<'_, '_, V> {
    /// Outputs of [`FLOAT_TILES`] tiles from `tile` on with the rows `group`.
    fn narrow<F: Dot<R>, const R: usize>(&mut self, tile: usize, group: Range<usize>)
    where
        V: Lanes<R>,
    {
        for m in group.clone().step_by(2) {
            match group.end - m {
                1 => self.part::<F, R, FLOAT_TILES, 1>(tile, m),
                _ => self.part::<F, R, FLOAT_TILES, 2>(tile, m),
            };
        }
    }

    /// Outputs of one tile with the rows `group`.
    fn wide<F: Dot<R>, const R: usize>(&mut self, tile: usize, group: Range<usize>)
    where
        V: Lanes<R>,
    {
        let most = if F::IS_FLOAT { V::FLOAT_ROWS } else { V::ROWS };
        let mut m = group.start;
        while m < group.end {
            m += match (group.end - m).min(most) {
                1 => self.part::<F, R, 1, 1>(tile, m),
                2 => self.part::<F, R, 1, 2>(tile, m),
                3 => self.part::<F, R, 1, 3>(tile, m),
                4 | 5 => self.part::<F, R, 1, 4>(tile, m),
                6 | 7 if most >= 6 => self.part::<F, R, 1, 6>(tile, m),
                8..12 if most >= 8 => self.part::<F, R, 1, 8>(tile, m),
                _ if most >= 12 => self.part::<F, R, 1, 12>(tile, m),
                _ => self.part::<F, R, 1, 4>(tile, m),
            };
        }
    }

    /// Outputs of tiles `tile..tile + T` with the rows `m..m + M`. Returns `M`.
    fn part<F: Dot<R>, const R: usize, const T: usize, const M: usize>(&mut self, tile: usize, m: usize) -> usize
    where
        V: Lanes<R>,
    {
        let weights = std::array::from_fn(|t| self.shape.tile_row(&self.weights, tile + t));
        let x = std::array::from_fn(|j| self.shape.activation_row(&self.x, m + j));
        let mut products = [[[0.0; R]; M]; T];
        self.v.run::<F, T, M>(Operands { weights, x }, &mut products);
        let (skip, n_out) = (self.weights.skip, self.shape.n_out);
        for (t, products) in products.iter().enumerate() {
            // Rows of the matrix that this tile has and the output wants.
            let rows = ((tile + t) * R).max(skip)..((tile + t + 1) * R).min(skip + n_out);
            for (j, products) in products.iter().enumerate() {
                let wanted = &products[rows.start - (tile + t) * R..][..rows.len()];
                self.out.row(m + j)[rows.start - skip..rows.end - skip].copy_from_slice(wanted);
            }
        }
        M
    }
}
