//! Who goes first when sessions compete, and that nobody stands still. The host drives, slice by slice, so that nothing depends on time.
#![cfg(target_os = "linux")]

use inference::engine::{
    Event, EventKind, GenerateParams, Generation, LoadConfig, Model, Prompt, Runtime, RuntimeConfig, Sampler, Session, SessionConfig, Wait,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A generation, and what it has told.
struct Told {
    session: Arc<Session>,
    generation: Arc<Generation>,
    tokens: Vec<u32>,
    /// Of its prompt, how many tokens are computed.
    n_done: u32,
    done: Option<Event>,
}

impl Told {
    fn look(&mut self) {
        loop {
            let event = self.generation.next(Wait::Poll).unwrap();
            match event.kind {
                EventKind::None => return,
                EventKind::Progress => self.n_done = event.n_done,
                _ => self.tokens.extend(&event.tokens),
            }
            if event.kind == EventKind::Done {
                self.done = Some(event);
                return;
            }
        }
    }

    fn has_begun(&self) -> bool {
        !self.tokens.is_empty() || self.done.is_some()
    }
}

fn model(n_blocks: u64) -> (Arc<Runtime>, Arc<Model>) {
    let runtime = Runtime::new(RuntimeConfig { host_driven: true, ..RuntimeConfig::default() }).unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/qwen2.gguf");
    let load = |kv_bytes| Model::load(&runtime, &LoadConfig { paths: vec![path.clone()], kv_bytes, ..LoadConfig::default() }).unwrap();
    let unlimited = load(0);
    let model = if n_blocks == 0 { unlimited } else { load(n_blocks * unlimited.kv_usage().block_bytes) };
    (runtime, model)
}

fn start(model: &Arc<Model>, priority: i32, seed: u32, n_prompt: u32, max_tokens: u32) -> Told {
    let session = Session::new(model, SessionConfig { priority, ..SessionConfig::default() }).unwrap();
    let prompt = Prompt::Tokens((0..n_prompt).map(|i| (i * i + seed * 101) % 250).collect());
    let sampler = Some(Sampler::new(model.info().n_vocab as usize));
    let params = GenerateParams { prompt, max_tokens, sampler, queue_capacity: 2000, ..GenerateParams::default() };
    let generation = Generation::start(&session, params).unwrap();
    Told { session, generation, tokens: Vec::new(), n_done: 0, done: None }
}

/// Slices until `enough`.
fn pump(runtime: &Runtime, told: &mut [Told], enough: impl Fn(&[Told]) -> bool) {
    for _ in 0..200_000 {
        told.iter_mut().for_each(Told::look);
        if enough(told) {
            return;
        }
        runtime.pump(Duration::ZERO).unwrap();
    }
    panic!("it does not come to this");
}

#[test]
fn a_prompt_of_higher_priority_overtakes_and_the_other_does_not_stand_still() {
    let (runtime, model) = model(0);
    let mut told = vec![start(&model, 0, 1, 300, 4), start(&model, 5, 2, 300, 4)];
    pump(&runtime, &mut told, |told| told[1].has_begun());
    assert!(!told[0].has_begun() && told[0].n_done > 0 && told[0].n_done < 150, "{} tokens meanwhile", told[0].n_done);
    pump(&runtime, &mut told, |told| told.iter().all(|t| t.done.is_some()));
    let expected = |seed| {
        let mut alone = vec![start(&model, 0, seed, 300, 4)];
        pump(&runtime, &mut alone, |alone| alone[0].done.is_some());
        alone.remove(0).tokens
    };
    assert_eq!([&told[0].tokens, &told[1].tokens], [&expected(1), &expected(2)]);
}

#[test]
fn equals_advance_alike() {
    let (runtime, model) = model(0);
    let mut told: Vec<_> = (0..4).map(|i| start(&model, 1, i, 200, 2)).collect();
    pump(&runtime, &mut told, |told| told[0].n_done >= 100);
    assert!(told.iter().all(|t| (60..=140).contains(&t.n_done)), "{:?}", told.iter().map(|t| t.n_done).collect::<Vec<_>>());
}

/// A slice of no time has one row, and the streams would take it for ever.
#[test]
fn streams_do_not_starve_a_prompt_however_short_the_slices() {
    let (runtime, model) = model(0);
    let mut told = vec![start(&model, 0, 1, 5, 800)];
    pump(&runtime, &mut told, |told| told[0].tokens.len() > 3);
    told.push(start(&model, -3, 2, 60, 2));
    pump(&runtime, &mut told, |told| told[1].done.is_some());
    assert!(told[0].done.is_none(), "{:?}", told[0].done);
}

#[test]
fn memory_goes_to_the_most_urgent_and_the_others_wait_for_it() {
    let (runtime, model) = model(8);
    let mut told = vec![start(&model, 0, 1, 150, 100)];
    pump(&runtime, &mut told, |told| told[0].has_begun());
    told.push(start(&model, 2, 2, 40, 20));
    // The first wants all eight blocks in the end, the second two of them: it gives its own back, and still waits when the second is through.
    pump(&runtime, &mut told, |told| told[1].done.is_some());
    assert!(told[0].done.is_none(), "{:?}", told[0].done);
    told[1].session.truncate(0).unwrap();
    pump(&runtime, &mut told, |told| told[0].done.is_some());
    for t in &told {
        assert!(t.done.as_ref().unwrap().error.is_none(), "{:?}", t.done);
    }
    told[0].session.truncate(0).unwrap();
    let mut alone = vec![start(&model, 0, 1, 150, 100)];
    pump(&runtime, &mut alone, |alone| alone[0].done.is_some());
    assert_eq!(told[0].tokens, alone[0].tokens);
}
