//! The blueprint of a model: every number of it, checked, before a weight is read.

use super::config::{Config, Key, bounds, in_bounds};
use super::config_gguf::GgufConfig;
use super::family::{Family, LocalRope, Windows};
use super::names::{Part, Role};
use super::rope::{RopeScaling, RopeSpec, Yarn};
use super::spec_altup::AltupSpec;
use super::spec_moe::MoeSpec;
use crate::backend::{Attention, FeedForwardFn, NormKind, Shape, Sight, Temperature};
use crate::error::Result;
use crate::fail;
use crate::formats::gguf::Gguf;
use crate::formats::names::Quoted;
use std::ops::Range;

/// Where the keys and values are that a layer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvPlace {
    /// The layer that makes them: the layer itself, or one before it.
    pub layer: usize,
    /// Their place in storage, which has one for each layer that makes some.
    pub index: usize,
}

/// What differs from layer to layer.
#[derive(Clone, Copy, Debug)]
pub struct LayerSpec {
    /// Constants of its attention.
    pub attention: Attention,
    /// Which of the model's ropes it rotates with, if it does.
    pub rope: Option<usize>,
    /// Whose keys and values it reads.
    pub kv: KvPlace,
    /// What its feed-forward does between its projections.
    pub feed_forward: FeedForwardFn,
    /// Width of the feed-forward that every row takes; beside experts that of the shared one, 0 if there is none.
    pub n_ff: usize,
    /// True if rows choose among experts.
    pub has_experts: bool,
}

/// A validated blueprint. Holding one means: its sizes are consistent and bounded.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// The architecture's traits.
    pub family: Family,
    /// Sizes.
    pub shape: Shape,
    /// Tokens in the vocabulary: rows of the embedding.
    pub n_vocab: usize,
    /// Longest context it was made for.
    pub n_ctx_max: usize,
    /// For a model with two sets of rotary factors, the context up to which it takes the short ones.
    pub n_ctx_short: Option<usize>,
    /// Added to the mean square, or the variance, of every norm.
    pub norm_eps: f32,
    /// For models with layers that choose among experts.
    pub moe: Option<MoeSpec>,
    /// For models with several residual streams.
    pub altup: Option<AltupSpec>,
    /// By layer.
    pub layers: Vec<LayerSpec>,
    /// The rotary embeddings that layers choose from.
    pub ropes: Vec<RopeSpec>,
    /// Multiplies the rows of the embedding.
    pub embedding_scale: f32,
    /// Multiplies what attention and feed-forward add to the residual.
    pub residual_scale: f32,
    /// Multiplies the logits.
    pub logit_scale: f32,
    /// `cap * tanh(logit / cap)`, if any.
    pub logit_softcap: Option<f32>,
    /// True if the head is the embedding's matrix.
    pub tied: bool,
}

