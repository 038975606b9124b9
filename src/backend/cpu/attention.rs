//! Attention over paged keys and values: tiles of queries, cut into splits of the context, on all threads.
//!
//! **Bits by definition.** For a row and a KV head, positions are cut at absolute multiples of [`SPLIT_TOKENS`]; each split is one
//! online softmax over its blocks in ascending order, and splits are merged in ascending order. Which rows share a tile and which
//! thread does which split is free: it never changes a result.

use super::Cpu;
use super::kv::Kv;
use super::project::multiply;
use super::softmax::{self, Running};
use super::weights::Vector;
use super::workspace::{Scratch, Workspace};
use crate::backend::{Attention, BLOCK_TOKENS, Batch, Shape, Sight, Slot};
use crate::error::{Error, ErrorKind, Result};
use crate::kernels::AttendParams;
use crate::sys::memory::try_grow;
use std::ops::Range;

/// Blocks of a split.
const SPLIT_BLOCKS: usize = 16;

/// Positions of a split. Short enough that one sequence at a few thousand positions keeps many threads busy, long enough that merging
/// (one state per split) costs nothing beside reading the keys.
pub(super) const SPLIT_TOKENS: usize = SPLIT_BLOCKS * BLOCK_TOKENS;

/// Multiply-adds that make a task worth its claim: some microseconds on a fast core. Less is done sooner than another thread looks.
const TASK_MACS: usize = 1 << 18;

/// Queries that share one pass over the keys. More would fall out of the first-level cache together with a block's keys and values.
pub(super) const QUERIES_PER_TILE: usize = 32;

/// How the attention of a layer is divided: tiles of rows, and parts of their context.
pub(super) struct Plan {
    tiles: Vec<Tile>,
    /// Parts of all tiles.
    n_parts: usize,
    /// The most parts of one tile.
    most_parts: usize,
    /// Pairs of a row and a position that it sees.
    n_pairs: usize,
    /// Elements of the largest tile's state.
    stride: usize,
}

/// Consecutive rows of one sequence.
struct Tile {
    /// Index in the batch.
    sequence: usize,
    rows: Range<usize>,
    /// Position of the first row.
    start: usize,
    /// Splits that any of the rows sees.
    splits: Range<usize>,
    /// Its parts, among those of all tiles: one for each split, or one for all.
    parts: Range<usize>,
}

impl Shape {
    /// Rows of a tile.
    pub(super) fn rows_per_tile(&self) -> usize {
        (QUERIES_PER_TILE / self.unit()).max(1)
    }
}

impl Plan {
    /// No tiles, with room for those of `max_rows` rows.
    pub(super) fn new(max_rows: usize) -> Result<Self> {
        let mut tiles = Vec::new();
        let refused = |_| Error::new(ErrorKind::OutOfMemory, format!("cannot plan attention for {max_rows} rows"));
        tiles.try_reserve_exact(max_rows).map_err(refused)?;
        Ok(Self { tiles, n_parts: 0, most_parts: 0, n_pairs: 0, stride: 0 })
    }

    /// Divides `batch` for `n_threads` threads.
    fn build(&mut self, batch: &Batch, shape: &Shape, sight: Sight, n_threads: usize) {
        let rows_per_tile = shape.rows_per_tile();
        self.tiles.clear();
        self.n_pairs = 0;
        for (sequence, of) in batch.sequences.iter().enumerate() {
            for first in of.rows.clone().step_by(rows_per_tile) {
                let rows = first..of.rows.end.min(first + rows_per_tile);
                let start = of.start + (first - of.rows.start);
                let seen = sight.oldest(start)..start + rows.len();
                let splits = seen.start / SPLIT_TOKENS..seen.end.div_ceil(SPLIT_TOKENS);
                self.n_pairs += rows.len() * seen.len();
                self.tiles.push(Tile { sequence, rows, start, splits, parts: 0..0 });
            }
        }
        let longest = self.tiles.iter().map(|tile| tile.splits.len()).max().unwrap_or(0);
        let total = self.tiles.iter().map(|tile| tile.splits.len()).sum::<usize>() * shape.n_units();
        // Tiles stay whole unless the longest would be more than half of a thread's share.
        let cut = n_threads > 1 && 2 * longest * n_threads > total;
        self.n_parts = 0;
        for tile in &mut self.tiles {
            tile.parts = self.n_parts..self.n_parts + if cut { tile.splits.len() } else { 1 };
            self.n_parts = tile.parts.end;
        }
        self.most_parts = if cut { longest } else { 1 };
        let most_rows = self.tiles.iter().map(|tile| tile.rows.len()).max().unwrap_or(0);
        self.stride = softmax::len(most_rows * shape.unit(), shape.head_dim);
    }

