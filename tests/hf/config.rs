//! Every key of every family's config.json, missing and wrong in every way: an error that names it, or a model that computes.

use super::common::golden_data::Golden;
use super::common::hf_directory::HfDirectory;
use super::{MODELS, logits};
use inference::dtype::DType;
use inference::error::{Error, ErrorKind};
use inference::formats::config_json::ConfigJson;
use inference::formats::safetensors::Safetensors;
use inference::model::HfModel;
use inference::sys::file::MemorySource;
use serde_json::{Value, json};
use std::sync::Arc;

/// What a key is set to; `None` removes it.
fn wrongs() -> Vec<Option<Value>> {
    let numbers = [json!(0), json!(-1), json!(1u64 << 62), json!(1e30), json!(-1e30), json!(0.5)];
    let others = [json!(null), json!("text"), json!(""), json!(true), json!([]), json!([-1, 1e30]), json!({}), json!({ "type": "x" })];
    numbers.into_iter().chain(others).map(Some).chain([None]).collect()
}

/// A model whose configuration is to be changed.
struct Original {
    config: Value,
    weights: Arc<Vec<u8>>,
    /// Its blueprint, as text.
    spec: String,
}

impl Original {
    fn new(name: &str) -> Self {
        let directory = HfDirectory::golden(&Golden::read(name).path);
        let weights = Arc::new(directory.safetensors(DType::F32));
        let spec = format!("{:?}", directory.open(DType::F32).unwrap().spec());
        Self { config: directory.config, weights, spec }
    }

    /// The model with another configuration; the logits are computed where the blueprint is another one.
    fn run(&self, config: &Value) -> inference::error::Result<()> {
        let weights = Safetensors::new(vec![Arc::new(MemorySource::new(Bytes(self.weights.clone())))])?;
        let model = HfModel::new(&ConfigJson::parse(config.to_string().as_bytes())?, weights)?;
        if format!("{:?}", model.spec()) != self.spec {
            assert!(!try_logits(&model)?.is_empty());
        }
        Ok(())
    }
}

