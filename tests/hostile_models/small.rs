//! Small models that are valid, as lists of keys and tensors that can be changed and written.

use crate::random::Random;
use inference::dtype::DType;
use inference::formats::gguf::{Gguf, GgufWriter, Strings, Value};
use inference::sys::file::MemorySource;
use std::sync::Arc;

/// A tensor of a file.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub dtype: DType,
    /// ggml's order: the contiguous dimension first.
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// A file in parts.
#[derive(Clone, Default)]
pub struct Parts {
    pub keys: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
}

impl Parts {
    /// The parts of a valid file.
    pub fn read(bytes: Vec<u8>) -> Self {
        let gguf = Gguf::from_source(Arc::new(MemorySource::new(bytes))).unwrap();
        let tensor = |t: &inference::formats::gguf::TensorInfo| Tensor {
            name: t.name().to_owned(),
            dtype: t.dtype().unwrap(),
            shape: t.shape().to_vec(),
            data: gguf.load(t).unwrap().as_slice().to_vec(),
        };
        Self {
            keys: gguf.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect(),
            tensors: gguf.tensors().map(tensor).collect(),
        }
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        for (key, value) in &self.keys {
            writer.set(key, value.clone()).unwrap();
        }
        for tensor in &self.tensors {
            writer.tensor(&tensor.name, tensor.dtype, &tensor.shape, &tensor.data).unwrap();
        }
        writer.to_bytes().unwrap()
    }

    /// The same with `key` set to `value`, or without it.
    pub fn with(&self, key: &str, value: Option<Value>) -> Self {
        let mut changed = self.clone();
        changed.set(key, value);
        changed
    }

    pub fn set(&mut self, key: &str, value: Option<Value>) {
        let at = self.keys.iter().position(|(other, _)| other == key);
        match (at, value) {
            (Some(at), Some(value)) => self.keys[at].1 = value,
            (Some(at), None) => drop(self.keys.remove(at)),
            (None, Some(value)) => self.keys.push((key.to_owned(), value)),
            (None, None) => {}
        }
    }

    /// `general.architecture`, which begins the names of its keys.
    pub fn architecture(&self) -> &str {
        let (_, value) = self.keys.iter().find(|(key, _)| key == "general.architecture").unwrap();
        value.as_str().unwrap()
    }
}

/// What a model is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub n_layers: usize,
    pub n_embd: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub n_ff: usize,
}

