//! Sessions: one sequence of tokens with its keys and values, for hosts that own the loop.

use super::boundary;
use super::bytes::{self, Out};
use super::handle::{self, Handle};
use super::hooks;
use super::model::{inf_model, inf_token};
use super::options::{self, OutStruct, Versioned};
use super::sampler::inf_sampler;
use super::status::{inf_error, inf_status};
use super::tokenizer;
use crate::engine::{Overflow, Session, SessionConfig, Step, StepState};
use crate::error::Result;
use crate::fail;
use std::mem::offset_of;
use std::time::Duration;

/// One sequence. One thread at a time; a clash is `INF_ERR_BUSY`.
pub struct inf_session {
    _opaque: [u8; 0],
}

impl Handle for inf_session {
    const KIND: u8 = 5;
    const NAME: &'static str = "session";
    type Object = Session;
}

/// A full session: calls that need room answer `INF_ERR_CONTEXT_FULL`, a generation ends with `INF_FINISH_CONTEXT_FULL`.
pub const INF_OVERFLOW_ERROR: u32 = 0u32;
/// A full session: half of the tokens behind the first n_keep are dropped, the others move up, and it goes on. It forgets the middle of its text;
/// what comes then is not what a session with the remaining tokens alone would say, as the others were computed with those that are gone.
pub const INF_OVERFLOW_SHIFT: u32 = 1u32;
/// A full session: as `INF_OVERFLOW_ERROR`, but a step that would choose a token answers `INF_STEP_END`.
pub const INF_OVERFLOW_STOP: u32 = 2u32;
/// Flag of a session: it takes no keys and values that others computed for the same first tokens, and gives them none. Memory and time for
/// privacy: without it, the time to the first token tells whether another session of the model began alike.
pub const INF_SESSION_NO_SHARED_PREFIX: u32 = 1u32;
/// Flag: an end-of-generation token is a token like any other.
pub const INF_STEP_IGNORE_EOG: u32 = 1u32;
/// State: the budget was used up; call again.
pub const INF_STEP_PENDING: u32 = 0u32;
/// State: everything is computed, and with a sampler a token was chosen.
pub const INF_STEP_TOKEN: u32 = 1u32;
/// State: an end-of-generation token was chosen, now or before.
pub const INF_STEP_END: u32 = 2u32;

/// What a host asks of a session. Zero means default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_session_params {
    /// `sizeof(inf_session_params)`
    pub struct_size: u32,
    /// Tokens it can hold. 0 = what the model was loaded for.
    pub n_ctx: u32,
    /// Most tokens of one indivisible prefill step; smaller = finer deadlines. 0 = automatic.
    pub prefill_chunk: u32,
    /// Bits: `INF_SESSION_NO_SHARED_PREFIX`.
    pub flags: u32,
    /// `INF_OVERFLOW_*`: what happens when it is full.
    pub overflow: u32,
    /// With `INF_OVERFLOW_SHIFT`: tokens at the front that stay, rounded up to a multiple of 32. 64 more must fit.
    pub n_keep: u32,
    /// Urgency of its generations beside those of other sessions of the model; higher is sooner, 0 is usual. Where they compete, prompts of higher priority are
    /// computed first, do not spare streams of lower priority, and get memory first; in one pass of eight all are equal, so that nobody stands still.
    pub priority: i32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with struct_size; integers only.
unsafe impl Versioned for inf_session_params {
    const NAME: &'static str = "inf_session_params";
    const FIRST_SIZE: usize = offset_of!(Self, n_keep) + size_of::<u32>();
}

/// What a step did.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_step {
    /// `sizeof(inf_step)`
    pub struct_size: u32,
    /// `INF_STEP_PENDING`, `INF_STEP_TOKEN` or `INF_STEP_END`.
    pub state: u32,
    /// The token chosen, or -1.
    pub token: inf_token,
    /// Queued tokens computed ...
    pub prefill_done: u32,
    /// ... of those that were queued when the first step on them began.
    pub prefill_total: u32,
    /// Natural logarithm of the chosen token's probability before any stage of the sampler; 0 without a token.
    pub logprob: f32,
}

// SAFETY: repr(C), begins with struct_size; integers and a float.
unsafe impl Versioned for inf_step {
    const NAME: &'static str = "inf_step";
    const FIRST_SIZE: usize = offset_of!(Self, logprob) + size_of::<f32>();
}

