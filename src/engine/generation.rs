//! A generation: a request that runs in the background while the host pulls its events.

use super::Wait;
use super::driver::Task;
use super::events::{Event, EventKind, EventQueue};
use super::hooks::{WakeHook, in_hook};
use super::model::Model;
use super::sampler::Sampler;
use super::session::{Borrower, Session};
use crate::error::Result;
use crate::fail;
use crate::text::Token;
use crate::text::chat::ChatRequest;
use crate::text::constraint::ConstraintSource;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Events buffered before the worker pauses, when the host does not say.
const DEFAULT_QUEUE: usize = 256;

/// More guesses are hardly ever right, and each needs room for its logits.
const MAX_DRAFT: u32 = 16;

/// As many as OpenAI's API allows.
const MAX_LOGPROBS: u32 = 20;

/// What the model is to continue.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// Text, tokenised on the worker: special tokens of the vocabulary's own start are added on an empty session, and what looks like a control token in
    /// it stays text.
    Text(String),
    /// A whole conversation, rendered and tokenised on the worker. The session holds it afterwards, and nothing else: what it holds of it already is kept, and
    /// only the rest is computed.
    Chat(Box<ChatRequest>),
    /// Tokens as they are.
    Tokens(Vec<Token>),
}

/// What a host asks of a generation.
#[derive(Clone)]
pub struct GenerateParams {
    /// Appended to the session first; may be empty if the session is not.
    pub prompt: Prompt,
    /// Most tokens to generate; 0 = until the context is full.
    pub max_tokens: u32,
    /// Texts that end the answer, and are not part of it.
    pub stop: Vec<String>,
    /// `None` = the model's recommended chain.
    pub sampler: Option<Sampler>,
    /// What the answer must match; compiled on the worker. A sampler with a constraint of its own allows no other. That of a chat's options is in the chat.
    pub constraint: Option<ConstraintSource>,
    /// Tell the probability of each token, and of so many of the likeliest ones in its place, 20 at most; `None` = none of it.
    pub logprobs: Option<u32>,
    /// Most tokens to guess ahead from repetitions in the text; 0 = none. Guesses are verified: what is said does not depend on them.
    pub n_draft: u32,
    /// A smaller model with the same vocabulary, of the same runtime, that guesses instead; with `n_draft` 0, up to 8 tokens at once.
    pub draft: Option<Arc<Model>>,
    /// Events buffered before the worker pauses; 0 = 256.
    pub queue_capacity: u32,
    /// Called when events are ready.
    pub wake: Option<WakeHook>,
}

impl Default for GenerateParams {
    /// Nothing to add, and no end but that of the context.
    fn default() -> Self {
        Self {
            prompt: Prompt::Tokens(Vec::new()),
            max_tokens: 0,
            stop: Vec::new(),
            sampler: None,
            constraint: None,
            logprobs: None,
            n_draft: 0,
            draft: None,
            queue_capacity: 0,
            wake: None,
        }
    }
}

impl GenerateParams {
    /// True if the request, without its sampler, says what the answer must match.
    fn is_constrained(&self) -> bool {
        self.constraint.is_some() || matches!(&self.prompt, Prompt::Chat(chat) if chat.is_constrained())
    }
}

/// A running request. Dropping it cancels.
pub struct Generation {
    session: Arc<Session>,
    borrower: Arc<Borrower>,
}

impl Generation {
    /// Starts a generation on `session`, which belongs to it until its final event is queued, or until it is cancelled or dropped.
    /// Never blocks on computation: tokenising and everything after it happen on a worker and fail as a final event.
    ///
    /// # Errors
    /// `Busy` if the session is in use, `InvalidArgument`, `Shutdown`, `OutOfMemory` if no worker can be started.
    pub fn start(session: &Arc<Session>, params: GenerateParams) -> Result<Arc<Self>> {
        let model = session.model();
        if params.n_draft > MAX_DRAFT {
            fail!(InvalidArgument, "n_draft {}: expected at most {MAX_DRAFT}", params.n_draft);
        }
        if let Some(draft) = &params.draft {
            model.check_draft(draft)?;
        }
        if params.logprobs.is_some_and(|n| n > MAX_LOGPROBS) {
            fail!(InvalidArgument, "top_logprobs {}: expected at most {MAX_LOGPROBS}", params.logprobs.unwrap_or(0));
        }
        if params.is_constrained() && params.sampler.as_ref().is_some_and(Sampler::is_constrained) {
            fail!(InvalidArgument, "the sampler has a constraint of its own: response_format and tool_choice cannot be met beside it");
        }
        let sampler = match &params.sampler {
            Some(sampler) if sampler.n_vocab() != model.n_vocab() => {
                fail!(InvalidArgument, "the sampler is for {} tokens, the model has {}", sampler.n_vocab(), model.n_vocab());
            }
            Some(sampler) => sampler.clone(),
            None => model.recommended_sampler()?,
        };
        let capacity = if params.queue_capacity == 0 { DEFAULT_QUEUE } else { params.queue_capacity as usize };
        let events = EventQueue::new(capacity, params.wake.clone());
        let borrower = Arc::new(Borrower { cancelled: AtomicBool::new(false), events });
        let task = Task::new(session.clone(), borrower.clone(), params, sampler)?;
        let state = session.lend(borrower.clone())?;
        model.runtime().submit(task, state)?;
        Ok(Arc::new(Self { session: session.clone(), borrower }))
    }

    /// The next event; kind `None` if nothing was ready in time. After the final event, the final event again.
    ///
    /// # Errors
    /// `Cancelled` if the generation is dropped during the wait, `Busy` for a wait inside a hook.
    pub fn next(&self, wait: Wait) -> Result<Event> {
        if wait != Wait::Poll && in_hook() {
            fail!(Busy, "a hook must not wait for events; poll, or read them on another thread");
        }
        let (event, made_room) = self.next_of_queue(wait)?;
        if made_room {
            self.session.model().runtime().wake_driver();
        }
        Ok(event)
    }

    fn next_of_queue(&self, wait: Wait) -> Result<(Event, bool)> {
        let runtime = self.session.model().runtime();
        if !runtime.is_host_driven() {
            return self.borrower.events.next(wait);
        }
        let deadline = wait.deadline();
        loop {
            let (event, made_room) = self.borrower.events.next(Wait::Poll)?;
            if event.kind != EventKind::None || deadline.is_some_and(|at| Instant::now() >= at) {
                return Ok((event, made_room));
            }
            runtime.drive(wait);
        }
    }

    /// Ends it as soon as the stage in flight is done. Does not wait.
    pub fn cancel(&self) {
        self.borrower.cancelled.store(true, Ordering::Release);
        self.session.model().runtime().wake_driver();
    }

    /// The host let go of it: cancels, and wakes whoever waits for its events.
    pub fn release(&self) {
        self.cancel();
        self.borrower.events.close();
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.release();
    }
}
