//! Constraints end to end, on the shipped model: generations, steps, forks, tool choices, probabilities, and what fails.

use inference::engine::{
    Event, EventKind, Finish, GenerateParams, Generation, LoadConfig, Model, Prompt, Runtime, RuntimeConfig, Sampler, Session,
    SessionConfig, Stage, StepState, Wait,
};
use inference::error::{Error, ErrorKind};
use inference::sys::pool::PoolConfig;
use inference::text::chat::{ChatRequest, Json};
use inference::text::constraint::{ConstraintKind, ConstraintSource};
use inference::text::{DecodeOptions, EncodeOptions};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const TOOLS: &str = r#"[{"type":"function","function":{"name":"sell_ware","parameters":{"type":"object","properties":
    {"ware":{"enum":["dagger","shield"]},"n":{"type":"integer","minimum":1,"maximum":9}},"required":["ware","n"],"additionalProperties":false}}},
    {"type":"function","function":{"name":"leave","parameters":{"type":"object","properties":{},"additionalProperties":false}}}]"#;
const HELLO: &str = r#"[{"role":"user","content":"Hello!"}]"#;
const THING: &str = r#"{"type":"object","properties":{"kind":{"enum":["sword","well"]},"weights":{"type":"array","items":{"type":"integer","minimum":0,"maximum":99},
    "maxItems":3},"name":{"type":"string","maxLength":8}},"required":["kind","weights","name"],"additionalProperties":false}"#;

/// Loaded once: all tests read it.
fn model() -> &'static Arc<Model> {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    MODEL.get_or_init(|| {
        let pool = PoolConfig { n_threads: 2, ..PoolConfig::default() };
        let runtime = Runtime::new(RuntimeConfig { pool, ..RuntimeConfig::default() }).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo.gguf");
        Model::load(&runtime, &LoadConfig { paths: vec![path], ..LoadConfig::default() }).unwrap()
    })
}

fn session() -> Arc<Session> {
    Session::new(model(), SessionConfig::default()).unwrap()
}

fn source(kind: ConstraintKind, text: &str) -> ConstraintSource {
    ConstraintSource { kind, text: text.to_owned() }
}

/// Hot, so that what is said is nearly random.
fn hot(seed: u64) -> Sampler {
    let mut sampler = Sampler::new(model().n_vocab());
    sampler.add(Stage::Temperature(2.0)).unwrap();
    sampler.set_seed(seed);
    sampler
}

fn ask(constraint: ConstraintSource, seed: u64) -> GenerateParams {
    let prompt = Prompt::Text("The smith said".into());
    GenerateParams { prompt, max_tokens: 200, sampler: Some(hot(seed)), constraint: Some(constraint), ..GenerateParams::default() }
}

fn drain(generation: &Generation) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = generation.next(Wait::For(Duration::from_secs(60))).unwrap();
        assert_ne!(event.kind, EventKind::None, "nothing for a minute");
        let last = event.kind == EventKind::Done;
        events.push(event);
        if last {
            return events;
        }
    }
}

fn text_of(events: &[Event]) -> String {
    events.iter().filter(|event| event.kind == EventKind::Text).map(|event| event.text.as_str()).collect()
}

/// The text of an answer, and its last event.
fn answer(session: &Arc<Session>, params: GenerateParams) -> (String, Event) {
    let events = drain(&Generation::start(session, params).unwrap());
    (text_of(&events), events.last().unwrap().clone())
}

