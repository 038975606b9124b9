//! Keys and values that sessions share: forks, prefixes, budgets. Nothing of it may change a bit of what a session says.

use inference::backend::BLOCK_TOKENS;
use inference::engine::{
    Event, EventKind, Finish, GenerateParams, Generation, LoadConfig, Model, Overflow, Prompt, Runtime, RuntimeConfig, Sampler, Session,
    SessionConfig, StepState, Wait,
};
use inference::error::ErrorKind;
use inference::sys::pool::PoolConfig;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PRIVATE: SessionConfig = SessionConfig { n_ctx: 0, prefill_chunk: 0, overflow: Overflow::Error, priority: 0, no_shared_prefix: true };

/// A model with room for `n_blocks` blocks; 0 = unlimited.
fn model(n_blocks: u64) -> Arc<Model> {
    let pool = PoolConfig { n_threads: 2, ..PoolConfig::default() };
    let runtime = Runtime::new(RuntimeConfig { pool, ..RuntimeConfig::default() }).unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/qwen2.gguf");
    let load = |kv_bytes| Model::load(&runtime, &LoadConfig { paths: vec![path.clone()], kv_bytes, ..LoadConfig::default() }).unwrap();
    let unlimited = load(0);
    if n_blocks == 0 { unlimited } else { load(n_blocks * unlimited.kv_usage().block_bytes) }
}

fn tokens(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i + 13 * i + seed * 101) % 250).collect()
}

/// `n` greedy tokens behind what `session` holds, and the logits that follow.
fn go_on(session: &Session, n: usize) -> (Vec<u32>, Vec<f32>) {
    let mut greedy = Sampler::new(session.model().info().n_vocab as usize);
    let chosen = (0..n).map(|_| session.step(Some(&mut greedy), None, true).unwrap().token.unwrap()).collect();
    session.step(None, None, true).unwrap();
    (chosen, session.with_logits(<[f32]>::to_vec).unwrap())
}

/// The same for `prompt`, by a session that shares with nobody.
fn alone(model: &Arc<Model>, prompt: &[u32], n: usize) -> (Vec<u32>, Vec<f32>) {
    let session = Session::new(model, PRIVATE).unwrap();
    session.append(prompt).unwrap();
    go_on(&session, n)
}

fn ask(prompt: &[u32], max_tokens: u32) -> GenerateParams {
    GenerateParams { prompt: Prompt::Tokens(prompt.to_vec()), max_tokens, ..GenerateParams::default() }
}

fn greedy(model: &Model, prompt: &[u32], max_tokens: u32) -> GenerateParams {
    GenerateParams { sampler: Some(Sampler::new(model.info().n_vocab as usize)), ..ask(prompt, max_tokens) }
}

/// The final event, and all tokens told.
fn finish(generation: &Generation) -> (Event, Vec<u32>) {
    let mut told = Vec::new();
    loop {
        let event = generation.next(Wait::For(Duration::from_secs(60))).unwrap();
        assert_ne!(event.kind, EventKind::None, "nothing for a minute");
        told.extend(&event.tokens);
        if event.kind == EventKind::Done {
            return (event, told);
        }
    }
}

#[test]
fn forks_go_on_as_if_they_had_computed_everything_themselves() {
    let model = model(0);
    for n in [1, 31, 32, 33, 64, 100] {
        let prompt = tokens(n, 1);
        let expected = alone(&model, &prompt, 40);
        let parent = Session::new(&model, SessionConfig::default()).unwrap();
        parent.append(&prompt).unwrap();
        let queued = parent.fork().unwrap();
        parent.step(None, None, true).unwrap();
        let computed = parent.fork().unwrap();
        assert_eq!(computed.with_logits(<[f32]>::to_vec).unwrap(), parent.with_logits(<[f32]>::to_vec).unwrap());
        computed.append(&[3, 4, 5]).unwrap();
        go_on(&computed, 10);
        assert_eq!(go_on(&parent, 40), expected, "{n}: the fork wrote into its parent");
        assert_eq!(go_on(&queued, 40), expected, "{n}");
        computed.truncate(n as u32).unwrap();
        drop(parent);
        assert_eq!(go_on(&computed, 40), expected, "{n}: the fork, gone back to where it began");
    }
}

