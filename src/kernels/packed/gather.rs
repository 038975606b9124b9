//! Products with rows as they lie in a file: tiles are made of them on the way, a piece at a time, and never leave the L1 cache.
//!
//! For types whose tiles are the file's bytes in another order and nothing else. A product has the bits of the same product with tiles that
//! were packed before: it is made by the same code.

use super::blocks_32::{Blocks32, TileOf};
use super::element::{BF16, F16, F32};
use super::floats::Floats;
use super::lanes::Lanes;
use super::matmul::{Dot, FLOAT_TILES, HOT_BYTES, Product};
use super::quants::Eight;
use crate::dtype::DType;
use crate::kernels::block::{BlockQ8_0, blocks_mut, strided};
use crate::kernels::contract::{ActivationRows, Kernels as _, WeightRows};
use crate::kernels::reference::Reference;
use crate::kernels::shape::MatmulShape;
use crate::sys::columns::ColumnsMut;
use std::mem::offset_of;
use std::ops::Range;

/// Bytes of the tiles that are made at a time: a part of the L1 cache, and of the stack.
const PIECE_BYTES: usize = 16 << 10;

/// Columns of a piece are a multiple of this: whole blocks, and whole vectors of each type.
const PIECE_COLUMNS: usize = 32;

/// The rows that a tile is made of: the same columns of each.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Rows<'a> {
    /// From those columns of the first row on.
    bytes: &'a [u8],
    /// From row to row; 0 for a single one, which then is all rows of its tile.
    stride: usize,
    /// From each byte to the one that its place is wanted for next.
    ahead: usize,
}

impl Rows<'_> {
    /// `N` bytes of each row, from its byte `at` on.
    #[inline(always)]
    fn parts<const N: usize, const R: usize>(self, at: usize) -> [[u8; N]; R] {
        strided(&self.bytes[at..], self.stride)
    }

    /// Eight words of each row, from its byte `at` on.
    #[inline(always)]
    fn words<V: Lanes<R>, const R: usize>(self, v: V, at: usize) -> [V::I; 8] {
        v.transpose(&self.bytes[at..], self.stride)
    }

    /// Asks for what is read next at byte `at`: so many short streams are more than hardware follows.
    #[inline(always)]
    fn prefetch<V: Lanes<R>, const R: usize>(self, v: V, at: usize) {
        for r in 0..R {
            v.prefetch(&self.bytes[at], r * self.stride + self.ahead);
        }
    }
}

