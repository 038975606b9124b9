//! The architecture, read from the sources: imports go one way, each outside thing is named in its room, every export has its boundary.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One source file without comments and without its tests.
struct Source {
    /// Relative to `src`.
    path: PathBuf,
    /// The first folder or file name below `src`.
    room: String,
    code: String,
}

fn collect(folder: &Path, base: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && name != "tests" {
            collect(&path, base, sources);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let relative = path.strip_prefix(base).unwrap().to_owned();
            let room = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            // By this project's convention the tests of a file are its end.
            let text = text.split("\n#[cfg(test)]").next().unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            sources.push(Source { path: relative, room, code });
        }
    }
}

fn sources() -> Vec<Source> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    collect(&base, &base, &mut sources);
    assert!(sources.len() > 40, "the sources are somewhere else");
    sources
}

/// The rooms with their height, from the map in `src/lib.rs`: `ffi -> engine -> { model, text } -> ...`, the highest first.
fn heights() -> BTreeMap<String, usize> {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let map =
        lib.lines().find_map(|line| line.strip_prefix("//! ffi -> ").map(|rest| format!("ffi -> {rest}"))).expect("the map in src/lib.rs");
    let floors: Vec<&str> = map.split("->").collect();
    let names = |floor: &str| floor.trim_matches(['{', '}', ' ']).split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    floors.iter().rev().enumerate().flat_map(|(height, floor)| names(floor).into_iter().map(move |name| (name, height))).collect()
}

/// The rooms that `code` names with `crate::room`.
fn imports(code: &str) -> Vec<&str> {
    let ends = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let names = code.split("crate::").skip(1).map(|text| &text[..ends(text)]);
    // `fail!` is exported at the root by the error room.
    names.map(|name| if name == "fail" { "error" } else { name }).collect()
}

#[test]
fn imports_go_down() {
    let heights = heights();
    let mut edges = 0;
    for source in sources().iter().filter(|source| source.room != "lib") {
        let height = heights.get(&source.room).unwrap_or_else(|| panic!("{} is in no room of the map", source.path.display()));
        for import in imports(&source.code) {
            let below =
                heights.get(import).unwrap_or_else(|| panic!("{}: `crate::{import}` is in no room of the map", source.path.display()));
            assert!(import == source.room || below < height, "{}: {} must not import {import}", source.path.display(), source.room);
            edges += 1;
        }
    }
    assert!(edges > 100, "the imports are written in another way: {edges}");
}

/// What stands for the outside world, and the one folder that may name it.
const ROOMS: [(&str, &str); 13] = [
    ("candle_core", "backend/candle"),
    ("candle_nn", "backend/candle"),
    ("tokenizers::", "text"),
    ("minijinja", "text"),
    ("stacker::", "sys"),
    ("std::fs", "sys"),
    ("std::env", "sys"),
    ("std::thread", "sys"),
    ("memmap2", "sys"),
    ("libc::", "sys"),
    ("std::process::exit", "nowhere"),
    ("std::process::abort", "nowhere"),
    // That of the plugin's own copy of the standard library.
    ("set_hook", "ffi/plugin.rs"),
];

#[test]
fn the_outside_world_is_named_in_its_room_only() {
    for source in sources() {
        for (name, room) in ROOMS {
            assert!(source.path.starts_with(room) || !source.code.contains(name), "{} names {name}", source.path.display());
        }
    }
}

/// The types of tables of constants, which are not state.
fn is_plain(type_name: &str) -> bool {
    let words = type_name.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let number = |word: &str| word.parse::<usize>().is_ok() || word.trim_start_matches(['u', 'i', 'f']).parse::<usize>().is_ok();
    words.into_iter().all(|word| number(word) || ["usize", "str", "static", "char", "bool"].contains(&word))
}

#[test]
fn the_handle_table_is_the_only_static() {
    for source in sources() {
        let lines: Vec<_> = source.code.lines().map(str::trim).collect();
        for (i, line) in lines.iter().enumerate() {
            let Some((before, after)) = line.split_once("static ") else { continue };
            let is_item = ["", "pub ", "pub(crate) ", "pub(super) "].contains(&before);
            let thread_local = i > 0 && lines[i - 1].starts_with("thread_local!");
            let constant = after.split_once(':').is_some_and(|(_, rest)| is_plain(rest.split('=').next().unwrap()));
            assert!(
                !is_item || thread_local || constant || line.starts_with("static HANDLES: Handles"),
                "{}: {line}",
                source.path.display()
            );
        }
    }
}

#[test]
fn every_export_runs_inside_the_boundary() {
    let mut exports = 0;
    for source in sources().iter().filter(|source| source.code.contains("no_mangle")) {
        assert_eq!(source.room, "ffi", "{} exports", source.path.display());
        for export in source.code.split("#[unsafe(no_mangle)]").skip(1) {
            let (signature, body) = export.split_once(" {\n").unwrap();
            let first = body.trim_start().trim_start_matches("unsafe {").trim_start();
            let inside = ["boundary::status(err, ", "boundary::status(\n", "boundary::value(", "boundary::quiet("]
                .iter()
                .any(|start| first.starts_with(start));
            assert!(inside, "{}: {signature}", source.path.display());
            assert!(signature.trim_start().starts_with("pub ") && signature.contains("extern \"C\" fn inf_"), "{signature}");
            exports += 1;
        }
    }
    assert!(exports >= 40, "the exports are written in another way: {exports}");
}

/// Which file an exported function lives in decides its section in the header and its test in C.
#[test]
fn every_section_has_its_test_in_c() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c");
    // The plugin's symbol is in no header: tests/cuda/plugin.sh.
    let in_header = |source: &&Source| source.code.contains("no_mangle") && !source.path.ends_with("ffi/plugin.rs");
    for source in sources().iter().filter(in_header) {
        let test = tests.join(source.path.file_stem().unwrap()).with_extension("c");
        assert!(test.exists(), "{} is missing", test.display());
    }
}