#[test]
fn a_fork_in_the_middle_of_a_pass_is_a_fork_of_what_is_computed() {
    let model = model(0);
    let prompt = tokens(200, 2);
    let expected = alone(&model, &prompt, 8);
    let parent = Session::new(&model, SessionConfig { prefill_chunk: 50, ..SessionConfig::default() }).unwrap();
    parent.append(&prompt).unwrap();
    for _ in 0..12 {
        parent.step(None, Some(Duration::ZERO), true).unwrap();
    }
    let child = parent.fork().unwrap();
    assert_eq!((go_on(&child, 8), go_on(&parent, 8)), (expected.clone(), expected));
}

#[test]
fn a_prompt_that_another_session_computed_is_not_computed_again() {
    let model = model(0);
    let shared = tokens(5 * BLOCK_TOKENS, 3);
    for (own, prefix) in [(0, 4), (1, 5), (40, 5)] {
        let prompt = [&shared[..], &tokens(own, 4)].concat();
        let expected = alone(&model, &prompt, 40);
        let first = Session::new(&model, SessionConfig::default()).unwrap();
        first.append(&prompt).unwrap();
        go_on(&first, 3);
        drop(first);
        let second = Session::new(&model, SessionConfig::default()).unwrap();
        second.append(&prompt).unwrap();
        assert_eq!(go_on(&second, 40), expected, "{own}");
        let third = Session::new(&model, SessionConfig::default()).unwrap();
        let (done, told) = finish(&Generation::start(&third, greedy(&model, &prompt, 1)).unwrap());
        assert_eq!(told, expected.0[..1]);
        let cached = done.usage.cached_tokens as usize;
        assert!(cached >= prefix * BLOCK_TOKENS && cached + done.usage.prompt_tokens as usize == prompt.len(), "{own}: {:?}", done.usage);
    }
}

#[test]
fn a_session_that_opts_out_computes_everything_itself() {
    let model = model(0);
    let prompt = tokens(100, 5);
    for config in [PRIVATE, SessionConfig::default()] {
        let session = Session::new(&model, config).unwrap();
        let (done, _) = finish(&Generation::start(&session, ask(&prompt, 1)).unwrap());
        assert_eq!((done.usage.cached_tokens, done.usage.prompt_tokens), (0, 100));
    }
}

#[test]
fn sixteen_sessions_at_once_compute_and_hold_one_prompt() {
    let model = model(0);
    let shared = tokens(400, 6);
    let prompt = |i: u32| [&shared[..], &[i, 7]].concat();
    let expected: Vec<_> = (0..16).map(|i| alone(&model, &prompt(i), 8).0).collect();
    let sessions: Vec<_> = (0..16).map(|_| Session::new(&model, SessionConfig::default()).unwrap()).collect();
    let start = |(i, session): (usize, &Arc<Session>)| Generation::start(session, greedy(&model, &prompt(i as u32), 8)).unwrap();
    let running: Vec<_> = sessions.iter().enumerate().map(start).collect();
    let ended: Vec<_> = running.iter().map(|generation| finish(generation)).collect();
    let computed: u32 = ended.iter().map(|(done, _)| done.usage.prompt_tokens).sum();
    // Also of the last block, which is not whole, what they have in common.
    assert_eq!(computed, 400 + 16 * 2);
    for ((done, told), expected) in ended.iter().zip(&expected) {
        assert_eq!(told[..], expected[..told.len()], "{done:?}");
    }
    // 12 shared blocks; at most two of each session's own.
    assert!(model.kv_usage().n_used <= 12 + 16 * 2, "{:?}", model.kv_usage());
    drop((running, sessions));
    // The driver lets go of a session just after it has told the end.
    let started = Instant::now();
    while model.kv_usage().n_used > 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", model.kv_usage());
        std::thread::yield_now();
    }
}

/// The tokens that a session says, and its last logits.
type Said = (Vec<u32>, Vec<f32>);

