//! Attention over latents (DeepSeek-V2, arXiv 2405.04434, section 2.1): a token's keys and values of all heads are products of one short vector.
//!
//! Its matrices are associative: instead of the keys of every position, each head's query is multiplied once, and one value per head instead of all.
//! So the cache holds latents, and attention has a single KV head: the part that rotates, then the latent, which is both key and value.

use super::{Backend, Linear, Norm, Shape};

/// The sizes of attention over latents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentShape {
    /// Elements of a latent.
    pub rank: usize,
    /// Elements that rotate, of a query head and of a key.
    pub n_rot: usize,
    /// The other elements of a query head.
    pub n_still: usize,
    /// Elements of a head's value.
    pub n_value: usize,
    /// Elements of what queries are made of, where it is not the residual itself.
    pub query_rank: Option<usize>,
}

/// The projections of attention over latents.
pub struct Latent<B: Backend> {
    /// `(query_rank, n_embd)` and its norm, `(query_rank,)`: what queries are made of, if not the residual.
    pub query_down: Option<(Linear<B>, Norm<B>)>,
    /// `(n_heads * (n_still + n_rot), query_rank or n_embd)`: in each head the part that rotates comes last.
    pub query: Linear<B>,
    /// `(rank + n_rot, n_embd)`: the latent, then the part that rotates.
    pub key: Linear<B>,
    /// `(rank,)`: of the latent.
    pub norm: Norm<B>,
    /// `(n_heads * rank, n_still)`: one head's rows below the other's; takes a query to where latents are.
    pub key_up: Linear<B>,
    /// `(n_heads * n_value, rank)`: takes a latent to a head's value.
    pub value_up: Linear<B>,
}

impl Shape {
    /// Elements that attention hands to the output projection.
    pub(super) fn attended(&self) -> usize {
        self.n_heads * self.latent.map_or(self.head_dim, |latent| latent.n_value)
    }
}

impl LatentShape {
    /// Elements of a query head before it is taken to the latents.
    pub(super) fn query_dim(&self) -> usize {
        self.n_still + self.n_rot
    }

    /// True if nothing is empty, and `shape` has the heads that follow from it.
    pub(super) fn fits(&self, shape: &Shape) -> bool {
        let Self { rank, n_rot, n_still, n_value, query_rank } = *self;
        ![rank, n_rot, n_still, n_value, query_rank.unwrap_or(1)].contains(&0) && shape.n_kv_heads == 1 && shape.head_dim == n_rot + rank
    }
}
