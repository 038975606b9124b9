//! The activations of one pass on a candle device, and the check of the batch that it works on. Used by every stage.

use super::altup;
use super::moe::Routed;
use super::rope::Angles;
use crate::backend::{Batch, Shape, Slot};
use crate::error::Result;
use crate::fail;
use candle_core::Tensor;

/// The activations of one pass. A tensor is there once its stage has run: candle makes a new one for every result.
pub struct Workspace {
    pub(super) shape: Shape,
    max_rows: usize,
    max_outputs: usize,
    /// Rows of the current batch.
    n_rows: usize,
    /// `(rows, n_embd)`
    residual: Option<Tensor>,
    /// By [`Slot`]; each `(rows, its width)`.
    slots: [Option<Tensor>; 5],
    /// Between the two stages of a mixture of experts.
    pub(super) routed: Option<Routed>,
    /// Once the streams of a model with several have been spread.
    pub(super) altup: Option<altup::State>,
    /// By rope; `None` for one that rotates nothing.
    pub(super) angles: Vec<Option<Angles>>,
    /// `(outputs, vocabulary rows done so far)`
    pub(super) logits: Option<Tensor>,
}

impl Workspace {
    /// For passes of up to `max_rows` rows, `max_outputs` of them with logits.
    pub(super) fn new(shape: &Shape, max_rows: usize, max_outputs: usize) -> Self {
        let slots = [const { None }; 5];
        let (routed, altup, angles) = (None, None, Vec::new());
        Self { shape: *shape, max_rows, max_outputs, n_rows: 0, residual: None, slots, routed, altup, angles, logits: None }
    }

    /// Takes `batch`, checked here once for all stages, and forgets the last pass: a stage out of order finds nothing, not old values.
    pub(super) fn begin(&mut self, batch: &Batch) -> Result<()> {
        batch.check(self.max_rows, self.max_outputs)?;
        *self = Self { n_rows: batch.n_rows(), ..Self::new(&self.shape, self.max_rows, self.max_outputs) };
        Ok(())
    }

    /// That `batch` is the one this pass began with, as far as its sizes tell.
    pub(super) fn check(&self, batch: &Batch, stage: &str) -> Result<()> {
        if batch.n_rows() != self.n_rows || self.n_rows == 0 {
            fail!(Internal, "candle, {stage}: a batch of {} rows in a pass that began with {}", batch.n_rows(), self.n_rows);
        }
        Ok(())
    }

    /// `(rows, n_embd)`
    pub(super) fn residual(&self, stage: &str) -> Result<&Tensor> {
        match &self.residual {
            Some(residual) => Ok(residual),
            None => fail!(Internal, "candle, {stage}: there is no residual: embed has not run in this pass"),
        }
    }

    /// Replaces the residual, `(rows, n_embd)`.
    pub(super) fn set_residual(&mut self, residual: Tensor) {
        self.residual = Some(residual);
    }

    /// Takes the activations in `slot` out of it.
    pub(super) fn take(&mut self, slot: Slot, stage: &str) -> Result<Tensor> {
        match self.slots[slot as usize].take() {
            Some(activations) => Ok(activations),
            None => fail!(Internal, "candle, {stage}: slot {slot:?} is empty"),
        }
    }

    /// Puts activations, `(rows, width of the slot)`, into `slot`.
    pub(super) fn put(&mut self, slot: Slot, activations: Tensor) {
        self.slots[slot as usize] = Some(activations);
    }
}
