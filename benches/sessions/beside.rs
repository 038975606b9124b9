//! A stream, and what comes beside it: a long prompt, a poll, a start, a cancel.

use crate::{ask, finish, prompt, quantile, start};
use inference::engine::{EventKind, Finish, GenerateParams, Generation, Model, Prompt, Session, SessionConfig, Wait};
use inference::error::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn session(model: &Arc<Model>) -> Result<Arc<Session>> {
    Session::new(model, SessionConfig { no_shared_prefix: true, ..SessionConfig::default() })
}

/// Reads `n` tokens, and returns the times between them.
fn read(stream: &Generation, n: usize, until: &dyn Fn() -> Result<bool>) -> Result<Vec<Duration>> {
    let (mut times, mut last) = (Vec::new(), Instant::now());
    while times.len() < n && !until()? {
        let event = stream.next(Wait::Forever)?;
        if event.kind == EventKind::Done {
            break;
        }
        if !event.tokens.is_empty() {
            times.push(std::mem::replace(&mut last, Instant::now()).elapsed());
        }
    }
    Ok(times)
}

/// The time between two tokens of a stream, alone and while a prompt of 4,000 tokens is computed.
pub fn delays(model: &Arc<Model>) -> Result<()> {
    let own = session(model)?;
    let stream = start(&own, ask(model, prompt(model, 100, 1), 4000))?;
    read(&stream, 20, &|| Ok(false))?;
    let mut alone = read(&stream, 100, &|| Ok(false))?;
    let (other, begun) = (session(model)?, Instant::now());
    let long = start(&other, ask(model, prompt(model, 4000, 2), 1))?;
    let mut beside = read(&stream, 4000, &|| Ok(long.next(Wait::Poll)?.kind == EventKind::Done))?;
    let whole = begun.elapsed().as_secs_f64() * 1e3;
    let (usual, p99) = (quantile(&mut alone, 0.5), quantile(&mut beside, 0.99));
    let (p50, worst) = (quantile(&mut beside, 0.5), quantile(&mut beside, 1.0));
    println!(
        "a stream: {usual:.2} ms per token (p99 {:.2}); beside a prompt that takes {whole:.0} ms: p50 {p50:.2}, p99 {p99:.2} ({:.2} x), worst {worst:.2}",
        quantile(&mut alone, 0.99),
        p99 / usual
    );
    stream.cancel();
    finish(&stream).map(|_| ())
}

/// What a poll and the start of a generation take while the worker computes: a prompt, and answers.
pub fn calls(model: &Arc<Model>) -> Result<()> {
    let (own, other) = (session(model)?, session(model)?);
    let stream = start(&own, ask(model, prompt(model, 100, 1), 4000))?;
    let busy = start(&other, ask(model, prompt(model, 4000, 3), 1))?;
    let (mut polls, mut starts) = (Vec::new(), Vec::new());
    let text = Prompt::Text("Once upon a time there was a prompt that took long to tokenise. ".repeat(200));
    while busy.next(Wait::Poll)?.kind != EventKind::Done {
        let before = Instant::now();
        stream.next(Wait::Poll)?;
        polls.push(before.elapsed());
        if polls.len() % 32 == 0 {
            let params = GenerateParams { prompt: text.clone(), ..ask(model, Vec::new(), 1) };
            let session = session(model)?;
            let before = Instant::now();
            let started = start(&session, params)?;
            starts.push(before.elapsed());
            started.cancel();
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let line = |name: &str, times: &mut Vec<Duration>| {
        let (n, p50) = (times.len(), quantile(times, 0.5));
        println!(
            "{name} while the worker computes ({n}): p50 {p50:.4} ms, p99 {:.4}, worst {:.4}",
            quantile(times, 0.99),
            quantile(times, 1.0)
        );
    };
    line("a poll", &mut polls);
    line("a start", &mut starts);
    stream.cancel();
    finish(&stream).map(|_| ())
}

/// From a cancel in the middle of a prompt of 8,000 tokens to the final event: near its beginning, and near its end, where attention takes longest.
pub fn cancels(model: &Arc<Model>) -> Result<()> {
    const LEFT: u32 = 250;
    let n_prompt = 8000.min(model.info().n_ctx_max.saturating_sub(100));
    let deep = session(model)?;
    deep.append(&prompt(model, n_prompt.saturating_sub(LEFT), 0))?;
    deep.step(None, None, true)?;
    let mut times = [Vec::new(), Vec::new()];
    for i in 0..80 {
        let near_end = i % 2;
        let (own, n) = if near_end == 1 { (deep.fork()?, LEFT - 10) } else { (session(model)?, n_prompt) };
        let generation = start(&own, ask(model, prompt(model, n, i), 1))?;
        std::thread::sleep(Duration::from_millis(5 + u64::from(i) * 13 % 150));
        let before = Instant::now();
        generation.cancel();
        loop {
            let event = generation.next(Wait::Forever)?;
            if event.kind == EventKind::Done {
                times[near_end as usize].extend((event.finish == Some(Finish::Cancelled)).then(|| before.elapsed()));
                break;
            }
        }
    }
    for (times, place) in times.iter_mut().zip(["beginning", "end"]) {
        let (n, p50) = (times.len(), quantile(times, 0.5));
        let (p99, worst) = (quantile(times, 0.99), quantile(times, 1.0));
        println!("a cancel near the {place} of a prompt of {n_prompt} tokens ({n}): p50 {p50:.2} ms, p99 {p99:.2}, worst {worst:.2}");
    }
    Ok(())
}
