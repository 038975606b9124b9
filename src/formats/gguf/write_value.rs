//! Metadata values as bytes: the other direction of [`super::read_value`].

use crate::error::Result;
use crate::fail;
use crate::formats::cursor::at_most;
use crate::formats::gguf::value::{Array, Value};
use crate::formats::limits::{MAX_ARRAY_DEPTH, MAX_NESTED_ARRAYS};
use crate::formats::size::ByteSize;

/// Fails if the reader would refuse `value`.
pub(crate) fn check_value(value: &Value) -> Result<()> {
    let Value::Array(array) = value else { return Ok(()) };
    if array.depth() > MAX_ARRAY_DEPTH {
        fail!(Format, "arrays are nested more than {MAX_ARRAY_DEPTH} deep");
    }
    at_most(MAX_NESTED_ARRAYS, array.n_nested(), "arrays inside arrays").map(drop)
}

/// Appends a length (u64) and the bytes of `string`.
pub(crate) fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    put_len(out, string.len());
    out.extend(string);
}

fn put_len(out: &mut Vec<u8>, n: usize) {
    out.extend(ByteSize::from(n).get().to_le_bytes());
}

/// Appends the type of `value` (u32) and the value.
pub(crate) fn put_value(out: &mut Vec<u8>, value: &Value) {
    out.extend(value.value_type().id().to_le_bytes());
    match value {
        Value::U8(v) => out.extend(v.to_le_bytes()),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::String(v) => put_string(out, v),
        Value::Array(v) => put_array(out, v),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
    }
}

/// Appends the type of the elements (u32), their number (u64), and each of them.
fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend(array.element_type().id().to_le_bytes());
    put_len(out, array.len());
    match array {
        Array::U8(v) => out.extend(v),
        Array::I8(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::U16(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I16(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::U32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::F32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::Bool(v) => out.extend(v.iter().map(|&x| u8::from(x))),
        Array::String(v) => v.iter().for_each(|s| put_string(out, s)),
        Array::Array(v) => v.iter().for_each(|a| put_array(out, a)),
        Array::U64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::F64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
    }
}
