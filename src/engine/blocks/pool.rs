//! The blocks of one model: counted, found by their content, and evicted when nobody uses them.

use super::claims::{Claim, Claims};
use super::index::{BlockTokens, Index, Prefix};
use super::memory::BlockMemory;
use super::starts::Starts;
use crate::backend::BlockId;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::model::Forward;
use crate::sys::budget::Budget;
use crate::text::Token;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Blocks made at once when the pool is empty: fewer, larger steps keep a growing context from asking for memory every 32 tokens.
const GROW_BLOCKS: usize = 4;

/// Tokens that two sequences must have in common for one to copy a part of the other's block: most texts begin with the same few.
pub(in crate::engine) const LEAST_START: usize = 8;

/// What the KV memory of a model is used for, in blocks of 32 tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvUsage {
    /// Blocks that exist.
    pub n_blocks: usize,
    /// Blocks that sessions hold; one that several hold counts once.
    pub n_used: usize,
    /// Blocks that nobody holds, kept for a session that begins with the same tokens.
    pub n_cached: usize,
    /// Bytes of a block.
    pub block_bytes: u64,
}

/// The KV blocks of one model.
pub(in crate::engine) struct BlockPool {
    model: Arc<dyn Forward>,
    /// That of the runtime, for what sequences need besides.
    budget: Arc<Budget>,
    block_bytes: u64,
    /// Blocks that are kept without a user, at most.
    most_cached: usize,
    claims: Arc<Claims>,
    state: Mutex<State>,
}

struct State {
    /// By block: how many tables hold it.
    users: Vec<u32>,
    /// Blocks without users and names.
    free: Vec<BlockId>,
    /// Named blocks without users, by when the last user left. A sequence lets go of its last block first, so a prefix outlives what follows it.
    cached: BTreeMap<u64, BlockId>,
    /// By block: its key in `cached`.
    left_at: Vec<u64>,
    clock: u64,
    index: Index,
    starts: Starts,
    memory: BlockMemory,
}

impl BlockPool {
    /// A pool that pays for its blocks from `accounts` (each with its bytes of a block, the host's first), for `kv_bytes` at most (0 = unlimited), and keeps up to `most_cached` that nobody uses.
    ///
    /// # Errors
    /// None in practice: nothing is charged yet.
    pub(in crate::engine) fn new(
        model: Arc<dyn Forward>,
        accounts: Vec<(Arc<Budget>, u64)>,
        kv_bytes: u64,
        most_cached: usize,
    ) -> Result<Arc<Self>> {
        let Some((host, _)) = accounts.first() else { fail!(Internal, "a KV pool without an account") };
        let budget = host.clone();
        let state = State {
            users: Vec::new(),
            free: Vec::new(),
            cached: BTreeMap::new(),
            left_at: Vec::new(),
            clock: 0,
            index: Index::default(),
            starts: Starts::default(),
            memory: BlockMemory::new(accounts, model.kv_block_bytes(), kv_bytes)?,
        };
        Ok(Arc::new(Self {
            budget,
            block_bytes: model.kv_block_bytes(),
            model,
            most_cached,
            claims: Arc::default(),
            state: Mutex::new(state),
        }))
    }

    /// True if blocks may be found by their content: their bits must not depend on how they were computed.
    pub(super) fn names_blocks(&self) -> bool {
        self.model.is_bit_stable()
    }

    /// For a new sequence, to tell the others which block it computes.
    pub(in crate::engine) fn claim(&self) -> Claim {
        self.claims.claim()
    }

    /// A block of nobody else's, with any content.
    ///
    /// # Errors
    /// `Budget` or `OutOfMemory` if there is none, nor memory for one.
    pub(super) fn take(&self) -> Result<BlockId> {
        let state = &mut *self.state.lock();
        if state.free.is_empty() {
            // Half of the cache is not given up while there is memory; where there is none, all of it is.
            let grown = if state.cached.len() <= self.most_cached / 2 { self.grow(state) } else { Ok(()) };
            if state.free.is_empty() {
                state.evict_oldest();
            }
            if state.free.is_empty() {
                grown?;
            }
        }
        let Some(id) = state.free.pop() else {
            return Err(Error::new(ErrorKind::Internal, "the KV pool grew by nothing"));
        };
        state.users[id as usize] = 1;
        Ok(id)
    }

    /// Makes more blocks exist.
    fn grow(&self, state: &mut State) -> Result<()> {
        let add = |state: &mut State, n: usize| {
            let n_old = state.users.len();
            state.memory.grow(n as u64)?;
            self.model.grow_kv(n_old + n).inspect_err(|_| state.memory.shrink(n as u64))?;
            state.users.resize(n_old + n, 0);
            state.left_at.resize(n_old + n, 0);
            // Highest first, so that ids are handed out in ascending order.
            state.free.extend((n_old..n_old + n).rev().map(|id| id as BlockId));
            Ok(())
        };
        add(state, GROW_BLOCKS).or_else(|_: Error| add(state, 1))
    }

    /// One more user of a block that has one.
    pub(super) fn share(&self, id: BlockId) {
        self.state.lock().users[id as usize] += 1;
    }

