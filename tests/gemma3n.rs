//! Gemma 3n in the whole engine: layers that share keys and values, an embedding for each layer, several residual streams.

mod common {
    pub mod golden_data;
    pub mod hf_directory;
    pub mod lanes;
    pub mod placements;
    pub mod random;
}

use common::golden_data::Golden;
use common::hf_directory::HfDirectory;
use common::lanes::prefill;
use common::placements;
use common::random::Random;
use inference::backend::BLOCK_TOKENS;
use inference::dtype::DType;
use inference::engine::{LoadConfig, Model, Overflow, Runtime, RuntimeConfig, Sampler, Session, SessionConfig};
use inference::error::ErrorKind;
use inference::formats::gguf::{Array, Gguf, GgufWriter, Value};
use inference::kernels::KvType;
use inference::model::{self, ModelSpec, Quantization, Topology};
use inference::sys::file::MemorySource;
use inference::sys::pool::PoolConfig;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn runtime() -> Arc<Runtime> {
    let pool = PoolConfig { n_threads: 2, ..PoolConfig::default() };
    Runtime::new(RuntimeConfig { pool, ..RuntimeConfig::default() }).unwrap()
}

fn of(path: &Path) -> LoadConfig {
    LoadConfig { paths: vec![path.to_owned()], ..LoadConfig::default() }
}

fn golden_model() -> Arc<Model> {
    Model::load(&runtime(), &of(&Golden::read("gemma3n").path)).unwrap()
}

fn tokens(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i + 13 * i + seed * 101) % 269).collect()
}

/// `n` greedy tokens behind what `session` holds, and the logits that follow.
fn go_on(session: &Session, n: usize) -> (Vec<u32>, Vec<f32>) {
    let mut greedy = Sampler::new(session.model().n_vocab());
    let chosen = (0..n).map(|_| session.step(Some(&mut greedy), None, true).unwrap().token.unwrap()).collect();
    session.step(None, None, true).unwrap();
    (chosen, session.with_logits(<[f32]>::to_vec).unwrap())
}

fn session(model: &Arc<Model>, no_shared_prefix: bool) -> Arc<Session> {
    Session::new(model, SessionConfig { no_shared_prefix, ..SessionConfig::default() }).unwrap()
}

#[test]
fn only_layers_with_their_own_keys_have_storage() {
    let gguf = Gguf::open(Golden::read("gemma3n").path).unwrap();
    let spec = ModelSpec::from_gguf(&gguf).unwrap();
    let places: Vec<(usize, usize)> = spec.layers.iter().map(|layer| (layer.kv.layer, layer.kv.index)).collect();
    assert_eq!(places, [(0, 0), (1, 1), (2, 2), (3, 3), (2, 2), (2, 2), (3, 3)]);
    let model = golden_model();
    let (info, usage) = (model.info().clone(), model.kv_usage());
    // Four layers of two heads of ten keys and values in f16.
    assert_eq!((info.n_layers, usage.block_bytes), (7, (4 * 2 * 10 * 2 * 2 * BLOCK_TOKENS) as u64));
}

#[test]
fn forks_prefixes_truncation_and_saved_states_go_on_with_the_same_bits() {
    let model = golden_model();
    for n in [1, 31, 33, 100] {
        let prompt = tokens(n, 1);
        let alone = session(&model, true);
        alone.append(&prompt).unwrap();
        let expected = go_on(&alone, 40);
        let parent = session(&model, false);
        parent.append(&prompt).unwrap();
        let queued = parent.fork().unwrap();
        parent.step(None, None, true).unwrap();
        let computed = parent.fork().unwrap();
        let state = parent.save().unwrap();
        assert_eq!(go_on(&parent, 40), expected, "{n}");
        assert_eq!(go_on(&queued, 40), expected, "{n}, forked before it was computed");
        assert_eq!(go_on(&computed, 40), expected, "{n}, forked");
        // Behind the last token of the prompt: what follows is computed anew.
        computed.truncate(n as u32 - 1).unwrap();
        computed.append(&prompt[n - 1..]).unwrap();
        assert_eq!(go_on(&computed, 40), expected, "{n}, truncated");
        let restored = session(&model, true);
        restored.restore(&state).unwrap();
        assert_eq!(go_on(&restored, 40), expected, "{n}, restored");
        let second = session(&model, false);
        second.append(&prompt).unwrap();
        assert_eq!(go_on(&second, 40), expected, "{n}, sharing what others computed");
    }
}

