//! Every export, called with random arguments.

use crate::world::{Handles, Kind, Roomy, World, check_len};
use inference::ffi::chat::*;
use inference::ffi::constraint::*;
use inference::ffi::generation::*;
use inference::ffi::library::*;
use inference::ffi::load::*;
use inference::ffi::model::*;
use inference::ffi::runtime::*;
use inference::ffi::sampler::*;
use inference::ffi::session::*;
use inference::ffi::source::*;
use inference::ffi::state::*;
use inference::ffi::status::*;
use inference::ffi::tokenizer::*;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

/// Calls an export and returns its status and whether that is `INF_OK`.
macro_rules! call {
    ($world:expr, $export:ident($($argument:expr),*)) => {{
        let err = $world.error_place();
        // SAFETY: handles may be anything; every other pointer is NULL, misaligned, or points to as much memory as the arguments beside it say.
        let status = unsafe { $export($($argument,)* err) };
        ($world.judge(stringify!($export), status), status)
    }};
}

/// Names an entry of [`CALLS`] as its export.
macro_rules! table {
    ($($export:ident: $call:expr,)*) => {
        /// Each export with a call of it.
        pub const CALLS: &[(&str, fn(&mut World))] = &[$((stringify!($export), $call)),*];
    };
}

table! {
    inf_status_name: |w| read(inf_status_name(w.number())),
    inf_abi_version: |_| assert_eq!(inf_abi_version(), INF_ABI_VERSION),
    inf_version: |_| read(inf_version()),
    inf_build_info_json: |_| read(inf_build_info_json()),
    inf_runtime_create: runtime_create,
    inf_runtime_free: |w| if w.once_in(4) { inf_runtime_free(w.handle(Kind::Runtime)) },
    inf_runtime_shutdown: runtime_shutdown,
    inf_runtime_pump: runtime_pump,
    inf_runtime_next_log: runtime_next_log,
    // The CPU, and what the machine has beside it, or one line that says why nothing.
    inf_device_count: |w| assert!(inf_device_count(w.handle(Kind::Runtime)) < 32),
    inf_device_get: device_get,
    inf_model_load: model_load,
    inf_model_estimate: model_estimate,
    inf_runtime_memory: runtime_memory,
    inf_load_start: load_start,
    inf_load_start_path: load_start_path,
    inf_load_wait: load_wait,
    inf_load_cancel: |w| inf_load_cancel(w.handle(Kind::Load)),
    inf_load_free: |w| inf_load_free(w.handle(Kind::Load)),
    inf_model_ref: model_ref,
    inf_model_free: |w| if w.once_in(4) { inf_model_free(w.handle(Kind::Model)) },
    inf_model_get_info: model_get_info,
    inf_model_metadata: model_metadata,
    inf_model_save_gguf: |w| { let m = w.handle(Kind::Model); call!(w, inf_model_save_gguf(m, c"/nonexistent/model.gguf".as_ptr())); },
    inf_model_is_eog: |w| assert!(inf_model_is_eog(w.handle(Kind::Model), w.token()) < 2),
    inf_tokenize: tokenize,
    inf_detokenize: detokenize,
    inf_token_bytes: token_bytes,
    inf_chat_render: chat_render,
    inf_sampler_from_json: sampler_from_json,
    inf_sampler_create: sampler_create,
    inf_sampler_clone: sampler_clone,
    inf_sampler_free: |w| if w.once_in(4) { inf_sampler_free(w.handle(Kind::Sampler)) },
    inf_sampler_reset: |w| { let s = w.handle(Kind::Sampler); call!(w, inf_sampler_reset(s)); },
    inf_sampler_set_seed: |w| { let (s, seed) = (w.handle(Kind::Sampler), w.random.next()); call!(w, inf_sampler_set_seed(s, seed)); },
    inf_sampler_add_temperature: |w| { let (s, x) = (w.handle(Kind::Sampler), w.float()); call!(w, inf_sampler_add_temperature(s, x)); },
    inf_sampler_add_top_k: |w| { let (s, k) = (w.handle(Kind::Sampler), w.number()); call!(w, inf_sampler_add_top_k(s, k)); },
    inf_sampler_add_top_p: |w| { let (s, p) = (w.handle(Kind::Sampler), w.float()); call!(w, inf_sampler_add_top_p(s, p)); },
    inf_sampler_add_min_p: |w| { let (s, p) = (w.handle(Kind::Sampler), w.float()); call!(w, inf_sampler_add_min_p(s, p)); },
    inf_sampler_add_dynamic_temperature: |w| {
        let (s, [x, y, z]) = (w.handle(Kind::Sampler), [w.float(), w.float(), w.float()]);
        call!(w, inf_sampler_add_dynamic_temperature(s, x, y, z));
    },
    inf_sampler_add_typical_p: |w| { let (s, p) = (w.handle(Kind::Sampler), w.float()); call!(w, inf_sampler_add_typical_p(s, p)); },
    inf_sampler_add_top_n_sigma: |w| { let (s, n) = (w.handle(Kind::Sampler), w.float()); call!(w, inf_sampler_add_top_n_sigma(s, n)); },
    inf_sampler_add_xtc: |w| { let (s, p, t) = (w.handle(Kind::Sampler), w.float(), w.float()); call!(w, inf_sampler_add_xtc(s, p, t)); },
    inf_sampler_add_mirostat: |w| { let (s, t, e) = (w.handle(Kind::Sampler), w.float(), w.float()); call!(w, inf_sampler_add_mirostat(s, t, e)); },
    inf_sampler_add_dry: sampler_add_dry,
    inf_sampler_add_logit_bias: sampler_add_logit_bias,
    inf_sampler_add_penalties: |w| {
        let (s, n, x, y, z) = (w.handle(Kind::Sampler), w.number(), w.float(), w.float(), w.float());
        call!(w, inf_sampler_add_penalties(s, n, x, y, z));
    },
    inf_sampler_pick: sampler_pick,
    inf_sampler_accept: |w| { let (s, t) = (w.handle(Kind::Sampler), w.token()); call!(w, inf_sampler_accept(s, t)); },
    inf_sampler_set_constraint: sampler_set_constraint,
    inf_session_create: session_create,
    inf_session_fork: session_fork,
    inf_session_save: session_save,
    inf_session_restore: session_restore,
    inf_session_save_file: |w| {
        let s = w.handle(Kind::Session);
        call!(w, inf_session_save_file(s, c"/nonexistent/state".as_ptr()));
    },
    inf_session_restore_file: |w| {
        let s = w.handle(Kind::Session);
        call!(w, inf_session_restore_file(s, c"/nonexistent/state".as_ptr()));
    },
    inf_session_free: |w| if w.once_in(4) { inf_session_free(w.handle(Kind::Session)) },
    inf_session_truncate: |w| { let (s, n) = (w.handle(Kind::Session), w.number()); call!(w, inf_session_truncate(s, n)); },
    inf_session_n_tokens: |w| assert!(inf_session_n_tokens(w.handle(Kind::Session)) <= 512),
    inf_session_append: session_append,
    inf_session_step: session_step,
    inf_session_logits: session_logits,
    inf_generate_start: generate_start,
    inf_generate_json: generate_json,
    inf_generation_next: generation_next,
    inf_generation_cancel: |w| inf_generation_cancel(w.handle(Kind::Generation)),
    inf_generation_free: |w| inf_generation_free(w.handle(Kind::Generation)),
}

