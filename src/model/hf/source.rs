//! Where the bytes of a tensor come from, and how they are put in GGUF's order as they are read. Used by `tensors`.

use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::formats::safetensors::{Safetensors, TensorInfo};
use crate::kernels::{Kernels as _, Reference, WeightRows};
use crate::sys::memory::try_vec;
use parking_lot::Mutex;

/// Where the bytes of a tensor come from; tensors of the files by their index.
pub(super) enum Source {
    /// A tensor as it is.
    Stored(usize),
    /// The same, each row as if GGUF's converter had moved it: of each `head_dim` rows, row `i` and row `i + head_dim / 2` become neighbours.
    Neighbours { tensor: usize, head_dim: usize },
    /// The same, widened to `f32`, plus 1.
    PlusOne(usize),
    /// Tensors of equal size, one behind the other.
    Stacked(Vec<usize>),
    /// Of each `stride` bytes, `len` from `start` on.
    Part { tensor: usize, start: usize, len: usize, stride: usize },
    /// Matrices turned round.
    Turned(Turned),
    /// Blocks of MXFP4.
    Blocks(Blocks),
    /// Numbers of config.json.
    Values(Vec<f32>),
}

/// Matrices `(n_columns, n_all)` of which rows `first + step * i` are meant, as `(n_rows, n_columns)`.
pub(super) struct Turned {
    pub(super) tensor: usize,
    pub(super) n_columns: usize,
    pub(super) n_all: usize,
    pub(super) n_rows: usize,
    pub(super) first: usize,
    pub(super) step: usize,
    /// Bytes of an element.
    pub(super) size: usize,
    /// Rows that were turned round last: their neighbours are asked for next.
    pub(super) band: Mutex<Band>,
}

/// Rows of a matrix, the right way round.
#[derive(Default)]
pub(super) struct Band {
    /// `(n, n_columns)`
    bytes: Vec<u8>,
    /// The first of them, among those of all experts.
    start: usize,
}

/// Bytes of a [`Band`]: enough that each read is worth its call, little beside any tensor.
const BAND_BYTES: usize = 4 << 20;

/// Blocks of MXFP4 as OpenAI's files hold them: `(n_experts, n_all, n_blocks, 16)`, two neighbours in a byte, and a scale for each in another tensor.
pub(super) struct Blocks {
    pub(super) blocks: usize,
    pub(super) scales: usize,
    /// Blocks of a row.
    pub(super) n_blocks: usize,
    pub(super) n_all: usize,
    pub(super) n_rows: usize,
    pub(super) first: usize,
    pub(super) step: usize,
}

/// Bytes of a block's elements.
const QUANT_BYTES: usize = 16;

/// Bytes of a block in GGUF: its scale first.
const BLOCK_BYTES: usize = 1 + QUANT_BYTES;

impl Source {
    /// The tensor that it reads, if it is one of the files.
    fn stored<'w>(&self, weights: &'w Safetensors) -> Option<&'w TensorInfo> {
        let i = match self {
            Self::Stored(i) | Self::PlusOne(i) | Self::Neighbours { tensor: i, .. } | Self::Part { tensor: i, .. } => *i,
            Self::Stacked(tensors) => *tensors.first()?,
            Self::Turned(turned) => turned.tensor,
            Self::Blocks(blocks) => blocks.blocks,
            Self::Values(_) => return None,
        };
        weights.tensors().get(i)
    }

    /// Reads `dst.len()` bytes from byte `start` on.
    pub(super) fn read(&self, weights: &Safetensors, start: usize, dst: &mut [u8]) -> Result<()> {
        if let Self::Values(values) = self {
            if start / 4 + dst.len() / 4 > values.len() {
                fail!(InvalidArgument, "numbers of config.json: {} of them, not {start}..+{} bytes", values.len(), dst.len());
            }
            put_floats(dst, values[start / 4..].iter().copied());
            return Ok(());
        }
        let Some(stored) = self.stored(weights) else { fail!(Internal, "a tensor that is not in the files") };
        match self {
            Self::Neighbours { head_dim, .. } => read_neighbours(weights, stored, *head_dim, start, dst),
            Self::PlusOne(_) => read_plus_one(weights, stored, start, dst),
            Self::Stacked(tensors) => {
                read_pieces(start, dst, (stored.n_bytes(), 0), &|i, at, part| weights.read_range(&weights.tensors()[tensors[i]], at, part))
            }
            Self::Part { start: first, len, stride, .. } => {
                read_pieces(start, dst, (*len, *first), &|i, at, part| weights.read_range(stored, i * stride + at, part))
            }
            Self::Turned(turned) => turned.read(weights, stored, start, dst),
            Self::Blocks(blocks) => blocks.read(weights, stored, start, dst),
            Self::Stored(_) | Self::Values(_) => weights.read_range(stored, start, dst),
        }
    }
}

