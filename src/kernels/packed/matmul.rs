//! The walk over a matrix product: which tiles meet which activation rows when.

use super::formats::{Format, Visitor, with_format};
use super::lanes::Lanes;
use crate::kernels::contract::{ActivationRows, WeightRows};
use crate::kernels::shape::MatmulShape;
use crate::sys::columns::ColumnsMut;
use std::ops::Range;

/// Bytes of tiles that are kept hot while all activation rows pass by, or of activations while all rows of a file do: half of the smallest L2 cache of a machine with AVX2 (256 KiB).
pub(super) const HOT_BYTES: usize = 128 << 10;

/// Columns of floats that meet a batch at a time: those of two tiles and of the activation rows that share a pass fit the L1 cache.
const FLOAT_COLUMNS: usize = 512;

/// Tiles of floats that are read side by side for a small batch, of fewer rows than that: with one chain of additions per output, a
/// single tile would wait for each addition.
pub(super) const FLOAT_TILES: usize = 4;

/// `T` tiles and the `M` activation rows that they meet.
#[derive(Clone)]
pub(in crate::kernels) struct Operands<'a, const T: usize, const M: usize> {
    /// Tiles, from column `first` on.
    pub(super) weights: [&'a [u8]; T],
    /// `n_cols` each, quantised as the weights want it.
    pub(super) x: [&'a [u8]; M],
    /// Columns of an activation row.
    pub(super) n_cols: usize,
    /// The columns to multiply: whole blocks.
    pub(super) columns: Range<usize>,
    /// A multiple of a block; 0 for whole tiles.
    pub(super) first: usize,
}

impl<const T: usize, const M: usize> Operands<'_, T, M> {
    /// The columns to multiply as the tiles count them.
    #[inline(always)]
    pub(super) fn own_columns(&self) -> Range<usize> {
        self.columns.start - self.first..self.columns.end - self.first
    }
}

/// The inner product of one format.
pub(in crate::kernels) trait Dot<const R: usize> {
    /// Whether it takes floats.
    const IS_FLOAT: bool = false;

    /// Adds the products of `T` tiles with `M` activation rows to `sums`. Each result is made by the same operations whatever `T` and `M`
    /// are, and whether its columns come at once or in parts.
    fn dot<V: Lanes<R>, const T: usize, const M: usize>(v: V, operands: Operands<'_, T, M>, sums: &mut [[[f32; R]; M]; T]);
}

/// Activation rows that share one pass over `T` tiles.
const fn most_rows<V: Lanes<R>, F: Dot<R>, const R: usize, const T: usize>() -> usize {
    match (F::IS_FLOAT, T) {
        (true, FLOAT_TILES) => 2, // these are for fewer than four rows
        (true, _) => V::FLOAT_ROWS,
        (false, _) => V::ROWS,
    }
}

/// See [`Kernels::matmul`](crate::kernels::Kernels::matmul); for weights in tiles of `R` rows.
pub(in crate::kernels) fn matmul<V: Lanes<R>, const R: usize>(
    v: V,
    weights: WeightRows<'_>,
    x: ActivationRows<'_>,
    out: &mut ColumnsMut<'_, f32>,
) {
    let shape = MatmulShape::check(&weights, &x, out);
    with_format::<R>(weights.dtype, Product { v, shape, weights, x, rows: 0..x.n_rows, out, first: (0, 0), n_cols: weights.n_cols });
}

/// A checked product.
pub(super) struct Product<'a, 'o, V> {
    pub(super) v: V,
    pub(super) shape: MatmulShape,
    pub(super) weights: WeightRows<'a>,
    pub(super) x: ActivationRows<'a>,
    /// Those of `x` that are multiplied.
    pub(super) rows: Range<usize>,
    pub(super) out: &'a mut ColumnsMut<'o, f32>,
    /// The row and the column that `weights` begin with: those of a part of a larger matrix.
    pub(super) first: (usize, usize),
    /// Columns of an activation row.
    pub(super) n_cols: usize,
}

impl<V: Lanes<R>, const R: usize> Visitor<R> for Product<'_, '_, V> {
    /// All outputs, by columns that fit the L1 cache and tiles that fit the L2.
    ///
    /// Inside, tiles are the inner loop: a group of activation rows stays in the L1 cache while tiles stream past it in the order of their
    /// addresses, and its outputs grow side by side, in few pages. The other way round, prefetchers have a stream per row to follow and
    /// every output is a line, often a page, of its own: a quarter slower.
    fn visit<F: Format<R>>(mut self) {
        let (n_cols, n_rows) = (self.weights.n_cols.max(1), self.x.n_rows);
        let is_small = n_rows < FLOAT_TILES;
        let block = if F::IS_FLOAT && !is_small { FLOAT_COLUMNS.min(n_cols) } else { n_cols };
        let n_tiles = (self.weights.skip + self.shape.n_out).div_ceil(R);
        let hot_bytes = self.shape.tile_bytes() / n_cols.div_ceil(block);
        let hot_tiles = (HOT_BYTES / hot_bytes.max(1)).max(1).next_multiple_of(FLOAT_TILES);
        for columns in (0..n_cols).step_by(block).map(|start| start..n_cols.min(start + block)) {
            for first in (0..n_tiles).step_by(hot_tiles) {
                let tiles = first..n_tiles.min(first + hot_tiles);
                match (F::IS_FLOAT, is_small) {
                    (false, _) => self.groups::<F, R, 1>(columns.clone(), tiles),
                    (true, false) => self.groups::<F, R, 2>(columns.clone(), tiles),
                    (true, true) => self.groups::<F, R, FLOAT_TILES>(columns.clone(), tiles),
                }
            }
        }
    }
}

impl<V> Product<'_, '_, V> {
    /// All outputs of `tiles`, `T` at a time, by groups of activation rows whose sums fit the registers.
    pub(super) fn groups<F: Dot<R>, const R: usize, const T: usize>(&mut self, columns: Range<usize>, tiles: Range<usize>)
    where
        V: Lanes<R>,
    {
        let mut m = self.rows.start;
        while m < self.rows.end {
            let (columns, tiles) = (columns.clone(), tiles.clone());
            // Constants, so that what no set needs is not compiled.
            m += match self.rows.end - m {
                12.. if const { most_rows::<V, F, R, T>() >= 12 } => self.group::<F, R, T, 12>(columns, tiles, m),
                8.. if const { most_rows::<V, F, R, T>() >= 8 } => self.group::<F, R, T, 8>(columns, tiles, m),
                6.. if const { most_rows::<V, F, R, T>() >= 6 } => self.group::<F, R, T, 6>(columns, tiles, m),
                4.. if const { most_rows::<V, F, R, T>() >= 4 } => self.group::<F, R, T, 4>(columns, tiles, m),
                2.. => self.group::<F, R, T, 2>(columns, tiles, m),
                _ => self.group::<F, R, T, 1>(columns, tiles, m),
            };
        }
    }

