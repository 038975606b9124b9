//! Guesses that are verified in one pass: what is said is the same, greedy or drawn, alone or beside others.

use inference::engine::{
    EventKind, GenerateParams, Generation, LoadConfig, Model, Prompt, Runtime, RuntimeConfig, Sampler, Session, SessionConfig, Stage, Wait,
};
use inference::error::ErrorKind;
use inference::kernels::KvType;
use inference::sys::pool::PoolConfig;
use std::path::PathBuf;
use std::sync::Arc;

fn runtime(host_driven: bool) -> Arc<Runtime> {
    let pool = PoolConfig { n_threads: if host_driven { 0 } else { 2 }, ..PoolConfig::default() };
    Runtime::new(RuntimeConfig { pool, host_driven, ..RuntimeConfig::default() }).unwrap()
}

fn load(runtime: &Arc<Runtime>, path: &str, config: LoadConfig) -> Arc<Model> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    Model::load(runtime, &LoadConfig { paths: vec![path], ..config }).unwrap()
}

fn model() -> Arc<Model> {
    load(&runtime(false), DEMO, LoadConfig::default())
}

const DEMO: &str = "models/demo.gguf";

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

/// The model itself, one that is a little off, and one that has no room for the text.
fn drafts(runtime: &Arc<Runtime>) -> Vec<Arc<Model>> {
    let off = LoadConfig { kv: Some(KvType::Q8_0), ..LoadConfig::default() };
    let tiny = LoadConfig { kv_bytes: 1, ..LoadConfig::default() };
    [LoadConfig::default(), off, tiny].into_iter().map(|config| load(runtime, DEMO, config)).collect()
}

#[test]
fn a_draft_model_changes_nothing() {
    for host_driven in [false, true] {
        let runtime = runtime(host_driven);
        let model = load(&runtime, DEMO, LoadConfig::default());
        let text = "The smith sells a sword. Once upon a time there";
        for draft in drafts(&runtime) {
            for (temperature, max_tokens, n_draft) in [(None, 1, 0), (None, 60, 0), (None, 60, 16), (Some(0.8), 60, 3)] {
                let plain = params(&model, text, 0, temperature, max_tokens);
                let drafted = GenerateParams { draft: Some(draft.clone()), n_draft, ..plain.clone() };
                let expected = outcome(&start(&model, SessionConfig::default(), plain));
                assert_eq!(
                    outcome(&start(&model, SessionConfig::default(), drafted)),
                    expected,
                    "{temperature:?}, {max_tokens}, {n_draft}"
                );
            }
        }
    }
}

/// Beside streams with and without guesses, prompts and cancels.
#[test]
fn many_with_drafts_say_what_they_say_alone() {
    let runtime = runtime(false);
    let model = load(&runtime, DEMO, LoadConfig::default());
    let drafts = drafts(&runtime);
    let ask = |i: usize| {
        let plain = params(&model, &format!("Character {i} says: hello. Character {i} says:"), 0, Some(0.7), 40);
        match i % 5 {
            3 => GenerateParams { n_draft: 4, ..plain },
            4 => plain,
            k => GenerateParams { draft: Some(drafts[k].clone()), ..plain },
        }
    };
    let expected: Vec<_> = (0..10)
        .map(|i| {
            outcome(&start(
                &model,
                SessionConfig::default(),
                params(&model, &format!("Character {i} says: hello. Character {i} says:"), 0, Some(0.7), 40),
            ))
        })
        .collect();
    let running: Vec<_> = (0..10).map(|i| start(&model, SessionConfig::default(), ask(i))).collect();
    let cancelled: Vec<_> = (0..5).map(|i| start(&model, SessionConfig::default(), ask(i))).collect();
    cancelled.iter().for_each(|(_, generation)| generation.cancel());
    for (running, expected) in running.iter().zip(&expected) {
        assert_eq!(&outcome(running), expected);
    }
}

#[test]
fn a_draft_model_of_another_vocabulary_or_runtime_is_refused() {
    let one = runtime(false);
    let model = load(&one, DEMO, LoadConfig::default());
    let session = Session::new(&model, SessionConfig::default()).unwrap();
    let ask = |draft| GenerateParams { draft: Some(draft), ..params(&model, "x", 0, None, 4) };
    let elsewhere = load(&runtime(false), DEMO, LoadConfig::default());
    assert_eq!(Generation::start(&session, ask(elsewhere)).err().unwrap().kind(), ErrorKind::InvalidArgument);
    let weightless = load(&one, DEMO, LoadConfig { vocab_only: true, ..LoadConfig::default() });
    assert_eq!(Generation::start(&session, ask(weightless)).err().unwrap().kind(), ErrorKind::Unsupported);
    let other = load(&one, "tests/data/golden/qwen2.gguf", LoadConfig::default());
    let generation = Generation::start(&session, ask(other)).unwrap();
    let done = loop {
        let event = generation.next(Wait::Forever).unwrap();
        if event.kind == EventKind::Done {
            break event;
        }
    };
    let error = done.error.unwrap();
    assert!(error.kind() == ErrorKind::InvalidArgument && error.message().contains("another vocabulary: its token"), "{error}");
}
