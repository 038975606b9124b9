//! The tokens a chain still considers, with their logits: all of the vocabulary at first, a short list once a stage has cut it.

use crate::text::Token;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Numbers that are handled side by side, so that a compiler makes vectors of them: a vocabulary is read once per token and sequence.
const LANES: usize = 16;

/// The largest finite logit; the lowest id among equals.
pub(super) fn argmax(logits: &[f32]) -> Option<Token> {
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

/// The larger of two numbers that are both finite or `-inf`. Not `f32::max`, whose care for NaN costs a second instruction.
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The largest of numbers that are all finite or `-inf`.
fn largest(logits: &[f32]) -> f32 {
    let (chunks, rest) = logits.as_chunks();
    chunks.iter().map(largest_of_chunk).chain(rest.iter().copied()).fold(f32::NEG_INFINITY, larger)
}

/// As [`largest`], by halves: compilers make vectors of that, and of a running maximum not always.
fn largest_of_chunk(chunk: &[f32; CHUNK]) -> f32 {
    let (mut left, mut n) = (*chunk, CHUNK / 2);
    while n > 0 {
        for i in 0..n {
            left[i] = larger(left[i], left[i + n]);
        }
        n /= 2;
    }
    left[0]
}

/// The number, or `-inf` if it is not finite.
fn finite_or_out(logit: f32) -> f32 {
    if logit.abs() < f32::INFINITY { logit } else { f32::NEG_INFINITY }
}

/// Takes out of `chunk` what has no bit in `word`, and returns the largest that is left.
fn clear_unset(chunk: &mut [f32], word: u32) -> f32 {
    let unset = chunk.iter_mut().enumerate().filter(|(bit, _)| word >> bit & 1 == 0);
    unset.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
    largest(chunk)
}

/// The places of the bits of `word` that are set.
fn set_bits(word: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1))).take_while(|rest| *rest != 0).map(u32::trailing_zeros)
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

/// Logits looked at together: as many as a word of a mask has bits.
const CHUNK: usize = 32;

/// Fewer tokens than this, where a mask leaves no more, are a list from the beginning.
const FEW: usize = 4096;

/// Tokens that are sorted first where a sum of probabilities decides how many are needed: mostly they are enough.
const FIRST_SORTED: usize = 64;

/// Tokens with their logits.
#[derive(Clone, Default)]
pub(in crate::engine) struct Candidates {
    /// `(n_vocab,)` while `is_dense`: the logit of each token, `-inf` for those that are out.
    dense: Vec<f32>,
    is_dense: bool,
    /// `(ceil(n_vocab / CHUNK),)`: the largest logit of each chunk of `dense`, so that most chunks are never looked at again.
    maxima: Vec<f32>,
    /// `(logit, token)`, all finite; empty while `is_dense`.
    items: Vec<(f32, Token)>,
    /// `items` are in the order of [`by_likelihood`].
    sorted: bool,
    /// Scratch: `exp(logit - max)` of each item.
    weights: Vec<f64>,
}

impl Candidates {
    /// The `n` most likely of `logits`, most likely first.
    pub(in crate::engine) fn most_likely_of(&mut self, logits: &[f32], n: usize) -> &[(f32, Token)] {
        self.fill(logits, None);
        self.keep_most_likely(n);
        &self.items
    }

    /// Starts over with every finite logit whose bit in `mask`, `(ceil(n_vocab / 32),)`, is set, if there is one.
    pub(super) fn fill(&mut self, logits: &[f32], mask: Option<&[u32]>) {
        self.items.clear();
        self.sorted = false;
        let n_allowed = mask.map_or(logits.len(), |mask| mask.iter().map(|word| word.count_ones() as usize).sum());
        self.is_dense = n_allowed >= FEW || n_allowed == logits.len();
        if self.is_dense {
            self.fill_dense(logits, mask);
        } else {
            let allowed =
                mask.into_iter().flatten().zip((0..).step_by(CHUNK)).flat_map(|(&word, first)| set_bits(word).map(move |bit| first + bit));
            let found = allowed.filter_map(|id| Some((*logits.get(id as usize)?, id)));
            self.items.extend(found.filter(|(logit, _)| logit.is_finite()));
        }
    }

    fn fill_dense(&mut self, logits: &[f32], mask: Option<&[u32]>) {
        self.dense.resize(logits.len(), 0.0);
        self.maxima.clear();
        self.maxima.reserve(logits.len().div_ceil(CHUNK));
        let ((to, to_rest), (from, from_rest)) = (self.dense.as_chunks_mut(), logits.as_chunks::<CHUNK>());
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.map(finite_or_out);
            self.maxima.push(largest_of_chunk(to));
        }
        if !from_rest.is_empty() {
            to_rest.iter_mut().zip(from_rest).for_each(|(to, &from)| *to = finite_or_out(from));
            self.maxima.push(largest(to_rest));
        }
        let Some(mask) = mask else { return };
        let words = mask.iter().copied().chain(std::iter::repeat(0));
        for ((chunk, max), word) in self.dense.chunks_mut(CHUNK).zip(&mut self.maxima).zip(words).filter(|(_, word)| *word != u32::MAX) {
            *max = clear_unset(chunk, word);
        }
    }

    /// True if there is none.
    pub(super) fn is_empty(&self) -> bool {
        if self.is_dense { self.max().is_none() } else { self.items.is_empty() }
    }

    /// Changes the logits of the tokens in `changes`; their order may change with them. One that becomes `-inf` is out.
    pub(super) fn adjust<T>(&mut self, changes: &HashMap<Token, T>, f: impl Fn(f32, &T) -> f32) {
        if self.is_dense {
            for (token, change) in changes {
                let token = *token as usize;
                if let Some(logit) = self.dense.get_mut(token).filter(|logit| **logit != f32::NEG_INFINITY) {
                    *logit = finite(f(*logit, change));
                    let chunk = token / CHUNK * CHUNK;
                    let end = self.dense.len().min(chunk + CHUNK);
                    self.maxima[token / CHUNK] = largest(&self.dense[chunk..end]);
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
        let scaled = |logit: &mut f32| *logit = if *logit == f32::NEG_INFINITY { *logit } else { finite(*logit * factor) };
        if self.is_dense {
            self.dense.iter_mut().chain(&mut self.maxima).for_each(scaled);
        }
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

    /// Moves the `k` largest of the dense logits, and not many more, to `items`: `k` chunks have a logit as large as the `k`-th largest of their maxima.
    fn collect_largest(&mut self, k: usize) {
        let mut maxima = self.maxima.clone();
        let threshold = match k <= maxima.len() {
            true => *maxima.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1,
            false => f32::NEG_INFINITY,
        };
        self.collect_from(threshold);
    }

    /// Goes over to the list, with what is left of `floor` or more.
    fn collect_from(&mut self, floor: f32) {
        self.is_dense = false;
        let chunks = self.dense.chunks(CHUNK).zip(&self.maxima).zip((0..).step_by(CHUNK));
        for ((chunk, &max), first) in chunks.filter(|((_, max), _)| **max >= floor && **max != f32::NEG_INFINITY) {
            debug_assert!(chunk.contains(&max));
            let left = chunk.iter().zip(first..).filter(|(logit, _)| **logit >= floor && **logit != f32::NEG_INFINITY);
            self.items.extend(left.map(|(&logit, id): (_, Token)| (logit, id)));
        }
    }

    /// Goes over to the list, with everything that is left.
    fn thin(&mut self) {
        if self.is_dense {
            self.collect_from(f32::NEG_INFINITY);
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
        if self.is_dense {
            return self.collect_from(floor);
        }
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
            true => largest(&self.maxima),
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
