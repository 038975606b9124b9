//! The probabilities of chosen tokens as JSON, in the shape of OpenAI's API. For generations that ask for them.

use crate::engine::probability::log_sum;
use crate::engine::sampler::Candidates;
use crate::text::chat::Json;
use crate::text::{Token, Tokenizer};

/// Collects what the next event tells about its tokens.
pub(super) struct Logprobs {
    n_top: usize,
    candidates: Candidates,
    /// One per token that was not told yet.
    untold: Vec<Json>,
}

impl Logprobs {
    pub(super) fn new(n_top: u32) -> Self {
        Self { n_top: n_top as usize, candidates: Candidates::default(), untold: Vec::new() }
    }

    /// Notes `token`, which was chosen from `logits`, `(n_vocab,)`: those of the model, before any stage of a chain. Without logits, there was no choice.
    pub(super) fn note(&mut self, tokenizer: &Tokenizer, token: Token, logits: Option<&[f32]>) {
        let mut top = Vec::new();
        let mut own = 0.0;
        if let Some(logits) = logits {
            let sum = log_sum(logits);
            own = logits.get(token as usize).map_or(0.0, |logit| logit - sum);
            if self.n_top > 0 {
                let likeliest = self.candidates.most_likely_of(logits, self.n_top).iter();
                top = likeliest.map(|&(logit, token)| Json::Object(described(tokenizer, token, logit - sum))).collect();
            }
        }
        let mut fields = described(tokenizer, token, own);
        fields.push(("top_logprobs".to_owned(), Json::Array(top)));
        self.untold.push(Json::Object(fields));
    }

    /// What is to be told, as a list; it begins anew then.
    pub(super) fn take(&mut self) -> String {
        Json::Array(std::mem::take(&mut self.untold)).to_string()
    }
}

/// `"token":"He","id":17,"logprob":-0.25,"bytes":[72,101]`
fn described(tokenizer: &Tokenizer, token: Token, logprob: f32) -> Vec<(String, Json)> {
    let bytes = tokenizer.token_bytes(token).unwrap_or_default();
    let numbers = bytes.iter().map(|&byte| Json::Int(byte.into())).collect();
    // JSON has no infinity: a token that cannot be is as unlikely as numbers go.
    let logprob = f64::from(logprob.max(f32::MIN));
    let text = Json::String(String::from_utf8_lossy(bytes).into_owned());
    let fields = [("token", text), ("id", Json::Int(token.into())), ("logprob", Json::Float(logprob)), ("bytes", Json::Array(numbers))];
    fields.map(|(key, value)| (key.to_owned(), value)).to_vec()
}
