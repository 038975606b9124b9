//! Shared libraries that are loaded while the program runs, and where this one lies.

use crate::error::Result;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// Reads `bytes` of the file at `path` into memory: a library that is checked before it is mapped.
///
/// # Errors
/// `Io`.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| crate::error::Error::from(e).at(path.display()))
}

#[cfg(unix)]
mod unix {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use std::ffi::{CString, c_void};
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

    /// A shared library. It stays loaded for ever: threads and thread-locals may be left in it.
    pub struct Library(*mut c_void);

    // SAFETY: the system's handle of a library may be used by any thread.
    unsafe impl Send for Library {}
    // SAFETY: looking up symbols locks by itself.
    unsafe impl Sync for Library {}

    impl Library {
        /// Loads the library at `path`, whose constructors run.
        ///
        /// # Errors
        /// `Unsupported`, in the words of the system.
        pub fn open(path: &Path) -> Result<Self> {
            let refused = |why: String| Error::new(ErrorKind::Unsupported, why);
            let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| refused(format!("{}: a zero in its path", path.display())))?;
            // SAFETY: a C string; nothing else is asked of the caller.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            if handle.is_null() {
                return Err(refused(last_error()));
            }
            Ok(Self(handle))
        }

        /// The address of `symbol`, if it is there.
        pub fn symbol(&self, symbol: &CStr) -> Option<*const c_void> {
            // SAFETY: a live handle and a C string.
            let address = unsafe { libc::dlsym(self.0, symbol.as_ptr()) };
            (!address.is_null()).then_some(address.cast_const())
        }
    }

    /// What the system says of the last failure on this thread.
    fn last_error() -> String {
        // SAFETY: the text is the system's, and lives until the thread's next call.
        let text = unsafe { libc::dlerror().as_ref().map(|text| CStr::from_ptr(text).to_string_lossy().into_owned()) };
        text.unwrap_or_else(|| "it cannot be loaded".to_owned())
    }

    /// The folder of the library that this function is in, or of the program that it is linked into.
    pub fn own_folder() -> Option<PathBuf> {
        // SAFETY: plain data; zero is valid.
        let mut info = unsafe { std::mem::zeroed::<libc::Dl_info>() };
        let here = own_folder as *const () as *const c_void;
        // SAFETY: any address may be asked about; `info` is written.
        if unsafe { libc::dladdr(here, &raw mut info) } == 0 || info.dli_fname.is_null() {
            return None;
        }
        // SAFETY: the system's text, as long as the library is loaded.
        let name = unsafe { CStr::from_ptr(info.dli_fname) };
        let path = PathBuf::from(std::ffi::OsString::from_vec(name.to_bytes().to_vec()));
        // Links lead to where the file is installed.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        path.parent().map(Path::to_owned)
    }
}

#[cfg(not(unix))]
mod other {
    use super::*;
    use crate::fail;
    use std::ffi::c_void;

    /// A shared library.
    pub struct Library;

    impl Library {
        /// Not on this platform.
        ///
        /// # Errors
        /// `Unsupported`.
        pub fn open(path: &Path) -> Result<Self> {
            fail!(Unsupported, "{}: plugins are not loaded on this platform", path.display());
        }

        /// Nothing.
        pub fn symbol(&self, _: &CStr) -> Option<*const c_void> {
            None
        }
    }

    /// Unknown.
    pub fn own_folder() -> Option<PathBuf> {
        None
    }
}

#[cfg(not(unix))]
pub use other::{Library, own_folder};
#[cfg(unix)]
pub use unix::{Library, own_folder};
