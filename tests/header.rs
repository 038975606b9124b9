//! `include/inference.h`: generated from `src/ffi`, committed, fresh, valid in every standard, and laid out as Rust lays it out.
//!
//! `BLESS=1 cargo test --test header` writes it anew; `make header` is that.

#[path = "header/tidy.rs"]
mod tidy;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The sections in reading order: a file of `src/ffi`, and what the header calls it.
const SECTIONS: [(&str, &str); 13] = [
    ("status", "Status codes and errors"),
    ("library", "The library"),
    ("runtime", "Runtimes: threads, devices, log"),
    ("source", "Sources: where a model's bytes come from"),
    ("model", "Models"),
    ("load", "Loads: in the background, with progress and cancel"),
    ("tokenizer", "Tokenizer"),
    ("chat", "Chats: messages become a prompt"),
    ("sampler", "Samplers"),
    ("constraint", "Constraints: what a sampler may choose at all"),
    ("session", "Sessions: append, then step; for hosts that own the loop"),
    ("state", "Saved sessions: as bytes and in files"),
    ("generation", "Generations: in the background; pull their events"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The whole header, as the sources have it now.
fn generate() -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    let mut header = config.header.clone().unwrap().trim_start().to_owned();
    for (file, title) in SECTIONS {
        let rule = "-".repeat(110 - title.len());
        header += &format!("\n/* ---- {title} {rule} */\n{}", tidy::tidy(&section(&config, file)));
    }
    header + config.trailer.as_deref().unwrap()
}

/// One file of `src/ffi` in C.
fn section(config: &cbindgen::Config, file: &str) -> String {
    let config = cbindgen::Config { header: None, trailer: None, ..config.clone() };
    let source = root().join("src/ffi").join(file).with_extension("rs");
    let mut text = Vec::new();
    cbindgen::Builder::new().with_config(config).with_src(source).generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

fn committed() -> PathBuf {
    root().join("include/inference.h")
}

#[test]
fn the_committed_header_is_fresh() {
    let header = generate();
    if std::env::var_os("BLESS").is_some() {
        fs::write(committed(), &header).unwrap();
    }
    assert!(fs::read_to_string(committed()).unwrap_or_default() == header, "include/inference.h is stale: run `make header`");
}

/// Runs a compiler on `source`, in a folder of its own, and fails with what it says.
fn compile(compiler: &str, arguments: &[&str], source: &str) {
    let extension = if compiler == "c++" { "cpp" } else { "c" };
    let name: String = arguments.concat().chars().filter(|c| c.is_alphanumeric()).collect();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("header-{name}-{}.{extension}", source.len()));
    fs::write(&file, source).unwrap();
    let output = Command::new(compiler).args(arguments).arg("-I").arg(root().join("include")).arg(&file).output().unwrap();
    assert!(output.status.success(), "{compiler} {arguments:?}: {}\n{source}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_standard_takes_it_once_and_twice() {
    let warnings = ["-Wall", "-Wextra", "-Wpedantic", "-pedantic-errors", "-Werror", "-fsyntax-only"];
    for twice in [1, 2] {
        let source = "#include \"inference.h\"\n".repeat(twice) + "int main(void) { return (int)inf_abi_version(); }\n";
        for standard in ["-std=c99", "-std=c11", "-std=c17", "-std=c2x"] {
            compile("cc", &[&[standard, "-Wstrict-prototypes"], &warnings[..]].concat(), &source);
        }
        let source = source.replace("(void)", "()");
        for standard in ["-std=c++11", "-std=c++14", "-std=c++17", "-std=c++20"] {
            compile("c++", &[&[standard], &warnings[..]].concat(), &source);
        }
    }
}

/// The structs of the header as Rust lays them out: name, size, fields with their offsets.
type Layout = (&'static str, usize, Vec<(&'static str, usize)>);

macro_rules! layouts {
    ($($module:ident::$name:ident { $($field:ident),* })*) => {
        vec![$({
            use inference::ffi::$module::$name as Type;
            let fields = vec![$((stringify!($field).trim_start_matches("r#"), std::mem::offset_of!(Type, $field))),*];
            (stringify!($name), size_of::<Type>(), fields)
        }),*]
    };
}

fn layouts() -> Vec<Layout> {
    layouts! {
        status::inf_error { detail, status, reserved, message }
        runtime::inf_runtime_params {
            struct_size, n_threads, host_driven, thread_priority, cpu_mask, host_memory_limit, spin_us, log_level, log, log_user, thread, thread_user, options_json, options_len
        }
        runtime::inf_memory { struct_size, reserved, host, host_peak, host_left }
        runtime::inf_device_info { struct_size, kind, index, usable, memory_total, memory_free, id, name, reason }
        source::inf_source { struct_size, kind, name, path, data, native, size, offset, read_at, release, user, reserved_pointer }
        model::inf_model_params {
            struct_size, n_sources, sources, device, n_ctx_hint, kv_type, wake, wake_user, wake_tag, options_json, options_len
        }
        model::inf_plan { struct_size, fits, n_layers, n_ctx, weights_bytes, kv_bytes_per_token, kv_bytes, scratch_bytes, host_bytes, device_bytes, n_layers_on_device, reserved, device }
        model::inf_model_info {
            struct_size, n_vocab, n_ctx_max, n_embd, n_layers, capabilities, bos, eos, n_params, architecture, quantization, device
        }
        session::inf_session_params { struct_size, n_ctx, prefill_chunk, flags, overflow, n_keep, priority, reserved }
        session::inf_step { struct_size, state, token, prefill_done, prefill_total, logprob }
        generation::inf_generate_params {
            struct_size, max_tokens, text, text_len, messages_json, messages_len, tools_json, tools_len, options_json, options_len, stop_json, stop_len,
            sampler, draft, n_draft, queue_capacity, wake, wake_user, wake_tag, top_logprobs, reserved
        }
        generation::inf_event {
            struct_size, r#type, finish, status, text, text_len, tokens, n_tokens, error_text, error_len, n_done, n_total, prompt_tokens, cached_tokens,
            output_tokens, reserved, prefill_ms, decode_ms, logprobs_json, logprobs_len
        }
    }
}

/// The structs of the committed header: name and fields, in order.
fn declared() -> Vec<(String, Vec<String>)> {
    let header = fs::read_to_string(committed()).unwrap();
    let structs = header.split("\ntypedef struct ").skip(1).filter_map(|text| text.split_once(" {\n"));
    let field = |line: &str| {
        // What is indented further continues a comment.
        let declaration = line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split_once(';')?.0.split('[').next()?;
        Some(declaration.rsplit([' ', '*']).next()?.to_owned())
    };
    let whole = |(name, text): (&str, &str)| (name.to_owned(), text.split("\n}").next().unwrap_or("").lines().filter_map(field).collect());
    structs.filter(|(name, _)| !name.contains('\n')).map(whole).collect()
}

#[test]
fn c_and_rust_agree_on_every_offset() {
    let names = |layouts: &[Layout]| -> Vec<_> {
        layouts
            .iter()
            .map(|(name, _, fields)| (name.to_string(), fields.iter().map(|(field, _)| field.to_string()).collect::<Vec<_>>()))
            .collect()
    };
    assert_eq!(names(&layouts()), declared(), "the table in this test lists every struct and field of the header");
    let mut source = String::from("#include \"inference.h\"\n#define SAME(a, b) _Static_assert((a) == (b), #a)\n");
    for (name, size, fields) in layouts() {
        source += &format!("SAME(sizeof({name}), {size});\n");
        fields.iter().for_each(|(field, offset)| source += &format!("SAME(offsetof({name}, {field}), {offset});\n"));
    }
    compile("cc", &["-std=c11", "-fsyntax-only"], &source);
}

/// With no implicit holes, a struct has one layout whatever the alignment of 8-byte members: 8 on ARM, 4 on i386.
#[test]
#[cfg(target_arch = "x86_64")]
fn no_struct_has_a_hole_with_64_and_32_bit_pointers() {
    let mut source = String::from("#include \"inference.h\"\n#define SAME(a, b) _Static_assert((a) == (b), #a)\n");
    for (name, _, fields) in layouts() {
        let end = |field: &str| format!("offsetof({name}, {field}) + sizeof((({name} *)0)->{field})");
        fields.windows(2).for_each(|pair| source += &format!("SAME(offsetof({name}, {}), {});\n", pair[1].0, end(pair[0].0)));
        source += &format!("SAME(sizeof({name}), {});\n", end(fields.last().unwrap().0));
    }
    for target in [&["-m64"][..], &["-m32"], &["-m32", "-malign-double"]] {
        compile("cc", &[&["-std=c11", "-ffreestanding", "-fsyntax-only"], target].concat(), &source);
    }
}
