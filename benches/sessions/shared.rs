//! Time to the first token and KV memory of sixteen sessions that begin with the same 2,000 tokens.

use crate::{N_SESSIONS, ask, finish, prompt, start};
use inference::engine::{Model, Session, SessionConfig, StepState};
use inference::error::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROMPT: u32 = 2000;

pub fn measure(model: &Arc<Model>) -> Result<()> {
    let first = after_each_other(model)?;
    at_once(model, first)?;
    in_turn(model, first)
}

fn sessions(model: &Arc<Model>) -> Result<Vec<Arc<Session>>> {
    (0..N_SESSIONS).map(|_| Session::new(model, SessionConfig::default())).collect()
}

fn usage(model: &Model) -> String {
    let usage = model.kv_usage();
    format!("{} KV blocks in use, a prompt alone has {}", usage.n_used, prompt(model, PROMPT, 0).len().div_ceil(32))
}

fn after_each_other(model: &Arc<Model>) -> Result<f32> {
    let sessions = sessions(model)?;
    let mut times = Vec::new();
    for (i, session) in sessions.iter().enumerate() {
        times.push(finish(&*start(session, ask(model, prompt(model, PROMPT, i as u32), 1))?)?.prefill_ms);
    }
    let (first, rest) = (times[0], &times[1..]);
    let worst = rest.iter().copied().fold(0.0, f32::max);
    let share = worst / first * 100.0;
    println!("after each other: first token {first:.2} ms, of the others at most {worst:.2} ms ({share:.2} %); {}", usage(model));
    Ok(first)
}

/// A prompt that nobody has computed yet.
fn fresh(model: &Model, seed: u32, own: u32) -> Vec<u32> {
    prompt(model, PROMPT, own).into_iter().map(|token| (token + seed) % model.info().n_vocab).collect()
}

fn at_once(model: &Arc<Model>, first: f32) -> Result<()> {
    let sessions = sessions(model)?;
    let start = |(session, i): (&Arc<Session>, u32)| start(session, ask(model, fresh(model, 13, i), 1));
    let running = sessions.iter().zip(0..).map(start).collect::<Result<Vec<_>>>()?;
    let times = running.iter().map(|g| finish(g).map(|usage| usage.prefill_ms)).collect::<Result<Vec<_>>>()?;
    let (least, most) = times.iter().fold((f32::MAX, 0.0_f32), |(least, most), t| (least.min(*t), most.max(*t)));
    let late = (most - least) / first * 100.0;
    println!(
        "all at once: the first first token after {least:.2} ms, the last one {:.2} ms later ({late:.2} % of one alone, which takes {first:.2} ms); {}",
        most - least,
        usage(model)
    );
    Ok(())
}

/// Stepped by one thread, each for two milliseconds in its turn.
fn in_turn(model: &Arc<Model>, first: f32) -> Result<()> {
    let sessions = sessions(model)?;
    sessions.iter().zip(0..).try_for_each(|(s, i)| s.append(&fresh(model, 29, i)))?;
    let (begun, mut left): (_, Vec<_>) = (Instant::now(), sessions.iter().collect());
    while !left.is_empty() {
        let mut pending = Vec::new();
        for session in left {
            if session.step(None, Some(Duration::from_millis(2)), true)?.state == StepState::Pending {
                pending.push(session);
            }
        }
        left = pending;
    }
    println!("stepped in turn: all after {:.2} ms, one alone {first:.2} ms; {}", begun.elapsed().as_secs_f64() * 1e3, usage(model));
    Ok(())
}
