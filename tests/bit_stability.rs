//! A row's bits depend on its own tokens and positions: not on chunks, on its neighbours in a batch, on threads or on other sessions.

mod common {
    pub mod golden_data;
    pub mod lanes;
    pub mod placements;
    pub mod random;
    pub mod random_gguf;
}

use common::golden_data::Golden;
use common::lanes::{Lane, prefill, run};
use common::random::Random;
use common::{placements, random_gguf};
use inference::backend::BLOCK_TOKENS;
use inference::dtype::DType;
use inference::engine::{
    EventKind, GenerateParams, Generation, LoadConfig, Model, Prompt, Runtime, RuntimeConfig, Sampler, Session, SessionConfig, Wait,
};
use inference::formats::gguf::Gguf;
use inference::kernels::{self, KvType};
use inference::model::{Forward, Placement};
use inference::sys::file::MemorySource;
use inference::sys::pool::PoolConfig;
use std::sync::Arc;

/// Sequences that run together with ours.
const N_NEIGHBOURS: usize = 7;
const GOLDEN: [&str; 5] = ["llama-tied", "llama-3.1", "qwen2", "qwen3", "deepseek3"];

/// Fails at the first row whose bits differ; both are `(n, n_vocab)`.
fn assert_same_bits(ours: &[f32], expected: &[f32], n_vocab: usize, what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
    if let Some(i) = ours.iter().zip(expected).position(|pair| !same(pair)) {
        panic!("{what}: {} instead of {} at position {}, logit {}", ours[i], expected[i], i / n_vocab, i % n_vocab);
    }
}

fn random_tokens(n: usize, n_vocab: usize, seed: u64) -> Vec<u32> {
    let mut random = Random(seed);
    (0..n).map(|_| random.below(n_vocab)).collect()
}

/// Everything that must not matter, on one kernel set: `tokens` alone in one pass on one thread says what is right.
fn check(gguf: &Gguf, tokens: &[u32], kernels: &str, kv: KvType) {
    let expected = prefill(&placements::load(gguf, placements::cpu(kernels, 1), kv), tokens, tokens.len());
    for n_threads in 1..=4 {
        let model = placements::load(gguf, placements::cpu(kernels, n_threads), kv);
        let n_vocab = model.spec().n_vocab;
        let what = |how: String| format!("{kernels}, {kv:?}, {n_threads} threads, {how}");
        for chunk in [tokens.len(), 1, 7, 32, 512] {
            let logits = prefill(&model, tokens, chunk);
            assert_same_bits(&logits, &expected, n_vocab, &what(format!("{chunk} tokens at a time")));
        }
        assert_same_bits(&beside_neighbours(&model, tokens), &expected, n_vocab, &what("in a batch".into()));
    }
}

/// The logits of `tokens` as one of eight sequences, each of which computes now one token and now many.
fn beside_neighbours(model: &Arc<dyn Forward>, tokens: &[u32]) -> Vec<f32> {
    let n_lanes = 1 + N_NEIGHBOURS;
    let ours = N_NEIGHBOURS / 2;
    let lane = |i: usize| match i {
        _ if i == ours => Lane::new(tokens, i, n_lanes),
        _ => Lane::new(&random_tokens(2 * tokens.len(), model.spec().n_vocab, i as u64), i, n_lanes),
    };
    let mut lanes: Vec<Lane> = (0..n_lanes).map(lane).collect();
    model.grow_kv(n_lanes * (2 * tokens.len()).div_ceil(BLOCK_TOKENS)).unwrap();
    let mut random = Random(0);
    while lanes[ours].n_queued() > 0 {
        let most = [1, 3, 40][random.below(3) as usize];
        let counts: Vec<usize> = lanes.iter().map(|lane| lane.n_queued().min(1 + random.below(most) as usize)).collect();
        run(model, &mut lanes, &counts);
    }
    lanes.swap_remove(ours).logits
}

#[test]
fn golden_models() {
    for name in GOLDEN {
        let golden = Golden::read(name);
        let gguf = Gguf::open(&golden.path).unwrap();
        for kernels in kernels::available() {
            for kv in [KvType::F32, KvType::F16] {
                check(&gguf, &golden.prompt, kernels, kv);
            }
        }
    }
}