impl ModelSpec {
    /// Reads and checks the blueprint of a GGUF file.
    ///
    /// # Errors
    /// `Unsupported` for an architecture or feature this build does not have, `Format` for numbers that contradict each other or are out of bounds; both name the key.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let architecture = gguf.metadata().str("general.architecture")?;
        let Some(family) = Family::by_name(architecture) else {
            let known = Family::ALL.map(|f| f.name).join(", ");
            fail!(Unsupported, "general.architecture {}: this build runs {known}", Quoted(architecture));
        };
        let laurel = gguf.tensor(&Role::LaurelLeft.gguf_name(0, Part::Weight));
        let laurel_rank = laurel.and_then(|tensor| tensor.shape().get(1)).map(|&n| n as u64);
        let config = GgufConfig { metadata: gguf.metadata(), architecture, laurel_rank };
        let tied = gguf.tensor(&Role::Output.gguf_name(0, Part::Weight)).is_none();
        let has_long = gguf.tensor(&Role::RopeFactorsLong.gguf_name(0, Part::Weight)).is_some();
        Self::from_config(&config, family, n_vocab(gguf)?, tied, has_long)
    }

    /// As [`Self::from_gguf`], from the numbers in `config`; `tied` and `has_long_factors` say which tensors there are.
    ///
    /// # Errors
    /// As there.
    pub(super) fn from_config(config: &dyn Config, family: Family, n_vocab: usize, tied: bool, has_long_factors: bool) -> Result<Self> {
        Reader { config, family }.spec(n_vocab, tied, has_long_factors)
    }

    /// The blueprint for contexts of up to `n_ctx`: with two sets of rotary factors, those for it. Which set rotates a position must not depend
    /// on how long its text has become, or the keys of a session would not fit each other; so a short context stays one.
    #[must_use]
    pub fn for_context(mut self, n_ctx: usize) -> Self {
        if let Some(short) = self.n_ctx_short.filter(|&short| n_ctx <= short) {
            self.n_ctx_max = self.n_ctx_max.min(short);
        }
        self
    }

    /// True if the tensor called `name` is in files of the family, and plays no part: a layer that reads another one's keys and values needs no
    /// projections to them.
    pub(super) fn ignores(&self, name: &str) -> bool {
        let sharing = self.layers.iter().enumerate().filter(|(i, layer)| layer.kv.layer != *i);
        let is_of = |i: usize| [Role::Key, Role::Value, Role::KeyNorm].iter().any(|role| role.gguf_name(i, Part::Weight) == name);
        name.starts_with("blk.") && sharing.into_iter().any(|(i, _)| is_of(i))
    }

    /// True if it can be divided between devices: one residual is all that crosses, and no layer reads another's keys and values.
    pub fn is_divisible(&self) -> bool {
        (0..self.layers.len()).all(|i| self.can_part(&(i..i + 1)))
    }

    /// True if `layers` can be alone on a device: they read nothing of the others but one residual.
    pub(super) fn can_part(&self, layers: &Range<usize>) -> bool {
        let reads_inside = || self.layers[layers.clone()].iter().all(|layer| layers.contains(&layer.kv.layer));
        layers.len() == self.layers.len() || (self.altup.is_none() && reads_inside())
    }

    /// True if positions rotate by the long factors.
    pub(super) fn takes_long_factors(&self) -> bool {
        self.n_ctx_short.is_some_and(|short| self.n_ctx_max > short)
    }
}

fn n_vocab(gguf: &Gguf) -> Result<usize> {
    let name = Role::TokenEmbedding.gguf_name(0, Part::Weight);
    let Some(embedding) = gguf.tensor(&name) else { fail!(Format, "{name} is missing") };
    let n = embedding.shape().get(1).map_or(1, |&n| n as u64);
    in_bounds(&name, n, &bounds::VOCABULARY)
}

/// Width of the feed-forward that every row takes in layer `i`, where a layer without experts has `n_ff`.
fn width(i: usize, n_ff: usize, moe: Option<&MoeSpec>) -> usize {
    moe.filter(|moe| moe.is_in_layer(i)).map_or(n_ff, |moe| moe.n_shared_ff.unwrap_or(0))
}

/// Makes a blueprint of a configuration.
pub(super) struct Reader<'a> {
    pub(super) config: &'a dyn Config,
    pub(super) family: Family,
}

