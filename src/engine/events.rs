//! The queue between a generation's worker and the host that reads it.

use super::Wait;
use super::hooks::{Wake, WakeHook};
use crate::error::{Error, ErrorKind, Result};
use crate::text::Token;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Instant;

/// What an event tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventKind {
    /// Nothing yet.
    #[default]
    None,
    /// The prompt is being computed: `n_done` of `n_total` tokens.
    Progress,
    /// Whole characters of the answer.
    Text,
    /// Whole characters of what the model tells itself before it answers.
    Thinking,
    /// A call of a tool, in JSON.
    ToolCall,
    /// The end; says why in `finish`.
    Done,
}

/// Why a generation ended, numbered as in the C header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model said it is done.
    EndOfGeneration = 1,
    /// A stop string.
    Stop = 2,
    /// `max_tokens`.
    MaxTokens = 3,
    /// The session has no room left.
    ContextFull = 4,
    /// The model said it is done, and called a tool.
    ToolCall = 5,
    /// Cancelled or freed by the host.
    Cancelled = 6,
    /// Failed; the event's `error` says why.
    Error = 7,
}

/// What a generation cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt that this generation computes: what it added, and what was queued before it.
    pub prompt_tokens: u32,
    /// Tokens that the session had computed already.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub output_tokens: u32,
    /// Wall time until the first token, in milliseconds.
    pub prefill_ms: f32,
    /// Wall time after the first token, in milliseconds.
    pub decode_ms: f32,
}

/// One message of a generation to its host.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// What it tells.
    pub kind: EventKind,
    /// Why it ended, with [`EventKind::Done`].
    pub finish: Option<Finish>,
    /// Whole UTF-8 characters.
    pub text: String,
    /// The tokens behind `text`; may be empty.
    pub tokens: Vec<Token>,
    /// The probabilities of `tokens` as JSON, if they were asked for; empty otherwise.
    pub logprobs: String,
    /// What failed, with [`Finish::Error`].
    pub error: Option<Error>,
    /// Prompt tokens computed.
    pub n_done: u32,
    /// Prompt tokens to compute.
    pub n_total: u32,
    /// What it cost so far.
    pub usage: Usage,
}

struct Queue {
    events: VecDeque<Event>,
    /// Set with the final event; asked for again, it is answered again.
    done: Option<Event>,
    /// The host freed the generation.
    closed: bool,
}

/// A bounded queue with one reader; the final event needs no room.
pub(super) struct EventQueue {
    queue: Mutex<Queue>,
    ready: Condvar,
    capacity: usize,
    wake: Wake,
}

impl EventQueue {
    pub(super) fn new(capacity: usize, wake: Option<WakeHook>) -> Self {
        Self {
            queue: Mutex::new(Queue { events: VecDeque::new(), done: None, closed: false }),
            ready: Condvar::new(),
            capacity: capacity.max(1),
            wake: Wake::new(wake),
        }
    }

    /// True if another event fits; a worker pauses while it is false.
    pub(super) fn has_room(&self) -> bool {
        self.queue.lock().events.len() < self.capacity
    }

    /// Adds an event. A progress event replaces one that was not read yet: only the newest matters.
    pub(super) fn push(&self, event: Event) {
        let mut queue = self.queue.lock();
        let was_empty = queue.events.is_empty();
        match queue.events.back_mut() {
            Some(last) if last.kind == EventKind::Progress && event.kind == EventKind::Progress => *last = event,
            _ => queue.events.push_back(event),
        }
        drop(queue);
        self.signal(was_empty);
    }

    /// Adds the final event; later pushes of another final event are ignored.
    pub(super) fn finish(&self, event: Event) {
        let mut queue = self.queue.lock();
        let first = queue.done.is_none();
        if first {
            queue.done = Some(event);
        }
        drop(queue);
        self.signal(first);
    }

    /// Wakes every waiter with `Cancelled`, and silences the wake hook: the host freed the generation.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.ready.notify_all();
        self.wake.silence();
    }

    fn signal(&self, wake: bool) {
        self.ready.notify_all();
        if wake {
            self.wake.call();
        }
    }

    /// The next event, and whether taking it made room in a full queue. Nothing ready in time is an event of kind `None`.
    ///
    /// A poll waits for nothing but a push or a pop in progress: nothing is computed under the queue's lock.
    pub(super) fn next(&self, wait: Wait) -> Result<(Event, bool)> {
        let mut queue = self.queue.lock();
        let deadline = match wait {
            Wait::For(time) => Instant::now().checked_add(time),
            _ => None,
        };
        loop {
            if queue.closed {
                return Err(Error::new(ErrorKind::Cancelled, "the generation was freed while this call waited for it"));
            }
            let was_full = queue.events.len() >= self.capacity;
            if let Some(event) = queue.events.pop_front() {
                return Ok((event, was_full));
            }
            if let Some(done) = &queue.done {
                return Ok((done.clone(), false));
            }
            match (wait, deadline) {
                (Wait::Poll, _) => return Ok((Event::default(), false)),
                (Wait::For(_), Some(at)) if self.ready.wait_until(&mut queue, at).timed_out() => return Ok((Event::default(), false)),
                (Wait::For(_), Some(_)) => {}
                _ => self.ready.wait(&mut queue),
            }
        }
    }
}
