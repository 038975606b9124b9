//! Where bytes come from: anything that can be read at an offset. Format readers see only this.
//!
//! Files are read, not mapped, unless the host asks for that: a file that shrinks under a mapping kills the process, a file that shrinks under
//! a read is an error.

use crate::error::{Error, Result};
use crate::fail;
use crate::sys::mapping::MappedBytes;
use crate::sys::memory::try_vec;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

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

    /// Reads what is at hand, at least a byte, into the start of `dst`, and says how much; 0 only for an empty `dst`.
    /// For sources whose bytes come in pieces; a caller may do something else between the pieces.
    ///
    /// # Errors
    /// As [`Self::read_exact_at`], also where a part is there.
    fn read_some_at(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        self.read_exact_at(offset, dst).map(|()| dst.len())
    }

    /// Bytes that need not be read, because the system has the file mapped; `None` for sources that are not.
    ///
    /// # Errors
    /// `Format` if the source ends before.
    fn mapped_at(&self, _offset: u64, _len: usize) -> Result<Option<MappedBytes>> {
        Ok(None)
    }
}

/// What [`ReadAt::read_exact_at`] is for a source that reads in pieces.
pub(crate) fn read_pieces(source: &dyn ReadAt, mut offset: u64, mut dst: &mut [u8]) -> Result<()> {
    while !dst.is_empty() {
        let n = source.read_some_at(offset, dst)?.min(dst.len());
        if n == 0 {
            fail!(Io, "{}: nothing was read at {offset}, expected {} bytes", source.name().unwrap_or("source"), dst.len());
        }
        dst = &mut dst[n..];
        offset = offset.saturating_add(n as u64);
    }
    Ok(())
}

/// All bytes of `source`, at most `most`.
///
/// # Errors
/// `Format` if there are more; `OutOfMemory`; those of [`ReadAt::read_exact_at`].
pub fn read_all(source: &dyn ReadAt, most: usize) -> Result<Vec<u8>> {
    let name = source.name().unwrap_or("source");
    let Some(len) = usize::try_from(source.len()).ok().filter(|&len| len <= most) else {
        fail!(Format, "{name}: {} bytes, expected {most} at most", source.len());
    };
    let mut bytes = try_vec(len)?;
    source.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Gives the file at `path` a new content: whoever opens it, also after a crash at any moment, finds the old one or the new one, whole.
///
/// # Errors
/// `Io`, naming the path; the old content is still there.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    replace_with(path, &mut |out| Ok(out.write_all(content)?))
}

/// As [`replace`], with the content that `write` writes.
///
/// # Errors
/// As there, and those of `write`.
pub fn replace_with(path: &Path, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<()> {
    /// Large writes are worth a call of the system each, small ones not.
    const BUFFER_BYTES: usize = 1 << 20;
    let named = |e: io::Error| Error::from(e).at(path.display());
    let (file, temporary) = create_beside(path).map_err(named)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, &file);
    let written = write(&mut out).and_then(|()| Ok(out.flush()?)).map_err(|e| e.at(path.display()));
    drop(out);
    // On the disk before it gets its name: a rename may outlive a crash that the content does not.
    let renamed = written.and_then(|()| file.sync_all().and_then(|()| fs::rename(&temporary, path)).map_err(named));
    if let Err(e) = renamed {
        // The first error says what is wrong; one of the removal would not help anybody.
        let _ = fs::remove_file(&temporary);
        return Err(e);
    }
    // The new name is kept by the directory. Where directories cannot be opened, the system has to see to it.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).or_else(|e| if cfg!(unix) { Err(named(e)) } else { Ok(()) })
}

/// A new file in the directory of `path`, so that it can be renamed to it.
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    /// Names that are tried: others may be left from crashes, or be in use by another thread.
    const ATTEMPTS: u32 = 100;
    let mut attempt = 0;
    loop {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        match File::create_new(&temporary) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => attempt += 1,
            created => return created.map(|file| (file, temporary)),
        }
    }
}