impl Reader<'_> {
    fn spec(&self, n_vocab: usize, tied: bool, has_long: bool) -> Result<ModelSpec> {
        let Self { config, family } = *self;
        self.refuse_unsupported()?;
        let n_layers = config.size(Key::Layers, bounds::LAYERS)?;
        let widths = self.feed_forwards(n_layers)?; // (n_layers,)
        let moe = self.moe(widths.iter().copied().max().unwrap_or(1))?;
        let widths: Vec<usize> = widths.iter().enumerate().map(|(i, &n_ff)| width(i, n_ff, moe.as_ref())).collect();
        let slides = self.sliding(n_layers)?; // (n_layers,)
        let places = self.kv_places(&slides)?; // (n_layers,)
        let altup = self.altup(n_layers)?;
        let n_own = places.iter().enumerate().filter(|(i, place)| place.layer == *i).count();
        let shape = Shape { altup: altup.map(|altup| altup.shape), ..self.shape(n_own, n_vocab, &widths, moe.as_ref())? };
        self.check_proportions(&shape)?;
        let n_ctx_max = config.size(Key::Context, bounds::CONTEXT)?;
        let scale = |key| config.number(key, bounds::SCALE).map(|scale| scale.unwrap_or(1.0));
        let width_scale = if family.scales_embedding { (shape.n_embd as f32).sqrt() } else { 1.0 };
        Ok(ModelSpec {
            family,
            shape,
            n_vocab,
            n_ctx_max,
            n_ctx_short: if has_long { Some(config.size(Key::OriginalContext, bounds::CONTEXT)?) } else { None },
            norm_eps: self.norm_eps()?,
            layers: self.layers(&shape, &widths, &slides, &places, moe.as_ref())?,
            moe,
            altup,
            ropes: self.ropes(&shape)?,
            embedding_scale: width_scale * scale(Key::EmbeddingScale)?,
            residual_scale: scale(Key::ResidualScale)?,
            logit_scale: 1.0 / scale(Key::LogitDivisor)?,
            logit_softcap: self.softcap(Key::LogitSoftcap, family.softcaps.map(|(_, logits)| logits))?,
            tied,
        })
    }

    /// Keys that change the arithmetic in ways this build does not compute: better refused than wrong.
    fn refuse_unsupported(&self) -> Result<()> {
        let Self { config, family } = *self;
        if family.experts.is_none() && config.integer(Key::Experts)?.is_some_and(|n| n != 0) {
            fail!(Unsupported, "{}: not in this build for {}", config.name(Key::Experts), family.name);
        }
        let has_window = config.integer(Key::Window).map_or(true, |n| n.is_some_and(|n| n != 0));
        if family.windows == Windows::None && has_window {
            fail!(Unsupported, "{}: not in this build for {}", config.name(Key::Window), family.name);
        }
        let foreign = [
            (Key::AttentionSoftcap, family.softcaps.is_none()),
            (Key::LogitSoftcap, family.softcaps.is_none()),
            (Key::SharedKvLayers, family.own_kv_layers.is_none()),
            (Key::PerLayerWidth, !family.has_streams),
            (Key::Streams, !family.has_streams),
            (Key::EmbeddingScale, !family.has_scales),
            (Key::ResidualScale, !family.has_scales),
            (Key::LogitDivisor, !family.has_scales),
        ];
        for (key, foreign) in foreign {
            let is_set = || match config.float(key) {
                Ok(value) => value.is_some_and(|value| value != 0.0),
                // Another type: a number of things, or what is none.
                Err(_) => config.integer(key).map_or(true, |n| n.is_some_and(|n| n != 0)),
            };
            if foreign && is_set() {
                fail!(Unsupported, "{}: not in this build for {}", config.name(key), family.name);
            }
        }
        Ok(())
    }

    /// The sizes of a model with feed-forwards of these `widths`, `n_layers` of whose layers have keys and values of their own.
    fn shape(&self, n_layers: usize, n_vocab: usize, widths: &[usize], moe: Option<&MoeSpec>) -> Result<Shape> {
        let config = self.config;
        let n_embd = config.size(Key::Width, bounds::WIDTH)?;
        let n_heads = config.size(Key::Heads, bounds::HEADS)?;
        let n_ff = widths.iter().copied().fold(1, usize::max);
        let moe = moe.map(|moe| moe.shape);
        let latent = self.latent()?;
        let (n_kv_heads, head_dim) = match latent {
            // All heads read the same latents.
            Some(latent) => (1, latent.n_rot + latent.rank),
            None => self.heads(n_embd, n_heads)?,
        };
        Ok(Shape { n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, moe, altup: None, latent, n_vocab })
    }

    /// How many KV heads there are, and how wide a head is.
    fn heads(&self, n_embd: usize, n_heads: usize) -> Result<(usize, usize)> {
        let config = self.config;
        let n_kv_heads = config.size_or(Key::KvHeads, n_heads, bounds::HEADS)?;
        if !n_heads.is_multiple_of(n_kv_heads) {
            fail!(Format, "{}: {n_heads} heads are no multiple of {n_kv_heads} KV heads", config.name(Key::Heads));
        }
        let head_dim = config.size_or(Key::HeadDim, n_embd / n_heads, bounds::HEAD_DIM)?;
        let value_dim = config.size_or(Key::ValueDim, head_dim, bounds::HEAD_DIM)?;
        if value_dim != head_dim {
            fail!(Unsupported, "{}: {value_dim} differs from the keys' {head_dim}", config.name(Key::ValueDim));
        }
        Ok((n_kv_heads, head_dim))
    }

    /// What a model takes to run must be in proportion to its weights. Every size is bounded: no product overflows.
    fn check_proportions(&self, shape: &Shape) -> Result<()> {
        let Shape { n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, moe, altup, latent, .. } = *shape;
        let widest = bounds::WIDTH_OF_ANY_RATIO.max(bounds::RATIO * n_embd);
        let keys = bounds::KEYS_OF_ANY_RATIO.max(bounds::KEYS_RATIO * n_embd);
        let sizes = [
            (Key::FeedForward, "its activations", n_ff, widest),
            (Key::ExpertFeedForward, "the experts of a row", moe.map_or(0, |moe| moe.n_used * moe.n_ff), widest),
            (Key::ExpertsUsed, "what the experts of a row give", moe.map_or(0, |moe| moe.n_used * n_embd), widest),
            (Key::Experts, "a row's scores", moe.map_or(0, |moe| moe.n_experts), widest),
            (Key::PerLayerWidth, "the inputs of all layers", altup.map_or(0, |altup| altup.n_inputs()), widest),
            (Key::LaurelRank, "the learned residual", altup.map_or(0, |altup| altup.rank), widest),
            (Key::Heads, "all heads together", n_heads * head_dim, widest),
            (Key::LatentKeyDim, "all queries", latent.map_or(0, |latent| n_heads * (latent.n_still + latent.n_rot)), widest),
            (Key::LatentValueDim, "all values", latent.map_or(0, |latent| n_heads * latent.n_value), widest),
            (Key::QueryRank, "what queries are made of", latent.and_then(|latent| latent.query_rank).unwrap_or(0), widest),
            (Key::KvHeads, "a token's keys in all layers", n_layers * n_kv_heads * head_dim, keys),
        ];
        for (key, what, size, most) in sizes {
            if size > most {
                let (name, width) = (self.config.name(key), self.config.name(Key::Width));
                fail!(Unsupported, "{name}: {what} have {size} elements, expected {most} at most for {width} = {n_embd}");
            }
        }
        Ok(())
    }

    fn norm_eps(&self) -> Result<f32> {
        let (key, other) = match self.family.norm {
            NormKind::Rms => (Key::RmsEps, Key::LayerEps),
            NormKind::Layer => (Key::LayerEps, Key::RmsEps),
        };
        // Converters confuse the names: Phi-3.5's layer norms have that of the other kind.
        let eps = |key| self.config.number(key, 0.0..=1.0);
        match eps(key)?.map_or_else(|| eps(other), |eps| Ok(Some(eps)))? {
            Some(eps) => Ok(eps),
            None => fail!(Format, "{} is missing", self.config.name(key)),
        }
    }

    /// `widths`, `slides` and `places` are `(layers,)`.
    fn layers(
        &self,
        shape: &Shape,
        widths: &[usize],
        slides: &[bool],
        places: &[KvPlace],
        moe: Option<&MoeSpec>,
    ) -> Result<Vec<LayerSpec>> {
        let Self { config, family } = *self;
        let chunk = match family.windows {
            Windows::ChunksButEvery(_, size) => size,
            _ => 0,
        };
        let window = config.size_or(Key::Window, chunk as usize, 0..=usize::MAX)?;
        let temperature = self.temperature()?;
        let fns = self.feed_forward_fns(slides.len())?;
        let scale = self.attention_scale(shape)?;
        let softcap = self.softcap(Key::AttentionSoftcap, family.softcaps.map(|(scores, _)| scores))?;
        let layer = |(i, &slides): (usize, &bool)| {
            // A window of 2^32 positions or more is none.
            let window = u32::try_from(window).ok().filter(|&n| slides && n > 0);
            let rotates = family.unrotated_every.is_none_or(|every| !(i + 1).is_multiple_of(every));
            let rope = usize::from(match family.local_rope {
                LocalRope::Same => false,
                LocalRope::Unstretched => window.is_some(),
                LocalRope::Own(_) => slides,
            });
            let has_experts = moe.is_some_and(|moe| moe.is_in_layer(i));
            let sight = if chunk > 0 { window.map_or(Sight::All, Sight::Chunk) } else { window.into() };
            let attention = Attention { scale, softcap, sight, temperature: temperature.filter(|_| !rotates) };
            LayerSpec { attention, rope: rotates.then_some(rope), kv: places[i], feed_forward: fns[i], n_ff: widths[i], has_experts }
        };
        Ok(slides.iter().enumerate().map(layer).collect())
    }

    /// Which layers see a window.
    fn sliding(&self, n_layers: usize) -> Result<Vec<bool>> {
        Ok(match self.family.windows {
            Windows::None => vec![false; n_layers],
            Windows::All => self.config.windows(n_layers)?.unwrap_or_else(|| vec![true; n_layers]),
            Windows::AllButEvery(n) | Windows::ChunksButEvery(n, _) => {
                self.config.windows(n_layers)?.unwrap_or_else(|| (1..=n_layers).map(|i| !i.is_multiple_of(n)).collect())
            }
        })
    }

    /// How queries grow in layers that do not rotate.
    fn temperature(&self) -> Result<Option<Temperature>> {
        let Some(default) = self.family.temperature else { return Ok(None) };
        let length = self.config.size_or(Key::TemperatureLength, default.length as usize, bounds::CONTEXT)? as f32;
        let scale = self.config.number(Key::TemperatureScale, 0.0..=*bounds::SCALE.end())?.unwrap_or(default.scale);
        Ok(Some(Temperature { length, scale }))
    }

    fn attention_scale(&self, shape: &Shape) -> Result<f32> {
        if let Some(scale) = self.family.score_scale {
            return Ok(scale);
        }
        let per_head = match self.family.wide_queries_at {
            Some(n_layers) if n_layers == shape.n_layers => shape.n_embd / shape.n_heads,
            _ => self.elements_compared(shape),
        };
        let scale = self.config.number(Key::AttentionScale, 0.0..=*bounds::SCALE.end())?;
        // llama.cpp writes 0 for "as usual".
        Ok(self.stretched_scores()? * scale.filter(|&scale| scale > 0.0).unwrap_or(1.0 / (per_head as f32).sqrt()))
    }

    /// A soft cap of a family that has them; 0 switches it off.
    fn softcap(&self, key: Key, default: Option<f32>) -> Result<Option<f32>> {
        let Some(default) = default else { return Ok(None) };
        let cap = self.config.number(key, 0.0..=*bounds::SCALE.end())?.unwrap_or(default);
        Ok(Some(cap).filter(|&cap| cap > 0.0))
    }

    /// The rope of most layers, and that of the layers with a window where it is another one.
    fn ropes(&self, shape: &Shape) -> Result<Vec<RopeSpec>> {
        let Self { config, family } = *self;
        let n_rot = config.size_or(Key::RopeDims, shape.head_dim, 2..=shape.head_dim)?;
        if !n_rot.is_multiple_of(2) {
            fail!(Format, "{}: {n_rot} is odd, rotation needs pairs", config.name(Key::RopeDims));
        }
        let theta = config.number(Key::RopeTheta, 1.0..=1e12)?.unwrap_or(10_000.0);
        let scaling = match config.rope_scaling()? {
            RopeScaling::Yarn(yarn) => RopeScaling::Yarn(Yarn { rounds: family.rounds_yarn, ..yarn }),
            other => other,
        };
        let usual = self.usual_magnitude(&scaling)?;
        let magnitude = config.number(Key::RopeMagnitude, bounds::SCALE)?.unwrap_or(usual);
        let global = RopeSpec { theta, n_rot, scaling, magnitude };
        let theta = match family.local_rope {
            LocalRope::Same => return Ok(vec![global]),
            LocalRope::Unstretched => config.number(Key::LocalTheta, 1.0..=1e12)?.unwrap_or(theta),
            LocalRope::Own(theta) => config.number(Key::LocalTheta, 1.0..=1e12)?.unwrap_or(theta),
        };
        Ok(vec![global, RopeSpec { theta, n_rot, scaling: RopeScaling::None, magnitude: 1.0 }])
    }
}
