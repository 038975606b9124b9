//! Quantisation at load and saving: what a model holds, in which types, and that a saved file is the model to the last bit.

mod common {
    pub mod golden_data;
    pub mod hf_directory;
    pub mod lanes;
    pub mod placements;
    pub mod random;
    pub mod random_gguf;
}

use common::golden_data::Golden;
use common::hf_directory::HfDirectory;
use common::lanes::prefill;
use common::random::Random;
use common::{placements, random_gguf};
use inference::dtype::DType;
use inference::engine::{BackendKind, LoadConfig, Model, Runtime, RuntimeConfig, Sampler, Session, SessionConfig};
use inference::error::ErrorKind;
use inference::formats::gguf::Gguf;
use inference::kernels::{self, KvType};
use inference::model::{Quantization, Topology};
use inference::sys::file::MemorySource;
use inference::sys::pool::PoolConfig;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of one test, empty at first.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("quantize-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A llama of two layers whose rows are whole blocks of every type, random.
fn llama() -> HfDirectory {
    let (n_embd, n_ff, n_kv, n_vocab) = (256, 512, 64, 300);
    let mut random = Random(7);
    let mut tensor = |name: &str, shape: &[usize]| {
        let n = shape.iter().product();
        let width = (*shape.last().unwrap() as f32).sqrt();
        let values = (0..n).map(|_| if shape.len() == 1 { 1.0 + 0.1 * random.unit() } else { 2.0 * random.unit() / width }).collect();
        (name.to_owned(), shape.to_vec(), values)
    };
    let mut tensors = vec![
        tensor("model.embed_tokens.weight", &[n_vocab, n_embd]),
        tensor("lm_head.weight", &[n_vocab, n_embd]),
        tensor("model.norm.weight", &[n_embd]),
    ];
    for i in 0..2 {
        for (name, shape) in [
            ("self_attn.q_proj", &[n_embd, n_embd][..]),
            ("self_attn.k_proj", &[n_kv, n_embd]),
            ("self_attn.v_proj", &[n_kv, n_embd]),
            ("self_attn.o_proj", &[n_embd, n_embd]),
            ("mlp.gate_proj", &[n_ff, n_embd]),
            ("mlp.up_proj", &[n_ff, n_embd]),
            ("mlp.down_proj", &[n_embd, n_ff]),
            ("input_layernorm", &[n_embd]),
            ("post_attention_layernorm", &[n_embd]),
        ] {
            tensors.push(tensor(&format!("model.layers.{i}.{name}.weight"), shape));
        }
    }
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": n_embd, "intermediate_size": n_ff, "num_hidden_layers": 2,
        "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
    });
    HfDirectory { config, tensors }
}

fn runtime(kernels: Option<&str>, n_threads: usize) -> Arc<Runtime> {
    let pool = PoolConfig { n_threads, ..PoolConfig::default() };
    Runtime::new(RuntimeConfig { pool, kernels: kernels.map(str::to_owned), ..RuntimeConfig::default() }).unwrap()
}

fn load(runtime: &Arc<Runtime>, path: &Path, quantization: Quantization) -> Arc<Model> {
    Model::load(runtime, &LoadConfig { paths: vec![path.to_owned()], quantization, ..LoadConfig::default() }).unwrap()
}

fn greedy(model: &Arc<Model>, prompt: &[u32]) -> Vec<u32> {
    let session = Session::new(model, SessionConfig::default()).unwrap();
    let mut greedy = Sampler::new(model.n_vocab());
    session.append(prompt).unwrap();
    (0..16).map(|_| session.step(Some(&mut greedy), None, true).unwrap().token.unwrap()).collect()
}

/// The logits of a file after every token of `prompt`.
fn logits(path: &Path, prompt: &[u32]) -> Vec<f32> {
    let forward = placements::load(&Gguf::open(path).unwrap(), placements::cpu("scalar", 1), KvType::F32);
    prefill(&forward, prompt, prompt.len())
}

