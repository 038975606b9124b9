//! The engine as a host uses it: sessions, generations, and everything that can go wrong between them.

use inference::engine::{
    Event, EventKind, Finish, GenerateParams, Generation, LoadConfig, Model, Prompt, Runtime, RuntimeConfig, Sampler, Session,
    SessionConfig, Stage, Step, StepState, Wait,
};
use inference::error::ErrorKind;
use inference::sys::pool::PoolConfig;
use inference::text::DecodeOptions;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PROMPT: [u32; 5] = [5, 9, 17, 3, 40];

fn runtime() -> Arc<Runtime> {
    let pool = PoolConfig { n_threads: 2, ..PoolConfig::default() };
    Runtime::new(RuntimeConfig { pool, ..RuntimeConfig::default() }).unwrap()
}

fn model_on(runtime: &Arc<Runtime>) -> Arc<Model> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/qwen2.gguf");
    Model::load(runtime, &LoadConfig { paths: vec![path], ..LoadConfig::default() }).unwrap()
}

fn session() -> Arc<Session> {
    Session::new(&model_on(&runtime()), SessionConfig::default()).unwrap()
}

fn ask(prompt: &[u32], max_tokens: u32) -> GenerateParams {
    let sampler = None;
    GenerateParams { prompt: Prompt::Tokens(prompt.to_vec()), max_tokens, sampler, ..GenerateParams::default() }
}

fn greedy(session: &Session) -> Sampler {
    Sampler::new(session.model().info().n_vocab as usize)
}

/// Steps until a token is there.
fn step_token(session: &Session, sampler: &mut Sampler, budget: Option<Duration>) -> Step {
    loop {
        let step = session.step(Some(sampler), budget, true).unwrap();
        if step.state != StepState::Pending {
            return step;
        }
    }
}

/// All events to the last one.
fn drain(generation: &Generation) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = generation.next(Wait::For(Duration::from_secs(60))).unwrap();
        assert_ne!(event.kind, EventKind::None, "nothing for a minute");
        let last = event.kind == EventKind::Done;
        events.push(event);
        if last {
            return events;
        }
    }
}

#[test]
fn a_step_computes_chooses_and_queues_its_token() {
    let s = session();
    s.append(&PROMPT).unwrap();
    assert_eq!(s.with_logits(|_| ()).unwrap_err().kind(), ErrorKind::NotReady);
    let mut sampler = greedy(&s);
    let computed = s.step(None, None, false).unwrap();
    assert_eq!((computed.state, computed.token, computed.prefill_done, computed.prefill_total), (StepState::Token, None, 5, 5));
    let best = s.with_logits(|l| (0..l.len()).max_by(|&a, &b| l[a].total_cmp(&l[b])).unwrap() as u32).unwrap();
    let step = step_token(&s, &mut sampler, None);
    assert_eq!(step.token, Some(best));
    assert!(step.logprob < 0.0);
    assert_eq!((s.n_tokens(), s.tokens().unwrap()[5]), (6, best));
    assert_eq!(s.with_logits(|_| ()).unwrap_err().kind(), ErrorKind::NotReady, "the chosen token is queued");
}

