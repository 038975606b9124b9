//! A session: one sequence that a host appends to and steps, or lends to a generation.

use super::events::EventQueue;
use super::hooks::in_hook;
use super::model::Model;
use super::sampler::Sampler;
use super::sequence::Sequence;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::model::{Pass, Progress};
use crate::text::Token;
use parking_lot::{Condvar, Mutex};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Rows of one prefill pass when the host does not say: large enough that weights are reused, small enough to yield often.
pub(super) const DEFAULT_CHUNK: usize = 128;
/// More rows only cost workspace memory.
const MAX_CHUNK: u32 = 2048;

/// What a host asks of a session.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionConfig {
    /// Tokens it can hold; 0 = the model's `n_ctx`.
    pub n_ctx: u32,
    /// Most tokens of one prefill pass; 0 = automatic.
    pub prefill_chunk: u32,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// The budget was used up: call again.
    Pending,
    /// Everything is computed; with a sampler, a token was chosen.
    Token,
    /// An end-of-generation token was chosen, by this step or before it.
    EndOfGeneration,
}

/// The result of [`Session::step`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What it did.
    pub state: StepState,
    /// The token chosen.
    pub token: Option<Token>,
    /// Queued tokens computed, of those that were queued when the first step on them began.
    pub prefill_done: u32,
    /// How many were queued then.
    pub prefill_total: u32,
    /// Natural logarithm of the chosen token's probability, before any sampler stage; 0 without a token.
    pub logprob: f32,
}

/// The part of a session that moves into a generation and back.
pub(super) struct State {
    pub(super) sequence: Sequence,
    pub(super) chunk: usize,
    running: Option<Running>,
    /// Progress of the queue: `(done, total)`.
    prefill: (u32, u32),
}

/// A pass that a step began and did not finish.
struct Running {
    pass: Box<dyn Pass>,
    rows: Range<usize>,
    wants_logits: bool,
}

/// A generation, as the session that it borrows sees it.
pub(super) struct Borrower {
    pub(super) cancelled: AtomicBool,
    pub(super) events: EventQueue,
}

enum Slot {
    Here(Box<State>),
    /// A call of the host works with it.
    InUse,
    /// A generation holds it, and brings it back before it tells the end.
    Lent(Arc<Borrower>),
}

/// One sequence of a model.
pub struct Session {
    model: Arc<Model>,
    slot: Mutex<Slot>,
    returned: Condvar,
    /// `sequence.len()`, readable while the state is lent or in use.
    n_tokens: AtomicU32,
    /// The host let go of it: no generation may begin.
    released: AtomicBool,
}

impl Session {
    /// An empty session of `model`.
    ///
    /// # Errors
    /// `Unsupported` for a model without weights, `InvalidArgument` for sizes the model cannot hold, `OutOfMemory`.
    pub fn new(model: &Arc<Model>, config: SessionConfig) -> Result<Arc<Self>> {
        model.runtime().check_alive()?;
        let n_ctx = model.context_length(config.n_ctx)?;
        if config.prefill_chunk > MAX_CHUNK {
            fail!(InvalidArgument, "prefill_chunk {}: expected at most {MAX_CHUNK}", config.prefill_chunk);
        }
        let chunk = if config.prefill_chunk == 0 { DEFAULT_CHUNK } else { config.prefill_chunk as usize };
        let sequence = Sequence::new(model.blocks()?, model.n_vocab(), n_ctx)?;
        let state = Box::new(State { sequence, chunk, running: None, prefill: (0, 0) });
        Ok(Arc::new(Self {
            model: model.clone(),
            slot: Mutex::new(Slot::Here(state)),
            returned: Condvar::new(),
            n_tokens: AtomicU32::new(0),
            released: AtomicBool::new(false),
        }))
    }

    /// The model it belongs to.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Tokens it holds, queued ones included. Never waits.
    pub fn n_tokens(&self) -> u32 {
        self.n_tokens.load(Ordering::Acquire)
    }

