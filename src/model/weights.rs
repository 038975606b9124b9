//! The weights of a model on a backend, in the order in which the decoder needs them. `loader` reads each tensor.

use super::checkpoint::Checkpoint;
use super::family::{HeadNorms, NormPlaces, Presence};
use super::fingerprint::Fingerprint;
use super::loader::{Loader, Unused};
use super::names::{Part, Role};
use super::saved::Inventory;
use super::span::Span;
use super::spec::ModelSpec;
use crate::backend::{Altup, Backend, Experts, FeedForwardFn, HeadNorms as Norms, Join, Latent, Linear, Mlp, Norm, Rope, Streams};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use std::f32::consts::FRAC_1_SQRT_2;

/// One layer; shapes as [`Role`] gives them.
pub(super) struct Layer<B: Backend> {
    pub(super) attention_norm: Option<Norm<B>>,
    pub(super) attention: AttentionInput<B>,
    pub(super) head_norms: Option<LayerHeadNorms<B>>,
    /// `(n_heads,)`
    pub(super) sinks: Option<B::Vector>,
    pub(super) attention_output: Linear<B>,
    pub(super) attention_join: Join<B>,
    /// `None` where the feed-forward reads what attention reads, or the residual as it is.
    pub(super) feed_forward_norm: Option<Norm<B>>,
    pub(super) feed_forward: FeedForward<B>,
    pub(super) feed_forward_join: Join<B>,
    /// For models with several residual streams.
    pub(super) altup: Option<Box<Altup<B>>>,
}

/// The norms of heads.
pub(super) struct LayerHeadNorms<B: Backend> {
    pub(super) query: Norm<B>,
    /// `None` for a layer that reads the keys of another one.
    pub(super) key: Option<Norm<B>>,
    pub(super) value: Option<Norm<B>>,
}

impl<B: Backend> Layer<B> {
    /// The norms of a layer with keys and values of its own.
    pub(super) fn own_head_norms(&self) -> Option<Norms<'_, B>> {
        let norms = self.head_norms.as_ref()?;
        Some(Norms { query: &norms.query, key: norms.key.as_ref()?, value: norms.value.as_ref() })
    }
}

/// What attention is made of.
pub(super) enum AttentionInput<B: Backend> {
    /// Queries, keys and values of heads; no keys and values for a layer that reads those of another one.
    Heads { query: Linear<B>, key_value: Option<(Linear<B>, Linear<B>)> },
    /// Latents.
    Latent(Box<Latent<B>>),
}

/// The feed-forward of a layer.
pub(super) enum FeedForward<B: Backend> {
    /// The same for all rows.
    Every(Mlp<B>),
    /// Each row chooses.
    Experts(Box<Experts<B>>),
}

/// The weights of a model, or of a part of it.
pub(super) struct Weights<B: Backend> {
    /// Which layers these are.
    pub(super) span: Span,
    /// `(n_vocab, n_embd)`: where tokens come in, or go out of a tied head.
    pub(super) embedding: Option<B::Matrix>,
    /// For models with several residual streams.
    pub(super) streams: Option<Streams<B>>,
    /// Those of the span.
    pub(super) layers: Vec<Layer<B>>,
    /// `(n_embd,)`: behind the last layer.
    pub(super) output_norm: Option<Norm<B>>,
    /// `(n_vocab, n_embd)`: behind the last layer, unless it is tied to the embedding.
    pub(super) output: Option<B::Matrix>,
    /// `(n_vocab,)`: added to the logits.
    pub(super) output_bias: Option<Vec<f32>>,
    /// As the blueprint lists them.
    pub(super) ropes: Vec<Rope>,
    /// Bytes that they occupy.
    pub(super) n_bytes: u64,
    /// Of the tensors.
    pub(super) fingerprint: Fingerprint,
    /// What they are called, to save them.
    pub(super) inventory: Inventory,
}

