//! All running generations of one model: `schedule -> run -> collect`, in one forward pass for all of them.
//!
//! Each of the three is cut in slices, and so is what comes between passes; `schedule` decides who gets rows.

mod schedule;

use super::task::Task;
use crate::backend::Batch;
use crate::engine::events::Finish;
use crate::engine::model::Model;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Pass, Progress};
use schedule::{MAX_ROWS, Shortage};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much longer the layers of a pass may take for the prompts beside it than the streams alone would need. The whole pass, with its head, is delayed less, and
/// what is measured is not what comes: it stays below three times.
const MOST_DELAY: f64 = 2.0;

/// New tasks that get their prompt tokenised before a pass: the streams that run must not wait for all of a crowd.
const PREPARED_PER_PASS: usize = 16;

/// Blocks of shifted contexts that are turned before a pass, for the same reason; a millisecond or two.
const TURNED_PER_PASS: usize = 8;

/// Parts of blocks that are copied before a pass, for the same reason; where the host drives, fewer: a tenth of a millisecond each.
const COPIED_PER_PASS: usize = 16;
const COPIED_PER_SLICE: usize = 2;

/// Rows of one task in a pass.
struct Scheduled {
    task: usize,
    rows: Range<usize>,
    /// Index of its first logits in the pass, if it has some.
    output: Option<usize>,
}

/// A pass over the scheduled rows.
struct Flight {
    pass: Box<dyn Pass>,
    /// The tasks' own model, or one that drafts for them.
    model: Arc<Model>,
    drafts: bool,
    /// What its stages took so far.
    spent: Duration,
    /// Once the pass is done: how many of the scheduled tasks have taken in what it computed.
    n_collected: Option<usize>,
}

/// The running generations of one model.
pub(super) struct ModelBatch {
    model: Arc<Model>,
    tasks: Vec<Task>,
    scheduled: Vec<Scheduled>,
    flight: Option<Flight>,
    /// Task that is asked first; moves on, because the last ones get nothing where there are more tasks than rows.
    next: usize,
    /// Passes begun, for turns.
    n_passes: usize,
    /// The last pass was given up for a cancel.
    gave_up: bool,
    /// The last pass was one of a draft model: the others are next.
    drafted: bool,
    /// The last slice compiled a constraint: the others are next.
    compiled: bool,
}

impl ModelBatch {
    pub(super) fn new(task: Task) -> Self {
        let model = task.session().model().clone();
        Self {
            model,
            tasks: vec![task],
            scheduled: Vec::new(),
            flight: None,
            next: 0,
            n_passes: 0,
            gave_up: false,
            drafted: false,
            compiled: false,
        }
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
        self.flight = None;
        self.scheduled.clear();
        self.tasks.iter_mut().for_each(|task| task.finish(Finish::Cancelled, None));
        self.tasks.clear();
    }

    /// True in the middle of a pass.
    pub(super) fn is_running(&self) -> bool {
        self.flight.is_some()
    }

    /// How long the next slice will take; zero if that is not known.
    pub(super) fn expected(&self) -> Duration {
        let Some(Flight { pass, model, n_collected, .. }) = &self.flight else { return Duration::ZERO };
        let Ok(pace) = model.pace() else { return Duration::ZERO };
        if n_collected.is_some() { pace.expect_collect() } else { pace.expect(pass.next_stage()) }
    }

    /// Runs one slice: a stage of the pass, or what one task does with its results, or the beginning of a pass whose stages take at most `most`; false if no
    /// task can go on now. A failure or a panic ends the tasks it concerns, nothing else.
    pub(super) fn advance(&mut self, most: Option<Duration>) -> bool {
        self.compiled = !self.compiled && self.tasks.iter_mut().any(Task::advance_compiling);
        if self.compiled || self.prepare_choice() {
            return true;
        }
        let drafts = self.flight.as_ref().is_some_and(|flight| flight.drafts);
        let result = guarded(|| match self.flight.take() {
            Some(flight) if flight.n_collected.is_some() => self.collect(flight).map(|()| true),
            Some(flight) => self.advance_pass(flight).map(|()| true),
            None => self.begin(most),
        });
        if let Err(error) = &result {
            self.flight = None;
            for s in self.scheduled.drain(..) {
                let task = &mut self.tasks[s.task];
                if drafts { task.give_up_draft() } else { task.fail(error.clone()) }
            }
        }
        self.clean_up();
        // Where nothing else can go on, it need not wait for its turn.
        result.unwrap_or(true) || self.tasks.iter_mut().any(Task::advance_compiling)
    }

