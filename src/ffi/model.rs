//! Models: loading, facts, metadata.

use super::boundary;
use super::bytes::{self, Buffer, Out};
use super::handle::{self, Handle};
use super::hooks;
use super::options::{self, JsonOptions, OutStruct, Versioned};
use super::runtime::{inf_runtime, inf_wake_fn};
use super::source::{Opened, Sources, inf_source};
use super::status::{inf_error, inf_status};
use super::tokenizer;
use crate::engine::{BackendKind, LoadConfig, Model, ModelInfo, Plan, WakeHook};
use crate::error::Result;
use crate::fail;
use crate::kernels::KvType;
use crate::model::{Quantization, Rules, Topology};
use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::path::Path;

/// Immutable weights and a tokenizer, shared by any number of sessions. Any thread.
pub struct inf_model {
    _opaque: [u8; 0],
}

impl Handle for inf_model {
    const KIND: u8 = 3;
    const NAME: &'static str = "model";
    type Object = Model;
}

/// A token of a model's vocabulary; -1 = none.
pub type inf_token = i32;

/// Keys and values of the context: the default, which is f16.
pub const INF_KV_AUTO: u32 = 0u32;
/// Exact: for tests and short contexts.
pub const INF_KV_F32: u32 = 1u32;
/// Half the memory, no difference that a reader sees.
pub const INF_KV_F16: u32 = 2u32;
/// A quarter of the memory: int8, with a scale per 32 elements of a head. For heads of whole 32s.
pub const INF_KV_Q8_0: u32 = 3u32;

/// `inf_model_info.capabilities`: it generates text. A file that holds only a vocabulary does not.
pub const INF_CAN_GENERATE: u32 = 1u32;

/// What to load, and how. Zero means default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_model_params {
    /// `sizeof(inf_model_params)`
    pub struct_size: u32,
    /// Entries of sources.
    pub n_sources: u32,
    /// A GGUF file: 1, of a split set one path finds the others; or all files of the set, of any kind. Or a Hugging Face directory: its path, or its
    /// files one by one (`config.json`, the `.safetensors`, their index if there are several, `tokenizer.json`, `tokenizer_config.json`), by name.
    pub sources: *const *const inf_source,
    /// NULL or "auto" (a GPU that is usable and has room, else the CPU, and a line in the log that says why), "cpu", "cuda:0", or the UUID of a GPU.
    pub device: *const c_char,
    /// Context that sessions get by default, cut to what the model was made for. 0 = 4096.
    pub n_ctx_hint: u32,
    /// `INF_KV_*`
    pub kv_type: u32,
    /// Optional, for `inf_load_start` alone: called once when the load has ended, on a thread of the library.
    pub wake: inf_wake_fn,
    /// Handed to wake.
    pub wake_user: *mut c_void,
    /// Handed to wake.
    pub wake_tag: u64,
    /// `{"kv_bytes":1000000000}` limits the keys and values of all sessions together: generations that find no room wait for it, and what no session uses
    /// goes first. `{"vocab_only":true}` loads the tokenizer and no weights, also from a `tokenizer.json` (alone, or by the path of its directory, with the
    /// `tokenizer_config.json` beside it. From memory, their names must end so). `{"backend":"candle"}` computes with candle instead of our own kernels:
    /// slow, for comparison only, as candle has process-wide threads, reads environment variables and does not survive a fork.
    /// `{"pre_tokenizer":"default"}` cuts text as that one does, for vocabularies of bytes that name none or an unknown one: a wrong one gives wrong
    /// tokens and worse answers. `{"chat_template":"..."}` is Jinja source that takes the place of the templates in the file.
    /// `{"quantize":"q4_k"}` (or `q4_0`, `q5_0`, `q8_0`, `q5_k`, `q6_k`, `f16`) holds the matrices of a float model so, encoded while they are read; the head keeps
    /// six bits, rows that are no whole blocks become `q5_0` (for `q4_k`) or `q8_0`, or stay. `{"topology":[{"layers":"0-8","quantize":"q8_0"},{"tensors":"ffn_down|attn_v","quantize":"q6_k"}]}`
    /// sets it by layers (the end is not meant) or by regular expressions over GGUF's names; expressions win over layers, of ranges the one that ends last, then the later.
    /// Beside "quantize", or in its place, a rule may say `"device":"cuda:0"`: its layers, or those that have a tensor that matches, are computed there ("candle" is the CPU by candle).
    /// `{"fit":true}` puts as many layers on a GPU as it has room for, from the last on, and the rest on the CPU; without it a device that is asked for must hold all.
    /// `{"reserve_device_bytes":2000000000}` leaves so much of a GPU's memory to others, the host's renderer for example.
    /// `{"mmap":true}` is the fastest start, for weights that are stored as F32, F16, BF16 or Q8_0 in files given by path: they are used where they lie,
    /// the files mapped, and not read and packed; answers are the same to the last bit, and somewhat slower. **The files must not change as long as the
    /// model lives**: text becomes nonsense then, and a file that becomes shorter ends the process. Other types, sources and backends are read as ever,
    /// and so are files that the system does not map, with a line in the log.
    /// NULL = none. An unknown key is an error that names it.
    pub options_json: *const c_char,
    /// Bytes of options_json, or `INF_NUL`.
    pub options_len: usize,
}

