//! The tokens a chain still considers, with their logits: all of the vocabulary at first, a short list once a stage has cut it.

use crate::text::Token;
use std::cmp::Ordering;
use std::collections::HashMap;

/// The largest finite logit; the lowest id among equals.
pub(super) fn argmax(logits: &[f32]) -> Option<Token> {
    /// Maxima side by side, so that a compiler makes vectors of them: a vocabulary is read once per token and sequence.
    const LANES: usize = 16;
    let finite = |logit: f32| if logit.is_finite() { logit } else { f32::NEG_INFINITY };
    let (rows, rest) = logits.as_chunks::<LANES>();
    let mut maxima = [f32::NEG_INFINITY; LANES];
    for row in rows {
        maxima = std::array::from_fn(|lane| maxima[lane].max(finite(row[lane])));
    }
    let max = rest.iter().map(|logit| finite(*logit)).chain(maxima).fold(f32::NEG_INFINITY, f32::max);
    let id = logits.iter().position(|logit| *logit == max)?;
    max.is_finite().then_some(id as Token)
}

/// Most likely first; the lowest id first among equals, so that the order is total.
fn by_likelihood(a: &(f32, Token), b: &(f32, Token)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The nearest finite number, the lowest for a NaN: probabilities come from differences, and infinities have none.
/// `-inf` stays: it marks what is no candidate.
fn finite(logit: f32) -> f32 {
    match logit {
        f32::NEG_INFINITY => logit,
        logit if logit.is_nan() => f32::MIN,
        logit => logit.clamp(f32::MIN, f32::MAX),
    }
}

/// Logits looked at together while the few largest are searched: whole vector registers, and seldom one of them is large enough.
const CHUNK: usize = 32;

/// Tokens that are sorted first where a sum of probabilities decides how many are needed: mostly they are enough.
const FIRST_SORTED: usize = 64;

/// Tokens with their logits.
#[derive(Clone, Default)]
pub(super) struct Candidates {
    /// `(n_vocab,)` while `is_dense`: the logit of each token, `-inf` for those that are out.
    dense: Vec<f32>,
    is_dense: bool,
    /// `(logit, token)`, all finite; empty while `is_dense`.
    items: Vec<(f32, Token)>,
    /// `items` are in the order of [`by_likelihood`].
    sorted: bool,
    /// Scratch: `exp(logit - max)` of each item.
    weights: Vec<f64>,
}

impl Candidates {
    /// Starts over with every finite logit.
    pub(super) fn fill(&mut self, logits: &[f32]) {
        self.dense.clear();
        self.dense.extend(logits.iter().map(|&logit| if logit.is_finite() { logit } else { f32::NEG_INFINITY }));
        self.items.clear();
        (self.is_dense, self.sorted) = (true, false);
    }

    /// True if there is none.
    pub(super) fn is_empty(&self) -> bool {
        if self.is_dense { self.dense.iter().all(|logit| *logit == f32::NEG_INFINITY) } else { self.items.is_empty() }
    }

    /// Changes the logits of the tokens in `changes`; their order may change with them. One that becomes `-inf` is out.
    pub(super) fn adjust<T>(&mut self, changes: &HashMap<Token, T>, f: impl Fn(f32, &T) -> f32) {
        if self.is_dense {
            for (token, change) in changes {
                if let Some(logit) = self.dense.get_mut(*token as usize).filter(|logit| **logit != f32::NEG_INFINITY) {
                    *logit = finite(f(*logit, change));
                }
            }
            return;
        }
        for (logit, token) in &mut self.items {
            if let Some(change) = changes.get(token) {
                *logit = finite(f(*logit, change));
            }
        }
        self.items.retain(|(logit, _)| *logit != f32::NEG_INFINITY);
        self.sorted = false;
    }

    /// Multiplies all logits by a positive number, which keeps their order.
    pub(super) fn scale(&mut self, factor: f32) {
        self.dense.iter_mut().for_each(|logit| *logit = if *logit == f32::NEG_INFINITY { *logit } else { finite(*logit * factor) });
        self.items.iter_mut().for_each(|(logit, _)| *logit = finite(*logit * factor));
    }

    /// Keeps the `k` most likely.
    pub(super) fn keep_most_likely(&mut self, k: usize) {
        let k = k.max(1);
        if self.is_dense && k < self.dense.len() {
            self.collect_largest(k);
        }
        self.thin();
        if !self.sorted && k < self.items.len() {
            // Selecting first makes the sort O(k log k) instead of O(n log n): vocabularies are large, k is small.
            self.items.select_nth_unstable_by(k - 1, by_likelihood);
            self.items.truncate(k);
        }
        self.sort();
        self.items.truncate(k);
    }

    /// Moves the `k` largest of the dense logits, and not many more, to `items`: one pass that mostly finds a chunk to hold nothing large enough.
    fn collect_largest(&mut self, k: usize) {
        let room = (4 * k).max(1024);
        let mut threshold = f32::NEG_INFINITY;
        for (i, chunk) in self.dense.chunks(CHUNK).enumerate() {
            // Without a branch, so that it becomes a few vector instructions.
            if !chunk.iter().fold(false, |any, &logit| any | (logit > threshold)) {
                continue;
            }
            let larger = chunk.iter().enumerate().filter(|(_, logit)| **logit > threshold);
            self.items.extend(larger.map(|(k, &logit)| (logit, (i * CHUNK + k) as Token)));
            if self.items.len() >= room {
                self.items.select_nth_unstable_by(k - 1, by_likelihood);
                self.items.truncate(k);
                // An equal logit with a higher id would come after those that are there.
                threshold = self.items[k - 1].0;
            }
        }
        self.is_dense = false;
    }

    /// Goes over to the list, with everything that is left.
    fn thin(&mut self) {
        if self.is_dense {
            self.is_dense = false;
            let left = self.dense.iter().enumerate().filter(|(_, logit)| **logit != f32::NEG_INFINITY);
            self.items.extend(left.map(|(id, &logit)| (logit, id as Token)));
        }
    }

    /// Keeps the shortest prefix, most likely first, whose probabilities sum to at least `p`.
    pub(super) fn keep_nucleus(&mut self, p: f64) {
        self.thin();
        let Some(max) = self.max() else { return };
        let needed = p * self.exponentials();
        let (mut done, mut sum, mut n) = (0, 0.0, FIRST_SORTED);
        while done < self.items.len() {
            let end = n.min(self.items.len());
            self.sort_next(done, end);
            for (i, (logit, _)) in self.items.iter().enumerate().take(end).skip(done) {
                sum += (f64::from(*logit) - max).exp();
                if sum >= needed {
                    self.items.truncate(i + 1);
                    break;
                }
            }
            (done, n) = (end, 4 * n);
        }
        self.sorted = true;
    }

    /// Brings the most likely of `items[done..]` to `items[done..end]`, in order; what stands before is in order already.
    fn sort_next(&mut self, done: usize, end: usize) {
        if self.sorted {
            return;
        }
        if end < self.items.len() {
            self.items[done..].select_nth_unstable_by(end - done, by_likelihood);
        }
        self.items[done..end].sort_unstable_by(by_likelihood);
    }

    /// Keeps tokens at least `p` times as likely as the most likely one.
    pub(super) fn keep_relative(&mut self, p: f32) {
        let Some(max) = self.max() else { return };
        self.keep_above((max + f64::from(p).ln()) as f32);
    }

    /// Keeps tokens whose logit is at most `n` standard deviations below the largest.
    pub(super) fn keep_within_deviations(&mut self, n: f64) {
        let Some(max) = self.max() else { return };
        self.thin();
        let count = self.items.len() as f64;
        let mean = self.items.iter().map(|(logit, _)| f64::from(*logit)).sum::<f64>() / count;
        let variance = self.items.iter().map(|(logit, _)| (f64::from(*logit) - mean).powi(2)).sum::<f64>() / count;
        self.keep_above((max - n * variance.sqrt()) as f32);
    }

    fn keep_above(&mut self, floor: f32) {
        self.thin();
        self.items.retain(|(logit, _)| *logit >= floor);
    }

    /// Keeps the tokens whose surprise is nearest to the expected one (Meister et al., "Locally typical sampling", 2023), as few as have probability `p`.
    pub(super) fn keep_typical(&mut self, p: f64) {
        self.thin();
        let Some(max) = self.max() else { return };
        let total = self.exponentials();
        let surprise = |logit: f32| max + total.ln() - f64::from(logit);
        let entropy: f64 = self.items.iter().zip(&self.weights).map(|((logit, _), weight)| weight / total * surprise(*logit)).sum();
        let mut order: Vec<(f64, f64, Token)> = self
            .items
            .iter()
            .zip(&self.weights)
            .map(|((logit, token), w)| ((surprise(*logit) - entropy).abs(), w / total, *token))
            .collect();
        let nearest = |a: &(f64, f64, Token), b: &(f64, f64, Token)| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2));
        let (mut done, mut sum, mut n) = (0, 0.0, FIRST_SORTED);
        while done < order.len() && sum < p {
            let end = n.min(order.len());
            if end < order.len() {
                order[done..].select_nth_unstable_by(end - done, nearest);
            }
            order[done..end].sort_unstable_by(nearest);
            while done < end && sum < p {
                sum += order[done].1;
                done += 1;
            }
            n *= 4;
        }
        let mut kept: Vec<Token> = order[..done.max(1)].iter().map(|(_, _, token)| *token).collect();
        kept.sort_unstable();
        self.items.retain(|(_, token)| kept.binary_search(token).is_ok());
    }

    /// Drops all tokens of probability `threshold` or more but the least likely of them, if there are two at least (p-e-w's "exclude top choices").
    pub(super) fn exclude_top(&mut self, threshold: f64) {
        self.thin();
        let total = self.exponentials();
        let top = self.items.iter().zip(&self.weights).filter(|(_, weight)| **weight / total >= threshold).map(|(item, _)| *item);
        let Some(least) = top.clone().max_by(by_likelihood).filter(|_| top.clone().nth(1).is_some()) else { return };
        let mut dropped: Vec<Token> = top.map(|(_, token)| token).filter(|token| *token != least.1).collect();
        dropped.sort_unstable();
        self.items.retain(|(_, token)| dropped.binary_search(token).is_err());
    }

    /// Keeps tokens whose surprise is at most `bits`, and the most likely one.
    pub(super) fn keep_unsurprising(&mut self, bits: f64) {
        let Some(most_likely) = self.most_likely() else { return };
        self.thin();
        let Some(max) = self.max() else { return };
        // -log2 p <= bits, with p = exp(logit - max) / total.
        let floor = max + self.exponentials().ln() - bits * std::f64::consts::LN_2;
        self.items.retain(|(logit, token)| f64::from(*logit) >= floor || *token == most_likely);
    }

    /// The entropy of the distribution over that of an even one, `[0, 1]`; 0 for a single token.
    pub(super) fn relative_entropy(&mut self) -> f64 {
        self.thin();
        let Some(max) = self.max().filter(|_| self.items.len() > 1) else { return 0.0 };
        let total = self.exponentials();
        let surprise = |logit: f32| max + total.ln() - f64::from(logit);
        let entropy: f64 = self.items.iter().zip(&self.weights).map(|((logit, _), weight)| weight / total * surprise(*logit)).sum();
        (entropy / (self.items.len() as f64).ln()).clamp(0.0, 1.0)
    }

    /// The probability of `token` among those that are left.
    pub(super) fn probability(&mut self, token: Token) -> f64 {
        self.thin();
        let total = self.exponentials();
        let at = self.items.iter().position(|(_, other)| *other == token);
        at.map_or(0.0, |at| self.weights[at] / total)
    }

    /// The most likely token.
    pub(super) fn most_likely(&self) -> Option<Token> {
        if self.is_dense {
            return argmax(&self.dense);
        }
        self.items.iter().min_by(|a, b| by_likelihood(a, b)).map(|(_, token)| *token)
    }

    /// The token at `unit` (`[0, 1)`) of the cumulative distribution.
    pub(super) fn draw(&mut self, unit: f64) -> Option<Token> {
        self.thin();
        let total = self.exponentials();
        let target = unit * total;
        let mut sum = 0.0;
        let hit = self.weights.iter().position(|w| {
            sum += w;
            sum > target
        });
        // Rounding can leave the sum just below the target: then it is the last one.
        self.items.get(hit.unwrap_or(self.items.len().saturating_sub(1))).map(|(_, token)| *token)
    }

    /// The largest logit.
    fn max(&self) -> Option<f64> {
        let max = match self.is_dense {
            true => self.dense.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            false => self.items.iter().map(|(logit, _)| *logit).fold(f32::NEG_INFINITY, f32::max),
        };
        (max != f32::NEG_INFINITY).then_some(f64::from(max))
    }

    fn sort(&mut self) {
        if !self.sorted {
            self.items.sort_unstable_by(by_likelihood);
            self.sorted = true;
        }
    }

    /// Fills `weights` with `exp(logit - max)` and returns their sum; in f64, so that a large vocabulary sums exactly enough.
    fn exponentials(&mut self) -> f64 {
        let max = self.max().unwrap_or(0.0);
        self.weights.clear();
        self.weights.extend(self.items.iter().map(|(logit, _)| (f64::from(*logit) - max).exp()));
        self.weights.iter().sum()
    }
}
