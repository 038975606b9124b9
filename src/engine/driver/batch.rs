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
        self.schedule();
        if self.scheduled.is_empty() {
            return Ok(chose);
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
    fn schedule(&mut self) {
        let n = self.tasks.len();
        self.next = (self.next + 1) % n.max(1);
        let mut room = MAX_ROWS;
        for decoding in [true, false] {
            let ready = |task: &Task| task.is_ready() && task.is_decoding() == decoding;
            let mut waiting = self.tasks.iter().filter(|task| ready(task)).count();
            for i in (0..n).map(|i| (self.next + i) % n) {
                if room == 0 || !ready(&self.tasks[i]) {
                    continue;
                }
                let share = room.div_ceil(waiting.max(1));
                waiting = waiting.saturating_sub(1);
                match self.tasks[i].schedule(share) {
                    Ok(rows) => {
                        room -= rows.len();
                        self.scheduled.push(Scheduled { task: i, rows, output: None });
                    }
                    Err(error) => self.tasks[i].fail(error),
                }
            }
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
