//! One sequence of tokens: the first `n_computed` have keys and values, the rest is the queue.

mod saved;

use super::blocks::{Ahead, BlockPool, BlockTable, BlockTokens, Claim, LEAST_START, Prefix, n_common};
use super::sampler::Sampler;
use crate::backend::{BLOCK_TOKENS, Batch};
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::budget::Charge;
use crate::sys::memory::{try_vec, try_with_capacity};
use crate::text::Token;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

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
    overflow: Overflow,
    /// The block that it is about to compute.
    claim: Claim,
    /// Of the logits.
    memory: Charge,
}

/// Bytes of a sequence's logits.
fn logits_bytes(n_vocab: usize) -> u64 {
    n_vocab as u64 * size_of::<f32>() as u64
}

/// What happens when the context is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Calls fail with `ContextFull`, generations end.
    #[default]
    Error,
    /// Steps end as at an end-of-generation token, generations end.
    Stop,
    /// Half of the tokens behind the first `n_keep`, rounded up to whole blocks, are dropped, and the others move up.
    Shift {
        /// Tokens at the front that stay.
        n_keep: usize,
    },
}

impl Sequence {
    /// An empty sequence; if `shares`, it takes blocks of others that begin with the same tokens, and others take its own.
    pub(super) fn new(pool: Arc<BlockPool>, n_vocab: usize, n_ctx: usize, shares: bool, overflow: Overflow) -> Result<Self> {
        let memory = pool.budget().charge(logits_bytes(n_vocab))?;
        Ok(Self {
            tokens: Vec::new(),
            n_computed: 0,
            claim: pool.claim(),
            table: BlockTable::new(pool, shares),
            logits: try_vec(n_vocab)?,
            has_logits: false,
            ended: false,
            n_ctx,
            overflow,
            memory,
        })
    }

    /// The same tokens, blocks and logits again. Nothing is copied but the tokens and the logits.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(super) fn fork(&self) -> Result<Self> {
        let mut tokens = try_with_capacity(self.tokens.len())?;
        tokens.extend_from_slice(&self.tokens);
        let mut logits = try_vec(self.logits.len())?;
        logits.copy_from_slice(&self.logits);
        let memory = self.memory.another()?;
        Ok(Self { tokens, logits, memory, table: self.table.fork(), claim: self.table.claim(), ..*self })
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

    pub(super) fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// True if it has room for another token, or can make some.
    pub(super) fn can_grow(&self) -> bool {
        self.tokens.len() < self.n_ctx || matches!(self.overflow, Overflow::Shift { .. })
    }

    /// Makes room for `n` more tokens, if that is its policy and it lacks some. A context that was full is half empty then.
    ///
    /// # Errors
    /// `ContextFull` if it can never have so much room; `Unsupported` by the backend; `Budget`, `OutOfMemory` if an earlier shift is not paid yet. Nothing
    /// has changed then.
    pub(super) fn make_room(&mut self, n: usize) -> Result<()> {
        let Overflow::Shift { n_keep } = self.overflow else { return Ok(()) };
        let missing = (self.tokens.len() + n).saturating_sub(self.n_ctx);
        if missing == 0 {
            return Ok(());
        }
        let keep = n_keep.next_multiple_of(BLOCK_TOKENS);
        let spare = self.tokens.len().saturating_sub(keep);
        if missing > spare {
            return Err(self.full(self.tokens.len(), n));
        }
        let n_gone = missing.max(spare / 2).next_multiple_of(BLOCK_TOKENS).min(spare);
        let gone = keep..keep + n_gone;
        if n_gone < spare && gone.end <= self.n_computed {
            self.table.shift(gone.start / BLOCK_TOKENS..gone.end / BLOCK_TOKENS)?;
            self.n_computed -= n_gone;
        } else if self.n_computed > keep {
            self.n_computed = keep;
            self.has_logits = false;
            self.table.truncate(keep);
        }
        self.tokens.drain(gone);
        Ok(())
    }

