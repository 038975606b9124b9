//! The gate of the thread pool, the pool of KV blocks, the claims on them, and the queue of events: the files of the library themselves, under
//! 100,000 schedules each. What they import and do not share between threads has a stand-in here.
#![cfg(test)]
#![expect(dead_code, reason = "the files are whole, the tests use what threads share")]

#[path = "../../../src/error.rs"]
mod error;

mod engine;
mod sys;

/// Runs `program` under random schedules. A deadlock is a failure, too.
fn check(program: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(program, 100_000);
}

mod backend {
    pub type BlockId = u32;
    pub const BLOCK_TOKENS: usize = 4;
}

mod text {
    pub type Token = u32;
}

mod model {
    use crate::backend::BlockId;
    use crate::error::Result;

    /// The part of `model::Forward` that the pool of blocks asks.
    pub trait Forward: Send + Sync {
        fn grow_kv(&self, n_blocks: usize) -> Result<()>;
        fn kv_block_bytes(&self) -> u64;
        fn copy_kv(&self, from: BlockId, to: BlockId) -> Result<()>;
        fn turn_back(&self, blocks: &[BlockId], n_positions: usize) -> Result<()>;
        fn read_block(&self, id: BlockId, out: &mut [u8]) -> Result<()>;
        fn write_block(&self, id: BlockId, bytes: &[u8]) -> Result<()>;
        fn is_bit_stable(&self) -> bool;
    }
}
