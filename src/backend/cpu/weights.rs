//! Weights as the kernels take them: matrices in their storage type, packed in tiles; vectors in `f32`.

use super::Cpu;
use crate::backend::{HostTensor, Linear, encode_rows};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::kernels::{Activation, Unpacker, WeightRows};
use crate::sys::job;
use crate::sys::mapping::Bytes;
use crate::sys::memory::{AlignedBytes, try_vec};
use std::io::Write;
use std::ops::Range;

/// Bytes that a task packs: a tenth of a millisecond.
const PACK_BYTES: usize = 64 << 10;

/// Tasks of a thread in a slice of a load.
const TASKS_PER_SLICE: usize = 2;

/// Bytes that are copied in a slice of a load: a tenth of a millisecond.
const COPY_BYTES: usize = 512 << 10;

/// A weight matrix `(n_out, n_in)`.
pub struct Matrix {
    dtype: DType,
    pub(super) n_out: usize,
    pub(super) n_in: usize,
    /// Rows of a tile.
    tile_rows: usize,
    /// `tile_rows * dtype.row_bytes(n_in)`
    tile_bytes: usize,
    /// `(n_out / tile_rows, tile_bytes)`, rounded up
    data: Bytes,
}

/// A weight vector.
pub struct Vector {
    /// `(n,)`
    pub(super) values: Vec<f32>,
}

impl Matrix {
    /// The matrix in `tensor`, packed in place by the kernels and on the threads of `cpu`, in slices; of a mapped file, as it is.
    pub(super) async fn new(cpu: &Cpu, tensor: HostTensor) -> Result<Self> {
        let row_bytes = check(&tensor)?;
        let HostTensor { dtype, n_rows, n_cols, data, .. } = tensor;
        let data = match data {
            Bytes::Owned(data) => data,
            Bytes::Mapped(_) => return Ok(Self { dtype, n_out: n_rows, n_in: n_cols, tile_rows: 1, tile_bytes: row_bytes, data }),
        };
        let tile_rows = cpu.kernels.tile_rows();
        // `check` has seen that the rows fit memory, and a tile is a few more at most.
        let tile_bytes = row_bytes.saturating_mul(tile_rows);
        let mut data = padded(data, n_rows.div_ceil(tile_rows).saturating_mul(tile_bytes)).await?;
        if tile_rows > 1 {
            pack(cpu, dtype, data.as_mut_slice(), tile_bytes).await?;
        }
        Ok(Self { dtype, n_out: n_rows, n_in: n_cols, tile_rows, tile_bytes, data: data.into() })
    }

    /// The matrix in `tensor` as it lies in its file: for rows that are looked up.
    pub(super) fn unpacked(tensor: HostTensor) -> Result<Self> {
        let tile_bytes = check(&tensor)?;
        let HostTensor { dtype, n_rows, n_cols, data, .. } = tensor;
        Ok(Self { dtype, n_out: n_rows, n_in: n_cols, tile_rows: 1, tile_bytes, data })
    }

    /// Rows `range`, which must exist.
    pub(super) fn rows(&self, range: Range<usize>) -> WeightRows<'_> {
        let tiles = range.start / self.tile_rows..range.end.div_ceil(self.tile_rows);
        WeightRows {
            dtype: self.dtype,
            n_cols: self.n_in,
            tile_rows: self.tile_rows,
            skip: range.start % self.tile_rows,
            bytes: &self.data.as_slice()[tiles.start * self.tile_bytes..tiles.end * self.tile_bytes],
        }
    }

    /// How activations are stored for a product with it.
    pub(super) fn activation(&self) -> Activation {
        Activation::of(self.dtype)
    }

    /// Writes its rows as they lay in the file, unpacked on the threads of `cpu` a few tiles at a time.
    pub(super) fn write(&self, cpu: &Cpu, out: &mut dyn Write) -> Result<()> {
        let (tile_bytes, row_bytes) = (self.tile_bytes.max(1), self.tile_bytes / self.tile_rows.max(1));
        let mut left = row_bytes.saturating_mul(self.n_out);
        if self.tile_rows == 1 {
            return Ok(out.write_all(&self.data.as_slice()[..left])?);
        }
        let unpacker = Unpacker::new(cpu.kernels, self.dtype)?;
        let tiles_per_task = PACK_BYTES.div_ceil(tile_bytes);
        let mut rows = try_vec(4 * cpu.pool.n_threads() * tiles_per_task * tile_bytes)?;
        for tiles in self.data.as_slice().chunks(rows.len()) {
            let rows = &mut rows[..tiles.len()];
            cpu.pool.for_chunks(rows, tiles_per_task * tile_bytes, &|i, rows| {
                let start = i * tiles_per_task * tile_bytes;
                for (tile, rows) in tiles[start..].chunks(tile_bytes).zip(rows.chunks_mut(tile_bytes)) {
                    unpacker.unpack(tile, rows);
                }
            })?;
            // The last tile may be meant in part.
            out.write_all(&rows[..rows.len().min(left)])?;
            left = left.saturating_sub(tiles.len());
        }
        Ok(())
    }

    /// Bytes that it occupies; those of a mapped file are not its own.
    pub(super) fn n_bytes(&self) -> usize {
        if self.data.is_mapped() { 0 } else { self.data.as_slice().len() }
    }
}

