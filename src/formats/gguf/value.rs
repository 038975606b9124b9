//! The value of a metadata entry: one of 13 types, arrays stored as compactly as in the file.
//!
//! Source of the types and their numbers: the GGUF specification, `gguf_metadata_value_type`.

use crate::error::Result;
use crate::fail;
use crate::formats::gguf::strings::Strings;
use std::fmt;

/// Declares [`Value`], [`Array`] and [`ValueType`] from one table: variant = number, name, value, array of values.
macro_rules! value_types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $value:ty, $elements:ty;)*) => {
        /// A metadata value.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "the names are the types")]
        pub enum Value { $($(#[$doc])* $variant($value),)* }

        /// An array of values of one type.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "the names are the types")]
        pub enum Array { $($variant($elements),)* }

        /// The type of a value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names are the types")]
        pub enum ValueType { $($variant,)* }

        impl ValueType {
            /// The type with GGUF's number `id`.
            pub const fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// GGUF's number.
            pub const fn id(self) -> u32 {
                match self { $(Self::$variant => $id,)* }
            }

            /// What messages call it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl Value {
            /// The type of the value.
            pub const fn value_type(&self) -> ValueType {
                match self { $(Self::$variant(_) => ValueType::$variant,)* }
            }
        }

        impl Array {
            /// The type of the elements.
            pub const fn element_type(&self) -> ValueType {
                match self { $(Self::$variant(_) => ValueType::$variant,)* }
            }

            /// Number of elements.
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(elements) => elements.len(),)* }
            }
        }
    };
}

value_types! {
    U8 = 0, "u8", u8, Vec<u8>;
    I8 = 1, "i8", i8, Vec<i8>;
    U16 = 2, "u16", u16, Vec<u16>;
    I16 = 3, "i16", i16, Vec<i16>;
    U32 = 4, "u32", u32, Vec<u32>;
    I32 = 5, "i32", i32, Vec<i32>;
    F32 = 6, "f32", f32, Vec<f32>;
    Bool = 7, "bool", bool, Vec<bool>;
    /// Text, as it was in the file: tokens and templates are not always UTF-8.
    String = 8, "string", Box<[u8]>, Strings;
    Array = 9, "array", Array, Vec<Array>;
    U64 = 10, "u64", u64, Vec<u64>;
    I64 = 11, "i64", i64, Vec<i64>;
    F64 = 12, "f64", f64, Vec<f64>;
}

impl Value {
    /// The value, if it is of an integer type; all of them fit.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// The value, if it is a string and UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The value, if it is an array.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }
}

impl Array {
    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The deepest nesting below this array: 0 if its elements are not arrays.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Array(arrays) => arrays.iter().map(Self::depth).max().unwrap_or(0).saturating_add(1),
            _ => 0,
        }
    }

    /// How many arrays are inside this one, at any depth.
    pub(crate) fn n_nested(&self) -> u64 {
        match self {
            Self::Array(arrays) => arrays.iter().fold(0, |n, array| array.n_nested().saturating_add(n).saturating_add(1)),
            _ => 0,
        }
    }
}

/// What kind of value it is, for messages: `u32`, or `array of 3 i32`.
pub(crate) struct Kind<'a>(pub(crate) &'a Value);

impl fmt::Display for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Array(array) => write!(f, "array of {} {}", array.len(), array.element_type().name()),
            value => f.write_str(value.value_type().name()),
        }
    }
}

/// As a person reads it: text as it is (invalid UTF-8 replaced), arrays in brackets with quoted text.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(v) => write!(f, "{v}"),
            Self::I8(v) => write!(f, "{v}"),
            Self::U16(v) => write!(f, "{v}"),
            Self::I16(v) => write!(f, "{v}"),
            Self::U32(v) => write!(f, "{v}"),
            Self::I32(v) => write!(f, "{v}"),
            Self::F32(v) => write!(f, "{v}"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::String(v) => write!(f, "{}", Lossy(v)),
            Self::Array(v) => write!(f, "{v}"),
            Self::U64(v) => write!(f, "{v}"),
            Self::I64(v) => write!(f, "{v}"),
            Self::F64(v) => write!(f, "{v}"),
        }
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(v) => bracketed(f, v),
            Self::I8(v) => bracketed(f, v),
            Self::U16(v) => bracketed(f, v),
            Self::I16(v) => bracketed(f, v),
            Self::U32(v) => bracketed(f, v),
            Self::I32(v) => bracketed(f, v),
            Self::F32(v) => bracketed(f, v),
            Self::Bool(v) => bracketed(f, v),
            Self::String(v) => bracketed(f, v.iter().map(LossyQuoted)),
            Self::Array(v) => bracketed(f, v),
            Self::U64(v) => bracketed(f, v),
            Self::I64(v) => bracketed(f, v),
            Self::F64(v) => bracketed(f, v),
        }
    }
}