/// A format that tiles can be gathered of quickly.
pub(in crate::kernels) trait Gather<const R: usize> {
    /// Makes a `tile` of `rows`, as many columns as it holds.
    fn gather<V: Lanes<R>>(v: V, rows: Rows<'_>, tile: &mut [u8]);
}

impl<const R: usize> Gather<R> for Blocks32<BlockQ8_0, Eight<R>, 1> {
    #[inline(always)]
    fn gather<V: Lanes<R>>(v: V, rows: Rows<'_>, tile: &mut [u8]) {
        for (b, tile) in blocks_mut::<TileOf<BlockQ8_0, Eight<R>, R, 1>>(tile).iter_mut().enumerate() {
            let at = b * size_of::<BlockQ8_0>();
            if b % 2 == 0 {
                rows.prefetch(v, at);
            }
            tile.factors[0] = rows.parts(at);
            let words = rows.words(v, at + offset_of!(BlockQ8_0, qs));
            let planes = tile.quants.planes_mut();
            for j in 0..8 {
                v.store_words(words[j], &mut planes[j]);
            }
        }
    }
}

impl<const R: usize> Gather<R> for Floats<F32> {
    #[inline(always)]
    fn gather<V: Lanes<R>>(v: V, rows: Rows<'_>, tile: &mut [u8]) {
        let (whole, rest) = whole_vectors::<R>(tile);
        let at = whole.len() * VECTOR;
        for (i, columns) in whole.iter_mut().enumerate() {
            if i % 2 == 0 {
                rows.prefetch(v, i * VECTOR);
            }
            let words = rows.words(v, i * VECTOR);
            for j in 0..8 {
                v.store_words(words[j], &mut columns[j]);
            }
        }
        gather_rest::<4, R>(rows, at, rest);
    }
}

impl<const R: usize> Gather<R> for Floats<F16> {
    #[inline(always)]
    fn gather<V: Lanes<R>>(v: V, rows: Rows<'_>, tile: &mut [u8]) {
        gather_halves(v, rows, tile);
    }
}

impl<const R: usize> Gather<R> for Floats<BF16> {
    #[inline(always)]
    fn gather<V: Lanes<R>>(v: V, rows: Rows<'_>, tile: &mut [u8]) {
        gather_halves(v, rows, tile);
    }
}

/// Two columns to a word.
#[inline(always)]
fn gather_halves<V: Lanes<R>, const R: usize>(v: V, rows: Rows<'_>, tile: &mut [u8]) {
    let (whole, rest) = whole_vectors::<R>(tile);
    let at = whole.len() * VECTOR;
    for (i, columns) in whole.iter_mut().enumerate() {
        if i % 2 == 0 {
            rows.prefetch(v, i * VECTOR);
        }
        let words = rows.words(v, i * VECTOR);
        for j in 0..8 {
            v.store_words(v.halves(words[j]), &mut columns[j]);
        }
    }
    gather_rest::<2, R>(rows, at, rest);
}

/// Bytes of a row that are transposed at a time.
const VECTOR: usize = 32;

/// [`VECTOR`] bytes of each of `R` rows, word by word.
type VectorOfRows<const R: usize> = [[[u8; 4]; R]; 8];

/// `tile` in steps of [`VECTOR`] bytes of each row, and what is left.
#[inline(always)]
fn whole_vectors<const R: usize>(tile: &mut [u8]) -> (&mut [VectorOfRows<R>], &mut [u8]) {
    let n_whole = tile.len() / (VECTOR * R);
    let (whole, rest) = tile.split_at_mut(n_whole * VECTOR * R);
    (blocks_mut::<[u8; 4]>(whole).as_chunks_mut::<R>().0.as_chunks_mut::<8>().0, rest)
}

/// Columns of `N` bytes, from byte `at` of each row on.
#[inline(always)]
fn gather_rest<const N: usize, const R: usize>(rows: Rows<'_>, at: usize, tile: &mut [u8]) {
    for (i, column) in blocks_mut::<[u8; N]>(tile).as_chunks_mut::<R>().0.iter_mut().enumerate() {
        *column = rows.parts(at + i * N);
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
    let mut product = Product { v, shape, weights, x, rows: 0..x.n_rows, out, first: (0, 0), n_cols: weights.n_cols };
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

    /// All outputs, a piece at a time. With few activation rows the pieces follow the order of the file; with many, they are those of the same
    /// columns for as long as possible, and the activations of these columns stay in the cache.
    fn in_pieces<F: Gather<R> + Dot<R>, const R: usize, const T: usize>(&mut self)
    where
        V: Lanes<R>,
    {
        let (n_rows, n_cols) = (self.x.n_rows, self.n_cols);
        if n_cols == 0 {
            return (0..n_rows).for_each(|m| self.out.row(m).fill(0.0));
        }
        let mut piece = Piece([0; PIECE_BYTES]);
        let width = PIECE_BYTES / (T * R * self.bytes_of(PIECE_COLUMNS)) * PIECE_COLUMNS;
        let hot_rows = (HOT_BYTES / (self.shape.activation_bytes * width / n_cols).max(1)).next_multiple_of(V::FLOAT_ROWS);
        if n_rows <= V::FLOAT_ROWS {
            return self.tiles::<F, R, T>(0..n_cols, width, &mut piece);
        }
        for first in (0..n_rows).step_by(hot_rows) {
            self.rows = first..n_rows.min(first + hot_rows);
            for start in (0..n_cols).step_by(width) {
                self.tiles::<F, R, T>(start..n_cols.min(start + width), width, &mut piece);
            }
        }
    }

    /// The part of all outputs that `columns` make, `T` tiles at a time. Rows that are no whole tile come one by one.
    fn tiles<F: Gather<R> + Dot<R>, const R: usize, const T: usize>(&mut self, columns: Range<usize>, width: usize, piece: &mut Piece)
    where
        V: Lanes<R>,
    {
        let n_out = self.shape.n_out;
        let n_tiled = n_out - n_out % R;
        for first in (0..n_tiled).step_by(T * R) {
            let rows = first..n_tiled.min(first + T * R);
            for start in columns.clone().step_by(width) {
                self.piece::<F, R, T>(rows.clone(), R, start..columns.end.min(start + width), piece);
            }
        }
        for row in n_tiled..n_out {
            for start in columns.clone().step_by(width) {
                self.piece::<F, R, 1>(row..row + 1, 1, start..columns.end.min(start + width), piece);
            }
        }
    }

    /// The part of the outputs of `rows` that `columns` make: the tiles, `step` rows in each, and then the product.
    fn piece<F: Gather<R> + Dot<R>, const R: usize, const T: usize>(
        &mut self,
        rows: Range<usize>,
        step: usize,
        columns: Range<usize>,
        piece: &mut Piece,
    ) where
        V: Lanes<R>,
    {
        let (row_bytes, own_bytes) = (self.shape.tile_bytes(), self.bytes_of(columns.len()));
        let ahead = if columns.end < self.n_cols { own_bytes } else { rows.len() * row_bytes - self.bytes_of(columns.start) };
        let (n_tiles, tile_bytes) = (rows.len() / step, R * own_bytes);
        let tiles = &mut piece.0[..n_tiles * tile_bytes];
        for (row, tile) in rows.clone().step_by(step).zip(tiles.chunks_exact_mut(tile_bytes)) {
            let bytes = &self.weights.bytes[row * row_bytes..(row + step) * row_bytes][self.bytes_of(columns.start)..];
            self.v.gather::<F>(Rows { bytes, stride: if step > 1 { row_bytes } else { 0 }, ahead }, tile);
        }
        let mut part = Product {
            v: self.v,
            shape: self.shape.part(rows.end, tile_bytes),
            weights: WeightRows { n_cols: columns.len(), tile_rows: R, bytes: tiles, ..self.weights },
            x: self.x,
            rows: self.rows.clone(),
            out: self.out,
            first: (rows.start, columns.start),
            n_cols: self.n_cols,
        };
        part.groups::<F, R, T>(columns, 0..n_tiles);
    }

    /// Bytes of so many columns of a row.
    fn bytes_of(&self, n_columns: usize) -> usize {
        self.weights.dtype.row_bytes(n_columns).unwrap_or(0)
    }
}