impl<B: Backend> Weights<B> {
    /// Reads the weights of `span`, in slices: of a tensor's bytes, and of what the backend makes of it. Takes their names from `unused`.
    ///
    /// # Errors
    /// `Format` for a missing tensor or a wrong shape, `Unsupported` for a type this build does not know.
    pub(super) async fn load(file: &dyn Checkpoint, spec: &ModelSpec, span: Span, backend: &B, unused: &mut Unused<'_>) -> Result<Self> {
        let mut loader = Loader::new(file, spec, backend);
        let (n_vocab, n_embd) = (spec.n_vocab, spec.shape.n_embd);
        let embedding = match span.has_embedding(spec) {
            true => Some(loader.matrix(Role::TokenEmbedding, 0, n_vocab, n_embd).await?),
            false => None,
        };
        let streams = loader.streams().await?;
        let mut layers = Vec::new();
        for i in span.layers.clone() {
            layers.push(loader.layer(i).await?);
        }
        let output_norm = loader.norm_if(span.is_last(), Role::OutputNorm, 0).await?;
        let output = match span.is_last() && !spec.tied {
            true => Some(loader.matrix(Role::Output, 0, n_vocab, n_embd).await?),
            false => None,
        };
        let output_bias = if span.is_last() { loader.output_bias().await? } else { None };
        let ropes = loader.ropes().await?;
        let Loader { n_bytes, fingerprint, inventory, used, .. } = loader;
        unused.remove(&used);
        Ok(Self { span, embedding, streams, layers, output_norm, output, output_bias, ropes, n_bytes, fingerprint, inventory })
    }

    /// Norm and matrix of the head.
    pub(super) fn head(&self) -> Result<(&Norm<B>, &B::Matrix)> {
        match (&self.output_norm, self.output.as_ref().or(self.embedding.as_ref())) {
            (Some(norm), Some(matrix)) => Ok((norm, matrix)),
            _ => fail!(Internal, "the head of layers {:?}: it is elsewhere", self.span.layers),
        }
    }
}

