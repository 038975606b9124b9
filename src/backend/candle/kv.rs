//! Keys and values on a candle device: paged, one pair of tensors per layer. Used by `rope_append` and `attend`.
//!
//! Blocks are the first dimension, so that one gather by the block table reads a sequence, however its blocks are scattered, and the
//! rows of a block that a pass writes are one copy.

use super::error::InStage;
use super::memory;
use super::rope::Angles;
use crate::backend::{BLOCK_TOKENS, Batch, BlockId, Rope, SequenceRows, Shape};
use crate::error::Result;
use crate::fail;
use crate::kernels::KvType;
use candle_core::{DType, Device, Tensor};

/// The keys and values of every block, for every layer.
pub struct Kv {
    /// `(n_layers,)`, or empty while there are no blocks: a device has no tensor of no elements.
    layers: Vec<Layer>,
    n_blocks: usize,
    shape: Shape,
    dtype: DType,
}

/// Row `b * BLOCK_TOKENS + i` is token `i` of block `b`.
struct Layer {
    /// `(n_blocks * BLOCK_TOKENS, n_kv_heads * head_dim)`
    keys: Tensor,
    /// `(n_blocks * BLOCK_TOKENS, n_kv_heads * head_dim)`; `None` where keys are values.
    values: Option<Tensor>,
}

impl Layer {
    /// The keys, then the values.
    fn halves(&self) -> impl Iterator<Item = &Tensor> {
        [Some(&self.keys), self.values.as_ref()].into_iter().flatten()
    }
}

impl Kv {
    /// Storage without blocks.
    ///
    /// # Errors
    /// `Unsupported` for a quantised cache: candle's tensors have no such elements.
    pub(super) fn new(shape: &Shape, kind: KvType) -> Result<Self> {
        let dtype = match kind {
            KvType::F32 => DType::F32,
            KvType::F16 => DType::F16,
            KvType::Q8_0 => fail!(Unsupported, "kv_type q8_0: backend \"candle\" stores keys and values as f32 or f16"),
        };
        Ok(Self { layers: Vec::new(), n_blocks: 0, shape: *shape, dtype })
    }

    /// Makes blocks `0..n_blocks` exist. The old ones are copied, so old and new exist side by side for a moment; whoever grows often
    /// should grow in large steps.
    ///
    /// # Errors
    /// `OutOfMemory`, with the old blocks as they were.
    pub(super) fn grow(&mut self, device: &Device, n_blocks: usize) -> Result<()> {
        if n_blocks <= self.n_blocks {
            return Ok(());
        }
        let width = self.shape.n_kv_heads.checked_mul(self.shape.head_dim);
        let n_rows = n_blocks.checked_mul(BLOCK_TOKENS);
        let elements = [n_rows, width, Some(self.shape.n_layers), Some(self.n_halves())];
        memory::reserve(device, elements.into_iter().try_fold(1, |n: usize, x| n.checked_mul(x?)), self.dtype.size_in_bytes())?;
        let (Some(n_rows), Some(width)) = (n_rows, width) else { fail!(Internal, "KV: sizes overflow after they were checked") };
        let enlarged = |old: Option<&Tensor>| -> candle_core::Result<Tensor> {
            let new = Tensor::zeros((n_rows, width), self.dtype, device)?;
            old.map_or(Ok(()), |old| new.slice_set(old, 0, 0))?;
            Ok(new)
        };
        let layers = (0..self.shape.n_layers).map(|i| {
            let old = self.layers.get(i);
            let values = || enlarged(old.and_then(|l| l.values.as_ref()));
            Ok(Layer { keys: enlarged(old.map(|l| &l.keys))?, values: if self.n_halves() == 2 { Some(values()?) } else { None } })
        });
        self.layers = layers.collect::<candle_core::Result<_>>().stage("grow_kv")?;
        self.n_blocks = n_blocks;
        Ok(())
    }

