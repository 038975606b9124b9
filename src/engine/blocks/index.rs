//! Names of blocks: which block holds the keys and values of which tokens behind which prefix. Used by the pool alone.
//!
//! A name is the chain of a block's tokens and the prefix before it, looked up by hash and compared token by token: two different texts never
//! share a block, whatever their hashes. (Automatic prefix caching as in vLLM, arXiv 2309.06180, without its reliance on the hash.)

use crate::backend::{BLOCK_TOKENS, BlockId};
use crate::text::Token;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// The tokens of a full block.
pub(in crate::engine) type BlockTokens = [Token; BLOCK_TOKENS];

/// All tokens up to the end of a named block, as a number that is never used for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Prefix(u64);

impl Prefix {
    /// No tokens.
    pub(in crate::engine) const EMPTY: Self = Self(0);
}

/// What a block holds.
struct Name {
    before: Prefix,
    tokens: BlockTokens,
    /// `before` and `tokens`.
    prefix: Prefix,
}

/// The named blocks of a pool.
#[derive(Default)]
pub(super) struct Index {
    blocks: HashTable<BlockId>,
    hasher: DefaultHashBuilder,
    /// By block.
    names: Vec<Option<Box<Name>>>,
    last_prefix: u64,
}

impl Index {
    /// The block that holds `tokens` behind `before`, and what it makes of the prefix.
    pub(super) fn find(&self, before: Prefix, tokens: &BlockTokens) -> Option<(Prefix, BlockId)> {
        let same = |id: &BlockId| self.name(*id).is_some_and(|name| name.before == before && name.tokens == *tokens);
        let id = *self.blocks.find(self.hash(before, tokens), same)?;
        Some((self.name(id)?.prefix, id))
    }

    /// Names block `id`, whose content has no name yet.
    pub(super) fn insert(&mut self, before: Prefix, tokens: &BlockTokens, id: BlockId) -> Prefix {
        self.last_prefix += 1;
        let prefix = Prefix(self.last_prefix);
        if self.names.len() <= id as usize {
            self.names.resize_with(id as usize + 1, || None);
        }
        self.names[id as usize] = Some(Box::new(Name { before, tokens: *tokens, prefix }));
        let hash = self.hash(before, tokens);
        let (names, hasher) = (&self.names, &self.hasher);
        self.blocks.insert_unique(hash, id, |id| match names.get(*id as usize) {
            Some(Some(name)) => hasher.hash_one((name.before, name.tokens)),
            _ => 0,
        });
        prefix
    }

    /// Takes the name of block `id` away, if it has one.
    pub(super) fn remove(&mut self, id: BlockId) {
        let Some(name) = self.names.get_mut(id as usize).and_then(Option::take) else { return };
        let hash = self.hash(name.before, &name.tokens);
        if let Ok(entry) = self.blocks.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
    }

    /// True if block `id` has a name.
    pub(super) fn is_named(&self, id: BlockId) -> bool {
        self.name(id).is_some()
    }

    fn name(&self, id: BlockId) -> Option<&Name> {
        self.names.get(id as usize)?.as_deref()
    }

    fn hash(&self, before: Prefix, tokens: &BlockTokens) -> u64 {
        self.hasher.hash_one((before, *tokens))
    }
}
