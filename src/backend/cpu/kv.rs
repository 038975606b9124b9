//! Keys and values in blocks of tokens, and the stage that puts them there.

use super::Cpu;
use super::weights::Vector;
use super::workspace::{Angles, Workspace};
use crate::backend::{BLOCK_TOKENS, Batch, BlockId, Norm, Rope, SequenceRows, Shape, Slot};
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::kernels::{KvTile, KvType, RopeStyle};
use crate::sys::memory::AlignedBytes;
use std::ops::Range;

/// Pieces that are prepared at once, on the stack: two chunks of 1024 tokens, or 64 sequences in decode.
const WAVE: usize = 64;

/// The keys and values of every block, for every layer.
pub struct Kv {
    kind: KvType,
    n_layers: usize,
    n_kv_heads: usize,
    /// Bytes of one tile: `BLOCK_TOKENS * head_dim * kind.bytes()`
    tile_bytes: usize,
    /// Each `(n_layers, K | V, n_kv_heads, BLOCK_TOKENS, head_dim)` in `kind`.
    blocks: Vec<AlignedBytes>,
}

impl Kv {
    /// No blocks yet.
    pub(super) fn new(shape: &Shape, kind: KvType) -> Result<Self> {
        shape.check()?;
        let tile_bytes = shape.head_dim.checked_mul(BLOCK_TOKENS * kind.bytes());
        let in_a_block = shape.n_layers.checked_mul(2 * shape.n_kv_heads);
        let Some((tile_bytes, _)) = tile_bytes.zip(in_a_block).filter(|(bytes, n)| bytes.checked_mul(*n).is_some()) else {
            fail!(InvalidArgument, "cpu: a KV block of {shape:?} has more bytes than memory can have");
        };
        Ok(Self { kind, n_layers: shape.n_layers, n_kv_heads: shape.n_kv_heads, tile_bytes, blocks: Vec::new() })
    }

    /// Makes blocks `0..n_blocks` exist, or changes nothing.
    pub(super) fn grow(&mut self, n_blocks: usize) -> Result<()> {
        let (n_old, block_bytes) = (self.blocks.len(), self.n_layers * 2 * self.n_kv_heads * self.tile_bytes);
        let n_new = n_blocks.saturating_sub(n_old);
        let bytes = n_new.saturating_mul(block_bytes);
        self.blocks.try_reserve(n_new).map_err(|_| no_memory(n_new, bytes))?;
        for _ in 0..n_new {
            match AlignedBytes::zeroed(block_bytes) {
                Ok(block) => self.blocks.push(block),
                Err(_) => {
                    self.blocks.truncate(n_old);
                    return Err(no_memory(n_new, bytes));
                }
            }
        }
        Ok(())
    }

    /// The keys and values of `head` in a block.
    pub(super) fn tile(&self, block: BlockId, layer: usize, head: usize) -> KvTile<'_> {
        let bytes = self.blocks[block as usize].as_slice();
        let half = |which| &bytes[self.tile_start(layer, which, head)..][..self.tile_bytes];
        KvTile { keys: half(0), values: half(1), kind: self.kind }
    }

    /// Where the keys (`which` 0) or values (1) of `head` start in a block.
    fn tile_start(&self, layer: usize, which: usize, head: usize) -> usize {
        ((layer * 2 + which) * self.n_kv_heads + head) * self.tile_bytes
    }

    /// That `layer` and all `blocks` exist.
    pub(super) fn check(&self, layer: usize, blocks: &[BlockId], stage: &str) -> Result<()> {
        if layer >= self.n_layers {
            fail!(Internal, "cpu, {stage}: layer {layer} of {}", self.n_layers);
        }
        match blocks.iter().find(|&&block| block as usize >= self.blocks.len()) {
            Some(block) => fail!(Internal, "cpu, {stage}: block {block} of {}", self.blocks.len()),
            None => Ok(()),
        }
    }
}

