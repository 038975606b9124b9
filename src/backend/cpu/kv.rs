//! Keys and values of all layers in blocks of tokens. Written by `append`, read by `attention`.

use crate::backend::{BLOCK_TOKENS, BlockId, Shape};
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::kernels::{KV_GROUP, KvTile, KvType, keys_as_values};
use crate::sys::memory::AlignedBytes;
use std::ops::Range;

/// The keys and values of every block, for every layer.
pub struct Kv {
    pub(super) layout: BlockLayout,
    /// Each `layout.block_bytes()` long.
    pub(super) blocks: Vec<AlignedBytes>,
}

/// What lies where in a block: `(n_layers, n_kv_heads, K | V)`, each half a [`KvTile`]. Latents are keys and values in one: their blocks have no V.
#[derive(Clone, Copy)]
pub(super) struct BlockLayout {
    pub(super) kind: KvType,
    n_layers: usize,
    n_kv_heads: usize,
    pub(super) head_dim: usize,
    /// Halves of a head: 2, or 1 for keys that are values.
    n_halves: usize,
    /// Bytes of the keys, or of the values, of one head.
    tile_bytes: usize,
}

/// Keys or values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Keys,
    Values,
}

impl BlockLayout {
    fn new(shape: &Shape, kind: KvType) -> Result<Self> {
        shape.check()?;
        let Shape { n_layers, n_kv_heads, head_dim, .. } = *shape;
        let Some(row_bytes) = kind.row_bytes(head_dim) else {
            fail!(Unsupported, "kv_type q8_0 needs heads of whole {KV_GROUP}s of elements; this model's have {head_dim}");
        };
        let n_halves = if shape.latent.is_some() { 1 } else { 2 };
        let factors = [n_layers, n_halves, n_kv_heads, BLOCK_TOKENS, row_bytes];
        if factors.into_iter().try_fold(1_usize, usize::checked_mul).is_none() {
            fail!(InvalidArgument, "cpu: a KV block of {shape:?} has more bytes than memory can have");
        }
        Ok(Self { kind, n_layers, n_kv_heads, head_dim, n_halves, tile_bytes: BLOCK_TOKENS * row_bytes })
    }

    fn block_bytes(&self) -> usize {
        self.tile(self.n_layers, Half::Keys, 0).start
    }

    /// The bytes of all tokens of one head; none for values that are the keys.
    pub(super) fn tile(&self, layer: usize, half: Half, head: usize) -> Range<usize> {
        let head = (layer * self.n_kv_heads + head) * self.n_halves * self.tile_bytes;
        match half {
            Half::Keys => head..head + self.tile_bytes,
            Half::Values => head + self.tile_bytes..head + self.n_halves * self.tile_bytes,
        }
    }
}

impl Kv {
    /// No blocks yet.
    pub(super) fn new(shape: &Shape, kind: KvType) -> Result<Self> {
        Ok(Self { layout: BlockLayout::new(shape, kind)?, blocks: Vec::new() })
    }

    /// Makes blocks `0..n_blocks` exist, or changes nothing.
    pub(super) fn grow(&mut self, n_blocks: usize) -> Result<()> {
        let (n_old, block_bytes) = (self.blocks.len(), self.layout.block_bytes());
        let n_new = n_blocks.saturating_sub(n_old);
        self.blocks.try_reserve(n_new).map_err(|_| no_memory(n_new, block_bytes))?;
        for _ in 0..n_new {
            match AlignedBytes::zeroed(block_bytes) {
                Ok(block) => self.blocks.push(block),
                Err(_) => {
                    self.blocks.truncate(n_old);
                    return Err(no_memory(n_new, block_bytes));
                }
            }
        }
        Ok(())
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(&self) -> usize {
        self.layout.block_bytes()
    }

    /// `blocks[to] = blocks[from]`
    pub(super) fn copy_block(&mut self, from: BlockId, to: BlockId) -> Result<()> {
        let n_blocks = self.blocks.len();
        match self.blocks.get_disjoint_mut([from as usize, to as usize]) {
            Ok([from, to]) => to.as_mut_slice().copy_from_slice(from.as_slice()),
            Err(_) => fail!(Internal, "cpu, copy_block: {from} to {to} of {n_blocks} blocks"),
        }
        Ok(())
    }

    /// The keys and values of `head` in a block.
    pub(super) fn tile(&self, block: BlockId, layer: usize, head: usize) -> KvTile<'_> {
        let bytes = self.blocks[block as usize].as_slice();
        let half = |half| &bytes[self.layout.tile(layer, half, head)];
        KvTile { keys: half(Half::Keys), values: half(Half::Values), kind: self.layout.kind }
    }

    /// Bytes that [`Self::with_values`] writes.
    pub(super) fn values_bytes(&self) -> usize {
        if self.layout.n_halves == 1 { self.layout.tile_bytes } else { 0 }
    }

    /// `tile`, with its keys as values in `values` where it has none.
    pub(super) fn with_values<'a>(&self, tile: KvTile<'a>, values: &'a mut [u8]) -> KvTile<'a> {
        if self.layout.n_halves == 2 {
            return tile;
        }
        let values = &mut values[..self.layout.tile_bytes];
        keys_as_values(tile.kind, self.layout.head_dim, tile.keys, values);
        KvTile { values, ..tile }
    }

    /// That `layer` and all `blocks` exist.
    pub(super) fn check(&self, layer: usize, blocks: &[BlockId], stage: &str) -> Result<()> {
        if layer >= self.layout.n_layers {
            fail!(Internal, "cpu, {stage}: layer {layer} of {}", self.layout.n_layers);
        }
        match blocks.iter().find(|&&block| block as usize >= self.blocks.len()) {
            Some(block) => fail!(Internal, "cpu, {stage}: block {block} of {}", self.blocks.len()),
            None => Ok(()),
        }
    }
}

fn no_memory(n_blocks: usize, block_bytes: usize) -> Error {
    let bytes = n_blocks.saturating_mul(block_bytes);
    let error = Error::new(ErrorKind::OutOfMemory, format!("cannot allocate {n_blocks} KV blocks of {block_bytes} bytes"));
    error.with_detail([i64::try_from(bytes).unwrap_or(i64::MAX), 0])
}