/// Makes one of each, so that a sequence begins with handles that live.
pub fn begin(handles: &Handles, path: &CStr) {
    let mut w = World::new(0, handles, path, 1);
    let mut runtime = null_mut();
    let mut params = inf_runtime_params { struct_size: size_of::<inf_runtime_params>() as u32, ..Roomy::zeroed().value };
    params.n_threads = 1;
    assert!(call!(w, inf_runtime_create(&raw const params, &raw mut runtime)).0);
    let source = inf_source { struct_size: size_of::<inf_source>() as u32, path: path.as_ptr(), ..Roomy::zeroed().value };
    let sources = [&raw const source];
    let load = inf_model_params {
        struct_size: size_of::<inf_model_params>() as u32,
        n_sources: 1,
        sources: sources.as_ptr(),
        ..Roomy::zeroed().value
    };
    let (mut model, mut session, mut sampler) = (null_mut(), null_mut(), null_mut());
    assert!(call!(w, inf_model_load(runtime, &raw const load, &raw mut model)).0);
    assert!(call!(w, inf_session_create(model, null(), &raw mut session)).0);
    assert!(call!(w, inf_sampler_create(model, &raw mut sampler)).0);
    w.keep(Kind::Runtime, runtime);
    w.keep(Kind::Model, model);
    w.keep(Kind::Session, session);
    w.keep(Kind::Sampler, sampler);
}