    /// Beside a pass: computes what the constraint of one of its tasks allows next. True if there was one to compute.
    fn prepare_choice(&mut self) -> bool {
        let running = self.is_running();
        let (tasks, scheduled) = (&mut self.tasks, &self.scheduled);
        running && scheduled.iter().any(|s| tasks[s.task].prepare_choice())
    }

    /// Forgets tasks that have ended. Not during a pass: it changes the order of the tasks.
    fn clean_up(&mut self) {
        if self.flight.is_none() {
            self.scheduled.clear();
            self.tasks.retain(|task| !task.is_finished());
        }
    }

    /// Does what comes before a pass, and begins one.
    fn begin(&mut self, most: Option<Duration>) -> Result<bool> {
        let prepared = self.prepare(if most.is_some() { 1 } else { PREPARED_PER_PASS });
        let mut short = Shortage::default();
        let turned = self.turn_blocks(if most.is_some() { 1 } else { TURNED_PER_PASS }, &mut short);
        if turned && most.is_some() {
            return Ok(true);
        }
        self.n_passes = self.n_passes.wrapping_add(1);
        self.drafted = !self.drafted && self.begin_draft(most)?;
        if self.drafted || self.begin_pass(most, &mut short)? {
            return Ok(true);
        }
        // Nobody but a draft model can go on.
        self.drafted = self.begin_draft(most)?;
        Ok(self.drafted || prepared || turned || self.make_room(short))
    }

    fn begin_pass(&mut self, most: Option<Duration>, short: &mut Shortage) -> Result<bool> {
        let room = self.room(most)?;
        self.schedule(room, if most.is_some() { COPIED_PER_SLICE } else { COPIED_PER_PASS }, short);
        self.take_off(self.model.clone(), false, |task, batch, rows| task.fill(batch, rows))
    }

    /// Begins a pass of a draft model for all tasks that it drafts for; false if there is none. A task whose draft fails goes on without.
    fn begin_draft(&mut self, most: Option<Duration>) -> Result<bool> {
        let n_streams = self.tasks.iter().filter(|task| task.is_ready() && task.is_decoding()).count();
        self.tasks.iter_mut().filter(|task| task.is_ready()).for_each(|task| task.prepare_draft(n_streams));
        let Some(model) = self.tasks.iter_mut().find_map(|task| task.drafting().map(|draft| draft.model().clone())) else {
            return Ok(false);
        };
        let pace = model.pace()?;
        let mut room = most.map_or(MAX_ROWS, |most| pace.rows_within(most)).min(MAX_ROWS);
        for (i, task) in self.tasks.iter_mut().enumerate() {
            let Some(draft) = task.drafting().filter(|draft| room > 0 && Arc::ptr_eq(draft.model(), &model)) else { continue };
            match draft.schedule(room) {
                Ok(rows) => {
                    room -= rows.len();
                    self.scheduled.push(Scheduled { task: i, rows, output: None });
                }
                Err(_) => task.give_up_draft(),
            }
        }
        let begun = self.take_off(model, true, |task, batch, rows| task.drafting().map_or(0, |draft| draft.fill(batch, rows)));
        if begun.is_err() {
            self.scheduled.drain(..).for_each(|s| self.tasks[s.task].give_up_draft());
        }
        Ok(begun.unwrap_or(false))
    }

    /// Begins a pass of `model` over what is scheduled; false if that is nothing. `fill` adds a task's rows, and returns for how many logits it asked.
    fn take_off(&mut self, model: Arc<Model>, drafts: bool, fill: impl Fn(&mut Task, &mut Batch, &Range<usize>) -> usize) -> Result<bool> {
        if self.scheduled.is_empty() {
            return Ok(false);
        }
        let mut pass = model.take_pass(self.scheduled.iter().map(|s| s.rows.len()).sum())?;
        let (tasks, scheduled) = (&mut self.tasks, &mut self.scheduled);
        pass.begin(&mut |batch| {
            let mut n_outputs = 0;
            for s in scheduled.iter_mut() {
                let wanted = fill(&mut tasks[s.task], batch, &s.rows);
                s.output = (wanted > 0).then_some(n_outputs);
                n_outputs += wanted;
            }
        })?;
        self.flight = Some(Flight { pass, model, drafts, spent: Duration::ZERO, n_collected: None });
        Ok(true)
    }

