//! The header of one safetensors file: which tensors it has, and where their bytes are.
//!
//! ```text
//! bytes of the JSON u64   {"name": {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [begin, end]}, ..., "__metadata__": {..}}
//! the data of the tensors, without holes; offsets count from here
//! ```
//! Source: the specification in the `safetensors` repository's README.

use super::TensorInfo;
use super::json::{Entries, Entry};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::cursor::{Cursor, at_most};
use crate::formats::limits::{MAX_SAFETENSORS_HEADER_BYTES, MAX_TENSORS};
use crate::formats::names::{Quoted, QuotedBytes};
use crate::formats::size::ByteSize;
use crate::sys::file::ReadAt;
use crate::sys::memory::try_with_capacity;

/// Bytes of the length in front of the JSON.
const LENGTH_BYTES: u64 = 8;

/// The element types of the specification, in bytes; sizes of those that this build cannot use are checked, too.
const TYPES: [(&str, u64, Option<DType>); 17] = [
    ("F32", 4, Some(DType::F32)),
    ("F16", 2, Some(DType::F16)),
    ("BF16", 2, Some(DType::BF16)),
    ("F64", 8, None),
    ("I64", 8, None),
    ("U64", 8, None),
    ("C64", 8, None),
    ("I32", 4, None),
    ("U32", 4, None),
    ("I16", 2, None),
    ("U16", 2, None),
    ("I8", 1, None),
    ("U8", 1, None),
    ("BOOL", 1, None),
    ("F8_E4M3", 1, None),
    ("F8_E5M2", 1, None),
    ("F8_E8M0", 1, None),
];

/// The descriptions of the tensors in `source`, in the order of their bytes.
///
/// # Errors
/// `Format`, naming tensor and offset; `Io`, `OutOfMemory`.
pub(super) fn read(source: &dyn ReadAt) -> Result<Vec<TensorInfo>> {
    let mut cursor = Cursor::new(source, u64::MAX);
    let n_bytes = at_most(MAX_SAFETENSORS_HEADER_BYTES, cursor.u64().map_err(not_safetensors)?, "bytes of a safetensors header")
        .map_err(not_safetensors)?;
    let json = cursor.bytes(n_bytes).map_err(not_safetensors)?;
    if !json.starts_with(b"{") {
        let start = json.get(..json.len().min(8)).unwrap_or_default();
        fail!(Format, "not a safetensors file: its header starts with {}, expected \"{{\"", QuotedBytes(start));
    }
    let entries: Entries = serde_json::from_slice(&json).map_err(|e| Error::new(ErrorKind::Format, format!("safetensors header: {e}")))?;
    let data_start = ByteSize::new(LENGTH_BYTES).plus(ByteSize::new(n_bytes))?;
    let data = ByteSize::new(source.len()).minus(data_start)?;
    let mut tensors = try_with_capacity(entries.0.len())?;
    at_most(MAX_TENSORS, ByteSize::from(entries.0.len()).get(), "tensors")?;
    for (name, entry) in entries.0 {
        let tensor = describe(&name, &entry).map_err(|e| e.at(format_args!("tensor {}", Quoted(&name))))?;
        tensors.push(tensor);
    }
    place(&mut tensors, data_start, data)?;
    Ok(tensors)
}

fn not_safetensors(e: Error) -> Error {
    e.at("not a safetensors file")
}

/// One tensor; its offset is still relative to the data.
fn describe(name: &str, entry: &Entry<'_>) -> Result<TensorInfo> {
    let Some(&(type_name, element, dtype)) = TYPES.iter().find(|(name, ..)| *name == entry.dtype) else {
        fail!(Unsupported, "dtype {}: this build does not know it", Quoted(&entry.dtype));
    };
    let mut shape = try_with_capacity(entry.shape.len())?;
    for &dim in &entry.shape {
        shape.push(ByteSize::new(dim).to_usize()?);
    }
    let n_bytes = entry.shape.iter().try_fold(ByteSize::new(element), |bytes, &dim| bytes.times(dim))?;
    let [begin, end] = entry.data_offsets.map(ByteSize::new);
    if end < begin || end.minus(begin)? != n_bytes {
        let (begin, end) = (begin.get(), end.get());
        fail!(Format, "data_offsets [{begin}, {end}], expected {} bytes for {type_name} {:?}", n_bytes.get(), entry.shape);
    }
    Ok(TensorInfo { name: name.into(), dtype, type_name, shape, n_bytes: n_bytes.to_usize()?, offset: begin, part: 0 })
}

/// Makes offsets relative to the file. The data must be covered, each byte once: the specification says so, and a file that was cut or put
/// together wrongly shows here.
fn place(tensors: &mut [TensorInfo], data_start: ByteSize, data: ByteSize) -> Result<()> {
    tensors.sort_by_key(|t| (t.offset, t.n_bytes));
    let mut end = ByteSize::default();
    for tensor in tensors.iter_mut() {
        let name = Quoted(&tensor.name);
        match tensor.offset {
            begin if begin < end => fail!(Format, "tensor {name}: begins at byte {} of the data, inside the one before it", begin.get()),
            begin if begin > end => fail!(Format, "tensor {name}: begins at byte {} of the data, expected {}", begin.get(), end.get()),
            begin => end = begin.plus(tensor.n_bytes.into())?,
        }
        if end > data {
            fail!(Format, "tensor {name}: ends at byte {} of the data, of which the file has {}", end.get(), data.get());
        }
        tensor.offset = data_start.plus(tensor.offset)?;
    }
    match end == data {
        true => Ok(()),
        false => fail!(Format, "the tensors end at byte {} of the data, of which the file has {}", end.get(), data.get()),
    }
}
