//! Tokens per second with guesses and without: on text that repeats itself, and on text that does not.
//!
//! What a model with random weights says repeats itself by accident or not at all. So there is a second file whose embedding and head make it say the tokens of
//! a chain one after the other (`tools/bench/models.py`): with a prompt of these tokens it copies a text, and corrects where the prompt differs.

use crate::{ask, finish, prompt, start};
use inference::engine::{GenerateParams, Model, Sampler, Session, SessionConfig, Stage};
use inference::error::Result;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

const ANSWER: u32 = 192;

/// Runs in turn, so that what else the machine does hits all.
const ROUNDS: usize = 2;

/// What a chain model says, the first token behind the last.
const CHAIN: Range<u32> = 1000..2024;

/// One token of so many is changed in an edited text.
const EDITED: u32 = 20;

pub fn measure(model: &Arc<Model>) -> Result<()> {
    passes(model)?;
    // Greedy text of small models goes round in circles; hot text of random ones never repeats itself.
    let greedy = Sampler::new(model.info().n_vocab as usize);
    compare(model, "greedy", &prompt(model, 32, 1), greedy.clone())?;
    let mut hot = greedy;
    hot.add(Stage::Temperature(4.0))?;
    hot.set_seed(1);
    compare(model, "drawn at temperature 4", &prompt(model, 32, 1), hot)
}

/// Texts of known repetitions; the answer is the chain from its first token on.
pub fn measure_chain(model: &Arc<Model>) -> Result<()> {
    let greedy = Sampler::new(model.info().n_vocab as usize);
    let end = CHAIN.end - 1;
    let copied: Vec<u32> = CHAIN.take(ANSWER as usize + 32).chain([end]).collect();
    compare(model, "copied", &copied, greedy.clone())?;
    let changed = |(i, token)| if i % EDITED == EDITED - 1 { CHAIN.end + i } else { token };
    let edited: Vec<u32> = (0..).zip(CHAIN).map(changed).take(ANSWER as usize + 32).chain([end]).collect();
    compare(model, &format!("copied, one token of {EDITED} changed"), &edited, greedy.clone())?;
    compare(model, "nothing is repeated", &[end], greedy.clone())?;
    // Whatever two tokens come, they stand in the prompt, with another one behind them.
    let misleading: Vec<u32> = CHAIN.take(ANSWER as usize).flat_map(|token| [token, token + 1, CHAIN.end + token]).chain([end]).collect();
    compare(model, "each repetition misleads", &misleading, greedy)
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

fn compare(model: &Arc<Model>, name: &str, prompt: &[u32], sampler: Sampler) -> Result<()> {
    const DRAFTS: [u32; 3] = [0, 8, 16];
    let mut best = [0.0_f32; DRAFTS.len()];
    for _ in 0..ROUNDS {
        for (best, n_draft) in best.iter_mut().zip(DRAFTS) {
            let session = Session::new(model, SessionConfig { no_shared_prefix: true, ..SessionConfig::default() })?;
            let params = GenerateParams { n_draft, sampler: Some(sampler.clone()), ..ask(model, prompt.to_vec(), ANSWER) };
            let usage = finish(&*start(&session, params)?)?;
            *best = best.max((usage.output_tokens - 1) as f32 / usage.decode_ms * 1e3);
        }
    }
    let line: String =
        best.iter().zip(DRAFTS).skip(1).map(|(rate, n)| format!(", {n} guessed {rate:.1} ({:.2} x)", rate / best[0])).collect();
    println!("{name}: {:.1} tokens/s{line}", best[0]);
    Ok(())
}