    /// How many of the `n_parts * n_units` states make a task.
    fn states_per_task(&self, shape: &Shape) -> usize {
        let n_states = (self.n_parts * shape.n_units()).max(1);
        let macs = 2 * self.n_pairs * shape.n_heads * shape.head_dim; // scores and values
        TASK_MACS.div_ceil((macs / n_states).max(1)).min(n_states)
    }

    /// The tile that `part` belongs to, and the splits it covers.
    fn part(&self, part: usize) -> (&Tile, Range<usize>) {
        let tile = &self.tiles[self.tiles.partition_point(|tile| tile.parts.end <= part)];
        if tile.parts.len() == 1 {
            return (tile, tile.splits.clone());
        }
        let split = tile.splits.start + (part - tile.parts.start);
        (tile, split..split + 1)
    }

    /// The tile that `row` belongs to.
    fn tile_of(&self, row: usize) -> &Tile {
        &self.tiles[self.tiles.partition_point(|tile| tile.rows.end <= row)]
    }
}

/// One layer's attention, as its tasks see it.
struct Job<'a> {
    cpu: &'a Cpu,
    shape: &'a Shape,
    batch: &'a Batch,
    plan: &'a Plan,
    params: AttendParams,
    attention: &'a Attention,
    kv: &'a Kv,
    layer: usize,
}

/// See [`crate::backend::Backend::attend`].
pub(super) fn attend(
    cpu: &Cpu,
    ws: &mut Workspace,
    batch: &Batch,
    layer: usize,
    attention: &Attention,
    sinks: Option<&Vector>,
    kv: &Kv,
) -> Result<()> {
    ws.check(batch, "attend")?;
    sinks.map_or(Ok(()), |sinks| sinks.check(ws.shape.n_heads, "attend, sinks"))?;
    kv.check(layer, &batch.blocks, "attend")?;
    let Workspace { shape, n_rows, plan, partials, slots: [query, ..], scratch, .. } = ws;
    plan.build(batch, shape, attention.sight, cpu.pool.n_threads());
    let (n_units, n_partials) = (shape.n_units(), plan.n_parts * shape.n_units());
    try_grow(partials, n_partials * plan.stride)?;
    scratch.iter_mut().try_for_each(|own| try_grow(&mut own.values, kv.values_bytes()))?;
    let partials = &mut partials[..n_partials * plan.stride];
    let params = AttendParams { head_dim: shape.head_dim, scale: attention.scale, softcap: attention.softcap };
    let job = Job { cpu, shape, batch, plan, params, attention, kv, layer };
    let query = &mut query[..*n_rows * shape.width(Slot::Query)];
    let per_task = plan.states_per_task(shape);
    cpu.pool.for_chunks_with(partials, per_task * plan.stride, scratch, &|task, states, own| {
        for (i, state) in states.chunks_mut(plan.stride).enumerate() {
            let i = task * per_task + i;
            job.partial(i / n_units, i % n_units, query, state, own);
        }
    })?;
    job.combine(partials, sinks.map(|sinks| &sinks.values[..]), query)
}