    /// Queues tokens: all of them, or none.
    ///
    /// # Errors
    /// `Busy`, `ContextFull`, `InvalidArgument` (a token outside the vocabulary), `Shutdown`.
    pub fn append(&self, tokens: &[Token]) -> Result<()> {
        self.with_state(|state| {
            state.sequence.append(tokens)?;
            state.prefill = (0, state.sequence.n_queued() as u32);
            Ok(())
        })
    }

    /// Keeps the first `n` tokens; 0 empties the session.
    ///
    /// # Errors
    /// `Busy`, `InvalidArgument` if it holds fewer, `Shutdown`.
    pub fn truncate(&self, n: u32) -> Result<()> {
        self.with_state(|state| {
            state.sequence.truncate(n as usize)?;
            if let Some(running) = state.running.take_if(|running| running.rows.end > n as usize) {
                self.model.keep_pass(running.pass);
            }
            state.prefill = (0, state.sequence.n_queued() as u32);
            Ok(())
        })
    }

    /// Computes what is queued, for at most about `budget`, and lets `sampler` choose the next token, which joins the session.
    ///
    /// The budget is checked between stages of the forward pass: a step overshoots by at most one stage. After an end-of-generation
    /// token nothing happens until something is appended, unless `ignore_end`.
    ///
    /// # Errors
    /// `Busy`, `InvalidArgument` on an empty session, `ContextFull` if the chosen token has no room, `Format` if the weights give no number to
    /// choose by, `OutOfMemory`, `Shutdown`. Nothing is chosen then.
    pub fn step(&self, sampler: Option<&mut Sampler>, budget: Option<Duration>, ignore_end: bool) -> Result<Step> {
        let deadline = budget.and_then(|b| Instant::now().checked_add(b));
        self.with_state(|state| state.step(&self.model, sampler, deadline, ignore_end))
    }

    /// Calls `f` with the logits of the last position, `(n_vocab,)`. They stay where they are until the next call that changes the session.
    ///
    /// # Errors
    /// `Busy`, `NotReady` while tokens are queued or nothing was computed.
    pub fn with_logits<R>(&self, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
        self.with_state(|state| match state.sequence.logits() {
            Some(logits) => Ok(f(logits)),
            None => fail!(NotReady, "no logits: {} tokens are queued; step the session first", state.sequence.n_queued()),
        })
    }

    /// The tokens it holds.
    ///
    /// # Errors
    /// `Busy`.
    pub fn tokens(&self) -> Result<Vec<Token>> {
        self.with_state(|state| Ok(state.sequence.tokens().to_vec()))
    }

    /// The host let go of it: cancels the generation that holds it, if any, and lets no other begin.
    pub fn release(&self) {
        self.released.store(true, Ordering::Release);
        if let Slot::Lent(borrower) = &*self.slot.lock() {
            borrower.cancelled.store(true, Ordering::Release);
            self.model.runtime().wake_driver();
        }
    }

    /// Moves the state into a generation.
    pub(super) fn lend(&self, borrower: Arc<Borrower>) -> Result<Box<State>> {
        self.model.runtime().check_alive()?;
        let mut state = self.take(Slot::Lent(borrower))?;
        if let Some(running) = state.running.take() {
            self.model.keep_pass(running.pass);
        }
        Ok(state)
    }

    /// Takes the state back from a generation, or from a call.
    pub(super) fn take_back(&self, state: Box<State>) {
        self.publish(&state);
        *self.slot.lock() = Slot::Here(state);
        self.returned.notify_all();
    }

    /// Makes `n_tokens` current.
    pub(super) fn publish(&self, state: &State) {
        self.n_tokens.store(state.sequence.len() as u32, Ordering::Release);
    }

    fn with_state<R>(&self, f: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
        self.model.runtime().check_alive()?;
        let mut taken = Taken { session: self, state: Some(self.take(Slot::InUse)?) };
        match &mut taken.state {
            Some(state) => f(state),
            None => fail!(Internal, "the session's state is missing"),
        }
    }

