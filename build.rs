//! How the shared library is linked: the name that hosts record, and that it stays mapped once it is loaded.

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

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let arguments: &[&str] = match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("linux" | "android") => &LINUX,
        Ok("macos" | "ios") => &MACOS,
        _ => &[],
    };
    for argument in arguments {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{argument}");
    }
}
