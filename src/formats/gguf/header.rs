//! The header of one GGUF file: magic, version, metadata, descriptions of tensors. Everything but the tensor data.
//!
//! ```text
//! "GGUF"  version u32  number of tensors u64  number of metadata entries u64
//! entries:       key (length u64, bytes)   type u32   value
//! descriptions:  name (length u64, bytes)  number of dimensions u32  dimensions u64...  type u32  offset u64
//! padding to the alignment, then the data of the tensors, each at an aligned offset from here
//! ```
//! Source: the GGUF specification (`docs/gguf.md` in ggml). Versions 2 and 3 differ in nothing that a little-endian file shows.

use crate::error::Result;
use crate::fail;
use crate::formats::cursor::{Cursor, at_most};
use crate::formats::gguf::layout;
use crate::formats::gguf::metadata::Metadata;
use crate::formats::gguf::tensor::{MIN_TENSOR_BYTES, TensorInfo};
use crate::formats::limits::{MAX_HEADER_BYTES, MAX_TENSORS};
use crate::formats::size::ByteSize;
use crate::sys::file::ReadAt;
use crate::sys::job;
use crate::sys::memory::try_with_capacity;

/// The first bytes of every GGUF file.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";

/// What one file says.
pub(crate) struct Header {
    pub(crate) metadata: Metadata,
    /// Their data lies inside the file.
    pub(crate) tensors: Vec<TensorInfo>,
}

impl Header {
    /// Reads and checks the header of `source`, in slices.
    ///
    /// # Errors
    /// `Format`, `Unsupported` (version, byte order), `Io`, `OutOfMemory`.
    pub(crate) async fn read(source: &dyn ReadAt) -> Result<Self> {
        let mut cursor = Cursor::new(source, MAX_HEADER_BYTES);
        check_magic(&mut cursor)?;
        check_version(cursor.u32()?)?;
        let n_tensors = at_most(MAX_TENSORS, cursor.u64()?, "tensors")?;
        let n_entries = cursor.u64()?;
        let metadata = Metadata::read(&mut cursor, n_entries).await?;
        let alignment = layout::alignment(metadata.get(layout::ALIGNMENT_KEY))?;
        job::pause().await;
        let mut tensors = read_tensors(&mut cursor, n_tensors)?;
        layout::place(&mut tensors, cursor.position()?, alignment, ByteSize::new(source.len()))?;
        Ok(Self { metadata, tensors })
    }
}

fn check_magic(cursor: &mut Cursor<'_>) -> Result<()> {
    let magic: [u8; 4] = cursor.array()?;
    if magic != MAGIC {
        fail!(Format, "not a GGUF file: it starts with \"{}\", expected \"GGUF\"", magic.escape_ascii());
    }
    Ok(())
}

/// 2 and 3 are read. What else there may be is told by name, so that a person knows what to do.
fn check_version(version: u32) -> Result<()> {
    match version {
        2 | 3 => Ok(()),
        0 => fail!(Format, "GGUF version 0 does not exist"),
        1 => fail!(Unsupported, "GGUF version 1 is not supported, expected 2 or 3; convert the file anew"),
        // The number of a big-endian file, read as little-endian, has its low half empty.
        _ if version.trailing_zeros() >= 16 => fail!(Unsupported, "big-endian GGUF is not supported"),
        _ => fail!(Unsupported, "GGUF version {version} is not supported, expected 2 or 3"),
    }
}

/// The descriptions of `n_tensors` tensors; their offsets are still relative to the data.
fn read_tensors(cursor: &mut Cursor<'_>, n_tensors: u64) -> Result<Vec<TensorInfo>> {
    cursor.expect_items(n_tensors, MIN_TENSOR_BYTES).map_err(|e| e.at("descriptions of tensors"))?;
    let n = ByteSize::new(n_tensors).to_usize()?;
    let mut tensors = try_with_capacity(n)?;
    for i in 0..n {
        tensors.push(TensorInfo::read(cursor).map_err(|e| e.at(format_args!("tensor {i}")))?);
    }
    Ok(tensors)
}
