//! Loads in the background: start, wait, cancel.

use super::boundary;
use super::bytes::{self, Out};
use super::handle::{self, Handle};
use super::model::{self, inf_model, inf_model_params};
use super::options::{self, JsonOptions};
use super::runtime::inf_runtime;
use super::source::Opened;
use super::status::{inf_error, inf_status};
use crate::engine::Load;
use crate::error::{ErrorKind, Result};
use crate::fail;
use crate::sys::progress::ALMOST;
use std::ffi::c_char;
use std::path::PathBuf;
use std::sync::Arc;

/// A model load in progress. Any thread.
pub struct inf_load {
    _opaque: [u8; 0],
}

impl Handle for inf_load {
    const KIND: u8 = 2;
    const NAME: &'static str = "load";
    type Object = Load;
}

/// Starts to load a model in the background. Everything in p is read during the call and may go afterwards, except memory and readers, which are
/// in use until their release. What is wrong with the files is told by `inf_load_wait`. wake of p is called when the load has ended.
///
/// The caller owns `*out` and gives it back with `inf_load_free`. Any thread, any number at once, also inside a hook. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: a parameter is impossible; nothing started.
/// - `INF_ERR_IO`: a native handle is not an open regular file; nothing started.
/// - `INF_ERR_FORMAT`: the file of a native handle is shorter than offset and size say; nothing started.
/// - `INF_ERR_OUT_OF_MEMORY`: no thread can be started; nothing started.
///
/// After any of them the sources are released. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_load_start(
    rt: *mut inf_runtime,
    p: *const inf_model_params,
    out: *mut *mut inf_load,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let request = model::Request::take(p);
            let runtime = handle::get(rt.cast_const())?;
            let out = Out::new("out", out)?;
            let (config, wake) = request.config()?;
            out.set(handle::insert(Arc::new(Load::start(&runtime, config, wake)?))?);
            Ok(())
        })
    }
}

/// Starts to load the file at path in the background: `inf_load_start` without structs, for callers from other languages.
///
/// options_json: `{"device":"cpu","n_ctx":4096,"kv_type":"f16","kv_bytes":0,"backend":"cpu","vocab_only":false,"pre_tokenizer":"...","chat_template":"...",
/// "quantize":"q4_k","topology":[...],"fit":false,"reserve_device_bytes":0,"mmap":false}`, all optional, with the
/// meaning of the fields and options of inf_model_params; kv_type is "auto", "f32", "f16" or "q8_0". NULL = none. An unknown key is an error that names it.
///
/// The caller owns `*out` and gives it back with `inf_load_free`. Any thread, also inside a hook. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: a parameter is impossible; nothing started.
/// - `INF_ERR_OUT_OF_MEMORY`: no thread can be started; nothing started.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_load_start_path(
    rt: *mut inf_runtime,
    path: *const c_char,
    path_len: usize,
    options_json: *const c_char,
    options_len: usize,
    out: *mut *mut inf_load,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let runtime = handle::get(rt.cast_const())?;
            let out = Out::new("out", out)?;
            let path = bytes::text("path", path, path_len)?;
            if path.is_empty() {
                fail!(InvalidArgument, "path: empty");
            }
            let mut json = JsonOptions::parse(options_json, options_len)?;
            let mut config = model::options_config(&mut json, Opened { paths: vec![PathBuf::from(path)], sources: Vec::new() })?;
            config.device = json.text("device")?.unwrap_or_default();
            config.n_ctx = json.number("n_ctx")?;
            config.kv = model::kv_type_by_name(json.text("kv_type")?.as_deref())?;
            json.finish()?;
            out.set(handle::insert(Arc::new(Load::start(&runtime, config, None)?))?);
            Ok(())
        })
    }
}

/// Waits for the end of a load: 0 polls, above 0 waits so many milliseconds, `INF_WAIT_FOREVER` waits until it ends. `INF_OK` once, with the model
/// in `*out`; what made a load fail is answered each time.
///
/// progress, which may be NULL, gets the share of the weights' bytes that have been read, with `INF_ERR_TIMEOUT` and with `INF_OK`: from 0, never falling,
/// 1 only with `INF_OK`. The caller owns `*out` and gives it back with `inf_model_free`. Any thread. Blocks as long as asked.
///
/// - `INF_ERR_TIMEOUT`: it is still loading.
/// - `INF_ERR_IO`: a source cannot be opened or read; the message names it.
/// - `INF_ERR_FORMAT`: not a model, corrupt, or truncated; the message says what and where.
/// - `INF_ERR_UNSUPPORTED`: an architecture, type, tokenizer or kind of file that this build does not have; the message names it.
/// - `INF_ERR_NO_DEVICE`: no such device.
/// - `INF_ERR_OUT_OF_MEMORY`: `detail[0]` = bytes wanted.
/// - `INF_ERR_BUDGET`: its weights exceed host_memory_limit; `detail` = bytes wanted, bytes left.
/// - `INF_ERR_CANCELLED`: it was cancelled, by you or by `inf_runtime_shutdown`; its memory is back and its sources are released.
/// - `INF_ERR_INVALID_ARGUMENT`: an earlier call handed out the model.
/// - `INF_ERR_BUSY`: a wait inside a hook.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_load_wait(
    ld: *mut inf_load,
    timeout_ms: i32,
    progress: *mut f32,
    out: *mut *mut inf_model,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let load = handle::get(ld.cast_const())?;
            let out = Out::new("out", out)?;
            let progress = if progress.is_null() { None } else { Some(Out::new("progress", progress)?) };
            let outcome = load.wait(options::wait(timeout_ms)?, |model| handle::insert(model.clone()));
            tell_progress(&load, &outcome, progress);
            out.set(outcome?);
            Ok(())
        })
    }
}

/// Ends a load as soon as the read in flight is done; `inf_load_wait` then answers `INF_ERR_CANCELLED`. A load that has ended stays as it is. Dead
/// handles are ignored.
///
/// Any thread. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_load_cancel(ld: *mut inf_load) {
    boundary::quiet(|| {
        if let Ok(load) = handle::get(ld.cast_const()) {
            load.cancel();
        }
    });
}

/// Gives a load back, and cancels it if it runs; a thread that waits for it gets `INF_ERR_CANCELLED`. A model that it handed out lives on. NULL and
/// dead handles are ignored.
///
/// Any thread. Does not wait for the load to end: memory and readers are in use until their release. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_load_free(ld: *mut inf_load) {
    boundary::quiet(|| {
        if let Ok(load) = handle::get(ld.cast_const()) {
            handle::free(ld);
            load.cancel();
        }
    });
}

fn tell_progress(load: &Load, outcome: &Result<*mut inf_model>, progress: Option<Out<f32>>) {
    let Some(place) = progress else { return };
    match outcome {
        Ok(_) => place.set(1.0),
        Err(e) if e.kind() == ErrorKind::Timeout => place.set(load.progress().min(ALMOST)),
        Err(_) => {}
    }
}