#[test]
fn a_budget_of_nothing_still_arrives_at_the_same_tokens() {
    let (a, b) = (session(), session());
    let tokens = |s: &Session, budget| {
        s.append(&PROMPT).unwrap();
        let mut sampler = greedy(s);
        (0..8).map(|_| step_token(s, &mut sampler, budget).token.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(tokens(&a, None), tokens(&b, Some(Duration::ZERO)));
    let s = session();
    s.append(&PROMPT).unwrap();
    assert_eq!(s.step(None, Some(Duration::ZERO), false).unwrap().state, StepState::Pending, "one stage is not a pass");
}

#[test]
fn truncate_goes_back_and_recomputes_the_last_row() {
    let s = session();
    s.append(&PROMPT).unwrap();
    s.step(None, None, false).unwrap();
    let logits = s.with_logits(<[f32]>::to_vec).unwrap();
    s.append(&[1, 2, 3]).unwrap();
    s.step(None, None, false).unwrap();
    s.truncate(5).unwrap();
    s.step(None, None, false).unwrap();
    assert_eq!(s.with_logits(<[f32]>::to_vec).unwrap(), logits);
    assert_eq!(s.truncate(6).unwrap_err().kind(), ErrorKind::InvalidArgument);
    // In the middle of a pass, too.
    s.append(&[7; 40]).unwrap();
    s.step(None, Some(Duration::ZERO), false).unwrap();
    s.truncate(5).unwrap();
    s.step(None, None, false).unwrap();
    assert_eq!(s.with_logits(<[f32]>::to_vec).unwrap(), logits);
    s.truncate(0).unwrap();
    assert_eq!(s.step(None, None, false).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn appends_are_all_or_nothing() {
    let model = model_on(&runtime());
    let s = Session::new(&model, SessionConfig { n_ctx: 8, ..SessionConfig::default() }).unwrap();
    s.append(&PROMPT).unwrap();
    let full = s.append(&[1; 4]).unwrap_err();
    assert_eq!((full.kind(), full.detail()), (ErrorKind::ContextFull, [4, 3]));
    assert_eq!(s.append(&[1, 1_000_000]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(s.n_tokens(), 5);
    s.append(&[1; 3]).unwrap();
    s.step(None, None, false).unwrap();
    assert_eq!(s.step(Some(&mut greedy(&s)), None, true).unwrap_err().kind(), ErrorKind::ContextFull);
    assert_eq!(s.n_tokens(), 8);
}

#[test]
fn a_generation_gives_the_tokens_that_stepping_gives() {
    let s = session();
    s.append(&PROMPT).unwrap();
    let mut sampler = greedy(&s);
    let stepped: Vec<u32> = (0..16).map(|_| step_token(&s, &mut sampler, None).token.unwrap()).collect();
    let g = Session::new(s.model(), SessionConfig::default()).unwrap();
    let generation = Generation::start(&g, GenerateParams { sampler: Some(greedy(&s)), ..ask(&PROMPT, 16) }).unwrap();
    let events = drain(&generation);
    let told: Vec<u32> = events.iter().flat_map(|e| e.tokens.clone()).collect();
    let done = events.last().unwrap();
    let n = told.len();
    assert_eq!(told, stepped[..n]);
    assert!(n == 16 && done.finish == Some(Finish::MaxTokens) || done.finish == Some(Finish::EndOfGeneration), "{done:?}");
    assert_eq!((done.usage.prompt_tokens, done.usage.output_tokens as usize), (5, n));
    assert_eq!(g.n_tokens() as usize, 5 + n);
    assert!(events.iter().any(|e| e.kind == EventKind::Progress && e.n_done == 5 && e.n_total == 5));
    assert_eq!(generation.next(Wait::Poll).unwrap().kind, EventKind::Done, "the end is told again");
}

#[test]
fn a_session_belongs_to_its_generation_until_the_end_or_a_cancel() {
    let s = session();
    let generation = Generation::start(&s, GenerateParams { queue_capacity: 1, ..ask(&PROMPT, 0) }).unwrap();
    assert_eq!(s.append(&[1]).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(Generation::start(&s, ask(&PROMPT, 1)).err().unwrap().kind(), ErrorKind::Busy);
    generation.cancel();
    s.append(&[1]).unwrap();
    assert_eq!(drain(&generation).last().unwrap().finish, Some(Finish::Cancelled));
    drop(generation);
    let held = s.n_tokens();
    let again = Generation::start(&s, ask(&[2], 3)).unwrap();
    let usage = drain(&again).last().unwrap().usage;
    assert_eq!(usage.cached_tokens + usage.prompt_tokens, held + 1);
}

#[test]
fn a_reader_that_is_behind_pauses_the_worker_and_loses_nothing() {
    let s = session();
    let params = GenerateParams { queue_capacity: 1, sampler: Some(greedy(&s)), ..ask(&PROMPT, 12) };
    let slow = Generation::start(&s, params.clone()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let t = Session::new(s.model(), SessionConfig::default()).unwrap();
    let fast = Generation::start(&t, GenerateParams { queue_capacity: 0, ..params }).unwrap();
    let text = |events: Vec<Event>| events.into_iter().map(|e| e.text).collect::<String>();
    assert_eq!(text(drain(&slow)), text(drain(&fast)));
}

#[test]
fn failures_of_jobs_arrive_as_the_final_event() {
    let model = model_on(&runtime());
    let s = Session::new(&model, SessionConfig { n_ctx: 4, ..SessionConfig::default() }).unwrap();
    let done = drain(&Generation::start(&s, ask(&PROMPT, 1)).unwrap()).pop().unwrap();
    assert_eq!((done.finish, done.error.unwrap().kind()), (Some(Finish::Error), ErrorKind::ContextFull));
    let done = drain(&Generation::start(&s, ask(&[], 1)).unwrap()).pop().unwrap();
    assert_eq!(done.error.unwrap().kind(), ErrorKind::InvalidArgument);
    let done = drain(&Generation::start(&s, ask(&PROMPT[..3], 0)).unwrap()).pop().unwrap();
    assert!(matches!(done.finish, Some(Finish::ContextFull | Finish::EndOfGeneration)), "{done:?}");
    assert!(s.n_tokens() <= 4);
}

#[test]
fn eight_at_once_give_what_each_gives_alone() {
    let model = model_on(&runtime());
    let prompts: Vec<Vec<u32>> = (0..8u32).map(|i| (0..=i * 9).map(|j| (i * 31 + j * 7) % 200).collect()).collect();
    let start = |prompt: &[u32]| {
        let s = Session::new(&model, SessionConfig::default()).unwrap();
        let mut sampler = greedy(&s);
        sampler.add(Stage::Temperature(1.0)).unwrap();
        sampler.set_seed(11);
        Generation::start(&s, GenerateParams { sampler: Some(sampler), ..ask(prompt, 24) }).unwrap()
    };
    let tokens = |g: &Generation| drain(g).into_iter().flat_map(|e| e.tokens).collect::<Vec<_>>();
    let alone: Vec<_> = prompts.iter().map(|p| tokens(&start(p))).collect();
    let started: Vec<_> = prompts.iter().map(|p| start(p)).collect();
    let together: Vec<_> = started.iter().map(|g| tokens(g)).collect();
    assert_eq!(alone, together);
}

#[test]
fn hooks_wake() {
    let s = session();
    let woken = Arc::new(AtomicU32::new(0));
    let counter = woken.clone();
    let wake = Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let generation = Generation::start(&s, GenerateParams { wake: Some(wake), ..ask(&PROMPT, 4) }).unwrap();
    drain(&generation);
    assert!(woken.load(Ordering::Relaxed) >= 2);
}

/// Waits for `value` to become true.
fn eventually(value: impl Fn() -> bool) {
    let started = Instant::now();
    while !value() {
        assert!(started.elapsed() < Duration::from_secs(60), "it did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn a_hook_that_cancels_and_asks_for_the_session_is_refused_and_not_hung() {
    let s = session();
    let refused = Arc::new(AtomicU32::new(0));
    let shared: Arc<Mutex<Option<Arc<Generation>>>> = Arc::default();
    let (counter, slot, session) = (refused.clone(), shared.clone(), Arc::downgrade(&s));
    let wake = Arc::new(move || {
        let Some(generation) = slot.lock().clone() else { return };
        let Some(session) = session.upgrade() else { return };
        generation.cancel();
        let busy = |e: inference::error::Error| assert_eq!(e.kind(), ErrorKind::Busy);
        generation.next(Wait::Forever).map(|_| ()).map_err(busy).unwrap_err();
        if session.truncate(0).map_err(busy).is_err() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let generation = Generation::start(&s, GenerateParams { wake: Some(wake), queue_capacity: 1, ..ask(&PROMPT, 0) }).unwrap();
    *shared.lock() = Some(generation.clone());
    drain(&generation);
    s.truncate(0).unwrap();
    shared.lock().take();
}

#[test]
fn a_generation_starts_behind_a_cancelled_one_without_waiting() {
    let runtime = Runtime::new(RuntimeConfig { host_driven: true, ..RuntimeConfig::default() }).unwrap();
    let model = model_on(&runtime);
    let (s, other) = (Session::new(&model, SessionConfig::default()).unwrap(), Session::new(&model, SessionConfig::default()).unwrap());
    let neighbour = Generation::start(&other, ask(&[5, 6, 7], 20)).unwrap();
    let first = Generation::start(&s, ask(&PROMPT, 20)).unwrap();
    // The prompt is there: a pass has begun that both share, and goes on for the neighbour. Nobody else computes here.
    while s.n_tokens() == 0 {
        assert!(runtime.pump(Duration::ZERO).unwrap());
    }
    first.cancel();
    let second = Generation::start(&s, ask(&[], 4)).unwrap();
    assert_eq!(second.next(Wait::Poll).unwrap().kind, EventKind::None);
    assert_eq!(Generation::start(&s, ask(&[], 4)).map(|_| ()).unwrap_err().kind(), ErrorKind::Busy, "it is promised");
    second.cancel();
    let third = Generation::start(&s, ask(&[], 4)).unwrap();
    let ends = [&first, &second, &third, &neighbour].map(|generation| drain(generation).pop().unwrap().finish.unwrap());
    assert_eq!(ends[..2], [Finish::Cancelled, Finish::Cancelled]);
    assert!(ends[2..].iter().all(|end| [Finish::MaxTokens, Finish::EndOfGeneration].contains(end)), "{ends:?}");
    assert!(s.n_tokens() as usize > PROMPT.len(), "the third goes on behind what the first had");
    s.truncate(0).unwrap();
}

#[test]
fn a_freed_generation_wakes_nobody() {
    let model = model_on(&runtime());
    for _ in 0..50 {
        let s = Session::new(&model, SessionConfig::default()).unwrap();
        let freed = Arc::new(AtomicBool::new(false));
        let flag = freed.clone();
        let wake = Arc::new(move || assert!(!flag.load(Ordering::SeqCst), "woken after the free"));
        let generation = Generation::start(&s, GenerateParams { wake: Some(wake), ..ask(&PROMPT, 0) }).unwrap();
        generation.next(Wait::Forever).unwrap();
        generation.release();
        freed.store(true, Ordering::SeqCst);
        // A panic in the hook would end the generation with `Internal` instead of bringing the session back.
        s.truncate(0).unwrap();
    }
}

#[test]
fn cancels_of_a_neighbour_do_not_stop_a_prefill() {
    let model = model_on(&runtime());
    let steady = Session::new(&model, SessionConfig { prefill_chunk: 8, ..SessionConfig::default() }).unwrap();
    let prompt: Vec<u32> = (0..200).map(|i| i % 180).collect();
    let generation = Generation::start(&steady, ask(&prompt, 1)).unwrap();
    let ended = || generation.next(Wait::Poll).unwrap().kind == EventKind::Done;
    let started = Instant::now();
    while !ended() {
        assert!(started.elapsed() < Duration::from_secs(60), "starved");
        let s = Session::new(&model, SessionConfig::default()).unwrap();
        Generation::start(&s, ask(&prompt, 1)).unwrap().cancel();
        // Faster than a pass, and slow enough that ending the cancelled ones is not all that the driver does.
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_paused_generation_is_cancelled_beside_one_that_runs() {
    let model = model_on(&runtime());
    let (a, b) = (Session::new(&model, SessionConfig::default()).unwrap(), Session::new(&model, SessionConfig::default()).unwrap());
    let running = Generation::start(&a, ask(&PROMPT, 0)).unwrap();
    let paused = Generation::start(&b, GenerateParams { queue_capacity: 1, ..ask(&PROMPT, 0) }).unwrap();
    eventually(|| b.n_tokens() > 5);
    paused.cancel();
    b.truncate(0).unwrap();
    drop(running);
}

#[test]
fn progress_counts_what_was_queued_before_the_generation() {
    let s = session();
    s.append(&[7; 150]).unwrap();
    let events = drain(&Generation::start(&s, ask(&[], 1)).unwrap());
    let progress: Vec<_> = events.iter().filter(|e| e.kind == EventKind::Progress).map(|e| (e.n_done, e.n_total)).collect();
    assert_eq!(progress.last(), Some(&(150, 150)));
    assert!(progress.iter().all(|(done, total)| done <= total && *total == 150), "{progress:?}");
    let usage = events.last().unwrap().usage;
    assert_eq!((usage.prompt_tokens, usage.cached_tokens), (150, 0));
}

#[test]
fn a_shutdown_ends_everything_and_children_say_so() {
    let runtime = runtime();
    let model = model_on(&runtime);
    let s = Session::new(&model, SessionConfig::default()).unwrap();
    let generation = Generation::start(&s, GenerateParams { queue_capacity: 1, ..ask(&PROMPT, 0) }).unwrap();
    runtime.shutdown(Wait::Forever).unwrap();
    assert_eq!(drain(&generation).last().unwrap().finish, Some(Finish::Cancelled));
    assert_eq!(s.append(&[1]).unwrap_err().kind(), ErrorKind::Shutdown);
    assert_eq!(Session::new(&model, SessionConfig::default()).err().unwrap().kind(), ErrorKind::Shutdown);
    runtime.shutdown(Wait::Poll).unwrap();
}

#[test]
fn freeing_in_any_order_while_it_runs_ends_the_threads() {
    for order in 0..4 {
        let runtime = runtime();
        let model = model_on(&runtime);
        let s = Session::new(&model, SessionConfig::default()).unwrap();
        let generation = Generation::start(&s, ask(&PROMPT, 0)).unwrap();
        let mut parts: Vec<Box<dyn std::any::Any>> = vec![Box::new(runtime), Box::new(model), Box::new(s), Box::new(generation)];
        parts.rotate_left(order);
        drop(parts);
    }
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let s = session();
    let generation = Generation::start(&s, GenerateParams { queue_capacity: 1, ..ask(&PROMPT, 2) }).unwrap();
    drain(&generation);
    let started = Instant::now();
    assert_eq!(generation.next(Wait::Forever).unwrap().kind, EventKind::Done);
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// Random tokens: characters arrive in parts, and stop strings across tokens.
#[test]
fn events_tell_what_the_tokens_decode_to_and_nothing_of_a_stop_string() {
    let s = session();
    let tell = |seed: u64, stop: Vec<String>| {
        let mut hot = greedy(&s);
        hot.add(Stage::Temperature(4.0)).unwrap();
        hot.set_seed(seed);
        s.truncate(0).unwrap();
        let events = drain(&Generation::start(&s, GenerateParams { sampler: Some(hot), stop, ..ask(&PROMPT, 60) }).unwrap());
        let tokens: Vec<u32> = events.iter().flat_map(|event| event.tokens.clone()).collect();
        let text: String = events.iter().filter(|event| event.kind == EventKind::Text).map(|event| event.text.as_str()).collect();
        (text, tokens, events.last().unwrap().finish)
    };
    let mut n_stopped = 0;
    for seed in 0..8 {
        let (text, tokens, _) = tell(seed, Vec::new());
        let options = DecodeOptions { skip_special: true, at_text_start: false };
        let decoded = s.model().tokenizer().decode(&tokens, options).unwrap();
        assert_eq!(text, String::from_utf8_lossy(&decoded), "{seed}");
        let chars: Vec<char> = text.chars().collect();
        for first in (0..chars.len().saturating_sub(4)).step_by(7) {
            let stop: String = chars[first..first + 4].iter().collect();
            let (cut, _, finish) = tell(seed, vec![stop.clone()]);
            assert_eq!((cut.as_str(), finish), (&text[..text.find(&stop).unwrap()], Some(Finish::Stop)), "{seed}: {stop:?}");
            n_stopped += 1;
        }
    }
    assert!(n_stopped > 30, "{n_stopped}");
}
