//! What the gate of a pool sleeps and decides by. Of its own, so that `tests/schedules` can put a scheduler in its place that tries all orders.

pub use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
