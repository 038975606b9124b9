//! A `config.json`: typed values of its keys, and errors that name the key. `model` reads blueprints from it, `engine` what else is beside a model.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::limits::MAX_CONFIG_BYTES;
use crate::formats::names::Quoted;
use serde_json::{Map, Value};

/// An object of the file, and where it is in it.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    map: &'a Map<String, Value>,
    /// What messages put in front of a key: `"text_config."`.
    prefix: &'a str,
}

/// The whole file.
pub struct ConfigJson(Map<String, Value>);

impl ConfigJson {
    /// Parses `json`.
    ///
    /// # Errors
    /// `Format` if it is not an object, or longer than any known one.
    pub fn parse(json: &[u8]) -> Result<Self> {
        if json.len() > MAX_CONFIG_BYTES {
            fail!(Format, "{} bytes, expected {MAX_CONFIG_BYTES} at most", json.len());
        }
        serde_json::from_slice(json).map(Self).map_err(|e| Error::new(ErrorKind::Format, e.to_string()))
    }

    /// Its outermost object.
    pub fn root(&self) -> Object<'_> {
        Object { map: &self.0, prefix: "" }
    }
}

impl<'a> Object<'a> {
    /// `key` as messages name it.
    pub fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// True if `key` is there, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The value of `key`; `None` if it is missing or null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// An error about what `key` is.
    pub fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self.map.get(key).unwrap_or(&Value::Null).to_string();
        let shown: String = found.chars().take(80).collect();
        Error::new(ErrorKind::Format, format!("{}: {shown}, expected {expected}", self.path(key)))
    }

    fn typed<T>(&self, key: &str, expected: &str, convert: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| self.wrong(key, expected))
    }

    /// A number of things.
    ///
    /// # Errors
    /// `Format`, naming the key, as those below.
    pub fn integer(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a whole number that is not negative", Value::as_u64)
    }

    /// A finite number.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| value.as_f64().filter(|x| x.is_finite()))
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A string.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A list of strings.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.typed(key, "a list of strings", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    /// A list of finite numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let number = |value: &Value| value.as_f64().filter(|x| x.is_finite());
        self.typed(key, "a list of numbers", |value| value.as_array()?.iter().map(number).collect())
    }

    /// A list of objects.
    pub fn objects(&self, key: &str) -> Result<Vec<Self>> {
        let object = |value: &'a Value| value.as_object().map(|map| Object { map, prefix: self.prefix });
        Ok(self.typed(key, "a list of objects", |value| value.as_array()?.iter().map(object).collect())?.unwrap_or_default())
    }

    /// An object, which messages prefix with `prefix`.
    pub fn object(&self, key: &str, prefix: &'a str) -> Result<Option<Self>> {
        self.typed(key, "an object", |value| value.as_object().map(|map| Object { map, prefix }))
    }

    /// `Unsupported`, quoting the text of `key`.
    pub fn unsupported(&self, key: &str, found: &str, expected: &str) -> Error {
        Error::new(ErrorKind::Unsupported, format!("{}: {} is not in this build, expected {expected}", self.path(key), Quoted(found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_types_and_errors_name_the_key() {
        let file = ConfigJson::parse(br#"{"n":7,"x":0.5,"no":null,"t":{"s":"a","l":["b"],"f":[1,2.5]},"flag":true,"big":1e999}"#);
        assert!(file.is_err(), "no number is infinite");
        let file = ConfigJson::parse(br#"{"n":7,"x":0.5,"no":null,"t":{"s":"a","l":["b"],"f":[1,2.5]},"flag":true}"#).unwrap();
        let root = file.root();
        assert_eq!((root.integer("n").unwrap(), root.number("x").unwrap(), root.number("n").unwrap()), (Some(7), Some(0.5), Some(7.0)));
        assert_eq!((root.integer("no").unwrap(), root.integer("none").unwrap(), root.has("no")), (None, None, true));
        assert_eq!(root.flag("flag").unwrap(), Some(true));
        let inner = root.object("t", "t.").unwrap().unwrap();
        assert_eq!(inner.texts("l").unwrap(), Some(vec!["b"]));
        assert_eq!(inner.numbers("f").unwrap(), Some(vec![1.0, 2.5]));
        let error = inner.integer("s").unwrap_err();
        assert_eq!(error.message(), "t.s: \"a\", expected a whole number that is not negative");
        for error in
            [root.integer("x").err(), root.flag("n").err(), root.texts("n").err(), inner.texts("f").err(), root.object("n", "").err()]
        {
            assert_eq!(error.unwrap().kind(), ErrorKind::Format);
        }
        assert!(ConfigJson::parse(b"[]").is_err() && ConfigJson::parse(b"{").is_err());
    }
}
