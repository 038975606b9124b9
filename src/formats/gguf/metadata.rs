//! The key-value pairs of a model file: hyper-parameters, vocabulary, templates. `model` and `text` are built from them.
//!
//! Every getter comes in three forms: `u32(key)` requires the key, `u32_opt(key)` gives `None` without it, and
//! `u32_or(key, default)` the default. A key that is there with another type is an error in all three.

use crate::error::Result;
use crate::fail;
use crate::formats::cursor::{Cursor, at_most};
use crate::formats::gguf::convert::FromValue;
use crate::formats::gguf::read_value::ValueReader;
use crate::formats::gguf::strings::Strings;
use crate::formats::gguf::value::{Kind, Value};
use crate::formats::limits::{MAX_KEY_BYTES, MAX_METADATA_ENTRIES};
use crate::formats::names::{NameTable, Named, Quoted};
use crate::formats::size::ByteSize;
use crate::sys::memory::try_with_capacity;
use std::borrow::Cow;

/// In the file, an entry is at least a key's length (u64) and one byte of it, a type (u32), and a value of one byte.
const MIN_ENTRY_BYTES: u64 = 14;

/// All metadata of a model, in the order of the file. Keys are unique.
pub struct Metadata {
    entries: NameTable<Entry>,
}

struct Entry {
    key: Box<str>,
    value: Value,
}

impl Named for Entry {
    fn name(&self) -> &str {
        &self.key
    }
}

impl Metadata {
    /// No entries.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn empty() -> Result<Self> {
        Ok(Self { entries: NameTable::new(Vec::new())? })
    }

    /// These keys and values.
    ///
    /// # Errors
    /// `Format` if a key appears twice; `OutOfMemory`.
    pub fn from_entries(entries: Vec<(String, Value)>) -> Result<Self> {
        let entries = entries.into_iter().map(|(key, value)| Entry { key: key.into(), value }).collect();
        Ok(Self { entries: NameTable::new(entries).map_err(|e| e.at("metadata key"))? })
    }

    /// Reads `n` entries, in slices.
    ///
    /// # Errors
    /// `Format`, naming the entry; `OutOfMemory`.
    pub(crate) async fn read(cursor: &mut Cursor<'_>, n: u64) -> Result<Self> {
        at_most(MAX_METADATA_ENTRIES, n, "metadata entries")?;
        cursor.expect_items(n, MIN_ENTRY_BYTES).map_err(|e| e.at("metadata"))?;
        let mut entries = try_with_capacity(ByteSize::new(n).to_usize()?)?;
        let mut values = ValueReader { cursor, n_nested: 0 };
        for i in 0..n {
            let key = read_name(values.cursor, MAX_KEY_BYTES).map_err(|e| e.at(format_args!("key of metadata entry {i}")))?;
            let value = values.value().await.map_err(|e| e.at(format_args!("metadata {}", Quoted(&key))))?;
            entries.push(Entry { key, value });
        }
        Ok(Self { entries: NameTable::new(entries).map_err(|e| e.at("metadata key"))? })
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// All keys with their values, in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.items().iter().map(|entry| (&*entry.key, &entry.value))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.items().len()
    }

    /// True if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of `key` as a `T`, or `None` if there is no such key.
    ///
    /// # Errors
    /// `Format`, naming the key, its type and what was expected.
    pub fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match T::from_value(value)? {
            Some(v) => Ok(Some(v)),
            None => fail!(Format, "metadata {}: {}, expected {}", Quoted(key), Found(value), T::EXPECTED),
        }
    }

    /// The value of `key` as a `T`.
    ///
    /// # Errors
    /// `Format`, naming the key and what was expected: no such key, or another type.
    pub fn required<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T> {
        match self.optional(key)? {
            Some(v) => Ok(v),
            None => fail!(Format, "metadata {} is missing, expected {}", Quoted(key), T::EXPECTED),
        }
    }
}

/// Declares the three forms of a getter; `'a` is the borrow of the metadata.
macro_rules! getters {
    ($($(#[$doc:meta])* $type:ty: $required:ident $optional:ident $or:ident;)*) => {
        /// Getters by type. Errors are those of [`Metadata::required`] and [`Metadata::optional`].
        impl<'a> Metadata {$(
            $(#[$doc])*
            pub fn $required(&'a self, key: &str) -> Result<$type> {
                self.required(key)
            }

            #[doc = concat!("As [`Self::", stringify!($required), "`]; `None` without the key.")]
            pub fn $optional(&'a self, key: &str) -> Result<Option<$type>> {
                self.optional(key)
            }

            #[doc = concat!("As [`Self::", stringify!($required), "`]; `default` without the key.")]
            pub fn $or(&'a self, key: &str, default: $type) -> Result<$type> {
                Ok(self.optional(key)?.unwrap_or(default))
            }
        )*}
    };
}

getters! {
    /// A number of any integer type that fits.
    u32: u32 u32_opt u32_or;
    /// A number of any integer type that fits.
    u64: u64 u64_opt u64_or;
    /// A number of any integer type that fits.
    i32: i32 i32_opt i32_or;
    /// A number of any integer type that fits.
    usize: usize usize_opt usize_or;
    /// A number of either float type; an f64 is rounded. May be infinite or NaN.
    f32: f32 f32_opt f32_or;
    /// A bool.
    bool: bool bool_opt bool_or;
    /// A string that is UTF-8.
    &'a str: str str_opt str_or;
}

/// Getters of arrays. Errors are those of [`Metadata::required`].
impl Metadata {
    /// An array of strings, any bytes.
    pub fn strings(&self, key: &str) -> Result<&Strings> {
        self.required(key)
    }

    /// As [`Self::strings`]; `None` without the key.
    pub fn strings_opt(&self, key: &str) -> Result<Option<&Strings>> {
        self.optional(key)
    }

    /// An array of f32.
    pub fn f32s(&self, key: &str) -> Result<&[f32]> {
        self.required(key)
    }

    /// As [`Self::f32s`]; `None` without the key.
    pub fn f32s_opt(&self, key: &str) -> Result<Option<&[f32]>> {
        self.optional(key)
    }

    /// An array of any integer type, all of which fit. Borrowed if the file has i32.
    pub fn i32s(&self, key: &str) -> Result<Cow<'_, [i32]>> {
        self.required(key)
    }

    /// As [`Self::i32s`]; `None` without the key.
    pub fn i32s_opt(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>> {
        self.optional(key)
    }

    /// An array of any integer type, all of which fit. Borrowed if the file has u32.
    pub fn u32s(&self, key: &str) -> Result<Cow<'_, [u32]>> {
        self.required(key)
    }

    /// As [`Self::u32s`]; `None` without the key.
    pub fn u32s_opt(&self, key: &str) -> Result<Option<Cow<'_, [u32]>>> {
        self.optional(key)
    }

    /// An array of bool.
    pub fn bools(&self, key: &str) -> Result<&[bool]> {
        self.required(key)
    }

    /// As [`Self::bools`]; `None` without the key.
    pub fn bools_opt(&self, key: &str) -> Result<Option<&[bool]>> {
        self.optional(key)
    }
}

