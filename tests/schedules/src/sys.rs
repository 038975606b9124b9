//! The room of the operating system, as far as it is looked at.

#[path = "../../../src/sys/budget.rs"]
pub mod budget;
#[path = "../../../src/sys/pool/gate.rs"]
pub mod gate;
mod schedules;

pub mod sync {
    pub use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
    pub use std::sync::PoisonError;
}