fn random_model(dtype: DType) -> Gguf {
    Gguf::from_source(Arc::new(MemorySource::new(random_gguf::model(dtype)))).unwrap()
}

#[test]
fn every_weight_type() {
    let tokens = random_tokens(41, random_gguf::N_VOCAB, 1);
    for dtype in DType::ALL {
        let gguf = random_model(dtype);
        for kernels in kernels::available() {
            check(&gguf, &tokens, kernels, KvType::F16);
        }
    }
}

#[test]
fn a_quantised_cache() {
    let tokens = random_tokens(41, random_gguf::N_VOCAB, 2);
    let gguf = random_model(DType::Q4_K);
    kernels::available().into_iter().for_each(|kernels| check(&gguf, &tokens, kernels, KvType::Q8_0));
}

/// Long enough that attention is cut into several parts of the context, which threads share.
const LONG: usize = 1100;

#[test]
fn long_contexts() {
    let gguf = random_model(DType::F32);
    let tokens = random_tokens(LONG, random_gguf::N_VOCAB, 4);
    // The parts are cut by the backend, in the same way for every kernel set.
    check(&gguf, &tokens, kernels::available()[0], KvType::F16);
}

/// Kernels take rows in tiles: every number of rows up to 64 meets every remainder. The scalar set takes one row at a time, slowly: a few will do.
#[test]
fn every_number_of_rows() {
    let tokens = random_tokens(64, random_gguf::N_VOCAB, 2);
    for dtype in DType::ALL {
        let gguf = random_model(dtype);
        for kernels in kernels::available() {
            let model = placements::load(&gguf, placements::cpu(kernels, 2), KvType::F16);
            let expected = prefill(&model, &tokens, tokens.len());
            let most = if kernels == "scalar" { 8 } else { tokens.len() };
            for n in 1..=most {
                let logits = prefill(&model, &tokens[..n], n);
                assert_same_bits(&logits, &expected[..logits.len()], random_gguf::N_VOCAB, &format!("{dtype:?}, {kernels}, {n} rows"));
            }
        }
    }
}

/// How far our kernels may be from exact arithmetic on the stored weights, as `|ours - exact| / |exact|` over all logits.
/// Float types differ by rounding; the others also round the activations to 8 bits with a scale per 32 or per 256 values.
fn noise_bound(dtype: DType) -> f64 {
    match dtype.block_len() {
        1 => 1e-5,
        32 => 0.02,
        _ => 0.03,
    }
}

#[test]
fn every_weight_type_computes_what_candle_computes_from_the_expanded_weights() {
    let tokens = random_tokens(70, random_gguf::N_VOCAB, 3);
    for dtype in DType::ALL {
        let gguf = random_model(dtype);
        let exact = prefill(&placements::load(&gguf, Placement::Candle, KvType::F32), &tokens, tokens.len());
        for kernels in kernels::available() {
            let ours = prefill(&placements::load(&gguf, placements::cpu(kernels, 2), KvType::F32), &tokens, tokens.len());
            let noise = distance(&ours, &exact);
            assert!(noise < noise_bound(dtype), "{dtype:?}, {kernels}: relative distance {noise}");
        }
    }
}

#[test]
fn long_contexts_compute_what_candle_computes() {
    let gguf = random_model(DType::F32);
    let tokens = random_tokens(LONG, random_gguf::N_VOCAB, 5);
    let exact = prefill(&placements::load(&gguf, Placement::Candle, KvType::F32), &tokens, LONG);
    for kernels in kernels::available() {
        let ours = prefill(&placements::load(&gguf, placements::cpu(kernels, 2), KvType::F32), &tokens, 512);
        let noise = distance(&ours, &exact);
        assert!(noise < noise_bound(DType::F32), "{kernels}: relative distance {noise}");
    }
}

/// `|a - b| / |b|`
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(a - b))).sum();
    (difference / b.iter().map(|b| square(f64::from(*b))).sum::<f64>()).sqrt()
}

