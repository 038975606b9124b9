//! Where bytes come from: anything that can be read at an offset. Format readers see only this.
//!
//! Files are read, not mapped: a file that shrinks under a mapping kills the process, a file that shrinks under a read is an error.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// A random-access, read-only byte source of known length. Reads may come from several threads at once.
pub trait ReadAt: Send + Sync {
    /// Total length in bytes.
    fn len(&self) -> u64;

    /// True if there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What messages call this source: a path, or the name the host gave.
    fn name(&self) -> Option<&str> {
        None
    }

    /// Fills `dst` from `offset`, or fails; never partially.
    ///
    /// # Errors
    /// `Io` if the system refuses, `Format` if the source ends before `dst` is full.
    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<()>;
}

/// A regular file, open for reading. Its length is taken once, when it is opened.
pub struct FileSource {
    file: File,
    len: u64,
    /// The path, for messages.
    name: String,
}

impl FileSource {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// `Io`, naming the path: it does not exist, may not be read, or is a directory, pipe, socket or device.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let name = path.as_ref().display().to_string();
        let at_path = |e: io::Error| Error::from(e).at(&name);
        let file = open_for_reading(path.as_ref()).map_err(at_path)?;
        let metadata = file.metadata().map_err(at_path)?;
        if metadata.is_dir() {
            fail!(Io, "{name}: is a directory, expected a file");
        }
        if !metadata.is_file() {
            fail!(Io, "{name}: is not a regular file");
        }
        Ok(Self { len: metadata.len(), file, name })
    }
}

impl ReadAt for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<()> {
        check_range(self.len, offset, dst.len()).map_err(|e| e.at(&self.name))?;
        read_exact_at(&self.file, offset, dst).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                Error::new(ErrorKind::Format, format!("{}: the file became shorter while it was in use", self.name))
            }
            _ => Error::from(e).at(&self.name),
        })
    }
}

/// Bytes that are already in memory: `Vec<u8>`, `Arc<[u8]>`, `&'static [u8]`, or anything else that lends them.
pub struct MemorySource<B> {
    bytes: B,
}

impl<B: AsRef<[u8]> + Send + Sync> MemorySource<B> {
    /// A source of `bytes`; nothing is copied.
    pub fn new(bytes: B) -> Self {
        Self { bytes }
    }
}

impl<B: AsRef<[u8]> + Send + Sync> ReadAt for MemorySource<B> {
    fn len(&self) -> u64 {
        self.bytes.as_ref().len() as u64
    }

    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<()> {
        let bytes = self.bytes.as_ref();
        let start = check_range(bytes.len() as u64, offset, dst.len())?;
        let Some(src) = usize::try_from(start).ok().and_then(|start| bytes.get(start..)?.get(..dst.len())) else {
            fail!(Format, "read of {} bytes at {offset} passes the end of the data", dst.len());
        };
        dst.copy_from_slice(src);
        Ok(())
    }
}

/// `offset`, if a source of `len` bytes has `n` bytes from there.
fn check_range(len: u64, offset: u64, n: usize) -> Result<u64> {
    match offset.checked_add(n as u64) {
        Some(end) if end <= len => Ok(offset),
        _ => fail!(Format, "the data ends at byte {len}, expected {n} bytes at {offset}"),
    }
}

/// Non-blocking, because opening a pipe that nobody writes to would wait for ever; regular files ignore the flag.
#[cfg(unix)]
fn open_for_reading(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

#[cfg(not(unix))]
fn open_for_reading(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

/// `pread` until `dst` is full; std retries what a signal interrupted.
#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, dst: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, dst, offset)
}

/// `ReadFile` at an offset until `dst` is full. It moves the file's cursor, which nobody here uses.
#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut dst: &mut [u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !dst.is_empty() {
        match file.seek_read(dst, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                dst = &mut dst[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A path of this process that no other test uses; removed when dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("inference-file-{}-{name}", std::process::id())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_file_and_memory_read_alike() {
        let scratch = Scratch::new("alike");
        let bytes: Vec<u8> = (0..=255).collect();
        std::fs::write(&scratch.0, &bytes).unwrap();
        let file = FileSource::open(&scratch.0).unwrap();
        let memory = MemorySource::new(bytes);
        for source in [&file as &dyn ReadAt, &memory] {
            let mut dst = [0; 4];
            source.read_exact_at(252, &mut dst).unwrap();
            assert_eq!(dst, [252, 253, 254, 255]);
            source.read_exact_at(256, &mut []).unwrap();
            assert_eq!(source.len(), 256);
            for offset in [253, 256, 257, u64::MAX] {
                assert_eq!(source.read_exact_at(offset, &mut dst).unwrap_err().kind(), ErrorKind::Format);
            }
        }
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let missing = Scratch::new("missing");
        let error = FileSource::open(&missing.0).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains("missing"), "{error}");
        let error = FileSource::open(std::env::temp_dir()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Io);
        #[cfg(unix)]
        assert!(error.message().contains("directory"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_refused() {
        let error = FileSource::open("/dev/null").err().unwrap();
        assert!(error.message().contains("not a regular file"), "{error}");
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let scratch = Scratch::new("shrinks");
        std::fs::write(&scratch.0, [7; 100]).unwrap();
        let file = FileSource::open(&scratch.0).unwrap();
        OpenOptions::new().write(true).open(&scratch.0).unwrap().set_len(10).unwrap();
        let error = file.read_exact_at(5, &mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.message().contains("shorter"), "{error}");
    }
}
