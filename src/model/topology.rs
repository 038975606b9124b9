//! What a host says about some of the layers, or some of the tensors: rules by range or by regular expression. Read by `quantize` and by the engine's
//! choice of devices.

use super::span::layer_of;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use std::ops::Range;

/// Bytes that a compiled pattern may take: a hundred times what any list of tensor names needs.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Rules that a host may give: more than the most layers a model may have.
const MAX_RULES: usize = 4096;

/// What a rule may say.
const ATTRIBUTES: [&str; 2] = ["quantize", "device"];

/// What a rule is about.
#[derive(Clone, Debug)]
enum Selector {
    /// Layers from the first to before the last.
    Layers(Range<usize>),
    /// Tensors whose GGUF names hold a match.
    Names(Regex),
}

/// A list of rules: `{"layers": "0-8", "quantize": "q8_0"}` or `{"tensors": "ffn_down|attn_v", "quantize": "q6_k"}`; `"device"` beside
/// `"quantize"`, or in its place.
#[derive(Clone, Debug, Default)]
pub struct Topology(Vec<(Selector, Map<String, Value>)>);

impl Topology {
    /// Reads the rules; none without a value.
    ///
    /// # Errors
    /// `InvalidArgument`, quoting what was not understood.
    pub fn new(rules: Option<&Value>) -> Result<Self> {
        match rules {
            None => Ok(Self::default()),
            Some(Value::Array(rules)) if rules.len() <= MAX_RULES => Ok(Self(rules.iter().map(rule).collect::<Result<_>>()?)),
            Some(_) => fail!(InvalidArgument, "topology: expected a list of at most {MAX_RULES} rules"),
        }
    }

    /// The rules that say something with `attribute`, read by `read`.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn rules<T>(&self, attribute: &str, read: impl Fn(&str) -> Result<T>) -> Result<Rules<T>> {
        let says =
            |(selector, fields): &(Selector, Map<String, Value>)| Some((selector.clone(), fields.get(attribute)?.as_str()?.to_owned()));
        let rules = self.0.iter().filter_map(says).map(|(selector, text)| Ok((selector, read(&text)?)));
        Ok(Rules(rules.collect::<Result<_>>()?))
    }
}

/// What the rules of a topology say with one attribute.
#[derive(Clone, Debug)]
pub struct Rules<T>(Vec<(Selector, T)>);

impl<T> Default for Rules<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Rules<T> {
    /// What they say, in order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }

    /// For the tensor called `name`: the last pattern that matches, else of ranges the one that ends last, the later of two.
    pub fn for_tensor(&self, name: &str) -> Option<&T> {
        self.choose(|pattern| pattern.is_match(name), layer_of(name))
    }

    /// For a layer whose tensors are called `names`: as [`Self::for_tensor`]; a pattern counts that matches one of them.
    pub fn for_layer<'a>(&self, layer: usize, names: impl Iterator<Item = &'a str> + Clone) -> Option<&T> {
        self.choose(|pattern| names.clone().any(|name| pattern.is_match(name)), Some(layer))
    }

    fn choose(&self, matches: impl Fn(&Regex) -> bool, layer: Option<usize>) -> Option<&T> {
        let by_name = |(selector, _): &&(Selector, T)| matches!(selector, Selector::Names(pattern) if matches(pattern));
        let end = |(selector, _): &&(Selector, T)| match selector {
            Selector::Layers(layers) if layer.is_some_and(|layer| layers.contains(&layer)) => layers.end,
            _ => 0,
        };
        let by_layer = || self.0.iter().max_by_key(end).filter(|rule| end(rule) > 0);
        self.0.iter().rev().find(by_name).or_else(by_layer).map(|(_, value)| value)
    }
}

fn rule(rule: &Value) -> Result<(Selector, Map<String, Value>)> {
    let wrong = |what: &str| Error::new(ErrorKind::InvalidArgument, format!("topology: {rule:.200}: {what}"));
    let Some(fields) = rule.as_object() else { return Err(wrong("expected an object")) };
    let known = |key: &str| ["layers", "tensors"].contains(&key) || ATTRIBUTES.contains(&key);
    if let Some(key) = fields.keys().find(|key| !known(key)) {
        return Err(wrong(&format!("unknown key {key:?}")));
    }
    let selector = match (fields.get("layers"), fields.get("tensors")) {
        (Some(Value::String(range)), None) => Selector::Layers(layers(range).ok_or_else(|| wrong("layers: expected \"first-end\""))?),
        (None, Some(Value::String(pattern))) => {
            let compiled = RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES).build();
            Selector::Names(compiled.map_err(|e| wrong(&format!("tensors: {e}")))?)
        }
        _ => return Err(wrong("expected a text as \"layers\" or as \"tensors\", not both")),
    };
    let said = || ATTRIBUTES.iter().filter_map(|attribute| fields.get(*attribute));
    if said().next().is_none() || !said().all(Value::is_string) {
        return Err(wrong("expected a text as \"quantize\", as \"device\", or as both"));
    }
    Ok((selector, fields.clone()))
}

/// `"4-8"`: the layers 4 to 7; `"4"`: that one.
fn layers(text: &str) -> Option<Range<usize>> {
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&n| n <= u32::MAX as usize);
    match text.split_once('-') {
        None => number(text).map(|n| n..n + 1),
        Some((first, end)) => Some(number(first)?..number(end)?).filter(|range| !range.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn layers_go_where_their_rules_say() {
        let topology = json!([
            { "layers": "0-8", "device": "a" },
            { "layers": "4-6", "device": "b", "quantize": "q8_0" },
            { "layers": "2-9", "quantize": "q4_0" },
            { "tensors": "^blk\\.7\\.ffn", "device": "c" },
        ]);
        let rules = Topology::new(Some(&topology)).unwrap().rules("device", |name| Ok(name.to_owned())).unwrap();
        let device = |layer: usize| {
            let names = [format!("blk.{layer}.attn_q.weight"), format!("blk.{layer}.ffn_up.weight")];
            rules.for_layer(layer, names.iter().map(String::as_str)).map(String::as_str)
        };
        assert_eq!([0, 4, 7, 8].map(device), [Some("a"), Some("a"), Some("c"), None], "the higher end, the pattern, and no rule");
        assert_eq!(rules.values().count(), 3);
    }

    #[test]
    fn a_rule_says_something() {
        for bad in [
            json!([{ "layers": "0-4" }]),
            json!([{ "layers": "0-4", "device": 7 }]),
            json!([{ "layers": "0-4", "device": "a", "quantize": 1 }]),
        ] {
            assert_eq!(Topology::new(Some(&bad)).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }
}
