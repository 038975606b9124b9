//! The loads of a host-driven runtime: advanced slice by slice by whoever pumps or waits.

use crate::engine::model::Model;
use crate::error::Result;
use crate::sys::job::{self, Job};
use crate::sys::panic;
use crate::sys::progress::Progress;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// A load that waits for its next slice.
pub(super) struct Queued {
    pub(super) job: Job<Result<Arc<Model>>>,
    pub(super) progress: Arc<Progress>,
    /// Called once with what became of it, when the job has let go of everything.
    pub(super) end: Box<dyn FnOnce(Result<Arc<Model>>) + Send>,
}

/// Loads that take turns.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Queued>>,
}

impl Queue {
    pub(super) fn push(&self, load: Queued) {
        self.waiting.lock().push_back(load);
    }

    /// Runs one slice of the load whose turn it is; false if there is none.
    pub(super) fn slice(&self) -> bool {
        // Not under the lock: sources of the host are read here.
        let Some(mut load) = self.waiting.lock().pop_front() else { return false };
        match panic::catch(|| Ok(job::advance(&mut load.job))) {
            Ok(Some(result)) => load.end(result),
            Err(panicked) => load.end(Err(panicked)),
            Ok(None) => self.wait_again(load),
        }
        true
    }

    /// A cancel during the slice did not find the load in the queue, and nobody may ever ask for another slice.
    fn wait_again(&self, load: Queued) {
        let mut waiting = self.waiting.lock();
        if load.progress.is_cancelled() {
            drop(waiting);
            load.cancel();
        } else {
            waiting.push_back(load);
        }
    }

    /// Ends the loads that were cancelled.
    pub(super) fn end_cancelled(&self) {
        let mut waiting = self.waiting.lock();
        let (cancelled, rest) = std::mem::take(&mut *waiting).into_iter().partition(|load: &Queued| load.progress.is_cancelled());
        *waiting = rest;
        drop(waiting);
        let cancelled: VecDeque<Queued> = cancelled;
        cancelled.into_iter().for_each(Queued::cancel);
    }
}

impl Queued {
    fn end(self, result: Result<Arc<Model>>) {
        drop(self.job);
        (self.end)(result);
    }

    fn cancel(self) {
        if let Err(cancelled) = self.progress.check() {
            self.end(Err(cancelled));
        }
    }
}
