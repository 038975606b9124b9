//! The shared library as a host's linker sees it: it exports the functions of the header and nothing else.
//!
//! `INF_LIBRARY` names the library to look at, as `make test` does with the release build; without it, it is the one cargo built for this test.

#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn library() -> PathBuf {
    match std::env::var_os("INF_LIBRARY") {
        Some(path) => path.into(),
        None => std::env::current_exe().unwrap().with_file_name("libinference.so"),
    }
}

/// What a tool says about the library.
fn ask(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).arg(library()).output().unwrap();
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = fs::read_to_string(root().join("include/inference.h")).unwrap();
    let declarations = header.lines().filter(|line| line.starts_with("INF_API "));
    declarations.map(|line| line.split_once('(').unwrap().0.rsplit([' ', '*']).next().unwrap().to_owned()).collect()
}

#[test]
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
fn exports_are_the_header() {
    if std::env::var_os("INF_LIBRARY").is_none() {
        println!(
            "    skipped: the library that make links is meant, cargo's own exports functions of dependencies, too; INF_LIBRARY names it"
        );
        return;
    }
    let symbols = ask("nm", &["-D", "--defined-only"]);
    let exported: BTreeSet<_> = symbols.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(exported, declared());
    assert!(exported.len() >= 40, "the header lost functions");
}

#[test]
fn the_library_has_its_soname_and_stays_mapped() {
    let dynamic = ask("readelf", &["-dW"]);
    for expected in ["Library soname: [libinference.so.0]", "NODELETE", "NOW"] {
        assert!(dynamic.contains(expected), "{expected}: {dynamic}");
    }
    assert!(!dynamic.contains("RPATH") && !dynamic.contains("RUNPATH"));
}

#[test]
fn nothing_but_the_c_library_is_needed() {
    let dynamic = ask("readelf", &["-dW"]);
    let needed: Vec<_> = dynamic.lines().filter_map(|line| line.split_once("Shared library: [")?.1.strip_suffix(']')).collect();
    let known = ["libc.so", "libm.so", "libgcc_s.so", "ld-linux"];
    assert!(needed.iter().all(|name| known.iter().any(|known| name.starts_with(known))), "{needed:?}");
}

/// The symbols of the C library that are asked for, with the version that each needs, if it has one.
fn imports() -> Vec<(String, Option<String>)> {
    let symbols = ask("nm", &["-D", "--undefined-only"]);
    let whole = symbols.lines().filter_map(|line| line.split_whitespace().last());
    let parts = |symbol: &str| {
        symbol.split_once('@').map_or((symbol.to_owned(), None), |(name, version)| (name.to_owned(), Some(version.to_owned())))
    };
    whole.map(parts).collect()
}

#[test]
fn nothing_is_imported_that_is_not_on_the_list() {
    let list = fs::read_to_string(root().join("tests/abi/imports.txt")).unwrap();
    let allowed: BTreeSet<_> = list.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    let new: Vec<_> = imports().into_iter().map(|(name, _)| name).filter(|name| !allowed.contains(name.as_str())).collect();
    assert!(new.is_empty(), "not in tests/abi/imports.txt: {new:?}");
}

/// The C library of the machine that links decides which versions are asked for: 2.34 where that one is as new, as in Debian 12.
const NEWEST_GLIBC: (u32, u32) = (2, 34);

#[test]
#[cfg(target_env = "gnu")]
fn the_c_library_need_not_be_newer_than_stated() {
    let number = |version: &str| {
        let (major, minor) = version.strip_prefix("GLIBC_")?.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.split('.').next()?.parse::<u32>().ok()?))
    };
    let newest = imports().iter().filter_map(|(_, version)| number(version.as_deref()?)).max().unwrap();
    assert!(newest <= NEWEST_GLIBC, "the library needs glibc {newest:?}, docs/abi.md and this test say {NEWEST_GLIBC:?}");
}

/// What a host ships: the library without its symbol table.
const MOST_BYTES: u64 = 12 << 20;

#[test]
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
fn the_stripped_library_is_small() {
    let Some(library) = std::env::var_os("INF_LIBRARY") else {
        println!("    skipped: the size of the release library is meant; INF_LIBRARY names it");
        return;
    };
    let stripped = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stripped.so");
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(library).status().unwrap();
    assert!(status.success());
    let bytes = fs::metadata(&stripped).unwrap().len();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes, expected {MOST_BYTES} at most");
}

/// Every export is called by a test in C, and those with a handle also with bad ones.
#[test]
fn the_tests_in_c_call_every_function() {
    let sources: String =
        fs::read_dir(root().join("tests/c")).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    let hostile = fs::read_to_string(root().join("tests/c/handles.c")).unwrap();
    for name in declared() {
        let call = format!("{name}(");
        assert!(sources.contains(&call), "{name} is called by no test in tests/c");
        let has_handle =
            !["inf_version", "inf_abi_version", "inf_build_info_json", "inf_status_name", "inf_runtime_create"].contains(&name.as_str());
        assert!(!has_handle || hostile.contains(&call), "{name} is not in tests/c/handles.c");
    }
}