/// Frees `handle`, whatever its state.
pub fn free(kind: Kind, handle: usize) {
    match kind {
        Kind::Runtime => inf_runtime_free(std::ptr::without_provenance_mut(handle)),
        Kind::Model => inf_model_free(std::ptr::without_provenance_mut(handle)),
        Kind::Session => inf_session_free(std::ptr::without_provenance_mut(handle)),
        Kind::Sampler => inf_sampler_free(std::ptr::without_provenance_mut(handle)),
        Kind::Generation => inf_generation_free(std::ptr::without_provenance_mut(handle)),
        Kind::Load => inf_load_free(std::ptr::without_provenance_mut(handle)),
    }
}

/// Frees all handles, those that are dead once more.
pub fn free_all(handles: &Handles) {
    for kind in [Kind::Runtime, Kind::Load, Kind::Generation, Kind::Model, Kind::Sampler, Kind::Session] {
        let known = std::mem::take(&mut *handles[kind as usize].lock());
        // A model may have been retained: as many references as a sequence can take.
        for handle in known.iter().flat_map(|&handle| [handle; 4]) {
            free(kind, handle);
        }
    }
}

/// A static string of the library.
fn read(text: *const c_char) {
    // SAFETY: the header promises a NUL-terminated string that is never freed.
    assert!(!text.is_null() && unsafe { CStr::from_ptr(text) }.to_str().is_ok());
}

fn runtime_pump(w: &mut World) {
    let (mut more, rt, budget) = (7, w.handle(Kind::Runtime), w.one_of(&[0, 1, 100, 2000]));
    let place = w.place(&mut more);
    match call!(w, inf_runtime_pump(rt, budget, place)).0 {
        true => assert!(more <= 1),
        false => assert_eq!(more, 7),
    }
}

fn runtime_create(w: &mut World) {
    let mut params: Roomy<inf_runtime_params> = Roomy::zeroed();
    params.value.n_threads = w.one_of(&[0, 1, 1, 1, 2, 3, 1025, u32::MAX]);
    params.value.thread_priority = w.one_of(&[0, 0, 0, -2, 1, 2, i32::MIN, i32::MAX]);
    params.value.cpu_mask[0] = w.one_of(&[0, 0, 1, 3, u64::MAX, 1 << 63]);
    params.value.spin_us = w.one_of(&[0, 0, 10]);
    params.value.log_level = w.one_of(&[0, 3, 4, 5, u32::MAX]);
    params.value.host_driven = w.one_of(&[0, 0, 0, 1, 1, 2]);
    params.value.host_memory_limit = w.one_of(&[0, 0, 0, 1 << 16, 1 << 30]);
    if w.once_in(3) {
        (params.value.options_json, params.value.options_len) = w.text();
    }
    let (mut out, pointer) = (null_mut(), params.sized(w));
    let place = w.place(&mut out);
    match call!(w, inf_runtime_create(pointer, place)).0 {
        true => w.keep(Kind::Runtime, out),
        false => assert!(out.is_null()),
    }
}

