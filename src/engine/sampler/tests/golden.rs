//! What each stage, and chains of them, leave of logits, against `transformers` and llama.cpp (`tools/golden/samplers.py`).

use super::*;
use serde_json::Value;

/// Probabilities are compared within this: theirs are made in float32.
const TOLERANCE: f64 = 2e-6;

/// Less is as good as nothing, there and here.
const LEAST: f64 = 1e-12;

fn data() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/samplers.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// `["top_k", 40]`
fn stage(parts: &Value) -> Stage {
    let number = |i: usize| parts[i].as_f64().unwrap() as f32;
    let count = |i: usize| u32::try_from(parts[i].as_i64().unwrap()).unwrap_or(u32::MAX);
    match parts[0].as_str().unwrap() {
        "temperature" => Stage::Temperature(number(1)),
        "dynamic_temperature" => Stage::DynamicTemperature { min: number(1), max: number(2), exponent: number(3) },
        "top_k" => Stage::TopK(count(1)),
        "top_p" => Stage::TopP(number(1)),
        "min_p" => Stage::MinP(number(1)),
        "typical_p" => Stage::TypicalP(number(1)),
        "top_n_sigma" => Stage::TopNSigma(number(1)),
        "xtc" => Stage::Xtc { probability: number(1), threshold: number(2) },
        "mirostat" => Stage::Mirostat { tau: number(1), eta: number(2) },
        "penalties" => Stage::Penalties { last_n: count(1), repeat: number(2), frequency: number(3), presence: number(4) },
        "dry" => Stage::Dry { multiplier: number(1), base: number(2), allowed_len: count(3), last_n: count(4), breakers: Arc::default() },
        "bias" => {
            let entry = |pair: &Value| (pair[0].as_u64().unwrap() as Token, pair[1].as_f64().map_or(f32::NEG_INFINITY, |bias| bias as f32));
            Stage::LogitBias(Arc::new(parts.as_array().unwrap()[1..].iter().map(entry).collect()))
        }
        other => panic!("{other}"),
    }
}

/// The tokens that are left, in order, with their probabilities.
fn left(logits: &[f32], history: &Value, stages: &Value) -> Vec<(Token, f64)> {
    let mut s = Sampler::new(logits.len());
    stages.as_array().unwrap().iter().for_each(|parts| s.add(stage(parts)).unwrap());
    s.set_seed(1);
    history.as_array().unwrap().iter().for_each(|token| s.accept(token.as_u64().unwrap() as Token).unwrap());
    s.candidates.fill(logits, None);
    for stage in &s.stages {
        stage.apply(&mut s.candidates, &s.recent, &mut s.random, &mut s.mu);
    }
    (0..logits.len() as Token).map(|id| (id, s.candidates.probability(id))).filter(|(_, p)| *p > LEAST).collect()
}

#[test]
fn stages_leave_what_others_leave() {
    let data = data();
    let cases = data["cases"].as_array().unwrap();
    let floats = |row: &Value| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect::<Vec<_>>();
    for case in cases {
        let what = format!("{}: {} on logits {}", case["by"], case["stages"], case["logits"]);
        let ours = left(&floats(&data["logits"][case["logits"].as_u64().unwrap() as usize]), &case["history"], &case["stages"]);
        let kept: Vec<u64> = ours.iter().map(|(id, _)| u64::from(*id)).collect();
        assert_eq!(Value::from(kept), case["kept"], "{what}");
        for ((id, p), theirs) in ours.iter().zip(case["probabilities"].as_array().unwrap()) {
            assert!((p - theirs.as_f64().unwrap()).abs() < TOLERANCE, "{what}: token {id} has {p}, {theirs} there");
        }
    }
    assert!(cases.len() > 150);
}
