//! Sixteen streams at once: tokens per second, beside what one alone and a prompt reach; and multiply-adds per second beside those of a prompt.

use crate::{N_SESSIONS, ask, finish, prompt, start};
use inference::engine::{Model, Session, SessionConfig};
use inference::error::Result;
use std::sync::Arc;
use std::time::Instant;

const ANSWER: u32 = 64;

pub fn measure(model: &Arc<Model>) -> Result<()> {
    let rate = |n: u32| -> Result<f64> {
        let sessions = (0..n).map(|_| Session::new(model, SessionConfig::default())).collect::<Result<Vec<_>>>()?;
        let running =
            sessions.iter().zip(0..).map(|(s, i)| start(s, ask(model, prompt(model, 64, i), ANSWER))).collect::<Result<Vec<_>>>()?;
        let (mut n_tokens, mut ms) = (0, 0.0_f32);
        for generation in &running {
            let usage = finish(generation)?;
            (n_tokens, ms) = (n_tokens + usage.output_tokens - 1, ms.max(usage.decode_ms));
        }
        Ok(f64::from(n_tokens) / f64::from(ms) * 1e3)
    };
    let (one, all) = (rate(1)?, rate(N_SESSIONS)?);
    let session = Session::new(model, SessionConfig { no_shared_prefix: true, ..SessionConfig::default() })?;
    let tokens = prompt(model, 512, 1);
    session.append(&tokens)?;
    let before = Instant::now();
    session.step(None, None, true)?;
    let prefill = tokens.len() as f64 / before.elapsed().as_secs_f64();
    // A token of an answer goes through the head, which most models have in common with the embedding; a prompt's only the last.
    let info = model.info();
    let head = u64::from(info.n_vocab) * u64::from(info.n_embd);
    let per_token = info.n_params as f64 / (info.n_params - head) as f64;
    println!(
        "one stream {one:.1} tokens/s, {N_SESSIONS} together {all:.1} ({:.2} x), a prompt of {} {prefill:.1}; multiply-adds per second {:.2} of the prompt's",
        all / one,
        tokens.len(),
        all * per_token / prefill
    );
    Ok(())
}
