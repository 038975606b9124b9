//! Our decoder against `transformers`: random tiny models of every family, float32, on every backend and kernel set.

mod common {
    pub mod golden_data;
    pub mod lanes;
    pub mod placements;
}

use common::golden_data::Golden;
use common::lanes::{Lane, prefill, run};
use common::placements;
use inference::backend::BLOCK_TOKENS;
use inference::engine::{BackendKind, LoadConfig, Model, Runtime, RuntimeConfig, Sampler, Session, SessionConfig};
use inference::formats::gguf::Gguf;
use inference::kernels::{self, KvType};
use inference::model::{self, Forward, ModelSpec, Placement};
use std::sync::Arc;

/// Largest difference of a logit. The logits lie within +-10; two float32 implementations of these models differ by 2e-5.
const TOLERANCE: f32 = 1e-4;

#[test]
fn llama_with_a_tied_head_and_default_keys() {
    check("llama-tied");
}

#[test]
fn llama_with_rope_factors_and_grouped_queries() {
    check("llama-3.1");
}

#[test]
fn qwen2_with_biases() {
    check("qwen2");
}

#[test]
fn qwen3_with_head_norms() {
    check("qwen3");
}

#[test]
fn qwen3_stretched_by_yarn() {
    check("qwen3-yarn");
}

#[test]
fn mistral_with_a_window() {
    check("mistral");
}

#[test]
fn gemma_with_a_scaled_embedding() {
    check("gemma");
}

#[test]
fn gemma2_with_windows_caps_and_norms_around() {
    check("gemma2");
}

#[test]
fn gemma3_with_two_ropes() {
    check("gemma3");
}

#[test]
fn gemma3n_with_three_streams_and_shared_keys() {
    check("gemma3n");
}

#[test]
fn phi3_with_fused_projections() {
    check("phi3");
}

#[test]
fn phi3_with_long_factors() {
    check("phi3-long");
}

#[test]
fn smollm3_with_layers_that_do_not_rotate() {
    check("smollm3");
}

#[test]
fn olmo2_with_norms_behind() {
    check("olmo2");
}

#[test]
fn granite_with_scales() {
    check("granite");
}

#[test]
fn starcoder2_with_layer_norms_and_no_gate() {
    check("starcoder2");
}

#[test]
fn phi2_with_parallel_branches() {
    check("phi2");
}

#[test]
fn glm4_with_neighbours_that_rotate() {
    check("glm4");
}

#[test]
fn mixtral_with_two_of_five_experts() {
    check("mixtral");
}

#[test]
fn qwen2moe_with_a_gated_shared_expert() {
    check("qwen2moe");
}

#[test]
fn qwen3moe_with_weights_that_sum_to_one() {
    check("qwen3moe");
}

#[test]
fn olmoe_with_weights_as_they_are() {
    check("olmoe");
}

#[test]
fn granitemoe_with_a_shared_expert() {
    check("granitemoe");
}

#[test]
fn phimoe_with_a_sparse_mixer() {
    check("phimoe");
}

#[test]
fn gpt_oss_with_sinks_and_clamped_gates() {
    check("gpt-oss");
}

#[test]
fn llama4_with_chunks_and_layers_that_do_not_rotate() {
    check("llama4");
}

#[test]
fn olmo3_with_windows() {
    check("olmo3");
}

#[test]
fn deepseek2_lite_of_the_first_files() {
    check("deepseek2-lite");
}

#[test]
fn deepseek2_with_latents_and_groups_of_experts() {
    check("deepseek2");
}

#[test]
fn deepseek3_with_a_bias_that_chooses() {
    check("deepseek3");
}

fn check(name: &str) {
    let golden = Golden::read(name);
    let logits = read_logits(&golden);
    let gguf = Gguf::open(&golden.path).unwrap();
    check_logits(&golden, &logits, &placements::load(&gguf, Placement::Candle, KvType::F32), "candle");
    check_greedy(&golden, BackendKind::Candle, None);
    for kernels in kernels::available() {
        let model = placements::load(&gguf, placements::cpu(kernels, 2), KvType::F32);
        check_logits(&golden, &logits, &model, kernels);
        check_greedy(&golden, BackendKind::Cpu, Some(kernels));
    }
}

/// What `transformers` computes at every position: `(prompt.len(), n_vocab)`.
fn read_logits(golden: &Golden) -> Vec<f32> {
    let bytes = std::fs::read(golden.path.with_extension("logits")).unwrap();
    let (floats, rest) = bytes.as_chunks();
    assert!(rest.is_empty(), "the file is not whole floats");
    floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The logits at every position: in one pass, in chunks that straddle block borders, token by token, and beside a shorter sequence.
fn check_logits(golden: &Golden, expected: &[f32], model: &Arc<dyn Forward>, place: &str) {
    for chunk in [golden.prompt.len(), 48, 1] {
        let logits = prefill(model, &golden.prompt, chunk);
        assert_close(&logits, expected, &format!("{place}, {chunk} tokens at a time"));
    }
    let n = golden.prompt.len() / 2;
    model.grow_kv(2 * golden.prompt.len().div_ceil(BLOCK_TOKENS)).unwrap();
    let mut lanes = [Lane::new(&golden.prompt, 0, 2), Lane::new(&golden.prompt[..n], 1, 2)];
    run(model, &mut lanes, &[golden.prompt.len(), n]);
    assert_close(&lanes[0].logits, expected, &format!("{place}, first of two sequences"));
    assert_close(&lanes[1].logits, &expected[..lanes[1].logits.len()], &format!("{place}, second of two sequences"));
}

fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    // Not `f32::max`, which drops a NaN.
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap();
    assert!(worst <= TOLERANCE, "{what}: logits differ by {worst}");
}

/// The whole engine, from prompt to token by token, with the KV type that hosts get by default: the golden ids have no near ties, so its rounding changes none.
fn check_greedy(golden: &Golden, backend: BackendKind, kernels: Option<&str>) {
    let runtime = Runtime::new(RuntimeConfig { kernels: kernels.map(str::to_owned), ..RuntimeConfig::default() }).unwrap();
    let config = LoadConfig { paths: vec![golden.path.clone()], backend, ..LoadConfig::default() };
    let model = Model::load(&runtime, &config).unwrap();
    let session = Session::new(&model, SessionConfig::default()).unwrap();
    let mut greedy = Sampler::new(model.n_vocab());
    session.append(&golden.prompt).unwrap();
    let ids: Vec<u32> = golden.greedy.iter().map(|_| session.step(Some(&mut greedy), None, true).unwrap().token.unwrap()).collect();
    assert_eq!(ids, golden.greedy, "{backend:?} {kernels:?}");
}

/// Up to its original context a model with two sets of factors takes the short ones, and says so.
#[test]
fn phi3_in_a_short_context_takes_the_short_factors() {
    let golden = Golden::read("phi3-long");
    let logits = |n_ctx: usize| {
        let gguf = Gguf::open(&golden.path).unwrap();
        let spec = ModelSpec::from_gguf(&gguf).unwrap().for_context(n_ctx);
        assert_eq!(spec.n_ctx_max, if n_ctx > 32 { 512 } else { 32 });
        let forward = model::load(&gguf, spec, placements::cpu("scalar", 1), KvType::F32).unwrap();
        prefill(&forward, &golden.prompt[..8], 8)
    };
    assert_eq!(logits(33), logits(512));
    assert_ne!(logits(32), logits(33));
}
