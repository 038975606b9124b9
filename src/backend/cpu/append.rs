//! The stage that rotates queries and keys and puts keys and values into their blocks.
//!
//! Rows are cut into pieces that end where blocks end, so that threads can each have a block of their own.

use super::Cpu;
use super::kv::{BlockLayout, Half, Kv};
use super::workspace::{Angles, Workspace};
use crate::backend::{BLOCK_TOKENS, Batch, BlockId, HeadNorms, Norm, SequenceRows, Shape, Slot};
use crate::error::Result;
use crate::fail;
use crate::sys::memory::AlignedBytes;
use std::ops::Range;

/// Pieces that are prepared at once, on the stack: 2048 tokens of a prompt, or 64 sequences in decode.
const WAVE: usize = 64;

/// Rows of one sequence that go into one block, with everything they write.
#[derive(Default)]
struct Piece<'a> {
    rows: Range<usize>,
    id: BlockId,
    /// Which token of the block the first row is.
    first_token: usize,
    /// `(rows, n_heads * head_dim)`
    query: &'a mut [f32],
    /// `(rows, n_kv_heads * head_dim)`
    key: &'a mut [f32],
    block: Option<&'a mut AlignedBytes>,
}

/// What happens to the heads of a row before they are used.
struct Turn<'a> {
    cpu: &'a Cpu,
    head_dim: usize,
    /// `None`: the layer does not rotate.
    angles: Option<&'a Angles>,
}

/// What all pieces of a layer share.
struct Append<'a> {
    turn: Turn<'a>,
    shape: &'a Shape,
    head_norms: Option<HeadNorms<'a, Cpu>>,
    /// `(rows, n_kv_heads * head_dim)`
    value: &'a [f32],
    layer: usize,
    layout: BlockLayout,
}