/// Makes an empty session. p may be NULL. Sessions of a model that begin with the same tokens compute them once and share the memory, block by block of 32
/// tokens, whether they run at once or one after the other, and copy what they share of a last one; their tokens are the same bits as without.
///
/// The caller owns `*out` and gives it back with `inf_session_free`; it keeps the model alive. Any thread. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: n_ctx is more than the model was made for; overflow and n_keep do not fit it.
/// - `INF_ERR_UNSUPPORTED`: the model has no weights; or overflow is `INF_OVERFLOW_SHIFT`, and the backend or the architecture cannot do that.
/// - `INF_ERR_BUDGET`, `INF_ERR_OUT_OF_MEMORY`: `detail[0]` = bytes wanted.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_session_create(
    m: *mut inf_model,
    p: *const inf_session_params,
    out: *mut *mut inf_session,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let model = handle::get(m.cast_const())?;
            let out = Out::new("out", out)?;
            let params = options::read_or_default(p)?;
            options::known_flags(params.flags, INF_SESSION_NO_SHARED_PREFIX)?;
            options::must_be_zero("inf_session_params.reserved", params.reserved)?;
            let no_shared_prefix = params.flags & INF_SESSION_NO_SHARED_PREFIX != 0;
            let config = SessionConfig {
                n_ctx: params.n_ctx,
                prefill_chunk: params.prefill_chunk,
                overflow: overflow(&params)?,
                priority: params.priority,
                no_shared_prefix,
            };
            out.set(handle::insert(Session::new(&model, config)?)?);
            Ok(())
        })
    }
}

/// Gives a session back; cancels its generation, if it has one. NULL and dead handles are ignored.
///
/// Any thread, at any time. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_session_free(s: *mut inf_session) {
    boundary::quiet(|| {
        if let Ok(session) = handle::get(s.cast_const()) {
            handle::free(s);
            session.release();
        }
    });
}

/// Makes a second session with the same tokens, queued ones included. What is computed is shared, not copied, until one of the two writes behind it;
/// an unfinished step of s begins again. A sampler does not follow: clone it.
///
/// The caller owns `*out` and gives it back with `inf_session_free`; the two live on independently. One thread at a time. Never blocks.
///
/// - `INF_ERR_BUSY`: in use by another thread or a generation; nothing was made.
/// - `INF_ERR_BUDGET`, `INF_ERR_OUT_OF_MEMORY`: `detail[0]` = bytes wanted; nothing was made.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_session_fork(s: *mut inf_session, out: *mut *mut inf_session, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let session = handle::get(s.cast_const())?;
            let out = Out::new("out", out)?;
            out.set(handle::insert(session.fork()?)?);
            Ok(())
        })
    }
}

/// Keeps the first n_tokens tokens; 0 empties the session and clears `INF_ERR_POISONED`. If the logits of the last one that is kept are
/// gone, the next step computes them again.
///
/// One thread at a time. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: it holds fewer; unchanged.
/// - `INF_ERR_BUSY`: in use by another thread or a generation; unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_session_truncate(s: *mut inf_session, n_tokens: u32, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || handle::get(s.cast_const())?.truncate(n_tokens)) }
}

/// How many tokens it holds, queued ones and chosen ones included; 0 for a dead handle.
///
/// Any thread, also while a generation runs. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_session_n_tokens(s: *const inf_session) -> u32 {
    boundary::value(0, || Ok(handle::get(s)?.n_tokens()))
}

/// Queues n tokens: all, or none. They are computed by the next steps.
///
/// tokens is copied. One thread at a time. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: a number that is no token of the model; unchanged.
/// - `INF_ERR_CONTEXT_FULL`: no room for all of them; unchanged.
/// - `INF_ERR_BUDGET`, `INF_ERR_OUT_OF_MEMORY`: no memory to shift shared keys and values; unchanged.
/// - `INF_ERR_BUSY`: in use by another thread or a generation; unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_session_append(s: *mut inf_session, tokens: *const inf_token, n: usize, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let session = handle::get(s.cast_const())?;
            session.append(&tokenizer::all_from_c(bytes::array("tokens", tokens, n)?)?)
        })
    }
}

