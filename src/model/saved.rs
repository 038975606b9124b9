//! What a model holds, tensor by tensor, as a file would store it: noted while it loads, given back when it is saved.

use super::names::{Part, Role};
use super::weights::{AttentionInput, FeedForward, Layer, Weights};
use crate::backend::{Backend, Experts, Linear, Mlp, Norm};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use std::io::Write;

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// The name in a GGUF file.
    pub name: String,
    /// How it is held.
    pub dtype: DType,
    /// In ggml's order: columns first.
    pub shape: Vec<usize>,
}

/// Where it is.
pub(super) enum Content {
    /// In the weights: several roles, one below the other, where a tensor of the file held them so.
    Weights(Vec<(Role, usize, Part)>),
    /// Here: the weights have it in another form.
    Values(Vec<f32>),
}

/// The tensors of a model, in the order in which they were read.
#[derive(Default)]
pub(super) struct Inventory {
    pub(super) tensors: Vec<StoredTensor>,
    contents: Vec<Content>,
}

/// What a tensor is on a backend.
enum Held<'a, B: Backend> {
    Matrix(&'a B::Matrix),
    Vector(&'a B::Vector),
}

impl Inventory {
    /// Notes that `role` is (a part of) the tensor called `name`: below what was noted before.
    pub(super) fn note(&mut self, name: &str, dtype: DType, shape: &[usize], role: (Role, usize, Part)) {
        if let Some(i) = self.tensors.iter().position(|tensor| tensor.name == name)
            && let (Some(rows), Some(more), Content::Weights(roles)) =
                (self.tensors[i].shape.last_mut(), shape.last(), &mut self.contents[i])
        {
            *rows += more;
            return roles.push(role);
        }
        self.tensors.push(StoredTensor { name: name.to_owned(), dtype, shape: shape.to_vec() });
        self.contents.push(Content::Weights(vec![role]));
    }

    /// Notes the tensor called `name`, which is kept as it is.
    pub(super) fn note_values(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        if !self.tensors.iter().any(|tensor| tensor.name == name) {
            self.tensors.push(StoredTensor { name: name.to_owned(), dtype: DType::F32, shape: shape.to_vec() });
            self.contents.push(Content::Values(values.to_vec()));
        }
    }

    /// Writes the bytes of tensor `i`.
    ///
    /// # Errors
    /// `Unsupported` by the backend, `Io` from `out`, `OutOfMemory`.
    pub(super) fn write<B: Backend>(&self, i: usize, weights: &Weights<B>, backend: &B, out: &mut dyn Write) -> Result<()> {
        match self.contents.get(i) {
            Some(Content::Values(values)) => write_floats(values, out),
            Some(Content::Weights(roles)) => roles.iter().try_for_each(|&(role, layer, part)| match weights.held(role, layer, part) {
                Some(Held::Matrix(matrix)) => backend.write_matrix(matrix, out),
                Some(Held::Vector(vector)) => write_floats(&backend.vector_values(vector)?, out),
                None => fail!(Internal, "{}: noted, but not held", self.tensors[i].name),
            }),
            None => fail!(Internal, "tensor {i} of {}", self.tensors.len()),
        }
    }
}

fn write_floats(values: &[f32], out: &mut dyn Write) -> Result<()> {
    values.iter().try_for_each(|x| Ok(out.write_all(&x.to_le_bytes())?))
}

impl<B: Backend> Weights<B> {
    /// The weights that play `role`.
    fn held(&self, role: Role, layer: usize, part: Part) -> Option<Held<'_, B>> {
        match role {
            Role::TokenEmbedding => self.embedding.as_ref().map(Held::Matrix),
            Role::Output => self.output.as_ref().map(Held::Matrix),
            Role::OutputNorm => of_norm(self.output_norm.as_ref()?, part),
            Role::StreamSpread => of_linear(&self.streams.as_ref()?.spread, part),
            Role::StreamMerge => of_linear(&self.streams.as_ref()?.merge, part),
            Role::PerLayerEmbedding => Some(Held::Matrix(&self.streams.as_ref()?.table)),
            Role::PerLayerInputs => of_linear(&self.streams.as_ref()?.inputs, part),
            Role::PerLayerInputsNorm => of_norm(&self.streams.as_ref()?.inputs_norm, part),
            _ => self.layers.get(layer.checked_sub(self.span.layers.start)?)?.held(role, part),
        }
    }
}