    /// Outputs of `tiles` with the rows `m..m + M`. Returns `M`.
    fn group<F: Dot<R>, const R: usize, const T: usize, const M: usize>(
        &mut self,
        columns: Range<usize>,
        tiles: Range<usize>,
        m: usize,
    ) -> usize
    where
        V: Lanes<R>,
    {
        let whole = tiles.end - tiles.len() % T;
        for tile in (tiles.start..whole).step_by(T) {
            self.part::<F, R, T, M>(tile, columns.clone(), m);
        }
        for tile in whole..tiles.end {
            self.part::<F, R, 1, M>(tile, columns.clone(), m);
        }
        M
    }

    /// Outputs of the tiles `tile..tile + T` with the rows `m..m + M`.
    fn part<F: Dot<R>, const R: usize, const T: usize, const M: usize>(&mut self, tile: usize, columns: Range<usize>, m: usize)
    where
        V: Lanes<R>,
    {
        let weights = std::array::from_fn(|t| self.shape.tile_row(&self.weights, tile + t));
        let x = std::array::from_fn(|j| self.shape.activation_row(&self.x, m + j));
        let is_first = columns.start == 0;
        let mut sums = [[[0.0; R]; M]; T];
        for (t, sums) in sums.iter_mut().enumerate().filter(|_| !is_first) {
            self.outputs(tile + t, m, sums, |sums, out| sums.copy_from_slice(out));
        }
        let operands = Operands { weights, x, n_cols: self.n_cols, columns, first: self.first.1 };
        self.v.run::<F, T, M>(operands, &mut sums);
        for (t, sums) in sums.iter_mut().enumerate() {
            self.outputs(tile + t, m, sums, |sums, out| out.copy_from_slice(sums));
        }
    }

    /// Calls `each` with what `sums` and the output share of `tile` and the rows from `m` on: the rows of the matrix that the output wants.
    #[inline(always)]
    fn outputs<const R: usize, const M: usize>(
        &mut self,
        tile: usize,
        m: usize,
        sums: &mut [[f32; R]; M],
        each: impl Fn(&mut [f32], &mut [f32]),
    ) {
        let (skip, n_out, start) = (self.weights.skip, self.shape.n_out, self.first.0 + tile * R);
        let rows = start.max(skip)..(start + R).min(skip + n_out);
        let (inside, outside) = (rows.start - start..rows.end - start, rows.start - skip..rows.end - skip);
        for (j, sums) in sums.iter_mut().enumerate() {
            let out = &mut self.out.row(m + j)[outside.clone()];
            match <&mut [f32; R]>::try_from(&mut *out) {
                // A size that the compiler knows.
                Ok(out) => each(sums, out),
                Err(_) => each(&mut sums[inside.clone()], out),
            }
        }
    }
}
