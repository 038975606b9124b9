//! The operating system: threads, files, memory, CPU features, the floating-point environment.
//!
//! The only room that names them; everything above sees slices, budgets and parallel regions.

pub mod budget;
pub mod checksum;
pub mod columns;
pub mod cores;
pub mod cpu;
pub mod file;
pub mod fpenv;
pub mod job;
pub mod library;
pub mod machine;
pub mod mapping;
pub mod memory;
pub mod panic;
pub mod pool;
pub mod process;
pub mod progress;
pub mod stack;
pub mod sync;
pub mod thread;
pub mod tiles;
