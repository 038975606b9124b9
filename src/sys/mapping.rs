//! Files as memory: a mapping, its parts, and bytes that are owned or such a part.
//!
//! A mapping costs nothing until it is looked at, and its pages are the system's own copy of the file. But nobody can hold the file still: who
//! asks for a mapping promises that it stays as it is. One that becomes shorter ends the process where the missing part is read.

use crate::error::{Error, Result};
use crate::fail;
use crate::sys::file::{FileSource, ReadAt};
use crate::sys::memory::AlignedBytes;
use memmap2::Mmap;
use once_cell::sync::OnceCell;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

/// A whole file, mapped for reading.
pub struct Mapping(Mmap);

impl Mapping {
    /// Maps `file`, which messages call `name`. The file may be closed afterwards.
    ///
    /// # Errors
    /// `Io`: the system refuses.
    fn new(file: &File, name: &str) -> Result<Self> {
        // SAFETY: the bytes must not change while they are borrowed. That is what the host promises where it asks for mappings, in the words
        // of the header: "the file must not change while loaded".
        let mapping = unsafe { Mmap::map(file) }.map_err(|e| Error::from(e).at(name))?;
        read_ahead(&mapping);
        Ok(Self(mapping))
    }

    /// Bytes `offset .. offset + len` of `mapping`.
    ///
    /// # Errors
    /// `Format` if the file was shorter when it was mapped.
    fn part(mapping: &Arc<Self>, offset: u64, len: usize) -> Result<MappedBytes> {
        let n_bytes = mapping.0.len();
        let start = usize::try_from(offset).ok().filter(|start| start.checked_add(len).is_some_and(|end| end <= n_bytes));
        match start {
            Some(start) => Ok(MappedBytes { mapping: mapping.clone(), range: start..start + len }),
            None => fail!(Format, "the data ends at byte {n_bytes}, expected {len} bytes at {offset}"),
        }
    }
}

/// Tells the system that all of it will be read soon: what is not in memory yet is fetched in large pieces, ahead of whoever looks.
#[cfg(unix)]
fn read_ahead(mapping: &Mmap) {
    // Advice: where it is refused, pages come one by one.
    let _ = mapping.advise(memmap2::Advice::WillNeed);
}

#[cfg(not(unix))]
fn read_ahead(_mapping: &Mmap) {}

/// A part of a mapped file, which stays mapped as long as this lives.
#[derive(Clone)]
pub struct MappedBytes {
    mapping: Arc<Mapping>,
    range: Range<usize>,
}

impl MappedBytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.mapping.0[self.range.clone()]
    }
}

/// Bytes of a tensor: in memory of our own, or where the system has the file.
pub enum Bytes {
    /// Read or made.
    Owned(AlignedBytes),
    /// In a mapped file.
    Mapped(MappedBytes),
}

impl Bytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes.as_slice(),
            Self::Mapped(bytes) => bytes.as_slice(),
        }
    }

    /// True if they are the system's own copy of a file, and no memory of ours.
    pub fn is_mapped(&self) -> bool {
        matches!(self, Self::Mapped(_))
    }
}

impl From<AlignedBytes> for Bytes {
    fn from(bytes: AlignedBytes) -> Self {
        Self::Owned(bytes)
    }
}

/// A regular file whose large parts may be used where the system has them, without reading. Small reads are reads, with errors and not
/// the end of the process.
pub struct MappedFile {
    file: FileSource,
    /// Made when a part is first asked for; `None` if the system refused.
    mapping: OnceCell<Option<Arc<Mapping>>>,
    /// Told of a refusal.
    refused: Box<dyn Fn(&Error) + Send + Sync>,
}

impl MappedFile {
    /// The same file. If the system refuses to map it, `refused` is told once, and it is read as ever.
    pub fn new(file: FileSource, refused: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        Self { file, mapping: OnceCell::new(), refused: Box::new(refused) }
    }
}

impl ReadAt for MappedFile {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn name(&self) -> Option<&str> {
        self.file.name()
    }

    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(offset, dst)
    }

    fn mapped_at(&self, offset: u64, len: usize) -> Result<Option<MappedBytes>> {
        let map = || Mapping::new(&self.file.file, &self.file.name).inspect_err(|e| (self.refused)(e)).ok().map(Arc::new);
        let Some(mapping) = self.mapping.get_or_init(map) else { return Ok(None) };
        Mapping::part(mapping, offset, len).map(Some).map_err(|e| e.at(&self.file.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn parts_are_the_files_and_outlive_it() {
        let path = std::env::temp_dir().join(format!("inference-mapping-{}", std::process::id()));
        std::fs::write(&path, (0..=255).collect::<Vec<u8>>()).unwrap();
        let mapping = Arc::new(Mapping::new(&File::open(&path).unwrap(), "test").unwrap());
        let part = Bytes::Mapped(Mapping::part(&mapping, 250, 6).unwrap());
        for (offset, len) in [(250, 7), (257, 0), (u64::MAX, 1), (0, usize::MAX)] {
            assert_eq!(Mapping::part(&mapping, offset, len).err().unwrap().kind(), ErrorKind::Format, "{len} bytes at {offset}");
        }
        drop(mapping);
        std::fs::remove_file(&path).unwrap();
        assert!(part.is_mapped());
        assert_eq!(part.as_slice(), [250, 251, 252, 253, 254, 255]);
    }
}
