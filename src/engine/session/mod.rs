//! A session: one sequence that a host appends to and steps, or lends to a generation.

mod lending;
mod snapshot;
mod step;

use crate::backend::BLOCK_TOKENS;
use crate::engine::blocks::Ahead;
use crate::engine::model::Model;
use crate::engine::sampler::Sampler;
use crate::engine::sequence::{Overflow, Sequence};
use crate::error::Result;
use crate::fail;
use crate::model::Pass;
use crate::text::Token;
use lending::Slot;
use parking_lot::{Condvar, Mutex};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(in crate::engine) use lending::Borrower;

/// Rows of one prefill pass when the host does not say: large enough that weights are reused, small enough to yield often.
pub(in crate::engine) const DEFAULT_CHUNK: usize = 128;
/// A stage may take this part of a budget: smaller chunks read the weights more often, larger ones leave more of a budget unused at its end.
pub(in crate::engine) const STAGES_PER_BUDGET: u32 = 2;
/// Tokens of a shifting context that do not stay at its front: half of them go at once, in whole blocks, and some must stay.
const LEAST_MOVABLE: usize = 2 * BLOCK_TOKENS;
/// More rows only cost workspace memory.
const MAX_CHUNK: u32 = 2048;

/// What a host asks of a session.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionConfig {
    /// Tokens it can hold; 0 = the model's `n_ctx`.
    pub n_ctx: u32,
    /// Most tokens of one prefill pass; 0 = automatic.
    pub prefill_chunk: u32,
    /// What happens when it is full.
    pub overflow: Overflow,
    /// Urgency of its generations beside those of other sessions; higher is sooner.
    pub priority: i32,
    /// Neither take keys and values that other sessions computed for the same tokens, nor let others take its own.
    pub no_shared_prefix: bool,
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
pub(in crate::engine) struct State {
    pub(in crate::engine) sequence: Sequence,
    pub(in crate::engine) chunk: usize,
    pub(in crate::engine) priority: i32,
    running: Option<Running>,
    /// Progress of the queue: `(done, total)`.
    prefill: (u32, u32),
    /// The session that computed the same when a step last looked.
    seen_ahead: Option<Ahead>,
}

/// A pass that a step began and did not finish.
struct Running {
    pass: Box<dyn Pass>,
    rows: Range<usize>,
    wants_logits: bool,
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
    /// `Unsupported` for a model without weights, or one that cannot shift and is asked to; `InvalidArgument` for sizes the model cannot hold, `OutOfMemory`.
    pub fn new(model: &Arc<Model>, config: SessionConfig) -> Result<Arc<Self>> {
        model.runtime().check_alive()?;
        let n_ctx = model.context_length(config.n_ctx)?;
        if config.prefill_chunk > MAX_CHUNK {
            fail!(InvalidArgument, "prefill_chunk {}: expected at most {MAX_CHUNK}", config.prefill_chunk);
        }
        let chunk = if config.prefill_chunk == 0 { DEFAULT_CHUNK } else { config.prefill_chunk as usize };
        if let Overflow::Shift { n_keep } = config.overflow
            && n_keep.next_multiple_of(BLOCK_TOKENS) + LEAST_MOVABLE > n_ctx
        {
            fail!(InvalidArgument, "n_keep {n_keep} of {n_ctx} tokens: {LEAST_MOVABLE} must be left to be shifted");
        }
        if matches!(config.overflow, Overflow::Shift { .. }) {
            model.blocks()?.check_shift()?;
        }
        let sequence = Sequence::new(model.blocks()?, model.n_vocab(), n_ctx, !config.no_shared_prefix, config.overflow)?;
        Ok(Self::with(model, State { sequence, chunk, priority: config.priority, running: None, prefill: (0, 0), seen_ahead: None }))
    }

    fn with(model: &Arc<Model>, state: State) -> Arc<Self> {
        Arc::new(Self {
            model: model.clone(),
            n_tokens: AtomicU32::new(state.sequence.len() as u32),
            slot: Mutex::new(Slot::Here(Box::new(state))),
            returned: Condvar::new(),
            released: AtomicBool::new(false),
        })
    }

    /// A second session with the same tokens, which shares the keys and values of what is computed: a block is copied when one of them writes into
    /// it. A pass that a step did not finish is given up.
    ///
    /// # Errors
    /// `Busy`, `OutOfMemory`, `Shutdown`.
    pub fn fork(&self) -> Result<Arc<Self>> {
        let state = self.with_state(|state| {
            self.give_up_pass(state);
            let (sequence, prefill) = (state.sequence.fork()?, (0, state.sequence.n_queued() as u32));
            Ok(State { sequence, prefill, running: None, seen_ahead: None, ..*state })
        })?;
        Ok(Self::with(&self.model, state))
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
            if state.sequence.len() + tokens.len() > state.sequence.n_ctx() {
                // It may shift, and then the pass is about positions that are gone.
                self.give_up_pass(state);
            }
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
    /// The budget is checked between stages of the forward pass, which are cut so that some fit into it, by what they took before: a stage that would
    /// end too late is left to the next step, but each step runs one. After an end-of-generation
    /// token nothing happens until something is appended, unless `ignore_end`.
    ///
    /// # Errors
    /// `Busy`, `InvalidArgument` on an empty session, `ContextFull` if the chosen token has no room, `Format` if the weights give no number to
    /// choose by, `OutOfMemory`, `Budget`, `Shutdown`. Nothing is chosen then.
    pub fn step(&self, sampler: Option<&mut Sampler>, budget: Option<Duration>, ignore_end: bool) -> Result<Step> {
        let limit = budget.and_then(|b| Some((Instant::now().checked_add(b)?, b / STAGES_PER_BUDGET)));
        self.with_state(|state| state.step(&self.model, sampler, limit, ignore_end))
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

    fn give_up_pass(&self, state: &mut State) {
        if let Some(running) = state.running.take() {
            self.model.keep_pass(running.pass);
        }
        state.sequence.give_up_work();
    }

    /// Makes `n_tokens` current.
    pub(in crate::engine) fn publish(&self, state: &State) {
        self.n_tokens.store(state.sequence.len() as u32, Ordering::Release);
    }

    fn with_state<R>(&self, f: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
        self.model.runtime().check_alive()?;
        let mut taken = Taken { session: self, state: Some(self.take()?) };
        match &mut taken.state {
            Some(state) => f(state),
            None => fail!(Internal, "the session's state is missing"),
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
