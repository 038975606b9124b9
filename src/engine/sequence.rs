//! One sequence of tokens: the first `n_computed` have keys and values, the rest is the queue.

use super::blocks::{BlockPool, BlockTable};
use super::sampler::Sampler;
use crate::backend::{BLOCK_TOKENS, Batch};
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::memory::try_vec;
use crate::text::Token;
use std::ops::Range;
use std::sync::Arc;

/// Tokens, their KV blocks, and the logits of the last position.
pub(super) struct Sequence {
    tokens: Vec<Token>,
    n_computed: usize,
    table: BlockTable,
    /// `(n_vocab,)`: of position `n_computed - 1`, if `has_logits`
    logits: Vec<f32>,
    has_logits: bool,
    /// The last token ended a generation and nothing was appended since.
    ended: bool,
    n_ctx: usize,
}

impl Sequence {
    pub(super) fn new(pool: Arc<BlockPool>, n_vocab: usize, n_ctx: usize) -> Result<Self> {
        Ok(Self {
            tokens: Vec::new(),
            n_computed: 0,
            table: BlockTable::new(pool),
            logits: try_vec(n_vocab)?,
            has_logits: false,
            ended: false,
            n_ctx,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Tokens that wait to be computed.
    pub(super) fn n_queued(&self) -> usize {
        self.tokens.len() - self.n_computed
    }

    /// Adds tokens to the queue: all or, with `ContextFull` or `InvalidArgument`, none.
    pub(super) fn append(&mut self, tokens: &[Token]) -> Result<()> {
        let room = self.n_ctx - self.tokens.len();
        if tokens.len() > room {
            let detail = [tokens.len() as i64, room as i64];
            let message = format!("{} tokens do not fit: the context holds {} and has room for {room}", tokens.len(), self.n_ctx);
            return Err(Error::new(ErrorKind::ContextFull, message).with_detail(detail));
        }
        let n_vocab = self.logits.len();
        if let Some((i, t)) = tokens.iter().enumerate().find(|(_, t)| **t as usize >= n_vocab) {
            fail!(InvalidArgument, "token {t} at index {i}: expected 0..{n_vocab}");
        }
        self.tokens.try_reserve(tokens.len()).map_err(|_| Error::new(ErrorKind::OutOfMemory, "no memory for the token queue"))?;
        self.tokens.extend_from_slice(tokens);
        self.ended = self.ended && tokens.is_empty();
        Ok(())
    }

    /// Adds a token that a sampler chose; `ends` if it is an end-of-generation token.
    pub(super) fn accept(&mut self, token: Token, ends: bool) -> Result<()> {
        self.append(&[token])?;
        self.ended = ends;
        Ok(())
    }

    /// Keeps the first `n` tokens.
    pub(super) fn truncate(&mut self, n: usize) -> Result<()> {
        if n > self.tokens.len() {
            fail!(InvalidArgument, "truncate to {n} tokens: the session holds {}", self.tokens.len());
        }
        if n < self.tokens.len() {
            self.ended = false;
        }
        self.tokens.truncate(n);
        if n < self.n_computed {
            self.n_computed = n;
            self.has_logits = false;
            self.table.truncate(n);
        }
        Ok(())
    }

    /// The logits of the last position, if everything is computed.
    pub(super) fn logits(&self) -> Option<&[f32]> {
        (self.has_logits && self.n_queued() == 0).then_some(&self.logits[..])
    }

    /// The token that `sampler` chooses from the logits, which must be there.
    ///
    /// # Errors
    /// `Format` if no logit is finite: whoever called did nothing wrong, the weights are. As [`Sampler::pick`] otherwise.
    pub(super) fn pick(&self, sampler: &mut Sampler) -> Result<Token> {
        let Some(logits) = self.logits() else { fail!(Internal, "the logits are gone") };
        if !logits.iter().any(|logit| logit.is_finite()) {
            fail!(
                Format,
                "none of the model's {} logits is finite: its weights are corrupt, or not meant for this architecture",
                logits.len()
            );
        }
        sampler.pick(logits)
    }

    /// The next tokens to compute, at most `max_rows`, as positions. Where nothing is queued but the logits are gone, the last token is computed again.
    pub(super) fn next_rows(&self, max_rows: usize) -> Range<usize> {
        let start = if self.n_queued() == 0 && !self.has_logits { self.n_computed.saturating_sub(1) } else { self.n_computed };
        start..self.tokens.len().min(start + max_rows)
    }

    /// Makes KV room for `rows`.
    pub(super) fn reserve(&mut self, rows: &Range<usize>) -> Result<()> {
        self.table.reserve(rows.end)
    }

    /// Adds `rows` to `batch`; returns whether their last one will have logits.
    pub(super) fn fill(&self, batch: &mut Batch, rows: &Range<usize>) -> bool {
        let wants_logits = rows.end == self.tokens.len();
        let blocks = &self.table.ids()[..rows.end.div_ceil(BLOCK_TOKENS)];
        batch.push(&self.tokens[rows.clone()], rows.start, blocks, wants_logits);
        wants_logits
    }

    /// Notes that `rows` were computed, without logits.
    pub(super) fn computed(&mut self, rows: &Range<usize>) {
        self.n_computed = rows.end;
        self.has_logits = false;
    }

    /// Notes that `rows` were computed; `read` fills the logits of the last one, `(n_vocab,)`.
    pub(super) fn computed_with_logits(&mut self, rows: &Range<usize>, read: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        self.computed(rows);
        read(&mut self.logits)?;
        self.has_logits = true;
        Ok(())
    }
}
