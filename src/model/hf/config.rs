//! The numbers of a config.json, under the names that its architecture has for them. Used by `spec`.

use super::families::{Fixed, HfFamily, Window};
use crate::backend::FeedForwardFn;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::config_json::Object;
use crate::formats::names::Quoted;
use crate::kernels::GateFn;
use crate::model::config::{Config, Key, bounds};
use crate::model::family::{Family, Windows};
use crate::model::rope::RopeScaling;
use serde_json::Value;

/// One config.json.
pub(super) struct HfConfig<'a> {
    outer: Object<'a>,
    /// `text_config` of a model that has one, else the outer object.
    pub(super) text: Object<'a>,
    pub(super) kind: HfFamily,
    pub(super) family: Family,
}

/// Parts of models that are not text.
const OTHER_INPUTS: [&str; 3] = ["vision_config", "audio_config", "speech_config"];

impl<'a> HfConfig<'a> {
    /// The configuration in `outer`.
    ///
    /// # Errors
    /// `Unsupported`, naming the architecture or the key, for what this build does not run; `Format`.
    pub(super) fn new(outer: Object<'a>) -> Result<Self> {
        let text = outer.object("text_config", "text_config.")?.unwrap_or(outer);
        if let Some(key) = OTHER_INPUTS.iter().find(|key| outer.get(key).is_some()) {
            let name = architecture(outer)?.unwrap_or("the model");
            fail!(Unsupported, "{key}: {} takes images or sound, this build runs text models", Quoted(name));
        }
        let kind = kind(outer, text)?;
        let Some(family) = kind.traits() else { fail!(Internal, "{} is no family", kind.family) };
        let config = Self { outer, text, kind, family };
        config.refuse_unsupported()?;
        Ok(config)
    }

    /// True if the head is the embedding. The outer flag counts, then the inner one.
    pub(super) fn tied(&self) -> Result<bool> {
        let key = "tie_word_embeddings";
        let outer = self.outer.flag(key)?;
        Ok(outer.or(self.text.flag(key)?).unwrap_or(self.kind.tied))
    }

    /// That `vocab_size` is the number of rows that the embedding has.
    pub(super) fn check_vocabulary(&self, n_vocab: usize) -> Result<()> {
        match self.text.integer("vocab_size")? {
            Some(n) if n != n_vocab as u64 => fail!(Format, "{}: {n}, but the embedding has {n_vocab} rows", self.text.path("vocab_size")),
            _ => Ok(()),
        }
    }

    /// Keys that change the arithmetic in ways this build does not compute.
    fn refuse_unsupported(&self) -> Result<()> {
        if let Some(quantization) = self.outer.object("quantization_config", "quantization_config.")? {
            let method = quantization.text("quant_method")?.unwrap_or("unknown");
            // The one whose blocks GGUF has, too.
            if method != "mxfp4" || self.kind.model_type != "gpt_oss" {
                return Err(quantization.unsupported("quant_method", method, "weights in F32, F16 or BF16"));
            }
        }
        let is_set = |key: &&&str| self.text.get(key).is_some_and(|value| value != false && value != &Value::Array(Vec::new()));
        if let Some(key) = self.kind.refused.iter().find(is_set) {
            let found = self.text.get(key).unwrap_or(&Value::Null).to_string();
            return Err(self.text.unsupported(key, &found, "false, or none"));
        }
        self.kind.fixed.iter().try_for_each(|(key, value)| self.check_fixed(key, *value))?;
        self.check_moe_layers()?;
        self.check_routing()?;
        self.check_activation()?;
        self.window()?;
        self.check_unrotated()
    }

    /// That `key` has the only value that this build computes, if it has one.
    fn check_fixed(&self, key: &str, value: Fixed) -> Result<()> {
        let (same, expected) = match value {
            Fixed::Text(text) => (self.text.text(key)?.is_none_or(|found| found == text), format!("{text:?}")),
            Fixed::Number(x) => (self.text.number(key)?.is_none_or(|found| found == x), x.to_string()),
            Fixed::True => (self.text.flag(key)?.unwrap_or(true), "true".to_owned()),
        };
        if same {
            return Ok(());
        }
        let found = self.text.get(key).unwrap_or(&Value::Null).to_string();
        Err(self.text.unsupported(key, &found, &expected))
    }