impl<B: Backend> Layer<B> {
    fn held(&self, role: Role, part: Part) -> Option<Held<'_, B>> {
        match role {
            Role::Query | Role::Key | Role::Value => of_heads(&self.attention, role, part),
            Role::QueryDown | Role::QueryDownNorm | Role::QueryUp => of_heads(&self.attention, role, part),
            Role::LatentKey | Role::LatentNorm | Role::KeyUp | Role::ValueUp => of_heads(&self.attention, role, part),
            Role::AttentionOutput => of_linear(&self.attention_output, part),
            Role::Sinks => self.sinks.as_ref().map(Held::Vector),
            Role::AttentionNorm => of_norm(self.attention_norm.as_ref()?, part),
            Role::FeedForwardNorm => of_norm(self.feed_forward_norm.as_ref()?, part),
            Role::QueryNorm => of_norm(&self.head_norms.as_ref()?.query, part),
            Role::KeyNorm => of_norm(self.head_norms.as_ref()?.key.as_ref()?, part),
            Role::StreamRouterNorm => of_norm(&self.altup.as_ref()?.router_norm, part),
            Role::LaurelLeft => of_linear(&self.altup.as_ref()?.laurel_left, part),
            Role::LaurelRight => of_linear(&self.altup.as_ref()?.laurel_right, part),
            Role::LaurelNorm => of_norm(&self.altup.as_ref()?.laurel_norm, part),
            Role::PerLayerGate => of_linear(&self.altup.as_ref()?.gate, part),
            Role::PerLayerOutput => of_linear(&self.altup.as_ref()?.output, part),
            Role::PerLayerOutputNorm => of_norm(&self.altup.as_ref()?.output_norm, part),
            // Some files call the norm in front of the feed-forward by what is in front of it.
            Role::PostAttentionNorm => of_norm(self.attention_join.norm.as_ref().or(self.feed_forward_norm.as_ref())?, part),
            Role::PostFeedForwardNorm => of_norm(self.feed_forward_join.norm.as_ref()?, part),
            _ => match &self.feed_forward {
                FeedForward::Every(mlp) => of_mlp(mlp, [Role::Gate, Role::Up, Role::Down], role, part),
                FeedForward::Experts(experts) => of_experts(experts, role, part),
            },
        }
    }
}

fn of_heads<B: Backend>(attention: &AttentionInput<B>, role: Role, part: Part) -> Option<Held<'_, B>> {
    match attention {
        AttentionInput::Heads { query, key_value } => match role {
            Role::Query => of_linear(query, part),
            Role::Key => of_linear(&key_value.as_ref()?.0, part),
            Role::Value => of_linear(&key_value.as_ref()?.1, part),
            _ => None,
        },
        AttentionInput::Latent(latent) => match role {
            Role::Query | Role::QueryUp => of_linear(&latent.query, part),
            Role::QueryDown => of_linear(&latent.query_down.as_ref()?.0, part),
            Role::QueryDownNorm => of_norm(&latent.query_down.as_ref()?.1, part),
            Role::LatentKey => of_linear(&latent.key, part),
            Role::LatentNorm => of_norm(&latent.norm, part),
            Role::KeyUp => of_linear(&latent.key_up, part),
            Role::ValueUp => of_linear(&latent.value_up, part),
            _ => None,
        },
    }
}

fn of_mlp<B: Backend>(mlp: &Mlp<B>, [gate, up, down]: [Role; 3], role: Role, part: Part) -> Option<Held<'_, B>> {
    match role {
        _ if role == gate => of_linear(mlp.gate.as_ref()?, part),
        _ if role == up => of_linear(&mlp.up, part),
        _ if role == down => of_linear(&mlp.down, part),
        _ => None,
    }
}

fn of_experts<B: Backend>(experts: &Experts<B>, role: Role, part: Part) -> Option<Held<'_, B>> {
    match role {
        Role::Router => of_linear(&experts.router, part),
        Role::ExpertGate => of_linear(&experts.gate, part),
        Role::ExpertUp => of_linear(&experts.up, part),
        Role::ExpertDown => of_linear(&experts.down, part),
        _ => of_mlp(experts.shared.as_ref()?, [Role::SharedGate, Role::SharedUp, Role::SharedDown], role, part),
    }
}

fn of_linear<B: Backend>(linear: &Linear<B>, part: Part) -> Option<Held<'_, B>> {
    match part {
        Part::Weight => Some(Held::Matrix(&linear.weight)),
        Part::Bias => linear.bias.as_ref().map(Held::Vector),
    }
}

fn of_norm<B: Backend>(norm: &Norm<B>, part: Part) -> Option<Held<'_, B>> {
    match part {
        Part::Weight => Some(Held::Vector(&norm.weight)),
        Part::Bias => norm.bias.as_ref().map(Held::Vector),
    }
}
