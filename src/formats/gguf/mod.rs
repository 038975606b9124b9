//! GGUF, the format of llama.cpp: reading (one file or a split set) and writing. `engine` opens models with it.
//!
//! A [`Gguf`] that exists is valid: names are unique, sizes do not wrap, every tensor of a known type lies inside its file.

mod convert;
mod ggml_type;
mod header;
mod layout;
mod metadata;
mod read_value;
mod split;
mod strings;
mod tensor;
mod value;
mod write_value;
mod writer;

pub use convert::FromValue;
pub use metadata::Metadata;
pub use strings::Strings;
pub use tensor::TensorInfo;
pub use value::{Array, Value, ValueType};
pub use writer::GgufWriter;

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::cursor::at_most;
use crate::formats::limits::MAX_TENSORS;
use crate::formats::names::{NameTable, Quoted};
use crate::formats::size::ByteSize;
use crate::sys::file::{FileSource, ReadAt};
use crate::sys::job;
use crate::sys::mapping::MappedBytes;
use crate::sys::memory::{AlignedBytes, try_with_capacity};
use header::Header;
use split::Split;
use std::path::Path;
use std::sync::Arc;

/// An open model: its metadata, the descriptions of its tensors, and the files to read them from.
pub struct Gguf {
    metadata: Metadata,
    tensors: NameTable<TensorInfo>,
    /// The files, in the order of a split set; one for most models.
    sources: Vec<Arc<dyn ReadAt>>,
}

/// One file whose header has been read.
struct Part {
    source: Arc<dyn ReadAt>,
    header: Header,
    split: Option<Split>,
}