/// Computes what is queued, on the calling thread and the runtime's workers. With a sampler it then chooses the next token, which joins the
/// session at once and is computed by the next step: `while step` generates. With smp NULL nothing is chosen (`INF_STEP_TOKEN`, token -1): read the
/// logits, pick, append. With nothing queued and valid logits it chooses at once. After an end-of-generation token it answers `INF_STEP_END` and changes nothing,
/// until something is appended, or with the flag `INF_STEP_IGNORE_EOG`.
///
/// What another session of the model is computing already is not computed again: while another thread steps that one, this call waits for it, within its budget;
/// where one thread steps many in turn, with budgets, it answers `INF_STEP_PENDING` at once as long as the other one comes on between its calls.
///
/// out is the caller's, with struct_size set. One thread at a time. Blocks for about budget_us microseconds (0: until done), checked
/// between the stages of a layer.
///
/// - `INF_ERR_INVALID_ARGUMENT`: the session is empty, or the sampler is for another vocabulary; unchanged.
/// - `INF_ERR_CONTEXT_FULL`: everything is computed, but a chosen token has no room; nothing was chosen.
/// - `INF_ERR_FORMAT`: everything is computed, but no logit is finite, because the model's weights are corrupt; nothing was chosen.
/// - `INF_ERR_DEAD_END`, `INF_ERR_CONSTRAINT`: everything is computed, but the sampler's constraint allows nothing, as `inf_sampler_pick` says; nothing was chosen.
/// - `INF_ERR_BUDGET`, `INF_ERR_OUT_OF_MEMORY`: no memory for more keys and values, though what no session uses was given up; nothing was chosen.
/// - `INF_ERR_BUSY`: session or sampler in use by another thread or a generation, or called inside a hook; unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_session_step(
    s: *mut inf_session,
    smp: *mut inf_sampler,
    budget_us: u32,
    flags: u32,
    out: *mut inf_step,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let session = handle::get(s.cast_const())?;
            let chain = handle::get_optional(smp.cast_const())?;
            let out = OutStruct::new(out)?;
            options::known_flags(flags, INF_STEP_IGNORE_EOG)?;
            hooks::refuse_inside()?;
            let budget = (budget_us > 0).then(|| Duration::from_micros(u64::from(budget_us)));
            let mut sampler = chain.as_ref().map(|chain| chain.write()).transpose()?;
            let step = session.step(sampler.as_deref_mut(), budget, flags & INF_STEP_IGNORE_EOG != 0)?;
            out.set(&describe(&step));
            Ok(())
        })
    }
}

/// The logits of the last position: `*n` (the model's n_vocab) floats.
///
/// `*logits` is borrowed until the next call on s. One thread at a time. Never blocks.
///
/// - `INF_ERR_NOT_READY`: tokens are queued, or nothing was computed yet.
/// - `INF_ERR_BUSY`: in use by another thread or a generation.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_session_logits(
    s: *mut inf_session,
    logits: *mut *const f32,
    n: *mut usize,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let session = handle::get(s.cast_const())?;
            let (out, out_n) = (Out::new("logits", logits)?, Out::new("n", n)?);
            session.with_logits(|values| {
                out.set(values.as_ptr());
                out_n.set(values.len());
            })
        })
    }
}

fn overflow(params: &inf_session_params) -> Result<Overflow> {
    match (params.overflow, params.n_keep) {
        (INF_OVERFLOW_SHIFT, n_keep) => Ok(Overflow::Shift { n_keep: n_keep as usize }),
        (INF_OVERFLOW_ERROR, 0) => Ok(Overflow::Error),
        (INF_OVERFLOW_STOP, 0) => Ok(Overflow::Stop),
        (INF_OVERFLOW_ERROR | INF_OVERFLOW_STOP, n_keep) => fail!(InvalidArgument, "n_keep {n_keep}: it needs INF_OVERFLOW_SHIFT"),
        (other, _) => fail!(InvalidArgument, "overflow {other}: expected an INF_OVERFLOW_* number"),
    }
}

fn describe(step: &Step) -> inf_step {
    inf_step {
        struct_size: 0,
        state: match step.state {
            StepState::Pending => INF_STEP_PENDING,
            StepState::Token => INF_STEP_TOKEN,
            StepState::EndOfGeneration => INF_STEP_END,
        },
        token: tokenizer::optional_to_c(step.token),
        prefill_done: step.prefill_done,
        prefill_total: step.prefill_total,
        logprob: step.logprob,
    }
}
