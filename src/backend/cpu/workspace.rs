//! The activations of one pass: every buffer a stage reads or writes, made once and reused from pass to pass.

use super::Cpu;
use super::activations::Activations;
use super::altup;
use super::attention::{Plan, QUERIES_PER_TILE};
use super::latent::Latents;
use super::moe::Moe;
use super::softmax;
use crate::backend::{Batch, Rope, Shape, Slot};
use crate::error::Result;
use crate::fail;
use crate::kernels::{Activation, RopeStyle};
use crate::sys::memory::try_vec;

/// The activations of one pass, and scratch for each thread.
pub struct Workspace {
    pub(super) shape: Shape,
    max_rows: usize,
    max_outputs: usize,
    /// Rows of the current batch.
    pub(super) n_rows: usize,
    /// Width of what [`Slot::Gate`] and [`Slot::Up`] hold: that of the shape, or a narrower feed-forward's.
    pub(super) n_ff: usize,
    /// Rows of the current batch whose logits are wanted.
    pub(super) n_outputs: usize,
    /// `(max_rows, n_embd)`
    pub(super) residual: Vec<f32>,
    /// By [`Slot`]; each `(max_rows, width)`.
    pub(super) slots: [Vec<f32>; 5],
    /// A product before it is added to the residual, `(max_rows, n_embd)`.
    pub(super) product: Vec<f32>,
    /// By rope.
    pub(super) angles: Vec<Angles>,
    pub(super) activations: Activations,
    /// How this layer's attention is divided among tasks.
    pub(super) plan: Plan,
    /// `(parts of the plan, units, its stride)`
    pub(super) partials: Vec<f32>,
    /// `(max_outputs, n_vocab)`
    pub(super) logits: Vec<f32>,
    /// The layout of the normalised output rows, once the head has made them in this pass.
    pub(super) head_input: Option<Activation>,
    /// For models with experts.
    pub(super) moe: Option<Moe>,
    /// For models with several residual streams.
    pub(super) altup: Option<altup::State>,
    /// For attention over latents.
    pub(super) latents: Option<Latents>,
    /// One per thread.
    pub(super) scratch: Vec<Scratch>,
}

/// What one thread needs while it runs a task.
#[derive(Clone, Default)]
pub(super) struct Scratch {
    /// A row of the widest activation.
    pub(super) row: Vec<f32>,
    /// The queries of a tile, gathered: `(queries of the tile, head_dim)`.
    pub(super) queries: Vec<f32>,
    /// The softmax state of one split.
    pub(super) split: Vec<f32>,
    /// `(queries of the tile,)`: what each sees of a block.
    pub(super) visible: Vec<(u32, u32)>,
    /// `(BLOCK_TOKENS, head_dim)` in the type of the cache: the values of a block whose keys are its values.
    pub(super) values: Vec<u8>,
}

impl Scratch {
    fn new(shape: &Shape) -> Result<Self> {
        let n_queries = shape.rows_per_tile() * shape.unit();
        Ok(Self {
            row: try_vec(shape.widest())?,
            queries: try_vec(n_queries * shape.head_dim)?,
            split: try_vec(softmax::len(n_queries, shape.head_dim))?,
            visible: try_vec(n_queries)?,
            values: Vec::new(),
        })
    }
}

/// The cosines and sines of a pass, for one rope.
pub(super) struct Angles {
    /// Rotated pairs of a head.
    n_pairs: usize,
    /// Which elements turn against each other.
    pub(super) style: RopeStyle,
    /// `(max_rows, cos | sin, n_pairs)`
    values: Vec<f32>,
}

impl Angles {
    /// For passes of up to `max_rows` rows.
    fn new(shape: &Shape, max_rows: usize) -> Result<Self> {
        let values = try_vec(max_rows.saturating_mul(2 * (shape.head_dim / 2)))?;
        Ok(Self { n_pairs: 0, style: RopeStyle::Halves, values })
    }

    /// Row `m`: cosines and sines, `(n_pairs,)` each.
    pub(super) fn row(&self, m: usize) -> (&[f32], &[f32]) {
        self.values[m * 2 * self.n_pairs..][..2 * self.n_pairs].split_at(self.n_pairs)
    }

    /// Angles are multiplied in `f32`, as transformers does: that is what models were trained with.
    fn fill(&mut self, cpu: &Cpu, positions: &[u32], rope: &Rope) -> Result<()> {
        (self.n_pairs, self.style) = (rope.inv_freq.len(), rope.style);
        let (n_pairs, width) = (self.n_pairs, 2 * self.n_pairs);
        let rows_per_task = cpu.rows_per_task(positions.len(), width * Self::COST);
        cpu.pool.for_chunks(&mut self.values[..positions.len() * width], rows_per_task * width, &|task, chunk| {
            for (row, position) in chunk.chunks_mut(width).zip(&positions[task * rows_per_task..]) {
                let (cos, sin) = row.split_at_mut(n_pairs);
                for ((cos, sin), inv_freq) in cos.iter_mut().zip(sin).zip(&rope.inv_freq) {
                    let angle = *position as f32 * inv_freq;
                    (*sin, *cos) = (angle.sin() * rope.magnitude, angle.cos() * rope.magnitude);
                }
            }
        })
    }

    /// What a sine costs, in elements of an elementwise operation.
    const COST: usize = 20;
}