fn no_memory(n_blocks: usize, bytes: usize) -> Error {
    let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
    Error::new(ErrorKind::OutOfMemory, format!("cannot allocate {n_blocks} KV blocks of {bytes} bytes together")).with_detail([wanted, 0])
}

/// Rows of one sequence that go into one block, with everything they write.
#[derive(Default)]
struct Piece<'a> {
    rows: Range<usize>,
    id: BlockId,
    /// Token of the block that the first row is.
    first_token: usize,
    /// `(rows, n_heads * head_dim)`
    query: &'a mut [f32],
    /// `(rows, n_kv_heads * head_dim)`
    key: &'a mut [f32],
    block: Option<&'a mut AlignedBytes>,
}

/// What all pieces of a layer share.
struct Append<'a> {
    cpu: &'a Cpu,
    shape: &'a Shape,
    angles: &'a Angles,
    style: RopeStyle,
    /// Of Query and of Key.
    head_norms: Option<(&'a Norm<Cpu>, &'a Norm<Cpu>)>,
    /// `(rows, n_kv_heads * head_dim)`
    value: &'a [f32],
    layer: usize,
    kind: KvType,
    tile_bytes: usize,
}

/// See [`crate::backend::Backend::rope_append`].
pub(super) fn rope_append(
    cpu: &Cpu,
    ws: &mut Workspace,
    batch: &Batch,
    layer: usize,
    head_norms: Option<(&Norm<Cpu>, &Norm<Cpu>)>,
    rope: &Rope,
    kv: &mut Kv,
) -> Result<()> {
    check(ws, batch, layer, head_norms, rope, kv)?;
    let Workspace { shape, angles, slots: [query, key, value, ..], scratch, .. } = ws;
    let (kind, tile_bytes) = (kv.kind, kv.tile_bytes);
    let append = Append { cpu, shape, angles, style: rope.style, head_norms, value, layer, kind, tile_bytes };
    let (mut query, mut key) = (&mut query[..], &mut key[..]);
    let mut todo = batch.sequences.iter().flat_map(|sequence| pieces(batch, sequence)).peekable();
    while todo.peek().is_some() {
        let mut wave: [Piece<'_>; WAVE] = std::array::from_fn(|_| Piece::default());
        let mut n = 0;
        for (slot, mut piece) in wave.iter_mut().zip(&mut todo) {
            piece.query = take_rows(&mut query, piece.rows.len(), shape.width(Slot::Query));
            piece.key = take_rows(&mut key, piece.rows.len(), shape.width(Slot::Key));
            (*slot, n) = (piece, n + 1);
        }
        let wave = &mut wave[..n];
        hand_out_blocks(wave, &mut kv.blocks)?;
        let per_task = cpu.rows_per_task(n, wave.iter().map(|piece| piece.query.len() + 2 * piece.key.len()).sum::<usize>() / n);
        cpu.pool.for_chunks_with(wave, per_task, scratch, &|_, pieces, own| {
            pieces.iter_mut().for_each(|piece| append.run(piece, &mut own.row));
        })?;
    }
    Ok(())
}

fn check(ws: &Workspace, batch: &Batch, layer: usize, head_norms: Option<(&Norm<Cpu>, &Norm<Cpu>)>, rope: &Rope, kv: &Kv) -> Result<()> {
    ws.check(batch, "rope_append")?;
    kv.check(layer, &batch.blocks, "rope_append")?;
    if rope.inv_freq.len() != ws.angles.n_pairs {
        fail!(Internal, "cpu, rope_append: {} rotary pairs in a pass that began with {}", rope.inv_freq.len(), ws.angles.n_pairs);
    }
    for norm in head_norms.iter().flat_map(|(query, key)| [query, key]) {
        norm.weight.check(ws.shape.head_dim, "rope_append")?;
    }
    Ok(())
}

/// The rows of `sequence`, cut where blocks end.
fn pieces<'a>(batch: &Batch, sequence: &SequenceRows) -> impl Iterator<Item = Piece<'a>> {
    let (start, rows) = (sequence.start, sequence.rows.clone());
    let end = start + rows.len();
    batch.table(sequence).iter().enumerate().skip(start / BLOCK_TOKENS).map_while(move |(i, &id)| {
        let first = start.max(i * BLOCK_TOKENS);
        let last = end.min((i + 1) * BLOCK_TOKENS);
        let rows = rows.start + (first - start)..rows.start + last.checked_sub(start)?;
        (first < last).then(|| Piece { rows, id, first_token: first % BLOCK_TOKENS, ..Piece::default() })
    })
}

/// Splits the first `n_rows` rows of `width` off `rest`.
fn take_rows<'a>(rest: &mut &'a mut [f32], n_rows: usize, width: usize) -> &'a mut [f32] {
    let (rows, after) = std::mem::take(rest).split_at_mut(n_rows * width);
    *rest = after;
    rows
}

