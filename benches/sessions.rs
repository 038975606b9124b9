//! What sessions share: time to the first token and KV memory of sixteen that begin with the same prompt, and tokens per second with drafting.
//!
//! `cargo bench --bench sessions -- [model.gguf [prompt tokens]]`; without a model, the shipped one.
#![expect(clippy::print_stdout, reason = "a table for a person")]

use inference::engine::{
    EventKind, GenerateParams, Generation, LoadConfig, Model, Prompt, Runtime, RuntimeConfig, Sampler, Session, SessionConfig, Wait,
};
use inference::error::Result;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const N_SESSIONS: u32 = 16;

fn start(session: &Arc<Session>, prompt: Vec<u32>, max_tokens: u32, n_draft: u32) -> Result<Arc<Generation>> {
    let sampler = Some(Sampler::new(session.model().info().n_vocab as usize));
    let params = GenerateParams {
        prompt: Prompt::Tokens(prompt),
        max_tokens,
        stop: vec![],
        sampler,
        n_draft,
        queue_capacity: 4096,
        ..GenerateParams::default()
    };
    Generation::start(session, params)
}

/// Waits for the end; milliseconds to the first token, milliseconds after it, tokens.
fn finish(generation: &Generation) -> Result<(f32, f32, u32)> {
    loop {
        let event = generation.next(Wait::Forever)?;
        if event.kind == EventKind::Done {
            return Ok((event.usage.prefill_ms, event.usage.decode_ms, event.usage.output_tokens));
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo.gguf");
    let path = PathBuf::from(arguments.first().map_or(shipped, String::as_str));
    let wanted = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(2000);
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let load = || Model::load(&runtime, &LoadConfig { paths: vec![path.clone()], n_ctx: 4096, ..LoadConfig::default() });
    shared_prefix(&load()?, wanted)?;
    at_once(&load()?, wanted)?;
    drafting(&load()?)
}

/// A prompt of up to `n` tokens that all sessions share, and two of their own.
fn prompt(model: &Model, n: u32, own: u32) -> Vec<u32> {
    let n_vocab = model.info().n_vocab;
    let n = n.min(model.info().n_ctx_max.saturating_sub(64));
    (0..n).map(|i| (i * i + 7919) % n_vocab).chain([own % n_vocab, 5]).collect()
}

fn usage(model: &Model, n: u32) -> String {
    let usage = model.kv_usage();
    let one = (prompt(model, n, 0).len()).div_ceil(32);
    format!("{} KV blocks in use, a prompt alone has {one}", usage.n_used)
}

fn shared_prefix(model: &Arc<Model>, n: u32) -> Result<()> {
    let sessions = (0..N_SESSIONS).map(|_| Session::new(model, SessionConfig::default())).collect::<Result<Vec<_>>>()?;
    let mut times = Vec::new();
    for (i, session) in sessions.iter().enumerate() {
        times.push(finish(&*start(session, prompt(model, n, i as u32), 1, 0)?)?.0);
    }
    let (first, rest) = (times[0], &times[1..]);
    let worst = rest.iter().copied().fold(0.0, f32::max);
    println!(
        "after each other: first token {first:.2} ms, of the others at most {worst:.2} ms ({:.2} %); {}",
        worst / first * 100.0,
        usage(model, n)
    );
    Ok(())
}

fn at_once(model: &Arc<Model>, n: u32) -> Result<()> {
    let alone = finish(&*start(
        &Session::new(model, SessionConfig { no_shared_prefix: true, ..SessionConfig::default() })?,
        prompt(model, n, 0),
        1,
        0,
    )?)?
    .0;
    let sessions = (0..N_SESSIONS).map(|_| Session::new(model, SessionConfig::default())).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let running = sessions.iter().zip(0..).map(|(s, i)| start(s, prompt(model, n, i), 1, 0)).collect::<Result<Vec<_>>>()?;
    running.iter().try_for_each(|g| finish(g).map(|_| ()))?;
    let all = begun.elapsed().as_secs_f32() * 1e3;
    println!("all at once: all first tokens after {all:.2} ms, one alone after {alone:.2} ms; {}", usage(model, n));
    Ok(())
}

/// Greedy text of a small model repeats itself: what drafting is for. Random weights say whether it costs anything.
fn drafting(model: &Arc<Model>) -> Result<()> {
    let mut rates = Vec::new();
    for n_draft in [0, 8] {
        let session = Session::new(model, SessionConfig { no_shared_prefix: true, ..SessionConfig::default() })?;
        let (_, ms, n) = finish(&*start(&session, prompt(model, 32, 1), 300, n_draft)?)?;
        rates.push(n as f32 / ms * 1e3);
    }
    println!("decode {:.1} tokens/s, with drafts {:.1} ({:.2} x)", rates[0], rates[1], rates[1] / rates[0]);
    Ok(())
}
