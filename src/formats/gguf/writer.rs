//! Writes GGUF files (version 3). What it accepts, the reader accepts: both keep the same limits.
//!
//! Used to save a model in the form in which it is held, and by tests to make files.

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::cursor::at_most;
use crate::formats::gguf::ggml_type::ggml_id;
use crate::formats::gguf::header::MAGIC;
use crate::formats::gguf::layout::{self, ALIGNMENT_KEY};
use crate::formats::gguf::metadata::check_name;
use crate::formats::gguf::tensor::check_tensor;
use crate::formats::gguf::value::Value;
use crate::formats::gguf::write_value::{check_value, put_string, put_value};
use crate::formats::limits::{MAX_HEADER_BYTES, MAX_KEY_BYTES, MAX_METADATA_ENTRIES, MAX_TENSORS};
use crate::formats::names::{NameTable, Named, Quoted};
use crate::formats::size::ByteSize;
use std::borrow::Cow;
use std::io::{self, Write};

/// The version that is written.
const VERSION: u32 = 3;

/// A model file in the making. `'a` is the lifetime of tensor data that is borrowed until it is written.
#[derive(Default)]
pub struct GgufWriter<'a> {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor<'a>>,
}

/// Writes the bytes of one tensor.
type Data<'a> = Box<dyn Fn(&mut dyn Write) -> Result<()> + 'a>;

struct Tensor<'a> {
    name: String,
    dtype: DType,
    /// ggml's order: the contiguous dimension first.
    shape: Vec<usize>,
    n_bytes: usize,
    data: Data<'a>,
}

impl<'a> GgufWriter<'a> {
    /// A file without metadata or tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the metadata `key`, which replaces what it had before. Keys are written in the order in which they first came.
    ///
    /// # Errors
    /// `InvalidArgument` if the reader would refuse the key or the value (see [`crate::formats::limits`]).
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<()> {
        let value = value.into();
        let refused = |e: Error| as_argument(e).at(format_args!("metadata {}", Quoted(key)));
        check_name(key, MAX_KEY_BYTES).and_then(|()| check_value(&value)).map_err(refused)?;
        if key == ALIGNMENT_KEY {
            layout::alignment(Some(&value)).map_err(as_argument)?;
        }
        match self.metadata.iter_mut().find(|(other, _)| other == key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
        Ok(())
    }

    /// Adds a tensor whose bytes are at hand. `shape` is in ggml's order: the contiguous dimension first.
    ///
    /// # Errors
    /// As [`Self::tensor_with`]; `InvalidArgument` if `bytes` is not exactly the size of the tensor.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[usize], bytes: impl Into<Cow<'a, [u8]>>) -> Result<()> {
        let bytes = bytes.into();
        let n_bytes = check_tensor(name, dtype, shape).map_err(as_argument)?;
        if bytes.len() != n_bytes {
            fail!(InvalidArgument, "tensor {}: {} bytes, expected {n_bytes}", Quoted(name), bytes.len());
        }
        self.tensor_with(name, dtype, shape, move |out| Ok(out.write_all(&bytes)?))
    }

    /// Adds a tensor whose bytes `data` writes, when the file is written: one tensor at a time needs to be in memory.
    ///
    /// # Errors
    /// `InvalidArgument` if the reader would refuse the name or the shape.
    pub fn tensor_with(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        data: impl Fn(&mut dyn Write) -> Result<()> + 'a,
    ) -> Result<()> {
        let n_bytes = check_tensor(name, dtype, shape).map_err(as_argument)?;
        self.tensors.push(Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), n_bytes, data: Box::new(data) });
        Ok(())
    }

    /// Writes the file to `out`, from its first byte to its last.
    ///
    /// # Errors
    /// `InvalidArgument` if a tensor name appears twice, there is more than the reader's limits allow, or a tensor's data
    /// is not of its size; `Io` from `out`.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let alignment = self.alignment()?;
        let header = self.header(alignment)?;
        out.write_all(&header)?;
        pad(out, header.len(), alignment)?;
        for tensor in &self.tensors {
            let mut counted = Counted { out: &mut *out, n: 0 };
            (tensor.data)(&mut counted)?;
            if counted.n != tensor.n_bytes {
                let name = Quoted(&tensor.name);
                fail!(InvalidArgument, "tensor {name}: {} bytes were written, expected {}", counted.n, tensor.n_bytes);
            }
            pad(out, tensor.n_bytes, alignment)?;
        }
        Ok(out.flush()?)
    }

    /// The file as bytes.
    ///
    /// # Errors
    /// As [`Self::write_to`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }

    fn alignment(&self) -> Result<u32> {
        let set = self.metadata.iter().find(|(key, _)| key == ALIGNMENT_KEY);
        layout::alignment(set.map(|(_, value)| value)).map_err(as_argument)
    }

    /// Everything in front of the tensor data, without the padding.
    fn header(&self, alignment: u32) -> Result<Vec<u8>> {
        self.check_names().map_err(as_argument)?;
        let mut header = Vec::from(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend(ByteSize::from(self.tensors.len()).get().to_le_bytes());
        header.extend(ByteSize::from(self.metadata.len()).get().to_le_bytes());
        for (key, value) in &self.metadata {
            put_string(&mut header, key.as_bytes());
            put_value(&mut header, value);
        }
        let mut offset = ByteSize::default();
        for tensor in &self.tensors {
            tensor.describe(&mut header, offset);
            offset = offset.plus(tensor.n_bytes.into())?.align_up(alignment)?;
        }
        at_most(MAX_HEADER_BYTES, ByteSize::from(header.len()).get(), "bytes of metadata").map_err(as_argument)?;
        Ok(header)
    }

    fn check_names(&self) -> Result<()> {
        at_most(MAX_METADATA_ENTRIES, ByteSize::from(self.metadata.len()).get(), "metadata entries")?;
        at_most(MAX_TENSORS, ByteSize::from(self.tensors.len()).get(), "tensors")?;
        NameTable::new(self.tensors.iter().collect::<Vec<_>>()).map_err(|e| e.at("tensor name")).map(drop)
    }
}

impl Tensor<'_> {
    /// Appends the description, as [`super::tensor::TensorInfo`] reads it.
    fn describe(&self, header: &mut Vec<u8>, offset: ByteSize) {
        put_string(header, self.name.as_bytes());
        header.extend(self.shape.iter().fold(0u32, |n, _| n.saturating_add(1)).to_le_bytes());
        for &dim in &self.shape {
            header.extend(ByteSize::from(dim).get().to_le_bytes());
        }
        header.extend(ggml_id(self.dtype).to_le_bytes());
        header.extend(offset.get().to_le_bytes());
    }
}

impl Named for &Tensor<'_> {
    fn name(&self) -> &str {
        &self.name
    }
}

/// A violated limit, seen from the writer: the caller's mistake, not the file's.
fn as_argument(e: Error) -> Error {
    match e.kind() {
        ErrorKind::Format => Error::new(ErrorKind::InvalidArgument, e.message().to_owned()),
        _ => e,
    }
}

/// Zero bytes from position `n` to the next multiple of `alignment`.
fn pad(out: &mut dyn Write, n: usize, alignment: u32) -> Result<()> {
    let n = ByteSize::from(n);
    let padding = n.align_up(alignment)?.minus(n)?.get();
    io::copy(&mut io::Read::take(io::repeat(0), padding), out)?;
    Ok(())
}

/// Counts what passes.
struct Counted<'a> {
    out: &'a mut dyn Write,
    n: usize,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.n = self.n.saturating_add(n);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
