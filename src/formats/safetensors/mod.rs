//! safetensors, the format of Hugging Face's weights: one file, or shards that an index names. `model` reads the tensors of a directory with it.
//!
//! A [`Safetensors`] that exists is valid: names are unique, sizes do not wrap, every tensor lies inside its file and shares no byte.

mod header;
mod json;

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::cursor::at_most;
use crate::formats::limits::{MAX_SPLITS, MAX_TENSORS};
use crate::formats::names::{NameTable, Named, Quoted};
use crate::formats::size::ByteSize;
use crate::sys::file::ReadAt;
use crate::sys::mapping::MappedBytes;
use json::Index;
use std::sync::Arc;

/// The tensors of a model, and the files to read them from.
pub struct Safetensors {
    tensors: NameTable<TensorInfo>,
    sources: Vec<Arc<dyn ReadAt>>,
}

/// The description of a tensor. A proof of: its size is that of its shape, and its bytes lie inside the file, apart from those of all others.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    name: Box<str>,
    /// `None` if this build cannot use the type.
    dtype: Option<DType>,
    type_name: &'static str,
    /// Outermost dimension first.
    shape: Vec<usize>,
    n_bytes: usize,
    /// In the file.
    offset: ByteSize,
    /// Which file.
    part: usize,
}

impl Named for TensorInfo {
    fn name(&self) -> &str {
        &self.name
    }
}

impl TensorInfo {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dimensions, outermost first: a matrix is `[rows, columns]`.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How the elements are stored.
    ///
    /// # Errors
    /// `Unsupported`, naming tensor and type.
    pub fn dtype(&self) -> Result<DType> {
        self.dtype.ok_or_else(|| {
            let (name, type_name) = (Quoted(&self.name), self.type_name);
            Error::new(ErrorKind::Unsupported, format!("tensor {name} has type {type_name}, expected F32, F16 or BF16"))
        })
    }

    /// Bytes of the tensor.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }
}

impl Safetensors {
    /// The model in `sources`: all its shards, in any order.
    ///
    /// # Errors
    /// `Format` (names the file and the tensor), `Unsupported`, `Io`, `OutOfMemory`; `InvalidArgument` without sources.
    pub fn new(sources: Vec<Arc<dyn ReadAt>>) -> Result<Self> {
        if sources.is_empty() {
            fail!(InvalidArgument, "a model needs at least one safetensors file");
        }
        at_most(MAX_SPLITS, ByteSize::from(sources.len()).get(), "safetensors files")?;
        let mut tensors = Vec::new();
        for (part, source) in sources.iter().enumerate() {
            let named = |e: Error| match source.name() {
                Some(name) if e.kind() != ErrorKind::Io => e.at(name),
                _ => e,
            };
            tensors.extend(header::read(&**source).map_err(named)?.into_iter().map(|tensor| TensorInfo { part, ..tensor }));
            at_most(MAX_TENSORS, ByteSize::from(tensors.len()).get(), "tensors")?;
        }
        let tensors = NameTable::new(tensors).map_err(|e| e.at("tensor name"))?;
        Ok(Self { tensors, sources })
    }

    /// The descriptions of all tensors.
    pub fn tensors(&self) -> &[TensorInfo] {
        self.tensors.items()
    }

    /// The description of the tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Reads `dst.len()` bytes of `tensor` from its byte `start` on.
    ///
    /// # Errors
    /// `InvalidArgument` if the range is not inside the tensor, or the tensor is not of these files; `Io`, or `Format` if the file became shorter.
    pub fn read_range(&self, tensor: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        let inside = start.checked_add(dst.len()).is_some_and(|end| end <= tensor.n_bytes);
        let Some(source) = self.sources.get(tensor.part).filter(|_| inside) else {
            fail!(InvalidArgument, "tensor {} has no bytes {start}..+{}", Quoted(&tensor.name), dst.len());
        };
        let offset = tensor.offset.plus(start.into())?;
        source.read_exact_at(offset.get(), dst).map_err(|e| e.at(format_args!("tensor {}", Quoted(&tensor.name))))
    }

    /// The same bytes where the system has the file mapped; `None` if it has not, or if that is not wanted.
    ///
    /// # Errors
    /// As [`Self::read_range`].
    pub fn mapped_range(&self, tensor: &TensorInfo, start: usize, len: usize) -> Result<Option<MappedBytes>> {
        let inside = start.checked_add(len).is_some_and(|end| end <= tensor.n_bytes);
        let Some(source) = self.sources.get(tensor.part).filter(|_| inside) else {
            fail!(InvalidArgument, "tensor {} has no bytes {start}..+{len}", Quoted(&tensor.name));
        };
        let offset = tensor.offset.plus(start.into())?;
        source.mapped_at(offset.get(), len).map_err(|e| e.at(format_args!("tensor {}", Quoted(&tensor.name))))
    }
}

/// The files that an index (`model.safetensors.index.json`) names, each once, in the order of their names.
///
/// # Errors
/// `Format` if it is no such JSON, or names a file that is not beside it.
pub fn shards(index: &[u8]) -> Result<Vec<String>> {
    let index: Index = serde_json::from_slice(index).map_err(|e| Error::new(ErrorKind::Format, e.to_string()))?;
    let mut files: Vec<String> = index.weight_map.0.into_iter().map(|(_, file)| file).collect();
    files.sort_unstable();
    files.dedup();
    at_most(MAX_SPLITS, ByteSize::from(files.len()).get(), "files")?;
    // A path would let a model read any file of the host.
    let is_name = |file: &String| file.ends_with(".safetensors") && !file.contains(['/', '\\', ':', '\0']);
    match files.iter().find(|file| !is_name(file)) {
        Some(file) => fail!(Format, "weight_map: {}, expected the name of a .safetensors file beside it", Quoted(file)),
        None if files.is_empty() => fail!(Format, "weight_map names no file"),
        None => Ok(files),
    }
}

#[cfg(test)]
mod tests;