fn runtime_shutdown(w: &mut World) {
    if w.once_in(6) {
        let (rt, wait) = (w.handle(Kind::Runtime), w.one_of(&[0, 1, 100, -1, -2, i32::MIN]));
        call!(w, inf_runtime_shutdown(rt, wait));
    }
}

fn runtime_next_log(w: &mut World) {
    let (mut buffer, mut len, mut level) = ([0; 256], 77, 0);
    let (rt, capacity, place, level) = (w.handle(Kind::Runtime), w.capacity(256), w.place(&mut len), w.place(&mut level));
    let (ok, status) = call!(w, inf_runtime_next_log(rt, buffer.as_mut_ptr(), capacity, place, level));
    check_len(ok, status, len, capacity, 77);
}

fn device_get(w: &mut World) {
    let mut info: Roomy<inf_device_info> = Roomy::zeroed();
    let (rt, i, out) = (w.handle(Kind::Runtime), w.number(), info.sized(w));
    call!(w, inf_device_get(rt, i, out));
}

/// Calls `f` with parameters of a load that are mostly right.
fn with_load(w: &mut World, f: impl FnOnce(&mut World, *const inf_model_params)) {
    // Loading is the slowest call.
    if !w.once_in(4) {
        return;
    }
    let mut source: Roomy<inf_source> = Roomy::zeroed();
    source.value.kind = w.one_of(&[0, 0, 0, 0, 0, 0, 99, u32::MAX]);
    let path = w.path.as_ptr();
    source.value.path =
        w.one_of(&[path, path, path, path, c"".as_ptr(), c"/".as_ptr(), c"/nowhere/x.gguf".as_ptr(), c"\xff".as_ptr(), null()]);
    let sources = [source.sized(w).cast_const(); 2];
    let mut params: Roomy<inf_model_params> = Roomy::zeroed();
    params.value.n_sources = w.one_of(&[1, 1, 1, 1, 0, 2]);
    params.value.sources = if w.once_in(12) { null() } else { sources.as_ptr() };
    params.value.device = w.one_of(&[null(), null(), c"cpu".as_ptr(), c"auto".as_ptr(), c"tpu".as_ptr(), c"\xff".as_ptr()]);
    params.value.n_ctx_hint = w.number();
    params.value.kv_type = w.one_of(&[0, 0, 1, 2, 3, 4, u32::MAX]);
    if w.once_in(3) {
        let options = w.one_of(&[c"{\"vocab_only\":true}", c"{\"backend\":\"candle\"}", c"{\"backend\":1}", c"{\"y\":{}}", c"[", c""]);
        (params.value.options_json, params.value.options_len) = (options.as_ptr(), usize::MAX);
    }
    let pointer = params.sized(w);
    f(w, pointer);
}

fn model_load(w: &mut World) {
    with_load(w, |w, params| {
        let (mut out, rt) = (null_mut(), w.handle(Kind::Runtime));
        let place = w.place(&mut out);
        match call!(w, inf_model_load(rt, params, place)).0 {
            true => w.keep(Kind::Model, out),
            false => assert!(out.is_null()),
        }
    });
}

fn model_estimate(w: &mut World) {
    with_load(w, |w, params| {
        let rt = w.handle(Kind::Runtime);
        let mut plan: Roomy<inf_plan> = Roomy::zeroed();
        let out = plan.sized(w);
        call!(w, inf_model_estimate(rt, params, out));
    });
}

fn runtime_memory(w: &mut World) {
    let rt = w.handle(Kind::Runtime);
    let mut memory: Roomy<inf_memory> = Roomy::zeroed();
    let out = memory.sized(w);
    call!(w, inf_runtime_memory(rt, out));
}

fn load_start(w: &mut World) {
    with_load(w, |w, params| {
        let (mut out, rt) = (null_mut(), w.handle(Kind::Runtime));
        let place = w.place(&mut out);
        match call!(w, inf_load_start(rt, params, place)).0 {
            true => w.keep(Kind::Load, out),
            false => assert!(out.is_null()),
        }
    });
}

