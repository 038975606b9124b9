//! Tokens per second with guesses and without: on text that repeats itself, and on text that does not.

use crate::{ask, finish, prompt, start};
use inference::engine::{GenerateParams, Model, Sampler, Session, SessionConfig, Stage};
use inference::error::Result;
use std::sync::Arc;
use std::time::Instant;

const ANSWER: u32 = 256;

/// Runs in turn, so that what else the machine does hits all.
const ROUNDS: usize = 3;

pub fn measure(model: &Arc<Model>) -> Result<()> {
    passes(model)?;
    // Greedy text of small and of random models goes round in circles; hot text of random ones never repeats itself.
    compare(model, "greedy", Sampler::new(model.info().n_vocab as usize))?;
    let mut hot = Sampler::new(model.info().n_vocab as usize);
    hot.add(Stage::Temperature(4.0))?;
    hot.set_seed(1);
    compare(model, "drawn", hot)
}

/// What a pass takes by its rows, in multiples of one row: what a guess of so many tokens costs, but for their logits.
fn passes(model: &Arc<Model>) -> Result<()> {
    let mut line = String::new();
    let mut one = 0.0;
    for n in [1, 2, 3, 5, 9, 13, 17] {
        let session = Session::new(model, SessionConfig { no_shared_prefix: true, ..SessionConfig::default() })?;
        session.append(&prompt(model, 64, 1))?;
        session.step(None, None, true)?;
        let mut best = f64::MAX;
        for _ in 0..8 {
            session.append(&vec![7; n])?;
            let before = Instant::now();
            session.step(None, None, true)?;
            best = best.min(before.elapsed().as_secs_f64() * 1e3);
        }
        one = if n == 1 { best } else { one };
        line += &format!(" {n}: {best:.2} ms ({:.2} x)", best / one);
    }
    println!("a pass of so many rows, with one output:{line}");
    Ok(())
}

fn compare(model: &Arc<Model>, name: &str, sampler: Sampler) -> Result<()> {
    const DRAFTS: [u32; 4] = [0, 4, 8, 16];
    let mut best = [0.0_f32; DRAFTS.len()];
    for _ in 0..ROUNDS {
        for (best, n_draft) in best.iter_mut().zip(DRAFTS) {
            let session = Session::new(model, SessionConfig { no_shared_prefix: true, ..SessionConfig::default() })?;
            let params = GenerateParams { n_draft, sampler: Some(sampler.clone()), ..ask(model, prompt(model, 32, 1), ANSWER) };
            let usage = finish(&*start(&session, params)?)?;
            *best = best.max((usage.output_tokens - 1) as f32 / usage.decode_ms * 1e3);
        }
    }
    let line: String =
        best.iter().zip(DRAFTS).skip(1).map(|(rate, n)| format!(", {n} guessed {rate:.1} ({:.2} x)", rate / best[0])).collect();
    println!("{name}: {:.1} tokens/s{line}", best[0]);
    Ok(())
}
