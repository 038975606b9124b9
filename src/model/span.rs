//! The part of a model that one device holds: some of its layers in a row, with the embedding before the first and the head behind the last.

use super::names::{Part, Role};
use super::spec::ModelSpec;
use crate::backend::Shape;
use std::ops::Range;

/// Consecutive layers of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Of the whole model.
    n_layers: usize,
    /// Those of this part.
    pub layers: Range<usize>,
}

impl Span {
    /// All of it.
    pub fn whole(spec: &ModelSpec) -> Self {
        Self::new(spec, 0..spec.layers.len())
    }

    /// These layers, which the model has.
    pub fn new(spec: &ModelSpec, layers: Range<usize>) -> Self {
        Self { n_layers: spec.layers.len(), layers }
    }

    /// The sizes of what computes it: as the model's, with the keys and values of its own layers.
    pub(super) fn shape(&self, spec: &ModelSpec) -> Shape {
        let n_layers = self.layers.clone().filter(|&i| spec.layers[i].kv.layer == i).count();
        Shape { n_layers, ..spec.shape }
    }

    /// True if it begins with the tokens.
    pub fn is_first(&self) -> bool {
        self.layers.start == 0
    }

    /// True if it ends with the logits.
    pub fn is_last(&self) -> bool {
        self.layers.end == self.n_layers
    }

    /// True if the embedding is needed here: for the tokens, or for a head that is tied to it.
    pub(super) fn has_embedding(&self, spec: &ModelSpec) -> bool {
        self.is_first() || (self.is_last() && spec.tied)
    }

    /// True if the tensor that GGUF calls `name` is read for it. What belongs to no layer and not to the head, every part reads.
    pub(super) fn reads(&self, name: &str, spec: &ModelSpec) -> bool {
        let is_of = |role: Role| name == role.gguf_name(0, Part::Weight) || name == role.gguf_name(0, Part::Bias);
        match layer_of(name) {
            Some(layer) => self.layers.contains(&layer),
            None if is_of(Role::TokenEmbedding) => self.has_embedding(spec),
            None if is_of(Role::Output) || is_of(Role::OutputNorm) => self.is_last(),
            None => true,
        }
    }
}

/// The layer in a tensor's name.
pub(super) fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}
