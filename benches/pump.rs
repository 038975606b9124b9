//! How far a slice of work outlasts the time that a host gives: overshoot of `pump` and `step` in CPU time of the calling thread.
//!
//! `cargo bench --bench pump -- [model.gguf [budget_us]]`; without a model, the shipped one.
#![expect(clippy::print_stdout, reason = "a table for a person")]

use inference::engine::{
    EventKind, GenerateParams, Generation, LoadConfig, Model, Prompt, Runtime, RuntimeConfig, Session, SessionConfig, StepState, Wait,
};
use inference::error::Result;
use inference::sys::thread::cpu_time;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Tokens of every prompt, and tokens generated behind it.
const PROMPT: u32 = 400;
const ANSWER: u32 = 100;

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
    let model = Model::load(&runtime, &LoadConfig { paths: vec![path], ..LoadConfig::default() })?;
    println!("budget {budget:?}: milliseconds over it\n{:>20} {:>8} {:>10} {:>10} {:>10}", "", "calls", "p50", "p99", "max");
    for n in [1, 4, 12] {
        pump(&runtime, &model, n, budget)?;
    }
    step(&model, budget)
}

fn prompt(model: &Model, seed: u32) -> Vec<u32> {
    (0..PROMPT).map(|i| (i * i + seed * 7919) % model.info().n_vocab).collect()
}

/// `n` generations at once.
fn pump(runtime: &Runtime, model: &Arc<Model>, n: u32, budget: Duration) -> Result<()> {
    let start = |i| -> Result<_> {
        let params = GenerateParams {
            prompt: Prompt::Tokens(prompt(model, i)),
            max_tokens: ANSWER,
            stop: vec![],
            sampler: None,
            queue_capacity: 2 * ANSWER,
            ..GenerateParams::default()
        };
        Generation::start(&Session::new(model, SessionConfig::default())?, params)
    };
    let running = (0..n).map(start).collect::<Result<Vec<_>>>()?;
    measure(&format!("pump, {n} at once"), budget, || runtime.pump(budget))?;
    running.iter().try_for_each(|g| {
        while g.next(Wait::Poll)?.kind != EventKind::Done {}
        Ok(())
    })
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