// SAFETY: repr(C), begins with struct_size; integers and pointers.
unsafe impl Versioned for inf_model_params {
    const NAME: &'static str = "inf_model_params";
    const FIRST_SIZE: usize = offset_of!(Self, options_len) + size_of::<usize>();
}

/// Facts about a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_model_info {
    /// `sizeof(inf_model_info)`
    pub struct_size: u32,
    /// Tokens in the vocabulary, and logits per position.
    pub n_vocab: u32,
    /// Longest context it was made for; 0 without weights.
    pub n_ctx_max: u32,
    /// Width of its hidden state; 0 without weights.
    pub n_embd: u32,
    /// Layers; 0 without weights.
    pub n_layers: u32,
    /// Bits: `INF_CAN_GENERATE`.
    pub capabilities: u32,
    /// Beginning of text, or -1.
    pub bos: inf_token,
    /// End of text, or -1. See `inf_model_is_eog` for all that end a generation.
    pub eos: inf_token,
    /// Weights, counted as numbers.
    pub n_params: u64,
    /// "llama", "qwen2", "qwen3".
    pub architecture: [c_char; 32],
    /// The type that most of the weights have: "Q4_K".
    pub quantization: [c_char; 32],
    /// The device that computes: "cpu".
    pub device: [c_char; 32],
}

// SAFETY: repr(C), begins with struct_size; integers only.
unsafe impl Versioned for inf_model_info {
    const NAME: &'static str = "inf_model_info";
    const FIRST_SIZE: usize = offset_of!(Self, device) + 32;
}

/// What a model will need.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_plan {
    /// `sizeof(inf_plan)`
    pub struct_size: u32,
    /// 1 if host_bytes and device_bytes fit the runtime's limits and, with what stays in a mapped file, the memory that is free now.
    pub fits: u32,
    /// Layers.
    pub n_layers: u32,
    /// Context of the session that is planned for.
    pub n_ctx: u32,
    /// Weights, as they will be held; also those that stay in a mapped file.
    pub weights_bytes: u64,
    /// Keys and values of a token of one session.
    pub kv_bytes_per_token: u64,
    /// Keys and values of the whole context of one session.
    pub kv_bytes: u64,
    /// Activations, and the logits of one session.
    pub scratch_bytes: u64,
    /// What of all that is memory of the host: without weights that stay in a mapped file.
    pub host_bytes: u64,
    /// What of it is memory of GPUs.
    pub device_bytes: u64,
    /// Layers on GPUs.
    pub n_layers_on_device: u32,
    /// 0.
    pub reserved: u32,
    /// The device of most layers: "cpu", "cuda:0".
    pub device: [c_char; 32],
}