#[test]
fn a_directory_is_held_and_saved_in_the_type_that_was_asked_for() {
    let folder = Folder::new("types");
    let directory = llama();
    directory.write(&folder.0.join("hf"), DType::BF16, 2);
    let types = [("q4_0", DType::Q4_0), ("q8_0", DType::Q8_0), ("q4_k", DType::Q4_K), ("q5_k", DType::Q5_K), ("q6_k", DType::Q6_K)];
    for (name, dtype) in types {
        let runtime = runtime(None, 2);
        let config = LoadConfig {
            paths: vec![folder.0.join("hf")],
            quantization: Quantization::new(Some(name), &Topology::default()).unwrap(),
            ..LoadConfig::default()
        };
        let (plan, before) = (Model::estimate(&runtime, &config).unwrap(), runtime.memory().now());
        let model = Model::load(&runtime, &config).unwrap();
        assert_eq!(runtime.memory().now() - before, plan.weights_bytes, "{name}");
        assert_eq!(model.info().quantization, dtype.name());
        let saved = folder.0.join(format!("{name}.gguf"));
        model.save_gguf(&saved).unwrap();
        check_bytes(&directory, &saved, dtype);
        let again = load(&runtime, &saved, Quantization::default());
        assert_eq!(again.info(), model.info());
        let mut random = Random(1);
        let prompt: Vec<u32> = (0..20).map(|_| random.below(300)).collect();
        assert_eq!(greedy(&again, &prompt), greedy(&model, &prompt), "{name}");
    }
}

/// Every matrix is what the encoder makes of the bf16 values, the head with six bits at least.
fn check_bytes(directory: &HfDirectory, saved: &Path, dtype: DType) {
    let gguf = Gguf::open(saved).unwrap();
    let head = if matches!(dtype, DType::Q4_0 | DType::Q4_K | DType::Q5_K) { DType::Q6_K } else { dtype };
    for (name, own, expected) in [
        ("output.weight", "lm_head.weight", head),
        ("token_embd.weight", "model.embed_tokens.weight", dtype),
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight", dtype),
    ] {
        let tensor = gguf.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Ok(expected), "{name}");
        let (_, shape, values) = directory.tensors.iter().find(|(name, ..)| name == own).unwrap();
        let values: Vec<f32> = values.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect();
        let mut bytes = vec![0; tensor.n_bytes().unwrap()];
        let row_bytes = expected.row_bytes(shape[1]).unwrap();
        bytes.chunks_mut(row_bytes).zip(values.chunks(shape[1])).for_each(|(out, x)| kernels::encode(expected, x, out));
        assert!(gguf.load(tensor).unwrap().as_slice() == bytes, "{name}");
    }
    assert_eq!(gguf.tensor("blk.0.attn_norm.weight").unwrap().dtype(), Ok(DType::F32));
}