/// Sixteen sessions that begin alike: their prompts, what they say, and the most blocks that may exist when they compute the same only once.
fn sixteen(model: &Arc<Model>) -> (Vec<Arc<Session>>, Vec<Said>, usize) {
    let shared = tokens(400, 6);
    let prompts: Vec<_> = (0..16).map(|i| [&shared[..], &[i, 7]].concat()).collect();
    let expected = prompts.iter().map(|prompt| alone(model, prompt, 8)).collect();
    let queued = |prompt: &Vec<u32>| {
        let session = Session::new(model, SessionConfig::default()).unwrap();
        session.append(prompt).unwrap();
        session
    };
    // 12 that are shared, two of each session's own; some that exist from before, and what a pool that grows has to spare.
    (prompts.iter().map(queued).collect(), expected, 12 + 16 * 2 + 14 + 4)
}

#[test]
fn sessions_that_one_thread_steps_in_turn_wait_for_the_blocks_of_the_first() {
    for budget in [0, 200] {
        let model = model(0);
        let (sessions, expected, most_blocks) = sixteen(&model);
        let mut pending: Vec<_> = sessions.iter().collect();
        while !pending.is_empty() {
            pending.retain(|s| s.step(None, Some(Duration::from_micros(budget)), true).unwrap().state == StepState::Pending);
        }
        assert!(model.kv_usage().n_blocks <= most_blocks, "{:?}", model.kv_usage());
        sessions.iter().zip(expected).for_each(|(s, expected)| assert_eq!(go_on(s, 8), expected));
    }
}

#[test]
fn sessions_that_threads_step_wait_for_the_one_at_work() {
    for budget in [None, Some(Duration::from_micros(300))] {
        let model = model(0);
        let (sessions, expected, most_blocks) = sixteen(&model);
        std::thread::scope(|scope| {
            for s in &sessions {
                scope.spawn(move || while s.step(None, budget, true).unwrap().state == StepState::Pending {});
            }
        });
        // Between two steps of its owner, a block may be taken up by another.
        let spare = if budget.is_some() { 64 } else { 16 };
        assert!(model.kv_usage().n_blocks <= most_blocks + spare, "{:?}", model.kv_usage());
        sessions.iter().zip(expected).for_each(|(s, expected)| assert_eq!(go_on(s, 8), expected));
    }
}

#[test]
fn nobody_waits_for_a_session_that_is_not_stepped_any_more() {
    let model = model(0);
    let prompt = tokens(300, 31);
    let expected = alone(&model, &prompt, 8);
    let left_alone = Session::new(&model, SessionConfig { prefill_chunk: 64, ..SessionConfig::default() }).unwrap();
    left_alone.append(&prompt).unwrap();
    left_alone.step(None, Some(Duration::ZERO), true).unwrap();
    for budget in [Some(Duration::ZERO), None] {
        let s = Session::new(&model, SessionConfig::default()).unwrap();
        s.append(&prompt).unwrap();
        while s.step(None, budget, true).unwrap().state == StepState::Pending {}
        assert_eq!(go_on(&s, 8), expected);
    }
    assert_eq!(go_on(&left_alone, 8), expected);
}

#[test]
fn generations_wait_for_memory_and_end_as_if_there_were_plenty() {
    let model = model(8);
    let prompts: Vec<_> = (0..6).map(|i| tokens(100 + i as usize, 20 + i)).collect();
    let expected: Vec<_> = prompts.iter().map(|prompt| alone(&model, prompt, 40).0).collect();
    let sessions: Vec<_> = prompts.iter().map(|_| Session::new(&model, SessionConfig::default()).unwrap()).collect();
    let start = |(session, prompt): (&Arc<Session>, &Vec<u32>)| Generation::start(session, greedy(&model, prompt, 40)).unwrap();
    let running: Vec<_> = sessions.iter().zip(&prompts).map(start).collect();
    let mut starved = 0;
    for ((generation, session), expected) in running.iter().zip(&sessions).zip(&expected) {
        let (done, told) = finish(generation);
        // Sessions that have ended keep their memory until they are freed: who comes then may find none.
        session.truncate(0).unwrap();
        if done.finish == Some(Finish::Error) {
            starved += 1;
            assert_eq!(done.error.unwrap().kind(), ErrorKind::Budget);
            continue;
        }
        assert_eq!(told[..], expected[..told.len()]);
    }
    assert!(starved < 6, "nobody got through");
    assert!(model.kv_usage().n_blocks <= 8);
}

