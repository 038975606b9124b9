//! How the shared library is linked: its soname, and that it stays mapped once it is loaded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        for argument in [
            // Hosts record this name; its number is INF_ABI_VERSION.
            "-soname,libinference.so.0",
            // dlclose must not unmap code that a worker thread or a thread-local destructor still runs.
            "-z,nodelete",
            // The tables of addresses are read-only once the library is loaded.
            "-z,relro",
            "-z,now",
        ] {
            println!("cargo::rustc-cdylib-link-arg=-Wl,{argument}");
        }
    }
}
