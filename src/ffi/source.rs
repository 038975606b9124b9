//! Where a model's bytes come from: files, memory, readers and open files of the host, and when the host gets them back.

use super::bytes;
use super::hooks::User;
use super::options::{self, Versioned};
use crate::engine::call_hook;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::file::{MemorySource, NativeSource, ReadAt, read_pieces};
use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;

/// `inf_source.kind`: a file, by its path.
pub const INF_SOURCE_PATH: u32 = 0u32;
/// A file that lies in memory.
pub const INF_SOURCE_MEMORY: u32 = 1u32;
/// A function of yours that reads.
pub const INF_SOURCE_READER: u32 = 2u32;
/// An open file, or a stretch of it.
pub const INF_SOURCE_NATIVE: u32 = 3u32;

/// Reads up to n bytes from offset into dst, as pread does, and returns how many; fewer are asked for again, 0 makes the load fail. Called on a
/// thread of the library, or on the one that is inside `inf_model_load`; never for bytes beyond size.
pub type inf_read_fn = Option<unsafe extern "C" fn(user: *mut c_void, offset: u64, dst: *mut c_void, n: usize) -> usize>;

/// Says that a source is not used any more. Called exactly once, on any thread.
pub type inf_release_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// One input file. kind says which of path, data, native and read_at is used; the others are ignored.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_source {
    /// `sizeof(inf_source)`
    pub struct_size: u32,
    /// `INF_SOURCE_*`
    pub kind: u32,
    /// Memory, reader, native: what messages call it, NUL-terminated: "smith.gguf". NULL = a name made from place and kind. Copied.
    pub name: *const c_char,
    /// Path: UTF-8 on every platform, NUL-terminated. Copied.
    pub path: *const c_char,
    /// Memory: size bytes, borrowed until release is called (without release: until the load has ended). Never written to.
    pub data: *const c_void,
    /// Native: a POSIX file descriptor or a Windows HANDLE of a regular file. Duplicated during the call, its cursor is not used.
    pub native: isize,
    /// Memory, reader, native: bytes. Native: 0 = all that follow offset.
    pub size: u64,
    /// Native: where the source begins inside the file, for models in an archive.
    pub offset: u64,
    /// Reader.
    pub read_at: inf_read_fn,
    /// Optional, for every kind. Called exactly once when the source is not used any more, at the latest before the load tells its end, also where
    /// the call that takes the source fails. Only a source that cannot be read itself (NULL, an impossible struct_size) is not released.
    pub release: inf_release_fn,
    /// Handed to read_at and release.
    pub user: *mut c_void,
    /// NULL.
    pub reserved_pointer: *const c_void,
}

// SAFETY: repr(C), begins with struct_size; integers, pointers and optional function pointers.
unsafe impl Versioned for inf_source {
    const NAME: &'static str = "inf_source";
    const FIRST_SIZE: usize = offset_of!(Self, reserved_pointer) + size_of::<usize>();
}

/// More than any split set has.
const MAX_SOURCES: usize = 512;

/// The host's `release`, owed from the moment that its source was seen; called when this is dropped.
struct Release {
    hook: inf_release_fn,
    user: User,
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(hook) = self.hook {
            // SAFETY: a function of the type that the header asks for; this is its only call, for nobody copies a `Release`.
            call_hook(&|| unsafe { hook(self.user.pointer()) });
        }
    }
}

/// A source of the host, with what is owed for it.
struct Adopted {
    source: inf_source,
    release: Release,
}

/// All sources of a call. Made before anything of the call is checked, so that whatever fails then releases them all.
pub(super) struct Sources {
    adopted: Vec<Adopted>,
    /// What is wrong with one of them.
    fault: Option<Error>,
}

/// The sources as the engine takes them.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) paths: Vec<PathBuf>,
    pub(super) sources: Vec<Arc<dyn ReadAt>>,
}

impl Sources {
    /// No sources.
    pub(super) fn none() -> Self {
        Self { adopted: Vec::new(), fault: None }
    }

    /// Takes over the `n` sources that `list` points to.
    ///
    /// # Safety
    /// `list` is NULL or points to `n` pointers, each NULL or to a struct as the header demands.
    pub(super) unsafe fn adopt(list: *const *const inf_source, n: u32) -> Self {
        let mut all = Self::none();
        // SAFETY: passed on from the caller.
        match unsafe { bytes::array("sources", list, n as usize) } {
            Err(fault) => all.fault = Some(fault),
            Ok(pointers) => {
                for (i, &pointer) in pointers.iter().enumerate() {
                    let seen = pointers.get(..i.min(MAX_SOURCES)).unwrap_or_default();
                    // SAFETY: passed on from the caller.
                    let result = unsafe { all.adopt_one(pointer, seen) };
                    all.fault = all.fault.take().or(result.err().map(|e| e.at(format_args!("sources[{i}]"))));
                }
            }
        }
        all
    }

    /// # Safety
    /// `pointer` is NULL or a struct as the header demands.
    unsafe fn adopt_one(&mut self, pointer: *const inf_source, seen: &[*const inf_source]) -> Result<()> {
        if seen.contains(&pointer) && !pointer.is_null() {
            fail!(InvalidArgument, "the same inf_source is there twice");
        }
        // SAFETY: passed on from the caller.
        let (source, tail) = unsafe { options::read_known(pointer) }?;
        let release = Release { hook: source.release, user: User::new(source.user) };
        tail?;
        options::must_be_zero("inf_source.reserved_pointer", source.reserved_pointer.addr() as u64)?;
        if self.adopted.len() == MAX_SOURCES {
            fail!(InvalidArgument, "more than {MAX_SOURCES} sources");
        }
        self.adopted.push(Adopted { source, release });
        Ok(())
    }

