//! The blocks of one sequence, and which of them other sequences may find.

use super::claims::Claim;
use super::index::{BlockTokens, Prefix};
use super::pool::{BlockPool, LEAST_START};
use crate::backend::{BLOCK_TOKENS, BlockId};
use crate::error::Result;
use crate::fail;
use crate::text::Token;
use std::ops::Range;
use std::sync::Arc;

/// The blocks of one sequence: entry `p / BLOCK_TOKENS` holds position `p`. Returned to the pool on drop.
pub(in crate::engine) struct BlockTable {
    pool: Arc<BlockPool>,
    ids: Vec<BlockId>,
    /// What the named blocks at the front make of the prefix, one by one.
    named: Vec<Prefix>,
    /// Blocks from here on hold what their tokens alone do not determine, and get no names.
    nameable: usize,
    shares: bool,
    /// What a shift left to do before the next pass.
    owed: Option<Turn>,
}

/// Keys that lie at earlier positions than they were rotated for: those of block `next` and all behind it.
#[derive(Clone, Copy)]
struct Turn {
    next: usize,
    n_positions: usize,
}

impl BlockTable {
    /// An empty table. If `shares`, it finds blocks of others and others find its blocks.
    pub(in crate::engine) fn new(pool: Arc<BlockPool>, shares: bool) -> Self {
        let shares = shares && pool.names_blocks();
        Self { pool, ids: Vec::new(), named: Vec::new(), nameable: usize::MAX, shares, owed: None }
    }

    /// For another sequence of the same pool.
    pub(in crate::engine) fn claim(&self) -> Claim {
        self.pool.claim()
    }

    pub(in crate::engine) fn ids(&self) -> &[BlockId] {
        &self.ids
    }

    /// A table of the same blocks.
    pub(in crate::engine) fn fork(&self) -> Self {
        self.ids.iter().for_each(|&id| self.pool.share(id));
        Self { pool: self.pool.clone(), ids: self.ids.clone(), named: self.named.clone(), ..*self }
    }

    /// Takes over blocks that exist for the `tokens` of the sequence, of which `n_computed` are computed, and returns how many are then.
    ///
    /// At least one token stays to be computed: the logits behind a block are not kept with it. Not while a pass writes into the table.
    pub(in crate::engine) fn adopt(&mut self, tokens: &[Token], n_computed: usize) -> usize {
        let mut n_computed = n_computed;
        while n_computed + BLOCK_TOKENS < tokens.len() {
            let Some((before, block)) = self.next_name(tokens, n_computed) else { break };
            let Some((prefix, id)) = self.pool.find(before, block) else { break };
            // Room that was made for a pass which was given up.
            self.truncate(n_computed);
            self.ids.push(id);
            self.named.push(prefix);
            n_computed += BLOCK_TOKENS;
        }
        n_computed
    }

    /// Copies what other sequences have computed of the first part of the next block, and returns how many tokens are computed then. To be called where no whole
    /// block is to be had, nor will be soon.
    pub(in crate::engine) fn adopt_start(&mut self, tokens: &[Token], n_computed: usize) -> usize {
        let wanted = tokens.get(n_computed..tokens.len().saturating_sub(1)).unwrap_or_default();
        let wanted = &wanted[..wanted.len().min(BLOCK_TOKENS)];
        let border = n_computed.is_multiple_of(BLOCK_TOKENS) && wanted.len() >= LEAST_START;
        let Some(before) = self.prefix_before(n_computed).filter(|_| border) else { return n_computed };
        let Some((id, n)) = self.pool.copy_start(before, wanted) else { return n_computed };
        self.truncate(n_computed);
        self.ids.push(id);
        n_computed + n
    }

    /// What the named blocks make of the prefix, if the block around `n_computed` is the next to get a name.
    pub(in crate::engine) fn prefix_before(&self, n_computed: usize) -> Option<Prefix> {
        let block = n_computed / BLOCK_TOKENS;
        let next = self.shares && block == self.named.len() && block < self.nameable;
        next.then(|| self.named.last().copied().unwrap_or(Prefix::EMPTY))
    }

