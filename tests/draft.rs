//! Guesses that are verified in one pass: what is said is the same, greedy or drawn, alone or beside others.

use inference::engine::{
    EventKind, GenerateParams, Generation, LoadConfig, Model, Prompt, Runtime, RuntimeConfig, Sampler, Session, SessionConfig, Stage, Wait,
};
use inference::error::ErrorKind;
use inference::sys::pool::PoolConfig;
use std::path::PathBuf;
use std::sync::Arc;

fn model() -> Arc<Model> {
    let pool = PoolConfig { n_threads: 2, ..PoolConfig::default() };
    let runtime = Runtime::new(RuntimeConfig { pool, ..RuntimeConfig::default() }).unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/demo.gguf");
    Model::load(&runtime, &LoadConfig { paths: vec![path], ..LoadConfig::default() }).unwrap()
}

fn params(model: &Model, text: &str, n_draft: u32, temperature: Option<f32>, max_tokens: u32) -> GenerateParams {
    let mut sampler = Sampler::new(model.info().n_vocab as usize);
    if let Some(t) = temperature {
        sampler.add(Stage::Temperature(t)).unwrap();
    }
    sampler.set_seed(3);
    let (stop, prompt) = (vec!["zzz".into()], Prompt::Text(text.into()));
    GenerateParams { prompt, max_tokens, stop, sampler: Some(sampler), n_draft, ..GenerateParams::default() }
}

/// What a generation says, and what its session holds then, with the logits that follow.
fn outcome((session, generation): &(Arc<Session>, Arc<Generation>)) -> (String, Vec<u32>, Vec<f32>) {
    let mut text = String::new();
    loop {
        let event = generation.next(Wait::Forever).unwrap();
        if event.kind == EventKind::Done {
            break;
        }
        text += &event.text;
    }
    session.step(None, None, true).unwrap();
    (text, session.tokens().unwrap(), session.with_logits(<[f32]>::to_vec).unwrap())
}

fn start(model: &Arc<Model>, config: SessionConfig, params: GenerateParams) -> (Arc<Session>, Arc<Generation>) {
    let session = Session::new(model, config).unwrap();
    let generation = Generation::start(&session, params).unwrap();
    (session, generation)
}

#[test]
fn guesses_change_nothing() {
    let model = model();
    let repeated = "The smith sells a sword and a shield. ".repeat(6);
    for text in [repeated.as_str(), "Hello!", "a b a b a b a b a b a"] {
        for temperature in [None, Some(0.4), Some(1.2)] {
            for max_tokens in [1, 2, 7, 80] {
                let alone = |n| outcome(&start(&model, SessionConfig::default(), params(&model, text, n, temperature, max_tokens)));
                let expected = alone(0);
                assert_eq!(alone(16), expected, "{text:?}, {temperature:?}, {max_tokens}");
                assert_eq!(alone(1), expected, "{text:?}, {temperature:?}, {max_tokens}");
            }
        }
    }
}

#[test]
fn guesses_stop_at_the_end_of_the_context_and_beside_others() {
    let model = model();
    let text = "one two one two one two one two one two one two";
    let config = SessionConfig { n_ctx: 64, ..SessionConfig::default() };
    let run = |n_draft| {
        let running: Vec<_> = (0..5).map(|_| start(&model, config, params(&model, text, n_draft, None, 0))).collect();
        running
            .iter()
            .map(|(s, g)| {
                while g.next(Wait::Forever).unwrap().kind != EventKind::Done {}
                s.tokens().unwrap()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(16), run(0));
    let session = Session::new(&model, config).unwrap();
    let refused = Generation::start(&session, params(&model, text, 17, None, 1));
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::InvalidArgument);
}