    /// Which layers have experts follows from a step; a file may list them, too.
    fn check_moe_layers(&self) -> Result<()> {
        let config: &dyn Config = self;
        let Some(listed) = self.text.numbers("moe_layers")?.filter(|_| self.family.experts.is_some()) else { return Ok(()) };
        let every = config.size_or(Key::ExpertsEvery, 1, bounds::LAYERS)?;
        let n_layers = config.size(Key::Layers, bounds::LAYERS)?;
        let expected = (every - 1..n_layers).step_by(every).map(|i| i as f64);
        if !listed.iter().copied().eq(expected) {
            return Err(self.text.unsupported("moe_layers", "another pattern", &format!("the last of each {every}")));
        }
        Ok(())
    }

    /// What depends on more than one key.
    fn check_routing(&self) -> Result<()> {
        if self.kind.model_type == "deepseek_v2" {
            let key = "topk_method";
            match self.text.text(key)? {
                None | Some("greedy" | "group_limited_greedy") => {}
                Some(other) => return Err(self.text.unsupported(key, other, "\"greedy\" or \"group_limited_greedy\"")),
            }
        }
        // The published model of 128 experts is the one without norms of its heads: see the loader.
        let (key, config): (_, &dyn Config) = ("use_qk_norm", self);
        if self.kind.model_type == "llama4_text" {
            let expected = config.integer(Key::Experts)? != Some(128);
            if self.text.flag(key)?.unwrap_or(true) != expected {
                return Err(self.text.unsupported(key, &(!expected).to_string(), &expected.to_string()));
            }
        }
        Ok(())
    }

    fn check_activation(&self) -> Result<()> {
        let key = self.kind.activation;
        let (FeedForwardFn::Gated(f) | FeedForwardFn::Plain(f)) = self.family.feed_forward else { return Ok(()) };
        let names: &[&str] = match f {
            GateFn::Silu => &["silu", "swish"],
            // The first files of Gemma say "gelu" and mean the other one.
            _ if self.kind.model_type == "gemma" => &["gelu_pytorch_tanh", "gelu_new", "gelu"],
            _ => &["gelu_pytorch_tanh", "gelu_new"],
        };
        match self.text.text(key)? {
            Some(found) if !names.contains(&found) => Err(self.text.unsupported(key, found, &format!("{:?}", names[0]))),
            _ => Ok(()),
        }
    }

    /// Which layers do not rotate is a trait of the family; a file may say it, too.
    fn check_unrotated(&self) -> Result<()> {
        let Some(every) = self.family.unrotated_every else { return Ok(()) };
        let pattern = |i: usize| f64::from(u8::from(!(i + 1).is_multiple_of(every)));
        if let Some(layers) = self.text.numbers("no_rope_layers")? {
            if !layers.iter().enumerate().all(|(i, &rotates)| rotates == pattern(i)) {
                return Err(self.text.unsupported("no_rope_layers", "another pattern", &format!("every {every}th layer")));
            }
            return Ok(());
        }
        match self.text.integer("no_rope_layer_interval")? {
            Some(n) if n != every as u64 => Err(self.text.unsupported("no_rope_layer_interval", &n.to_string(), &every.to_string())),
            _ => Ok(()),
        }
    }