#[test]
fn a_limit_is_an_error_of_who_exceeds_it_and_of_nobody_else() {
    let model = model(4);
    let prompt = tokens(120, 9);
    let expected = alone(&model, &prompt[..60], 4);
    let small = Session::new(&model, SessionConfig::default()).unwrap();
    small.append(&prompt[..60]).unwrap();
    small.step(None, None, true).unwrap();
    let large = Session::new(&model, PRIVATE).unwrap();
    large.append(&prompt).unwrap();
    let refused = large.step(None, None, true).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Budget);
    assert_eq!(go_on(&small, 4), expected);
    drop(small);
    large.step(None, None, true).unwrap();
}

/// A session that shifts, with room for 128 tokens.
fn shifting(model: &Arc<Model>, n_keep: usize, no_shared_prefix: bool) -> Arc<Session> {
    let overflow = Overflow::Shift { n_keep };
    Session::new(model, SessionConfig { n_ctx: 128, overflow, no_shared_prefix, ..SessionConfig::default() }).unwrap()
}

#[test]
fn a_full_context_drops_half_of_what_it_may_and_goes_on() {
    let model = model(0);
    let prompt = tokens(120, 11);
    let expected = {
        let s = shifting(&model, 10, true);
        s.append(&prompt).unwrap();
        let (chosen, _) = go_on(&s, 8);
        assert_eq!(s.n_tokens(), 128);
        // 10 tokens are a block of 32 that stays; 48 of the other 96 are two blocks, and they go.
        let (more, logits) = go_on(&s, 1);
        let text = [&prompt[..32], &prompt[96..], &chosen, &more].concat();
        assert_eq!(s.tokens().unwrap(), text);
        (text, logits, go_on(&s, 150))
    };
    // The same with blocks that others hold, before and after.
    for _ in 0..2 {
        let neighbour = Session::new(&model, SessionConfig::default()).unwrap();
        neighbour.append(&prompt).unwrap();
        let undisturbed = neighbour.fork().unwrap();
        let before = go_on(&undisturbed, 20);
        let s = shifting(&model, 10, false);
        s.append(&prompt).unwrap();
        let (_, logits) = go_on(&s, 9);
        let fork = s.fork().unwrap();
        assert_eq!((s.tokens().unwrap(), logits, go_on(&s, 150)), expected);
        assert_eq!(go_on(&fork, 150), expected.2, "a fork shares what was moved");
        assert_eq!(go_on(&neighbour, 20), before, "the keys of another session were turned");
    }
}

#[test]
fn prompts_shift_too_and_what_never_fits_changes_nothing() {
    let model = model(0);
    let s = shifting(&model, 32, false);
    s.append(&tokens(100, 12)).unwrap();
    s.append(&tokens(60, 13)).unwrap();
    assert_eq!(s.n_tokens(), 160 - 64, "32 were missing, and 34 are half of what may go: two blocks");
    go_on(&s, 1);
    let held = s.tokens().unwrap();
    let refused = s.append(&tokens(97, 14)).unwrap_err();
    assert_eq!((refused.kind(), s.tokens().unwrap()), (ErrorKind::ContextFull, held));
    s.append(&tokens(50, 15)).unwrap();
    go_on(&s, 100);
    let too_much = SessionConfig { n_ctx: 128, overflow: Overflow::Shift { n_keep: 65 }, ..SessionConfig::default() };
    assert_eq!(Session::new(&model, too_much).err().unwrap().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn generations_shift_or_end() {
    let model = model(0);
    let prompt = tokens(100, 16);
    let s = shifting(&model, 0, false);
    let (done, told) = finish(&Generation::start(&s, greedy(&model, &prompt, 200)).unwrap());
    if done.finish == Some(Finish::MaxTokens) {
        assert_eq!(told.len(), 200);
    }
    let by_hand = shifting(&model, 0, true);
    by_hand.append(&prompt).unwrap();
    assert_eq!(told, go_on(&by_hand, 200).0[..told.len()]);
    let config = SessionConfig { n_ctx: 110, overflow: Overflow::Stop, ..SessionConfig::default() };
    let s = Session::new(&model, config).unwrap();
    s.append(&tokens(110, 16)).unwrap();
    let mut sampler = Sampler::new(model.info().n_vocab as usize);
    let step = s.step(Some(&mut sampler), None, true).unwrap();
    assert_eq!((step.state, step.token, s.n_tokens()), (StepState::EndOfGeneration, None, 110));
}
