//! The walk over a matrix product: which tiles meet which activation rows when.

use super::formats::{Format, Visitor, with_format};
use super::lanes::Lanes;
use crate::kernels::contract::{ActivationRows, WeightRows};
use crate::kernels::shape::MatmulShape;
use crate::sys::columns::ColumnsMut;
use std::ops::Range;

/// Activation bytes that are kept hot while all tiles pass by: half of the smallest L2 cache of a machine with AVX2 (256 KiB).
const HOT_BYTES: usize = 128 << 10;

/// Columns of floats that meet a batch at a time: those of two tiles and of the activation rows that share a pass fit the L1 cache.
const FLOAT_COLUMNS: usize = 512;

/// Tiles of floats that are read side by side for a small batch, of fewer rows than that: with one chain of additions per output, a
/// single tile would wait for each addition.
const FLOAT_TILES: usize = 4;

/// `T` tiles and the `M` activation rows that they meet.
#[derive(Clone)]
pub(in crate::kernels) struct Operands<'a, const T: usize, const M: usize> {
    /// Whole rows of tiles.
    pub(super) weights: [&'a [u8]; T],
    /// Quantised as the weights want it.
    pub(super) x: [&'a [u8]; M],
    /// The columns to multiply: whole blocks.
    pub(super) columns: Range<usize>,
}

/// The inner product of one format.
pub(in crate::kernels) trait Dot<const R: usize> {
    /// Whether it takes floats.
    const IS_FLOAT: bool = false;

    /// Adds the products of `T` tiles with `M` activation rows to `sums`. Each result is made by the same operations whatever `T` and `M`
    /// are, and whether its columns come at once or in parts.
    fn dot<V: Lanes<R>, const T: usize, const M: usize>(v: V, operands: Operands<'_, T, M>, sums: &mut [[[f32; R]; M]; T]);
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
    /// All outputs: columns that fit the L1 cache, groups of activation rows whose columns fit the L2, some tiles at a time for each group.
    fn visit<F: Format<R>>(mut self) {
        let (n_cols, n_rows) = (self.weights.n_cols, self.x.n_rows);
        let is_small = n_rows < FLOAT_TILES;
        let block = if F::IS_FLOAT && !is_small { FLOAT_COLUMNS } else { n_cols.max(1) };
        let hot_bytes = self.shape.activation_bytes * block.min(n_cols) / n_cols.max(1);
        let hot_rows = (HOT_BYTES / hot_bytes.max(1)).max(1).next_multiple_of(V::ROWS * V::FLOAT_ROWS);
        for columns in (0..n_cols.max(1)).step_by(block).map(|start| start..n_cols.min(start + block)) {
            for first in (0..n_rows).step_by(hot_rows) {
                let rows = first..n_rows.min(first + hot_rows);
                match (F::IS_FLOAT, is_small) {
                    (false, _) => self.tiles::<F, R, 1>(columns.clone(), rows),
                    (true, false) => self.tiles::<F, R, 2>(columns.clone(), rows),
                    (true, true) => self.tiles::<F, R, FLOAT_TILES>(columns.clone(), rows),
                }
            }
        }
    }
}

impl<V> Product<'_, '_, V> {
    /// All outputs of `rows`, `T` tiles at a time.
    fn tiles<F: Dot<R>, const R: usize, const T: usize>(&mut self, columns: Range<usize>, rows: Range<usize>)
    where
        V: Lanes<R>,
    {
        let n_tiles = (self.weights.skip + self.shape.n_out).div_ceil(R);
        let whole = n_tiles - n_tiles % T;
        for tile in (0..whole).step_by(T) {
            self.rows::<F, R, T>(tile, columns.clone(), rows.clone());
        }
        for tile in whole..n_tiles {
            self.rows::<F, R, 1>(tile, columns.clone(), rows.clone());
        }
    }

    /// Outputs of `T` tiles from `tile` on with the rows `rows`.
    fn rows<F: Dot<R>, const R: usize, const T: usize>(&mut self, tile: usize, columns: Range<usize>, rows: Range<usize>)
    where
        V: Lanes<R>,
    {
        // Four tiles are for fewer than four rows.
        let most = if T == FLOAT_TILES {
            2
        } else if F::IS_FLOAT {
            V::FLOAT_ROWS
        } else {
            V::ROWS
        };
        let mut m = rows.start;
        while m < rows.end {
            let columns = columns.clone();
            m += match (rows.end - m).min(most) {
                1 => self.part::<F, R, T, 1>(tile, columns, m),
                2 | 3 => self.part::<F, R, T, 2>(tile, columns, m),
                4 | 5 => self.part::<F, R, T, 4>(tile, columns, m),
                6 | 7 => self.part::<F, R, T, 6>(tile, columns, m),
                8..12 => self.part::<F, R, T, 8>(tile, columns, m),
                _ => self.part::<F, R, T, 12>(tile, columns, m),
            };
        }
    }

    /// Outputs of tiles `tile..tile + T` with the rows `m..m + M`. Returns `M`.
    fn part<F: Dot<R>, const R: usize, const T: usize, const M: usize>(&mut self, tile: usize, columns: Range<usize>, m: usize) -> usize
    where
        V: Lanes<R>,
    {
        let weights = std::array::from_fn(|t| self.shape.tile_row(&self.weights, tile + t));
        let x = std::array::from_fn(|j| self.shape.activation_row(&self.x, m + j));
        let (skip, n_out, is_first) = (self.weights.skip, self.shape.n_out, columns.start == 0);
        // Rows of the matrix that a tile has and the output wants: in the tile, and in the output.
        let wanted = |t: usize| {
            let rows = ((tile + t) * R).max(skip)..((tile + t + 1) * R).min(skip + n_out);
            (rows.start - (tile + t) * R..rows.end - (tile + t) * R, rows.start - skip..rows.end - skip)
        };
        let mut sums = [[[0.0; R]; M]; T];
        for (t, sums) in sums.iter_mut().enumerate().filter(|_| !is_first) {
            let (inside, outside) = wanted(t);
            (0..M).for_each(|j| sums[j][inside.clone()].copy_from_slice(&self.out.row(m + j)[outside.clone()]));
        }
        self.v.run::<F, T, M>(Operands { weights, x, columns }, &mut sums);
        for (t, sums) in sums.iter().enumerate() {
            let (inside, outside) = wanted(t);
            (0..M).for_each(|j| self.out.row(m + j)[outside.clone()].copy_from_slice(&sums[j][inside.clone()]));
        }
        M
    }
}
