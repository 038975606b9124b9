//! Runtimes: threads, devices, log. One file, one section of the header, one test in `tests/c`.

use super::boundary;
use super::bytes::{self, Buffer, Out};
use super::handle::{self, Handle};
use super::hooks;
use super::options::{self, JsonOptions, OutStruct, Versioned};
use super::status::{inf_error, inf_status};
use crate::engine::{DeviceInfo, Runtime, RuntimeConfig};
use crate::error::Result;
use crate::fail;
use crate::sys::pool::PoolConfig;
use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Threads, devices and log. Any number may exist; nothing is global. Any thread.
pub struct inf_runtime {
    _opaque: [u8; 0],
}

impl Handle for inf_runtime {
    const KIND: u8 = 1;
    const NAME: &'static str = "runtime";
    type Object = Runtime;
}

/// Receives log lines, on whichever thread logs. level: 1 error, 2 warning, 3 info, 4 debug. msg has len bytes and a NUL behind them, and is
/// gone when the function returns.
pub type inf_log_fn = Option<unsafe extern "C" fn(user: *mut c_void, level: u32, msg: *const c_char, len: usize)>;

/// Called on each thread that the library makes, with starting 1 at its start and 0 at its end: to name it, to attach it to a profiler or a VM.
pub type inf_thread_fn = Option<unsafe extern "C" fn(user: *mut c_void, starting: u32)>;

/// "Something is ready": carries no data, is called on a thread of the library, must not block and must not throw.
pub type inf_wake_fn = Option<unsafe extern "C" fn(user: *mut c_void, tag: u64)>;

/// What a host asks of a runtime. Zero means default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_runtime_params {
    /// `sizeof(inf_runtime_params)`
    pub struct_size: u32,
    /// Threads that compute, the calling one included. 0 = physical cores - 1.
    pub n_threads: u32,
    /// 1: the library makes no threads, `inf_runtime_pump` and calls that wait do the work on yours, and n_threads must be 0 or 1.
    pub host_driven: u32,
    /// Urgency of the workers: -2 idle, -1 low, 0 normal, 1 high. What the system refuses is ignored.
    pub thread_priority: i32,
    /// CPUs that the workers may run on: bit i % 64 of word i / 64 is CPU i. All zero = unrestricted.
    pub cpu_mask: [u64; 4],
    /// Most bytes for weights, keys and values, activations and logits of all models together. 0 = unlimited. What would exceed it is
    /// `INF_ERR_BUDGET`.
    pub host_memory_limit: u64,
    /// Busy-wait of a worker before it parks, in microseconds. 0 = park at once: best for a game, spin for throughput.
    pub spin_us: u32,
    /// Lines up to this level are kept; 0 = none.
    pub log_level: u32,
    /// Optional; without it lines wait for `inf_runtime_next_log`.
    pub log: inf_log_fn,
    /// Handed to log.
    pub log_user: *mut c_void,
    /// Optional.
    pub thread: inf_thread_fn,
    /// Handed to thread.
    pub thread_user: *mut c_void,
    /// `{"kernels":"avx2"}` forces a kernel set (see `inf_build_info_json`). `{"plugin_path":"..."}` is where `libinference_cuda.so` lies, if not beside
    /// this library. `{"device_memory_limit":8000000000}` is the most bytes of each GPU for weights, keys and values.
    /// The set `amx`, the best one where it exists, asks Linux for the use of its registers (`ARCH_REQ_XCOMP_PERM`): the process has the
    /// permission from then on, and signal stacks (`sigaltstack`) below `getauxval(AT_MINSIGSTKSZ)` are refused. Where it is not given,
    /// and where another set is forced, nothing changes.
    /// NULL = none. An unknown key is an error that names it.
    pub options_json: *const c_char,
    /// Bytes of options_json, or `INF_NUL`.
    pub options_len: usize,
}

// SAFETY: repr(C), begins with struct_size; integers, pointers and optional function pointers.
unsafe impl Versioned for inf_runtime_params {
    const NAME: &'static str = "inf_runtime_params";
    const FIRST_SIZE: usize = offset_of!(Self, options_len) + size_of::<usize>();
}

/// Bytes that a runtime holds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_memory {
    /// `sizeof(inf_memory)`
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Bytes of host memory held now.
    pub host: u64,
    /// The most that were ever held.
    pub host_peak: u64,
    /// Bytes that may still be held: `UINT64_MAX` minus host without a limit.
    pub host_left: u64,
}

// SAFETY: repr(C), begins with struct_size; integers only.
unsafe impl Versioned for inf_memory {
    const NAME: &'static str = "inf_memory";
    const FIRST_SIZE: usize = offset_of!(Self, host_left) + size_of::<u64>();
}