/// Gives each piece its block. All differ: a block that is written belongs to one sequence.
fn hand_out_blocks<'a>(wave: &mut [Piece<'a>], blocks: &'a mut [AlignedBytes]) -> Result<()> {
    wave.sort_unstable_by_key(|piece| piece.id);
    let (mut rest, mut next) = (blocks, 0);
    for piece in wave {
        let id = piece.id as usize;
        let after = id.checked_sub(next).and_then(|skip| rest.get_mut(skip..)).and_then(<[_]>::split_first_mut);
        let Some((block, after)) = after else {
            fail!(Internal, "cpu, rope_append: two sequences write block {id}");
        };
        piece.block = Some(block);
        (rest, next) = (after, id + 1);
    }
    Ok(())
}

impl Append<'_> {
    /// Rotates the heads of a piece in place and stores its keys and values. `scratch` holds at least a head.
    fn run(&self, piece: &mut Piece<'_>, scratch: &mut [f32]) {
        let (q_width, kv_width) = (self.shape.width(Slot::Query), self.shape.width(Slot::Key));
        let (query_norm, key_norm) = self.head_norms.unzip();
        for (i, m) in piece.rows.clone().enumerate() {
            self.turn(&mut piece.query[i * q_width..][..q_width], m, query_norm, scratch);
            let key = &mut piece.key[i * kv_width..][..kv_width];
            self.turn(key, m, key_norm, scratch);
            if let Some(block) = &mut piece.block {
                let value = &self.value[m * kv_width..][..kv_width];
                self.store(block.as_mut_slice(), piece.first_token + i, [key, value]);
            }
        }
    }

    /// Normalises and rotates the heads of row `m`, `(heads, head_dim)`.
    fn turn(&self, row: &mut [f32], m: usize, norm: Option<&Norm<Cpu>>, scratch: &mut [f32]) {
        let (cos, sin) = self.angles.row(m);
        let kernels = self.cpu.kernels;
        for head in row.chunks_mut(self.shape.head_dim) {
            if let Some(Norm { weight: Vector { values }, eps }) = norm {
                let normed = &mut scratch[..head.len()];
                kernels.rms_norm(head, values, *eps, normed);
                head.copy_from_slice(normed);
            }
            kernels.rope(self.style, head, cos, sin);
        }
    }

    /// Stores the heads of `token`: keys and values, `(n_kv_heads, head_dim)` each.
    fn store(&self, block: &mut [u8], token: usize, key_value: [&[f32]; 2]) {
        let (n_kv_heads, head_bytes) = (self.shape.n_kv_heads, self.tile_bytes / BLOCK_TOKENS);
        for (which, row) in key_value.into_iter().enumerate() {
            for (head, x) in row.chunks(self.shape.head_dim).enumerate() {
                let tile = ((self.layer * 2 + which) * n_kv_heads + head) * self.tile_bytes;
                let out = &mut block[tile + token * head_bytes..][..head_bytes];
                self.cpu.kernels.store_kv(self.kind, x, out);
            }
        }
    }
}