    /// What the file calls `key`, if its architecture has it.
    fn key(&self, key: Key) -> Option<&'static str> {
        let mut own = self.kind.keys.iter().filter(|(other, _)| *other == key).map(|(_, name)| *name);
        if let Some(first) = own.clone().next() {
            return own.find(|name| self.text.has(name)).or(Some(first));
        }
        Some(match key {
            Key::Layers => "num_hidden_layers",
            Key::Width => "hidden_size",
            Key::FeedForward => "intermediate_size",
            Key::Heads => "num_attention_heads",
            Key::KvHeads => "num_key_value_heads",
            Key::HeadDim => "head_dim",
            Key::Context => "max_position_embeddings",
            Key::OriginalContext => "original_max_position_embeddings",
            Key::RmsEps => "rms_norm_eps",
            Key::LayerEps => "layer_norm_eps",
            Key::RopeTheta => "rope_theta",
            Key::LocalTheta => "rope_local_base_freq",
            Key::RopeDims => "partial_rotary_factor",
            Key::RopeMagnitude => "attention_factor",
            Key::Window => "sliding_window",
            _ => return None,
        })
    }

    /// The window of `sliding_window`, or the chunks; 0 = none.
    fn window(&self) -> Result<u64> {
        let key = if self.kind.window == Window::Chunks { "attention_chunk_size" } else { "sliding_window" };
        let asked = match self.kind.window {
            Window::Chunks => true,
            Window::Ignored => false,
            Window::Used => true,
            Window::IfAsked => self.text.flag("use_sliding_window")?.unwrap_or(false),
        };
        match self.text.integer(key)? {
            _ if !asked => Ok(0),
            Some(0) => Err(self.text.wrong(key, "1 or more, or null")),
            Some(n) => Ok(n),
            None if self.text.has(key) => Ok(0),
            None => Ok(self.kind.default(Key::Window).unwrap_or(0.0) as u64),
        }
    }

    /// Of each layer, below how many standard deviations so large a part of its gates lies.
    fn sparsity(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(parts) = self.text.numbers(name)? else { return Ok(None) };
        match parts.iter().all(|part| (0.0..1.0).contains(part)) {
            true => Ok(Some(parts.into_iter().map(quantile).collect())),
            false => Err(self.text.wrong(name, "numbers from 0 to below 1")),
        }
    }

    /// That the embeddings of layers have as many rows as the file says.
    pub(super) fn check_per_layer_vocabulary(&self, n_rows: usize) -> Result<()> {
        let key = "vocab_size_per_layer_input";
        match self.text.integer(key)? {
            Some(n) if n != n_rows as u64 => fail!(Format, "{}: {n}, but the layers' embedding has {n_rows} rows", self.text.path(key)),
            _ => Ok(()),
        }
    }

    /// Elements of a query head.
    fn latent_key_dim(&self) -> Result<Option<u64>> {
        let size = |key: Key| -> Result<u64> {
            let name = self.key(key).unwrap_or_default();
            match self.text.integer(name)?.or(self.kind.default(key).map(|n| n as u64)) {
                Some(n) if (1..=*bounds::HEAD_DIM.end() as u64).contains(&n) => Ok(n),
                _ => Err(self.text.wrong(name, &format!("1 to {}", bounds::HEAD_DIM.end()))),
            }
        };
        if !self.family.has_latents {
            return Ok(None);
        }
        Ok(Some(size(Key::LatentKeyDim)? + size(Key::RopeDims)?))
    }

    /// True if a file may name groups of experts that its routing does not look at.
    fn ignores_groups(&self) -> Result<bool> {
        Ok(self.kind.model_type == "deepseek_v2" && self.text.text("topk_method")? != Some("group_limited_greedy"))
    }

    /// `1 / sqrt` of the width that queries are scaled for; Granite has the scale itself.
    fn attention_scale(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.text.number(name)?.or(self.kind.default(Key::AttentionScale)) else { return Ok(None) };
        match name {
            "query_pre_attn_scalar" if !(1e-3..=1e9).contains(&value) => Err(self.text.wrong(name, "0.001 to 1e9")),
            "query_pre_attn_scalar" => Ok(Some(value.powf(-0.5))),
            _ if !(1e-6..=1e6).contains(&value) => Err(self.text.wrong(name, "0.000001 to 1000000")),
            _ => Ok(Some(value)),
        }
    }
}