/// True if there is something at `path` that may be looked at.
pub fn exists(path: &Path) -> bool {
    path.exists()
}

/// True if `path` is a directory.
pub fn is_directory(path: &Path) -> bool {
    path.is_dir()
}

impl fmt::Debug for dyn ReadAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} bytes", self.name().unwrap_or("memory"), self.len())
    }
}

/// A regular file, open for reading. Its length is taken once, when it is opened.
pub struct FileSource {
    pub(super) file: File,
    len: u64,
    /// The path, for messages.
    pub(super) name: String,
}

impl FileSource {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// `Io`, naming the path: it does not exist, may not be read, or is a directory, pipe, socket or device.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let name = path.as_ref().display().to_string();
        let file = open_for_reading(path.as_ref()).map_err(|e| Error::from(e).at(&name))?;
        Ok(Self { len: regular_file_len(&file, &name)?, file, name })
    }
}

/// Bytes of `file`, which messages call `name`.
fn regular_file_len(file: &File, name: &str) -> Result<u64> {
    let metadata = file.metadata().map_err(|e| Error::from(e).at(name))?;
    if metadata.is_dir() {
        fail!(Io, "{name}: is a directory, expected a file");
    }
    if !metadata.is_file() {
        fail!(Io, "{name}: is not a regular file");
    }
    Ok(metadata.len())
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
        read_file(&self.file, offset, dst, &self.name)
    }
}

/// Fills `dst` from `file`, which messages call `name`.
fn read_file(file: &File, offset: u64, dst: &mut [u8], name: &str) -> Result<()> {
    match read_exact_at(file, offset, dst) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => fail!(Format, "{name}: the file became shorter while it was in use"),
        Err(e) => Err(Error::from(e).at(name)),
    }
}

/// A stretch of a file that the host has open: a model inside an archive, or behind a file descriptor.
pub struct NativeSource {
    /// A duplicate: the host may close its own.
    file: File,
    /// Where the source begins in `file`.
    start: u64,
    len: u64,
    name: String,
}

impl NativeSource {
    /// `len` bytes (`None` = all that follow) from byte `start` of the file behind `handle`, which is duplicated. Its cursor is neither used
    /// nor, on POSIX, moved.
    ///
    /// # Errors
    /// `InvalidArgument` if no handle has this number, `Io` if it cannot be duplicated or is no regular file, `Format` if the file is shorter.
    ///
    /// # Safety
    /// `handle` is a POSIX file descriptor or a Windows `HANDLE` of a file, open during the call.
    pub unsafe fn duplicate(handle: isize, start: u64, len: Option<u64>, name: String) -> Result<Self> {
        // SAFETY: passed on from the caller.
        let file = unsafe { duplicate(handle, &name) }?;
        let file_len = regular_file_len(&file, &name)?;
        let len = len.unwrap_or(file_len.saturating_sub(start));
        match start.checked_add(len) {
            Some(end) if end <= file_len => Ok(Self { file, start, len, name }),
            _ => fail!(Format, "{name}: the file has {file_len} bytes, expected {len} bytes at {start}"),
        }
    }
}

impl ReadAt for NativeSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<()> {
        check_range(self.len, offset, dst.len()).map_err(|e| e.at(&self.name))?;
        read_file(&self.file, self.start + offset, dst, &self.name)
    }
}

/// A descriptor of our own for the same open file, closed in programs that the host starts (`F_DUPFD_CLOEXEC`).
///
/// # Safety
/// As [`NativeSource::duplicate`].
#[cfg(unix)]
unsafe fn duplicate(handle: isize, name: &str) -> Result<File> {
    let Some(descriptor) = i32::try_from(handle).ok().filter(|&n| n >= 0) else {
        fail!(InvalidArgument, "{name}: {handle} is no file descriptor");
    };
    // SAFETY: not -1, and open by the caller's promise.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
    borrowed.try_clone_to_owned().map(File::from).map_err(|e| Error::from(e).at(name))
}