impl Gguf {
    /// Opens the file at `path`; if it is a part of a split set, all parts, which must lie beside it.
    ///
    /// # Errors
    /// `Io`, `Format`, `Unsupported` (version, byte order) or `OutOfMemory`, naming the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        job::run(Self::open_with(path.as_ref(), &|path| Ok(Arc::new(FileSource::open(path)?))))
    }

    /// As [`Self::open`], in slices, with `open` to open each file.
    ///
    /// # Errors
    /// As [`Self::open`], and those of `open`.
    pub async fn open_with(path: &Path, open: &(dyn Fn(&Path) -> Result<Arc<dyn ReadAt>> + Sync)) -> Result<Self> {
        let given = Part::read(open(path)?).await?;
        let Some(split) = given.split else { return Self::assemble(vec![given]) };
        let paths = split.paths(path).map_err(|e| e.at(path.display()))?;
        let mut parts = Vec::new();
        for (no, path) in paths.iter().enumerate().filter(|(no, _)| *no != split.no) {
            let number = no.saturating_add(1);
            let part = match open(path) {
                Ok(source) => Part::read(source).await,
                Err(e) => Err(e),
            };
            parts.push(part.map_err(|e| e.at(format_args!("part {number} of {}", split.count)))?);
        }
        parts.push(given);
        Self::assemble(parts)
    }

    /// A model in one `source`.
    ///
    /// # Errors
    /// As [`Self::open`]; `InvalidArgument` if it is one part of a split set.
    pub fn from_source(source: Arc<dyn ReadAt>) -> Result<Self> {
        job::run(Self::from_sources(vec![source]))
    }

    /// A model in one source, or in all parts of a split set in any order; read in slices.
    ///
    /// # Errors
    /// As [`Self::open`]; `InvalidArgument` if the sources are not one whole set.
    pub async fn from_sources(sources: Vec<Arc<dyn ReadAt>>) -> Result<Self> {
        let mut parts = Vec::new();
        for source in sources {
            parts.push(Part::read(source).await?);
        }
        Self::assemble(parts)
    }

    fn assemble(mut parts: Vec<Part>) -> Result<Self> {
        parts.sort_by_key(|part| part.split.map(|split| split.no));
        let n_tensors = parts.iter().fold(0usize, |n, part| n.saturating_add(part.header.tensors.len()));
        let splits: Vec<_> = parts.iter().map(|part| part.split).collect();
        at_most(MAX_TENSORS, ByteSize::from(n_tensors).get(), "tensors")?;
        split::check_set(&splits, n_tensors)?;
        let (mut tensors, mut sources, mut metadata) = (try_with_capacity(n_tensors)?, Vec::new(), None);
        for (i, part) in parts.into_iter().enumerate() {
            tensors.extend(part.header.tensors.into_iter().map(|tensor| tensor.in_part(i)));
            sources.push(part.source);
            metadata.get_or_insert(part.header.metadata);
        }
        let Some(metadata) = metadata else { fail!(InvalidArgument, "a model needs at least one source") };
        let tensors = NameTable::new(tensors).map_err(|e| e.at("tensor name"))?;
        Ok(Self { metadata, tensors, sources })
    }

    /// The key-value pairs; of a split set, those of its first part.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The key-value pairs alone; the files are closed.
    pub fn into_metadata(self) -> Metadata {
        self.metadata
    }

    /// The descriptions of all tensors, in the order of the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.items().iter()
    }

    /// As [`Self::tensors`].
    pub fn tensor_list(&self) -> &[TensorInfo] {
        self.tensors.items()
    }

    /// The description of the tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Reads the whole of `tensor` into `dst`, as it is stored.
    ///
    /// # Errors
    /// `Unsupported` if its type is (see [`TensorInfo::dtype`]), `InvalidArgument` if `dst` is not exactly its size,
    /// `Io`, or `Format` if the file became shorter.
    pub fn read(&self, tensor: &TensorInfo, dst: &mut [u8]) -> Result<()> {
        let n_bytes = tensor.n_bytes()?;
        if dst.len() != n_bytes {
            fail!(InvalidArgument, "tensor {} has {n_bytes} bytes, the buffer {}", Quoted(tensor.name()), dst.len());
        }
        self.read_range(tensor, 0, dst)
    }

    /// Reads `dst.len()` bytes of `tensor` from its byte `start` on.
    ///
    /// # Errors
    /// As [`Self::read`]; `InvalidArgument` if the range is not inside the tensor, or the tensor is not of this file.
    pub fn read_range(&self, tensor: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        let n_bytes = tensor.n_bytes()?;
        let inside = start.checked_add(dst.len()).is_some_and(|end| end <= n_bytes);
        let Some(source) = self.sources.get(tensor.part).filter(|_| inside) else {
            fail!(InvalidArgument, "tensor {} has no bytes {start}..+{}", Quoted(tensor.name()), dst.len());
        };
        let offset = tensor.offset.plus(start.into())?;
        let place = |e: Error| e.at(format_args!("tensor {}", Quoted(tensor.name())));
        source.read_exact_at(offset.get(), dst).map_err(place)
    }

    /// The same bytes where the system has the file mapped; `None` if it has not, or if that is not wanted.
    ///
    /// # Errors
    /// As [`Self::read_range`].
    pub fn mapped_range(&self, tensor: &TensorInfo, start: usize, len: usize) -> Result<Option<MappedBytes>> {
        let inside = start.checked_add(len).is_some_and(|end| tensor.n_bytes().is_ok_and(|n_bytes| end <= n_bytes));
        let Some(source) = self.sources.get(tensor.part).filter(|_| inside) else {
            fail!(InvalidArgument, "tensor {} has no bytes {start}..+{len}", Quoted(tensor.name()));
        };
        let offset = tensor.offset.plus(start.into())?;
        source.mapped_at(offset.get(), len).map_err(|e| e.at(format_args!("tensor {}", Quoted(tensor.name()))))
    }

    /// The bytes of `tensor`, as they are stored.
    ///
    /// # Errors
    /// As [`Self::read`], or `OutOfMemory`.
    pub fn load(&self, tensor: &TensorInfo) -> Result<AlignedBytes> {
        let place = |e: Error| e.at(format_args!("tensor {}", Quoted(tensor.name())));
        let mut bytes = AlignedBytes::zeroed(tensor.n_bytes()?).map_err(place)?;
        self.read(tensor, bytes.as_mut_slice())?;
        Ok(bytes)
    }
}

impl Part {
    async fn read(source: Arc<dyn ReadAt>) -> Result<Self> {
        let name = |e: Error| match source.name() {
            // What the source itself reports is named already.
            Some(name) if e.kind() != ErrorKind::Io => e.at(name),
            _ => e,
        };
        let header = Header::read(&*source).await.map_err(name)?;
        let split = Split::of(&header.metadata).map_err(name)?;
        Ok(Self { header, split, source })
    }
}
