//! How far a slice of work outlasts the time that a host gives: overshoot of `pump` and `step` in CPU time of the calling thread.
//!
//! `cargo bench --bench pump -- [model.gguf [budget_us]]`; without a model, the shipped one.
#![expect(clippy::print_stdout, reason = "a table for a person")]

use inference::engine::{
    EventKind, GenerateParams, Generation, Load, LoadConfig, Model, Overflow, Prompt, Runtime, RuntimeConfig, Session, SessionConfig,
    StepState, Wait,
};
use inference::error::Result;
use inference::sys::thread::cpu_time;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Tokens of every prompt, and tokens generated behind it.
const PROMPT: u32 = 400;
const ANSWER: u32 = 100;
/// Tokens of a context that overflows: enough that moving half of it takes many slices.
const SHIFTED_CONTEXT: u32 = 2048;

/// Calls `slice` until it returns false, and prints how much longer than `budget` its calls took.
fn measure(name: &str, budget: Duration, mut slice: impl FnMut() -> Result<bool>) -> Result<()> {
    let now = || cpu_time().unwrap_or_default();
    let mut times = Vec::new();
    loop {
        let before = now();
        let more = slice()?;
        times.push(now().saturating_sub(before));
        if !more {
            break;
        }
    }
    times.sort();
    let over = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3 - budget.as_secs_f64() * 1e3;
    println!("{name:>20} {:>8} {:>10.3} {:>10.3} {:>10.3}", times.len(), over(0.5).max(0.0), over(0.99).max(0.0), over(1.0).max(0.0));
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo.gguf");
    let path = PathBuf::from(arguments.first().map_or(shipped, String::as_str));
    let budget = Duration::from_micros(arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(2000));
    let runtime = Runtime::new(RuntimeConfig { host_driven: true, ..RuntimeConfig::default() })?;
    println!("budget {budget:?}: milliseconds over it\n{:>20} {:>8} {:>10} {:>10} {:>10}", "", "calls", "p50", "p99", "max");
    let load = Load::start(&runtime, LoadConfig { paths: vec![path], ..LoadConfig::default() }, None)?;
    measure("load", budget, || runtime.pump(budget))?;
    let model = load.wait(Wait::Poll, |model| Ok(model.clone()))?;
    for n in [1, 4, 12] {
        pump(&runtime, &model, n, budget)?;
    }
    shift(&runtime, &model, budget)?;
    step(&model, budget)
}

fn prompt(model: &Model, seed: u32) -> Vec<u32> {
    (0..PROMPT).map(|i| (i * i + seed * 7919) % model.info().n_vocab).collect()
}

/// A generation that fills its context again and again.
fn shift(runtime: &Runtime, model: &Arc<Model>, budget: Duration) -> Result<()> {
    let n_ctx = model.info().n_ctx_max.min(SHIFTED_CONTEXT);
    let session = Session::new(model, SessionConfig { n_ctx, overflow: Overflow::Shift { n_keep: 32 }, ..SessionConfig::default() })?;
    let prompt = (0..n_ctx - ANSWER / 2).map(|i| (i * i + 17) % model.info().n_vocab).collect();
    let generation = start(&session, prompt)?;
    measure("pump, shift", budget, || runtime.pump(budget))?;
    drain(&generation)
}

/// `n` generations at once.
fn pump(runtime: &Runtime, model: &Arc<Model>, n: u32, budget: Duration) -> Result<()> {
    let start = |i| start(&Session::new(model, SessionConfig::default())?, prompt(model, i));
    let running = (0..n).map(start).collect::<Result<Vec<_>>>()?;
    measure(&format!("pump, {n} at once"), budget, || runtime.pump(budget))?;
    running.iter().try_for_each(|generation| drain(generation))
}

fn start(session: &Arc<Session>, prompt: Vec<u32>) -> Result<Arc<Generation>> {
    let params =
        GenerateParams { prompt: Prompt::Tokens(prompt), max_tokens: ANSWER, queue_capacity: 4 * ANSWER, ..GenerateParams::default() };
    Generation::start(session, params)
}

/// Takes the events of a generation that has ended.
fn drain(generation: &Generation) -> Result<()> {
    while generation.next(Wait::Poll)?.kind != EventKind::Done {}
    Ok(())
}

fn step(model: &Arc<Model>, budget: Duration) -> Result<()> {
    let session = Session::new(model, SessionConfig::default())?;
    session.append(&prompt(model, 99))?;
    measure("step, prefill", budget, || Ok(session.step(None, Some(budget), true)?.state == StepState::Pending))?;
    let (mut sampler, mut left) = (model.recommended_sampler()?, ANSWER);
    measure("step, decode", budget, || {
        left -= u32::from(session.step(Some(&mut sampler), Some(budget), true)?.state != StepState::Pending);
        Ok(left > 0)
    })
}