fn load_start_path(w: &mut World) {
    if !w.once_in(4) {
        return;
    }
    let good = w.path;
    let path = w.one_of(&[good, good, good, c"", c"/nowhere/x.gguf", c"\xff"]);
    let options = w.one_of(&[c"", c"", c"{}", c"{\"n_ctx\":64}", c"{\"kv_type\":\"f32\"}", c"{\"n_ctx\":\"x\"}", c"{\"y\":1}", c"["]);
    let (mut out, rt) = (null_mut(), w.handle(Kind::Runtime));
    let place = w.place(&mut out);
    match call!(w, inf_load_start_path(rt, path.as_ptr(), usize::MAX, options.as_ptr(), usize::MAX, place)).0 {
        true => w.keep(Kind::Load, out),
        false => assert!(out.is_null()),
    }
}

fn load_wait(w: &mut World) {
    let (mut out, mut progress) = (null_mut(), 0.0f32);
    let (load, timeout) = (w.handle(Kind::Load), w.one_of(&[0, 0, 1, 20]));
    let (place, share) = (w.place(&mut out), if w.once_in(3) { null_mut() } else { &raw mut progress });
    match call!(w, inf_load_wait(load, timeout, share, place)).0 {
        true => w.keep(Kind::Model, out),
        false => assert!(out.is_null()),
    }
    assert!((0.0..=1.0).contains(&progress));
}

fn model_ref(w: &mut World) {
    let model: *mut inf_model = w.handle(Kind::Model);
    if w.once_in(4) && !inf_model_ref(model).is_null() {
        inf_model_free(model);
    }
}

fn model_get_info(w: &mut World) {
    let mut info: Roomy<inf_model_info> = Roomy::zeroed();
    let (m, out) = (w.handle(Kind::Model), info.sized(w));
    if call!(w, inf_model_get_info(m, out)).0 {
        assert_eq!(info.value.n_vocab, 281);
    }
}

fn model_metadata(w: &mut World) {
    let keys = [c"general.name", c"tokenizer.ggml.tokens", c"tokenizer.ggml.token_type", c"qwen2.rope.freq_base", c"none", c"", c"\xff"];
    let key = if w.once_in(12) { null() } else { w.one_of(&keys).as_ptr() };
    let (mut buffer, mut len, m) = (vec![0; 4096], 77, w.handle(Kind::Model));
    let (capacity, place) = (w.capacity(buffer.len()), w.place(&mut len));
    let (ok, status) = call!(w, inf_model_metadata(m, key, buffer.as_mut_ptr(), capacity, place));
    check_len(ok, status, len, capacity, 77);
}

fn tokenize(w: &mut World) {
    let (mut buffer, mut len, m, (text, n)) = ([0; 64], 77, w.handle(Kind::Model), w.text());
    let (capacity, flags, place) = (w.capacity(64), w.flags(), w.place(&mut len));
    let (ok, status) = call!(w, inf_tokenize(m, text, n, flags, buffer.as_mut_ptr(), capacity, place));
    check_len(ok, status, len, capacity, 77);
}

/// An array of tokens with a count that goes with it.
fn array(w: &mut World, tokens: &[i32]) -> (*const i32, usize) {
    match w.random.below(20) {
        0 => (null(), tokens.len()),
        1 => (null(), 0),
        2 => (tokens.as_ptr().wrapping_byte_add(1), tokens.len()),
        3 => (tokens.as_ptr(), usize::MAX),
        4 => (tokens.as_ptr(), usize::MAX / 4),
        _ => (tokens.as_ptr(), tokens.len()),
    }
}

fn detokenize(w: &mut World) {
    let tokens = w.tokens();
    let ((tokens, n), mut buffer, mut len, m) = (array(w, &tokens), vec![0; 1024], 77, w.handle(Kind::Model));
    let (capacity, flags, place) = (w.capacity(1024), w.flags(), w.place(&mut len));
    let (ok, status) = call!(w, inf_detokenize(m, tokens, n, flags, buffer.as_mut_ptr(), capacity, place));
    check_len(ok, status, len, capacity, 77);
}