/// Bytes of the buffers that grow with rows and outputs: what a workspace is made of, but for scratch and partial results of attention.
pub(super) fn n_bytes(shape: &Shape, max_rows: usize, max_outputs: usize) -> u64 {
    let slots = [Slot::Query, Slot::Key, Slot::Value, Slot::Gate, Slot::Up].map(|slot| shape.width(slot)).iter().sum::<usize>();
    // Residual and product; cosines and sines; the prepared rows of a product, which have at most as many bytes as floats.
    let row = slots.saturating_add(2 * shape.n_embd).saturating_add(shape.head_dim).saturating_add(shape.widest());
    let row = row.saturating_add(shape.moe.map_or(0, |moe| Moe::elements_per_row(moe, shape.n_embd)));
    let row = row.saturating_add(shape.altup.map_or(0, |altup| altup::State::elements_per_row(altup, shape.n_embd)));
    let row = row.saturating_add(shape.latent.map_or(0, |latent| Latents::elements_per_row(shape, latent)));
    let elements = row.saturating_mul(max_rows).saturating_add(max_outputs.saturating_mul(shape.n_vocab));
    (elements as u64).saturating_mul(size_of::<f32>() as u64)
}

impl Shape {
    /// Elements per row of `slot`.
    pub(super) fn width(&self, slot: Slot) -> usize {
        match slot {
            Slot::Query => self.n_heads * self.head_dim,
            // A latent is its own value.
            Slot::Value if self.latent.is_some() => 0,
            Slot::Key | Slot::Value => self.n_kv_heads * self.head_dim,
            Slot::Gate | Slot::Up => self.n_ff,
        }
    }

    /// Elements of the widest row that is prepared for a product.
    fn widest(&self) -> usize {
        let parts = [
            self.n_ff,
            self.width(Slot::Query),
            self.moe.map_or(0, |moe| moe.n_ff),
            self.altup.map_or(0, |altup| altup.widest()),
            self.attended(),
            self.latent.map_or(0, |latent| latent.query_rank.unwrap_or(0).max(latent.n_still)),
        ];
        parts.into_iter().fold(self.n_embd, usize::max)
    }

    /// Query heads per KV head.
    fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Query heads that read a KV head together: its group, or a part of a large one, so that threads can share it.
    pub(super) fn unit(&self) -> usize {
        (1..=self.group().min(QUERIES_PER_TILE)).rev().find(|unit| self.group().is_multiple_of(*unit)).unwrap_or(1)
    }

    /// Units of a row.
    pub(super) fn n_units(&self) -> usize {
        self.n_heads / self.unit()
    }
}

impl Workspace {
    /// For passes of up to `max_rows` rows, `max_outputs` of them with logits, on the threads of `cpu`.
    pub(super) fn new(cpu: &Cpu, shape: &Shape, max_rows: usize, max_outputs: usize) -> Result<Self> {
        shape.check()?;
        let rows = |width: usize| try_vec(max_rows.saturating_mul(width));
        let slot = |slot| rows(shape.width(slot));
        let mut scratch = try_vec::<Scratch>(cpu.pool.n_threads())?;
        for own in &mut scratch {
            *own = Scratch::new(shape)?;
        }
        Ok(Self {
            shape: *shape,
            max_rows,
            max_outputs,
            n_rows: 0,
            n_ff: shape.n_ff,
            n_outputs: 0,
            residual: rows(shape.n_embd)?,
            slots: [slot(Slot::Query)?, slot(Slot::Key)?, slot(Slot::Value)?, slot(Slot::Gate)?, slot(Slot::Up)?],
            product: rows(shape.n_embd)?,
            angles: Vec::new(),
            activations: Activations::new()?,
            plan: Plan::new(max_rows)?,
            partials: Vec::new(),
            logits: try_vec(max_outputs.saturating_mul(shape.n_vocab))?,
            head_input: None,
            moe: shape.moe.map(|moe| Moe::new(moe, shape.n_embd, max_rows)).transpose()?,
            altup: shape.altup.map(|altup| altup::State::new(altup, shape.n_embd, max_rows)).transpose()?,
            latents: shape.latent.map(|latent| Latents::new(shape, latent, max_rows)).transpose()?,
            scratch,
        })
    }

    /// Takes the sizes of `batch` and computes its angles.
    pub(super) fn begin(&mut self, cpu: &Cpu, batch: &Batch, ropes: &[Rope]) -> Result<()> {
        if let Some(rope) = ropes.iter().find(|rope| 2 * rope.inv_freq.len() > self.shape.head_dim) {
            fail!(Internal, "cpu, begin: {} rotary pairs in a head of {}", rope.inv_freq.len(), self.shape.head_dim);
        }
        batch.check(self.max_rows, self.max_outputs)?;
        (self.n_rows, self.n_ff, self.n_outputs, self.head_input) = (batch.n_rows(), self.shape.n_ff, batch.outputs.len(), None);
        self.angles.truncate(ropes.len());
        while self.angles.len() < ropes.len() {
            self.angles.push(Angles::new(&self.shape, self.max_rows)?);
        }
        self.angles.iter_mut().zip(ropes).try_for_each(|(angles, rope)| angles.fill(cpu, &batch.positions, rope))
    }

    /// The residual of the batch's rows, which has so many elements.
    pub(super) fn residual_rows(&mut self, stage: &str, n_elements: usize) -> Result<&mut [f32]> {
        let (n_rows, n_embd) = (self.n_rows, self.shape.n_embd);
        match self.residual.get_mut(..n_rows * n_embd) {
            Some(rows) if rows.len() == n_elements => Ok(rows),
            _ => fail!(Internal, "cpu, {stage}: {n_elements} elements for {n_rows} rows of {n_embd}"),
        }
    }

    /// That `batch` is the one this pass began with, as far as its sizes tell.
    pub(super) fn check(&self, batch: &Batch, stage: &str) -> Result<()> {
        if (batch.n_rows(), batch.outputs.len()) != (self.n_rows, self.n_outputs) {
            fail!(Internal, "cpu, {stage}: a batch of {} rows in a pass that began with {}", batch.n_rows(), self.n_rows);
        }
        Ok(())
    }
}