impl<B: Backend> Loader<'_, B> {
    async fn layer(&mut self, i: usize) -> Result<Layer<B>> {
        let (s, family) = (self.spec.shape, self.spec.family);
        let attended = s.n_heads * s.latent.map_or(s.head_dim, |latent| latent.n_value);
        let (before, after) = (family.norms != NormPlaces::After, matches!(family.norms, NormPlaces::Around | NormPlaces::After));
        let before_feed_forward = before && family.norms != NormPlaces::Shared;
        Ok(Layer {
            attention_norm: self.norm_if(before, Role::AttentionNorm, i).await?,
            attention: match s.latent {
                Some(latent) => AttentionInput::Latent(Box::new(self.latent(i, latent).await?)),
                None => self.heads(i).await?,
            },
            head_norms: self.head_norms(i).await?,
            sinks: if family.has_sinks { Some(self.sinks(i).await?) } else { None },
            attention_output: self.linear(Role::AttentionOutput, i, s.n_embd, attended, family.output_bias).await?,
            attention_join: self.attention_join(after, i).await?,
            feed_forward_norm: self.norm_if(before_feed_forward, self.feed_forward_norm(i), i).await?,
            feed_forward: match self.spec.layers[i].has_experts {
                true => FeedForward::Experts(Box::new(self.experts(i).await?)),
                false => FeedForward::Every(self.mlp([Role::Gate, Role::Up, Role::Down], i).await?),
            },
            feed_forward_join: self.join(after, Role::PostFeedForwardNorm, i).await?,
            altup: self.altup(i).await?,
        })
    }

    async fn heads(&mut self, i: usize) -> Result<AttentionInput<B>> {
        let (s, bias) = (self.spec.shape, self.spec.family.qkv_bias);
        let (q, kv) = (s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim);
        Ok(AttentionInput::Heads {
            query: self.linear(Role::Query, i, q, s.n_embd, bias).await?,
            key_value: match self.spec.layers[i].kv.layer == i {
                true => {
                    Some((self.linear(Role::Key, i, kv, s.n_embd, bias).await?, self.linear(Role::Value, i, kv, s.n_embd, bias).await?))
                }
                false => None,
            },
        })
    }

    /// A feed-forward that every row takes.
    async fn mlp(&mut self, [gate, up, down]: [Role; 3], i: usize) -> Result<Mlp<B>> {
        let (n_embd, n_ff) = (self.spec.shape.n_embd, self.spec.layers[i].n_ff);
        Ok(Mlp {
            gate: match self.spec.family.feed_forward {
                FeedForwardFn::Gated(_) | FeedForwardFn::Sparse(..) | FeedForwardFn::Clamped => {
                    Some(self.linear(gate, i, n_ff, n_embd, Presence::Optional).await?)
                }
                FeedForwardFn::Plain(_) => None,
            },
            up: self.linear(up, i, n_ff, n_embd, Presence::Optional).await?,
            down: self.linear(down, i, n_embd, n_ff, Presence::Optional).await?,
        })
    }

    async fn experts(&mut self, i: usize) -> Result<Experts<B>> {
        let spec = self.spec;
        let (Some(moe), Some(traits)) = (&spec.moe, spec.family.experts) else {
            fail!(Internal, "layer {i} has experts in a model that has none");
        };
        let (n_experts, n_ff, n_embd) = (moe.shape.n_experts, moe.shape.n_ff, spec.shape.n_embd);
        let has_shared = spec.layers[i].n_ff > 0;
        Ok(Experts {
            router: self.linear(Role::Router, i, n_experts, n_embd, traits.bias).await?,
            choice_bias: self.values_if_there(&Role::ChoiceBias.gguf_name(i, Part::Bias), n_experts).await?,
            routing: moe.routing,
            gate: self.expert_linear(Role::ExpertGate, i, [n_experts, n_ff, n_embd], traits.bias).await?,
            up: self.expert_linear(Role::ExpertUp, i, [n_experts, n_ff, n_embd], traits.bias).await?,
            down: self.expert_linear(Role::ExpertDown, i, [n_experts, n_embd, n_ff], traits.bias).await?,
            shared: if has_shared { Some(self.mlp([Role::SharedGate, Role::SharedUp, Role::SharedDown], i).await?) } else { None },
            shared_gate: match traits.gates_shared && has_shared {
                true => Some(self.values(&Role::SharedRouter.gguf_name(i, Part::Weight), n_embd).await?),
                false => None,
            },
        })
    }

    /// What the norm before the feed-forward is called: some converters (gpt-oss) call it by what is in front of it.
    fn feed_forward_norm(&self, i: usize) -> Role {
        let is_called = |role: Role| self.has(&role.gguf_name(i, Part::Weight));
        let takes_other = self.spec.family.norms == NormPlaces::Before && !is_called(Role::FeedForwardNorm);
        if takes_other && is_called(Role::PostAttentionNorm) { Role::PostAttentionNorm } else { Role::FeedForwardNorm }
    }

    async fn sinks(&mut self, i: usize) -> Result<B::Vector> {
        let n_heads = self.spec.shape.n_heads;
        let name = Role::Sinks.gguf_name(i, Part::Weight);
        self.inventory.note(&name, DType::F32, &[n_heads], (Role::Sinks, i, Part::Weight));
        self.vector(&name, 0..n_heads, &[n_heads]).await
    }

    async fn head_norms(&mut self, i: usize) -> Result<Option<LayerHeadNorms<B>>> {
        let (s, is_own) = (self.spec.shape, self.spec.layers[i].kv.layer == i);
        let (query, key) = match self.spec.family.head_norms {
            HeadNorms::None => return Ok(None),
            HeadNorms::Unweighted => return self.unweighted_head_norms(i),
            HeadNorms::Each | HeadNorms::EachAndValues => (s.head_dim, s.head_dim),
            HeadNorms::Together => (s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim),
        };
        let has_value = is_own && self.spec.family.head_norms == HeadNorms::EachAndValues;
        Ok(Some(LayerHeadNorms {
            query: self.norm(Role::QueryNorm, i, query).await?,
            key: if is_own { Some(self.norm(Role::KeyNorm, i, key).await?) } else { None },
            value: if has_value { Some(self.ones()?) } else { None },
        }))
    }

    /// Norms of ones. The published model of 128 experts has none; no GGUF key says so, and llama.cpp knows it by its experts, too.
    fn unweighted_head_norms(&self, i: usize) -> Result<Option<LayerHeadNorms<B>>> {
        let is_largest = self.spec.moe.is_some_and(|moe| moe.shape.n_experts == 128);
        if is_largest || self.spec.layers[i].rope.is_none() {
            return Ok(None);
        }
        Ok(Some(LayerHeadNorms { query: self.ones()?, key: Some(self.ones()?), value: None }))
    }

    async fn norm_if(&mut self, wanted: bool, role: Role, i: usize) -> Result<Option<Norm<B>>> {
        if wanted { self.norm(role, i, self.spec.shape.n_embd).await.map(Some) } else { Ok(None) }
    }

    /// How attention joins the residual, which a learned one has made smaller by the root of two where there is one.
    async fn attention_join(&mut self, has_norm: bool, i: usize) -> Result<Join<B>> {
        let join = self.join(has_norm, Role::PostAttentionNorm, i).await?;
        Ok(if self.spec.family.has_streams { Join { scale: FRAC_1_SQRT_2, ..join } } else { join })
    }

    async fn join(&mut self, has_norm: bool, role: Role, i: usize) -> Result<Join<B>> {
        Ok(Join { norm: self.norm_if(has_norm, role, i).await?, scale: self.spec.residual_scale })
    }
}
