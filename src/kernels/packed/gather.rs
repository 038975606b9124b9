//! Products with rows as they lie in a file: tiles are made of them on the way, a piece at a time, and never leave the L1 cache.
//!
//! For types whose tiles are the file's bytes in another order and nothing else. A product has the bits of the same product with tiles that
//! were packed before: it is made by the same code.

use super::blocks_32::{Blocks32, TileOf};
use super::element::{BF16, F16, F32};
use super::floats::Floats;
use super::lanes::Lanes;
use super::matmul::{Dot, FLOAT_TILES, Product};
use super::quants::Eight;
use crate::dtype::DType;
use crate::kernels::block::{BlockQ8_0, blocks, blocks_mut};
use crate::kernels::contract::{ActivationRows, Kernels as _, WeightRows};
use crate::kernels::reference::Reference;
use crate::kernels::shape::MatmulShape;
use crate::sys::columns::ColumnsMut;
use std::ops::Range;

/// Bytes of the tiles that are made at a time: a part of the L1 cache, and of the stack.
const PIECE_BYTES: usize = 8 << 10;

/// Columns of a piece are a multiple of this: whole blocks, and whole vectors of each type.
const PIECE_COLUMNS: usize = 32;

/// A format that tiles can be gathered of quickly.
pub(in crate::kernels) trait Gather<const R: usize> {
    /// Makes a `tile` of the same columns of each of `rows`, which have as many bytes together.
    fn gather<V: Lanes<R>>(v: V, rows: [&[u8]; R], tile: &mut [u8]);
}

impl<const R: usize> Gather<R> for Blocks32<BlockQ8_0, Eight<R>, 1> {
    #[inline(always)]
    fn gather<V: Lanes<R>>(v: V, rows: [&[u8]; R], tile: &mut [u8]) {
        let tiles = blocks_mut::<TileOf<BlockQ8_0, Eight<R>, R, 1>>(tile);
        let rows = rows.map(|row| &blocks::<BlockQ8_0>(row)[..tiles.len()]);
        for (b, tile) in tiles.iter_mut().enumerate() {
            let words = v.transpose(rows.map(|row| &row[b].qs));
            let planes = tile.quants.planes_mut();
            for j in 0..8 {
                v.store_words(words[j], &mut planes[j]);
            }
            for (scale, row) in tile.factors[0].iter_mut().zip(rows) {
                *scale = row[b].d.0;
            }
        }
    }
}

impl<const R: usize> Gather<R> for Floats<F32> {
    #[inline(always)]
    fn gather<V: Lanes<R>>(v: V, rows: [&[u8]; R], tile: &mut [u8]) {
        let n_columns = tile.len() / (4 * R);
        let n_whole = n_columns - n_columns % 8;
        let rows = rows.map(|row| row[..4 * n_columns].split_at(4 * n_whole));
        let (whole, rest) = tile.split_at_mut(4 * R * n_whole);
        let eights = rows.map(|row| &blocks::<[u8; 32]>(row.0)[..n_whole / 8]);
        for (i, columns) in blocks_mut::<[u8; 4]>(whole).as_chunks_mut::<R>().0.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let words = v.transpose(eights.map(|row| &row[i]));
            for j in 0..8 {
                v.store_words(words[j], &mut columns[j]);
            }
        }
        gather_rest::<4, R>(rows.map(|row| row.1), rest);
    }
}

impl<const R: usize> Gather<R> for Floats<F16> {
    #[inline(always)]
    fn gather<V: Lanes<R>>(v: V, rows: [&[u8]; R], tile: &mut [u8]) {
        gather_halves(v, rows, tile);
    }
}

impl<const R: usize> Gather<R> for Floats<BF16> {
    #[inline(always)]
    fn gather<V: Lanes<R>>(v: V, rows: [&[u8]; R], tile: &mut [u8]) {
        gather_halves(v, rows, tile);
    }
}

/// Two columns to a word.
#[inline(always)]
fn gather_halves<V: Lanes<R>, const R: usize>(v: V, rows: [&[u8]; R], tile: &mut [u8]) {
    let n_columns = tile.len() / (2 * R);
    let n_whole = n_columns - n_columns % 16;
    let rows = rows.map(|row| row[..2 * n_columns].split_at(2 * n_whole));
    let (whole, rest) = tile.split_at_mut(2 * R * n_whole);
    let eights = rows.map(|row| &blocks::<[u8; 32]>(row.0)[..n_whole / 16]);
    for (i, columns) in blocks_mut::<[u8; 4]>(whole).as_chunks_mut::<R>().0.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let words = v.transpose(eights.map(|row| &row[i]));
        for j in 0..8 {
            v.store_words(v.halves(words[j]), &mut columns[j]);
        }
    }
    gather_rest::<2, R>(rows.map(|row| row.1), rest);
}