/// Shared bytes.
struct Bytes(Arc<Vec<u8>>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What is wrong with the answer: an error must say which key is wrong, or name the tensor that a size contradicts.
fn complaint(what: &str, key: &str, original: &Original, config: &Value) -> Option<String> {
    let e = original.run(config).err()?;
    let of_a_kind = matches!(e.kind(), ErrorKind::Format | ErrorKind::Unsupported);
    let names_it = e.message().contains(key) || e.message().contains("weight") || e.message().contains("bias") || is_relative(key, &e);
    (!of_a_kind || !names_it).then(|| format!("{what}: {e}"))
}

/// Sizes that contradict each other are told by one of them.
fn is_relative(key: &str, e: &Error) -> bool {
    let others = [
        "num_attention_heads",
        "hidden_size",
        "partial_rotary_factor",
        "intermediate_size",
        "num_key_value_heads",
        "head_dim",
        "layer_types",
        "num_kv_shared_layers",
        "activation_sparsity_pattern",
        "vocab_size_per_layer_input",
    ];
    let of_experts = ["moe_layers", "topk_group", "sliding_window"];
    let also = ["model_type", "long_factor", "original_max_position_embeddings", "max_position_embeddings", "attention_factor"];
    !key.is_empty() && others.iter().chain(&also).chain(&of_experts).any(|other| e.message().contains(other))
}

fn try_logits(model: &HfModel) -> inference::error::Result<Vec<f32>> {
    let placement = super::common::placements::cpu("scalar", 1);
    inference::model::load(model, model.spec().clone(), placement, inference::kernels::KvType::F32)?;
    Ok(logits(model, &[3, 4, 5]))
}

#[test]
fn every_key_of_every_family_with_every_wrong_value() {
    let mut complaints = Vec::new();
    for name in MODELS {
        let original = Original::new(name);
        let keys: Vec<String> = original.config.as_object().unwrap().keys().cloned().collect();
        for key in &keys {
            for wrong in wrongs() {
                let what = format!("{name}: {key} = {wrong:?}");
                let mut changed = original.config.clone();
                set(&mut changed, key, wrong);
                complaints.extend(complaint(&what, key, &original, &changed));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_key_of_every_rope_with_every_wrong_value() {
    let mut complaints = Vec::new();
    for name in ["llama-3.1", "qwen3-yarn", "gemma3", "gemma3n", "phi3-long", "glm4", "olmo3", "gpt-oss", "deepseek3"] {
        let original = Original::new(name);
        for (path, key) in rope_keys(&original.config) {
            for wrong in wrongs() {
                let what = format!("{name}: {path}/{key} = {wrong:?}");
                let mut changed = original.config.clone();
                set(changed.pointer_mut(&path).unwrap(), &key, wrong);
                complaints.extend(complaint(&what, &key, &original, &changed));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// Where ropes are described, and the keys there.
fn rope_keys(config: &Value) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    for path in ["/rope_parameters", "/rope_parameters/full_attention", "/rope_parameters/sliding_attention"] {
        let object = config.pointer(path).and_then(Value::as_object);
        keys.extend(object.into_iter().flat_map(|object| object.keys()).map(|key| (path.to_owned(), key.clone())));
    }
    assert!(!keys.is_empty());
    keys
}

fn set(object: &mut Value, key: &str, value: Option<Value>) {
    let object = object.as_object_mut().unwrap();
    match value {
        Some(value) => object.insert(key.to_owned(), value),
        None => object.remove(key),
    };
}

#[test]
fn what_is_not_supported_is_named() {
    let directory = HfDirectory::golden(&Golden::read("llama-3.1").path);
    let refused = |changes: Value| {
        let mut changed = directory.clone();
        changes.as_object().unwrap().iter().for_each(|(key, value)| set(&mut changed.config, key, Some(value.clone())));
        let e = changed.open(DType::F32).err().unwrap_or_else(|| panic!("{changes} is taken"));
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        e.message().to_owned()
    };
    assert!(refused(json!({ "architectures": ["MambaForCausalLM"] })).contains("\"MambaForCausalLM\""));
    assert!(refused(json!({ "architectures": ["LlamaForSequenceClassification"] })).contains("LlamaForSequenceClassification"));
    assert!(refused(json!({ "architectures": null, "model_type": "bert" })).contains("model_type \"bert\""));
    assert!(refused(json!({ "vision_config": {} })).contains("vision_config"));
    assert!(refused(json!({ "quantization_config": { "quant_method": "gptq" } })).contains("\"gptq\""));
    assert!(refused(json!({ "quantization_config": { "quant_method": "mxfp4" } })).contains("\"mxfp4\""));
    assert!(refused(json!({ "hidden_act": "relu" })).contains("hidden_act: \"relu\""));
    assert!(refused(json!({ "rope_scaling": { "rope_type": "dynamic", "factor": 2.0 } })).contains("rope_scaling.rope_type: \"dynamic\""));
}

#[test]
fn tensors_that_are_missing_wrong_or_unknown_are_named() {
    let directory = HfDirectory::golden(&Golden::read("phi2").path);
    let at = directory.tensors.iter().position(|(name, ..)| name == "model.layers.1.mlp.fc1.weight").unwrap();
    let says = |directory: &HfDirectory, parts: &[&str]| {
        let e = directory.open(DType::F32).and_then(|model| try_logits(&model)).unwrap_err();
        assert!(parts.iter().all(|part| e.message().contains(part)), "{e}");
    };
    let mut changed = directory.clone();
    changed.tensors.remove(at);
    says(&changed, &["model.layers.1.mlp.fc1.weight is missing"]);
    let mut changed = directory.clone();
    changed.tensors[at].1 = vec![12, 108];
    says(&changed, &["model.layers.1.mlp.fc1.weight: shape"]);
    let mut changed = directory.clone();
    changed.tensors[at].0 = "model.layers.1.mlp.fc9.weight".into();
    says(&changed, &["\"model.layers.1.mlp.fc9.weight\"", "PhiForCausalLM"]);
    let mut changed = directory.clone();
    changed.tensors[at].0 = "model.layers.9.mlp.fc1.weight".into();
    says(&changed, &["model.layers.1.mlp.fc1.weight is missing"]);
    let mut changed = directory;
    changed.tensors.push(("model.layers.9.mlp.fc1.weight".into(), vec![2, 2], vec![0.0; 4]));
    says(&changed, &["model.layers.9.mlp.fc1.weight", "no such tensor"]);
}

#[test]
fn experts_that_are_missing_too_many_or_unlike_are_named() {
    let directory = HfDirectory::golden(&Golden::read("mixtral").path);
    let name = "model.layers.1.block_sparse_moe.experts.3.w3.weight";
    let at = directory.tensors.iter().position(|(other, ..)| other == name).unwrap();
    let says = |directory: &HfDirectory, parts: &[&str]| {
        let e = directory.open(DType::F32).err().unwrap();
        assert!(e.kind() == ErrorKind::Format && parts.iter().all(|part| e.message().contains(part)), "{e}");
    };
    let mut changed = directory.clone();
    changed.tensors.remove(at);
    says(&changed, &["expert 3 is missing", "block_sparse_moe.experts.0.w3.weight"]);
    let mut changed = directory.clone();
    changed.tensors[at].0 = name.replace(".3.", ".5.");
    says(&changed, &["expert 5 of 5"]);
    let mut changed = directory;
    changed.tensors[at].1.reverse();
    says(&changed, &[name, "shape"]);
}

#[test]
fn what_would_change_a_mixture_is_refused_by_its_key() {
    let cases = [
        ("qwen3moe", "mlp_only_layers", json!([1])),
        ("qwen2moe", "hidden_act", json!("gelu")),
        ("olmoe", "clip_qkv", json!(8.0)),
        ("phimoe", "router_jitter_noise", json!(0.1)),
        ("gpt-oss", "swiglu_limit", json!(5.0)),
        ("llama4", "moe_layers", json!([0, 1])),
        ("llama4", "use_qk_norm", json!(false)),
        ("deepseek2", "norm_topk_prob", json!(true)),
        ("deepseek2", "topk_method", json!("noaux_tc")),
        ("deepseek3", "scoring_func", json!("softmax")),
        ("deepseek3", "rope_interleave", json!(false)),
    ];
    for (name, key, value) in cases {
        let mut directory = HfDirectory::golden(&Golden::read(name).path);
        set(&mut directory.config, key, Some(value));
        let e = directory.open(DType::F32).err().unwrap_or_else(|| panic!("{name}: {key} is taken"));
        assert!(e.kind() == ErrorKind::Unsupported && e.message().contains(key), "{name}: {e}");
    }
}
