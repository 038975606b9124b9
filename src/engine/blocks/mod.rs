//! KV memory: one pool of blocks per model, and the tables of blocks that sequences hold. Used by `sequence`.
//!
//! A block is counted: sessions that were forked, or that begin with the same tokens, hold the same one. A full block whose content is a pure
//! function of the tokens before it has a *name* in the index, by which other sequences find it. A block that is named or held twice is
//! never written again: whoever has to write into it takes a copy.

mod claims;
mod index;
mod memory;
mod pool;
mod table;
#[cfg(test)]
mod tests;

pub(super) use claims::{Ahead, Claim};
pub(super) use index::{BlockTokens, Prefix};
pub(super) use pool::BlockPool;
pub use pool::KvUsage;
pub(super) use table::BlockTable;