/// One device of this machine, usable or not.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_device_info {
    /// `sizeof(inf_device_info)`
    pub struct_size: u32,
    /// 0 = CPU, 1 = a GPU by CUDA.
    pub kind: u32,
    /// Its number among its kind.
    pub index: u32,
    /// 1, or 0: then reason says why not.
    pub usable: u32,
    /// Bytes; 0 = unknown.
    pub memory_total: u64,
    /// Bytes not in use now; 0 = unknown.
    pub memory_free: u64,
    /// Name for `inf_model_params.device`: "cpu", "cuda:0".
    pub id: [c_char; 32],
    /// Name for people; of a GPU with its UUID, which `inf_model_params.device` takes, too.
    pub name: [c_char; 96],
    /// Why it is not usable (no plugin, no driver, a driver that is too old, a GPU that the plugin has no code for); empty if it is.
    pub reason: [c_char; 128],
}

// SAFETY: repr(C), begins with struct_size; integers only.
unsafe impl Versioned for inf_device_info {
    const NAME: &'static str = "inf_device_info";
    const FIRST_SIZE: usize = offset_of!(Self, reason) + 128;
}

/// Makes a runtime and starts its threads. params may be NULL.
///
/// The caller owns `*out` and gives it back with `inf_runtime_free`. Any thread. Does not block.
///
/// - `INF_ERR_INVALID_ARGUMENT`: an impossible number, or options that are not understood.
/// - `INF_ERR_UNSUPPORTED`: this machine cannot run the kernels asked for; the message lists those it can.
/// - `INF_ERR_OUT_OF_MEMORY`: the system refuses memory or threads.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_runtime_create(
    params: *const inf_runtime_params,
    out: *mut *mut inf_runtime,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let out = Out::new("out", out)?;
            let config = config(&options::read_or_default(params)?)?;
            out.set(handle::insert(Runtime::new(config)?)?);
            Ok(())
        })
    }
}

/// Lets go of a runtime. Models, sessions and what still runs keep it alive, so any order of freeing is right; its threads end with the last of
/// them, which may be after this call: after `inf_runtime_shutdown` none of your log and thread functions is called any more, after this alone
/// one may be. NULL and dead handles are ignored.
///
/// Any thread, also from inside a hook. Blocks until the threads have ended, if nothing else keeps them. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_runtime_free(rt: *mut inf_runtime) {
    boundary::quiet(|| handle::free(rt));
}

/// Cancels what runs, a step on another thread of yours included, and joins the threads. Models and sessions of the runtime answer `INF_ERR_SHUTDOWN` from now on and can still be freed.
///
/// Any thread. Blocks for at most timeout_ms (`INF_WAIT_FOREVER`: until done).
///
/// - `INF_ERR_TIMEOUT`: work is still ending; nothing new starts; call again.
/// - `INF_ERR_BUSY`: called from inside a hook; nothing happened.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_runtime_shutdown(rt: *mut inf_runtime, timeout_ms: i32, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe { boundary::status(err, || handle::get(rt.cast_const())?.shutdown(options::wait(timeout_ms)?)) }
}

/// Works for about budget_us microseconds on the calling thread: at loads, prompts and tokens, in slices that pause between the stages of a layer.
/// Chunks are cut so that a stage takes at most half of the budget, by what stages took before, and one that would end too late is left to the next
/// call; but one slice is always run, budget 0 included. The tokenizer and the tensors of a load, and the shift of a full context, advance in slices, too; a slice
/// of a load can last as long as the system takes to clear a huge page of 2 MiB, which a virtual machine may first have to get from its host. One-off
/// jobs are one slice each: rendering and tokenising a prompt, compiling a chat template or a constraint (mostly a few milliseconds), one of the tries
/// of the vocabulary that the first constraint of a model needs (the rest of them advances in slices), comparing a draft model's vocabulary at the start of a generation.
///
/// `*more` is 1 if work may remain, or if another thread is pumping: then this call returns at once. In host_driven mode every call that waits (a load, the next
/// event, a shutdown) pumps until it has what it waits for; hooks are called on the thread
/// that pumps or cancels. Any thread. Blocks for about the budget.
///
/// - `INF_ERR_INVALID_ARGUMENT`: the runtime was not made with host_driven.
/// - `INF_ERR_BUSY`: called from inside a hook.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_runtime_pump(rt: *mut inf_runtime, budget_us: u32, more: *mut u32, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let runtime = handle::get(rt.cast_const())?;
            let out = Out::new("more", more)?;
            out.set(u32::from(runtime.pump(Duration::from_micros(u64::from(budget_us)))?));
            Ok(())
        })
    }
}

