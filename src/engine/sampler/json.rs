//! A chain as JSON, in one order: bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, or mirostat in place of the truncations.

use super::{Sampler, Stage};
use crate::engine::model::Model;
use crate::error::Result;
use crate::fail;
use crate::text::Token;
use crate::text::chat::Json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Tokens that penalties look back on, when the host does not say.
const DEFAULT_LAST_N: u32 = 64;
/// Where DRY begins anew, when the host does not say: lines, speakers, quotes, emphasis.
const DEFAULT_BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// The numbers of a chain; the defaults are those of stages that do nothing.
struct Numbers {
    seed: Option<u64>,
    temperature: Option<f32>,
    dynatemp_range: f32,
    dynatemp_exponent: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    typical_p: f32,
    top_n_sigma: f32,
    xtc: (f32, f32),
    repeat: f32,
    frequency: f32,
    presence: f32,
    repeat_last_n: u32,
    dry: (f32, f32),
    dry_allowed_length: u32,
    dry_last_n: u32,
    breakers: Vec<String>,
    mirostat: Option<(f32, f32)>,
    bias: HashMap<Token, f32>,
}

impl Sampler {
    /// The chain that `json`, an object, describes.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the key.
    pub fn from_json(model: &Model, json: &Json) -> Result<Self> {
        let Json::Object(fields) = json else { fail!(InvalidArgument, "sampler: {}, expected an object", json.kind()) };
        let mut numbers = Numbers::default();
        fields.iter().filter(|(_, value)| *value != Json::Null).try_for_each(|(key, value)| numbers.set(key, value))?;
        let mut sampler = Self::new(model.n_vocab());
        if let Some(seed) = numbers.seed {
            sampler.set_seed(seed);
        }
        let breakers = || model.tokens_with(&numbers.breakers);
        numbers.stages(breakers).into_iter().try_for_each(|stage| sampler.add(stage))?;
        Ok(sampler)
    }
}

impl Stage {
    /// The stage against repetitions; `numbers` are multiplier and base, `breakers` texts, `None` = the usual ones.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty breaker, which every token holds.
    pub fn dry(model: &Model, numbers: [f32; 2], allowed_len: u32, last_n: u32, breakers: Option<Vec<String>>) -> Result<Self> {
        let breakers = breakers.unwrap_or_else(|| DEFAULT_BREAKERS.map(str::to_owned).to_vec());
        if breakers.iter().any(String::is_empty) {
            fail!(InvalidArgument, "breakers: an empty text, which every token holds");
        }
        let [multiplier, base] = numbers;
        Ok(Self::Dry { multiplier, base, allowed_len, last_n, breakers: Arc::new(model.tokens_with(&breakers)) })
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            seed: None,
            temperature: None,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            top_n_sigma: 0.0,
            xtc: (0.0, 0.1),
            repeat: 1.0,
            frequency: 0.0,
            presence: 0.0,
            repeat_last_n: DEFAULT_LAST_N,
            dry: (0.0, 1.75),
            dry_allowed_length: 2,
            dry_last_n: u32::MAX,
            breakers: DEFAULT_BREAKERS.map(str::to_owned).to_vec(),
            mirostat: None,
            bias: HashMap::new(),
        }
    }
}

impl Numbers {
    fn set(&mut self, key: &str, value: &Json) -> Result<()> {
        match key {
            "seed" => self.seed = Some(seed(key, value)?),
            "temperature" => self.temperature = Some(number(key, value)?),
            "dynatemp_range" => self.dynatemp_range = number(key, value)?,
            "dynatemp_exponent" => self.dynatemp_exponent = number(key, value)?,
            "top_k" => self.top_k = whole(key, value)?,
            "top_p" => self.top_p = number(key, value)?,
            "min_p" => self.min_p = number(key, value)?,
            "typical_p" => self.typical_p = number(key, value)?,
            "top_n_sigma" => self.top_n_sigma = number(key, value)?,
            "xtc_probability" => self.xtc.0 = number(key, value)?,
            "xtc_threshold" => self.xtc.1 = number(key, value)?,
            "repeat_penalty" => self.repeat = number(key, value)?,
            "frequency_penalty" => self.frequency = number(key, value)?,
            "presence_penalty" => self.presence = number(key, value)?,
            "repeat_last_n" => self.repeat_last_n = whole(key, value)?,
            "dry_multiplier" => self.dry.0 = number(key, value)?,
            "dry_base" => self.dry.1 = number(key, value)?,
            "dry_allowed_length" => self.dry_allowed_length = whole(key, value)?,
            "dry_last_n" => self.dry_last_n = whole(key, value)?,
            "dry_breakers" => self.breakers = texts(key, value)?,
            "mirostat_tau" => self.mirostat = Some((number(key, value)?, self.mirostat.map_or(0.1, |m| m.1))),
            "mirostat_eta" => self.mirostat = Some((self.mirostat.map_or(5.0, |m| m.0), number(key, value)?)),
            "logit_bias" => self.bias = bias(key, value)?,
            _ => fail!(InvalidArgument, "sampler: unknown key {key:?}"),
        }
        Ok(())
    }