impl Job<'_> {
    /// What the queries of `unit` see in `part`, into `state`. `query` is `(rows, n_heads * head_dim)`.
    fn partial(&self, part: usize, unit: usize, query: &[f32], state: &mut [f32], own: &mut Scratch) {
        let Scratch { queries, split: other, visible, values, .. } = own;
        let (tile, mut splits) = self.plan.part(part);
        let n_queries = tile.rows.len() * self.shape.unit();
        let (visible, len) = (&mut visible[..n_queries], softmax::len(n_queries, self.shape.head_dim));
        let (state, other) = (&mut state[..len], &mut other[..len]);
        let queries = self.gather(tile, unit, query, queries);
        if let Some(first) = splits.next() {
            self.split(tile, unit, first, queries, (visible, values), state);
        }
        for next in splits {
            self.split(tile, unit, next, queries, (visible, values), other);
            softmax::merge(state, other, n_queries);
        }
    }

    /// The queries of a tile and `unit`: `(rows of the tile, heads of the unit, head_dim)`.
    fn gather<'q>(&self, tile: &Tile, unit: usize, query: &[f32], queries: &'q mut [f32]) -> &'q [f32] {
        let (width, len) = (self.shape.width(Slot::Query), self.shape.unit() * self.shape.head_dim);
        let queries = &mut queries[..tile.rows.len() * len];
        for (i, (m, to)) in tile.rows.clone().zip(queries.chunks_mut(len)).enumerate() {
            to.copy_from_slice(&query[m * width + unit * len..][..len]);
            multiply(to, self.attention.temperature.map_or(1.0, |temperature| temperature.at(tile.start + i)));
        }
        queries
    }

    /// What `queries` see of split number `split`, into `state`.
    fn split(
        &self,
        tile: &Tile,
        unit: usize,
        split: usize,
        queries: &[f32],
        (visible, values): (&mut [(u32, u32)], &mut Vec<u8>),
        state: &mut [f32],
    ) {
        let (first, end) = (self.attention.sight.oldest(tile.start) / BLOCK_TOKENS, (tile.start + tile.rows.len()).div_ceil(BLOCK_TOKENS));
        let blocks = first.max(split * SPLIT_BLOCKS)..end.min((split + 1) * SPLIT_BLOCKS);
        let table = self.batch.table(&self.batch.sequences[tile.sequence]);
        let mut state = softmax::start(state, visible.len());
        let head = unit / (self.shape.n_units() / self.shape.n_kv_heads);
        let tile_of = |block: usize| self.kv.tile(table[block], self.layer, head);
        for block in blocks.clone() {
            let inside = |position: usize| position.saturating_sub(block * BLOCK_TOKENS).min(BLOCK_TOKENS) as u32;
            for (i, seen) in visible.chunks_mut(self.shape.unit()).enumerate() {
                let position = tile.start + i;
                seen.fill((inside(self.attention.sight.oldest(position)), inside(position + 1)));
            }
            let next = Some(block + 1).filter(|next| blocks.contains(next)).map(tile_of);
            let tile = self.kv.with_values(tile_of(block), values);
            self.cpu.kernels.attend(&self.params, queries, tile, next, visible, &mut state);
        }
    }

    /// Merges the parts of every query, and its head's sink, into `query`, `(rows, n_units, heads of a unit, head_dim)`.
    fn combine(&self, partials: &[f32], sinks: Option<&[f32]>, query: &mut [f32]) -> Result<()> {
        let (head_dim, n_units, n_heads) = (self.shape.head_dim, self.shape.n_units(), self.shape.unit());
        let (plan, width) = (self.plan, n_heads * head_dim); // what one state holds of one row
        let per_task = self.cpu.rows_per_task(query.len() / width, width * plan.most_parts);
        self.cpu.pool.for_chunks(query, per_task * width, &|task, chunk| {
            for (i, out) in chunk.chunks_mut(width).enumerate() {
                let (row, unit) = ((task * per_task + i) / n_units, (task * per_task + i) % n_units);
                let tile = plan.tile_of(row);
                let first = (row - tile.rows.start) * n_heads;
                for (g, acc) in out.chunks_mut(head_dim).enumerate() {
                    let mut running = Running::new(acc);
                    for part in tile.parts.clone() {
                        let state = &partials[(part * n_units + unit) * plan.stride..];
                        running.merge(state, tile.rows.len() * n_heads, first + g);
                    }
                    if let Some(sinks) = sinks {
                        running.add_sink(sinks[unit * n_heads + g]);
                    }
                    running.finish();
                }
            }
        })
    }
}