/// A handle of our own for the same open file.
///
/// # Safety
/// As [`NativeSource::duplicate`].
#[cfg(windows)]
unsafe fn duplicate(handle: isize, name: &str) -> Result<File> {
    if handle == 0 || handle == -1 {
        fail!(InvalidArgument, "{name}: {handle} is no file handle");
    }
    let handle = std::ptr::with_exposed_provenance_mut(handle as usize);
    // SAFETY: a handle that is open by the caller's promise.
    let borrowed = unsafe { std::os::windows::io::BorrowedHandle::borrow_raw(handle) };
    borrowed.try_clone_to_owned().map(File::from).map_err(|e| Error::from(e).at(name))
}

/// Bytes that are already in memory: `Vec<u8>`, `Arc<[u8]>`, `&'static [u8]`, or anything else that lends them.
pub struct MemorySource<B> {
    bytes: B,
    name: Option<String>,
}

impl<B: AsRef<[u8]> + Send + Sync> MemorySource<B> {
    /// A source of `bytes`; nothing is copied.
    pub fn new(bytes: B) -> Self {
        Self { bytes, name: None }
    }

    /// The same source, which messages call `name`.
    #[must_use]
    pub fn named(self, name: String) -> Self {
        Self { name: Some(name), ..self }
    }
}

impl<B: AsRef<[u8]> + Send + Sync> ReadAt for MemorySource<B> {
    fn len(&self) -> u64 {
        self.bytes.as_ref().len() as u64
    }

    fn name(&self) -> Option<&str> {
        self.name.as_deref()
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
    use crate::error::ErrorKind;
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
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_file_and_memory_read_alike() {
        let scratch = Scratch::new("alike");
        let bytes: Vec<u8> = (0..=255).collect();
        fs::write(&scratch.0, &bytes).unwrap();
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
    fn a_stretch_of_an_open_file_is_read_and_the_host_may_close_its_own() {
        use std::os::fd::AsRawFd;
        let scratch = Scratch::new("native");
        fs::write(&scratch.0, (0..=255).collect::<Vec<u8>>()).unwrap();
        let open = |file: &File, start, len| {
            let handle = file.as_raw_fd().try_into().unwrap();
            // SAFETY: the file is open.
            unsafe { NativeSource::duplicate(handle, start, len, "pak".into()) }
        };
        let file = File::open(&scratch.0).unwrap();
        let (part, rest) = (open(&file, 16, Some(32)).unwrap(), open(&file, 250, None).unwrap());
        let too_long = open(&file, 250, Some(7)).err().unwrap();
        assert_eq!((too_long.kind(), too_long.message()), (ErrorKind::Format, "pak: the file has 256 bytes, expected 7 bytes at 250"));
        assert_eq!(open(&file, u64::MAX, Some(7)).err().unwrap().kind(), ErrorKind::Format);
        drop(file);
        let mut dst = [0; 4];
        part.read_exact_at(28, &mut dst).unwrap();
        assert_eq!((dst, part.len(), rest.len()), ([44, 45, 46, 47], 32, 6));
        assert_eq!(part.read_exact_at(29, &mut dst).unwrap_err().kind(), ErrorKind::Format, "the file goes on, the source does not");
        // SAFETY: refused before it is used.
        let negative = unsafe { NativeSource::duplicate(-1, 0, None, "pak".into()) };
        assert_eq!(negative.err().unwrap().kind(), ErrorKind::InvalidArgument);
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
        fs::write(&scratch.0, [7; 100]).unwrap();
        let file = FileSource::open(&scratch.0).unwrap();
        OpenOptions::new().write(true).open(&scratch.0).unwrap().set_len(10).unwrap();
        let error = file.read_exact_at(5, &mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.message().contains("shorter"), "{error}");
    }
}