#[test]
fn answers_match_their_schema_whatever_is_drawn() {
    for seed in 0..12 {
        let (text, last) = answer(&session(), ask(source(ConstraintKind::JsonSchema, THING), seed));
        assert_eq!(last.finish, Some(Finish::EndOfGeneration), "{seed}: {text}");
        let json = Json::parse("answer", &text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert!(matches!(json.get("kind").and_then(Json::as_str), Some("sword" | "well")), "{text}");
        assert!(json.get("name").and_then(Json::as_str).unwrap().chars().count() <= 8, "{text}");
        let Some(Json::Array(weights)) = json.get("weights") else { panic!("{text}") };
        assert!(weights.len() <= 3 && weights.iter().all(|n| matches!(n, Json::Int(0..=99))), "{text}");
    }
}

#[test]
fn each_language_constrains() {
    let gbnf = "root ::= \"<\" root \">\" | [xyz]{2,3}";
    for (kind, text, fits) in [
        (ConstraintKind::Regex, "[a-f]{3}-[0-9]{2}", (|text| text.len() == 6 && text.as_bytes()[3] == b'-') as fn(&str) -> bool),
        (ConstraintKind::Lark, "start: \"yes\" | \"no\"", |text| matches!(text, "yes" | "no")),
        (ConstraintKind::Gbnf, gbnf, |text| (2..=3).contains(&text.trim_matches(['<', '>']).len())),
        (ConstraintKind::AnyJson, "", |text| Json::parse("answer", text).is_ok()),
    ] {
        for seed in 0..4 {
            let (answer, last) = answer(&session(), ask(source(kind, text), seed));
            assert!(fits(&answer) || last.finish == Some(Finish::MaxTokens), "{kind:?}: {answer}");
        }
    }
}

/// What a chain chooses step by step, with what it forces.
fn stepped(session: &Arc<Session>, sampler: &mut Sampler) -> String {
    let held = session.n_tokens() as usize;
    while session.step(Some(sampler), None, false).unwrap().state != StepState::EndOfGeneration {}
    let tokens = session.tokens().unwrap()[held..].to_vec();
    let bytes = model().tokenizer().decode(&tokens, DecodeOptions { skip_special: true, at_text_start: false }).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn steps_choose_what_a_generation_does() {
    let prompt = model().tokenizer().encode("The smith said", EncodeOptions { add_special: true, parse_special: false }).unwrap();
    for seed in [3, 4] {
        let (expected, _) = answer(&session(), ask(source(ConstraintKind::JsonSchema, THING), seed));
        let mut sampler = hot(seed);
        sampler.set_constraint(Some(model().compile(&source(ConstraintKind::JsonSchema, THING)).unwrap()));
        let by_hand = session();
        by_hand.append(&prompt).unwrap();
        assert_eq!(stepped(&by_hand, &mut sampler), expected);
        // Begun anew, and on a fork: the session goes back, the sampler is reset.
        by_hand.truncate(prompt.len() as u32).unwrap();
        sampler.reset();
        let fork = by_hand.fork().unwrap();
        assert_eq!(stepped(&fork, &mut sampler.clone()), expected);
        assert_eq!(stepped(&by_hand, &mut sampler), expected);
    }
}

#[test]
fn a_copied_chain_goes_on_where_the_first_one_stood() {
    let mut sampler = hot(1);
    sampler.set_constraint(Some(model().compile(&source(ConstraintKind::Regex, "[ab]{4}[cd]{4}")).unwrap()));
    let s = session();
    s.append(&[5, 9]).unwrap();
    for _ in 0..2 {
        s.step(Some(&mut sampler), None, false).unwrap();
    }
    let (fork, mut copy) = (s.fork().unwrap(), sampler.clone());
    assert_eq!(stepped(&s, &mut sampler), stepped(&fork, &mut copy));
}

#[test]
fn what_fails_is_the_last_event() {
    let fails = |params: GenerateParams| -> Error {
        let (_, last) = answer(&session(), params);
        assert_eq!(last.finish, Some(Finish::Error));
        last.error.unwrap()
    };
    let broken = fails(ask(source(ConstraintKind::JsonSchema, r#"{"type":"nothing"}"#), 0));
    assert_eq!((broken.kind(), broken.detail()[0]), (ErrorKind::Constraint, 8), "{broken}");
    // The chain forbids the letters that the constraint allows.
    let mut chain = hot(0);
    let forbidden = (0..model().n_vocab() as u32)
        .filter(|&token| model().tokenizer().token_bytes(token).unwrap().iter().any(|byte| b"qz".contains(byte)));
    chain.add(Stage::LogitBias(Arc::new(forbidden.map(|token| (token, f32::NEG_INFINITY)).collect()))).unwrap();
    let params = GenerateParams { sampler: Some(chain), ..ask(source(ConstraintKind::Regex, "[qQ]x|z[a-z]"), 0) };
    let dead = answer(&session(), GenerateParams { sampler: params.sampler.clone(), ..ask(source(ConstraintKind::Regex, "[qz]+"), 0) }).1;
    assert_eq!(dead.error.map(|e| e.kind()), Some(ErrorKind::DeadEnd));
    assert_eq!(answer(&session(), params).0, "Qx", "the other way is open");
}

#[test]
fn two_constraints_are_refused() {
    let mut sampler = hot(0);
    sampler.set_constraint(Some(model().compile(&source(ConstraintKind::Regex, "a")).unwrap()));
    let params = GenerateParams { sampler: Some(sampler), ..ask(source(ConstraintKind::Regex, "b"), 0) };
    assert_eq!(Generation::start(&session(), params).err().map(|e| e.kind()), Some(ErrorKind::InvalidArgument));
}

fn chat(options: &str, seed: u64) -> GenerateParams {
    let prompt = Prompt::Chat(Box::new(ChatRequest::parse(HELLO, TOOLS, options).unwrap()));
    GenerateParams { prompt, max_tokens: 120, sampler: Some(hot(seed)), ..GenerateParams::default() }
}

fn calls(events: &[Event]) -> Vec<Json> {
    events.iter().filter(|event| event.kind == EventKind::ToolCall).map(|event| Json::parse("call", &event.text).unwrap()).collect()
}

fn chatted(options: &str, seed: u64) -> Vec<Event> {
    drain(&Generation::start(&session(), chat(options, seed)).unwrap())
}

#[test]
fn a_tool_is_called_where_one_must_be() {
    for seed in 0..6 {
        let events = chatted(r#"{"tool_choice":"required","parallel_tool_calls":false}"#, seed);
        let [call] = &calls(&events)[..] else { panic!("{events:?}") };
        assert_eq!(events.last().unwrap().finish, Some(Finish::ToolCall));
        match call.get("name").and_then(Json::as_str) {
            Some("leave") => assert_eq!(call.get("arguments").unwrap().to_string(), "{}"),
            Some("sell_ware") => {
                let arguments = call.get("arguments").unwrap();
                assert!(matches!(arguments.get("ware").and_then(Json::as_str), Some("dagger" | "shield")), "{call}");
                assert!(matches!(arguments.get("n"), Some(Json::Int(1..=9))), "{call}");
            }
            _ => panic!("{call}"),
        }
        let named = chatted(r#"{"tool_choice":{"type":"function","function":{"name":"leave"}},"parallel_tool_calls":false}"#, seed);
        assert_eq!(calls(&named).first().and_then(|call| call.get("name").and_then(Json::as_str)), Some("leave"));
    }
}

#[test]
fn no_tool_is_called_where_none_may_be_and_what_is_called_is_whole() {
    for seed in 0..4 {
        let events = chatted(r#"{"tool_choice":"none"}"#, seed);
        assert!(calls(&events).is_empty(), "{events:?}");
        let events = chatted(r#"{"tool_choice":"auto"}"#, seed);
        assert!(
            events.last().unwrap().finish == Some(Finish::MaxTokens) || calls(&events).iter().all(|call| call.get("error").is_none()),
            "{events:?}"
        );
        let formatted = chatted(r#"{"response_format":{"type":"regex","regex":"[a-c]{2}"}}"#, seed);
        assert_eq!(text_of(&formatted).len(), 2);
    }
    let missing = chatted(r#"{"tool_choice":{"type":"function","function":{"name":"fly"}}}"#, 0);
    let error = missing.last().unwrap().error.clone().unwrap();
    assert!(error.kind() == ErrorKind::InvalidArgument && error.message().contains("\"fly\""), "{error}");
}

#[test]
fn probabilities_come_with_their_tokens() {
    let params = GenerateParams {
        logprobs: Some(3),
        max_tokens: 20,
        sampler: Some(hot(2)),
        prompt: Prompt::Tokens(vec![5, 9]),
        ..GenerateParams::default()
    };
    let events = drain(&Generation::start(&session(), params).unwrap());
    let mut n_told = 0;
    for event in events.iter().filter(|event| event.kind != EventKind::Progress) {
        let Json::Array(told) = Json::parse("logprobs", &event.logprobs).unwrap() else { panic!("{}", event.logprobs) };
        assert_eq!(told.len(), event.tokens.len());
        n_told += told.len();
        for (token, entry) in event.tokens.iter().zip(&told) {
            assert_eq!(entry.get("id"), Some(&Json::Int(i64::from(*token))));
            let number = |json: &Json| if let Some(Json::Float(x)) = json.get("logprob") { *x } else { panic!("{json}") };
            let Some(Json::Array(top)) = entry.get("top_logprobs") else { panic!("{entry}") };
            let top: Vec<f64> = top.iter().map(number).collect();
            assert!(top.len() == 3 && top.is_sorted_by(|a, b| a >= b) && top.iter().map(|p| p.exp()).sum::<f64>() < 1.0 + 1e-4, "{entry}");
            assert!(number(entry) <= top[0], "{entry}");
        }
    }
    assert_eq!(n_told as u32, events.last().unwrap().usage.output_tokens);
    let none =
        answer(&session(), GenerateParams { logprobs: None, max_tokens: 3, prompt: Prompt::Tokens(vec![5]), ..GenerateParams::default() });
    assert_eq!(none.1.logprobs, "");
    let forced = GenerateParams { logprobs: Some(0), ..ask(source(ConstraintKind::Regex, "abcdef"), 0) };
    let events = drain(&Generation::start(&session(), forced).unwrap());
    assert!(events.iter().any(|event| event.logprobs.contains("\"logprob\":0.0,")) && text_of(&events) == "abcdef");
}

#[test]
fn guesses_do_not_change_what_is_said() {
    let list = r#"{"type":"array","items":{"enum":["sword","shield"]},"minItems":12,"maxItems":12}"#;
    for seed in 0..3 {
        let plain = answer(&session(), ask(source(ConstraintKind::JsonSchema, list), seed)).0;
        let guessed = GenerateParams { n_draft: 8, ..ask(source(ConstraintKind::JsonSchema, list), seed) };
        assert_eq!(answer(&session(), guessed).0, plain);
    }
}

/// The demo model in a runtime that the host drives.
fn host_driven() -> Arc<Model> {
    let runtime = Runtime::new(RuntimeConfig { host_driven: true, ..RuntimeConfig::default() }).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo.gguf");
    Model::load(&runtime, &LoadConfig { paths: vec![path], ..LoadConfig::default() }).unwrap()
}

#[test]
fn others_go_on_while_a_constraint_is_compiled() {
    let model = host_driven();
    let session = || Session::new(&model, SessionConfig::default()).unwrap();
    let endless = GenerateParams { prompt: Prompt::Tokens(vec![5, 9]), sampler: Some(hot(1)), ..GenerateParams::default() };
    let other = Generation::start(&session(), endless).unwrap();
    let pump = || model.runtime().pump(Duration::ZERO).unwrap();
    let n_said = |generation: &Generation| {
        let mut n = 0;
        loop {
            match generation.next(Wait::Poll).unwrap() {
                Event { kind: EventKind::None, .. } => return n,
                event => n += event.tokens.len(),
            }
        }
    };
    while n_said(&other) == 0 {
        assert!(pump());
    }
    let constrained = Generation::start(&session(), ask(source(ConstraintKind::JsonSchema, THING), 3)).unwrap();
    let mut n_beside = 0;
    let first = loop {
        assert!(pump());
        n_beside += n_said(&other);
        let event = constrained.next(Wait::Poll).unwrap();
        if !matches!(event.kind, EventKind::None | EventKind::Progress) {
            break event;
        }
    };
    assert!(n_beside > 1, "the other one had to wait");
    drop(other);
    let text = first.text + &text_of(&drain(&constrained));
    assert_eq!(text, answer(&self::session(), ask(source(ConstraintKind::JsonSchema, THING), 3)).0, "as with threads");
}

#[test]
fn a_constraint_that_is_still_compiled_is_no_hindrance_to_an_end() {
    for host in [false, true] {
        for seed in 0..6 {
            let pool = PoolConfig { n_threads: usize::from(!host) * 2, ..PoolConfig::default() };
            let runtime = Runtime::new(RuntimeConfig { host_driven: host, pool, ..RuntimeConfig::default() }).unwrap();
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo.gguf");
            let model = Model::load(&runtime, &LoadConfig { paths: vec![path], ..LoadConfig::default() }).unwrap();
            let started: Vec<_> = (0..4)
                .map(|i| {
                    let session = Session::new(&model, SessionConfig::default()).unwrap();
                    Generation::start(&session, ask(source(ConstraintKind::JsonSchema, THING), i)).unwrap()
                })
                .collect();
            for _ in 0..seed * usize::from(host) as u64 {
                runtime.pump(Duration::ZERO).unwrap();
            }
            std::thread::sleep(Duration::from_micros(300 * seed * u64::from(!host)));
            started[0].cancel();
            if seed % 2 == 0 {
                drop(started);
            }
            runtime.shutdown(Wait::For(Duration::from_secs(60))).unwrap();
            let left = Arc::downgrade(&runtime);
            drop((model, runtime));
            if seed % 2 == 0 {
                let since = std::time::Instant::now();
                while left.strong_count() > 0 {
                    assert!(since.elapsed() < Duration::from_secs(60), "something holds the runtime");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
}