/// See [`crate::backend::Backend::rope_append`].
pub(super) fn rope_append(
    cpu: &Cpu,
    ws: &mut Workspace,
    batch: &Batch,
    layer: usize,
    head_norms: Option<HeadNorms<'_, Cpu>>,
    rope: Option<usize>,
    kv: &mut Kv,
) -> Result<()> {
    check(ws, batch, layer, head_norms, rope, kv)?;
    let Workspace { shape, angles, slots: [query, key, value, ..], scratch, .. } = ws;
    let angles = rope.and_then(|i| angles.get(i));
    let turn = Turn { cpu, head_dim: shape.head_dim, angles };
    let append = Append { turn, shape, head_norms, value, layer, layout: kv.layout };
    let (mut query, mut key) = (&mut query[..], &mut key[..]);
    let mut todo = batch.sequences.iter().flat_map(|sequence| pieces(batch, sequence)).peekable();
    while todo.peek().is_some() {
        let mut wave: [Piece<'_>; WAVE] = std::array::from_fn(|_| Piece::default());
        let mut n = 0;
        for (place, mut piece) in wave.iter_mut().zip(&mut todo) {
            piece.query = take_rows(&mut query, piece.rows.len(), shape.width(Slot::Query));
            piece.key = take_rows(&mut key, piece.rows.len(), shape.width(Slot::Key));
            (*place, n) = (piece, n + 1);
        }
        let wave = &mut wave[..n];
        hand_out_blocks(wave, &mut kv.blocks)?;
        let elements = wave.iter().map(|piece| piece.query.len() + 2 * piece.key.len()).sum::<usize>();
        cpu.pool.for_chunks_with(wave, cpu.rows_per_task(n, elements / n), scratch, &|_, pieces, own| {
            pieces.iter_mut().for_each(|piece| append.run(piece, &mut own.row));
        })?;
    }
    Ok(())
}

fn check(ws: &Workspace, batch: &Batch, layer: usize, head_norms: Option<HeadNorms<'_, Cpu>>, rope: Option<usize>, kv: &Kv) -> Result<()> {
    ws.check(batch, "rope_append")?;
    kv.check(layer, &batch.blocks, "rope_append")?;
    let Some(HeadNorms { query, key, value }) = head_norms else { return check_turn(ws, rope, None, Slot::Query) };
    check_turn(ws, rope, Some(query), Slot::Query)?;
    check_turn(ws, rope, Some(key), Slot::Key)?;
    value.map_or(Ok(()), |norm| norm.check(ws.shape.head_dim, "rope_append"))
}

/// That the heads in `slot` can be turned.
fn check_turn(ws: &Workspace, rope: Option<usize>, norm: Option<&Norm<Cpu>>, slot: Slot) -> Result<()> {
    if let Some(rope) = rope.filter(|&rope| rope >= ws.angles.len()) {
        fail!(Internal, "cpu, rope_append: rope {rope} in a pass that began with {}", ws.angles.len());
    }
    let all = ws.shape.width(slot);
    norm.map_or(Ok(()), |norm| norm.check(if norm.weight.values.len() == all { all } else { ws.shape.head_dim }, "rope_append"))
}

/// See [`crate::backend::Backend::rope_query`].
pub(super) fn rope_query(cpu: &Cpu, ws: &mut Workspace, batch: &Batch, norm: Option<&Norm<Cpu>>, rope: Option<usize>) -> Result<()> {
    ws.check(batch, "rope_query")?;
    check_turn(ws, rope, norm, Slot::Query)?;
    let Workspace { shape, angles, slots: [query, ..], scratch, n_rows, .. } = ws;
    let turn = Turn { cpu, head_dim: shape.head_dim, angles: rope.and_then(|i| angles.get(i)) };
    let width = shape.width(Slot::Query);
    let per_task = cpu.rows_per_task(*n_rows, width);
    cpu.pool.for_chunks_with(&mut query[..*n_rows * width], per_task * width, scratch, &|task, rows, own| {
        for (i, row) in rows.chunks_mut(width).enumerate() {
            turn.run(row, task * per_task + i, norm, &mut own.row);
        }
    })
}

/// The rows of `sequence`, cut where blocks end.
fn pieces<'a>(batch: &Batch, sequence: &SequenceRows) -> impl Iterator<Item = Piece<'a>> {
    let (start, first_row) = (sequence.start, sequence.rows.start);
    let end = start + sequence.rows.len();
    let blocks = start / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS);
    batch.table(sequence)[blocks.clone()].iter().zip(blocks).map(move |(&id, block)| {
        let positions = start.max(block * BLOCK_TOKENS)..end.min((block + 1) * BLOCK_TOKENS);
        let rows = first_row + (positions.start - start)..first_row + (positions.end - start);
        Piece { rows, id, first_token: positions.start % BLOCK_TOKENS, ..Piece::default() }
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

impl Turn<'_> {
    /// Normalises and rotates the heads of row `m`, `(heads, head_dim)`. `scratch` holds at least all of them.
    fn run(&self, row: &mut [f32], m: usize, norm: Option<&Norm<Cpu>>, scratch: &mut [f32]) {
        let kernels = self.cpu.kernels;
        if let Some(norm) = norm {
            for part in row.chunks_mut(norm.weight.values.len()) {
                let normed = &mut scratch[..part.len()];
                norm.apply(kernels, part, normed);
                part.copy_from_slice(normed);
            }
        }
        if let Some(angles) = self.angles {
            let (cos, sin) = angles.row(m);
            row.chunks_mut(self.head_dim).for_each(|head| kernels.rope(angles.style, head, cos, sin));
        }
    }
}

impl Append<'_> {
    /// Rotates the heads of a piece in place and stores its keys and values. `scratch` holds at least all heads of a row.
    fn run(&self, piece: &mut Piece<'_>, scratch: &mut [f32]) {
        let (q_width, kv_width) = (self.shape.width(Slot::Query), self.shape.width(Slot::Key));
        for (i, m) in piece.rows.clone().enumerate() {
            let query = &mut piece.query[i * q_width..][..q_width];
            self.turn.run(query, m, self.head_norms.map(|norms| norms.query), scratch);
            let key = &mut piece.key[i * kv_width..][..kv_width];
            self.turn.run(key, m, self.head_norms.map(|norms| norms.key), scratch);
            let value = self.value(m, scratch);
            if let Some(block) = &mut piece.block {
                let (block, token) = (block.as_mut_slice(), piece.first_token + i);
                self.store(block, token, Half::Keys, key);
                if self.shape.latent.is_none() {
                    self.store(block, token, Half::Values, value);
                }
            }
        }
    }

    /// The values of row `m`, `(n_kv_heads, head_dim)`, normalised into `scratch` if they are.
    fn value<'s>(&'s self, m: usize, scratch: &'s mut [f32]) -> &'s [f32] {
        let width = self.shape.width(Slot::Value);
        let value = &self.value[m * width..][..width];
        let Some(norm) = self.head_norms.and_then(|norms| norms.value) else { return value };
        let heads = value.chunks(self.shape.head_dim).zip(scratch.chunks_mut(self.shape.head_dim));
        heads.for_each(|(head, normed)| norm.apply(self.turn.cpu.kernels, head, normed));
        &scratch[..width]
    }

    /// Stores the heads of `token`, `(n_kv_heads, head_dim)`.
    fn store(&self, block: &mut [u8], token: usize, half: Half, row: &[f32]) {
        let (kernels, kind) = (self.turn.cpu.kernels, self.layout.kind);
        for (head, x) in row.chunks(self.shape.head_dim).enumerate() {
            let tile = &mut block[self.layout.tile(self.layer, half, head)];
            match half {
                Half::Keys => kernels.store_key(kind, x, tile, token),
                Half::Values => kernels.store_value(kind, x, tile, token),
            }
        }
    }
}