/// Fills a buffer with bytes of a piece, from an offset on.
type ReadPiece<'a> = dyn Fn(usize, usize, &mut [u8]) -> Result<()> + 'a;

/// Reads pieces of `len` bytes, of which piece `i` lies from byte `first` of its place on.
fn read_pieces(start: usize, dst: &mut [u8], (len, first): (usize, usize), read: &ReadPiece<'_>) -> Result<()> {
    let (mut at, mut dst) = (start, dst);
    while !dst.is_empty() {
        let (piece, inside) = (at / len, at % len);
        let (part, rest) = dst.split_at_mut((len - inside).min(dst.len()));
        read(piece, first + inside, part)?;
        (at, dst) = (at + part.len(), rest);
    }
    Ok(())
}

/// Rows of each `head_dim` in the order `0, head_dim / 2, 1, head_dim / 2 + 1, ..`: a read per row, of kilobytes.
fn read_neighbours(weights: &Safetensors, stored: &TensorInfo, head_dim: usize, start: usize, dst: &mut [u8]) -> Result<()> {
    let n_rows = stored.shape().first().copied().unwrap_or(1).max(1);
    let row_bytes = (stored.n_bytes() / n_rows).max(1);
    let (mut at, mut dst) = (start, dst);
    while !dst.is_empty() {
        let (row, in_row) = (at / row_bytes, at % row_bytes);
        let (head, i) = (row / head_dim, row % head_dim);
        let from = head * head_dim + i % 2 * (head_dim / 2) + i / 2;
        let (part, rest) = dst.split_at_mut((row_bytes - in_row).min(dst.len()));
        weights.read_range(stored, from.saturating_mul(row_bytes).saturating_add(in_row), part)?;
        at += part.len();
        dst = rest;
    }
    Ok(())
}

/// Elements of a norm as `f32`, plus 1; `start` and `dst` count the bytes of `f32`.
fn read_plus_one(weights: &Safetensors, stored: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
    let dtype = stored.dtype()?;
    let (first, n) = (start / 4, dst.len() / 4);
    let mut bytes = try_vec(n.saturating_mul(dtype.block_bytes()))?;
    weights.read_range(stored, first.saturating_mul(dtype.block_bytes()), &mut bytes)?;
    let mut values = try_vec(n)?;
    Reference.dequantize(WeightRows::stored(dtype, n, &bytes), &mut values);
    put_floats(dst, values.into_iter().map(|x: f32| x + 1.0));
    Ok(())
}

impl Turned {
    fn read(&self, weights: &Safetensors, stored: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        let row_bytes = self.n_columns * self.size;
        let mut band = self.band.lock();
        let (mut at, mut dst) = (start, dst);
        while !dst.is_empty() {
            let n = band.bytes.len() / row_bytes;
            if !(band.start..band.start + n).contains(&(at / row_bytes)) {
                self.turn(weights, stored, at / row_bytes, &mut band)?;
            }
            let bytes = &band.bytes[at - band.start * row_bytes..];
            let (part, rest) = dst.split_at_mut(bytes.len().min(dst.len()));
            part.copy_from_slice(&bytes[..part.len()]);
            (at, dst) = (at + part.len(), rest);
        }
        Ok(())
    }

