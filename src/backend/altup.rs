//! Several residual streams (AltUp, Baykal et al. 2023, arXiv 2301.13310) as Gemma 3n has them: layers compute on one stream and correct all of them; a
//! learned low-rank residual (LAuReL, Menghani et al. 2024, arXiv 2411.07501) runs beside attention; and every layer reads an embedding of its own.
//!
//! The residual that the other stages read and write is the active stream while a layer computes. Used by [`Backend::streams`], built by `model`.

use super::{Backend, Linear, Norm};
use crate::kernels::GateFn;

/// The sizes of a model with several streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltupShape {
    /// Residual streams.
    pub n_streams: usize,
    /// The one that layers compute on.
    pub active: usize,
    /// Width of the embedding that each layer has of a token.
    pub n_per_layer: usize,
    /// Layers that have one.
    pub n_layers: usize,
    /// Rank of the learned residual.
    pub rank: usize,
}

impl AltupShape {
    /// Most streams: published models have 4.
    pub const MOST_STREAMS: usize = 16;

    /// Width of the embeddings of all layers together.
    pub fn n_inputs(&self) -> usize {
        self.n_layers * self.n_per_layer
    }
}

/// What a model with several streams has once.
pub struct Streams<B: Backend> {
    /// `((n_streams - 1) * n_embd, n_embd)`: makes the other streams of the embedding, one below the other.
    pub spread: Linear<B>,
    /// `((n_streams - 1) * n_embd, n_embd)`: what the other streams are before they are averaged; each has rows of its own.
    pub merge: Linear<B>,
    /// `(n, n_layers * n_per_layer)`: the embeddings of all layers. A token that it has no row for takes the first one, as transformers has it.
    pub table: B::Matrix,
    /// `(n_layers * n_per_layer, n_embd)`: the part of the layers' inputs that follows from the embedding.
    pub inputs: Linear<B>,
    /// `(n_per_layer,)`: normalises that part, layer by layer.
    pub inputs_norm: Norm<B>,
}

/// What a layer has beside attention and feed-forward.
pub struct Altup<B: Backend> {
    /// `(n_embd,)`
    pub router_norm: Norm<B>,
    /// `(n_streams, n_embd)`
    pub router: Vec<f32>,
    /// `(n_streams, n_streams, n_streams)`: of each stream, how much it takes of each other one, by what the router says of each.
    pub predict: Vec<f32>,
    /// `(n_streams, n_streams)`: of each stream, how much of the correction it takes beyond one.
    pub correct: Vec<f32>,
    /// `(n_embd,)`: scales the corrected stream before the layer's input gates it.
    pub output_scale: Vec<f32>,
    /// `(rank, n_embd)`
    pub laurel_left: Linear<B>,
    /// `(n_embd, rank)`
    pub laurel_right: Linear<B>,
    /// `(n_embd,)`
    pub laurel_norm: Norm<B>,
    /// `(n_per_layer, n_embd)`
    pub gate: Linear<B>,
    /// `(n_embd, n_per_layer)`
    pub output: Linear<B>,
    /// `(n_embd,)`
    pub output_norm: Norm<B>,
    /// What is between `gate` and the layer's input.
    pub f: GateFn,
}

/// A stage of a model with several streams. Magnitudes are root mean squares; that of a new stream is not taken below `sqrt(`[`Self::TINY`]`)`.
pub enum StreamStage<'a, B: Backend> {
    /// After `embed`: the residual becomes stream 0, the others are its projections with its magnitude; and the layers' inputs are made.
    Spread(&'a Streams<B>),
    /// Before a layer: each stream becomes what the layer is expected to make of it, and the active one the residual.
    Predict(&'a Altup<B>),
    /// Beside attention, after its projections: `residual = (residual + x + laurel(x)) / sqrt(2)` with `x = norm(residual)`.
    Laurel(&'a Altup<B>, &'a Norm<B>),
    /// After layer number `.1`: each stream is corrected by what the residual has become, and all but the first take what the layer's input makes of
    /// the active one.
    Correct(&'a Altup<B>, usize),
    /// Before the head: the residual of the rows that have outputs becomes the mean of all streams, at the magnitude of the first.
    Merge(&'a Streams<B>),
}

impl<B: Backend> StreamStage<'_, B> {
    /// Smallest mean square that something is divided by the root of.
    pub const TINY: f32 = 1e-5;
}
