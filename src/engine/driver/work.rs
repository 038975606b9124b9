//! What a driver works at, slice by slice: the generations of all models. Advanced by the driver's thread, or by whoever pumps.

use super::Shared;
use super::batch::ModelBatch;
use super::task::Task;
use std::time::Duration;

/// Requests that are taken in before a slice: a host that starts and cancels them in a loop must not keep the others from their turn.
const TASKS_PER_SLICE: usize = 16;

/// All generations of a runtime.
#[derive(Default)]
pub(super) struct Work {
    batches: Vec<ModelBatch>,
    /// The batch whose turn it is.
    turn: usize,
}

/// What a slice was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slice {
    /// A stage, or the beginning of a pass.
    Worked,
    /// There was nothing to do.
    Idle,
    /// The driver is told to stop; everything is cancelled.
    Stopped,
}

impl Work {
    /// Runs one slice. Passes are made so that no stage takes longer than `most`, if that is given. Models take turns pass by pass.
    pub(super) fn slice(&mut self, shared: &Shared, most: Option<Duration>) -> Slice {
        if !self.take_in(shared, TASKS_PER_SLICE) {
            self.cancel_all();
            return Slice::Stopped;
        }
        self.cancel_requested();
        let n = self.batches.len();
        let first = self.batches.iter().position(ModelBatch::is_running).unwrap_or(self.turn);
        for i in (0..n).map(|k| (first + k) % n) {
            if self.batches[i].advance(most) {
                self.turn = i + 1;
                return Slice::Worked;
            }
        }
        Slice::Idle
    }

    /// How long the next slice will take, as far as that is known.
    pub(super) fn expected(&self) -> Duration {
        self.batches.iter().find(|batch| batch.is_running()).map_or(Duration::ZERO, ModelBatch::expected)
    }

    /// Ends what was cancelled, as far as it is in no pass with others.
    pub(super) fn end_cancelled(&mut self, shared: &Shared) {
        self.take_in(shared, usize::MAX);
        self.cancel_requested();
    }

    /// Ends everything.
    pub(super) fn cancel_all(&mut self) {
        self.batches.iter_mut().for_each(ModelBatch::cancel_all);
        self.batches.clear();
    }

    fn cancel_requested(&mut self) {
        self.batches.iter_mut().for_each(ModelBatch::cancel_requested);
        self.batches.retain(|batch| !batch.is_idle());
    }

    /// Moves up to `most` new tasks to the batch of their model; false if the driver must stop.
    fn take_in(&mut self, shared: &Shared, most: usize) -> bool {
        let mut inbox = shared.inbox.lock();
        if inbox.stop {
            // Dropped, which ends them, after the lock: the end calls a hook of the host.
            let tasks = std::mem::take(&mut inbox.tasks);
            drop(inbox);
            drop(tasks);
            return false;
        }
        let n = inbox.tasks.len().min(most);
        let tasks: Vec<Task> = inbox.tasks.drain(..n).collect();
        drop(inbox);
        for task in tasks {
            match self.batches.iter_mut().find(|batch| batch.serves(&task)) {
                Some(batch) => batch.add(task),
                None => self.batches.push(ModelBatch::new(task)),
            }
        }
        true
    }
}
