//! Generations: requests that run in the background while the host pulls their events.

use super::boundary;
use super::bytes::{self, Out};
use super::handle::{self, Handle};
use super::hooks;
use super::model::{inf_model, inf_token};
use super::options::{self, OutStruct, Versioned};
use super::request;
use super::runtime::inf_wake_fn;
use super::sampler::inf_sampler;
use super::session::inf_session;
use super::status::{self, INF_OK, inf_error, inf_status};
use crate::engine::{Event, EventKind, GenerateParams, Generation, Prompt, Wait};
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::text::chat::ChatRequest;
use crate::text::constraint::ConstraintSource;
use parking_lot::Mutex;
use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::sync::Arc;

/// One running request. One reader; cancel and free from any thread.
pub struct inf_generation {
    _opaque: [u8; 0],
}

impl Handle for inf_generation {
    const KIND: u8 = 8;
    const NAME: &'static str = "generation";
    type Object = Reader;
}

/// A generation, and the event that the host has borrowed.
pub struct Reader {
    generation: Arc<Generation>,
    /// Locked while a thread reads: a second one is told so instead of waiting.
    shown: Mutex<Shown>,
}

/// Nothing is ready.
pub const INF_EV_NONE: u32 = 0u32;
/// The prompt is being computed, n_done of n_total tokens.
pub const INF_EV_PROGRESS: u32 = 1u32;
/// Text, in whole UTF-8 characters.
pub const INF_EV_TEXT: u32 = 2u32;
/// With messages_json: what the model tells itself before it answers, in whole UTF-8 characters.
pub const INF_EV_THINKING: u32 = 3u32;
/// With messages_json and tools_json: text is one call, `{"id":"..","name":"..","arguments":{..}}`, or, where the model wrote something that is no whole call,
/// `{"error":"..","raw":".."}` with all of it.
pub const INF_EV_TOOL_CALL: u32 = 4u32;
/// The end; finish says why.
pub const INF_EV_DONE: u32 = 5u32;

/// The model said that it is done.
pub const INF_FINISH_EOS: u32 = 1u32;
/// A stop string was about to appear.
pub const INF_FINISH_STOP: u32 = 2u32;
/// max_tokens tokens were generated.
pub const INF_FINISH_MAX_TOKENS: u32 = 3u32;
/// The session has no room left.
pub const INF_FINISH_CONTEXT_FULL: u32 = 4u32;
/// The model said that it is done, and has called a tool: run it, and ask again with its result.
pub const INF_FINISH_TOOL_CALL: u32 = 5u32;
/// Cancelled by the host.
pub const INF_FINISH_CANCELLED: u32 = 6u32;
/// Failed; status and error_text say why.
pub const INF_FINISH_ERROR: u32 = 7u32;

/// What a host asks of a generation. Zero means default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_generate_params {
    /// `sizeof(inf_generate_params)`
    pub struct_size: u32,
    /// Most tokens to generate. 0 = until the context is full.
    pub max_tokens: u32,
    /// UTF-8 that is appended to the session and continued. May be empty if the session is not. What looks like a control token in it stays text.
    pub text: *const c_char,
    /// Bytes of text, or `INF_NUL`.
    pub text_len: usize,
    /// Instead of text: a whole conversation, `[{"role":"user","content":"Hello!"}, ...]`, in the shape of OpenAI's API, as `inf_chat_render` takes it. Afterwards the
    /// session holds it and nothing else. What it holds of it already, from earlier turns, is kept, and only the rest is computed. NULL = none.
    pub messages_json: *const c_char,
    /// Bytes of messages_json, or `INF_NUL`.
    pub messages_len: usize,
    /// With messages_json: the tools that the model may call, as there. NULL = none.
    pub tools_json: *const c_char,
    /// Bytes of tools_json, or `INF_NUL`.
    pub tools_len: usize,
    /// NULL, or a JSON object. With text or messages_json: response_format, what the answer must match: `{"type":"json_schema","json_schema":{"schema":{..}}}`,
    /// `{"type":"json_object"}`, `{"type":"json"}` (any value), `{"type":"regex","regex":".."}`, `{"type":"gbnf","grammar":".."}`, `{"type":"lark","grammar":".."}`, or
    /// `{"type":"text"}`, which is anything; `inf_sampler_set_constraint` says more. With messages_json also tool_choice (`"none"`, `"auto"`, `"required"`,
    /// `{"type":"function","function":{"name":".."}}`; without it calls are free, and unchecked until they are complete), parallel_tool_calls (true), and options of
    /// the template as `inf_chat_render` takes them.
    pub options_json: *const c_char,
    /// Bytes of options_json, or `INF_NUL`.
    pub options_len: usize,
    /// `["\n\n", ...]`: texts that end the answer and are not part of it. NULL = none.
    pub stop_json: *const c_char,
    /// Bytes of stop_json, or `INF_NUL`.
    pub stop_len: usize,
    /// Copied. NULL = the chain that the model recommends.
    pub sampler: *const inf_sampler,
    /// A smaller model with the same vocabulary, of the same runtime, that guesses what comes next. It computes the text, too, with keys and values of its own; where
    /// it has no memory or context left, the generation goes on without it. Kept alive until the end. NULL = none.
    pub draft: *const inf_model,
    /// Most tokens to guess ahead, 16 at most: by draft (0 = 8), or from repetitions in the session's own text, which is fast where an answer quotes or edits it
    /// (0 = none). Guesses are verified in one pass, so the same is said without them.
    pub n_draft: u32,
    /// Events that are buffered before the worker pauses. 0 = 256.
    pub queue_capacity: u32,
    /// Optional: called when an empty queue gets an event.
    pub wake: inf_wake_fn,
    /// Handed to wake.
    pub wake_user: *mut c_void,
    /// Handed to wake.
    pub wake_tag: u64,
    /// Above 0: each event tells the probability of its tokens, and of so many of the likeliest ones in their place, 20 at most. 0 = none.
    pub top_logprobs: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with struct_size; integers, pointers and optional function pointers.