    fn advance_pass(&mut self, mut flight: Flight) -> Result<()> {
        if self.cancel_between() {
            self.gave_up = true;
            flight.model.keep_pass(flight.pass);
            return Ok(());
        }
        let (load, started) = (flight.pass.next_stage(), Instant::now());
        let progress = flight.pass.advance()?;
        let (time, pace) = (started.elapsed(), flight.model.pace()?);
        pace.note(load, time);
        flight.spent += time;
        if progress == Progress::Done {
            self.gave_up = false;
            flight.n_collected = Some(0);
            let n_rows = self.scheduled.iter().map(|s| s.rows.len()).sum();
            if load.rows == n_rows {
                // Streams and guesses alone: each row has an output, and the last stage is the head.
                pace.note_pass(n_rows, flight.spent);
            }
        }
        self.flight = Some(flight);
        Ok(())
    }

    /// Has the next task take in what the pass computed for it.
    fn collect(&mut self, flight: Flight) -> Result<()> {
        let (n, started) = (flight.n_collected.unwrap_or(0), Instant::now());
        let Some(s) = self.scheduled.get(n) else {
            flight.model.keep_pass(flight.pass);
            return Ok(());
        };
        let task = &mut self.tasks[s.task];
        if !task.is_cancelled() {
            let collected = guarded(|| match task.drafting().filter(|_| flight.drafts) {
                Some(draft) => draft.collect(&s.rows, &*flight.pass, s.output),
                None => task.collect(&s.rows, &*flight.pass, s.output),
            });
            match collected {
                Ok(()) => flight.model.pace()?.note_collect(started.elapsed()),
                Err(_) if flight.drafts => task.give_up_draft(),
                Err(error) => task.fail(error),
            }
        }
        self.flight = Some(Flight { n_collected: Some(n + 1), ..flight });
        Ok(())
    }

    /// Ends cancelled tasks, except those in a pass with others that go on: they end with it.
    pub(super) fn cancel_requested(&mut self) {
        let all = self.scheduled.iter().all(|s| self.tasks[s.task].is_cancelled());
        if all && let Some(flight) = self.flight.take() {
            self.scheduled.clear();
            flight.model.keep_pass(flight.pass);
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
            task.collect_state();
            n_new += usize::from(task.is_new());
            if task.is_new() && n_new > most {
                continue;
            }
            let result = guarded(|| {
                task.prepare()?;
                task.adopt_constraint()?;
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

    /// Turns the keys of up to `most` blocks that shifts have moved; true if there were some.
    fn turn_blocks(&mut self, most: usize, short: &mut Shortage) -> bool {
        let mut n_turned = 0;
        for (i, task) in self.tasks.iter_mut().enumerate() {
            while n_turned < most {
                match guarded(|| task.turn_block()) {
                    Ok(false) => break,
                    Ok(true) => n_turned += 1,
                    Err(error) if error.is_shortage() => {
                        short.note(i, task, error);
                        break;
                    }
                    Err(error) => task.fail(error),
                }
            }
        }
        n_turned > 0
    }

    /// True if the pass is to be given up for those in it that were cancelled.
    ///
    /// Giving up costs the others their part, so it never happens twice in a row while one of them goes on: cancels, however many, only halve the speed.
    fn cancel_between(&self) -> bool {
        let cancelled = self.scheduled.iter().filter(|s| self.tasks[s.task].is_cancelled()).count();
        cancelled == self.scheduled.len() || (cancelled > 0 && !self.gave_up)
    }
}

/// Runs `f`; a panic in it is an error of the tasks it works for.
fn guarded<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| Err(Error::new(ErrorKind::Internal, "a panic on the generation thread: a bug in this library"));
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(panicked)
}