    /// Makes `band` the rows from `row` on, of one expert: of each column one read.
    fn turn(&self, weights: &Safetensors, stored: &TensorInfo, row: usize, band: &mut Band) -> Result<()> {
        let Self { n_columns, n_all, n_rows, first, step, size, .. } = *self;
        let (expert, row_of_expert) = (row / n_rows, row % n_rows);
        let n = (BAND_BYTES / (n_columns * size)).clamp(1, n_rows - row_of_expert);
        let mut column = try_vec(((n - 1) * step + 1) * size)?;
        band.bytes = try_vec(n * n_columns * size)?;
        band.start = row;
        for j in 0..n_columns {
            let element = (expert * n_columns + j) * n_all + first + step * row_of_expert;
            weights.read_range(stored, element * size, &mut column)?;
            for (i, x) in column.chunks(size).step_by(step).enumerate() {
                band.bytes[(i * n_columns + j) * size..][..size].copy_from_slice(x);
            }
        }
        Ok(())
    }
}

impl Blocks {
    fn read(&self, weights: &Safetensors, stored: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        let Some(scales) = weights.tensors().get(self.scales) else { fail!(Internal, "blocks without scales") };
        let row_bytes = self.n_blocks * BLOCK_BYTES;
        let (mut at, mut dst) = (start, dst);
        let mut row = try_vec(row_bytes)?;
        while !dst.is_empty() {
            self.row(weights, stored, scales, at / row_bytes, &mut row)?;
            let (part, rest) = dst.split_at_mut((row_bytes - at % row_bytes).min(dst.len()));
            part.copy_from_slice(&row[at % row_bytes..][..part.len()]);
            (at, dst) = (at + part.len(), rest);
        }
        Ok(())
    }

    /// A row as GGUF has it: the element behind byte `j` of a block and the one 16 further share a byte, not neighbours.
    fn row(&self, weights: &Safetensors, blocks: &TensorInfo, scales: &TensorInfo, row: usize, out: &mut [u8]) -> Result<()> {
        let from = row / self.n_rows * self.n_all + self.first + self.step * (row % self.n_rows);
        let (mut quants, mut exponents) = (try_vec::<u8>(self.n_blocks * QUANT_BYTES)?, try_vec::<u8>(self.n_blocks)?);
        weights.read_range(blocks, from * quants.len(), &mut quants)?;
        weights.read_range(scales, from * exponents.len(), &mut exponents)?;
        let quants = quants.as_chunks::<QUANT_BYTES>().0;
        for ((out, quants), exponent) in out.as_chunks_mut::<BLOCK_BYTES>().0.iter_mut().zip(quants).zip(exponents) {
            let element = |i: usize| quants[i / 2] >> (4 * (i % 2)) & 15;
            out[0] = exponent;
            out[1..].iter_mut().enumerate().for_each(|(j, to)| *to = element(j) | element(j + QUANT_BYTES) << 4);
        }
        Ok(())
    }
}

/// Writes as many of `values` as `dst` holds, little-endian.
fn put_floats(dst: &mut [u8], values: impl Iterator<Item = f32>) {
    dst.as_chunks_mut().0.iter_mut().zip(values).for_each(|(to, x)| *to = x.to_le_bytes());
}

/// What the elements of `stored` become if they are read as blocks: MXFP4, else what they are.
pub(super) fn dtype(source: &Source, stored: &TensorInfo) -> Result<DType> {
    match source {
        Source::PlusOne(_) => Ok(DType::F32),
        Source::Blocks(_) => Ok(DType::MXFP4),
        _ => stored.dtype(),
    }
}