unsafe impl Versioned for inf_generate_params {
    const NAME: &'static str = "inf_generate_params";
    const FIRST_SIZE: usize = offset_of!(Self, wake_tag) + size_of::<u64>();
}

/// One message of a generation.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_event {
    /// `sizeof(inf_event)`
    pub struct_size: u32,
    /// `INF_EV_*`
    pub r#type: u32,
    /// With `INF_EV_DONE`: `INF_FINISH_*`.
    pub finish: u32,
    /// With `INF_FINISH_ERROR`: why. `INF_OK` otherwise.
    pub status: inf_status,
    /// With `INF_EV_TEXT` and `INF_EV_THINKING` whole UTF-8 characters, with `INF_EV_TOOL_CALL` JSON, with a NUL behind them; "" otherwise. Borrowed until the next `inf_generation_next` on this handle.
    pub text: *const c_char,
    /// Bytes of text.
    pub text_len: usize,
    /// The tokens behind text; may be empty. Borrowed as text is.
    pub tokens: *const inf_token,
    /// Entries of tokens.
    pub n_tokens: usize,
    /// With `INF_FINISH_ERROR`: the sentence, with a NUL behind it; "" otherwise. Borrowed as text is.
    pub error_text: *const c_char,
    /// Bytes of error_text.
    pub error_len: usize,
    /// Prompt tokens computed ...
    pub n_done: u32,
    /// ... of these.
    pub n_total: u32,
    /// Tokens of the prompt that this generation computes: what it added, and what was queued before it.
    pub prompt_tokens: u32,
    /// Tokens that the session had computed already.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub output_tokens: u32,
    /// 0.
    pub reserved: u32,
    /// Wall time until the first token, in milliseconds.
    pub prefill_ms: f32,
    /// Wall time after the first token, in milliseconds.
    pub decode_ms: f32,
    /// If probabilities were asked for: one object per entry of tokens, `[{"token":"He","id":17,"logprob":-0.25,"bytes":[72,101],"top_logprobs":[..]}]`, before any stage of
    /// the sampler; a token that a constraint left no choice about has logprob 0. With a NUL behind it; "" otherwise. Borrowed as text is.
    pub logprobs_json: *const c_char,
    /// Bytes of logprobs_json.
    pub logprobs_len: usize,
}

// SAFETY: repr(C), begins with struct_size; integers, floats and pointers.
unsafe impl Versioned for inf_event {
    const NAME: &'static str = "inf_event";
    const FIRST_SIZE: usize = offset_of!(Self, decode_ms) + size_of::<f32>();
}

