//! Random sequences of C calls with handles that are NULL, freed, of another kind or invented, numbers at the edges and flags of any bits:
//! every call answers a status that its documentation allows, never `INF_ERR_INTERNAL`, and writes outputs only on success.
//!
//! Pointers that are not handles are NULL, misaligned, or right: a wrong one is outside of what C can promise. `make torture` runs a
//! million sequences.
#![expect(clippy::print_stderr, reason = "a hang, and the counts of a torture, are told")]

mod calls;
#[path = "../common/random.rs"]
mod random;
mod world;

use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use world::{Handles, STATUSES, World};

/// Calls of one sequence.
const CALLS_PER_SEQUENCE: u32 = 30;

fn n_sequences(normal: u64, torture: u64) -> u64 {
    if std::env::var_os("INF_TORTURE").is_some_and(|value| value == "1") { torture } else { normal }
}

fn model() -> CString {
    CString::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden/qwen2.gguf")).unwrap()
}

/// Runs sequence `seed` on `handles` and notes the statuses that came.
fn sequence(seed: u64, handles: &Handles, n_threads: u32, seen: &[AtomicU64; STATUSES]) {
    let path = model();
    let mut world = World::new(seed, handles, &path, n_threads);
    for _ in 0..CALLS_PER_SEQUENCE {
        let (_, call) = calls::CALLS[world.random.below(calls::CALLS.len()) as usize];
        call(&mut world);
    }
    for (total, n) in seen.iter().zip(world.seen) {
        total.fetch_add(n, Ordering::Relaxed);
    }
}

/// Ends the process if the sequences stop coming: a deadlock is not waited for.
fn watch(progress: &'static AtomicU64) {
    std::thread::spawn(move || {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = progress.load(Ordering::Relaxed);
            if now == u64::MAX {
                return;
            }
            if now != last {
                (last, since) = (now, Instant::now());
            }
            if since.elapsed() > Duration::from_secs(60) {
                eprintln!("sequence {now} hangs");
                std::process::abort();
            }
        }
    });
}

#[test]
fn sequences_of_one_thread() {
    static PROGRESS: AtomicU64 = AtomicU64::new(0);
    watch(&PROGRESS);
    let seen: [AtomicU64; STATUSES] = Default::default();
    let n = n_sequences(20_000, 1_000_000);
    for seed in 0..n {
        let handles = Handles::default();
        calls::begin(&handles, &model());
        sequence(seed, &handles, 1, &seen);
        calls::free_all(&handles);
        PROGRESS.store(seed + 1, Ordering::Relaxed);
    }
    PROGRESS.store(u64::MAX, Ordering::Relaxed);
    report("one thread", n, &seen);
}

/// Four threads share all handles: a clash is `INF_ERR_BUSY`, a free in the middle of a call is harmless.
#[test]
fn sequences_of_four_threads_at_once() {
    static PROGRESS: AtomicU64 = AtomicU64::new(0);
    watch(&PROGRESS);
    let seen: [AtomicU64; STATUSES] = Default::default();
    let n = n_sequences(300, 20_000);
    for round in 0..n {
        let handles = Handles::default();
        calls::begin(&handles, &model());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (handles, seen) = (&handles, &seen);
                scope.spawn(move || sequence((1 << 40) | (round * 4 + thread), handles, 4, seen));
            }
        });
        calls::free_all(&handles);
        PROGRESS.store(round + 1, Ordering::Relaxed);
    }
    PROGRESS.store(u64::MAX, Ordering::Relaxed);
    report("four threads", n, &seen);
}

/// The statuses that came; those that can come easily must have come, or the sequences miss their aim.
fn report(name: &str, n: u64, seen: &[AtomicU64; STATUSES]) {
    use inference::ffi::status::*;
    let seen: Vec<u64> = seen.iter().map(|n| n.load(Ordering::Relaxed)).collect();
    for status in [
        INF_OK,
        INF_ERR_INVALID_ARGUMENT,
        INF_ERR_INVALID_HANDLE,
        INF_ERR_ABI,
        INF_ERR_BUFFER_TOO_SMALL,
        INF_ERR_CONTEXT_FULL,
        INF_ERR_NOT_READY,
        INF_ERR_SHUTDOWN,
        INF_ERR_BUSY,
    ] {
        assert!(seen[status as usize] > 0, "{name}: status {status} never came: {seen:?}");
    }
    // Only a load with odd parameters is unsupported: a few hundred sequences may not have one.
    assert!(n < 10_000 || seen[INF_ERR_UNSUPPORTED as usize] > 0, "{name}: nothing was unsupported: {seen:?}");
    if n_sequences(0, 1) == 1 {
        eprintln!("c_api_fuzz, {name}: {n} sequences, statuses 0..{STATUSES}: {seen:?}");
    }
}

/// Whoever adds an export adds its calls here.
#[test]
fn every_export_is_called() {
    let mut missing = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi")).unwrap() {
        let path = entry.unwrap().path();
        // What a plugin exports, not the library.
        if path.ends_with("plugin.rs") {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        let names =
            text.split("extern \"C\" fn ").skip(1).filter_map(|rest| rest.split('(').next()).filter(|name| name.starts_with("inf_"));
        missing.extend(names.filter(|name| calls::CALLS.iter().all(|(known, _)| known != name)).map(str::to_owned));
    }
    assert!(missing.is_empty(), "tests/c_api_fuzz/calls.rs does not call {missing:?}");
}
