//! JSON that keeps the order of its keys, as templates show them to a model. For the messages, tools and options of a chat.
//!
//! `serde_json::Value` sorts keys unless a feature is on that the whole build would share.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::text::limits::{MAX_CHAT_BYTES, MAX_CHAT_DEPTH, MAX_CHAT_VALUES};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without point and exponent, if it fits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    String(String),
    /// A list.
    Array(Vec<Json>),
    /// Pairs in the order of the text; of several with one key, the last one, in the place of the first.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses `text`, which `name` calls it in errors.
    ///
    /// # Errors
    /// `InvalidArgument` with `detail[0]` = byte offset if it is no JSON, too long, or too deep.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        if text.len() > MAX_CHAT_BYTES {
            fail!(InvalidArgument, "{name}: {} bytes, expected {MAX_CHAT_BYTES} at most", text.len());
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let values_left = Cell::new(MAX_CHAT_VALUES);
        let reader = Reader { levels_left: MAX_CHAT_DEPTH, values_left: &values_left };
        let parsed = reader.deserialize(&mut deserializer).and_then(|json| deserializer.end().map(|()| json));
        parsed.map_err(|e| {
            let at = offset(text, e.line(), e.column());
            Error::new(ErrorKind::InvalidArgument, format!("{name}: {e}")).with_detail([at as i64, 0])
        })
    }

    /// The value of `key`, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(pairs) => pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// What kind of value it is, for error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// Values in it, itself included.
    pub fn n_values(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::n_values).sum::<usize>(),
            Self::Object(pairs) => 1 + pairs.iter().map(|(_, value)| value.n_values()).sum::<usize>(),
            _ => 1,
        }
    }
}

impl fmt::Display for Json {
    /// Compact JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = |text: &str| serde_json::to_string(text).map_err(|_| fmt::Error);
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => f.write_str(&super::python::float(*value)),
            Self::String(text) => f.write_str(&quote(text)?),
            Self::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { "," })?;
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Object(pairs) => {
                f.write_str("{")?;
                for (i, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{}:{value}", if i == 0 { "" } else { "," }, quote(key)?)?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Byte offset of a place that serde_json names: lines and columns count from 1, columns in bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(text.len())
}

/// What a text may still hold.
#[derive(Clone, Copy)]
struct Reader<'a> {
    /// Arrays and objects that may still open inside each other.
    levels_left: usize,
    /// Values of the whole text.
    values_left: &'a Cell<usize>,
}

impl Reader<'_> {
    /// The reader of what is inside an array or object.
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.levels_left.checked_sub(1) {
            Some(levels_left) => Ok(Self { levels_left, ..self }),
            None => Err(E::custom(format_args!("nested deeper than {MAX_CHAT_DEPTH} levels"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        match self.values_left.get().checked_sub(1) {
            Some(left) => self.values_left.set(left),
            None => return Err(D::Error::custom(format_args!("more than {MAX_CHAT_VALUES} values"))),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::Float(value as f64), Json::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let (below, mut list) = (self.below()?, Vec::new());
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let (below, mut pairs, mut places) = (self.below()?, Vec::new(), hashbrown::HashMap::new());
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(below)?;
            let place = *places.entry(key.clone()).or_insert(pairs.len());
            match pairs.get_mut(place) {
                Some((_, old)) => *old = value,
                None => pairs.push((key, value)),
            }
        }
        Ok(Json::Object(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_numbers_and_duplicates_are_kept_as_python_keeps_them() {
        let json = Json::parse("j", r#"{"z":1,"a":[1.5,-2,true,null,18446744073709551615],"z":"x"}"#).unwrap();
        assert_eq!(json.to_string(), r#"{"z":"x","a":[1.5,-2,true,null,1.8446744073709552e+19]}"#);
        assert_eq!((json.get("z").unwrap().as_str(), json.get("b"), json.n_values()), (Some("x"), None, 8));
    }

    #[test]
    fn broken_json_is_refused_with_its_place() {
        for (text, at) in [("{\"a\":}", 5), ("[1,\n2", 4), ("", 0), ("1 2", 2)] {
            let error = Json::parse("messages", text).unwrap_err();
            assert_eq!((error.kind(), error.detail()[0]), (ErrorKind::InvalidArgument, at), "{text}: {error}");
            assert!(error.message().starts_with("messages: "), "{error}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Json::parse("j", &nested(MAX_CHAT_DEPTH)).is_ok());
        assert!(Json::parse("j", &nested(MAX_CHAT_DEPTH + 1)).unwrap_err().message().contains("deeper"));
        assert!(Json::parse("j", &nested(1_000_000)).is_err());
        let many = format!("[{}0]", "0,".repeat(MAX_CHAT_VALUES));
        assert!(Json::parse("j", &many).unwrap_err().message().contains("values"));
    }
}
