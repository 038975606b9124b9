//! Who gets how many rows of the next pass, and who gives memory back when there is not enough.
//!
//! Streams first, one row each, then the prompts; among both, by priority, and in turn among equals.

use super::{MOST_DELAY, ModelBatch, Scheduled};
use crate::engine::driver::task::Task;
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::time::Duration;

/// Rows of one pass: decoding sequences take one each, prefill gets the rest. Bounds how long a prompt delays the others.
pub(super) const MAX_ROWS: usize = 128;

/// In one of so many passes all priorities are the same, so that the lowest go on, too, however busy the others are.
const LEVEL_PASS: usize = 8;

/// One of so many passes, those of [`LEVEL_PASS`] among them, is for the prompts first, where the rows are too few for all streams: they would take them for ever.
const PROMPT_PASS: usize = 4;

/// The most urgent task that found no memory.
#[derive(Default)]
pub(super) struct Shortage(Option<(i32, usize, Error)>);

impl Shortage {
    /// Task `i` found no memory.
    pub(super) fn note(&mut self, i: usize, task: &Task, error: Error) {
        let urgency = |(priority, i, _): &(i32, usize, Error)| (Reverse(*priority), *i);
        let found = (task.priority(), i, error);
        if self.0.as_ref().is_none_or(|known| urgency(&found) < urgency(known)) {
            self.0 = Some(found);
        }
    }
}

/// A number that looks like chance (Knuth's multiplicative hash).
fn scattered(i: usize) -> usize {
    i.wrapping_mul(0x9e37_79b9) >> 8
}

impl ModelBatch {
    /// Rows of the next pass, whose stages take at most `most`. Prompts delay the streams beside them only so much, but for those that are less urgent.
    pub(super) fn room(&self, most: Option<Duration>) -> Result<usize> {
        let pace = self.model.pace()?;
        let ready = || self.tasks.iter().filter(|task| task.is_ready());
        let prompts = ready().filter(|task| !task.is_decoding()).map(Task::priority).max().unwrap_or(i32::MIN);
        let n_streams = ready().filter(|task| task.is_decoding()).count();
        let is_held = ready().any(|task| task.is_decoding() && task.priority() >= prompts);
        let beside = if is_held { pace.rows_beside(n_streams, MOST_DELAY) } else { MAX_ROWS };
        Ok(most.map_or(beside, |most| pace.rows_within(most)).min(MAX_ROWS))
    }

    /// Gives each ready task its rows: one to each that decodes, then an equal share of the rest to each prompt, so that none waits for another's of the same
    /// priority. A prompt that begins as one ahead of it waits for the blocks of that one instead. At most `most_copied` prompts get a copy of a part of a block.
    pub(super) fn schedule(&mut self, mut room: usize, mut most_copied: usize, short: &mut Shortage) {
        if !self.n_passes.is_multiple_of(PROMPT_PASS) {
            self.next = self.next.wrapping_add(1);
        }
        let n_streams = self.tasks.iter().filter(|task| task.is_ready() && task.is_decoding()).count();
        let streams_first = room > n_streams || !self.n_passes.is_multiple_of(PROMPT_PASS);
        for decoding in [streams_first, !streams_first] {
            let turn = if decoding { self.turn(true) } else { self.leaders() };
            for (place, &(priority, i)) in turn.iter().enumerate() {
                let equals = turn[place..].iter().take_while(|(other, _)| *other == priority).count();
                let share = room.div_ceil(equals);
                if room == 0 || (!decoding && most_copied == 0) {
                    continue;
                }
                most_copied -= usize::from(!decoding && self.tasks[i].adopt_start());
                match self.tasks[i].schedule(share, n_streams) {
                    Ok(rows) => {
                        room -= rows.len();
                        self.scheduled.push(Scheduled { task: i, rows, output: None });
                    }
                    Err(error) if error.is_shortage() => short.note(i, &self.tasks[i], error),
                    Err(error) => self.tasks[i].fail(error),
                }
            }
        }
    }

    /// The tasks that may run for their prompts and wait for no other's, with their priorities: in this order.
    fn leaders(&mut self) -> Vec<(i32, usize)> {
        let mut leaders: Vec<(i32, usize)> = Vec::new();
        for (priority, i) in self.turn(false) {
            if !self.is_behind(i, &leaders) {
                leaders.push((priority, i));
            }
        }
        leaders
    }

    /// The tasks that may run, to decode or for their prompts, with their priorities: in this order.
    fn turn(&mut self, decoding: bool) -> Vec<(i32, usize)> {
        let (n, level) = (self.tasks.len(), self.n_passes.is_multiple_of(LEVEL_PASS));
        // One after the other, but for the rare passes that favour somebody: a rhythm of theirs could favour the same one again and again.
        let first = if self.n_passes.is_multiple_of(PROMPT_PASS) { scattered(self.n_passes) } else { self.next };
        let mut turn = Vec::new();
        for i in (0..n).map(|i| (first % n + i) % n) {
            if self.may_run(i, decoding) {
                turn.push((if level { 0 } else { self.tasks[i].priority() }, i));
            }
        }
        turn.sort_by_key(|(priority, _)| Reverse(*priority));
        turn
    }

    /// True if task `i` is ready, to decode or for its prompt. One that has not begun, or had to give its memory back, lets those go first that lack some and
    /// are more urgent, or as urgent and before it: it must not take back what it gave them.
    fn may_run(&mut self, i: usize, decoding: bool) -> bool {
        let task = &mut self.tasks[i];
        if !task.is_ready() || task.is_decoding() != decoding || task.drafting().is_some() {
            return false;
        }
        if self.tasks[i].n_computed() == 0 && self.lets_others_first(i) {
            return false;
        }
        if !decoding {
            self.tasks[i].adopt_blocks();
        }
        true
    }

    fn lets_others_first(&self, i: usize) -> bool {
        let own = (self.tasks[i].priority(), Reverse(i));
        self.tasks.iter().enumerate().any(|(j, other)| other.lacks_memory() && (other.priority(), Reverse(j)) > own)
    }

    /// True if another task computes the block that task `i` needs next, further on than it or as one of the `leaders`.
    fn is_behind(&self, i: usize, leaders: &[(i32, usize)]) -> bool {
        let own = &self.tasks[i];
        self.tasks.iter().enumerate().any(|(j, ahead)| {
            let first = ahead.n_computed() > own.n_computed() || leaders.iter().any(|(_, leader)| *leader == j);
            j != i && ahead.is_ready() && first && own.follows(ahead)
        })
    }

    /// Where nothing can run, because some lack memory: of the others that hold some, the newest of the least urgent gives it back, to be computed again when
    /// there is room. Where there is none, who lacks it fails. False if nobody does.
    pub(super) fn make_room(&mut self, Shortage(short): Shortage) -> bool {
        let Some((_, i, error)) = short else { return false };
        let holders = (0..self.tasks.len()).filter(|&j| j != i && self.tasks[j].can_be_evicted());
        match holders.min_by_key(|&j| (self.tasks[j].priority(), Reverse(j))) {
            Some(victim) => self.tasks[victim].evict(),
            None => self.tasks[i].fail(error),
        }
        true
    }
}
