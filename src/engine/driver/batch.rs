//! All running generations of one model: `schedule -> run -> collect`, in one forward pass for all of them.

use super::task::Task;
use crate::engine::events::Finish;
use crate::engine::model::Model;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Pass, Progress};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Rows of one pass: decoding sequences take one each, prefill gets the rest. Bounds how long a prompt delays the others.
const MAX_ROWS: usize = 128;

/// Rows of one task in a pass.
struct Scheduled {
    task: usize,
    rows: Range<usize>,
    /// Index of its logits in the pass, if it has some.
    output: Option<usize>,
}

/// The running generations of one model.
pub(super) struct ModelBatch {
    model: Arc<Model>,
    tasks: Vec<Task>,
    scheduled: Vec<Scheduled>,
    /// Task that is asked first; moves on, because the last ones get nothing where there are more tasks than rows.
    next: usize,
    /// The last pass was given up for a cancel.
    gave_up: bool,
}

impl ModelBatch {
    pub(super) fn new(task: Task) -> Self {
        let model = task.session().model().clone();
        Self { model, tasks: vec![task], scheduled: Vec::new(), next: 0, gave_up: false }
    }

    pub(super) fn serves(&self, task: &Task) -> bool {
        Arc::ptr_eq(&self.model, task.session().model())
    }

