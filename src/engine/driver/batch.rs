//! All running generations of one model: `schedule -> run -> collect`, in one forward pass for all of them.

use super::task::Task;
use crate::engine::events::Finish;
use crate::engine::model::Model;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Pass, Progress};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows of one pass: decoding sequences take one each, prefill gets the rest. Bounds how long a prompt delays the others.
const MAX_ROWS: usize = 128;

/// How much longer a pass may take for the prompts beside it than the streams alone would need.
const MOST_DELAY: u32 = 2;

/// New tasks that get their prompt tokenised before a pass: the streams that run must not wait for all of a crowd.
const PREPARED_PER_PASS: usize = 16;

/// Rows of one task in a pass.
struct Scheduled {
    task: usize,
    rows: Range<usize>,
    /// Index of its first logits in the pass, if it has some.
    output: Option<usize>,
}

/// The running generations of one model.
pub(super) struct ModelBatch {
    model: Arc<Model>,
    tasks: Vec<Task>,
    scheduled: Vec<Scheduled>,
    /// The pass over `scheduled`, between two stages.
    running: Option<Box<dyn Pass>>,
    /// Task that is asked first; moves on, because the last ones get nothing where there are more tasks than rows.
    next: usize,
    /// The last pass was given up for a cancel.
    gave_up: bool,
}

impl ModelBatch {
    pub(super) fn new(task: Task) -> Self {
        let model = task.session().model().clone();
        Self { model, tasks: vec![task], scheduled: Vec::new(), running: None, next: 0, gave_up: false }
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
        self.running = None;
        self.scheduled.clear();
        self.tasks.iter_mut().for_each(|task| task.finish(Finish::Cancelled, None));
        self.tasks.clear();
    }

    /// True in the middle of a pass.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// How long the next stage will take; zero if that is not known.
    pub(super) fn expected(&self) -> Duration {
        self.running.as_ref().map_or(Duration::ZERO, |pass| self.model.pace().map_or(Duration::ZERO, |pace| pace.expect(pass.next_stage())))
    }

    /// Runs one stage of the pass, or begins one whose stages take at most `most`; false if no task can go on now. A failure or a panic ends the
    /// tasks it concerns, nothing else.
    pub(super) fn advance(&mut self, most: Option<Duration>) -> bool {
        if self.prepare_choice() {
            return true;
        }
        let result = guarded(|| match self.running.take() {
            Some(pass) => self.advance_pass(pass).map(|()| true),
            None => self.begin_pass(most),
        });
        if let Err(error) = &result {
            self.running = None;
            for s in self.scheduled.drain(..) {
                self.tasks[s.task].fail(error.clone());
            }
        }
        self.clean_up();
        result.unwrap_or(true)
    }

    /// Beside a pass: computes what the constraint of one of its tasks allows next. True if there was one to compute.
    fn prepare_choice(&mut self) -> bool {
        let running = self.is_running();
        let (tasks, scheduled) = (&mut self.tasks, &self.scheduled);
        running && scheduled.iter().any(|s| tasks[s.task].prepare_choice())
    }

    /// Forgets tasks that have ended. Not during a pass: it changes the order of the tasks.
    fn clean_up(&mut self) {
        if self.running.is_none() {
            self.scheduled.clear();
            self.tasks.retain(|task| !task.is_finished());
        }
    }

    fn begin_pass(&mut self, most: Option<Duration>) -> Result<bool> {
        let prepared = self.prepare(if most.is_some() { 1 } else { PREPARED_PER_PASS });
        let pace = self.model.pace()?;
        let n_streams = self.tasks.iter().filter(|task| task.is_ready() && task.is_decoding()).count();
        let beside = if n_streams > 0 { pace.rows_beside(n_streams, MOST_DELAY) } else { MAX_ROWS };
        let room = most.map_or(beside, |most| pace.rows_within(most)).min(MAX_ROWS);
        let made_room = self.schedule(room);
        if self.scheduled.is_empty() {
            return Ok(prepared || made_room);
        }
        let n_rows = self.scheduled.iter().map(|s| s.rows.len()).sum();
        let mut pass = self.model.take_pass(n_rows)?;
        let (tasks, scheduled) = (&self.tasks, &mut self.scheduled);
        pass.begin(&mut |batch| {
            let mut n_outputs = 0;
            for s in scheduled.iter_mut() {
                let wanted = tasks[s.task].fill(batch, &s.rows);
                s.output = (wanted > 0).then_some(n_outputs);
                n_outputs += wanted;
            }
        })?;
        self.running = Some(pass);
        Ok(true)
    }

    fn advance_pass(&mut self, mut pass: Box<dyn Pass>) -> Result<()> {
        if self.cancel_between() {
            self.gave_up = true;
            self.model.keep_pass(pass);
            return Ok(());
        }
        let (load, started) = (pass.next_stage(), Instant::now());
        if pass.advance()? == Progress::Running {
            self.running = Some(pass);
        } else {
            self.gave_up = false;
            self.collect(&*pass);
            self.model.keep_pass(pass);
        }
        self.model.pace()?.note(load, started.elapsed());
        Ok(())
    }

    /// Ends cancelled tasks, except those in a pass with others that go on: they end with it.
    pub(super) fn cancel_requested(&mut self) {
        let all = self.scheduled.iter().all(|s| self.tasks[s.task].is_cancelled());
        if all && let Some(pass) = self.running.take() {
            self.scheduled.clear();
            self.model.keep_pass(pass);
        }
        for (i, task) in self.tasks.iter_mut().enumerate().filter(|(_, task)| task.is_cancelled()) {
            if self.scheduled.iter().all(|s| s.task != i) {
                task.finish(Finish::Cancelled, None);
            }
        }
        self.clean_up();
    }

    /// Appends prompts of new tasks, `most` at once; a session that is computed already chooses at once. True if something was done.
    fn prepare(&mut self, most: usize) -> bool {
        let (mut chose, mut n_new) = (false, 0);
        for task in &mut self.tasks {
            n_new += usize::from(task.is_new());
            if task.is_new() && n_new > most {
                continue;
            }
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
        chose || n_new > 0
    }

    /// Gives each ready task its rows: one to each that decodes, then an equal share of the rest to each prompt, so that none waits for another's.
    /// A prompt that begins as one ahead of it waits for the blocks of that one instead. True if nothing got rows, but memory was made free.
    fn schedule(&mut self, mut room: usize) -> bool {
        let n = self.tasks.len();
        self.next = (self.next + 1) % n.max(1);
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
        match (0..self.tasks.len()).rfind(|&j| j != i && self.tasks[j].can_be_evicted()) {
            Some(victim) => self.tasks[victim].evict(),
            None => self.tasks[i].fail(error),
        }
    }

    /// True if the pass is to be given up for those in it that were cancelled.
    ///
    /// Giving up costs the others their part, so it never happens twice in a row while one of them goes on: cancels, however many, only halve the speed.
    fn cancel_between(&self) -> bool {
        let cancelled = self.scheduled.iter().filter(|s| self.tasks[s.task].is_cancelled()).count();
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