// SAFETY: repr(C), begins with struct_size; integers only.
unsafe impl Versioned for inf_plan {
    const NAME: &'static str = "inf_plan";
    const FIRST_SIZE: usize = offset_of!(Self, host_bytes) + size_of::<u64>();
}

/// Tells what a model with one session of n_ctx_hint tokens will need, from the header of its file alone. `inf_runtime_memory` accounts for the same
/// bytes once it is loaded and the session is full, within 3 %.
///
/// The sources of p are released before it returns. out is the caller's, with struct_size set. Any thread. Blocks while the header is read.
///
/// - `INF_ERR_INVALID_ARGUMENT`, `INF_ERR_IO`, `INF_ERR_FORMAT`, `INF_ERR_UNSUPPORTED`: as `inf_model_load`, as far as the header tells.
/// - `INF_ERR_BUSY`: called from inside a hook.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_model_estimate(
    rt: *mut inf_runtime,
    p: *const inf_model_params,
    out: *mut inf_plan,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let request = Request::take(p);
            let runtime = handle::get(rt.cast_const())?;
            let out = OutStruct::new(out)?;
            hooks::refuse_inside()?;
            let (config, _) = request.config()?;
            out.set(&describe_plan(&Model::estimate(&runtime, &config)?));
            Ok(())
        })
    }
}

/// Loads a model; `inf_load_start` does so in the background. Everything in p is read during the call and may go afterwards.
///
/// The caller owns `*out` and gives it back with `inf_model_free`. Any thread, any number at once. Blocks until the model is loaded.
///
/// - `INF_ERR_INVALID_ARGUMENT`: a parameter is impossible.
/// - `INF_ERR_IO`: a file cannot be opened or read.
/// - `INF_ERR_FORMAT`: not a model, corrupt, or truncated; the message says what and where.
/// - `INF_ERR_UNSUPPORTED`: an architecture, type or tokenizer that this build does not have; the message names it.
/// - `INF_ERR_NO_DEVICE`: no such device.
/// - `INF_ERR_OUT_OF_MEMORY`: `detail[0]` = bytes wanted.
/// - `INF_ERR_BUDGET`: its weights exceed host_memory_limit; `detail` = bytes wanted, bytes left.
/// - `INF_ERR_CANCELLED`: `inf_runtime_shutdown` ended it.
/// - `INF_ERR_BUSY`: called from inside a hook.
///
/// After any of them nothing is loaded, no memory is held, and the sources are released. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_model_load(
    rt: *mut inf_runtime,
    p: *const inf_model_params,
    out: *mut *mut inf_model,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let request = Request::take(p);
            let runtime = handle::get(rt.cast_const())?;
            let out = Out::new("out", out)?;
            hooks::refuse_inside()?;
            let (config, _) = request.config()?;
            out.set(handle::insert(Model::load(&runtime, &config)?)?);
            Ok(())
        })
    }
}

/// Writes m to path as a GGUF file: weights as they are held, quantised or not, with tokenizer, chat template and all other metadata. Loading it
/// again needs no conversion, and gives the same logits to the last bit.
///
/// path is UTF-8; what was there is replaced when all is written, or stays. m stays as it is. Any thread. Blocks until the file is on the disk.
///
/// - `INF_ERR_INVALID_ARGUMENT`: path is NULL or no UTF-8.
/// - `INF_ERR_UNSUPPORTED`: the model has no weights, or candle holds them.
/// - `INF_ERR_IO`: the file cannot be written; the message names it.
/// - `INF_ERR_BUSY`: called from inside a hook.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_model_save_gguf(m: *const inf_model, path: *const c_char, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let model = handle::get(m)?;
            let path = bytes::required_text("path", path)?;
            hooks::refuse_inside()?;
            model.save_gguf(Path::new(path))
        })
    }
}

