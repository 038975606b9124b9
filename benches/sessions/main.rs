//! The figures of many sessions on one model: what they share, how they disturb each other, how fast they are together, what guessing is worth.
//!
//! `cargo bench --bench sessions -- [model.gguf [parts [threads]]]`; without a model, the shipped one. Parts are letters, all without: `s`hared prompts, a stream
//! `b`eside a long prompt, `p`olls and starts, cancels (`k`), sixteen streams `t`ogether, `g`uesses, and guesses on the `c`hain model, `NAME-chain.gguf` beside `NAME.gguf`.
#![expect(clippy::print_stdout, reason = "a table for a person")]

mod beside;
mod guesses;
mod shared;
mod together;

use inference::engine::{
    EventKind, GenerateParams, Generation, LoadConfig, Model, Prompt, Runtime, RuntimeConfig, Sampler, Session, Usage, Wait,
};
use inference::error::Result;
use inference::sys::pool::PoolConfig;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Sessions at once.
const N_SESSIONS: u32 = 16;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo.gguf");
    let path = PathBuf::from(arguments.first().map_or(shipped, String::as_str));
    let parts = arguments.get(1).map_or("sbpktgc", String::as_str);
    let n_threads = arguments.get(2).and_then(|text| text.parse().ok()).unwrap_or(0);
    let pool = PoolConfig { n_threads, ..PoolConfig::default() };
    let runtime = Runtime::new(RuntimeConfig { pool, ..RuntimeConfig::default() })?;
    let load_file = |path: &PathBuf| Model::load(&runtime, &LoadConfig { paths: vec![path.clone()], n_ctx: 9000, ..LoadConfig::default() });
    let load = || load_file(&path);
    let chain = path.with_file_name(format!("{}-chain.gguf", path.file_stem().unwrap_or_default().to_string_lossy()));
    for part in parts.chars() {
        match part {
            's' => shared::measure(&load()?)?,
            'b' => beside::delays(&load()?)?,
            'p' => beside::calls(&load()?)?,
            'k' => beside::cancels(&load()?)?,
            't' => together::measure(&load()?)?,
            'g' => guesses::measure(&load()?)?,
            'c' if chain.exists() => guesses::measure_chain(&load_file(&chain)?)?,
            _ => println!("{part}: no such part, or no {}", chain.display()),
        }
    }
    Ok(())
}

/// Up to `n` tokens, as many as the model takes with some room behind them, and two of their own.
fn prompt(model: &Model, n: u32, own: u32) -> Vec<u32> {
    let n_vocab = model.info().n_vocab;
    let n = n.min(model.info().n_ctx_max.saturating_sub(64));
    (0..n).map(|i| (i * i + 7919) % n_vocab).chain([own % n_vocab, 5]).collect()
}

/// A greedy generation.
fn ask(model: &Model, prompt: Vec<u32>, max_tokens: u32) -> GenerateParams {
    let sampler = Some(Sampler::new(model.info().n_vocab as usize));
    GenerateParams { prompt: Prompt::Tokens(prompt), max_tokens, sampler, queue_capacity: 9000, ..GenerateParams::default() }
}

/// Waits for the end.
fn finish(generation: &Generation) -> Result<Usage> {
    loop {
        let event = generation.next(Wait::Forever)?;
        if event.kind == EventKind::Done {
            return Ok(event.usage);
        }
    }
}

fn start(session: &Arc<Session>, params: GenerateParams) -> Result<Arc<Generation>> {
    Generation::start(session, params)
}

/// The part `part` of `times` in ascending order, in milliseconds.
fn quantile(times: &mut [Duration], part: f64) -> f64 {
    times.sort();
    times.get(((times.len().max(1) - 1) as f64 * part) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}
