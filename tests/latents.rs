//! Attention over latents through the engine: what the cache holds, and that a context with latents is forked, saved, restored and shifted as any other.

mod common {
    pub mod golden_data;
    pub mod placements;
}

use common::golden_data::Golden;
use common::placements;
use inference::backend::BLOCK_TOKENS;
use inference::engine::{LoadConfig, Model, Overflow, Runtime, RuntimeConfig, Sampler, Session, SessionConfig};
use inference::error::ErrorKind;
use inference::formats::gguf::Gguf;
use inference::kernels::KvType;
use inference::model::{self, ModelSpec};
use std::sync::Arc;

/// Elements of a token and a layer in the golden models: the part that rotates, and the latent.
const ELEMENTS: usize = 6 + 22;
const LAYERS: usize = 3;

fn load(name: &str) -> (Golden, Arc<Model>) {
    let (golden, runtime) = (Golden::read(name), Runtime::new(RuntimeConfig::default()).unwrap());
    let model = Model::load(&runtime, &LoadConfig { paths: vec![golden.path.clone()], ..LoadConfig::default() }).unwrap();
    (golden, model)
}

fn greedy(session: &Session, n: usize) -> Vec<u32> {
    let mut greedy = Sampler::new(269);
    (0..n).map(|_| session.step(Some(&mut greedy), None, true).unwrap().token.unwrap()).collect()
}

#[test]
fn the_cache_holds_one_latent_for_all_heads() {
    for name in ["deepseek2-lite", "deepseek2", "deepseek3"] {
        let gguf = Gguf::open(&Golden::read(name).path).unwrap();
        let spec = ModelSpec::from_gguf(&gguf).unwrap();
        for (kind, bytes) in [(KvType::F32, 4), (KvType::F16, 2)] {
            for placement in [placements::cpu("scalar", 1), model::Placement::Candle] {
                let model = placements::load(&gguf, placement, kind);
                assert_eq!(model.kv_block_bytes(), (BLOCK_TOKENS * LAYERS * ELEMENTS * bytes) as u64, "{name}");
            }
        }
        let e = model::load(&gguf, spec, placements::cpu("scalar", 1), KvType::Q8_0).err().unwrap();
        assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("28"), "{e}");
    }
}

#[test]
fn forks_and_restored_sessions_go_on_alike() {
    let (golden, model) = load("deepseek3");
    let session = Session::new(&model, SessionConfig::default()).unwrap();
    session.append(&golden.prompt).unwrap();
    assert_eq!(greedy(&session, 4), golden.greedy[..4]);
    let fork = session.fork().unwrap();
    let restored = Session::new(&model, SessionConfig { no_shared_prefix: true, ..SessionConfig::default() }).unwrap();
    restored.restore(&session.save().unwrap()).unwrap();
    for session in [&session, &fork, &restored] {
        assert_eq!(greedy(session, 28), golden.greedy[4..]);
    }
}

#[test]
fn a_context_shifts_and_only_what_rotates_is_turned() {
    let (golden, model) = load("deepseek3");
    let shifted = |prompt: &[u32]| {
        let config =
            SessionConfig { n_ctx: 96, overflow: Overflow::Shift { n_keep: 0 }, no_shared_prefix: true, ..SessionConfig::default() };
        let session = Session::new(&model, config).unwrap();
        session.append(prompt).unwrap();
        let chosen = greedy(&session, 40);
        (chosen, session.tokens().unwrap())
    };
    let (chosen, text) = shifted(&golden.prompt);
    assert_eq!(chosen[..20], golden.greedy[..20], "until it is full");
    assert!(text.len() < golden.prompt.len() + 40 && text.ends_with(&chosen), "nothing was dropped");
    assert_eq!(shifted(&golden.prompt), (chosen, text));
}