/// Takes one more reference on m and returns it: it then takes one more `inf_model_free`. NULL for a dead handle.
///
/// Any thread. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_model_ref(m: *mut inf_model) -> *mut inf_model {
    boundary::value(std::ptr::null_mut(), || handle::retain(m.cast_const()).map(|()| m))
}

/// Gives one reference back; after the last one the handle is dead. Sessions keep the weights alive, so any order of freeing is right.
/// NULL and dead handles are ignored.
///
/// Any thread. Blocks only to return memory. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_model_free(m: *mut inf_model) {
    boundary::quiet(|| handle::free(m));
}

/// Describes a model.
///
/// out is the caller's, with struct_size set. Any thread. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_model_get_info(m: *const inf_model, out: *mut inf_model_info, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let model = handle::get(m)?;
            OutStruct::new(out)?.set(&describe(model.info()));
            Ok(())
        })
    }
}

/// Writes the value of a metadata key of the model's file as text: strings as they are, numbers in decimal, true or false, arrays in brackets
/// with their strings quoted.
///
/// buf, cap and len follow the rules for buffers. Any thread. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: the file has no such key.
/// - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_model_metadata(
    m: *const inf_model,
    key: *const c_char,
    buf: *mut c_char,
    cap: usize,
    len: *mut usize,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let model = handle::get(m)?;
            let buffer = Buffer::new(buf.cast(), cap, len)?;
            let key = bytes::required_text("key", key)?;
            let Some(value) = model.metadata().get(key) else { fail!(InvalidArgument, "the model's file has no metadata {key:?}") };
            buffer.fill_display(value)
        })
    }
}

/// 1 if t ends a generation; 0 if not, for a dead handle, and for a number that is no token.
///
/// Any thread. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_model_is_eog(m: *const inf_model, t: inf_token) -> u32 {
    boundary::value(0, || Ok(u32::from(handle::get(m)?.is_end_of_generation(tokenizer::from_c(t)?))))
}

/// What a host asks to be loaded. Its sources are adopted before anything can fail, so that they are released on every path.
pub(super) struct Request {
    params: Result<inf_model_params>,
    sources: Sources,
}

impl Request {
    /// Takes over the request at `p`.
    ///
    /// # Safety
    /// `p` is NULL, or a struct as the header demands, and so are its sources.
    pub(super) unsafe fn take(p: *const inf_model_params) -> Self {
        // SAFETY: passed on from the caller.
        match unsafe { options::read_known(p) } {
            Err(e) => Self { params: Err(e), sources: Sources::none() },
            Ok((params, tail)) => {
                // SAFETY: passed on from the caller.
                let sources = unsafe { Sources::adopt(params.sources, params.n_sources) };
                Self { params: tail.map(|()| params), sources }
            }
        }
    }

    /// The request as the engine takes it.
    ///
    /// # Errors
    /// `InvalidArgument`, `Abi`, and those of [`Sources::open`].
    ///
    /// # Safety
    /// What the header demands of the pointers in the structs.
    pub(super) unsafe fn config(self) -> Result<(LoadConfig, Option<WakeHook>)> {
        let params = self.params?;
        // SAFETY: passed on from the caller.
        let (opened, device, mut json) = unsafe {
            (
                self.sources.open()?,
                bytes::optional_text("device", params.device)?,
                JsonOptions::parse(params.options_json, params.options_len)?,
            )
        };
        let config = options_config(&mut json, opened)?;
        json.finish()?;
        let wake = hooks::wake_hook(params.wake, params.wake_user, params.wake_tag);
        let device = device.unwrap_or_default().to_owned();
        Ok((LoadConfig { device, n_ctx: params.n_ctx_hint, kv: kv_type(params.kv_type)?, ..config }, wake))
    }
}