#[test]
fn a_directory_computes_what_the_gguf_file_does_and_goes_on_as_transformers_do() {
    let golden = Golden::read("gemma3n");
    let directory = HfDirectory::golden(&golden.path).open(DType::F32).unwrap();
    let own = model::load(&directory, directory.spec().clone(), placements::cpu("scalar", 1), KvType::F32).unwrap();
    let gguf = placements::load(&Gguf::open(&golden.path).unwrap(), placements::cpu("scalar", 1), KvType::F32);
    assert_eq!(prefill(&own, &golden.prompt, 7), prefill(&gguf, &golden.prompt, golden.prompt.len()));
    let session = session(&golden_model(), true);
    session.append(&golden.prompt).unwrap();
    assert_eq!(go_on(&session, golden.greedy.len()).0, golden.greedy);
}

#[test]
fn a_shift_is_refused_by_name() {
    let model = golden_model();
    let config = SessionConfig { n_ctx: 128, overflow: Overflow::Shift { n_keep: 4 }, ..SessionConfig::default() };
    let refused = Session::new(&model, config).and_then(|session| {
        session.append(&tokens(120, 2))?;
        let mut greedy = Sampler::new(session.model().n_vocab());
        (0..20).try_for_each(|_| session.step(Some(&mut greedy), None, true).map(|_| ()))
    });
    let e = refused.unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("gemma3n"), "{e}");
}

#[test]
fn an_estimate_is_what_the_load_takes() {
    let (golden, runtime) = (Golden::read("gemma3n"), runtime());
    let plan = Model::estimate(&runtime, &of(&golden.path)).unwrap();
    let before = runtime.memory().now();
    let model = Model::load(&runtime, &of(&golden.path)).unwrap();
    assert_eq!(runtime.memory().now() - before, plan.weights_bytes);
    assert_eq!((plan.n_layers, plan.kv_bytes_per_token), (7, model.kv_usage().block_bytes / BLOCK_TOKENS as u64));
}

/// The golden file with `change` made to its keys and tensors.
fn changed(change: impl Fn(&mut Vec<(String, Value)>, &mut Vec<(String, Vec<usize>, Vec<u8>)>)) -> Gguf {
    let gguf = Gguf::open(Golden::read("gemma3n").path).unwrap();
    let mut keys: Vec<_> = gguf.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    let tensor =
        |t: &inference::formats::gguf::TensorInfo| (t.name().to_owned(), t.shape().to_vec(), gguf.load(t).unwrap().as_slice().to_vec());
    let mut tensors: Vec<_> = gguf.tensors().map(tensor).collect();
    change(&mut keys, &mut tensors);
    let mut writer = GgufWriter::new();
    keys.into_iter().for_each(|(key, value)| writer.set(&key, value).unwrap());
    tensors.into_iter().for_each(|(name, shape, bytes)| writer.tensor(&name, DType::F32, &shape, bytes).unwrap());
    Gguf::from_source(Arc::new(MemorySource::new(writer.to_bytes().unwrap()))).unwrap()
}

fn logits(gguf: &Gguf) -> inference::error::Result<Vec<f32>> {
    let forward = model::load(gguf, ModelSpec::from_gguf(gguf)?, placements::cpu("scalar", 1), KvType::F32)?;
    Ok(prefill(&forward, &tokens(40, 3), 40))
}

#[test]
fn projections_that_a_sharing_layer_does_not_need_are_passed_over() {
    let plain = logits(&changed(|_, _| ())).unwrap();
    let with = |names: &'static [&str]| {
        changed(move |_, tensors| {
            for name in names {
                let (_, shape, bytes) =
                    tensors.iter().find(|(own, ..)| own == &name.replace("blk.5", "blk.2").replace("blk.4", "blk.2")).unwrap();
                let bytes = bytes.iter().map(|byte| byte ^ 0x15).collect();
                tensors.push(((*name).to_owned(), shape.clone(), bytes));
            }
        })
    };
    let gguf = with(&["blk.4.attn_k.weight", "blk.4.attn_v.weight", "blk.4.attn_k_norm.weight", "blk.5.attn_v.weight"]);
    assert_eq!(logits(&gguf).unwrap(), plain);
    // Where nothing is shared, every layer needs its own.
    let own = changed(|keys, _| set(keys, "gemma3n.attention.shared_kv_layers", Some(0_u32.into())));
    assert!(logits(&own).unwrap_err().message().contains("blk.4.attn_k.weight is missing"));
}

fn set(keys: &mut Vec<(String, Value)>, key: &str, value: Option<Value>) {
    keys.retain(|(own, _)| own != key);
    keys.extend(value.map(|value| (key.to_owned(), value)));
}

#[test]
fn keys_as_the_first_files_wrote_them_mean_the_same() {
    let plain = logits(&changed(|_, _| ())).unwrap();
    let float = changed(|keys, _| set(keys, "gemma3n.attention.shared_kv_layers", Some(3.0_f32.into())));
    assert_eq!(logits(&float).unwrap(), plain);
    let signed = vec![36_i32, 36, 29, 36, 41, 36, 36];
    let signed = changed(move |keys, _| set(keys, "gemma3n.feed_forward_length", Some(signed.clone().into())));
    assert_eq!(logits(&signed).unwrap(), plain);
}