    /// The state, and `instead` in its place. Waits only for a cancelled generation, which brings it back within a pass.
    fn take(&self, instead: Slot) -> Result<Box<State>> {
        let busy = |why| Err(Error::new(ErrorKind::Busy, why));
        let mut slot = self.slot.lock();
        loop {
            match &*slot {
                _ if self.released.load(Ordering::Acquire) => fail!(InvalidHandle, "the session was freed meanwhile"),
                Slot::Here(_) => break,
                Slot::InUse => return busy("the session is in use by another thread"),
                Slot::Lent(borrower) if !borrower.cancelled.load(Ordering::Acquire) => {
                    return busy("the session belongs to a running generation");
                }
                Slot::Lent(_) if in_hook() => {
                    return busy("a cancelled generation still holds the session, and a hook must not wait for it");
                }
                Slot::Lent(_) => self.returned.wait(&mut slot),
            }
        }
        match std::mem::replace(&mut *slot, instead) {
            Slot::Here(state) => Ok(state),
            _ => fail!(Internal, "the session's state is missing"),
        }
    }
}

/// The state during a call: goes back when dropped, also when the call panics.
struct Taken<'a> {
    session: &'a Session,
    state: Option<Box<State>>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.session.take_back(state);
        }
    }
}

impl State {
    fn step(&mut self, model: &Arc<Model>, sampler: Option<&mut Sampler>, deadline: Option<Instant>, ignore_end: bool) -> Result<Step> {
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
        while self.sequence.logits().is_none() {
            let done = self.advance(model, deadline)?;
            if !done || (self.sequence.logits().is_none() && is_past(deadline)) {
                return Ok(self.report(StepState::Pending, None, 0.0));
            }
        }
        match sampler {
            Some(sampler) => self.choose(model, sampler, ignore_end),
            None => Ok(self.report(StepState::Token, None, 0.0)),
        }
    }

    /// Runs the current pass, or the next one, to its end or to the deadline; false if the deadline came first.
    fn advance(&mut self, model: &Arc<Model>, deadline: Option<Instant>) -> Result<bool> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.begin(model)?,
        };
        while running.pass.advance()? == Progress::Running {
            model.runtime().check_alive()?;
            if is_past(deadline) {
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

    fn begin(&mut self, model: &Arc<Model>) -> Result<Running> {
        let rows = self.sequence.next_rows(self.chunk);
        self.sequence.reserve(&rows)?;
        let mut pass = model.take_pass(rows.len())?;
        let mut wants_logits = false;
        pass.begin(&mut |batch| wants_logits = self.sequence.fill(batch, &rows))?;
        Ok(Running { pass, rows, wants_logits })
    }

    fn choose(&mut self, model: &Model, sampler: &mut Sampler, ignore_end: bool) -> Result<Step> {
        if self.sequence.len() == self.sequence.n_ctx() {
            fail!(ContextFull, "the context is full: {} tokens", self.sequence.n_ctx());
        }
        let token = self.sequence.pick(sampler)?;
        let logprob = self.sequence.logits().map_or(0.0, |logits| log_probability(logits, token));
        let ends = model.is_end_of_generation(token) && !ignore_end;
        self.sequence.accept(token, ends)?;
        let step = self.report(if ends { StepState::EndOfGeneration } else { StepState::Token }, Some(token), logprob);
        self.prefill = (0, 1);
        Ok(step)
    }

    fn report(&self, state: StepState, token: Option<Token>, logprob: f32) -> Step {
        Step { state, token, prefill_done: self.prefill.0, prefill_total: self.prefill.1, logprob }
    }
}

fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|at| Instant::now() >= at)
}

/// `ln(softmax(logits)[token])`
fn log_probability(logits: &[f32], token: Token) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().filter(|l| !l.is_nan()).map(|l| (l - max).exp()).sum();
    logits.get(token as usize).map_or(0.0, |l| l - max - sum.ln())
}