/// Text with U+FFFD for what is not UTF-8, without a copy: a string may be as long as the file.
struct Lossy<'a>(&'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.utf8_chunks().try_for_each(|chunk| {
            f.write_str(chunk.valid())?;
            f.write_str(if chunk.invalid().is_empty() { "" } else { "\u{fffd}" })
        })
    }
}

/// [`Lossy`] in quotes, escaped.
struct LossyQuoted<'a>(&'a [u8]);

impl fmt::Display for LossyQuoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for chunk in self.0.utf8_chunks() {
            write!(f, "{}", chunk.valid().escape_debug())?;
            f.write_str(if chunk.invalid().is_empty() { "" } else { "\u{fffd}" })?;
        }
        f.write_str("\"")
    }
}

fn bracketed(f: &mut fmt::Formatter<'_>, items: impl IntoIterator<Item: fmt::Display>) -> fmt::Result {
    f.write_str("[")?;
    for (i, item) in items.into_iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
    }
    f.write_str("]")
}

/// `Value::from(7u32)`, `Value::from(vec![7u32])`: how programs that write metadata name a value.
macro_rules! from_scalars {
    ($($variant:ident: $type:ty),*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }

        impl From<Vec<$type>> for Value {
            fn from(elements: Vec<$type>) -> Self {
                Self::Array(Array::$variant(elements))
            }
        }
    )*};
}

from_scalars! {
    U8: u8, I8: i8, U16: u16, I16: i16, U32: u32, I32: i32, F32: f32, Bool: bool, Array: Array, U64: u64, I64: i64, F64: f64
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.as_bytes().into())
    }
}

impl From<Strings> for Value {
    fn from(strings: Strings) -> Self {
        Self::Array(Array::String(strings))
    }
}

/// The value of a `bool` byte.
///
/// # Errors
/// `Format` if it is neither 0 nor 1, which the specification calls an invalid file.
pub(crate) fn bool_from_byte(byte: u8) -> Result<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => fail!(Format, "a bool is {byte}, expected 0 or 1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_numbers_of_the_specification() {
        for id in 0..13 {
            assert_eq!(ValueType::from_id(id).unwrap().id(), id);
        }
        assert_eq!(ValueType::from_id(13), None);
        assert_eq!(ValueType::from_id(u32::MAX), None);
        assert_eq!(ValueType::from_id(9), Some(ValueType::Array));
    }

    #[test]
    fn values_are_shown_as_a_person_reads_them() {
        assert_eq!(Value::from(7u64).to_string(), "7");
        assert_eq!(Value::from("a\"b").to_string(), "a\"b");
        assert_eq!(Value::from(vec![1.5f32, -2.0]).to_string(), "[1.5, -2]");
        let strings = Strings::collect(["a", "\n"]).unwrap();
        assert_eq!(Value::from(strings).to_string(), r#"["a", "\n"]"#);
        assert_eq!(Value::from(vec![Array::U8(vec![]), Array::U8(vec![1])]).to_string(), "[[], [1]]");
        assert_eq!(Kind(&Value::from(vec![1i32, 2])).to_string(), "array of 2 i32");
    }

    #[test]
    fn depth_counts_arrays_in_arrays() {
        assert_eq!(Array::U8(vec![]).depth(), 0);
        assert_eq!(Array::Array(vec![]).depth(), 1);
        assert_eq!(Array::Array(vec![Array::U8(vec![]), Array::Array(vec![])]).depth(), 2);
    }
}