    /// The name that the block at `n_computed` will have, if that is a border of blocks and its tokens are all there.
    fn next_name<'t>(&self, tokens: &'t [Token], n_computed: usize) -> Option<(Prefix, &'t BlockTokens)> {
        if n_computed.is_multiple_of(BLOCK_TOKENS) { self.current_name(tokens, n_computed) } else { None }
    }

    /// The name that the block around `n_computed` will have once it is computed.
    pub(in crate::engine) fn current_name<'t>(&self, tokens: &'t [Token], n_computed: usize) -> Option<(Prefix, &'t BlockTokens)> {
        let before = self.prefix_before(n_computed)?;
        Some((before, tokens.get(n_computed / BLOCK_TOKENS * BLOCK_TOKENS..)?.first_chunk()?))
    }

    /// Makes room for positions `rows`, to be written: blocks that others see are replaced by copies. First pays what a shift left to do.
    ///
    /// # Errors
    /// `Budget` or `OutOfMemory`; what is in the table is still right.
    pub(in crate::engine) fn reserve(&mut self, rows: &Range<usize>) -> Result<()> {
        self.settle()?;
        let first = rows.start / BLOCK_TOKENS;
        (first..self.ids.len().min(rows.end.div_ceil(BLOCK_TOKENS))).try_for_each(|block| self.make_private(block))?;
        while self.ids.len() * BLOCK_TOKENS < rows.end {
            let id = self.pool.take()?;
            self.ids.push(id);
        }
        Ok(())
    }

    /// Names the blocks that are full now that `n_computed` of `tokens` are computed.
    pub(in crate::engine) fn publish(&mut self, tokens: &[Token], n_computed: usize) {
        while (self.named.len() + 1) * BLOCK_TOKENS <= n_computed {
            let block = self.named.len();
            let Some((before, content)) = self.current_name(tokens, block * BLOCK_TOKENS) else { break };
            let (prefix, id) = self.pool.publish(before, content, self.ids[block]);
            self.ids[block] = id;
            self.named.push(prefix);
        }
        let block = n_computed / BLOCK_TOKENS;
        let start = tokens.get(block * BLOCK_TOKENS..n_computed).unwrap_or_default();
        if start.len() >= LEAST_START
            && let (Some(before), Some(&id)) = (self.prefix_before(n_computed), self.ids.get(block))
        {
            self.pool.publish_start(before, start, id);
        }
    }

    /// Drops blocks `gone` from the middle; what is behind them moves to their positions, and gets no names any more: its keys and values know of
    /// tokens that are gone. The keys still have to be turned, block by block, by [`Self::turn_block`] or at the latest by [`Self::reserve`].
    ///
    /// # Errors
    /// `Unsupported` by the backend; those of [`Self::settle`], if a shift before it is not paid yet. The blocks are as they were.
    pub(in crate::engine) fn shift(&mut self, gone: Range<usize>) -> Result<()> {
        self.settle()?;
        self.pool.turn_back(&[], gone.len() * BLOCK_TOKENS)?;
        self.ids[gone.end..].iter().for_each(|&id| self.pool.shorten_start(id, 0));
        self.pool.release(self.ids.drain(gone.clone()).rev());
        self.named.truncate(gone.start);
        self.nameable = self.nameable.min(gone.start);
        self.owed = Some(Turn { next: gone.start, n_positions: gone.len() * BLOCK_TOKENS });
        Ok(())
    }

    /// True if there is something for [`Self::turn_block`] to do.
    pub(in crate::engine) fn owes_turns(&self) -> bool {
        self.owed.is_some_and(|turn| turn.next < self.ids.len())
    }

    /// Turns the keys of the next block that a shift moved. One that others see is replaced by a copy first.
    ///
    /// # Errors
    /// `Budget` or `OutOfMemory`, to be tried again; `Internal`.
    pub(in crate::engine) fn turn_block(&mut self) -> Result<()> {
        let Some(Turn { next, n_positions }) = self.owed.filter(|turn| turn.next < self.ids.len()) else { return Ok(()) };
        self.make_private(next)?;
        self.pool.turn_back(&self.ids[next..=next], n_positions)?;
        self.owed = Some(Turn { next: next + 1, n_positions });
        Ok(())
    }

    /// Does all that a shift left to do.
    ///
    /// # Errors
    /// As [`Self::turn_block`].
    pub(in crate::engine) fn settle(&mut self) -> Result<()> {
        while self.owes_turns() {
            self.turn_block()?;
        }
        self.owed = None;
        Ok(())
    }

    /// Replaces block `i` by a copy if others see it.
    fn make_private(&mut self, i: usize) -> Result<()> {
        let id = self.ids[i];
        if !self.pool.is_private(id) {
            self.named.truncate(i);
            self.ids[i] = self.pool.copy(id)?;
            self.pool.release([id].into_iter());
        }
        Ok(())
    }

    /// Another table, of full blocks with these contents, `(block_bytes,)` each. Nobody else finds them: who knows where they come from?
    ///
    /// # Errors
    /// `Budget`, `OutOfMemory`, `Unsupported` by the backend.
    pub(in crate::engine) fn restored<'a>(&self, blocks: impl Iterator<Item = &'a [u8]>) -> Result<Self> {
        let mut table = Self::new(self.pool.clone(), self.shares);
        table.nameable = 0;
        for block in blocks {
            let id = table.pool.take()?;
            table.ids.push(id);
            table.pool.write(id, block)?;
        }
        Ok(table)
    }

    /// Copies block `i` of the sequence into `out`, `(block_bytes,)`.
    ///
    /// # Errors
    /// `Internal`, `Unsupported` by the backend.
    pub(in crate::engine) fn read(&self, i: usize, out: &mut [u8]) -> Result<()> {
        match self.ids.get(i) {
            Some(&id) => self.pool.read(id, out),
            None => fail!(Internal, "block {i} of {}", self.ids.len()),
        }
    }

    /// Bytes of a block.
    pub(in crate::engine) fn block_bytes(&self) -> u64 {
        self.pool.block_bytes()
    }

    /// True if its tokens alone determine what it holds, so that it could be computed again.
    pub(in crate::engine) fn is_pure(&self) -> bool {
        self.nameable == usize::MAX
    }

    /// Gives back the blocks that positions below `n_tokens` do not need.
    pub(in crate::engine) fn truncate(&mut self, n_tokens: usize) {
        let keep = n_tokens.div_ceil(BLOCK_TOKENS).min(self.ids.len());
        self.pool.release(self.ids.drain(keep..).rev());
        self.named.truncate(n_tokens / BLOCK_TOKENS);
        if let Some(&last) = self.ids.get(n_tokens / BLOCK_TOKENS) {
            self.pool.shorten_start(last, n_tokens % BLOCK_TOKENS);
        }
        if keep <= self.nameable {
            self.nameable = usize::MAX;
        }
        self.owed = self.owed.filter(|turn| turn.next < keep);
    }
}

impl Drop for BlockTable {
    fn drop(&mut self) {
        self.truncate(0);
    }
}
