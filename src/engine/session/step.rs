//! What a step computes: passes over the queue, paused at the budget, and a choice at their end.

use super::{Running, State, Step, StepState};
use crate::engine::model::Model;
use crate::engine::probability::log_probability;
use crate::engine::sampler::Sampler;
use crate::engine::sequence::{Overflow, Sequence};
use crate::error::Result;
use crate::fail;
use crate::model::Progress;
use crate::text::Token;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a step waits for another session before it looks whether the runtime was shut down.
const LOOK_AROUND: Duration = Duration::from_millis(20);

impl State {
    pub(super) fn step(&mut self, model: &Arc<Model>, mut sampler: Option<&mut Sampler>, limit: Limit, ignore_end: bool) -> Result<Step> {
        if self.sequence.len() == 0 {
            fail!(InvalidArgument, "the session is empty: append tokens before the first step");
        }
        if self.sequence.ended() && !ignore_end {
            return Ok(self.report(StepState::EndOfGeneration, None, 0.0));
        }
        if let Some(s) = &sampler
            && s.n_vocab() != model.n_vocab()
        {
            fail!(InvalidArgument, "the sampler is for {} tokens, the model has {}", s.n_vocab(), model.n_vocab());
        }
        if let Some(sampler) = &mut sampler
            && let Some(token) = sampler.next_forced()
        {
            return self.take_forced(model, sampler, token, ignore_end);
        }
        while self.sequence.logits().is_none() {
            while self.sequence.owes_turns() {
                self.sequence.turn_block()?;
                if is_past(limit, Duration::ZERO) {
                    return Ok(self.report(StepState::Pending, None, 0.0));
                }
            }
            if self.running.is_none() && self.waits(model, limit)? {
                return Ok(self.report(StepState::Pending, None, 0.0));
            }
            self.sequence.set_at_work(true);
            let done = self.advance(model, limit)?;
            if !done || (self.sequence.logits().is_none() && is_past(limit, Duration::ZERO)) {
                return Ok(self.report(StepState::Pending, None, 0.0));
            }
        }
        match sampler {
            Some(sampler) => self.choose(model, sampler, ignore_end),
            None => Ok(self.report(StepState::Token, None, 0.0)),
        }
    }

    /// True if another session computes the block that comes next, and this step is to end instead of computing the same. Takes over what is computed of the
    /// queue, and waits for a thread that is at work for the other one, at most until the deadline.
    ///
    /// An owner that nobody works for is waited for as long as it comes on between the steps of this session: where one thread steps many sessions in turn.
    fn waits(&mut self, model: &Model, limit: Limit) -> Result<bool> {
        loop {
            self.adopted(Sequence::adopt);
            let Some(ahead) = self.sequence.ahead() else {
                self.adopted(Sequence::adopt_start);
                return Ok(false);
            };
            if !ahead.at_work {
                let comes_on = limit.is_some() && self.seen_ahead != Some(ahead);
                self.seen_ahead = Some(ahead);
                return Ok(comes_on);
            }
            // Who waits must not be waited for.
            self.sequence.give_up_work();
            let soon = Instant::now() + LOOK_AROUND;
            self.sequence.wait_for_ahead(limit.map_or(soon, |(at, _)| at.min(soon)));
            model.runtime().check_alive()?;
            if is_past(limit, Duration::ZERO) {
                return Ok(true);
            }
        }
    }

    fn adopted(&mut self, adopt: impl FnOnce(&mut Sequence) -> usize) {
        let n = adopt(&mut self.sequence) as u32;
        self.prefill.0 = (self.prefill.0 + n).min(self.prefill.1);
    }

    /// Runs the current pass, or the next one, to its end or to the deadline; false if the deadline came first.
    fn advance(&mut self, model: &Arc<Model>, limit: Limit) -> Result<bool> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.begin(model, limit)?,
        };
        let pace = model.pace()?;
        loop {
            let (load, started) = (running.pass.next_stage(), Instant::now());
            let progress = running.pass.advance()?;
            pace.note(load, started.elapsed());
            if progress == Progress::Done {
                break;
            }
            model.runtime().check_alive()?;
            if is_past(limit, pace.expect(running.pass.next_stage())) {
                self.running = Some(running);
                return Ok(false);
            }
        }
        let Running { pass, rows, wants_logits } = running;
        if wants_logits {
            self.sequence.computed_with_logits(&rows, |out| pass.logits(0, out))?;
        } else {
            self.sequence.computed(&rows);
        }
        self.prefill.0 = (self.prefill.0 + rows.len() as u32).min(self.prefill.1);
        model.keep_pass(pass);
        Ok(true)
    }

    fn begin(&mut self, model: &Arc<Model>, limit: Limit) -> Result<Running> {
        let pace = model.pace()?;
        let chunk = limit.map_or(self.chunk, |(_, most)| self.chunk.min(pace.rows_within(most)));
        let rows = self.sequence.next_rows(chunk);
        self.sequence.reserve(&rows)?;
        self.sequence.begin_work();
        self.sequence.set_at_work(true);
        let mut pass = model.take_pass(rows.len())?;
        let mut wants_logits = false;
        pass.begin(&mut |batch| wants_logits = self.sequence.fill(batch, &rows))?;
        Ok(Running { pass, rows, wants_logits })
    }

    fn choose(&mut self, model: &Model, sampler: &mut Sampler, ignore_end: bool) -> Result<Step> {
        if !self.make_room()? {
            return Ok(self.report(StepState::EndOfGeneration, None, 0.0));
        }
        let token = self.sequence.pick(sampler)?;
        let logprob = self.sequence.logits().map_or(0.0, |logits| log_probability(logits, token));
        self.take(model, token, logprob, ignore_end)
    }

    /// Takes the only token that the sampler's constraint allows: it is not worth a pass of its own, and is computed with those that follow.
    fn take_forced(&mut self, model: &Model, sampler: &mut Sampler, token: Token, ignore_end: bool) -> Result<Step> {
        if !self.make_room()? {
            return Ok(self.report(StepState::EndOfGeneration, None, 0.0));
        }
        sampler.accept(token)?;
        self.take(model, token, 0.0, ignore_end)
    }

    /// Makes room for a token; false if the context is full and the session is to stop there.
    fn make_room(&mut self) -> Result<bool> {
        if !self.sequence.can_grow() {
            if self.sequence.overflow() == Overflow::Stop {
                return Ok(false);
            }
            fail!(ContextFull, "the context is full: {} tokens", self.sequence.n_ctx());
        }
        self.sequence.make_room(1)?;
        Ok(true)
    }

    fn take(&mut self, model: &Model, token: Token, logprob: f32, ignore_end: bool) -> Result<Step> {
        let ends = model.is_end_of_generation(token) && !ignore_end;
        self.sequence.accept(token, ends)?;
        let step = self.report(if ends { StepState::EndOfGeneration } else { StepState::Token }, Some(token), logprob);
        self.prefill = (0, self.sequence.n_queued() as u32);
        Ok(step)
    }

    fn report(&self, state: StepState, token: Option<Token>, logprob: f32) -> Step {
        Step { state, token, prefill_done: self.prefill.0, prefill_total: self.prefill.1, logprob }
    }
}

/// When a step should end, and the longest that a stage of it may take.
pub(super) type Limit = Option<(Instant, Duration)>;

/// True if what takes `next` would not end in time.
fn is_past(limit: Limit, next: Duration) -> bool {
    limit.is_some_and(|(at, _)| Instant::now() + next >= at)
}
