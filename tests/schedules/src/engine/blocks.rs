//! The files of `engine/blocks`.

#[path = "../../../../src/engine/blocks/claims.rs"]
pub mod claims;
#[path = "../../../../src/engine/blocks/index.rs"]
pub mod index;
#[path = "../../../../src/engine/blocks/memory.rs"]
pub mod memory;
#[path = "../../../../src/engine/blocks/pool.rs"]
pub mod pool;
#[path = "../../../../src/engine/blocks/starts.rs"]
pub mod starts;
#[path = "../../../../src/engine/blocks/table.rs"]
pub mod table;