/// Starts a generation on s. Checks and copies the parameters; rendering, tokenising, compiling a constraint and computing happen on threads of the library, and
/// what fails there arrives as `INF_EV_DONE` with `INF_FINISH_ERROR`: a template that refuses the chat (`INF_ERR_TEMPLATE`), a schema that does not compile
/// (`INF_ERR_CONSTRAINT`; the sentence has the byte offset), a constraint that allows nothing any more (`INF_ERR_DEAD_END`; what was said before it stays).
///
/// The session belongs to the generation (other calls answer `INF_ERR_BUSY`) until `INF_EV_DONE` is queued, or until it is cancelled or freed. Afterwards the
/// session holds the computed prompt and exactly the accepted tokens. All generations of a model share its passes; a prompt beside streams of the same or a
/// higher priority gets as many rows of each as let its layers take at most twice the time that the streams alone would need, by what passes took before.
///
/// The caller owns `*out` and gives it back with `inf_generation_free`. One thread at a time. Never blocks: where a cancelled generation still ends on s, the
/// new one begins behind it.
///
/// - `INF_ERR_INVALID_ARGUMENT`: text is not UTF-8, messages, tools or options have another shape (the sentence names the place), stop_json is no array of
///   strings, the sampler is for another vocabulary; nothing started.
/// - `INF_ERR_BUSY`: session or sampler in use; nothing started.
/// - `INF_ERR_FORMAT`: sampler is NULL, and the chain that the model's file recommends has impossible numbers; nothing started.
/// - `INF_ERR_OUT_OF_MEMORY`: no thread can be started; nothing started.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_generate_start(
    s: *mut inf_session,
    p: *const inf_generate_params,
    out: *mut *mut inf_generation,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let session = handle::get(s.cast_const())?;
            let out = Out::new("out", out)?;
            let generation = Generation::start(&session, request(&options::read(p)?)?)?;
            let reader = Arc::new(Reader { generation, shown: Mutex::default() });
            out.set(handle::insert(reader)?);
            Ok(())
        })
    }
}

/// Starts a generation from one JSON text: `inf_generate_start` without structs, for callers from other languages.
///
/// request_json: `{"messages":[..],"tools":[..],"options":{..},"sampling":{..},"stop":["\n\n"],"max_tokens":100,"n_draft":0,"response_format":{..},"tool_choice":"auto",
/// "parallel_tool_calls":true,"logprobs":false,"top_logprobs":0}`, or `"text":".."` instead of messages; all optional, with the meaning of the fields of inf_generate_params and its
/// options_json. sampling is what `inf_sampler_from_json` takes. An unknown key is an error that names it.
///
/// The caller owns `*out` and gives it back with `inf_generation_free`. One thread at a time. Never blocks: where a cancelled generation still ends on s, the
/// new one begins behind it.
///
/// Statuses as `inf_generate_start`; where request_json is no JSON, `detail[0]` is the byte offset. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_generate_json(
    s: *mut inf_session,
    request_json: *const c_char,
    len: usize,
    out: *mut *mut inf_generation,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let session = handle::get(s.cast_const())?;
            let out = Out::new("out", out)?;
            let params = request::parse(session.model(), bytes::text("request_json", request_json, len)?)?;
            let reader = Arc::new(Reader { generation: Generation::start(&session, params)?, shown: Mutex::default() });
            out.set(handle::insert(reader)?);
            Ok(())
        })
    }
}

/// The next event. timeout_ms 0 polls: no wait, no lock shared with computation; above 0 waits so long; `INF_WAIT_FOREVER` waits until there is
/// one. Nothing ready in time is `INF_OK` with `INF_EV_NONE`. After `INF_EV_DONE` it answers `INF_EV_DONE` again.
///
/// out is the caller's, with struct_size set; what it points to is borrowed until the next call of this function on g, or its free.
/// One reader at a time. Blocks as long as asked.
///
/// - `INF_ERR_CANCELLED`: g was freed during the wait.
/// - `INF_ERR_BUSY`: another thread reads g, or this is a wait inside a hook.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_generation_next(
    g: *mut inf_generation,
    timeout_ms: i32,
    out: *mut inf_event,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let reader = handle::get(g.cast_const())?;
            let out = OutStruct::new(out)?;
            let wait = options::wait(timeout_ms)?;
            if wait != Wait::Poll {
                hooks::refuse_inside()?;
            }
            let Some(mut shown) = reader.shown.try_lock() else {
                return Err(Error::new(ErrorKind::Busy, "another thread reads this generation"));
            };
            *shown = Shown::new(reader.generation.next(wait)?);
            out.set(&shown.describe());
            Ok(())
        })
    }
}

/// Ends a generation, in its prefill too; `INF_EV_DONE` follows. It ends with the stage in flight, or, where others share its forward pass and one
/// before was given up for a cancel, with the pass. Calls on the session wait for that. Dead handles are ignored.
///
/// Any thread. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_generation_cancel(g: *mut inf_generation) {
    boundary::quiet(|| {
        if let Ok(reader) = handle::get(g.cast_const()) {
            reader.generation.cancel();
        }
    });
}