/// A vocabulary.
pub struct Vocabulary {
    pub keys: Vec<(&'static str, Value)>,
    pub n_tokens: usize,
}

const SPM_TOKENS: [&str; 13] = ["<unk>", "<s>", "</s>", "<0x0A>", "▁", "a", "b", "c", "ab", "▁ab", "abc", "▁abc", "ba"];
const SPM_TYPES: [i32; 13] = [2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1, 1, 1];
const BPE_TOKENS: [&str; 12] = ["<|end|>", "a", "b", "c", "Ġ", "Ċ", "ab", "abc", "Ġa", "Ġab", "ba", "<tool>"];
const BPE_TYPES: [i32; 12] = [3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4];

/// SentencePiece, merged by score.
pub fn spm() -> Vocabulary {
    let scores: Vec<f32> = (0..SPM_TOKENS.len()).map(|i| -(i as f32)).collect();
    let keys = vec![
        ("model", "llama".into()),
        ("tokens", Strings::collect(SPM_TOKENS).unwrap().into()),
        ("scores", scores.into()),
        ("token_type", SPM_TYPES.to_vec().into()),
        ("bos_token_id", 1u32.into()),
        ("eos_token_id", 2u32.into()),
        ("unknown_token_id", 0u32.into()),
        ("add_bos_token", true.into()),
        ("add_space_prefix", true.into()),
    ];
    Vocabulary { keys, n_tokens: SPM_TOKENS.len() }
}

/// Byte-level BPE, merged by rank.
pub fn bpe() -> Vocabulary {
    let keys = vec![
        ("model", "gpt2".into()),
        ("pre", "qwen2".into()),
        ("tokens", Strings::collect(BPE_TOKENS).unwrap().into()),
        ("merges", Strings::collect(["a b", "ab c", "Ġ a", "Ġa b", "b a"]).unwrap().into()),
        ("token_type", BPE_TYPES.to_vec().into()),
        ("eos_token_id", 0u32.into()),
        ("add_bos_token", false.into()),
    ];
    Vocabulary { keys, n_tokens: BPE_TOKENS.len() }
}

/// A model of `architecture` with random weights.
pub fn build(architecture: &str, sizes: Sizes, dtype: DType, vocabulary: Vocabulary) -> Parts {
    let mut parts = Parts::default();
    parts.set("general.architecture", Some(architecture.into()));
    let numbers = [
        ("block_count", sizes.n_layers),
        ("context_length", 64),
        ("embedding_length", sizes.n_embd),
        ("feed_forward_length", sizes.n_ff),
        ("attention.head_count", sizes.n_heads),
        ("attention.head_count_kv", sizes.n_kv_heads),
        ("attention.key_length", sizes.head_dim),
        ("attention.value_length", sizes.head_dim),
    ];
    for (key, n) in numbers {
        parts.set(&format!("{architecture}.{key}"), Some((n as u32).into()));
    }
    parts.set(&format!("{architecture}.attention.layer_norm_rms_epsilon"), Some(1e-5f32.into()));
    for (key, value) in vocabulary.keys {
        parts.set(&format!("tokenizer.ggml.{key}"), Some(value));
    }
    add_tensors(&mut parts, architecture, sizes, dtype, vocabulary.n_tokens);
    parts
}

fn add_tensors(parts: &mut Parts, architecture: &str, sizes: Sizes, dtype: DType, n_vocab: usize) {
    let Sizes { n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff } = sizes;
    let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
    let mut random = Random(7);
    let mut add = |name: String, dtype, shape: &[usize]| {
        let data = weights(dtype, shape, &mut random);
        parts.tensors.push(Tensor { name, dtype, shape: shape.to_vec(), data });
    };
    add("token_embd.weight".into(), dtype, &[n_embd, n_vocab]);
    for i in 0..n_layers {
        let mut layer = |name: &str, dtype, shape: &[usize]| add(format!("blk.{i}.{name}"), dtype, shape);
        layer("attn_norm.weight", DType::F32, &[n_embd]);
        layer("ffn_norm.weight", DType::F32, &[n_embd]);
        for (name, n_rows, n_cols) in [("attn_q", q, n_embd), ("attn_k", kv, n_embd), ("attn_v", kv, n_embd), ("attn_output", n_embd, q)] {
            layer(&format!("{name}.weight"), dtype, &[n_cols, n_rows]);
            if architecture == "qwen2" && name != "attn_output" {
                layer(&format!("{name}.bias"), DType::F32, &[n_rows]);
            }
        }
        for (name, n_rows, n_cols) in [("ffn_gate", n_ff, n_embd), ("ffn_up", n_ff, n_embd), ("ffn_down", n_embd, n_ff)] {
            layer(&format!("{name}.weight"), dtype, &[n_cols, n_rows]);
        }
    }
    add("output_norm.weight".into(), DType::F32, &[n_embd]);
}

/// Small numbers; a quantised block is made of bits with an exponent in the middle, so that its scale is finite.
pub fn weights(dtype: DType, shape: &[usize], random: &mut Random) -> Vec<u8> {
    let n: usize = shape.iter().product();
    match dtype {
        DType::F32 => (0..n).flat_map(|_| (0.5 * random.unit()).to_le_bytes()).collect(),
        _ => vec![0x11; n / dtype.block_len() * dtype.block_bytes()],
    }
}

/// The small models that sweeps start from, with the length of each header.
pub fn seeds() -> Vec<(&'static str, Parts)> {
    let spm_sizes = Sizes { n_layers: 1, n_embd: 6, n_heads: 3, n_kv_heads: 1, head_dim: 2, n_ff: 5 };
    let bpe_sizes = Sizes { n_layers: 1, n_embd: 32, n_heads: 2, n_kv_heads: 2, head_dim: 16, n_ff: 32 };
    vec![("spm", build("llama", spm_sizes, DType::F32, spm())), ("bpe", build("qwen2", bpe_sizes, DType::Q8_0, bpe()))]
}

/// A golden model of this project.
pub fn golden(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/golden/{name}.gguf", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Every golden model.
pub const GOLDEN: [&str; 4] = ["llama-3.1", "llama-tied", "qwen2", "qwen3"];