/// Takes the oldest log line that waits, if log was not set. No line: `INF_OK` with `*len` 0 and `*level` 0. Asking for the size
/// (buf NULL) takes nothing. The newest 256 lines are kept.
///
/// Any thread. Never blocks.
///
/// - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed; the line is still there.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_runtime_next_log(
    rt: *mut inf_runtime,
    buf: *mut c_char,
    cap: usize,
    len: *mut usize,
    level: *mut u32,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let runtime = handle::get(rt.cast_const())?;
            take_log_line(&runtime, &Buffer::new(buf.cast(), cap, len)?, &Out::new("level", level)?)
        })
    }
}

/// Accounts for memory: weights, keys and values (also those that no session uses and that are kept for the next one), activations, logits. Tokenizers,
/// queues and other small things are not counted, nor are weights that stay in a mapped file: those are the system's, which may share and drop them.
///
/// out is the caller's, with struct_size set. Any thread. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_runtime_memory(rt: *const inf_runtime, out: *mut inf_memory, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let runtime = handle::get(rt)?;
            let memory = runtime.memory();
            let (host, host_peak, host_left) = (memory.now(), memory.peak(), memory.left());
            OutStruct::new(out)?.set(&inf_memory { struct_size: 0, reserved: 0, host, host_peak, host_left });
            Ok(())
        })
    }
}

/// How many devices this machine has: the CPU, and every GPU; where no GPU can be looked for, one entry stands for them and says why. 0 for a dead handle.
///
/// Any thread. Blocks for the first call alone, which loads the plugin if there is one. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_device_count(rt: *const inf_runtime) -> u32 {
    boundary::value(0, || Ok(handle::get(rt)?.devices().len() as u32))
}

/// Describes device i, counted from 0.
///
/// out is the caller's, with struct_size set. Any thread. Blocks as `inf_device_count`.
///
/// - `INF_ERR_INVALID_ARGUMENT`: there is no device i.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_device_get(rt: *const inf_runtime, i: u32, out: *mut inf_device_info, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let devices = handle::get(rt)?.devices();
            let out = OutStruct::new(out)?;
            let Some(device) = devices.get(i as usize) else { fail!(InvalidArgument, "device {i}: there are {}", devices.len()) };
            out.set(&describe(device));
            Ok(())
        })
    }
}

/// # Safety
/// The pointers in `params` are as the header demands.
unsafe fn config(params: &inf_runtime_params) -> Result<RuntimeConfig> {
    // SAFETY: passed on from the caller.
    let mut json = unsafe { JsonOptions::parse(params.options_json, params.options_len) }?;
    let (kernels, plugin) = (json.text("kernels")?, json.text("plugin_path")?.map(PathBuf::from));
    let device_memory_limit = json.bytes("device_memory_limit")?;
    json.finish()?;
    Ok(RuntimeConfig {
        pool: PoolConfig {
            n_threads: params.n_threads as usize,
            spin_us: params.spin_us,
            cpu_mask: (params.cpu_mask != [0; 4]).then_some(params.cpu_mask),
            priority: params.thread_priority,
            hook: hooks::thread_hook(params.thread, params.thread_user),
        },
        host_driven: options::switch("host_driven", params.host_driven)?,
        memory_limit: params.host_memory_limit,
        log_level: params.log_level,
        log: hooks::log_sink(params.log, params.log_user),
        device_memory_limit,
        kernels,
        plugin,
    })
}

fn take_log_line(runtime: &Arc<Runtime>, buffer: &Buffer<u8>, level: &Out<u32>) -> Result<()> {
    let mut outcome = Ok(());
    runtime.next_log(|line| {
        let (number, text) = line.map_or((0, ""), |(level, text)| (level as u32, text));
        outcome = buffer.fill_string(text.as_bytes());
        if outcome.is_ok() {
            level.set(number);
        }
        line.is_some() && outcome.is_ok() && !buffer.asks_for_size()
    });
    outcome
}

fn describe(device: &DeviceInfo) -> inf_device_info {
    let name = if device.uuid.is_empty() { device.name.clone() } else { format!("{} {}", device.name, device.uuid) };
    inf_device_info {
        struct_size: 0,
        kind: device.kind as u32,
        index: device.index,
        usable: u32::from(device.unusable.is_none()),
        memory_total: device.memory_total,
        memory_free: device.memory_free,
        id: bytes::field(&device.id),
        name: bytes::field(&name),
        reason: bytes::field(device.unusable.as_deref().unwrap_or("")),
    }
}