    /// Keys and values, or keys that are values.
    fn n_halves(&self) -> usize {
        if self.shape.latent.is_some() { 1 } else { 2 }
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(&self) -> usize {
        self.n_halves() * self.shape.n_layers * self.half_bytes()
    }

    /// Copies block `from` to block `to`, in every layer.
    ///
    /// # Errors
    /// `Internal` for a block that does not exist.
    pub(super) fn copy_block(&mut self, from: BlockId, to: BlockId) -> Result<()> {
        if from.max(to) as usize >= self.n_blocks {
            fail!(Internal, "candle, KV: copy of block {from} to {to} of {}", self.n_blocks);
        }
        let (from, to) = (from as usize * BLOCK_TOKENS, to as usize * BLOCK_TOKENS);
        // `copy`: a tensor cannot be read while it is written.
        let copy = |rows: &Tensor| rows.slice_set(&rows.narrow(0, from, BLOCK_TOKENS)?.copy()?, 0, to);
        self.layers
            .iter()
            .try_for_each(|layer| copy(&layer.keys).and_then(|()| layer.values.as_ref().map_or(Ok(()), copy)))
            .stage("copy_block")
    }

    /// See [`crate::backend::Backend::turn_back`].
    ///
    /// # Errors
    /// `Internal` for a block that does not exist.
    pub(super) fn turn_back(&mut self, device: &Device, blocks: &[BlockId], n_positions: usize, rope: &Rope) -> Result<()> {
        const STAGE: &str = "turn_back";
        let Some(angles) = Angles::back(n_positions, rope, BLOCK_TOKENS, device).stage(STAGE)? else { return Ok(()) };
        let Shape { n_kv_heads, head_dim, .. } = self.shape;
        for &id in blocks {
            let start = self.checked_start(id, STAGE)?;
            for Layer { keys, .. } in &self.layers {
                let turned = keys
                    .narrow(0, start, BLOCK_TOKENS)
                    .and_then(|rows| rows.to_dtype(DType::F32)?.reshape((BLOCK_TOKENS, n_kv_heads, head_dim)))
                    .and_then(|rows| angles.rotate(&rows)?.flatten_from(1)?.to_dtype(self.dtype)?.contiguous());
                turned.and_then(|rows| keys.slice_set(&rows, 0, start)).stage(STAGE)?;
            }
        }
        Ok(())
    }

    /// Copies block `id` into `out`: of each layer the keys, then the values, `(BLOCK_TOKENS, n_kv_heads * head_dim)` as they are stored.
    ///
    /// # Errors
    /// `Internal` for a block that does not exist, or an `out` of another length.
    pub(super) fn read_block(&self, id: BlockId, out: &mut [u8]) -> Result<()> {
        let start = self.checked_start(id, "read_block")?;
        self.check_length(out.len(), "read_block")?;
        let halves = self.layers.iter().flat_map(Layer::halves);
        for (half, mut out) in halves.zip(out.chunks_exact_mut(self.half_bytes())) {
            half.narrow(0, start, BLOCK_TOKENS).and_then(|rows| rows.write_bytes(&mut out)).stage("read_block")?;
        }
        Ok(())
    }

    /// The reverse of [`Self::read_block`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn write_block(&mut self, device: &Device, id: BlockId, bytes: &[u8]) -> Result<()> {
        let start = self.checked_start(id, "write_block")?;
        self.check_length(bytes.len(), "write_block")?;
        let shape = [BLOCK_TOKENS, self.shape.n_kv_heads * self.shape.head_dim];
        let halves = self.layers.iter().flat_map(Layer::halves);
        for (half, bytes) in halves.zip(bytes.chunks_exact(self.half_bytes())) {
            let rows = Tensor::from_raw_buffer(bytes, self.dtype, &shape, device);
            rows.and_then(|rows| half.slice_set(&rows, 0, start)).stage("write_block")?;
        }
        Ok(())
    }

    /// Bytes of the keys, or of the values, of a block in one layer.
    fn half_bytes(&self) -> usize {
        BLOCK_TOKENS * self.shape.n_kv_heads * self.shape.head_dim * self.dtype.size_in_bytes()
    }

    fn check_length(&self, n_bytes: usize, stage: &str) -> Result<()> {
        if n_bytes != self.block_bytes() {
            fail!(Internal, "candle, {stage}: {n_bytes} bytes for a block of {}", self.block_bytes());
        }
        Ok(())
    }

    /// The row at which block `id` begins.
    fn checked_start(&self, id: BlockId, stage: &str) -> Result<usize> {
        if id as usize >= self.n_blocks {
            fail!(Internal, "candle, {stage}: block {id} of {}", self.n_blocks);
        }
        Ok(id as usize * BLOCK_TOKENS)
    }

