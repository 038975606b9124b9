//! Tokens per second beside the `tokenizers` crate, on one thread, on the same text: `cargo bench --bench tokenizer [file]`.
//!
//! Rounds alternate between the two, and the medians are compared. Without a file the text is this project's source code.
#![expect(clippy::print_stdout, reason = "a benchmark reports what it measured")]

use inference::text::{DecodeOptions, EncodeOptions, Tokenizer};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const TEXT_BYTES: usize = 1 << 20;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = std::env::args().nth(1).filter(|arg| !arg.starts_with('-'));
    let text = file.map_or_else(|| sources(&root.join("src")), |path| std::fs::read_to_string(path).unwrap());
    let text: String = text.chars().cycle().take(TEXT_BYTES).collect();
    for folder in ["tokenizers/llama-bpe", "tokenizers/qwen2", "stories260K/hf"] {
        let path = root.join("../shared/fixtures").join(folder).join("tokenizer.json");
        match std::fs::read(&path) {
            Ok(json) => compare(folder, &json, &text),
            Err(e) => println!("skipped: {}: {e}", path.display()),
        }
    }
}

/// All Rust files below `folder`, in one string.
fn sources(folder: &Path) -> String {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &Path| if path.is_dir() { sources(path) } else { std::fs::read_to_string(path).unwrap() };
    paths.iter().map(|path| read(path)).collect()
}

fn compare(name: &str, json: &[u8], text: &str) {
    let options = EncodeOptions { add_special: true, parse_special: true };
    let (load_ours, ours) = timed(|| Tokenizer::from_json(json, None).unwrap());
    let (load_theirs, theirs) = timed(|| tokenizers::Tokenizer::from_bytes(json).unwrap());
    let (first, tokens) = timed(|| ours.encode(text, options).unwrap());
    assert_eq!(tokens, theirs.encode_fast(text, true).unwrap().get_ids(), "{name}: the two disagree");
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        times[0].push(timed(|| black_box(ours.encode(text, options).unwrap())).0);
        times[1].push(timed(|| black_box(theirs.encode_fast(text, true).unwrap())).0);
        times[2].push(timed(|| black_box(ours.decode(&tokens, DecodeOptions::default()).unwrap())).0);
    }
    let [encode, other, decode] = times.map(median);
    let per_second = |n: usize, time: Duration| n as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{name}: {} tokens; encode {:.2} Mtokens/s ({:.1} MB/s, first time {:.1}), tokenizers {:.2}: ratio {:.1}; \
         decode {:.1} Mtokens/s; load {:.0} ms, tokenizers {:.0} ms",
        tokens.len(),
        per_second(tokens.len(), encode),
        per_second(text.len(), encode),
        per_second(text.len(), first),
        per_second(tokens.len(), other),
        other.as_secs_f64() / encode.as_secs_f64(),
        per_second(tokens.len(), decode),
        load_ours.as_secs_f64() * 1e3,
        load_theirs.as_secs_f64() * 1e3,
    );
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