    pub(super) fn add(&mut self, task: Task) {
        self.tasks.push(task);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn cancel_all(&mut self) {
        self.tasks.iter_mut().for_each(|task| task.finish(Finish::Cancelled, None));
        self.tasks.clear();
    }

    /// Runs one pass; false if no task can go on now. `between` is called between its stages. A failure or a panic ends the tasks it concerns, nothing else.
    pub(super) fn step(&mut self, between: &mut dyn FnMut()) -> bool {
        let result = guarded(|| self.try_step(between));
        if let Err(error) = &result {
            for s in self.scheduled.drain(..) {
                self.tasks[s.task].fail(error.clone());
            }
        }
        self.tasks.retain(|task| !task.is_finished());
        result.unwrap_or(true)
    }

    fn try_step(&mut self, between: &mut dyn FnMut()) -> Result<bool> {
        self.scheduled.clear();
        self.cancel_requested();
        let chose = self.prepare();
        let made_room = self.schedule();
        if self.scheduled.is_empty() {
            return Ok(chose || made_room);
        }
        let n_rows = self.scheduled.iter().map(|s| s.rows.len()).sum();
        let mut pass = self.model.take_pass(n_rows)?;
        self.gave_up = !self.run(&mut *pass, between)?;
        if !self.gave_up {
            self.collect(&*pass);
        }
        self.model.keep_pass(pass);
        Ok(true)
    }

    /// Ends cancelled tasks. Only between passes: it changes the order of the tasks.
    pub(super) fn cancel_requested(&mut self) {
        self.tasks.iter_mut().filter(|task| task.is_cancelled()).for_each(|task| task.finish(Finish::Cancelled, None));
        self.tasks.retain(|task| !task.is_finished());
    }

    /// Appends prompts of new tasks; a session that is computed already chooses at once. True if one did.
    fn prepare(&mut self) -> bool {
        let mut chose = false;
        for task in &mut self.tasks {
            let result = guarded(|| {
                task.prepare()?;
                let ready = task.has_logits() && task.is_ready();
                chose |= ready;
                if ready { task.choose() } else { Ok(()) }
            });
            if let Err(error) = result {
                task.fail(error);
            }
        }
        chose
    }

    /// Gives each ready task its rows: one to each that decodes, then an equal share of the rest to each prompt, so that none waits for another's.
    /// A prompt that begins as one ahead of it waits for the blocks of that one instead. True if nothing got rows, but memory was made free.
    fn schedule(&mut self) -> bool {
        let n = self.tasks.len();
        self.next = (self.next + 1) % n.max(1);
        let mut room = MAX_ROWS;
        let mut short: Option<(usize, Error)> = None;
        for decoding in [true, false] {
            let first = self.next;
            let turn: Vec<usize> = (0..n).map(|i| (first + i) % n).filter(|&i| self.may_run(i, decoding)).collect();
            let mut waiting = turn.len();
            for i in turn {
                let share = room.div_ceil(waiting.max(1));
                waiting -= 1;
                if room == 0 || (!decoding && self.is_behind(i)) {
                    continue;
                }
                match self.tasks[i].schedule(share) {
                    Ok(rows) => {
                        room -= rows.len();
                        self.scheduled.push(Scheduled { task: i, rows, output: None });
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::Budget | ErrorKind::OutOfMemory) => {
                        short = short.filter(|(first, _)| *first < i).or(Some((i, error)));
                    }
                    Err(error) => self.tasks[i].fail(error),
                }
            }
        }
        match short.filter(|_| self.scheduled.is_empty()) {
            Some((i, error)) => self.make_room(i, error),
            None => return false,
        }
        true
    }

    /// True if task `i` is ready, to decode or for its prompt. One that has not begun lets those before it go first where memory is short.
    fn may_run(&mut self, i: usize, decoding: bool) -> bool {
        let (before, rest) = self.tasks.split_at_mut(i);
        let Some(task) = rest.first_mut() else { return false };
        if !task.is_ready() || task.is_decoding() != decoding || (task.n_computed() == 0 && before.iter().any(Task::lacks_memory)) {
            return false;
        }
        if !decoding {
            task.adopt_blocks();
        }
        true
    }

    /// True if another task computes the block that task `i` needs next, further on than it or in this pass.
    fn is_behind(&self, i: usize) -> bool {
        let own = &self.tasks[i];
        self.tasks.iter().enumerate().any(|(j, ahead)| {
            let first = ahead.n_computed() > own.n_computed() || self.scheduled.iter().any(|s| s.task == j);
            j != i && ahead.is_ready() && first && own.follows(ahead)
        })
    }

    /// Nothing can run, because task `i` and perhaps others lack memory: the newest other task that holds some gives it back, to be computed again
    /// when there is room. Where there is none, task `i` fails.
    fn make_room(&mut self, i: usize, error: Error) {
        match (0..self.tasks.len()).rfind(|&j| j != i && self.tasks[j].n_computed() > 0) {
            Some(victim) => self.tasks[victim].evict(),
            None => self.tasks[i].fail(error),
        }
    }

    /// Runs the pass; false if it was given up for a cancel.
    fn run(&mut self, pass: &mut dyn Pass, between: &mut dyn FnMut()) -> Result<bool> {
        let (tasks, scheduled) = (&self.tasks, &mut self.scheduled);
        pass.begin(&mut |batch| {
            let mut n_outputs = 0;
            for s in scheduled.iter_mut() {
                s.output = tasks[s.task].fill(batch, &s.rows).then_some(n_outputs);
                n_outputs += usize::from(s.output.is_some());
            }
        })?;
        while pass.advance()? == Progress::Running {
            between();
            if self.cancel_between() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends cancelled tasks that are not in the pass; true if the pass is to be given up, so that those in it end, too.
    ///
    /// Giving up costs the others their part, so it never happens twice in a row while one of them goes on: cancels, however many, only halve the speed.
    fn cancel_between(&mut self) -> bool {
        let mut cancelled = 0;
        for (i, task) in self.tasks.iter_mut().enumerate().filter(|(_, task)| task.is_cancelled()) {
            if self.scheduled.iter().any(|s| s.task == i) {
                cancelled += 1;
            } else {
                task.finish(Finish::Cancelled, None);
            }
        }
        cancelled == self.scheduled.len() || (cancelled > 0 && !self.gave_up)
    }

    fn collect(&mut self, pass: &dyn Pass) {
        for s in &self.scheduled {
            let task = &mut self.tasks[s.task];
            if task.is_cancelled() {
                continue;
            }
            if let Err(error) = guarded(|| task.collect(&s.rows, pass, s.output)) {
                task.fail(error);
            }
        }
    }
}

/// Runs `f`; a panic in it is an error of the tasks it works for.
fn guarded<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| Err(Error::new(ErrorKind::Internal, "a panic on the generation thread: a bug in this library"));
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(panicked)
}