fn token_bytes(w: &mut World) {
    let (mut buffer, mut len, m, t) = ([0; 16], 77, w.handle(Kind::Model), w.token());
    let (capacity, place) = (w.capacity(16), w.place(&mut len));
    let (ok, status) = call!(w, inf_token_bytes(m, t, buffer.as_mut_ptr(), capacity, place));
    check_len(ok, status, len, capacity, 77);
}

fn sampler_create(w: &mut World) {
    let (mut out, m) = (null_mut(), w.handle::<inf_model>(Kind::Model));
    let place = w.place(&mut out);
    match call!(w, inf_sampler_create(m, place)).0 {
        true => w.keep(Kind::Sampler, out),
        false => assert!(out.is_null()),
    }
}

fn sampler_clone(w: &mut World) {
    let (mut out, s) = (null_mut(), w.handle::<inf_sampler>(Kind::Sampler));
    let place = w.place(&mut out);
    match call!(w, inf_sampler_clone(s, place)).0 {
        true => w.keep(Kind::Sampler, out),
        false => assert!(out.is_null()),
    }
}

fn sampler_from_json(w: &mut World) {
    let m = w.handle(Kind::Model);
    let (json, n) =
        chat_text(w, &[c"{\"top_k\":3,\"seed\":1}", c"{\"dry_multiplier\":1,\"xtc_probability\":0.5}", c"{\"mirostat_tau\":0}"]);
    let mut out = null_mut();
    let place = w.place(&mut out);
    match call!(w, inf_sampler_from_json(m, json, n, place)).0 {
        true => w.keep(Kind::Sampler, out),
        false => assert!(out.is_null()),
    }
}

fn sampler_add_dry(w: &mut World) {
    let (s, multiplier, base, allowed, last) = (w.handle(Kind::Sampler), w.float(), w.float(), w.number(), w.number());
    let (breakers, n) = w.text();
    call!(w, inf_sampler_add_dry(s, multiplier, base, allowed, last, breakers, n));
}

fn sampler_add_logit_bias(w: &mut World) {
    let (s, tokens) = (w.handle(Kind::Sampler), w.tokens());
    let bias: Vec<f32> = tokens.iter().map(|_| w.float()).collect();
    call!(w, inf_sampler_add_logit_bias(s, tokens.as_ptr(), bias.as_ptr(), tokens.len()));
}

fn sampler_set_constraint(w: &mut World) {
    let sources = [c"[a-z]+", c"{\"type\":\"object\"}", c"start: \"a\" start | \"b\"", c"root ::= \"a\"*", c"("];
    let (s, kind) = (w.handle(Kind::Sampler), w.one_of(&[0, 1, 2, 3, 4, 5, 6, u32::MAX]));
    let (source, n) = chat_text(w, &sources);
    call!(w, inf_sampler_set_constraint(s, kind, source, n));
}

fn sampler_pick(w: &mut World) {
    let logits: Vec<f32> = (0..281).map(|_| w.float()).collect();
    let (mut out, s, n) = (-7, w.handle(Kind::Sampler), w.one_of(&[281, 281, 281, 0, 280]));
    let (logits, place) = (if w.once_in(12) { null() } else { logits.as_ptr() }, w.place(&mut out));
    match call!(w, inf_sampler_pick(s, logits, n, place)).0 {
        true => assert!((0..281).contains(&out)),
        false => assert_eq!(out, -7),
    }
}