impl Config for HfConfig<'_> {
    fn name(&self, key: Key) -> String {
        let key = if self.family.has_latents && key == Key::ValueDim { Key::LatentValueDim } else { key };
        self.text.path(self.key(key).unwrap_or_else(|| key.gguf()))
    }

    fn integer(&self, key: Key) -> Result<Option<u64>> {
        match key {
            Key::Window => self.window().map(Some),
            Key::LatentKeyDim => self.latent_key_dim(),
            Key::HeadDim | Key::KvHeads if self.family.has_latents => Ok(None),
            Key::ExpertScores => Ok(self.kind.default(key).map(|n| n as u64)),
            Key::ExpertGroups | Key::ExpertGroupsUsed if self.ignores_groups()? => Ok(None),
            Key::RopeDims if !self.family.has_latents => self.rotated_dims(),
            Key::OriginalContext => self.original_context(),
            _ => {
                let Some(name) = self.key(key) else { return Ok(None) };
                // null is what `transformers` writes for "as many as heads" and "width / heads".
                let default = self.kind.default(key).filter(|_| !self.text.has(name));
                Ok(self.text.integer(name)?.or(default.map(|n| n as u64)))
            }
        }
    }

    fn float(&self, key: Key) -> Result<Option<f32>> {
        let value = match key {
            Key::RopeTheta => self.theta()?,
            Key::LocalTheta => self.local_theta()?,
            Key::RopeMagnitude => self.magnitude()?,
            Key::YarnLogMultiplier => self.stretched_heads()?,
            Key::TemperatureScale if self.text.flag("attn_temperature_tuning")? == Some(false) => Some(0.0),
            _ => match (key, self.key(key)) {
                (_, None) => None,
                (Key::AttentionScale, Some(name)) => self.attention_scale(name)?,
                // null switches a cap off.
                (Key::AttentionSoftcap | Key::LogitSoftcap, Some(name)) if self.text.has(name) => {
                    Some(self.text.number(name)?.unwrap_or(0.0))
                }
                (_, Some(name)) => self.text.number(name)?.or(self.kind.default(key)),
            },
        };
        Ok(value.map(|value| value as f32))
    }

    fn flag(&self, key: Key) -> Result<Option<bool>> {
        let Some(name) = self.key(key) else { return Ok(None) };
        Ok(self.text.flag(name)?.or(self.kind.default(key).map(|flag| flag != 0.0)))
    }

    fn numbers(&self, key: Key) -> Result<Option<Vec<f64>>> {
        let Some(name) = self.key(key) else { return Ok(None) };
        match key {
            Key::Sparsity => return self.sparsity(name),
            // Told by the latents.
            Key::HeadDim | Key::KvHeads if self.family.has_latents => return Ok(None),
            _ => {}
        }
        if self.text.get(name).is_some_and(|value| value.is_array()) { self.text.numbers(name) } else { Ok(None) }
    }

    fn rope_scaling(&self) -> Result<RopeScaling> {
        self.scaling()
    }

    fn windows(&self, n_layers: usize) -> Result<Option<Vec<bool>>> {
        let key = "layer_types";
        // Only families whose layers take turns have them; others have windows everywhere, whatever the file lists.
        let limited = match self.family.windows {
            Windows::AllButEvery(_) => "sliding_attention",
            Windows::ChunksButEvery(..) => "chunked_attention",
            _ => return Ok(None),
        };
        if let Some(kinds) = self.text.texts(key)? {
            if kinds.len() < n_layers {
                return Err(self.text.wrong(key, &format!("one for each of {n_layers} layers")));
            }
            let slides = |kind: &&str| match *kind {
                "full_attention" => Ok(false),
                other if other == limited => Ok(true),
                other => Err(self.text.unsupported(key, other, &format!("{limited:?} or \"full_attention\""))),
            };
            return kinds.iter().take(n_layers).map(slides).collect::<Result<_>>().map(Some);
        }
        match self.text.integer("sliding_window_pattern")? {
            Some(0) => Err(self.text.wrong("sliding_window_pattern", "1 or more")),
            Some(every) => Ok(Some((1..=n_layers as u64).map(|i| !i.is_multiple_of(every)).collect())),
            None => Ok(None),
        }
    }
}

/// The quantile of the normal distribution at `part`, which is below 1. Rounded where torch rounds. By bisection of the
/// distribution function: its series (Abramowitz and Stegun 7.1.5) converges for every quantile that a number below 1 in `f32` can have.
fn quantile(part: f64) -> f64 {
    if part == 0.0 {
        return f64::NEG_INFINITY;
    }
    let wanted = f64::from(2.0 * part as f32 - 1.0); // erf(x / sqrt(2))
    let erf = |x: f64| {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    };
    let (mut low, mut high) = (-4.0, 4.0);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if erf(middle) < wanted { low = middle } else { high = middle }
    }
    f64::from(high as f32 * std::f32::consts::SQRT_2)
}

/// The class that the file names, if it names any.
fn architecture(object: Object<'_>) -> Result<Option<&str>> {
    Ok(object.texts("architectures")?.and_then(|classes| classes.first().copied()))
}

/// The row of the architecture: by its class, else by its `model_type`.
fn kind(outer: Object<'_>, text: Object<'_>) -> Result<HfFamily> {
    let (key, name, found) = match architecture(outer)?.or(architecture(text)?) {
        Some(class) => ("architectures", class, HfFamily::ALL.into_iter().find(|kind| kind.class.eq_ignore_ascii_case(class))),
        None => match text.text("model_type")?.or(outer.text("model_type")?) {
            Some(name) => ("model_type", name, HfFamily::ALL.into_iter().find(|kind| kind.model_type == name)),
            None => fail!(Format, "architectures and model_type are missing"),
        },
    };
    let known = || HfFamily::ALL.map(|kind| kind.class).join(", ");
    found.ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("{key} {}: this build runs {}", Quoted(name), known())))
}