/// Every key of the architecture, missing and wrong in every way: an error that names it or a tensor, or a model that computes.
#[test]
fn every_key_with_every_wrong_value_is_named_or_computes() {
    let names: Vec<String> =
        changed(|_, _| ()).metadata().iter().map(|(key, _)| key.to_owned()).filter(|key| key.starts_with("gemma3n.")).collect();
    let numbers: [Value; 8] = [
        0_u32.into(),
        u32::MAX.into(),
        (-1_i32).into(),
        0.5_f32.into(),
        (-1.0_f32).into(),
        1e30_f32.into(),
        f32::NAN.into(),
        u64::MAX.into(),
    ];
    let others: [Value; 8] = [
        "text".into(),
        true.into(),
        Vec::<f32>::new().into(),
        vec![0.5_f32; 7].into(),
        vec![f32::NAN; 7].into(),
        vec![-1_i32; 7].into(),
        vec![u32::MAX; 7].into(),
        Value::Array(Array::Bool(vec![false; 7])),
    ];
    let wrongs: Vec<Option<Value>> = numbers.into_iter().chain(others).map(Some).chain([None]).collect();
    let (mut n_refused, mut complaints) = (0, Vec::new());
    for key in &names {
        for wrong in &wrongs {
            let gguf = changed(|keys, _| set(keys, key, wrong.clone()));
            let Err(e) = logits(&gguf) else { continue };
            n_refused += 1;
            let of_a_kind = matches!(e.kind(), ErrorKind::Format | ErrorKind::Unsupported);
            let relative = [
                "head_count",
                "embedding_length",
                "feed_forward_length",
                "key_length",
                "value_length",
                "shared_kv_layers",
                "blk.",
                ".weight",
            ];
            if !of_a_kind || !(e.message().contains(key) || relative.iter().any(|part| e.message().contains(part))) {
                complaints.push(format!("{key} = {wrong:?}: {e}"));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(names.len() > 15 && n_refused > 10 * names.len(), "{n_refused} of {} keys", names.len());
}

/// A folder of one test, empty at first.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A random model of four layers whose rows are whole blocks of every type.
fn large() -> HfDirectory {
    let (n_embd, n_ff, n_kv, n_layers, n_per_layer, n_vocab, rank) = (256, 512, 64, 4, 64, 300, 32);
    let mut random = Random(11);
    let mut tensor = |name: String, shape: &[usize], gain: f32| {
        let width = (*shape.last().unwrap() as f32).sqrt();
        let is_norm = shape.len() == 1;
        let values =
            (0..shape.iter().product()).map(|_| if is_norm { 1.0 + 0.1 * random.unit() } else { 2.0 * gain * random.unit() / width });
        (name, shape.to_vec(), values.collect())
    };
    let mut tensors = vec![
        tensor("model.embed_tokens.weight".into(), &[n_vocab, n_embd], 1.0 / 16.0),
        tensor("model.embed_tokens_per_layer.weight".into(), &[n_vocab - 10, n_layers * n_per_layer], 1.0),
        tensor("model.per_layer_model_projection.weight".into(), &[n_layers * n_per_layer, n_embd], 1.0),
        tensor("model.per_layer_projection_norm.weight".into(), &[n_per_layer], 1.0),
        tensor("model.norm.weight".into(), &[n_embd], 1.0),
    ];
    for i in 0..3 {
        tensors.push(tensor(format!("model.altup_projections.{i}.weight"), &[n_embd, n_embd], 1.0));
        tensors.push(tensor(format!("model.altup_unembed_projections.{i}.weight"), &[n_embd, n_embd], 1.0));
    }
    for i in 0..n_layers {
        let mut part = |name: &str, shape: &[usize], gain| tensors.push(tensor(format!("model.layers.{i}.{name}"), shape, gain));
        for norm in
            ["input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm", "altup.router_norm"]
        {
            part(&format!("{norm}.weight"), &[n_embd], 1.0);
        }
        part("laurel.post_laurel_norm.weight", &[n_embd], 1.0);
        part("post_per_layer_input_norm.weight", &[n_embd], 1.0);
        part("altup.correct_output_scale", &[n_embd], 1.0);
        part("altup.correction_coefs.weight", &[4, 4], 0.5);
        part("altup.prediction_coefs.weight", &[16, 4], 0.5);
        part("altup.modality_router.weight", &[4, n_embd], n_embd as f32);
        part("laurel.linear_left.weight", &[rank, n_embd], 1.0);
        part("laurel.linear_right.weight", &[n_embd, rank], 1.0);
        part("per_layer_input_gate.weight", &[n_per_layer, n_embd], 1.0);
        part("per_layer_projection.weight", &[n_embd, n_per_layer], 1.0);
        part("self_attn.q_proj.weight", &[n_embd, n_embd], 1.0);
        part("self_attn.q_norm.weight", &[32], 1.0);
        part("self_attn.o_proj.weight", &[n_embd, n_embd], 1.0);
        part("mlp.gate_proj.weight", &[n_ff, n_embd], 1.0);
        part("mlp.up_proj.weight", &[n_ff, n_embd], 1.0);
        part("mlp.down_proj.weight", &[n_embd, n_ff], 1.0);
        if i < 2 {
            part("self_attn.k_proj.weight", &[n_kv, n_embd], 1.0);
            part("self_attn.v_proj.weight", &[n_kv, n_embd], 1.0);
            part("self_attn.k_norm.weight", &[32], 1.0);
        }
    }
    let config = json!({
        "architectures": ["Gemma3nForCausalLM"], "hidden_size": n_embd, "intermediate_size": n_ff, "num_hidden_layers": n_layers,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512, "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"], "sliding_window": 24, "laurel_rank": rank,
        "hidden_size_per_layer_input": n_per_layer, "vocab_size_per_layer_input": n_vocab - 10, "activation_sparsity_pattern": [0.8, 0.0, 0.8, 0.0],
    });
    HfDirectory { config, tensors }
}

/// The mean of KL(p || q) in nats over rows of `n_vocab` logits.
fn divergence(p: &[f32], q: &[f32], n_vocab: usize) -> f64 {
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let most = row.iter().fold(f32::MIN, |a, b| a.max(*b));
        let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
        row.iter().map(|x| f64::from(x - most) - sum.ln()).collect()
    };
    let rows = p.chunks(n_vocab).zip(q.chunks(n_vocab));
    let kl = |(p, q): (&[f32], &[f32])| log_softmax(p).iter().zip(log_softmax(q)).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
    rows.map(kl).sum::<f64>() / (p.len() / n_vocab) as f64
}

#[test]
fn quantised_at_load_the_tables_stay_rows_and_what_is_saved_is_the_same_model() {
    let folder = Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gemma3n-{}", std::process::id())));
    large().write(&folder.0.join("hf"), DType::F32, 2);
    let runtime = runtime();
    let load = |quantize: Option<&str>| {
        let quantization = Quantization::new(quantize, &Topology::default()).unwrap();
        let config = LoadConfig { quantization, kv: Some(KvType::F32), ..of(&folder.0.join("hf")) };
        let (plan, before) = (Model::estimate(&runtime, &config).unwrap(), runtime.memory().now());
        let model = Model::load(&runtime, &config).unwrap();
        assert_eq!(runtime.memory().now() - before, plan.weights_bytes, "{quantize:?}");
        model
    };
    let mut random = Random(5);
    let prompt: Vec<u32> = (0..60).map(|_| random.below(300)).collect();
    let all_logits = |model: &Arc<Model>| {
        let session = session(model, true);
        let row = |&token: &u32| {
            session.append(&[token]).unwrap();
            session.step(None, None, true).unwrap();
            session.with_logits(<[f32]>::to_vec).unwrap()
        };
        prompt.iter().flat_map(row).collect::<Vec<f32>>()
    };
    let float = all_logits(&load(None));
    for (name, dtype, most) in [("q8_0", DType::Q8_0, 1e-3), ("q4_k", DType::Q4_K, 0.3)] {
        let model = load(Some(name));
        let quantised = all_logits(&model);
        let kl = divergence(&float, &quantised, model.n_vocab());
        assert!(kl > 0.0 && kl < most, "{name}: {kl}");
        let saved = folder.0.join(format!("{name}.gguf"));
        model.save_gguf(&saved).unwrap();
        let gguf = Gguf::open(&saved).unwrap();
        let dtype_of = |name: &str| gguf.tensor(name).unwrap().dtype().unwrap();
        assert_eq!([dtype_of("per_layer_token_embd.weight"), dtype_of("blk.1.inp_gate.weight")], [dtype; 2]);
        assert_eq!(
            [dtype_of("altup_proj.weight"), dtype_of("blk.0.laurel_l.weight"), dtype_of("blk.0.altup_router.weight")],
            [DType::F32; 3]
        );
        assert!(gguf.tensor("blk.2.attn_k.weight").is_none() && gguf.tensor("altup_unembd_proj.weight").unwrap().shape() == [256, 256, 3]);
        let again = Model::load(&runtime, &LoadConfig { kv: Some(KvType::F32), ..of(&saved) }).unwrap();
        assert_eq!(all_logits(&again), quantised, "{name}");
    }
}
