//! candle-transformers reads the same model files: an implementation that shares no line with ours. It, our decoder on candle, and
//! what our fixtures say (`transformers` for the golden data, numpy for `reference.json`) must all agree.
//!
//! Left out: `llama-3.1`, whose `rope_freqs.weight` candle-transformers ignores.

#[path = "common/fixtures.rs"]
mod fixtures;

use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};
use fixtures::fixture;
use inference::backend::BLOCK_TOKENS;
use inference::backend::candle::{Candle, Precision};
use inference::formats::gguf::Gguf;
use inference::kernels::KvType;
use inference::model::{Decoder, Forward as _, ModelSpec, Progress};
use inference::sys::job;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the issue asks of any two implementations in `f32`.
const TOLERANCE: f32 = 1e-4;

/// A model with its own KV cache: `(tokens, position of the first)` -> logits of the last, `(n_vocab,)`.
type Forward = Box<dyn FnMut(&[u32], usize) -> Vec<f32>>;

/// The model in the GGUF file `path` as both implementations run it, each with an empty cache.
fn both(path: &Path, precision: Precision) -> [(&'static str, Forward); 2] {
    [("candle-transformers", theirs(path)), ("our decoder", ours(path, precision))]
}

/// Our decoder on candle, one sequence with `f32` KV.
fn ours(path: &Path, precision: Precision) -> Forward {
    const N_BLOCKS: usize = 6; // room for the longest case here: 101 + 32 tokens
    let gguf = Gguf::open(path).unwrap();
    let spec = ModelSpec::from_gguf(&gguf).unwrap();
    let n_vocab = spec.n_vocab;
    let decoder = Arc::new(job::run(Decoder::load(&gguf, spec, Candle::cpu(precision), KvType::F32)).unwrap());
    decoder.grow_kv(N_BLOCKS).unwrap();
    let mut pass = decoder.new_pass(1, 1).unwrap();
    Box::new(move |tokens, start| {
        let n_blocks = (start + tokens.len()).div_ceil(BLOCK_TOKENS);
        let table: Vec<u32> = (0..n_blocks as u32).map(|i| (i + 2) % N_BLOCKS as u32).collect();
        pass.begin(&mut |batch| batch.push(tokens, start, &table, true)).unwrap();
        while pass.advance().unwrap() == Progress::Running {}
        let mut logits = vec![0.0; n_vocab];
        pass.logits(0, &mut logits).unwrap();
        logits
    })
}

/// The model of candle-transformers.
fn theirs(path: &Path) -> Forward {
    let mut file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut content = gguf_file::Content::read(&mut file).unwrap();
    let family = content.metadata["general.architecture"].to_string().unwrap().clone();
    fill_in_defaults(&mut content, &family);
    macro_rules! forward {
        ($family:ident) => {{
            let mut model = $family::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
            Box::new(move |tokens, start| {
                let tokens = Tensor::from_slice(tokens, (1, tokens.len()), &Device::Cpu).unwrap();
                let logits = model.forward(&tokens, start).unwrap(); // (1, n_vocab)
                logits.flatten_all().unwrap().to_vec1().unwrap()
            })
        }};
    }
    match family.as_str() {
        "llama" => forward!(quantized_llama),
        "qwen2" => forward!(quantized_qwen2),
        "qwen3" => forward!(quantized_qwen3),
        other => panic!("{}: no model for {other}", path.display()),
    }
}

/// Writes out what a file may leave out: every head has its own keys, and rotates as a whole. candle-transformers insists on both,
/// and without the third entry its Qwen3 computes rotary angles in `f16`.
fn fill_in_defaults(content: &mut gguf_file::Content, family: &str) {
    let number = |key: &str| content.metadata[&format!("{family}.{key}")].to_u32().unwrap();
    let n_heads = number("attention.head_count");
    let defaults = [("attention.head_count_kv", n_heads), ("rope.dimension_count", number("embedding_length") / n_heads)];
    content.metadata.insert("general.dtype".into(), gguf_file::Value::U32(0)); // f32
    for (key, value) in defaults {
        content.metadata.entry(format!("{family}.{key}")).or_insert(gguf_file::Value::U32(value));
    }
}

fn best(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

/// The `n` ids that follow a prompt of `n_prompt` tokens, whose last logits are `logits`, when the best one is always chosen.
fn continue_greedily(model: &mut Forward, mut logits: Vec<f32>, n_prompt: usize, n: usize) -> Vec<u32> {
    let step = |i| {
        let id = best(&logits);
        logits = model(&[id], n_prompt + i);
        id
    };
    (0..n).map(step).collect()
}

fn assert_close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: number of logits");
    // Not `f32::max`, which drops a NaN.
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap();
    assert!(worst <= TOLERANCE, "{what}: logits differ by {worst}");
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn stories_equal_the_numpy_reference() {
    let Some(folder) = fixture("stories260K") else { return };
    for case in read_json(&folder.join("reference.json"))["cases"].as_array().unwrap() {
        let (prompt, greedy) = (ids(&case["prompt_ids"]), ids(&case["greedy_ids"]));
        let want: Vec<f32> = case["first_logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        for kind in ["F32", "F16", "BF16"] {
            for (name, mut model) in both(&folder.join(format!("stories260K-{kind}.gguf")), Precision::Float) {
                let what = format!("{name}, {kind}, {}", case["prompt"]);
                let first = model(&prompt, 0);
                if kind == "F32" {
                    assert_close(&what, &first, &want);
                }
                assert_eq!(continue_greedily(&mut model, first, prompt.len(), greedy.len()), greedy, "{what}");
            }
        }
    }
}

#[test]
fn quantized_stories_give_the_same_logits() {
    let Some(folder) = fixture("stories260K") else { return };
    for kind in ["Q8_0", "Q4_0"] {
        let [(_, mut theirs), (_, mut ours)] = both(&folder.join(format!("stories260K-{kind}.gguf")), Precision::Quantized);
        let mut id = 1; // the beginning of a sequence
        for position in 0..64 {
            let logits = theirs(&[id], position);
            assert_close(&format!("{kind}, position {position}"), &ours(&[id], position), &logits);
            id = best(&logits);
        }
    }
}

#[test]
fn golden_models_equal_transformers_at_every_position() {
    for name in ["llama-tied", "qwen2", "qwen3"] {
        let stem = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name);
        let reference = read_json(&stem.with_extension("json"));
        let (prompt, greedy) = (ids(&reference["prompt"]), ids(&reference["greedy"]));
        let bytes = std::fs::read(stem.with_extension("logits")).unwrap();
        let want: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(); // (prompt, n_vocab)
        for (whose, mut model) in both(&stem.with_extension("gguf"), Precision::Float) {
            let mut last = Vec::new();
            for (i, (id, want)) in prompt.iter().zip(want.chunks(want.len() / prompt.len())).enumerate() {
                last = model(&[*id], i);
                assert_close(&format!("{whose}, {name}, position {i}"), &last, want);
            }
            assert_eq!(continue_greedily(&mut model, last, prompt.len(), greedy.len()), greedy, "{whose}, {name}");
        }
    }
}
