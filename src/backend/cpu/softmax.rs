//! States of online softmaxes as slices, and how two of them become one. Used by `attention`.
//!
//! A state of `n` queries is `max (n) | sum (n) | acc (n, head_dim)`: the largest score, the sum of `exp(score - max)`, and the values
//! weighted by it (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). Nothing seen yet is `-inf | 0 | 0`.

use crate::kernels::SoftmaxState;

/// Elements of a state.
pub(super) const fn len(n_queries: usize, head_dim: usize) -> usize {
    n_queries * (head_dim + 2)
}

/// `state` (`len(n_queries, head_dim)`) for a kernel, after forgetting what it holds.
pub(super) fn start(state: &mut [f32], n_queries: usize) -> SoftmaxState<'_> {
    let (max, rest) = state.split_at_mut(n_queries);
    max.fill(f32::NEG_INFINITY);
    rest.fill(0.0);
    let (sum, acc) = rest.split_at_mut(n_queries);
    SoftmaxState { max, sum, acc }
}

/// One query's running softmax.
pub(super) struct Running<'a> {
    max: f32,
    sum: f32,
    /// `(head_dim,)`
    acc: &'a mut [f32],
}

impl<'a> Running<'a> {
    /// Nothing seen yet; `acc` may hold anything.
    pub(super) fn new(acc: &'a mut [f32]) -> Self {
        acc.fill(0.0);
        Self { max: f32::NEG_INFINITY, sum: 0.0, acc }
    }

    /// Adds what query `i` of `n_queries` has seen in `state`. The order of additions is the order of calls: callers go by position.
    pub(super) fn merge(&mut self, state: &[f32], n_queries: usize, i: usize) {
        let head_dim = self.acc.len();
        let (max, sum) = (state[i], state[n_queries + i]);
        let acc = &state[2 * n_queries + i * head_dim..][..head_dim];
        if sum == 0.0 {
            return;
        }
        if self.sum == 0.0 {
            (self.max, self.sum) = (max, sum);
            self.acc.copy_from_slice(acc);
            return;
        }
        let larger = self.max.max(max);
        let (old, new) = ((self.max - larger).exp(), (max - larger).exp());
        self.max = larger;
        self.sum = self.sum * old + sum * new;
        self.acc.iter_mut().zip(acc).for_each(|(a, b)| *a = *a * old + b * new);
    }

    /// Adds a position of this score and no value.
    pub(super) fn add_sink(&mut self, score: f32) {
        let larger = self.max.max(score);
        let old = (self.max - larger).exp();
        self.max = larger;
        self.sum = self.sum * old + (score - larger).exp();
        self.acc.iter_mut().for_each(|x| *x *= old);
    }

    /// Leaves the weighted mean of the values in `acc`.
    pub(super) fn finish(self) {
        self.acc.iter_mut().for_each(|x| *x /= self.sum);
    }
}

/// Adds every query of `state` to its own in `total`, both of `n_queries`.
pub(super) fn merge(total: &mut [f32], state: &[f32], n_queries: usize) {
    let (max, rest) = total.split_at_mut(n_queries);
    let (sum, acc) = rest.split_at_mut(n_queries);
    let head_dim = acc.len() / n_queries;
    for (i, ((max, sum), acc)) in max.iter_mut().zip(sum).zip(acc.chunks_mut(head_dim)).enumerate() {
        let mut running = Running { max: *max, sum: *sum, acc };
        running.merge(state, n_queries, i);
        (*max, *sum) = (running.max, running.sum);
    }
}
