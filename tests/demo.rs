//! The shipped model end to end: `models/demo.gguf` against what an independent reading of the file computed
//! (`tools/demo/expected.py`).

use inference::engine::{
    EventKind, Finish, GenerateParams, Generation, LoadConfig, Model, Prompt, Runtime, RuntimeConfig, Sampler, Session, SessionConfig, Wait,
};
use inference::kernels::{self, KvType};
use inference::text::EncodeOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the answers of the reference were limited to.
const LIMIT: u32 = 64;
/// The reference computes in float32; our kernels round activations to 8 bits, which moves logits by a few hundredths.
const CLEAR_MARGIN: f64 = 0.25;

struct Case {
    prompt: String,
    prompt_ids: Vec<u32>,
    /// The whole answer, the token that ends it included.
    text: String,
    /// By how much each token of the answer was ahead of the next best, at least.
    margin: f64,
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

fn cases() -> Vec<Case> {
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(models().join("demo.expected.json")).unwrap()).unwrap();
    let case = |case: &serde_json::Value| Case {
        prompt: case["prompt"].as_str().unwrap().to_owned(),
        prompt_ids: case["prompt_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect(),
        text: case["text"].as_str().unwrap().to_owned(),
        margin: case["margin"].as_f64().unwrap(),
    };
    json["chat"].as_array().unwrap().iter().map(case).collect()
}

fn load(kernels: &str) -> Arc<Model> {
    let runtime = Runtime::new(RuntimeConfig { kernels: Some(kernels.to_owned()), ..RuntimeConfig::default() }).unwrap();
    Model::load(&runtime, &LoadConfig { paths: vec![models().join("demo.gguf")], kv: Some(KvType::F32), ..LoadConfig::default() }).unwrap()
}

/// The answer to a rendered prompt, and whether the model ended it.
fn answer(model: &Arc<Model>, prompt: &str, sampler: Option<Sampler>) -> (String, bool) {
    let session = Session::new(model, SessionConfig::default()).unwrap();
    let ids = model.tokenizer().encode(prompt, EncodeOptions { add_special: true, parse_special: true }).unwrap();
    let params = GenerateParams { prompt: Prompt::Tokens(ids), max_tokens: LIMIT, sampler, ..GenerateParams::default() };
    let generation = Generation::start(&session, params).unwrap();
    let mut text = String::new();
    loop {
        let event = generation.next(Wait::Forever).unwrap();
        text += &event.text;
        if event.kind == EventKind::Done {
            return (text, event.finish == Some(Finish::EndOfGeneration));
        }
    }
}

#[test]
fn prompts_have_the_ids_of_the_reference() {
    let model = load("scalar");
    for case in cases() {
        let ids = model.tokenizer().encode(&case.prompt, EncodeOptions { add_special: true, parse_special: true }).unwrap();
        assert_eq!(ids, case.prompt_ids, "{:?}", case.prompt);
    }
}

#[test]
fn clear_answers_are_those_of_the_reference() {
    for kernels in kernels::available() {
        let model = load(kernels);
        let clear: Vec<Case> = cases().into_iter().filter(|case| case.margin >= CLEAR_MARGIN).collect();
        assert!(clear.len() >= 8, "only {} answers are clear", clear.len());
        for case in clear {
            let greedy = Sampler::new(model.n_vocab());
            assert_eq!(answer(&model, &case.prompt, Some(greedy)), (case.text, true), "{kernels}: {:?}", case.prompt);
        }
    }
}

/// What a host hears that brings no sampler: phrases vary, facts must not.
#[test]
fn the_recommended_sampler_keeps_to_the_facts() {
    let model = load(kernels::available()[0]);
    let price = cases().into_iter().find(|case| case.prompt.contains("How much is the dagger?")).unwrap();
    for _ in 0..20 {
        let (text, ended) = answer(&model, &price.prompt, None);
        assert!(ended && text.contains("12 gold"), "{text:?}");
    }
}