    /// That `n` more tokens fit behind the first `held`, as they are or after a shift.
    fn check_room(&self, held: usize, n: usize) -> Result<()> {
        let spare = match self.overflow {
            Overflow::Shift { n_keep } => held.saturating_sub(n_keep.next_multiple_of(BLOCK_TOKENS)),
            _ => 0,
        };
        if (held + n).saturating_sub(self.n_ctx) > spare { Err(self.full(held, n)) } else { Ok(()) }
    }

    fn full(&self, held: usize, n: usize) -> Error {
        let room = self.n_ctx.saturating_sub(held);
        let message = format!("{n} tokens do not fit: the context holds {} and has room for {room}", self.n_ctx);
        Error::new(ErrorKind::ContextFull, message).with_detail([n as i64, room as i64])
    }

    /// Adds tokens to the queue: all or, with an error, none.
    ///
    /// # Errors
    /// `InvalidArgument` for a token outside of the vocabulary, and those of [`Self::make_room`].
    pub(super) fn append(&mut self, tokens: &[Token]) -> Result<()> {
        self.check_tokens(tokens)?;
        self.check_room(self.tokens.len(), tokens.len())?;
        self.make_room(tokens.len())?;
        self.tokens.try_reserve(tokens.len()).map_err(|_| Error::new(ErrorKind::OutOfMemory, "no memory for the token queue"))?;
        self.tokens.extend_from_slice(tokens);
        self.ended = self.ended && tokens.is_empty();
        Ok(())
    }

    /// Makes `tokens` all that it holds: all of it or, with an error, no change. What it begins with already is kept, with its keys and values.
    ///
    /// # Errors
    /// Those of [`Self::append`].
    pub(super) fn become_tokens(&mut self, tokens: &[Token]) -> Result<()> {
        let kept = self.tokens.iter().zip(tokens).take_while(|(held, wanted)| held == wanted).count();
        self.check_tokens(tokens)?;
        self.check_room(kept, tokens.len() - kept)?;
        self.truncate(kept)?;
        self.append(&tokens[kept..])
    }