fn session_create(w: &mut World) {
    let mut params: Roomy<inf_session_params> = Roomy::zeroed();
    (params.value.n_ctx, params.value.prefill_chunk) = (w.number(), w.number());
    params.value.flags = w.one_of(&[0, 0, 0, INF_SESSION_NO_SHARED_PREFIX, 1 << 31]);
    (params.value.overflow, params.value.n_keep) = (w.one_of(&[0, 0, 1, 1, 2, 3]), w.one_of(&[0, 0, 0, 5, 64, u32::MAX]));
    (params.value.priority, params.value.reserved) = (w.one_of(&[0, 0, 3, i32::MIN, i32::MAX]), w.one_of(&[0, 0, 0, 0, 1]));
    let (mut out, m, pointer) = (null_mut(), w.handle(Kind::Model), params.sized(w));
    let place = w.place(&mut out);
    match call!(w, inf_session_create(m, pointer, place)).0 {
        true => w.keep(Kind::Session, out),
        false => assert!(out.is_null()),
    }
}

fn session_fork(w: &mut World) {
    let (mut out, s) = (null_mut(), w.handle(Kind::Session));
    let place = w.place(&mut out);
    match call!(w, inf_session_fork(s, place)).0 {
        true => w.keep(Kind::Session, out),
        false => assert!(out.is_null()),
    }
}

fn session_save(w: &mut World) {
    let (s, mut len) = (w.handle(Kind::Session), 77);
    let mut buf = [0_u8; 256];
    let cap = w.one_of(&[0, 1, 255, 256]);
    let (start, place) = (if cap == 0 { null_mut() } else { buf.as_mut_ptr() }, w.place(&mut len));
    call!(w, inf_session_save(s, start.cast(), cap, place));
}

fn session_restore(w: &mut World) {
    let s = w.handle(Kind::Session);
    let mut buf = *b"INFSTATE\x01\0\0\0\0\0\0\0________________\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0________";
    let at = w.random.below(buf.len()) as usize;
    buf[at] = w.number() as u8;
    let len = w.one_of(&[0, 1, 8, 40, buf.len()]);
    assert!(!call!(w, inf_session_restore(s, buf.as_ptr().cast(), len)).0);
}

fn session_append(w: &mut World) {
    let tokens = w.tokens();
    let ((tokens, n), s) = (array(w, &tokens), w.handle(Kind::Session));
    call!(w, inf_session_append(s, tokens, n));
}

fn session_step(w: &mut World) {
    let mut step: Roomy<inf_step> = Roomy::zeroed();
    let (s, budget, flags) = (w.handle(Kind::Session), w.one_of(&[0, 1, 10, 1000, u32::MAX]), w.one_of(&[0, 0, 1, 1, 2, u32::MAX]));
    let sampler = if w.once_in(3) { null_mut() } else { w.handle(Kind::Sampler) };
    let out = step.sized(w);
    if call!(w, inf_session_step(s, sampler, budget, flags, out)).0 {
        assert!(step.value.state <= INF_STEP_END && (-1..281).contains(&step.value.token));
    }
}

fn session_logits(w: &mut World) {
    let (mut logits, mut n, s) = (null(), 77, w.handle(Kind::Session));
    let (place, place_n) = (w.place(&mut logits), w.place(&mut n));
    match call!(w, inf_session_logits(s, place, place_n)).0 {
        // Borrowed until the next call on the session, which another thread may make.
        true if w.n_threads == 1 => {
            // SAFETY: the header promises `n` floats until then.
            let logits = unsafe { std::slice::from_raw_parts(logits, n) };
            assert!(n == 281 && logits.iter().all(|logit| logit.is_finite()));
        }
        true => {}
        false => assert!(logits.is_null() && n == 77),
    }
}

