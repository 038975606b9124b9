//! How the shared library is linked: the name that hosts record, and that it stays mapped once it is loaded. And a sum of the sources that a plugin must
//! share with it.

use std::fs;
use std::path::Path;

/// ELF: the number in the soname changes when the ABI breaks.
const LINUX: [&str; 4] = [
    "-soname,libinference.so.0",
    // dlclose must not unmap code that a worker thread or a thread-local destructor still runs.
    "-z,nodelete",
    // The tables of addresses are read-only once the library is loaded.
    "-z,relro",
    "-z,now",
];

/// Mach-O: hosts find it beside themselves or by their own rpath; images with thread-locals are never unmapped.
const MACOS: [&str; 1] = ["-install_name,@rpath/libinference.0.dylib"];

/// What a plugin and the library must agree on: the code on both sides of its table, and what it is built from.
const SOURCES: [&str; 5] = ["src/backend", "src/kernels", "src/dtype.rs", "src/error.rs", "Cargo.lock"];

/// FNV-1a.
fn sum(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The sum of all files at `path`, names included, in the order of their names.
fn sum_files(start: u64, path: &Path) -> u64 {
    if !path.is_dir() {
        let named = sum(start, path.to_string_lossy().replace('\\', "/").as_bytes());
        return sum(named, &fs::read(path).unwrap_or_default());
    }
    let mut entries: Vec<_> = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.iter().fold(start, |sum, path| sum_files(sum, path))
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    SOURCES.iter().for_each(|path| println!("cargo::rerun-if-changed={path}"));
    let sources = SOURCES.iter().fold(0xcbf2_9ce4_8422_2325, |sum, path| sum_files(sum, Path::new(path)));
    println!("cargo::rustc-env=INFERENCE_SOURCES={sources:016x}");
    let arguments: &[&str] = match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("linux" | "android") => &LINUX,
        Ok("macos" | "ios") => &MACOS,
        _ => &[],
    };
    for argument in arguments {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{argument}");
    }
}
