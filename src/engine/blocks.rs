//! KV memory: a pool of block ids for one model, and the tables that sequences hold.

use crate::backend::{BLOCK_TOKENS, BlockId};
use crate::error::Result;
use crate::model::Forward;
use parking_lot::Mutex;
use std::sync::Arc;

/// Blocks made at once when the pool is empty: fewer, larger steps keep a growing context from asking for memory every 32 tokens.
const GROW_BLOCKS: usize = 4;

#[derive(Default)]
struct Free {
    ids: Vec<BlockId>,
    /// Blocks that exist in the storage.
    n_blocks: usize,
}

/// The KV blocks of one model.
pub(super) struct BlockPool {
    model: Arc<dyn Forward>,
    free: Mutex<Free>,
}

impl BlockPool {
    pub(super) fn new(model: Arc<dyn Forward>) -> Arc<Self> {
        Arc::new(Self { model, free: Mutex::default() })
    }

    fn take(&self) -> Result<BlockId> {
        let mut free = self.free.lock();
        if free.ids.is_empty() {
            let n_blocks = free.n_blocks + GROW_BLOCKS;
            self.model.grow_kv(n_blocks)?;
            // Highest first, so that ids are handed out in ascending order.
            let fresh = (free.n_blocks..n_blocks).rev().map(|id| id as BlockId);
            free.ids.extend(fresh);
            free.n_blocks = n_blocks;
        }
        Ok(free.ids.pop().unwrap_or_default())
    }

    fn give_back(&self, ids: impl Iterator<Item = BlockId>) {
        self.free.lock().ids.extend(ids);
    }
}

/// The blocks of one sequence: entry `p / BLOCK_TOKENS` holds position `p`. Returned to the pool on drop.
pub(super) struct BlockTable {
    pool: Arc<BlockPool>,
    ids: Vec<BlockId>,
}

impl BlockTable {
    pub(super) fn new(pool: Arc<BlockPool>) -> Self {
        Self { pool, ids: Vec::new() }
    }

    pub(super) fn ids(&self) -> &[BlockId] {
        &self.ids
    }

    /// Makes room for `n_tokens` positions.
    pub(super) fn reserve(&mut self, n_tokens: usize) -> Result<()> {
        while self.ids.len() * BLOCK_TOKENS < n_tokens {
            let id = self.pool.take()?;
            self.ids.push(id);
        }
        Ok(())
    }

    /// Gives back the blocks that positions below `n_tokens` do not need.
    pub(super) fn truncate(&mut self, n_tokens: usize) {
        let keep = n_tokens.div_ceil(BLOCK_TOKENS).min(self.ids.len());
        self.pool.give_back(self.ids.drain(keep..));
    }
}

impl Drop for BlockTable {
    fn drop(&mut self) {
        self.truncate(0);
    }
}