/// Fewer columns than vectors take.
#[inline(always)]
fn gather_rest<const N: usize, const R: usize>(rows: [&[u8]; R], tile: &mut [u8]) {
    for (i, column) in blocks_mut::<[u8; N]>(tile).as_chunks_mut::<R>().0.iter_mut().enumerate() {
        for (to, row) in column.iter_mut().zip(rows) {
            *to = row.as_chunks().0[i];
        }
    }
}

/// See [`Kernels::matmul`](crate::kernels::Kernels::matmul); for rows as in a file.
pub(in crate::kernels) fn matmul_stored<V: Lanes<R>, const R: usize>(
    v: V,
    weights: WeightRows<'_>,
    x: ActivationRows<'_>,
    out: &mut ColumnsMut<'_, f32>,
) {
    if !is_gathered(weights.dtype) {
        return Reference.matmul(weights, x, out); // those are always packed
    }
    let shape = MatmulShape::check(&weights, &x, out);
    let mut product = Product { v, shape, weights, x, out, first: (0, 0), n_cols: weights.n_cols };
    match weights.dtype {
        DType::F32 => product.gathered::<Floats<F32>, R>(),
        DType::F16 => product.gathered::<Floats<F16>, R>(),
        DType::BF16 => product.gathered::<Floats<BF16>, R>(),
        _ => product.gathered::<Blocks32<BlockQ8_0, Eight<R>, 1>, R>(),
    }
}

/// True for types of which every set makes fast products with rows as they lie in a file.
pub const fn is_gathered(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0)
}

/// Tiles of some columns, on a cache line.
#[repr(align(64))]
struct Piece([u8; PIECE_BYTES]);

impl<V> Product<'_, '_, V> {
    /// All outputs, with as many tiles at a time as there would be of packed ones.
    fn gathered<F: Gather<R> + Dot<R>, const R: usize>(&mut self)
    where
        V: Lanes<R>,
    {
        match (F::IS_FLOAT, self.x.n_rows < FLOAT_TILES) {
            (false, _) => self.in_pieces::<F, R, 1>(),
            (true, false) => self.in_pieces::<F, R, 2>(),
            (true, true) => self.in_pieces::<F, R, FLOAT_TILES>(),
        }
    }

    /// All outputs, `T` tiles of some columns at a time: each is made once, and meets all activation rows.
    fn in_pieces<F: Gather<R> + Dot<R>, const R: usize, const T: usize>(&mut self)
    where
        V: Lanes<R>,
    {
        let n_cols = self.n_cols;
        if n_cols == 0 {
            return (0..self.x.n_rows).for_each(|m| self.out.row(m).fill(0.0));
        }
        let mut piece = Piece([0; PIECE_BYTES]);
        let step = PIECE_BYTES / (T * R * self.row_bytes(PIECE_COLUMNS)) * PIECE_COLUMNS;
        let n_tiles = self.shape.n_out.div_ceil(R);
        for first in (0..n_tiles).step_by(T) {
            for start in (0..n_cols).step_by(step) {
                let columns = start..n_cols.min(start + step);
                let tile_bytes = R * self.row_bytes(columns.len());
                let tiles = &mut piece.0[..T.min(n_tiles - first) * tile_bytes];
                for (t, tile) in tiles.chunks_exact_mut(tile_bytes).enumerate() {
                    self.v.gather::<F>(self.rows_of_tile(first + t, &columns), tile);
                }
                let weights = WeightRows { n_cols: columns.len(), tile_rows: R, bytes: tiles, ..self.weights };
                let shape = self.shape.with_tile_bytes(tile_bytes);
                let mut part = Product { v: self.v, shape, weights, x: self.x, out: self.out, first: (first, start), n_cols };
                part.groups::<F, R, T>(columns, 0..weights.bytes.len() / tile_bytes);
            }
        }
    }

    /// Bytes of so many columns of a row.
    fn row_bytes(&self, n_columns: usize) -> usize {
        self.weights.dtype.row_bytes(n_columns).unwrap_or(0)
    }

    /// The `columns` of the rows of a tile. Behind the last row comes the last row again: nobody asks for those outputs.
    #[inline(always)]
    fn rows_of_tile<const R: usize>(&self, tile: usize, columns: &Range<usize>) -> [&[u8]; R] {
        let bytes = self.row_bytes(columns.start)..self.row_bytes(columns.end);
        std::array::from_fn(|r| &self.shape.tile_row(&self.weights, (tile * R + r).min(self.shape.n_out - 1))[bytes.clone()])
    }
}
