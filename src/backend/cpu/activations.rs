//! Rows of activations in the form that products want, made once per stage and shared by all its projections.

use super::Cpu;
use super::workspace::Scratch;
use crate::error::Result;
use crate::kernels::{Activation, ActivationRows};
use crate::sys::memory::AlignedBytes;
use std::ops::Range;

/// Writes row `i` of the source into the slice, which is `(n_cols,)`.
pub(super) type FillRow<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

/// Quantised rows, one buffer per layout, kept from pass to pass.
pub(super) struct Activations {
    /// By [`Activation`].
    buffers: [Buffer; 3],
}

struct Buffer {
    /// `(n_rows, activation_bytes)`, and spare room.
    bytes: AlignedBytes,
    n_rows: usize,
    n_bytes: usize,
}

impl Activations {
    pub(super) fn new() -> Result<Self> {
        let empty = || AlignedBytes::zeroed(0).map(|bytes| Buffer { bytes, n_rows: 0, n_bytes: 0 });
        Ok(Self { buffers: [empty()?, empty()?, empty()?] })
    }

    /// Makes `n_rows` rows of `n_cols` elements in `layout`, each from what `fill` writes.
    pub(super) fn fill(
        &mut self,
        cpu: &Cpu,
        scratch: &mut [Scratch],
        layout: Activation,
        (n_rows, n_cols): (usize, usize),
        fill: FillRow<'_>,
    ) -> Result<()> {
        let row_bytes = cpu.kernels.activation_bytes(layout, n_cols);
        let n_bytes = n_rows * row_bytes;
        let buffer = &mut self.buffers[layout as usize];
        if buffer.bytes.as_slice().len() < n_bytes {
            buffer.bytes = AlignedBytes::zeroed(n_bytes)?;
        }
        (buffer.n_rows, buffer.n_bytes) = (n_rows, n_bytes);
        let rows_per_task = cpu.rows_per_task(n_rows, n_cols);
        let bytes = &mut buffer.bytes.as_mut_slice()[..n_bytes];
        cpu.pool.for_chunks_with(bytes, rows_per_task * row_bytes, scratch, &|task, chunk, own| {
            let x = &mut own.row[..n_cols];
            for (i, out) in chunk.chunks_mut(row_bytes).enumerate() {
                fill(task * rows_per_task + i, x);
                cpu.kernels.quantize(layout, x, out);
            }
        })
    }

    /// `rows` of those that [`Self::fill`] made last in `layout`, of `n_cols` elements.
    pub(super) fn part(&self, cpu: &Cpu, layout: Activation, n_cols: usize, rows: Range<usize>) -> ActivationRows<'_> {
        let row_bytes = cpu.kernels.activation_bytes(layout, n_cols);
        ActivationRows { n_rows: rows.len(), bytes: &self.rows(layout).bytes[rows.start * row_bytes..rows.end * row_bytes] }
    }

    /// The rows that [`Self::fill`] made last in `layout`.
    pub(super) fn rows(&self, layout: Activation) -> ActivationRows<'_> {
        let buffer = &self.buffers[layout as usize];
        ActivationRows { bytes: &buffer.bytes.as_slice()[..buffer.n_bytes], n_rows: buffer.n_rows }
    }
}
