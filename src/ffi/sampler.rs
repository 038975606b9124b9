//! Samplers: chains of stages that choose a token from logits.

use super::boundary;
use super::bytes::{self, Out};
use super::handle::{self, Handle};
use super::model::{inf_model, inf_token};
use super::status::{inf_error, inf_status};
use super::tokenizer;
use crate::engine::{Sampler, Stage};
use crate::error::{Error, ErrorKind, Result};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::Arc;

/// A chain of stages, its random state, and its memory of accepted tokens. One thread at a time; a clash is `INF_ERR_BUSY`.
pub struct inf_sampler {
    _opaque: [u8; 0],
}

impl Handle for inf_sampler {
    const KIND: u8 = 6;
    const NAME: &'static str = "sampler";
    type Object = Chain;
}

/// A sampler that notices when two threads use it. Readers (`const inf_sampler *`) do not exclude each other.
pub struct Chain(RwLock<Sampler>);

impl Chain {
    /// A chain of its own.
    fn new(sampler: Sampler) -> Arc<Self> {
        Arc::new(Self(RwLock::new(sampler)))
    }

    /// To look at it or copy it.
    pub(super) fn read(&self) -> Result<RwLockReadGuard<'_, Sampler>> {
        self.0.try_read().ok_or_else(busy)
    }

    /// To choose with it or change it.
    pub(super) fn write(&self) -> Result<RwLockWriteGuard<'_, Sampler>> {
        self.0.try_write().ok_or_else(busy)
    }
}

fn busy() -> Error {
    Error::new(ErrorKind::Busy, "the sampler is in use by another thread")
}

/// Makes an empty chain for the vocabulary of a model. It is greedy: it chooses the most likely token. Stages work in the order in which
/// they are added; a chain with a stage that is not a penalty draws at random, unless a temperature is 0.
///
/// The caller owns `*out` and gives it back with `inf_sampler_free`; it does not need the model. Any thread. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_create(m: *const inf_model, out: *mut *mut inf_sampler, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let model = handle::get(m)?;
            let out = Out::new("out", out)?;
            out.set(handle::insert(Chain::new(Sampler::new(model.info().n_vocab as usize)))?);
            Ok(())
        })
    }
}

/// Copies a chain with its random state and its memory: both choose the same tokens from now on.
///
/// The caller owns `*out`. Any thread. Never blocks.
///
/// - `INF_ERR_BUSY`: another thread changes s.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_clone(s: *const inf_sampler, out: *mut *mut inf_sampler, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let chain = handle::get(s)?;
            let out = Out::new("out", out)?;
            let copy = chain.read()?.clone();
            out.set(handle::insert(Chain::new(copy))?);
            Ok(())
        })
    }
}

/// Gives a chain back. NULL and dead handles are ignored. Any thread, at any time. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_sampler_free(s: *mut inf_sampler) {
    boundary::quiet(|| handle::free(s));
}

/// Forgets the accepted tokens and starts the random sequence again from its seed; the stages stay.
///
/// One thread at a time. Never blocks.
///
/// - `INF_ERR_BUSY`: in use by another thread; unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_reset(s: *mut inf_sampler, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            handle::get(s.cast_const())?.write()?.reset();
            Ok(())
        })
    }
}

/// Starts the random sequence from seed. The same seed, build and device give the same text, whatever else runs. Without it, every
/// sampler has a seed of its own.
///
/// One thread at a time. Never blocks.
///
/// - `INF_ERR_BUSY`: in use by another thread; unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_set_seed(s: *mut inf_sampler, seed: u64, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            handle::get(s.cast_const())?.write()?.set_seed(seed);
            Ok(())
        })
    }
}

/// Adds a stage that divides the logits by t: below 1 more predictable, above 1 more surprising, 0 = always the most likely token.
///
/// One thread at a time. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: t is not a number >= 0, or there are 64 stages; unchanged.
/// - `INF_ERR_BUSY`: in use by another thread; unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_temperature(s: *mut inf_sampler, t: f32, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || add(s, Stage::Temperature(t))) }
}

/// Adds a stage that keeps the k most likely tokens; 0 = all.
///
/// Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_top_k(s: *mut inf_sampler, k: u32, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || add(s, Stage::TopK(k))) }
}

/// Adds a stage that keeps the fewest most likely tokens whose probabilities sum to at least p, 0 < p <= 1.
///
/// Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_top_p(s: *mut inf_sampler, p: f32, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || add(s, Stage::TopP(p))) }
}

/// Adds a stage that keeps the tokens at least p times as likely as the most likely one, 0 <= p <= 1.
///
/// Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_min_p(s: *mut inf_sampler, p: f32, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || add(s, Stage::MinP(p))) }
}

/// Adds a stage that makes tokens less likely that are among the last last_n accepted ones (0 = off): their logits are divided by repeat
/// if positive and multiplied if negative (1 = off), then lowered by frequency per occurrence and by presence once (0 = off).
///
/// Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_penalties(
    s: *mut inf_sampler,
    last_n: u32,
    repeat: f32,
    frequency: f32,
    presence: f32,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || add(s, Stage::Penalties { last_n, repeat, frequency, presence })) }
}

/// Chooses a token from n logits (the model's n_vocab), and accepts it. For hosts that own the loop and edit the logits.
///
/// logits is read during the call only. One thread at a time. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: another number of logits, or none of them is finite; unchanged.
/// - `INF_ERR_BUSY`: in use by another thread; unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_pick(
    s: *mut inf_sampler,
    logits: *const f32,
    n: usize,
    out: *mut inf_token,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let chain = handle::get(s.cast_const())?;
            let (logits, out) = (bytes::array("logits", logits, n)?, Out::new("out", out)?);
            let token = chain.write()?.pick(logits)?;
            out.set(tokenizer::to_c(token));
            Ok(())
        })
    }
}

/// Notes a token that the host chose itself, so that penalties see it.
///
/// One thread at a time. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: t is not in the vocabulary; unchanged.
/// - `INF_ERR_BUSY`: in use by another thread; unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_accept(s: *mut inf_sampler, t: inf_token, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || handle::get(s.cast_const())?.write()?.accept(tokenizer::from_c(t)?)) }
}

fn add(s: *mut inf_sampler, stage: Stage) -> Result<()> {
    handle::get(s.cast_const())?.write()?.add(stage)
}
