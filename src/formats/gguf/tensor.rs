//! What a file says about a tensor, checked: its shape, its type, and where its bytes are.

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::cursor::Cursor;
use crate::formats::gguf::ggml_type::{GgmlType, ggml_id};
use crate::formats::gguf::metadata::{check_name, read_name};
use crate::formats::limits::{MAX_DIMS, MAX_TENSOR_NAME_BYTES};
use crate::formats::names::{Named, Quoted};
use crate::formats::size::ByteSize;

/// In the file, a description is at least a name's length (u64) and one byte of it, one dimension with its count
/// (u32 + u64), a type (u32) and an offset (u64).
pub(crate) const MIN_TENSOR_BYTES: u64 = 33;

/// The description of a tensor.
///
/// A proof of: the product of any of its dimensions fits a `usize`, its rows are whole blocks, and its bytes lie inside
/// the file, apart from those of all other tensors. Where the type is unknown, only the first holds.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    name: Box<str>,
    type_id: u32,
    /// Dimensions after the last one are 1.
    shape: [usize; MAX_DIMS],
    n_dims: usize,
    /// `None` if the block size of the type is unknown.
    n_bytes: Option<usize>,
    /// Which file of a split set, from 0.
    pub(crate) part: usize,
    /// Where the bytes start; relative to the data section until [`super::layout`] has placed it, then in the file.
    pub(crate) offset: ByteSize,
}

impl Named for TensorInfo {
    fn name(&self) -> &str {
        &self.name
    }
}

impl TensorInfo {
    /// Reads the next description.
    ///
    /// # Errors
    /// `Format`, naming the tensor where its name could be read.
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let name = read_name(cursor, MAX_TENSOR_NAME_BYTES).map_err(|e| e.at("name"))?;
        Self::read_after_name(cursor, &name).map_err(|e| e.at(Quoted(&name)))
    }

    fn read_after_name(cursor: &mut Cursor<'_>, name: &str) -> Result<Self> {
        let (shape, n_dims) = read_shape(cursor)?;
        let type_id = cursor.u32()?;
        let offset = ByteSize::new(cursor.u64()?);
        let n_bytes = match GgmlType::from_id(type_id) {
            Some(ggml_type) => tensor_bytes(ggml_type, shape)?,
            None => None,
        };
        Ok(Self { name: name.into(), type_id, shape, n_dims, n_bytes, part: 0, offset })
    }

    /// The description of a tensor of another format under the name that GGUF has for it; `shape` is in ggml's order. `part` is up to the
    /// caller, who reads it.
    ///
    /// # Errors
    /// `Format`, naming the tensor, if no GGUF file could have it.
    pub(crate) fn of_other_format(name: &str, dtype: DType, shape: &[usize], part: usize) -> Result<Self> {
        let n_bytes = check_tensor(name, dtype, shape)?;
        let mut dims = [1; MAX_DIMS];
        dims.iter_mut().zip(shape).for_each(|(to, &dim)| *to = dim);
        let offset = ByteSize::default();
        Ok(Self { name: name.into(), type_id: ggml_id(dtype), shape: dims, n_dims: shape.len(), n_bytes: Some(n_bytes), part, offset })
    }

    /// The same description, of a tensor in file `part` of a split set.
    pub(crate) fn in_part(self, part: usize) -> Self {
        Self { part, ..self }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dimensions in ggml's order: `shape()[0]` is the contiguous one, so a `(rows, columns)` matrix is `[columns, rows]`.
    pub fn shape(&self) -> &[usize] {
        self.shape.get(..self.n_dims).unwrap_or(&self.shape)
    }

    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().fold(1, |n, &dim| n.saturating_mul(dim))
    }

    /// How the elements are stored.
    ///
    /// # Errors
    /// `Unsupported`, naming the tensor and its type, if this build does not have the type.
    pub fn dtype(&self) -> Result<DType> {
        DType::from_ggml(self.type_id).ok_or_else(|| self.unsupported())
    }

    /// Bytes of the stored tensor.
    ///
    /// # Errors
    /// As [`Self::dtype`].
    pub fn n_bytes(&self) -> Result<usize> {
        self.dtype()?;
        self.n_bytes.ok_or_else(|| self.unsupported())
    }

    /// Bytes in the file, if the type is known well enough to say.
    pub(crate) fn stored_bytes(&self) -> Option<usize> {
        self.n_bytes
    }

    /// ggml's number of the storage type.
    pub fn type_id(&self) -> u32 {
        self.type_id
    }

    fn unsupported(&self) -> Error {
        let known = GgmlType::from_id(self.type_id).map_or("unknown", |t| t.name);
        let message =
            format!("tensor {} has type {known} (ggml type {}), which this build does not support", Quoted(&self.name), self.type_id);
        Error::new(ErrorKind::Unsupported, message)
    }
}

/// The number of dimensions (u32), then each (u64).
fn read_shape(cursor: &mut Cursor<'_>) -> Result<([usize; MAX_DIMS], usize)> {
    let n_dims = cursor.u32()?;
    let n_dims = match usize::try_from(n_dims) {
        Ok(n @ 1..=MAX_DIMS) => n,
        _ => fail!(Format, "{n_dims} dimensions, expected 1 to {MAX_DIMS}"),
    };
    let mut shape = [1; MAX_DIMS];
    for dim in shape.iter_mut().take(n_dims) {
        *dim = ByteSize::new(cursor.u64()?).to_usize()?;
    }
    check_shape(shape)?;
    Ok((shape, n_dims))
}

/// Fails if the product of any dimensions could overflow. An empty one counts as 1: the others' product must fit too.
fn check_shape(shape: [usize; MAX_DIMS]) -> Result<()> {
    let product = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim.max(1)));
    match product.and_then(|n| isize::try_from(n).ok()) {
        Some(_) => Ok(()),
        None => fail!(Format, "shape {shape:?} has more elements than this machine can address"),
    }
}

/// The size in bytes of a tensor that the reader would accept.
pub(crate) fn check_tensor(name: &str, dtype: DType, shape: &[usize]) -> Result<usize> {
    let refused = |e: Error| e.at(format_args!("tensor {}", Quoted(name)));
    check_name(name, MAX_TENSOR_NAME_BYTES).map_err(refused)?;
    let mut dims = [1; MAX_DIMS];
    match dims.get_mut(..shape.len()) {
        Some(dims) if !shape.is_empty() => dims.copy_from_slice(shape),
        _ => fail!(Format, "tensor {}: {} dimensions, expected 1 to {MAX_DIMS}", Quoted(name), shape.len()),
    }
    check_shape(dims).and_then(|()| tensor_bytes(GgmlType::from(dtype), dims)).map_err(refused).map(Option::unwrap_or_default)
}

/// Bytes of a tensor of `shape`, or `None` if the type's blocks are unknown.
fn tensor_bytes(ggml_type: GgmlType, shape: [usize; MAX_DIMS]) -> Result<Option<usize>> {
    let Some((block_len, block_bytes)) = ggml_type.block else { return Ok(None) };
    let [row_len, rows @ ..] = shape;
    let row_len = ByteSize::from(row_len).get();
    if !row_len.is_multiple_of(block_len) {
        fail!(Format, "rows of {row_len} elements, expected a multiple of {block_len} for {}", ggml_type.name);
    }
    let n_blocks = row_len.checked_div(block_len).unwrap_or(0);
    let row = ByteSize::new(block_bytes).times(n_blocks)?;
    let all = rows.iter().try_fold(row, |bytes, &n| bytes.times(ByteSize::from(n).get()))?;
    all.to_usize().map(Some)
}
