//! A runtime that makes no thread: the host pumps, or waits, and everything happens then.
#![cfg(target_os = "linux")]

use inference::engine::{
    EventKind, Finish, GenerateParams, Generation, Load, LoadConfig, Model, Prompt, Runtime, RuntimeConfig, Sampler, Session,
    SessionConfig, Wait,
};
use inference::error::ErrorKind;
use inference::sys::pool::PoolConfig;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

fn runtime(host_driven: bool) -> Arc<Runtime> {
    let pool = PoolConfig { n_threads: if host_driven { 0 } else { 2 }, ..PoolConfig::default() };
    Runtime::new(RuntimeConfig { pool, host_driven, ..RuntimeConfig::default() }).unwrap()
}

fn config() -> LoadConfig {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/qwen2.gguf");
    LoadConfig { paths: vec![path], ..LoadConfig::default() }
}

fn ask(model: &Model, prompt: &[u32], max_tokens: u32) -> GenerateParams {
    let sampler = Some(Sampler::new(model.info().n_vocab as usize));
    GenerateParams { prompt: Prompt::Tokens(prompt.to_vec()), max_tokens, sampler, ..GenerateParams::default() }
}

fn n_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Pumps until nothing is left to do.
fn pump_all(runtime: &Runtime, budget: Duration) {
    let started = Instant::now();
    while runtime.pump(budget).unwrap() {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not end");
    }
}

/// The tokens that a generation has told, which has ended.
fn told(generation: &Generation) -> Vec<u32> {
    let mut tokens = Vec::new();
    loop {
        let event = generation.next(Wait::Poll).unwrap();
        assert_ne!(event.kind, EventKind::None, "it has not ended");
        tokens.extend(&event.tokens);
        if event.kind == EventKind::Done {
            return tokens;
        }
    }
}

fn session(model: &Arc<Model>) -> Arc<Session> {
    Session::new(model, SessionConfig::default()).unwrap()
}

#[test]
fn tokens_are_those_of_threads_for_every_budget() {
    let prompts: Vec<Vec<u32>> = (0..4u32).map(|i| (0..60 + i * 30).map(|j| (i * 31 + j * 7) % 200).collect()).collect();
    let run = |model: &Arc<Model>, pump: &dyn Fn()| {
        let sessions: Vec<_> = prompts.iter().map(|_| session(model)).collect();
        let start = |(s, prompt): (&Arc<Session>, &Vec<u32>)| Generation::start(s, ask(model, prompt, 20)).unwrap();
        let running: Vec<_> = sessions.iter().zip(&prompts).map(start).collect();
        pump();
        running.iter().for_each(|generation| while generation.next(Wait::Forever).unwrap().kind != EventKind::Done {});
        sessions.iter().map(|s| s.tokens().unwrap()).collect::<Vec<_>>()
    };
    let expected = run(&Model::load(&runtime(false), &config()).unwrap(), &|| {});
    for budget in [0, 50, 1000, 100_000] {
        let runtime = runtime(true);
        let model = Model::load(&runtime, &config()).unwrap();
        assert_eq!(run(&model, &|| pump_all(&runtime, Duration::from_micros(budget))), expected, "{budget} us");
    }
}

#[test]
fn a_load_and_its_generations_make_no_thread() {
    let before = n_threads();
    let runtime = runtime(true);
    let load = Load::start(&runtime, config(), None).unwrap();
    let mut slices = 0;
    while load.wait(Wait::Poll, |_| Ok(())).is_err() {
        assert!(runtime.pump(Duration::ZERO).unwrap());
        slices += 1;
    }
    assert!(slices > 20, "{slices} slices");
    let model = Model::load(&runtime, &config()).unwrap();
    let s = session(&model);
    let generation = Generation::start(&s, ask(&model, &[5; 100], 10)).unwrap();
    assert_eq!(generation.next(Wait::Poll).unwrap().kind, EventKind::None, "nobody pumped");
    while runtime.pump(Duration::from_micros(100)).unwrap() {
        assert!(n_threads() <= before + 8, "other tests may start theirs");
    }
    assert!(!told(&generation).is_empty());
}

#[test]
fn calls_that_wait_pump() {
    let runtime = runtime(true);
    let load = Load::start(&runtime, config(), None).unwrap();
    let model = load.wait(Wait::Forever, |model| Ok(model.clone())).unwrap();
    let s = session(&model);
    let generation = Generation::start(&s, ask(&model, &[9; 40], 5)).unwrap();
    while generation.next(Wait::For(Duration::from_secs(60))).unwrap().kind != EventKind::Done {}
    let endless = Generation::start(&s, ask(&model, &[3], 0)).unwrap();
    endless.cancel();
    s.truncate(0).unwrap();
    let again = Generation::start(&s, ask(&model, &[3; 200], 0)).unwrap();
    runtime.pump(Duration::ZERO).unwrap();
    runtime.shutdown(Wait::Poll).unwrap();
    assert_eq!(again.next(Wait::Poll).unwrap().finish, Some(Finish::Cancelled));
    assert_eq!(runtime.pump(Duration::ZERO).unwrap_err().kind(), ErrorKind::Shutdown);
}

/// Nothing keeps the runtime alive but what the host holds, wherever the work stood.
#[test]
fn freed_in_the_middle_and_never_pumped_again_nothing_is_left() {
    for n_slices in [0, 1, 2, 5, 40] {
        let runtime = runtime(true);
        let gone: Weak<Runtime> = Arc::downgrade(&runtime);
        let model = Model::load(&runtime, &config()).unwrap();
        let load = Load::start(&runtime, config(), None).unwrap();
        let (a, b) = (session(&model), session(&model));
        let first = Generation::start(&a, ask(&model, &[5; 90], 0)).unwrap();
        let second = Generation::start(&b, ask(&model, &[6; 90], 0)).unwrap();
        for _ in 0..n_slices {
            runtime.pump(Duration::ZERO).unwrap();
        }
        a.release();
        drop((runtime, a, model));
        drop(first);
        drop((b, second));
        drop(load);
        assert!(gone.upgrade().is_none(), "after {n_slices} slices");
    }
}

#[test]
fn two_threads_that_pump_take_turns() {
    let runtime = runtime(true);
    let model = Model::load(&runtime, &config()).unwrap();
    let sessions: Vec<_> = (0..4).map(|_| session(&model)).collect();
    let running: Vec<_> = sessions.iter().map(|s| Generation::start(s, ask(&model, &[7; 50], 30)).unwrap()).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| pump_all(&runtime, Duration::from_micros(200)));
        scope.spawn(|| while running[3].next(Wait::Forever).unwrap().kind != EventKind::Done {});
        pump_all(&runtime, Duration::from_micros(200));
    });
    pump_all(&runtime, Duration::from_micros(200));
    let tokens: Vec<_> = running[..3].iter().map(|g| told(g)).collect();
    assert!(tokens[0] == tokens[1] && tokens[1] == tokens[2] && !tokens[0].is_empty());
}

#[test]
fn a_runtime_with_threads_is_not_pumped_and_one_without_takes_none() {
    assert_eq!(runtime(false).pump(Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let pool = PoolConfig { n_threads: 2, ..PoolConfig::default() };
    let refused = Runtime::new(RuntimeConfig { pool, host_driven: true, ..RuntimeConfig::default() });
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::InvalidArgument);
}
