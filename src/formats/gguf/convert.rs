//! What a metadata value may be read as. Widening and narrowing of integers is allowed where the number fits.

use crate::error::Result;
use crate::formats::gguf::strings::Strings;
use crate::formats::gguf::value::{Array, Value};
use crate::sys::memory::try_with_capacity;
use std::borrow::Cow;

/// A type that a [`Value`] can be read as; `'a` is the borrow of the value.
pub trait FromValue<'a>: Sized {
    /// The type in a message: `expected ...`.
    const EXPECTED: &'static str;

    /// The value as this type, or `None` if it is of another type or does not fit.
    ///
    /// # Errors
    /// `OutOfMemory`, where a copy is needed.
    fn from_value(value: &'a Value) -> Result<Option<Self>>;
}

macro_rules! integers {
    ($($type:ty: $expected:literal, $variant:ident, $array_expected:literal;)*) => {$(
        impl FromValue<'_> for $type {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &Value) -> Result<Option<Self>> {
                Ok(value.as_integer().and_then(|v| Self::try_from(v).ok()))
            }
        }

        impl<'a> FromValue<'a> for Cow<'a, [$type]> {
            const EXPECTED: &'static str = $array_expected;

            fn from_value(value: &'a Value) -> Result<Option<Self>> {
                Ok(match value.as_array() {
                    Some(Array::$variant(v)) => Some(Cow::Borrowed(v)),
                    Some(array) => narrowed(array)?.map(Cow::Owned),
                    None => None,
                })
            }
        }
    )*};
}

integers! {
    u32: "an integer from 0 to 4294967295", U32, "an array of integers from 0 to 4294967295";
    i32: "an integer from -2147483648 to 2147483647", I32, "an array of integers from -2147483648 to 2147483647";
    u64: "an integer from 0 to 18446744073709551615", U64, "an array of integers from 0 to 18446744073709551615";
}

impl FromValue<'_> for usize {
    const EXPECTED: &'static str = "an integer that is not negative and that this machine can address";

    fn from_value(value: &Value) -> Result<Option<Self>> {
        Ok(value.as_integer().and_then(|v| Self::try_from(v).ok()))
    }
}

impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "a float";

    fn from_value(value: &Value) -> Result<Option<Self>> {
        Ok(match *value {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(rounded(v)),
            _ => None,
        })
    }
}

#[expect(clippy::as_conversions, reason = "rounds to nearest and never fails; std has no other conversion")]
fn rounded(v: f64) -> f32 {
    v as f32
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "a bool";

    fn from_value(value: &Value) -> Result<Option<Self>> {
        Ok(match *value {
            Value::Bool(v) => Some(v),
            _ => None,
        })
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a string in UTF-8";

    fn from_value(value: &'a Value) -> Result<Option<Self>> {
        Ok(value.as_str())
    }
}

macro_rules! borrowed_arrays {
    ($($type:ty: $variant:ident, $expected:literal;)*) => {$(
        impl<'a> FromValue<'a> for &'a $type {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &'a Value) -> Result<Option<Self>> {
                Ok(match value.as_array() {
                    Some(Array::$variant(v)) => Some(v),
                    _ => None,
                })
            }
        }
    )*};
}

borrowed_arrays! {
    Strings: String, "an array of strings";
    [f32]: F32, "an array of f32";
    [bool]: Bool, "an array of bool";
}

/// The elements of an integer array as `T`, or `None` if one does not fit or they are no integers.
fn narrowed<T: TryFrom<i128>>(array: &Array) -> Result<Option<Vec<T>>> {
    match array {
        Array::U8(v) => collect(v),
        Array::I8(v) => collect(v),
        Array::U16(v) => collect(v),
        Array::I16(v) => collect(v),
        Array::U32(v) => collect(v),
        Array::I32(v) => collect(v),
        Array::U64(v) => collect(v),
        Array::I64(v) => collect(v),
        _ => Ok(None),
    }
}

fn collect<S: Copy + Into<i128>, T: TryFrom<i128>>(elements: &[S]) -> Result<Option<Vec<T>>> {
    let mut narrowed = try_with_capacity(elements.len())?;
    for &element in elements {
        match T::try_from(element.into()) {
            Ok(v) => narrowed.push(v),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(narrowed))
}