fn engine(golden: &Golden, kernels: &str, n_threads: usize) -> Arc<Model> {
    let pool = PoolConfig { n_threads, ..PoolConfig::default() };
    let runtime = Runtime::new(RuntimeConfig { pool, kernels: Some(kernels.to_owned()), ..RuntimeConfig::default() }).unwrap();
    Model::load(&runtime, &LoadConfig { paths: vec![golden.path.clone()], ..LoadConfig::default() }).unwrap()
}

/// The tokens of a session, and the logits that follow them.
type Outcome = (Vec<u32>, Vec<f32>);

/// Continues `prompt` by `n` greedy tokens, step by step.
fn step_through(model: &Arc<Model>, prompt: &[u32], n: usize, prefill_chunk: u32) -> Outcome {
    let session = Session::new(model, SessionConfig { prefill_chunk, ..SessionConfig::default() }).unwrap();
    let mut greedy = Sampler::new(model.n_vocab());
    session.append(prompt).unwrap();
    for _ in 0..n {
        session.step(Some(&mut greedy), None, true).unwrap();
    }
    session.step(None, None, true).unwrap();
    (session.tokens().unwrap(), session.with_logits(<[f32]>::to_vec).unwrap())
}

/// Sessions of one model, each on a thread of its host, all stepping at once.
#[test]
fn sessions_at_once() {
    for name in GOLDEN {
        let golden = Golden::read(name);
        for kernels in kernels::available() {
            let alone = step_through(&engine(&golden, kernels, 1), &golden.prompt, golden.greedy.len(), 0);
            let model = engine(&golden, kernels, 3);
            std::thread::scope(|scope| {
                for i in 0..N_NEIGHBOURS {
                    let tokens = random_tokens(20 + 13 * i, model.n_vocab(), i as u64);
                    let model = &model;
                    scope.spawn(move || step_through(model, &tokens, 40, 1 + i as u32));
                }
                for prefill_chunk in [0, 1, 7, 32] {
                    let (ids, logits) = step_through(&model, &golden.prompt, golden.greedy.len(), prefill_chunk);
                    assert_eq!(ids, alone.0, "{name}, {kernels}");
                    assert_same_bits(&logits, &alone.1, model.n_vocab(), &format!("{name}, {kernels}, chunks of {prefill_chunk}"));
                }
            });
        }
    }
}

/// Generations of one model on the runtime's workers, all at once.
#[test]
fn generations_at_once() {
    for name in GOLDEN {
        let golden = Golden::read(name);
        let model = engine(&golden, kernels::available()[0], 2);
        let prompts: Vec<Vec<u32>> =
            (0..N_NEIGHBOURS).map(|i| random_tokens(5 + 17 * i, model.n_vocab(), i as u64)).chain([golden.prompt.clone()]).collect();
        let alone: Vec<Outcome> = prompts.iter().map(|prompt| wait(&start(&model, prompt))).collect();
        let running: Vec<Running> = prompts.iter().map(|prompt| start(&model, prompt)).collect();
        let together: Vec<Outcome> = running.iter().map(wait).collect();
        for (i, (alone, together)) in alone.iter().zip(&together).enumerate() {
            assert!(alone.0.len() > prompts[i].len(), "{name}, prompt {i}: nothing was generated");
            assert_eq!(together.0, alone.0, "{name}, prompt {i}");
            assert_same_bits(&together.1, &alone.1, model.n_vocab(), &format!("{name}, prompt {i}"));
        }
    }
}

/// A generation and the session that it writes to.
type Running = (Arc<Session>, Arc<Generation>);

fn start(model: &Arc<Model>, prompt: &[u32]) -> Running {
    let session = Session::new(model, SessionConfig::default()).unwrap();
    let params = GenerateParams {
        prompt: Prompt::Tokens(prompt.to_vec()),
        max_tokens: 32,
        sampler: Some(Sampler::new(model.n_vocab())),
        ..GenerateParams::default()
    };
    let generation = Generation::start(&session, params).unwrap();
    (session, generation)
}

/// What the session holds at the end of its generation.
fn wait((session, generation): &Running) -> Outcome {
    while generation.next(Wait::Forever).unwrap().kind != EventKind::Done {}
    session.step(None, None, true).unwrap();
    (session.tokens().unwrap(), session.with_logits(<[f32]>::to_vec).unwrap())
}