/// `data` with zeros behind it, up to `len` bytes.
async fn padded(data: AlignedBytes, len: usize) -> Result<AlignedBytes> {
    let n = data.as_slice().len();
    if n == len {
        return Ok(data);
    }
    let mut longer = AlignedBytes::zeroed(len)?;
    for (to, from) in longer.as_mut_slice().chunks_mut(COPY_BYTES).zip(data.as_slice().chunks(COPY_BYTES)) {
        to[..from.len()].copy_from_slice(from);
        job::pause().await;
    }
    Ok(longer)
}

/// Makes a tile of each `tile_bytes` of rows in `data`: a slice is a few tasks for each thread.
async fn pack(cpu: &Cpu, dtype: DType, data: &mut [u8], tile_bytes: usize) -> Result<()> {
    let mut scratch = try_vec::<Vec<u8>>(cpu.pool.n_threads())?;
    for own in &mut scratch {
        *own = try_vec(tile_bytes)?;
    }
    let tiles_per_task = PACK_BYTES.div_ceil(tile_bytes);
    let task_bytes = tiles_per_task * tile_bytes;
    for slice in data.chunks_mut(task_bytes * TASKS_PER_SLICE * cpu.pool.n_threads()) {
        cpu.pool.for_chunks_with(slice, task_bytes, &mut scratch, &|_, tiles, rows| {
            for tile in tiles.chunks_mut(tile_bytes) {
                rows.copy_from_slice(tile);
                cpu.kernels.pack(dtype, rows, tile);
            }
        })?;
        job::pause().await;
    }
    Ok(())
}

/// See [`Backend::encode`](crate::backend::Backend::encode); four tasks per thread, as some rows take longer.
pub(super) fn encode(cpu: &Cpu, [from, to]: [DType; 2], n_cols: usize, rows: &[u8], out: &mut [u8]) -> Result<()> {
    let (Some(row_bytes), Some(out_bytes)) = (from.row_bytes(n_cols), to.row_bytes(n_cols)) else {
        fail!(Internal, "cpu, encode: rows of {n_cols} are no whole blocks of {} and {}", from.name(), to.name());
    };
    let n_rows = rows.len().checked_div(row_bytes).unwrap_or(0);
    if n_rows.checked_mul(out_bytes) != Some(out.len()) || n_rows == 0 {
        fail!(Internal, "cpu, encode: {} bytes of rows into {}", rows.len(), out.len());
    }
    let mut scratch = try_vec::<Vec<f32>>(cpu.pool.n_threads())?;
    for own in &mut scratch {
        *own = try_vec(n_cols)?;
    }
    let rows_per_task = n_rows.div_ceil(4 * cpu.pool.n_threads());
    cpu.pool.for_chunks_with(out, rows_per_task * out_bytes, &mut scratch, &|task, out, values| {
        encode_rows(from, to, &rows[task * rows_per_task * row_bytes..], out, values);
    })
}

impl Vector {
    /// The vector in `tensor`, expanded by the kernels of `cpu`.
    pub(super) fn new(cpu: &Cpu, tensor: &HostTensor) -> Result<Self> {
        check(tensor)?;
        if tensor.n_rows != 1 {
            fail!(Format, "{}: {} rows, expected a vector", tensor.name, tensor.n_rows);
        }
        let mut values = try_vec(tensor.n_cols)?;
        cpu.kernels.dequantize(WeightRows::stored(tensor.dtype, tensor.n_cols, tensor.data.as_slice()), &mut values);
        Ok(Self { values })
    }
}

impl Linear<Cpu> {
    /// That it maps `n_in` features to `n_out`, so that `stage` may slice without doubt.
    pub(super) fn check(&self, n_in: usize, n_out: usize, stage: &str) -> Result<()> {
        let weight = &self.weight;
        if (weight.n_in, weight.n_out) != (n_in, n_out) {
            fail!(Internal, "cpu, {stage}: a weight of ({}, {}), expected ({n_out}, {n_in})", weight.n_out, weight.n_in);
        }
        match &self.bias {
            Some(bias) => bias.check(n_out, stage),
            None => Ok(()),
        }
    }
}

impl Vector {
    /// That it has `n` elements.
    pub(super) fn check(&self, n: usize, stage: &str) -> Result<()> {
        if self.values.len() != n {
            fail!(Internal, "cpu, {stage}: a vector of {}, expected {n}", self.values.len());
        }
        Ok(())
    }
}

/// The bytes of a row of `tensor`, which is whole rows and not empty.
fn check(tensor: &HostTensor) -> Result<usize> {
    let HostTensor { name, dtype, n_rows, n_cols, data } = tensor;
    if *n_rows == 0 || *n_cols == 0 {
        fail!(Format, "{name}: an empty tensor ({n_rows}, {n_cols})");
    }
    let Some(row_bytes) = dtype.row_bytes(*n_cols) else {
        fail!(Format, "{name}: rows of {n_cols} elements are not whole {} blocks of {}", dtype.name(), dtype.block_len());
    };
    let n_bytes = data.as_slice().len();
    if row_bytes.checked_mul(*n_rows) != Some(n_bytes) {
        fail!(Format, "{name}: {n_bytes} bytes for {n_rows} rows of {row_bytes}");
    }
    Ok(row_bytes)
}
