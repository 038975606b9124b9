//! A pass whose memory is charged to an account. Made by `model`; nobody else can tell it from the pass inside.

use crate::backend::Batch;
use crate::error::Result;
use crate::model::{Pass, Progress, StageLoad};
use crate::sys::budget::{Budget, Charge};
use std::sync::Arc;

/// A pass with its charge.
pub(super) struct Metered {
    pass: Box<dyn Pass>,
    memory: Charge,
}

impl Metered {
    /// Charges `pass` to `budget`.
    ///
    /// # Errors
    /// `Budget`.
    pub(super) fn new(pass: Box<dyn Pass>, budget: &Arc<Budget>) -> Result<Self> {
        Ok(Self { memory: budget.charge(pass.n_bytes())?, pass })
    }
}

impl Pass for Metered {
    fn begin(&mut self, fill: &mut dyn FnMut(&mut Batch)) -> Result<()> {
        self.pass.begin(fill)?;
        // A larger batch than any before makes it grow.
        self.memory.set(self.pass.n_bytes())
    }

    fn next_stage(&self) -> StageLoad {
        self.pass.next_stage()
    }

    fn advance(&mut self) -> Result<Progress> {
        self.pass.advance()
    }

    fn n_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    fn logits(&self, i: usize, out: &mut [f32]) -> Result<()> {
        self.pass.logits(i, out)
    }
}
