//! Samplers: chains of stages that choose a token from logits.

use super::boundary;
use super::bytes::{self, Out};
use super::handle::{self, Handle};
use super::model::{inf_model, inf_token};
use super::options;
use super::status::{inf_error, inf_status};
use super::tokenizer;
use crate::engine::{Model, Sampler, Stage};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::stack::on_own_stack;
use crate::text::chat::Json;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::ffi::c_char;
use std::sync::{Arc, Weak};

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
pub struct Chain {
    sampler: RwLock<Sampler>,
    /// Whose vocabulary it is for; not kept alive.
    model: Weak<Model>,
}

impl Chain {
    /// A chain of its own.
    fn new(sampler: Sampler, model: Weak<Model>) -> Arc<Self> {
        Arc::new(Self { sampler: RwLock::new(sampler), model })
    }

    /// To look at it or copy it.
    pub(super) fn read(&self) -> Result<RwLockReadGuard<'_, Sampler>> {
        self.sampler.try_read().ok_or_else(busy)
    }

    /// To choose with it or change it.
    pub(super) fn write(&self) -> Result<RwLockWriteGuard<'_, Sampler>> {
        self.sampler.try_write().ok_or_else(busy)
    }

    /// The model, for what needs its vocabulary.
    pub(super) fn model(&self) -> Result<Arc<Model>> {
        self.model
            .upgrade()
            .ok_or_else(|| Error::new(ErrorKind::InvalidHandle, "the sampler's model was freed, and its vocabulary with it"))
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
            let sampler = Sampler::new(model.info().n_vocab as usize);
            out.set(handle::insert(Chain::new(sampler, Arc::downgrade(&model)))?);
            Ok(())
        })
    }
}

/// Makes a chain from JSON: `{"temperature":0.8,"top_k":40,"top_p":0.95,"seed":7}`. All keys are optional; the stages work in this order, whatever the order of
/// the keys: logit_bias (`{"123":-1.5,"7":false}`, by token; false forbids), repeat_penalty, frequency_penalty and presence_penalty with repeat_last_n (64; -1 = all),
/// dry_multiplier with dry_base (1.75), dry_allowed_length (2), dry_last_n (all) and dry_breakers (`["\n",":","\"","*"]`), top_n_sigma, top_k, typical_p, top_p, min_p,
/// xtc_probability with xtc_threshold (0.1), temperature with dynatemp_range and dynatemp_exponent; mirostat_tau and mirostat_eta (0.1) take the place of the
/// truncations. Without any of them it is greedy. An unknown key is an error that names it.
///
/// The caller owns `*out`. Any thread. Blocks only to look for the breakers in the vocabulary.
///
/// - `INF_ERR_INVALID_ARGUMENT`: no JSON (`detail[0]` = byte offset), or a number out of range; the sentence names the key.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_from_json(
    m: *const inf_model,
    json: *const c_char,
    len: usize,
    out: *mut *mut inf_sampler,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let model = handle::get(m)?;
            let out = Out::new("out", out)?;
            let text = bytes::text("json", json, len)?;
            let sampler = on_own_stack(|| Sampler::from_json(&model, &Json::parse("sampler", text)?))?;
            out.set(handle::insert(Chain::new(sampler, Arc::downgrade(&model)))?);
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
            out.set(handle::insert(Chain::new(copy, chain.model.clone()))?);
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

/// Adds a stage that divides the logits by a temperature between min and max, 0 <= min <= max: min where the model is certain, max where all tokens are as likely;
/// in between by the power exponent of the distribution's relative entropy.
///
/// Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_dynamic_temperature(
    s: *mut inf_sampler,
    min: f32,
    max: f32,
    exponent: f32,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || add(s, Stage::DynamicTemperature { min, max, exponent })) }
}

/// Adds a stage that keeps the tokens whose surprise is nearest to the expected one, as few as have probability p together, 0 < p <= 1.
///
/// Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_typical_p(s: *mut inf_sampler, p: f32, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || add(s, Stage::TypicalP(p))) }
}

/// Adds a stage that keeps the tokens whose logits are at most n standard deviations below the largest; 0 = all.
///
/// Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_top_n_sigma(s: *mut inf_sampler, n: f32, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || add(s, Stage::TopNSigma(n))) }
}

/// Adds a stage that, so often as probability says, drops all tokens at least as likely as threshold but the least likely of them, which makes texts less
/// predictable and keeps them coherent. Both in [0, 1]; above 0.5, threshold turns it off.
///
/// Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_xtc(s: *mut inf_sampler, probability: f32, threshold: f32, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || add(s, Stage::Xtc { probability, threshold })) }
}

/// Adds a stage that makes tokens less likely that would continue a repetition of n >= allowed_len tokens among the last last_n: their logits are lowered by
/// `multiplier * base^(n - allowed_len)`, multiplier 0 = off, base >= 1. A repetition does not reach across a token whose text holds one of the breakers,
/// `["\n",":"]`; NULL = `["\n",":","\"","*"]`. They are looked for in the vocabulary: the chain's model must not be freed yet.
///
/// Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_dry(
    s: *mut inf_sampler,
    multiplier: f32,
    base: f32,
    allowed_len: u32,
    last_n: u32,
    breakers_json: *const c_char,
    breakers_len: usize,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let model = handle::get(s.cast_const())?.model()?;
            let breakers = match breakers_json.is_null() {
                true => None,
                false => Some(options::json_strings("breakers_json", breakers_json, breakers_len)?),
            };
            add(s, Stage::dry(&model, [multiplier, base], allowed_len, last_n, breakers)?)
        })
    }
}

/// Adds a stage that steers the surprise of what is drawn to tau bits, learning with rate eta, 0 to 1 (mirostat v2). The last stage of its chain, behind a temperature.
///
/// Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_mirostat(s: *mut inf_sampler, tau: f32, eta: f32, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || add(s, Stage::Mirostat { tau, eta })) }
}

/// Adds a stage that adds `bias[i]` to the logit of `tokens[i]`, n of them; minus infinity forbids a token.
///
/// Both arrays are read during the call only. Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_add_logit_bias(
    s: *mut inf_sampler,
    tokens: *const inf_token,
    bias: *const f32,
    n: usize,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let tokens = tokenizer::all_from_c(bytes::array("tokens", tokens, n)?)?;
            let bias = bytes::array("bias", bias, n)?;
            add(s, Stage::LogitBias(Arc::new(tokens.into_iter().zip(bias.iter().copied()).collect())))
        })
    }
}

/// Chooses a token from n logits (the model's n_vocab), and accepts it. For hosts that own the loop and edit the logits: one that is no finite number is not chosen.
///
/// logits is read during the call only. One thread at a time. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: another number of logits, or none of them is finite; unchanged.
/// - `INF_ERR_DEAD_END`: the chain's constraint allows no token that has a finite logit and is not forbidden; nothing was chosen.
/// - `INF_ERR_CONSTRAINT`: the constraint takes more work for this token than any useful one; nothing was chosen.
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

/// Notes a token that the host chose itself, so that penalties and the constraint see it.
///
/// One thread at a time. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: t is not in the vocabulary, or the constraint does not allow it here; unchanged.
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
