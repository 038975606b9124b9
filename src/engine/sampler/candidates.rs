//! The tokens a chain still considers, with their logits.

use crate::text::Token;
use std::cmp::Ordering;

/// The largest finite logit; the lowest id among equals.
pub(super) fn argmax(logits: &[f32]) -> Option<Token> {
    let mut best: Option<(f32, usize)> = None;
    for (id, &logit) in logits.iter().enumerate() {
        if logit.is_finite() && best.is_none_or(|(max, _)| logit > max) {
            best = Some((logit, id));
        }
    }
    best.map(|(_, id)| id as Token)
}

/// Most likely first; the lowest id first among equals, so that the order is total.
fn by_likelihood(a: &(f32, Token), b: &(f32, Token)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The nearest finite number, the lowest for a NaN: probabilities come from differences, and infinities have none.
fn finite(logit: f32) -> f32 {
    if logit.is_nan() { f32::MIN } else { logit.clamp(f32::MIN, f32::MAX) }
}

/// Tokens with their logits, all finite. Sorted, most likely first, once a truncation needed it.
#[derive(Clone, Default)]
pub(super) struct Candidates {
    /// `(logit, token)`
    items: Vec<(f32, Token)>,
    sorted: bool,
    /// Scratch of [`Self::draw`] and of top-p.
    weights: Vec<f64>,
}

impl Candidates {
    /// Starts over with every finite logit.
    pub(super) fn fill(&mut self, logits: &[f32]) {
        self.items.clear();
        let finite = logits.iter().enumerate().filter(|(_, l)| l.is_finite());
        self.items.extend(finite.map(|(id, &logit)| (logit, id as Token)));
        self.sorted = false;
    }

    /// True if no logit was finite.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Changes logits one by one; their order may change with them.
    pub(super) fn edit(&mut self, mut f: impl FnMut(Token, &mut f32)) {
        for (logit, token) in &mut self.items {
            f(*token, logit);
            *logit = finite(*logit);
        }
        self.sorted = false;
    }

    /// Multiplies all logits by a positive number, which keeps their order.
    pub(super) fn scale(&mut self, factor: f32) {
        self.items.iter_mut().for_each(|(logit, _)| *logit = finite(*logit * factor));
    }

    /// Keeps the `k` most likely.
    pub(super) fn keep_most_likely(&mut self, k: usize) {
        if !self.sorted && k < self.items.len() && k > 0 {
            // Selecting first makes the sort O(k log k) instead of O(n log n): vocabularies are large, k is small.
            self.items.select_nth_unstable_by(k - 1, by_likelihood);
            self.items.truncate(k);
        }
        self.sort();
        self.items.truncate(k.max(1));
    }

    /// Keeps the shortest prefix, most likely first, whose probabilities sum to at least `p`.
    pub(super) fn keep_nucleus(&mut self, p: f64) {
        self.sort();
        let total = self.exponentials();
        let mut sum = 0.0;
        let enough = self.weights.iter().position(|w| {
            sum += w / total;
            sum >= p
        });
        if let Some(last) = enough {
            self.items.truncate(last + 1);
        }
    }

    /// Keeps tokens at least `p` times as likely as the most likely one.
    pub(super) fn keep_relative(&mut self, p: f32) {
        let Some(max) = self.max() else { return };
        let floor = max + p.ln();
        self.items.retain(|(logit, _)| *logit >= floor);
    }

    /// The most likely token.
    pub(super) fn most_likely(&self) -> Option<Token> {
        self.items.iter().min_by(|a, b| by_likelihood(a, b)).map(|(_, token)| *token)
    }

    /// The token at `unit` (`[0, 1)`) of the cumulative distribution.
    pub(super) fn draw(&mut self, unit: f64) -> Option<Token> {
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

    fn max(&self) -> Option<f32> {
        self.items.iter().map(|(logit, _)| *logit).max_by(f32::total_cmp)
    }

    fn sort(&mut self) {
        if !self.sorted {
            self.items.sort_unstable_by(by_likelihood);
            self.sorted = true;
        }
    }

    /// Fills `weights` with `exp(logit - max)` and returns their sum; in f64, so that a large vocabulary sums exactly enough.
    fn exponentials(&mut self) -> f64 {
        let max = f64::from(self.max().unwrap_or(0.0));
        self.weights.clear();
        self.weights.extend(self.items.iter().map(|(logit, _)| (f64::from(*logit) - max).exp()));
        self.weights.iter().sum()
    }
}