/// What a key has instead of what was expected: its type, and its value if that is short.
struct Found<'a>(&'a Value);

impl std::fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Value::Array(_) | Value::String(_) => write!(f, "is {}", Kind(self.0)),
            value => write!(f, "is {} {value}", Kind(value)),
        }
    }
}

/// A key or tensor name: its length (u64), then its bytes.
///
/// # Errors
/// `Format` if it is empty, longer than `max_bytes`, not UTF-8, or holds a NUL, where C would end it.
pub(crate) fn read_name(cursor: &mut Cursor<'_>, max_bytes: u64) -> Result<Box<str>> {
    let n = at_most(max_bytes, cursor.u64()?, "bytes long")?;
    let bytes = cursor.bytes(n)?;
    match String::from_utf8(bytes) {
        Ok(name) => check_name(&name, max_bytes).map(|()| name.into_boxed_str()),
        Err(e) => fail!(Format, "{} is not UTF-8", Quoted(&String::from_utf8_lossy(e.as_bytes()))),
    }
}

/// The rules for keys and tensor names, for readers and writers.
pub(crate) fn check_name(name: &str, max_bytes: u64) -> Result<()> {
    at_most(max_bytes, ByteSize::from(name.len()).get(), "bytes long")?;
    if name.is_empty() || name.contains('\0') {
        fail!(Format, "{}, expected a name that is not empty and holds no NUL", Quoted(name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::formats::gguf::Gguf;
    use crate::formats::gguf::GgufWriter;
    use crate::sys::file::MemorySource;
    use std::sync::Arc;

    fn model() -> Gguf {
        let mut writer = GgufWriter::new();
        let entries: [(&str, Value); 8] = [
            ("u16", 7u16.into()),
            ("minus", (-1i64).into()),
            ("large", u64::MAX.into()),
            ("f64", 0.5f64.into()),
            ("text", "héllo".into()),
            ("bytes", Value::String(b"\xff".as_slice().into())),
            ("u8s", vec![1u8, 2].into()),
            ("i32s", vec![-1i32, 2].into()),
        ];
        for (key, value) in entries {
            writer.set(key, value).unwrap();
        }
        Gguf::from_source(Arc::new(MemorySource::new(writer.to_bytes().unwrap()))).unwrap()
    }

    #[test]
    fn integers_of_any_type_are_taken_where_they_fit() {
        let model = model();
        let metadata = model.metadata();
        assert_eq!(metadata.u32("u16").unwrap(), 7);
        assert_eq!(metadata.i32("minus").unwrap(), -1);
        assert_eq!(metadata.u64("large").unwrap(), u64::MAX);
        assert_eq!(metadata.f32("f64").unwrap(), 0.5);
        assert_eq!(*metadata.u32s("u8s").unwrap(), [1, 2]);
        assert!(matches!(metadata.i32s("i32s").unwrap(), Cow::Borrowed([-1, 2])));
        assert!(metadata.u32s("i32s").is_err() && metadata.u32("minus").is_err() && metadata.u32("large").is_err());
    }

    #[test]
    fn errors_name_the_key_what_is_there_and_what_was_expected() {
        let model = model();
        let error = model.metadata().u32("minus").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert_eq!(error.message(), "metadata \"minus\": is i64 -1, expected an integer from 0 to 4294967295");
        let error = model.metadata().f32s("u8s").unwrap_err();
        assert_eq!(error.message(), "metadata \"u8s\": is array of 2 u8, expected an array of f32");
        let error = model.metadata().str("none").unwrap_err();
        assert_eq!(error.message(), "metadata \"none\" is missing, expected a string in UTF-8");
        assert!(model.metadata().str("bytes").is_err());
    }

    #[test]
    fn a_default_replaces_a_missing_key_but_not_a_wrong_one() {
        let model = model();
        let metadata = model.metadata();
        assert_eq!(metadata.u32_or("none", 5).unwrap(), 5);
        assert_eq!(metadata.u32_opt("none").unwrap(), None);
        assert_eq!(metadata.str_or("text", "").unwrap(), "héllo");
        assert!(metadata.u32_or("text", 5).is_err());
        assert!(metadata.u32_opt("text").is_err());
    }
}