    /// The stages in their order; those that would do nothing are left out.
    fn stages(&self, breakers: impl FnOnce() -> HashSet<Token>) -> Vec<Stage> {
        let mut stages = Vec::new();
        let mut add = |wanted: bool, stage: &dyn Fn() -> Stage| {
            if wanted {
                stages.push(stage());
            }
        };
        add(!self.bias.is_empty(), &|| Stage::LogitBias(Arc::new(self.bias.clone())));
        let (repeat, frequency, presence) = (self.repeat, self.frequency, self.presence);
        add((repeat, frequency, presence) != (1.0, 0.0, 0.0), &|| Stage::Penalties {
            last_n: self.repeat_last_n,
            repeat,
            frequency,
            presence,
        });
        let breakers = Arc::new(if self.dry.0 != 0.0 { breakers() } else { HashSet::new() });
        let (multiplier, base) = self.dry;
        let (allowed_len, last_n) = (self.dry_allowed_length, self.dry_last_n);
        add(multiplier != 0.0, &|| Stage::Dry { multiplier, base, allowed_len, last_n, breakers: breakers.clone() });
        let truncates = self.mirostat.is_none();
        add(truncates && self.top_n_sigma != 0.0, &|| Stage::TopNSigma(self.top_n_sigma));
        add(truncates && self.top_k != 0, &|| Stage::TopK(self.top_k));
        add(truncates && self.typical_p != 1.0, &|| Stage::TypicalP(self.typical_p));
        add(truncates && self.top_p != 1.0, &|| Stage::TopP(self.top_p));
        add(truncates && self.min_p != 0.0, &|| Stage::MinP(self.min_p));
        add(truncates && self.xtc.0 != 0.0, &|| Stage::Xtc { probability: self.xtc.0, threshold: self.xtc.1 });
        let (range, exponent, middle) = (self.dynatemp_range, self.dynatemp_exponent, self.temperature.unwrap_or(1.0));
        let (min, max) = ((middle - range).max(0.0), middle + range);
        add(range != 0.0, &|| Stage::DynamicTemperature { min, max, exponent });
        add(range == 0.0 && self.temperature.is_some(), &|| Stage::Temperature(middle));
        if let Some((tau, eta)) = self.mirostat {
            add(true, &|| Stage::Mirostat { tau, eta });
        }
        stages
    }
}

fn number(key: &str, value: &Json) -> Result<f32> {
    match value {
        Json::Int(n) => Ok(*n as f32),
        Json::Float(x) => Ok(*x as f32),
        other => fail!(InvalidArgument, "sampler: {key:?} is {}, expected a number", other.kind()),
    }
}

fn whole(key: &str, value: &Json) -> Result<u32> {
    match value {
        Json::Int(n) if u32::try_from(*n).is_ok() => Ok(u32::try_from(*n).unwrap_or(0)),
        // As other programs say it: all of the context.
        Json::Int(-1) if key.ends_with("last_n") => Ok(u32::MAX),
        other => fail!(InvalidArgument, "sampler: {key:?} is {other}, expected a whole number from 0 to {}", u32::MAX),
    }
}

fn seed(key: &str, value: &Json) -> Result<u64> {
    match value {
        Json::Int(n) if *n >= 0 => Ok(n.unsigned_abs()),
        other => fail!(InvalidArgument, "sampler: {key:?} is {other}, expected a whole number from 0 to {}", i64::MAX),
    }
}

fn texts(key: &str, value: &Json) -> Result<Vec<String>> {
    let Json::Array(items) = value else { fail!(InvalidArgument, "sampler: {key:?} is {}, expected an array of strings", value.kind()) };
    let text = |item: &Json| match item {
        Json::String(text) if !text.is_empty() => Ok(text.clone()),
        other => fail!(InvalidArgument, "sampler: {key:?} holds {other}, expected strings that are not empty"),
    };
    items.iter().map(text).collect()
}

/// `{"123":-1.5,"124":false}`: false forbids a token.
fn bias(key: &str, value: &Json) -> Result<HashMap<Token, f32>> {
    let Json::Object(pairs) = value else { fail!(InvalidArgument, "sampler: {key:?} is {}, expected an object", value.kind()) };
    let entry = |(token, bias): &(String, Json)| {
        let Ok(id) = token.parse::<Token>() else {
            fail!(InvalidArgument, "sampler: {key:?} has key {token:?}, expected a token's number")
        };
        let bias = if *bias == Json::Bool(false) { f32::NEG_INFINITY } else { number(key, bias)? };
        Ok((id, bias))
    };
    pairs.iter().map(entry).collect()
}
