//! A stream, and what comes beside it: a long prompt, a poll, a start, a cancel.

use crate::{ask, finish, prompt, quantile, start};
use inference::engine::{EventKind, Finish, GenerateParams, Generation, Model, Prompt, Session, SessionConfig, Wait};
use inference::error::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub fn measure(model: &Arc<Model>) -> Result<()> {
    delays(model)?;
    calls(model)?;
    cancels(model)
}

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
fn delays(model: &Arc<Model>) -> Result<()> {
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
fn calls(model: &Arc<Model>) -> Result<()> {
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

/// From a cancel in the middle of a prompt of 8,000 tokens to the final event.
fn cancels(model: &Arc<Model>) -> Result<()> {
    let mut times = Vec::new();
    for i in 0..40 {
        let own = session(model)?;
        let generation = start(&own, ask(model, prompt(model, 8000, i), 1))?;
        std::thread::sleep(Duration::from_millis(20 + u64::from(i) * 13 % 150));
        let before = Instant::now();
        generation.cancel();
        loop {
            let event = generation.next(Wait::Forever)?;
            if event.kind == EventKind::Done {
                times.extend((event.finish == Some(Finish::Cancelled)).then(|| before.elapsed()));
                break;
            }
        }
    }
    let (n, p50) = (times.len(), quantile(&mut times, 0.5));
    println!("a cancel during a prompt of 8,000 tokens ({n}): p50 {p50:.2} ms, p99 {:.2} ms", quantile(&mut times, 0.99));
    Ok(())
}
