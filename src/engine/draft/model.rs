//! A smaller model that guesses what a larger one will say: it computes the same text, and always takes the likeliest token.

use crate::backend::Batch;
use crate::engine::model::Model;
use crate::engine::sampler::Sampler;
use crate::engine::sequence::{Overflow, Sequence};
use crate::error::Result;
use crate::model::Pass;
use crate::text::Token;
use std::ops::Range;
use std::sync::Arc;

/// The draft model of one generation, and what it has of its text.
pub(in crate::engine) struct DraftModel {
    model: Arc<Model>,
    sequence: Sequence,
    greedy: Sampler,
    /// Tokens of the text; what is behind them in `sequence` is guessed.
    n_known: usize,
}

impl DraftModel {
    /// `model`, for texts of up to `n_ctx` tokens, or as many as it was made for.
    ///
    /// # Errors
    /// `Unsupported` without weights, `Budget`, `OutOfMemory`.
    pub(in crate::engine) fn new(model: &Arc<Model>, n_ctx: usize) -> Result<Self> {
        let n_ctx = n_ctx.min(model.info().n_ctx_max as usize);
        let sequence = Sequence::new(model.blocks()?, model.n_vocab(), n_ctx, true, Overflow::Error)?;
        Ok(Self { model: model.clone(), sequence, greedy: Sampler::new(model.n_vocab()), n_known: 0 })
    }

    /// The model.
    pub(in crate::engine) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Holds `tokens` from now on. What is computed of them is kept, guesses that came true included.
    ///
    /// # Errors
    /// `ContextFull`.
    pub(super) fn follow(&mut self, tokens: &[Token]) -> Result<()> {
        self.n_known = tokens.len();
        self.sequence.become_tokens(tokens)
    }

    /// What it guesses to come behind the text.
    pub(super) fn guess(&self) -> &[Token] {
        self.sequence.tokens().get(self.n_known..).unwrap_or_default()
    }

    /// The positions to compute next, at most `room`; KV room is made for them.
    ///
    /// # Errors
    /// `Budget`, `OutOfMemory`.
    pub(in crate::engine) fn schedule(&mut self, room: usize) -> Result<Range<usize>> {
        self.sequence.adopt();
        let rows = self.sequence.next_rows(room);
        self.sequence.reserve(&rows)?;
        Ok(rows)
    }

    /// Adds `rows` to the batch; returns for how many logits were asked.
    pub(in crate::engine) fn fill(&self, batch: &mut Batch, rows: &Range<usize>) -> usize {
        usize::from(self.sequence.fill(batch, rows))
    }

    /// Takes in a finished pass, and guesses one more token if the logits are there.
    ///
    /// # Errors
    /// `Format` for weights that give no number, `ContextFull`.
    pub(in crate::engine) fn collect(&mut self, rows: &Range<usize>, pass: &dyn Pass, output: Option<usize>) -> Result<()> {
        let Some(output) = output else {
            self.sequence.computed(rows);
            return Ok(());
        };
        self.sequence.computed_with_logits(rows, |out| pass.logits(output, out))?;
        let token = self.sequence.pick(&mut self.greedy)?;
        self.sequence.accept(token, false)
    }
}