/// A load of `opened` with what every options_json may say.
///
/// # Errors
/// `InvalidArgument`, naming the key.
pub(super) fn options_config(json: &mut JsonOptions, opened: Opened) -> Result<LoadConfig> {
    let Opened { paths, sources } = opened;
    let (vocab_only, backend) = (json.flag("vocab_only")?, backend_kind(json.text("backend")?.as_deref())?);
    let (kv_bytes, pre_tokenizer) = (json.bytes("kv_bytes")?, json.text("pre_tokenizer")?);
    let (chat_template, mmap) = (json.text("chat_template")?, json.flag("mmap")?);
    let (fit, reserve_device_bytes) = (json.flag("fit")?, json.bytes("reserve_device_bytes")?);
    let (quantization, devices) = weight_rules(json).map_err(|e| e.at("options_json"))?;
    Ok(LoadConfig {
        quantization,
        devices,
        fit,
        reserve_device_bytes,
        paths,
        sources,
        vocab_only,
        backend,
        kv_bytes,
        pre_tokenizer,
        chat_template,
        mmap,
        ..LoadConfig::default()
    })
}

/// How weights are held, and where.
fn weight_rules(json: &mut JsonOptions) -> Result<(Quantization, Rules<String>)> {
    let (default, topology) = (json.text("quantize")?, Topology::new(json.value("topology").as_ref())?);
    Ok((Quantization::new(default.as_deref(), &topology)?, topology.rules("device", |name| Ok(name.to_owned()))?))
}

fn kv_type(number: u32) -> Result<Option<KvType>> {
    Ok(match number {
        INF_KV_AUTO => None,
        INF_KV_F32 => Some(KvType::F32),
        INF_KV_F16 => Some(KvType::F16),
        INF_KV_Q8_0 => Some(KvType::Q8_0),
        other => fail!(InvalidArgument, "kv_type {other}: expected INF_KV_AUTO, INF_KV_F32, INF_KV_F16 or INF_KV_Q8_0"),
    })
}

/// As [`kv_type`], by name.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn kv_type_by_name(name: Option<&str>) -> Result<Option<KvType>> {
    match name {
        None | Some("auto") => Ok(None),
        Some("f32") => Ok(Some(KvType::F32)),
        Some("f16") => Ok(Some(KvType::F16)),
        Some("q8_0") => Ok(Some(KvType::Q8_0)),
        Some(other) => fail!(InvalidArgument, "options_json: kv_type {other:?}: expected \"auto\", \"f32\", \"f16\" or \"q8_0\""),
    }
}

fn backend_kind(name: Option<&str>) -> Result<BackendKind> {
    match name {
        None | Some("cpu") => Ok(BackendKind::Cpu),
        Some("candle") => Ok(BackendKind::Candle),
        Some(other) => fail!(InvalidArgument, "options_json: backend {other:?}: expected \"cpu\" or \"candle\""),
    }
}

fn describe_plan(plan: &Plan) -> inf_plan {
    inf_plan {
        struct_size: 0,
        fits: u32::from(plan.fits),
        n_layers: plan.n_layers,
        n_ctx: plan.n_ctx,
        weights_bytes: plan.weights_bytes,
        kv_bytes_per_token: plan.kv_bytes_per_token,
        kv_bytes: plan.kv_bytes,
        scratch_bytes: plan.scratch_bytes,
        host_bytes: plan.host_bytes,
        device_bytes: plan.device_bytes,
        n_layers_on_device: plan.n_layers_on_device,
        reserved: 0,
        device: bytes::field(&plan.device),
    }
}

fn describe(info: &ModelInfo) -> inf_model_info {
    inf_model_info {
        struct_size: 0,
        n_vocab: info.n_vocab,
        n_ctx_max: info.n_ctx_max,
        n_embd: info.n_embd,
        n_layers: info.n_layers,
        capabilities: if info.generates { INF_CAN_GENERATE } else { 0 },
        bos: tokenizer::optional_to_c(info.bos),
        eos: tokenizer::optional_to_c(info.eos),
        n_params: info.n_params,
        architecture: bytes::field(&info.architecture),
        quantization: bytes::field(&info.quantization),
        device: bytes::field(&info.device),
    }
}