    fn check_tokens(&self, tokens: &[Token]) -> Result<()> {
        let n_vocab = self.logits.len();
        match tokens.iter().enumerate().find(|(_, t)| **t as usize >= n_vocab) {
            Some((i, t)) => fail!(InvalidArgument, "token {t} at index {i}: expected 0..{n_vocab}"),
            None => Ok(()),
        }
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
            self.claim.give_up();
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

    /// Takes over what other sequences have computed of the queue, and returns how many tokens that were. Not while a pass of it is in flight.
    pub(super) fn adopt(&mut self) -> usize {
        let n_computed = self.table.adopt(&self.tokens, self.n_computed);
        self.adopted(n_computed)
    }

    /// As [`Self::adopt`], of a part of a block: where there are no whole ones, and nobody is at the same one.
    pub(super) fn adopt_start(&mut self) -> usize {
        let n_computed = self.table.adopt_start(&self.tokens, self.n_computed);
        self.adopted(n_computed)
    }

    fn adopted(&mut self, n_computed: usize) -> usize {
        let before = std::mem::replace(&mut self.n_computed, n_computed);
        if n_computed > before {
            self.has_logits = false;
        }
        n_computed - before
    }

    /// The block that it computes next and others may share: by the prefix before it and its tokens.
    pub(super) fn next_block(&self) -> Option<(Prefix, &BlockTokens)> {
        self.table.current_name(&self.tokens, self.n_computed)
    }

    /// Tells the others that it begins to compute its next block.
    pub(super) fn begin_work(&mut self) {
        self.claim.begin(self.table.current_name(&self.tokens, self.n_computed));
    }

    /// A thread computes for it from now on, or does so no more.
    pub(super) fn set_at_work(&mut self, at_work: bool) {
        self.claim.set_at_work(at_work);
    }

    /// It will not go on with what it has begun.
    pub(super) fn give_up_work(&mut self) {
        self.claim.give_up();
    }

    /// Who else computes the block that it needs next, if that is a whole one and not the last.
    pub(super) fn ahead(&self) -> Option<Ahead> {
        let useful = self.n_computed.is_multiple_of(BLOCK_TOKENS) && self.n_computed + BLOCK_TOKENS < self.tokens.len();
        self.next_block().filter(|_| useful).and_then(|name| self.claim.ahead(name))
    }

    /// Sleeps while who computes that block is at work at it, until `at`. False if it still is.
    pub(super) fn wait_for_ahead(&self, at: Instant) -> bool {
        self.next_block().is_none_or(|name| self.claim.wait(name, at))
    }

    /// True if `ahead` is computing the block that it needs next, or a first part of it that is worth the wait.
    pub(super) fn follows(&self, ahead: &Self) -> bool {
        let start = self.n_computed;
        if !start.is_multiple_of(BLOCK_TOKENS) || !(start..start + BLOCK_TOKENS).contains(&ahead.n_computed) {
            return false;
        }
        let prefix = self.table.prefix_before(start);
        if prefix.is_none() || ahead.table.prefix_before(ahead.n_computed) != prefix {
            return false;
        }
        let wanted = self.tokens.get(start..self.tokens.len().saturating_sub(1)).unwrap_or_default();
        let n = n_common(&wanted[..wanted.len().min(BLOCK_TOKENS)], &ahead.tokens[start..]);
        start + n >= ahead.n_computed + LEAST_START
    }

    /// True if it could be computed again, bit by bit.
    pub(super) fn is_pure(&self) -> bool {
        self.table.is_pure()
    }

    /// Gives its KV memory back: everything is queued again.
    pub(super) fn evict(&mut self) {
        self.n_computed = 0;
        self.has_logits = false;
        self.table.truncate(0);
        self.claim.give_up();
    }

    /// The next tokens to compute, at most `max_rows`, as positions. Where nothing is queued but the logits are gone, the last token is computed again.
    pub(super) fn next_rows(&self, max_rows: usize) -> Range<usize> {
        let start = if self.n_queued() == 0 && !self.has_logits { self.n_computed.saturating_sub(1) } else { self.n_computed };
        let end = self.tokens.len().min(start + max_rows);
        // Whole blocks, so that who waits for one need not wait for the next pass too.
        let border = end / BLOCK_TOKENS * BLOCK_TOKENS;
        start..if end < self.tokens.len() && border > start { border } else { end }
    }

    /// True if keys have to be turned before the next pass: a shift moved them.
    pub(super) fn owes_turns(&self) -> bool {
        self.table.owes_turns()
    }

    /// Turns the keys of one block.
    ///
    /// # Errors
    /// `Budget`, `OutOfMemory`.
    pub(super) fn turn_block(&mut self) -> Result<()> {
        self.table.turn_block()
    }

    /// Makes KV room for `rows`.
    pub(super) fn reserve(&mut self, rows: &Range<usize>) -> Result<()> {
        self.table.reserve(rows)
    }

    /// Adds `rows` to `batch`; returns whether their last one will have logits.
    pub(super) fn fill(&self, batch: &mut Batch, rows: &Range<usize>) -> bool {
        let wants_logits = rows.end == self.tokens.len();
        let blocks = &self.table.ids()[..rows.end.div_ceil(BLOCK_TOKENS)];
        batch.push(&self.tokens[rows.clone()], rows.start, blocks, wants_logits);
        wants_logits
    }

    /// As [`Self::fill`] for the last token, with guesses behind it: all of them will have logits. `rows` covers both.
    pub(super) fn fill_with_guess(&self, batch: &mut Batch, rows: &Range<usize>, guess: &[Token]) {
        let blocks = &self.table.ids()[..rows.end.div_ceil(BLOCK_TOKENS)];
        let mut tokens = self.tokens[rows.start..].to_vec();
        tokens.extend_from_slice(guess);
        batch.push_rows(&tokens, rows.start, blocks, tokens.len());
    }

    /// Notes that `rows` were computed, without logits.
    pub(super) fn computed(&mut self, rows: &Range<usize>) {
        self.n_computed = rows.end;
        self.has_logits = false;
        self.table.publish(&self.tokens, self.n_computed);
        self.claim.go_on(self.table.current_name(&self.tokens, self.n_computed));
    }

    /// Notes that `rows` were computed; `read` fills the logits of the last one, `(n_vocab,)`.
    pub(super) fn computed_with_logits(&mut self, rows: &Range<usize>, read: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        self.computed(rows);
        read(&mut self.logits)?;
        self.has_logits = true;
        Ok(())
    }
}
