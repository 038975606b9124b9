//! What constraints cost: the trie, compiling, the mask of each token; and a chain of stages. `cargo bench --bench constraints`
//!
//! On the vocabularies in `../shared/fixtures`; answers are drawn at random from what the masks allow, in the way a model would: mostly plain text.
#![expect(clippy::print_stdout, reason = "a benchmark reports what it measured")]

use inference::engine::{Sampler, Stage};
use inference::text::constraint::{Allowed, Constraint, ConstraintKind, ConstraintSource, Grammars};
use inference::text::{Token, Tokenizer};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const N_ANSWERS: usize = 40;
const MAX_TOKENS: usize = 300;

/// A tool with the usual kinds of parameters.
const TYPICAL: &str = r#"{"type":"object","properties":{"title":{"type":"string"},"kind":{"enum":["weapon","armour","potion","book"]},
 "price":{"type":"number","minimum":0},"count":{"type":"integer","minimum":1,"maximum":100},"tags":{"type":"array","items":{"type":"string"},"maxItems":5},
 "owner":{"type":"object","properties":{"name":{"type":"string"},"town":{"type":["string","null"]},"since":{"type":"string","format":"date"}},"required":["name","town"],
 "additionalProperties":false},"magic":{"type":"boolean"}},"required":["title","kind","price","count","tags","owner"],"additionalProperties":false}"#;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["tokenizers/qwen2", "tokenizers/llama-bpe"] {
        let path = root.join("../shared/fixtures").join(folder).join("tokenizer.json");
        match std::fs::read(&path) {
            Ok(json) => masks(folder, &Arc::new(Tokenizer::from_json(&json, None).unwrap())),
            Err(e) => println!("skipped: {}: {e}", path.display()),
        }
    }
    chain();
}

fn masks(name: &str, tokenizer: &Arc<Tokenizer>) {
    let (trie, grammars) = timed(|| Grammars::new(tokenizer).unwrap());
    println!("{name}: {} tokens, trie {:.1} ms", tokenizer.n_vocab(), ms(trie));
    for (what, kind, text) in [
        ("schema", ConstraintKind::JsonSchema, TYPICAL),
        ("any JSON", ConstraintKind::AnyJson, ""),
        ("regex", ConstraintKind::Regex, r"[A-Z][a-z]+( [A-Z][a-z]+)*, (\d{1,3}|none)(, .*)?"),
    ] {
        let source = ConstraintSource { kind, text: text.to_owned() };
        let mut compiles: Vec<Duration> = (0..10).map(|_| timed(|| grammars.compile(&source).unwrap()).0).collect();
        let mut random = 1;
        let mut costs = Vec::new();
        (0..N_ANSWERS).for_each(|_| answer(&mut grammars.compile(&source).unwrap(), tokenizer, &mut random, &mut costs));
        compiles.sort_unstable();
        costs.sort_unstable();
        let at = |p: usize| us(costs[costs.len() * p / 1000]);
        println!(
            "{name}, {what}: compile {:.2} ms (worst {:.2}); mask over {} tokens: median {:.1} us, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, worst {:.1}",
            ms(compiles[5]),
            ms(compiles[9]),
            costs.len(),
            at(500),
            at(900),
            at(990),
            at(999),
            us(costs[costs.len() - 1])
        );
    }
}

/// One answer: the cost of each mask goes to `costs`; tokens that are forced cost what it takes to find that out.
fn answer(constraint: &mut Constraint, tokenizer: &Tokenizer, random: &mut u64, costs: &mut Vec<Duration>) {
    for _ in 0..MAX_TOKENS {
        let started = Instant::now();
        constraint.prepare();
        let cost = started.elapsed();
        let token = match constraint.allowed() {
            Ok(Allowed::One(token)) => token,
            Ok(Allowed::Bits(bits)) => draw(bits, tokenizer, random),
            Err(e) => panic!("{e}"),
        };
        let started = Instant::now();
        constraint.accept(token).unwrap();
        costs.push(cost + started.elapsed());
        if tokenizer.is_eog(token) {
            return;
        }
    }
}

/// One of the allowed tokens: the end, or a quote, now and then, or else any.
fn draw(bits: &[u32], tokenizer: &Tokenizer, random: &mut u64) -> Token {
    let allowed: Vec<Token> = (0..bits.len() as u32 * 32).filter(|id| bits[*id as usize / 32] >> (id % 32) & 1 == 1).collect();
    let mut next = |n: usize| {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 33) as usize % n
    };
    let closes = |token: &&Token| tokenizer.is_eog(**token) || tokenizer.token_bytes(**token).is_ok_and(|bytes| bytes == b"\"");
    match allowed.iter().find(closes) {
        Some(&close) if next(6) == 0 => close,
        _ => allowed[next(allowed.len())],
    }
}

/// The chain of a chat on 151,936 logits.
fn chain() {
    let n = 151_936;
    let mut random = 7u64;
    let logits: Vec<f32> = (0..n)
        .map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let unit = (random >> 40) as f32 / (1 << 24) as f32;
            -3.0 * (1.0 - unit).max(1e-9).ln() - 5.0
        })
        .collect();
    let mut sampler = Sampler::new(n);
    sampler.set_seed(1);
    for stage in [
        Stage::Penalties { last_n: 64, repeat: 1.1, frequency: 0.1, presence: 0.1 },
        Stage::TopK(40),
        Stage::TopP(0.95),
        Stage::MinP(0.05),
        Stage::Temperature(0.8),
    ] {
        sampler.add(stage).unwrap();
    }
    let mut times: Vec<Duration> = (0..500).map(|_| timed(|| sampler.pick(&logits).unwrap()).0).collect();
    times.sort_unstable();
    println!("chain on {n} logits: median {:.1} us, p99 {:.1} us", us(times[250]), us(times[495]));
}

fn timed<T>(f: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let value = f();
    (started.elapsed(), value)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