    /// Writes the keys and values of a batch's rows, both `(rows, n_kv_heads * head_dim)`, into the blocks of its sequences.
    ///
    /// # Errors
    /// `Internal` for a layer or a block that does not exist.
    pub(super) fn append(&mut self, batch: &Batch, layer: usize, keys: &Tensor, values: &Tensor) -> Result<()> {
        let keys = keys.to_dtype(self.dtype).and_then(|t| t.contiguous()).stage("rope_append, keys")?;
        let values = values.to_dtype(self.dtype).and_then(|t| t.contiguous()).stage("rope_append, values")?;
        for sequence in &batch.sequences {
            let table = self.checked_table(batch, sequence)?;
            let layer = self.layer(layer)?;
            for run in runs(sequence, table) {
                run.copy(&keys, &layer.keys).stage("rope_append, keys")?;
                layer.values.as_ref().map_or(Ok(()), |to| run.copy(&values, to)).stage("rope_append, values")?;
            }
        }
        Ok(())
    }

    /// The keys and values of positions `0..sequence.start + rows` of a sequence, each `(n_kv_heads, positions, head_dim)` in `f32`.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub(super) fn gather(&self, batch: &Batch, sequence: &SequenceRows, layer: usize) -> Result<(Tensor, Tensor)> {
        let n_positions = sequence.start + sequence.rows.len();
        let blocks = &self.checked_table(batch, sequence)?[..n_positions.div_ceil(BLOCK_TOKENS)];
        let layer = self.layer(layer)?;
        let read = |rows: &Tensor| -> candle_core::Result<Tensor> {
            let blocks = Tensor::new(blocks, rows.device())?; // (n_blocks,)
            rows.reshape((self.n_blocks, ()))?
                .index_select(&blocks, 0)? // (n_blocks, BLOCK_TOKENS * n_kv_heads * head_dim)
                .reshape(((), self.shape.n_kv_heads, self.shape.head_dim))?
                .narrow(0, 0, n_positions)?
                .transpose(0, 1)? // (n_kv_heads, n_positions, head_dim)
                .to_dtype(DType::F32)?
                .contiguous()
        };
        let keys = read(&layer.keys).stage("attend, keys")?;
        let values = layer.values.as_ref().map_or(Ok(keys.clone()), read).stage("attend, values")?;
        Ok((keys, values))
    }

    fn layer(&self, i: usize) -> Result<&Layer> {
        match self.layers.get(i) {
            Some(layer) => Ok(layer),
            None => fail!(Internal, "candle, KV: layer {i} of {} with {} blocks", self.shape.n_layers, self.n_blocks),
        }
    }

    /// The sequence's block table, known to cover its positions and to name blocks that exist: a device does not check an index.
    fn checked_table<'a>(&self, batch: &'a Batch, sequence: &SequenceRows) -> Result<&'a [BlockId]> {
        let table = batch.blocks.get(sequence.blocks.clone()).unwrap_or_default();
        let n_positions = sequence.start.saturating_add(sequence.rows.len());
        if table.len() < n_positions.div_ceil(BLOCK_TOKENS) {
            fail!(Internal, "candle, KV: a table of {} blocks for {n_positions} positions", table.len());
        }
        if let Some(block) = table.iter().find(|&&block| block as usize >= self.n_blocks) {
            fail!(Internal, "candle, KV: block {block} of {}", self.n_blocks);
        }
        Ok(table)
    }
}

/// Consecutive rows of a batch that lie in one block.
struct Run {
    first_row: usize,
    n_rows: usize,
    /// Row of the first one in a [`Layer`].
    target: usize,
}

impl Run {
    /// `to[target..] = from[first_row..]`, `n_rows` rows.
    fn copy(&self, from: &Tensor, to: &Tensor) -> candle_core::Result<()> {
        to.slice_set(&from.narrow(0, self.first_row, self.n_rows)?, 0, self.target)
    }
}

/// The rows of `sequence`, cut where a block ends. `table` covers its positions.
fn runs(sequence: &SequenceRows, table: &[BlockId]) -> Vec<Run> {
    let end = sequence.start + sequence.rows.len();
    let (first_block, end_block) = (sequence.start / BLOCK_TOKENS, end.div_ceil(BLOCK_TOKENS));
    (first_block..end_block)
        .map(|i| {
            let from = sequence.start.max(i * BLOCK_TOKENS);
            let to = end.min((i + 1) * BLOCK_TOKENS);
            let target = table[i] as usize * BLOCK_TOKENS + from % BLOCK_TOKENS;
            Run { first_row: sequence.rows.start + from - sequence.start, n_rows: to - from, target }
        })
        .collect()
}