/// Gives a generation back, and cancels it if it runs; a thread that waits for its events gets `INF_ERR_CANCELLED`. NULL and dead handles are
/// ignored.
///
/// Any thread. Does not wait for the computation to end, but for a call of wake in progress, unless called inside a hook: afterwards wake is not called any more.
/// So do not hold a lock here that wake takes. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_generation_free(g: *mut inf_generation) {
    boundary::quiet(|| {
        if let Ok(reader) = handle::get(g.cast_const()) {
            handle::free(g);
            reader.generation.release();
        }
    });
}

/// # Safety
/// The pointers in `params` are as the header demands.
unsafe fn request(params: &inf_generate_params) -> Result<GenerateParams> {
    options::must_be_zero("inf_generate_params.reserved", params.reserved)?;
    // SAFETY: passed on from the caller.
    let ((prompt, constraint), stop) = unsafe { (prompt(params)?, options::json_strings("stop_json", params.stop_json, params.stop_len)?) };
    let chain = handle::get_optional(params.sampler)?;
    Ok(GenerateParams {
        prompt,
        max_tokens: params.max_tokens,
        stop,
        constraint,
        logprobs: (params.top_logprobs > 0).then_some(params.top_logprobs),
        sampler: chain.map(|chain| chain.read().map(|sampler| sampler.clone())).transpose()?,
        n_draft: params.n_draft,
        draft: handle::get_optional(params.draft)?,
        queue_capacity: params.queue_capacity,
        wake: hooks::wake_hook(params.wake, params.wake_user, params.wake_tag),
    })
}

/// # Safety
/// As [`request`].
unsafe fn prompt(params: &inf_generate_params) -> Result<(Prompt, Option<ConstraintSource>)> {
    // SAFETY: passed on from the caller.
    let (text, messages, tools, options) = unsafe {
        (
            bytes::text("text", params.text, params.text_len)?,
            bytes::text("messages_json", params.messages_json, params.messages_len)?,
            bytes::text("tools_json", params.tools_json, params.tools_len)?,
            bytes::text("options_json", params.options_json, params.options_len)?,
        )
    };
    if messages.is_empty() && !tools.is_empty() {
        fail!(InvalidArgument, "tools_json is for chats: messages_json is missing");
    }
    match (text.is_empty(), messages.is_empty()) {
        (false, false) => fail!(InvalidArgument, "text and messages_json are both given: what is to be continued is one of them"),
        (_, true) => Ok((Prompt::Text(text.to_owned()), request::text_options(options)?)),
        (true, false) => Ok((Prompt::Chat(Box::new(ChatRequest::parse(messages, tools, options)?)), None)),
    }
}

/// The event that the host sees now. Its texts have a NUL behind them, which their lengths do not count.
struct Shown {
    event: Event,
    error_text: String,
}

impl Default for Shown {
    fn default() -> Self {
        Self::new(Event::default())
    }
}

impl Shown {
    fn new(mut event: Event) -> Self {
        event.text.push('\0');
        event.logprobs.push('\0');
        let error_text = format!("{}\0", event.error.as_ref().map_or("", Error::message));
        Self { event, error_text }
    }

    fn describe(&self) -> inf_event {
        let Self { event, error_text } = self;
        let mut c = inf_event::zeroed();
        c.r#type = match event.kind {
            EventKind::None => INF_EV_NONE,
            EventKind::Progress => INF_EV_PROGRESS,
            EventKind::Text => INF_EV_TEXT,
            EventKind::Thinking => INF_EV_THINKING,
            EventKind::ToolCall => INF_EV_TOOL_CALL,
            EventKind::Done => INF_EV_DONE,
        };
        c.finish = event.finish.map_or(0, |finish| finish as u32);
        c.status = event.error.as_ref().map_or(INF_OK, |e| status::code(e.kind()));
        (c.text, c.text_len) = (event.text.as_ptr().cast(), event.text.len() - 1);
        (c.tokens, c.n_tokens) = (event.tokens.as_ptr().cast(), event.tokens.len());
        (c.error_text, c.error_len) = (error_text.as_ptr().cast(), error_text.len() - 1);
        (c.n_done, c.n_total) = (event.n_done, event.n_total);
        (c.prompt_tokens, c.cached_tokens) = (event.usage.prompt_tokens, event.usage.cached_tokens);
        c.output_tokens = event.usage.output_tokens;
        (c.logprobs_json, c.logprobs_len) = (event.logprobs.as_ptr().cast(), event.logprobs.len() - 1);
        (c.prefill_ms, c.decode_ms) = (event.usage.prefill_ms, event.usage.decode_ms);
        c
    }
}
