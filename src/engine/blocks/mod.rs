//! KV memory: one pool of blocks per model, and the tables of blocks that sequences hold. Used by `sequence`.
//!
//! A block is counted: sessions that were forked, or that begin with the same tokens, hold the same one. A full block whose content is a pure
//! function of the tokens before it has a *name* in the index, by which other sequences find it. A block that is named or held twice is
//! never written again: whoever has to write into it takes a copy. Sequences that have only a part of a block in common copy that part.

mod claims;
mod index;
mod memory;
mod pool;
mod starts;
mod table;
#[cfg(test)]
mod tests;

pub(super) use claims::{Ahead, Claim};
pub(super) use index::{BlockTokens, Prefix};
pub use pool::KvUsage;
pub(super) use pool::{BlockPool, LEAST_START};
pub(super) use starts::n_common;
pub(super) use table::BlockTable;