    /// The sources, opened as far as that does not block: paths are opened by the load.
    ///
    /// # Errors
    /// `InvalidArgument`, `Abi`; for native ones those of [`NativeSource::duplicate`]. All are released then.
    ///
    /// # Safety
    /// What the header demands of the pointers in the structs.
    pub(super) unsafe fn open(self) -> Result<Opened> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut opened = Opened::default();
        for (i, adopted) in self.adopted.into_iter().enumerate() {
            // SAFETY: passed on from the caller.
            unsafe { adopted.open(i, &mut opened) }.map_err(|e| e.at(format_args!("sources[{i}]")))?;
        }
        Ok(opened)
    }
}

impl Adopted {
    /// # Safety
    /// As [`Sources::open`].
    unsafe fn open(self, i: usize, opened: &mut Opened) -> Result<()> {
        let Self { source, release } = self;
        // SAFETY: passed on from the caller.
        let given = unsafe { bytes::optional_text("inf_source.name", source.name) }?;
        let name = |kind: &str| given.map_or_else(|| format!("sources[{i}] ({kind})"), str::to_owned);
        let reader: Arc<dyn ReadAt> = match source.kind {
            INF_SOURCE_PATH => {
                // SAFETY: passed on from the caller.
                let path = unsafe { bytes::required_text("inf_source.path", source.path) }?;
                opened.paths.push(PathBuf::from(path));
                return Ok(());
            }
            INF_SOURCE_MEMORY => Arc::new(MemorySource::new(HostBytes::new(&source, release)?).named(name("memory"))),
            INF_SOURCE_READER => Arc::new(CallbackSource::new(&source, release, name("reader"))?),
            INF_SOURCE_NATIVE => {
                let size = Some(source.size).filter(|&size| size > 0);
                // SAFETY: the header asks for an open file.
                Arc::new(unsafe { NativeSource::duplicate(source.native, source.offset, size, name("native")) }?)
            }
            other => fail!(InvalidArgument, "inf_source.kind {other}: expected INF_SOURCE_PATH, _MEMORY, _READER or _NATIVE"),
        };
        opened.sources.push(reader);
        Ok(())
    }
}

/// Memory of the host, released when dropped.
struct HostBytes {
    start: *const u8,
    len: usize,
    _release: Release,
}

// SAFETY: the header demands that the bytes stay as they are until `release`; they are only read.
unsafe impl Send for HostBytes {}
// SAFETY: as above.
unsafe impl Sync for HostBytes {}

impl HostBytes {
    fn new(source: &inf_source, release: Release) -> Result<Self> {
        let len = usize::try_from(source.size).ok().filter(|&n| n > 0 && n <= isize::MAX as usize);
        let Some(len) = len else { fail!(InvalidArgument, "inf_source.size {}: expected the bytes of data", source.size) };
        if source.data.is_null() {
            fail!(InvalidArgument, "inf_source.data: NULL");
        }
        Ok(Self { start: source.data.cast(), len, _release: release })
    }
}

impl AsRef<[u8]> for HostBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: not NULL, of a size that exists; readable until `release` by the header's contract, and that is called by our drop.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// A function of the host that reads, with what is owed for it.
struct CallbackSource {
    read_at: unsafe extern "C" fn(*mut c_void, u64, *mut c_void, usize) -> usize,
    user: User,
    len: u64,
    name: String,
    _release: Release,
}

impl CallbackSource {
    fn new(source: &inf_source, release: Release, name: String) -> Result<Self> {
        let Some(read_at) = source.read_at else { fail!(InvalidArgument, "inf_source.read_at: NULL") };
        if source.size == 0 {
            fail!(InvalidArgument, "inf_source.size 0: expected the bytes that read_at can read");
        }
        Ok(Self { read_at, user: User::new(source.user), len: source.size, name, _release: release })
    }
}

impl ReadAt for CallbackSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<()> {
        read_pieces(self, offset, dst)
    }

    fn read_some_at(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        let (name, wanted) = (&self.name, dst.len());
        if offset.checked_add(wanted as u64).is_none_or(|end| end > self.len) {
            fail!(Format, "{name}: the data ends at byte {}, expected {wanted} bytes at {offset}", self.len);
        }
        let (target, got) = (ptr::from_mut(dst).cast::<c_void>(), std::cell::Cell::new(0));
        // SAFETY: a function of the type that the header asks for; `target` has `wanted` bytes that nobody else sees meanwhile.
        call_hook(&|| got.set(unsafe { (self.read_at)(self.user.pointer(), offset, target, wanted) }));
        match got.get() {
            0 if wanted > 0 => fail!(Io, "{name}: read_at returned 0, expected up to {wanted} bytes at {offset}"),
            n if n > wanted => {
                Err(Error::new(ErrorKind::Io, format!("{name}: read_at returned {n}, expected at most {wanted} bytes at {offset}")))
            }
            n => Ok(n),
        }
    }
}