#[test]
fn the_bytes_depend_on_neither_threads_nor_kernels() {
    let folder = Folder::new("same");
    llama().write(&folder.0.join("hf"), DType::F32, 1);
    let mut files = Vec::new();
    for kernels in kernels::available() {
        for n_threads in [1, 3] {
            let path = folder.0.join(format!("{kernels}-{n_threads}.gguf"));
            let rules = Quantization::new(Some("q4_k"), &Topology::default()).unwrap();
            load(&runtime(Some(kernels), n_threads), &folder.0.join("hf"), rules).save_gguf(&path).unwrap();
            files.push(std::fs::read(path).unwrap());
        }
    }
    assert!(files.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn rules_choose_by_layer_and_by_name_in_both_formats() {
    let folder = Folder::new("rules");
    llama().write(&folder.0.join("hf"), DType::F32, 1);
    let runtime = runtime(None, 1);
    load(&runtime, &folder.0.join("hf"), Quantization::default()).save_gguf(&folder.0.join("float.gguf")).unwrap();
    for source in ["hf", "float.gguf"] {
        let topology = json!([{ "layers": "1-2", "quantize": "q6_k" }, { "tensors": "attn_(k|v)", "quantize": "none" }]);
        let rules = Quantization::new(Some("q8_0"), &Topology::new(Some(&topology)).unwrap()).unwrap();
        let saved = folder.0.join("saved.gguf");
        load(&runtime, &folder.0.join(source), rules).save_gguf(&saved).unwrap();
        let gguf = Gguf::open(&saved).unwrap();
        let dtype = |name: &str| gguf.tensor(name).unwrap().dtype().unwrap();
        assert_eq!(dtype("blk.0.ffn_up.weight"), DType::Q8_0, "{source}");
        assert_eq!(dtype("blk.1.ffn_up.weight"), DType::Q6_K, "{source}");
        assert_eq!((dtype("blk.0.attn_k.weight"), dtype("blk.1.attn_v.weight")), (DType::F32, DType::F32), "{source}");
        assert_eq!(dtype("output.weight"), DType::Q8_0, "{source}");
    }
}

#[test]
fn every_type_is_given_back_as_it_was_by_every_kernel_set() {
    for dtype in DType::ALL {
        let gguf = Gguf::from_source(Arc::new(MemorySource::new(random_gguf::model(dtype)))).unwrap();
        for kernels in kernels::available() {
            let forward = placements::load(&gguf, placements::cpu(kernels, 2), KvType::F32);
            assert_eq!(forward.stored().len(), gguf.tensors().len());
            for (i, stored) in forward.stored().iter().enumerate() {
                let tensor = gguf.tensor(&stored.name).unwrap();
                assert_eq!((stored.dtype, &stored.shape[..]), (tensor.dtype().unwrap(), tensor.shape()), "{}", stored.name);
                let mut bytes = Vec::new();
                forward.write_stored(i, &mut bytes).unwrap();
                assert!(gguf.load(tensor).unwrap().as_slice() == bytes, "{dtype:?} {kernels} {}", stored.name);
            }
        }
    }
}

#[test]
fn a_saved_model_is_the_model() {
    let (folder, runtime) = (Folder::new("golden"), runtime(None, 2));
    for name in ["llama-3.1", "qwen2", "gemma3", "phi3-long", "phi2", "glm4", "gpt-oss", "deepseek2"] {
        let (golden, saved) = (Golden::read(name), folder.0.join("saved.gguf"));
        let model = load(&runtime, &golden.path, Quantization::default());
        assert_eq!(greedy(&model, &golden.prompt), golden.greedy[..16]);
        model.save_gguf(&saved).unwrap();
        assert_eq!(logits(&saved, &golden.prompt), logits(&golden.path, &golden.prompt), "{name}");
        let [old, new] = [&golden.path, &saved].map(|path| Gguf::open(path).unwrap());
        for tensor in old.tensors() {
            let same = new.tensor(tensor.name()).unwrap_or_else(|| panic!("{name}: {} is lost", tensor.name()));
            assert!(old.load(tensor).unwrap().as_slice() == new.load(same).unwrap().as_slice(), "{name}: {}", tensor.name());
        }
        for (key, value) in old.metadata().iter().filter(|(key, _)| !key.starts_with("general.")) {
            assert_eq!(new.metadata().get(key), Some(value), "{name}: {key}");
        }
    }
}

/// What was changed while a directory was read (norms plus 1, rows moved, factors computed) is saved as it was read.
#[test]
fn a_saved_directory_is_the_directory() {
    let (folder, runtime) = (Folder::new("directory"), runtime(None, 2));
    for name in ["gemma3", "llama-3.1", "phi3-long", "qwen3-yarn", "mixtral", "gpt-oss", "llama4", "deepseek3"] {
        let golden = Golden::read(name);
        let directory = HfDirectory::golden(&golden.path);
        let (hf, saved) = (folder.0.join(name), folder.0.join("saved.gguf"));
        directory.write(&hf, DType::F32, 1);
        load(&runtime, &hf, Quantization::default()).save_gguf(&saved).unwrap();
        let model = directory.open(DType::F32).unwrap();
        let forward = inference::model::load(&model, model.spec().clone(), placements::cpu("scalar", 1), KvType::F32).unwrap();
        assert_eq!(logits(&saved, &golden.prompt), prefill(&forward, &golden.prompt, golden.prompt.len()), "{name}");
        assert_eq!(greedy(&load(&runtime, &saved, Quantization::default()), &golden.prompt), golden.greedy[..16], "{name}");
    }
}

#[test]
fn what_cannot_be_saved_leaves_the_old_file() {
    let (folder, runtime, golden) = (Folder::new("failures"), runtime(None, 1), Golden::read("qwen2"));
    let path = folder.0.join("old.gguf");
    std::fs::write(&path, "old").unwrap();
    let config = LoadConfig { paths: vec![golden.path], ..LoadConfig::default() };
    let vocabulary = Model::load(&runtime, &LoadConfig { vocab_only: true, ..config.clone() }).unwrap();
    assert_eq!(vocabulary.save_gguf(&path).unwrap_err().kind(), ErrorKind::Unsupported);
    let candle = Model::load(&runtime, &LoadConfig { backend: BackendKind::Candle, ..config.clone() }).unwrap();
    assert_eq!(candle.save_gguf(&path).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "nothing else is left");
    let missing = folder.0.join("no/such.gguf");
    let e = Model::load(&runtime, &config).unwrap().save_gguf(&missing).unwrap_err();
    assert!(e.kind() == ErrorKind::Io && e.message().contains(missing.to_str().unwrap()), "{e}");
}
