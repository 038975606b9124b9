//! Which blocks begin with which tokens: for sequences that have a part of a block in common. Used by the pool alone.
//!
//! A block without a name is here while its owner still fills it; its first rows do not change as long as it is.

use super::index::Prefix;
use crate::backend::{BLOCK_TOKENS, BlockId};
use crate::text::Token;
use hashbrown::HashMap;

/// Blocks behind one prefix that are looked at, the newest first: a crowd of texts that all begin differently must not cost more than it brings.
const MOST_COMPARED: usize = 64;

/// What a block begins with.
struct Start {
    before: Prefix,
    /// Up to a whole block of them.
    tokens: Vec<Token>,
}

/// The beginnings of all blocks that may be copied.
#[derive(Default)]
pub(super) struct Starts {
    of: HashMap<BlockId, Start>,
    /// In the order in which they were begun.
    behind: HashMap<Prefix, Vec<BlockId>>,
}

impl Starts {
    /// Block `id` begins with `tokens` behind `before`, up to a whole block of them.
    pub(super) fn note(&mut self, before: Prefix, tokens: &[Token], id: BlockId) {
        if let Some(start) = self.of.get_mut(&id).filter(|start| start.before == before && start.tokens.len() <= tokens.len()) {
            start.tokens.extend_from_slice(&tokens[start.tokens.len()..]);
            return;
        }
        self.remove(id);
        let mut own = Vec::with_capacity(BLOCK_TOKENS);
        own.extend_from_slice(tokens);
        self.of.insert(id, Start { before, tokens: own });
        self.behind.entry(before).or_default().push(id);
    }

    /// Only the first `n` tokens of block `id` are left.
    pub(super) fn shorten(&mut self, id: BlockId, n: usize) {
        if let Some(start) = self.of.get_mut(&id) {
            start.tokens.truncate(n);
        }
    }

    /// Block `id` will be written from its front.
    pub(super) fn remove(&mut self, id: BlockId) {
        let Some(start) = self.of.remove(&id) else { return };
        if let Some(ids) = self.behind.get_mut(&start.before) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.behind.remove(&start.before);
            }
        }
    }

    /// The block that has most of the beginning of `tokens` in common, and how many that are.
    pub(super) fn longest(&self, before: Prefix, tokens: &[Token]) -> Option<(BlockId, usize)> {
        let candidates = self.behind.get(&before)?.iter().rev().take(MOST_COMPARED);
        let common = |id: &BlockId| Some((*id, n_common(&self.of.get(id)?.tokens, tokens)));
        candidates.filter_map(common).max_by_key(|(_, n)| *n)
    }
}

/// Tokens that two texts have in common at their beginning.
pub(in crate::engine) fn n_common(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
