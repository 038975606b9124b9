//! The chain that a model's publisher recommends, from GGUF metadata or `generation_config.json`. For models whose hosts bring no chain.

use super::sampler::Stage;
use crate::error::Result;
use crate::fail;
use crate::formats::gguf::Metadata;
use crate::text::Token;
use crate::text::chat::Json;

/// Numbers of a chain; where a file says nothing, those that suit most models.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recommended {
    top_k: u32,
    top_p: f32,
    min_p: f32,
    typical_p: f32,
    temperature: f32,
    repeat: f32,
    last_n: u32,
    /// Probability and threshold.
    xtc: (f32, f32),
    /// Tau and eta, in place of the truncations.
    mirostat: Option<(f32, f32)>,
    /// Further tokens that end a generation.
    pub(super) ends: Vec<Token>,
}

/// The usual chain of local inference: what llama.cpp does when it is not told otherwise.
impl Default for Recommended {
    fn default() -> Self {
        Self {
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            temperature: 0.8,
            repeat: 1.0,
            last_n: 64,
            xtc: (0.0, 0.1),
            mirostat: None,
            ends: Vec::new(),
        }
    }
}

impl Recommended {
    /// Reads `general.sampling.*`.
    ///
    /// # Errors
    /// `Format` if an entry has another type.
    pub(super) fn from_gguf(metadata: &Metadata) -> Result<Self> {
        let usual = Self::default();
        let number = |key: &str, usual: f32| metadata.f32_or(&format!("general.sampling.{key}"), usual);
        let whole = |key: &str, usual: u32| metadata.u32_or(&format!("general.sampling.{key}"), usual);
        let (tau, eta) = (number("mirostat_tau", 5.0)?, number("mirostat_eta", 0.1)?);
        Ok(Self {
            top_k: whole("top_k", usual.top_k)?,
            top_p: number("top_p", usual.top_p)?,
            min_p: number("min_p", usual.min_p)?,
            temperature: number("temp", usual.temperature)?,
            repeat: number("penalty_repeat", usual.repeat)?,
            last_n: whole("penalty_last_n", usual.last_n)?,
            xtc: (number("xtc_probability", usual.xtc.0)?, number("xtc_threshold", usual.xtc.1)?),
            // Version 1, which nobody has asked for since there is another one, is taken for the other one.
            mirostat: (whole("mirostat", 0)? > 0).then_some((tau, eta)),
            ..usual
        })
    }

    /// Reads `generation_config.json`. A file that says how to sample means the other numbers as `transformers` does: no truncation but the first 50.
    ///
    /// # Errors
    /// `Format`, naming the key.
    pub(super) fn from_generation_config(json: &Json) -> Result<Self> {
        let says =
            ["temperature", "top_k", "top_p", "min_p", "typical_p"].iter().any(|key| !matches!(json.get(key), None | Some(Json::Null)));
        let usual = match json.get("do_sample") {
            Some(Json::Bool(false)) => Self { temperature: 0.0, ..Self::default() },
            _ if says => Self { top_k: 50, top_p: 1.0, min_p: 0.0, temperature: 1.0, ..Self::default() },
            _ => Self::default(),
        };
        let number = |key: &str, usual: f32| match json.get(key) {
            None | Some(Json::Null) => Ok(usual),
            Some(Json::Int(value)) => Ok(*value as f32),
            Some(Json::Float(value)) => Ok(*value as f32),
            Some(other) => fail!(Format, "{key:?} is {}, expected a number", other.kind()),
        };
        let temperature = if usual.temperature == 0.0 { 0.0 } else { number("temperature", usual.temperature)? };
        let top_k = number("top_k", usual.top_k as f32)?;
        if !(0.0..=u32::MAX as f32).contains(&top_k) {
            fail!(Format, "\"top_k\" is {top_k}, expected a whole number from 0");
        }
        Ok(Self {
            top_k: top_k as u32,
            top_p: number("top_p", usual.top_p)?,
            min_p: number("min_p", usual.min_p)?,
            typical_p: number("typical_p", usual.typical_p)?,
            temperature,
            repeat: number("repetition_penalty", usual.repeat)?,
            // It counts the whole text, there.
            last_n: u32::MAX,
            ends: ends(json.get("eos_token_id"))?,
            ..usual
        })
    }

    /// The chain, in the order that `inf_sampler_from_json` documents; stages that would do nothing are left out.
    pub(super) fn stages(&self) -> Vec<Stage> {
        let (probability, threshold) = self.xtc;
        let penalties = Stage::Penalties { last_n: self.last_n, repeat: self.repeat, frequency: 0.0, presence: 0.0 };
        let mut stages = vec![(self.repeat != 1.0, penalties)];
        match self.mirostat {
            Some((tau, eta)) => stages.extend([(true, Stage::Temperature(self.temperature)), (true, Stage::Mirostat { tau, eta })]),
            None => stages.extend([
                (self.top_k != 0, Stage::TopK(self.top_k)),
                (self.typical_p != 1.0, Stage::TypicalP(self.typical_p)),
                (self.top_p != 1.0, Stage::TopP(self.top_p)),
                (self.min_p != 0.0, Stage::MinP(self.min_p)),
                (probability != 0.0, Stage::Xtc { probability, threshold }),
                (true, Stage::Temperature(self.temperature)),
            ]),
        }
        stages.into_iter().filter(|(wanted, _)| *wanted).map(|(_, stage)| stage).collect()
    }
}

/// One token, or a list.
fn ends(json: Option<&Json>) -> Result<Vec<Token>> {
    let token = |json: &Json| match json {
        Json::Int(token) if Token::try_from(*token).is_ok() => Ok(Token::try_from(*token).unwrap_or(0)),
        other => fail!(Format, "\"eos_token_id\" holds {other}, expected tokens"),
    };
    match json {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(tokens)) => tokens.iter().map(token).collect(),
        Some(one) => Ok(vec![token(one)?]),
    }
}