    /// One user less of each; those without any stay in the cache if they have a name.
    pub(super) fn release(&self, ids: impl Iterator<Item = BlockId>) {
        let state = &mut *self.state.lock();
        ids.for_each(|id| state.release(id));
        while state.cached.len() > self.most_cached {
            state.evict_oldest();
        }
    }

    /// The block that holds `tokens` behind `before`, with one more user.
    pub(super) fn find(&self, before: Prefix, tokens: &BlockTokens) -> Option<(Prefix, BlockId)> {
        let state = &mut *self.state.lock();
        let (prefix, id) = state.index.find(before, tokens)?;
        state.hold(id);
        Some((prefix, id))
    }

    /// Names block `id`, which holds `tokens` behind `before` and has one user. Where another block has that name, the user gets it instead.
    pub(super) fn publish(&self, before: Prefix, tokens: &BlockTokens, id: BlockId) -> (Prefix, BlockId) {
        let state = &mut *self.state.lock();
        match state.index.find(before, tokens) {
            Some((prefix, known)) => {
                state.hold(known);
                state.release(id);
                (prefix, known)
            }
            None => {
                state.starts.note(before, tokens, id);
                (state.index.insert(before, tokens, id), id)
            }
        }
    }

    /// Others may copy the beginning of block `id`, which holds `tokens` behind `before`. Who writes over them says so before: [`Self::shorten_start`].
    pub(super) fn publish_start(&self, before: Prefix, tokens: &[Token], id: BlockId) {
        self.state.lock().starts.note(before, tokens, id);
    }

    /// Only the first `n` tokens of block `id` stay as they are, unless it has a name: then it is never written.
    pub(super) fn shorten_start(&self, id: BlockId, n: usize) {
        let state = &mut *self.state.lock();
        if !state.index.is_named(id) {
            state.starts.shorten(id, n);
        }
    }

    /// A copy of a block that begins with the same tokens as `tokens`, behind `before`, and how many these are; `None` if they are few, or there is no memory.
    pub(super) fn copy_start(&self, before: Prefix, tokens: &[Token]) -> Option<(BlockId, usize)> {
        let (id, n) = {
            let state = &mut *self.state.lock();
            let (id, n) = state.starts.longest(before, tokens).filter(|(_, n)| *n >= LEAST_START)?;
            // Who wants to change its rows meanwhile takes a copy, as there is another user.
            state.hold(id);
            (id, n)
        };
        let copy = self.copy(id);
        self.release([id].into_iter());
        Some((copy.ok()?, n))
    }

    /// True if a block may be written: it has one user and no name.
    pub(super) fn is_private(&self, id: BlockId) -> bool {
        let state = self.state.lock();
        state.users[id as usize] == 1 && !state.index.is_named(id)
    }

    /// A copy of `id`, which keeps its user.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn copy(&self, id: BlockId) -> Result<BlockId> {
        let copy = self.take()?;
        self.model.copy_kv(id, copy).inspect_err(|_| self.release([copy].into_iter()))?;
        Ok(copy)
    }

    /// The account of the runtime.
    pub(in crate::engine) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// That contexts can be shifted.
    ///
    /// # Errors
    /// `Unsupported` by the backend or the model.
    pub(in crate::engine) fn check_shift(&self) -> Result<()> {
        self.model.turn_back(&[], 0)
    }

    /// Rotates the keys of `ids` back.
    pub(super) fn turn_back(&self, ids: &[BlockId], n_positions: usize) -> Result<()> {
        self.model.turn_back(ids, n_positions)
    }

    /// Copies block `id` into `out`.
    pub(super) fn read(&self, id: BlockId, out: &mut [u8]) -> Result<()> {
        self.model.read_block(id, out)
    }

    /// The reverse of [`Self::read`].
    pub(super) fn write(&self, id: BlockId, bytes: &[u8]) -> Result<()> {
        self.model.write_block(id, bytes)
    }

    /// Bytes of a block.
    pub(in crate::engine) fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// What they are used for.
    pub(in crate::engine) fn usage(&self) -> KvUsage {
        let state = self.state.lock();
        let (n_blocks, n_cached) = (state.users.len(), state.cached.len());
        KvUsage { n_blocks, n_used: n_blocks - n_cached - state.free.len(), n_cached, block_bytes: self.block_bytes }
    }
}

impl State {
    fn hold(&mut self, id: BlockId) {
        let users = &mut self.users[id as usize];
        if *users == 0 {
            self.cached.remove(&self.left_at[id as usize]);
        }
        *users += 1;
    }

    fn release(&mut self, id: BlockId) {
        let users = &mut self.users[id as usize];
        *users -= 1;
        if *users > 0 {
            return;
        }
        if self.index.is_named(id) {
            self.clock += 1;
            self.left_at[id as usize] = self.clock;
            self.cached.insert(self.clock, id);
        } else {
            self.starts.remove(id);
            self.free.push(id);
        }
    }

    fn evict_oldest(&mut self) {
        if let Some((_, id)) = self.cached.pop_first() {
            self.index.remove(id);
            self.starts.remove(id);
            self.free.push(id);
        }
    }
}
