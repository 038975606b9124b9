//! Hugging Face directories: every family against `transformers` and against its GGUF file, hostile configurations, whole loads.

mod common {
    pub mod golden_data;
    pub mod hf_directory;
    pub mod lanes;
    pub mod placements;
}

#[path = "hf/config.rs"]
mod config;
#[path = "hf/loads.rs"]
mod loads;
#[path = "hf/mxfp4.rs"]
mod mxfp4;

use common::golden_data::Golden;
use common::hf_directory::HfDirectory;
use common::lanes::prefill;
use common::placements;
use inference::dtype::DType;
use inference::formats::gguf::{Gguf, GgufWriter};
use inference::kernels::KvType;
use inference::model::{self, Checkpoint as _, HfModel};
use inference::sys::file::MemorySource;
use serde_json::{Value, json};
use std::sync::Arc;

/// Largest difference of a logit to `transformers`, as for GGUF.
const TOLERANCE: f32 = 1e-4;

/// Largest difference of a logit to the same model in GGUF.
const BETWEEN_FORMATS: f32 = 1e-5;

/// The golden models.
const MODELS: [&str; 30] = [
    "llama-tied",
    "llama-3.1",
    "qwen2",
    "qwen3",
    "qwen3-yarn",
    "mistral",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3n",
    "phi3",
    "phi3-long",
    "smollm3",
    "olmo2",
    "olmo3",
    "granite",
    "starcoder2",
    "phi2",
    "glm4",
    "mixtral",
    "qwen2moe",
    "qwen3moe",
    "olmoe",
    "granitemoe",
    "phimoe",
    "gpt-oss",
    "llama4",
    "deepseek2-lite",
    "deepseek2",
    "deepseek3",
];

/// The logits at every position of the prompt.
fn logits(model: &HfModel, prompt: &[u32]) -> Vec<f32> {
    let forward = model::load(model, model.spec().clone(), placements::cpu("scalar", 2), KvType::F32).unwrap();
    prefill(&forward, prompt, prompt.len())
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap()
}

#[test]
fn every_family_computes_what_transformers_does() {
    for name in MODELS {
        let golden = Golden::read(name);
        let ours = logits(&HfDirectory::golden(&golden.path).open(DType::F32).unwrap(), &golden.prompt);
        let theirs = std::fs::read(golden.path.with_extension("logits")).unwrap();
        let theirs: Vec<f32> = theirs.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let scale = theirs.iter().fold(1.0, |scale: f32, x| scale.max(x.abs()));
        let error = worst(&ours, &theirs);
        assert!(error <= TOLERANCE * scale, "{name}: logits differ by {error}");
        let gguf = placements::load(&Gguf::open(&golden.path).unwrap(), placements::cpu("scalar", 2), KvType::F32);
        let error = worst(&ours, &prefill(&gguf, &golden.prompt, golden.prompt.len()));
        assert!(error <= BETWEEN_FORMATS, "{name}: formats differ by {error}");
    }
}

/// The tensors of `model` in a GGUF file with its metadata: what saving would write, with the public writer.
fn as_gguf(model: &HfModel) -> Gguf {
    let mut writer = GgufWriter::new();
    for (key, value) in model.metadata().iter() {
        writer.set(key, value.clone()).unwrap();
    }
    for tensor in model.tensors() {
        let mut bytes = vec![0; tensor.n_bytes().unwrap()];
        model.read_range(tensor, 0, &mut bytes).unwrap();
        writer.tensor(tensor.name(), tensor.dtype().unwrap(), tensor.shape(), bytes).unwrap();
    }
    Gguf::from_source(Arc::new(MemorySource::new(writer.to_bytes().unwrap()))).unwrap()
}

#[test]
fn metadata_and_tensors_are_those_of_the_same_model_in_gguf() {
    for name in MODELS {
        let golden = Golden::read(name);
        let model = HfDirectory::golden(&golden.path).open(DType::F32).unwrap();
        let gguf = placements::load(&as_gguf(&model), placements::cpu("scalar", 2), KvType::F32);
        assert_eq!(logits(&model, &golden.prompt), prefill(&gguf, &golden.prompt, golden.prompt.len()), "{name}");
        assert_eq!(format!("{:?}", gguf.spec()), format!("{:?}", model.spec()), "{name}");
    }
}

#[test]
fn half_precision_weights_are_read_as_they_are() {
    for dtype in [DType::BF16, DType::F16] {
        for name in ["gemma", "llama-3.1"] {
            let golden = Golden::read(name);
            let mut directory = HfDirectory::golden(&golden.path);
            let ours = logits(&directory.open(dtype).unwrap(), &golden.prompt);
            let round =
                |x: &mut f32| *x = if dtype == DType::F16 { half::f16::from_f32(*x).to_f32() } else { half::bf16::from_f32(*x).to_f32() };
            directory.tensors.iter_mut().flat_map(|(.., values)| values).for_each(round);
            // The same numbers in another storage type: kernels widen them exactly.
            assert!(worst(&ours, &logits(&directory.open(DType::F32).unwrap(), &golden.prompt)) <= BETWEEN_FORMATS, "{name} {dtype:?}");
        }
    }
}

/// The keys as `transformers` 4 wrote them.
fn with_old_rope(config: &Value) -> Value {
    let mut old = config.clone();
    let object = old.as_object_mut().unwrap();
    let Some(Value::Object(mut rope)) = object.remove("rope_parameters") else { panic!("a golden model without rope_parameters") };
    if let Some(Value::Object(full)) = rope.remove("full_attention") {
        object.insert("rope_local_base_freq".into(), rope["sliding_attention"]["rope_theta"].clone());
        rope = full;
    }
    for key in ["rope_theta", "partial_rotary_factor"] {
        if let Some(value) = rope.remove(key) {
            object.insert(key.into(), value);
        }
    }
    let kind = rope.remove("rope_type").unwrap();
    rope.insert("type".into(), kind.clone());
    object.insert("rope_scaling".into(), if kind == "default" { Value::Null } else { rope.into() });
    old
}

#[test]
fn older_files_say_the_same_with_other_keys() {
    for name in MODELS {
        let directory = HfDirectory::golden(&Golden::read(name).path);
        let old = HfDirectory { config: with_old_rope(&directory.config), ..directory.clone() };
        let spec = |directory: &HfDirectory| {
            let model = directory.open(DType::F32).unwrap();
            let mut bytes = [0; 8];
            let factors = model.tensor("rope_freqs.weight").map(|t| model.read_range(t, 0, &mut bytes));
            format!("{:?} {factors:?} {bytes:?}", model.spec())
        };
        assert_eq!(spec(&directory), spec(&old), "{name}");
    }
}

#[test]
fn a_tied_model_may_hold_its_head_twice_and_the_outer_flag_counts() {
    let golden = Golden::read("qwen2");
    let mut directory = HfDirectory::golden(&golden.path);
    let expected = logits(&directory.open(DType::F32).unwrap(), &golden.prompt);
    let (_, shape, values) = directory.tensors.iter().find(|(name, ..)| name == "model.embed_tokens.weight").unwrap().clone();
    directory.tensors.push(("lm_head.weight".into(), shape, values.iter().map(|x| -x).collect()));
    assert_eq!(logits(&directory.open(DType::F32).unwrap(), &golden.prompt), expected);
    let text = directory.config.clone();
    directory.config = json!({ "architectures": text["architectures"], "tie_word_embeddings": false, "text_config": text });
    let untied = logits(&directory.open(DType::F32).unwrap(), &golden.prompt);
    assert_eq!(untied, expected.iter().map(|x| -x).collect::<Vec<_>>());
}
