//! Finding a plugin, and telling why there is none. Nothing of a file runs before its seal was checked: the system's loader kills a process that maps a
//! file which is too short.

use super::remote::Plugin;
use super::table::{BUILD, OpenPlugin, SYMBOL};
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::checksum::checksum;
use crate::sys::library::{self, Library};
use std::path::{Path, PathBuf};

/// What a plugin's file is called.
pub const FILE_NAME: &str = "libinference_cuda.so";

/// The end of a plugin's file.
const MAGIC: [u8; 8] = *b"INF-PLUG";

/// The longest name of a build.
const MAX_BUILD: usize = 256;

/// `file` as a plugin of `build`: with a seal behind it. `tools/cuda/seal.py` writes the same.
pub fn sealed(mut file: Vec<u8>, build: &str) -> Vec<u8> {
    file.extend_from_slice(build.as_bytes());
    file.extend_from_slice(&(build.len() as u32).to_le_bytes());
    let sum = checksum(&file);
    file.extend_from_slice(&sum.to_le_bytes());
    file.extend_from_slice(&MAGIC);
    file
}

/// The build that the seal of `file` names.
///
/// # Errors
/// `Format` if there is no seal, or if it does not fit what is before it.
fn check_seal(file: &[u8]) -> Result<&str> {
    let no_plugin = || Error::new(ErrorKind::Format, "not a plugin, or one that is not complete");
    let (rest, magic) = file.split_last_chunk::<8>().ok_or_else(no_plugin)?;
    let (summed, sum) = rest.split_last_chunk::<8>().ok_or_else(no_plugin)?;
    if *magic != MAGIC {
        return Err(no_plugin());
    }
    if checksum(summed) != u64::from_le_bytes(*sum) {
        fail!(Format, "the file is damaged: its check sum is another one");
    }
    let (rest, len) = summed.split_last_chunk::<4>().ok_or_else(no_plugin)?;
    let len = u32::from_le_bytes(*len) as usize;
    let start = rest.len().checked_sub(len).filter(|_| len <= MAX_BUILD).ok_or_else(no_plugin)?;
    std::str::from_utf8(&rest[start..]).map_err(|_| no_plugin())
}

/// Loads the plugin at `path`, or beside this library.
///
/// # Errors
/// `NoDevice`: why there is none, in a sentence for `inf_device_info.reason`.
pub fn open(path: Option<&Path>) -> Result<Plugin> {
    let place = match path {
        Some(path) => path.to_owned(),
        None => beside().ok_or_else(|| no_plugin("this library does not know where it lies", None))?,
    };
    // What the plugin itself says of the machine is a reason as it is.
    load(&place).map_err(|e| if e.kind() == ErrorKind::NoDevice { e } else { no_plugin(e.message(), Some(&place)) })
}

/// Where a plugin lies that belongs to this library.
fn beside() -> Option<PathBuf> {
    Some(library::own_folder()?.join(FILE_NAME))
}

fn no_plugin(why: &str, place: Option<&Path>) -> Error {
    let place = place.map_or(String::new(), |place| format!(" ({})", place.display()));
    Error::new(ErrorKind::NoDevice, format!("no plugin: {why}{place}"))
}

fn load(place: &Path) -> Result<Plugin> {
    // The place is told anyway, and a reason has little room.
    let file = library::read(place).map_err(|_| Error::new(ErrorKind::Io, "the file is not there, or cannot be read"))?;
    let build = check_seal(&file)?;
    if build != BUILD {
        fail!(Abi, "it was built for {build}, this library is {BUILD}");
    }
    drop(file);
    let library = Library::open(place)?;
    let Some(symbol) = library.symbol(SYMBOL) else { fail!(Format, "it has no {SYMBOL:?}") };
    // SAFETY: the seal names this very build, in which the symbol is this function.
    let open = unsafe { std::mem::transmute::<*const std::ffi::c_void, OpenPlugin>(symbol) };
    // SAFETY: as above.
    unsafe { Plugin::of(open) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_holds_against_every_cut_and_every_changed_byte() {
        let file = sealed((0..=255).collect(), "0.1.0-test");
        assert_eq!(check_seal(&file).unwrap(), "0.1.0-test");
        for n in 0..file.len() {
            assert!(check_seal(&file[..n]).is_err(), "{n} bytes");
            let mut changed = file.clone();
            changed[n] ^= 1;
            assert_eq!(check_seal(&changed).unwrap_err().kind(), ErrorKind::Format, "byte {n}");
        }
    }
}
