//! What every stage relies on, checked once: sizes when memory is made, a batch when a pass begins.

use super::{AltupShape, BLOCK_TOKENS, Batch, SequenceRows, Shape};
use crate::error::Result;
use crate::fail;

impl Shape {
    /// That no size is zero, and that the KV heads divide the query heads: everything divides by them.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(super) fn check(&self) -> Result<()> {
        let Self { n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, moe, altup, latent, n_vocab } = *self;
        let experts = moe.map_or([1; 2], |moe| [moe.n_used, moe.n_ff]);
        altup.map_or(Ok(()), |altup| altup.check())?;
        let sizes = [n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab, experts[0], experts[1]];
        if sizes.contains(&0) || moe.is_some_and(|moe| moe.n_used > moe.n_experts) || !n_heads.is_multiple_of(n_kv_heads) {
            fail!(InvalidArgument, "a model of no layers, width or vocabulary, or with heads that do not divide: {self:?}");
        }
        if latent.is_some_and(|latent| !latent.fits(self)) {
            fail!(InvalidArgument, "latents that are empty or do not fit their heads: {self:?}");
        }
        Ok(())
    }
}

impl AltupShape {
    /// That no size is zero, and that the active stream is one.
    fn check(&self) -> Result<()> {
        let Self { n_streams, active, n_per_layer, n_layers, rank } = *self;
        if [n_per_layer, n_layers, rank].contains(&0) || !(2..=Self::MOST_STREAMS).contains(&n_streams) || active >= n_streams {
            fail!(InvalidArgument, "residual streams of no width, or too many: {self:?}");
        }
        Ok(())
    }
}

impl Batch {
    /// That rows, positions, sequences, block tables and outputs fit each other and a workspace of `max_rows` and `max_outputs`.
    ///
    /// # Errors
    /// `Internal`: a batch that fails is a bug of the engine; on a device it would be a read out of bounds.
    pub(super) fn check(&self, max_rows: usize, max_outputs: usize) -> Result<()> {
        let n_rows = self.n_rows();
        if n_rows == 0 || n_rows > max_rows || self.positions.len() != n_rows {
            fail!(Internal, "batch: {n_rows} rows with {} positions, expected 1..={max_rows} of both", self.positions.len());
        }
        let mut next = 0;
        for sequence in &self.sequences {
            self.check_sequence(sequence, next)?;
            next = sequence.rows.end;
        }
        if next != n_rows {
            fail!(Internal, "batch: its sequences cover {next} of {n_rows} rows");
        }
        let ascending = self.outputs.windows(2).all(|pair| pair[0] < pair[1]);
        if self.outputs.len() > max_outputs || !ascending || self.outputs.last().is_some_and(|&row| row >= n_rows) {
            fail!(Internal, "batch: outputs {:?} are not up to {max_outputs} ascending rows of {n_rows}", self.outputs);
        }
        Ok(())
    }

    /// That `sequence` begins at row `next`, is not empty, has the positions it says, and has blocks for all of them.
    fn check_sequence(&self, sequence: &SequenceRows, next: usize) -> Result<()> {
        let positions = self.positions.get(sequence.rows.clone()).unwrap_or_default();
        if sequence.rows.start != next || positions.is_empty() {
            fail!(Internal, "batch: a sequence has rows {:?}, expected some from {next} on", sequence.rows);
        }
        if !positions.iter().enumerate().all(|(i, &p)| sequence.start.checked_add(i) == Some(p as usize)) {
            fail!(Internal, "batch: rows {:?} do not have the positions from {} on", sequence.rows, sequence.start);
        }
        let n_blocks = (sequence.start + positions.len()).div_ceil(BLOCK_TOKENS);
        if self.blocks.get(sequence.blocks.clone()).is_none_or(|table| table.len() < n_blocks) {
            fail!(Internal, "batch: blocks {:?} for {n_blocks} blocks of positions", sequence.blocks);
        }
        Ok(())
    }
}