/// Messages or another text.
fn chat_text(w: &mut World, texts: &[&'static CStr]) -> (*const c_char, usize) {
    if w.once_in(2) { (w.one_of(texts).as_ptr(), usize::MAX) } else { w.text() }
}

const MESSAGES: [&CStr; 3] = [
    c"[{\"role\":\"user\",\"content\":\"hello\"}]",
    c"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}]",
    c"[{\"content\":1}]",
];
const CHAT_OPTIONS: [&CStr; 5] = [
    c"{\"chat_template\":\"{{ messages }}\"}",
    c"{\"now\":0}",
    c"{\"chat_template\":\"{% for\"}",
    c"{\"response_format\":{\"type\":\"json_object\"}}",
    c"{\"tool_choice\":\"required\"}",
];

fn chat_render(w: &mut World) {
    let m = w.handle(Kind::Model);
    let ((messages, n), (tools, n_tools), (options, n_options)) = (chat_text(w, &MESSAGES), w.text(), chat_text(w, &CHAT_OPTIONS));
    let (mut buffer, mut len) = ([0; 64], 77);
    let (capacity, place) = (w.capacity(64), w.place(&mut len));
    let start = buffer.as_mut_ptr();
    let (ok, status) = call!(w, inf_chat_render(m, messages, n, tools, n_tools, options, n_options, start, capacity, place));
    check_len(ok, status, len, capacity, 77);
}

fn generate_json(w: &mut World) {
    let s = w.handle(Kind::Session);
    let requests = [
        c"{\"text\":\"a\",\"max_tokens\":3}",
        c"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":2}",
        c"{\"stop\":[1]}",
    ];
    let (request, n) = chat_text(w, &requests);
    let mut out = null_mut();
    let place = w.place(&mut out);
    match call!(w, inf_generate_json(s, request, n, place)).0 {
        true => w.keep(Kind::Generation, out),
        false => assert!(out.is_null()),
    }
}

/// Counts nothing, calls nothing: what a wake hook may do.
unsafe extern "C" fn wake(_user: *mut c_void, _tag: u64) {}

fn generate_start(w: &mut World) {
    let mut params: Roomy<inf_generate_params> = Roomy::zeroed();
    params.value.max_tokens = w.one_of(&[0, 1, 2, 8, u32::MAX]);
    (params.value.text, params.value.text_len) = w.text();
    if w.once_in(4) {
        (params.value.messages_json, params.value.messages_len) = chat_text(w, &MESSAGES);
        (params.value.options_json, params.value.options_len) = chat_text(w, &CHAT_OPTIONS);
        (params.value.tools_json, params.value.tools_len) = w.text();
    }
    if w.once_in(3) {
        (params.value.stop_json, params.value.stop_len) = w.text();
    }
    if w.once_in(2) {
        params.value.sampler = w.handle::<inf_sampler>(Kind::Sampler);
    }
    params.value.queue_capacity = w.one_of(&[0, 1, 2, u32::MAX]);
    params.value.wake = if w.once_in(2) { Some(wake) } else { None };
    params.value.n_draft = w.one_of(&[0, 0, 1, 8, 16, 17]);
    if w.once_in(4) {
        params.value.draft = w.handle::<inf_model>(Kind::Model);
    }
    params.value.top_logprobs = w.one_of(&[0, 0, 0, 1, 20, 21]);
    let (mut out, s, pointer) = (null_mut(), w.handle(Kind::Session), params.sized(w));
    let place = w.place(&mut out);
    match call!(w, inf_generate_start(s, pointer, place)).0 {
        true => w.keep(Kind::Generation, out),
        false => assert!(out.is_null()),
    }
}

fn generation_next(w: &mut World) {
    let mut event: Roomy<inf_event> = Roomy::zeroed();
    let (g, wait, out) = (w.handle(Kind::Generation), w.one_of(&[0, 0, 1, 20, -1, -2, i32::MIN]), event.sized(w));
    let (ok, _) = call!(w, inf_generation_next(g, wait, out));
    if ok && w.n_threads == 1 {
        let inf_event { text, text_len, error_text, error_len, tokens, n_tokens, status, .. } = event.value;
        // SAFETY: the header promises texts with a NUL behind them and `n_tokens` tokens, until the next call on this handle.
        let (text, error, tokens) = unsafe { (CStr::from_ptr(text), CStr::from_ptr(error_text), tokens.is_aligned() && !tokens.is_null()) };
        assert!(text.to_str().is_ok() && text.to_bytes().len() <= text_len && error.to_bytes().len() == error_len);
        assert!((tokens || n_tokens == 0) && status != INF_ERR_INTERNAL, "status {status}: {error:?}");
    }
}
