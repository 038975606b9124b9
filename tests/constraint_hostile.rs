//! Grammars and schemas made to exhaust: each is an error or works, soon, within 32 MiB, on a calling stack of 64 KiB, and nothing is printed.

mod common {
    pub mod peak;
}

use common::peak::{CountingAllocator, measure};
use inference::error::{ErrorKind, Result};
use inference::text::constraint::{Allowed, ConstraintKind, ConstraintSource, Grammars};
use inference::text::{Alphabet, Model, TokenType, Tokenizer, VocabularyData};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The memory of one constraint and a few of its masks.
const MAX_BYTES: usize = 32 << 20;
/// Far above what any takes, and far below for ever: machines that run tests are busy.
const MAX_TIME: Duration = Duration::from_secs(20);
/// Tokens that are taken of a constraint that compiles.
const N_STEPS: usize = 20;

/// Bytes, an end, and words of two and three letters: a trie with some width.
fn tokenizer() -> Arc<Tokenizer> {
    let mut tokens: Vec<Cow<'static, [u8]>> = (0..256).map(|byte| Cow::Owned(format!("<0x{byte:02X}>").into_bytes())).collect();
    let mut types = vec![TokenType::Byte; 256];
    tokens.push(Cow::Borrowed(b"</s>"));
    types.push(TokenType::Control);
    for a in b'a'..=b'z' {
        for b in b'a'..=b'z' {
            tokens.extend([vec![a, b].into(), vec![a, b, b'a'].into(), vec![a, b, b' '].into()]);
            types.extend([TokenType::Normal; 3]);
        }
    }
    let model = Model::Scores(vec![0.0; tokens.len()]);
    let data = VocabularyData { model, tokens, types, eos: Some(256), ..VocabularyData::empty(Alphabet::Characters) };
    Arc::new(Tokenizer::new(&data).unwrap_or_else(|e| panic!("{e}")))
}

/// Compiles and takes a few tokens, always the last that is allowed.
fn run(grammars: &Grammars, source: &ConstraintSource) -> Result<()> {
    let mut constraint = grammars.compile(source)?;
    for _ in 0..N_STEPS {
        let token = match constraint.allowed()? {
            Allowed::One(token) => token,
            Allowed::Bits(bits) => {
                let last =
                    bits.iter().enumerate().rfind(|(_, word)| **word != 0).map(|(i, word)| i as u32 * 32 + 31 - word.leading_zeros());
                last.unwrap_or(256)
            }
        };
        constraint.accept(token)?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the figures are for people")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Runs one, and notes in `complaints` what is wrong with it.
fn check(grammars: &Arc<Grammars>, name: &str, kind: ConstraintKind, text: String, complaints: &mut Vec<String>) -> Result<()> {
    let grammars = grammars.clone();
    let body = move || {
        let started = Instant::now();
        let (result, peak) = measure(|| run(&grammars, &ConstraintSource { kind, text }));
        (result, peak, started.elapsed())
    };
    let (result, peak, time) = std::thread::Builder::new().stack_size(64 << 10).spawn(body).unwrap().join().unwrap();
    say(&format!("{name}: {} KiB, {} ms, {result:?}", peak >> 10, time.as_millis()));
    if peak >= MAX_BYTES || time >= MAX_TIME {
        complaints.push(format!("{name}: {peak} bytes, {time:?}"));
    }
    if let Err(e) = &result
        && !matches!(e.kind(), ErrorKind::Constraint | ErrorKind::DeadEnd)
    {
        complaints.push(format!("{name}: {:?} {e}", e.kind()));
    }
    result
}

#[test]
fn what_exhausts_is_refused() {
    let grammars = Arc::new(Grammars::new(&tokenizer()).unwrap());
    let nested = |open: &str, close: &str, n: usize| format!("{}{}", open.repeat(n), close.repeat(n));
    let chain = |n: usize| (0..n).map(|i| format!("r{i}: \"a\" r{}\n", i + 1)).collect::<String>();
    let doubling = |n: usize| (0..n).map(|i| format!("R{i}: R{0} R{0}\n", i + 1)).collect::<String>();
    use ConstraintKind::{Gbnf, JsonSchema, Lark, Regex};
    let refused = [
        ("regex nested", Regex, nested("(", ")", 1_000_000)),
        ("regex nested, less", Regex, nested("(", ")", 100_000)),
        ("regex bad", Regex, "[".repeat(1000)),
        ("schema nested arrays", JsonSchema, nested("[", "]", 1_000_000)),
        ("schema nested objects", JsonSchema, nested("{\"items\":", "}", 100_000)),
        ("schema refers to itself", JsonSchema, r##"{"$ref":"#"}"##.into()),
        ("schema refers elsewhere", JsonSchema, r#"{"$ref":"http://example.com/schema.json"}"#.into()),
        ("schema of a file", JsonSchema, r#"{"$ref":"file:///etc/passwd"}"#.into()),
        ("lark nested", Lark, format!("start: {}", nested("(", ")", 1_000_000))),
        ("lark nested, less", Lark, format!("start: {}", nested("(", ")", 100_000))),
        ("lark nested brackets", Lark, format!("start: {}", nested("[", "]", 60_000))),
        ("lark chain", Lark, format!("start: r0\n{}r20000: \"x\"\n", chain(20_000))),
        ("lark unknown", Lark, "start: nothing".into()),
        ("lark import", Lark, "%import common.NOTHING\nstart: NOTHING".into()),
        ("lark terminal in a circle", Lark, "start: A\nA: B\nB: A\n".into()),
        ("gbnf nested", Gbnf, format!("root ::= {}", nested("(", ")", 1_000_000))),
        ("gbnf times", Gbnf, "root ::= \"a\"{1,100000}".into()),
        ("too long", Regex, "a".repeat(1 << 20)),
    ];
    let mut complaints = Vec::new();
    for (name, kind, text) in refused {
        if check(&grammars, name, kind, text, &mut complaints).is_ok() {
            complaints.push(format!("{name} is taken"));
        }
    }
    let either = [
        ("regex times", Regex, "(((a{1,1000}){1,1000}){1,1000}){1,1000}".into()),
        ("regex many ways", Regex, format!("(a|b|ab)*{}", "(a|b)?".repeat(500))),
        ("regex not unique", Regex, format!("(.*a){{60}}{}", ".{200}")),
        ("regex last but n", Regex, "(a|b)*a(a|b){40}".into()),
        ("regex unicode", Regex, "(\\pL{1,50}\\pN{1,50}){1,50}".into()),
        ("schema wide", JsonSchema, {
            let fields: Vec<String> = (0..2000).map(|i| format!("\"k{i}\":{{\"type\":\"integer\"}}")).collect();
            format!("{{\"type\":\"object\",\"properties\":{{{}}}}}", fields.join(","))
        }),
        ("schema ways", JsonSchema, {
            let ways: Vec<String> =
                (0..1000).map(|i| format!("{{\"type\":\"object\",\"properties\":{{\"a{i}\":{{}}}},\"required\":[\"a{i}\"]}}")).collect();
            format!("{{\"anyOf\":[{}]}}", ways.join(","))
        }),
        (
            "schema numbers",
            JsonSchema,
            r#"{"type":"number","multipleOf":0.0000001,"minimum":0.123456789,"maximum":123456789.987654321}"#.into(),
        ),
        ("schema multiple", JsonSchema, r#"{"type":"integer","multipleOf":999983}"#.into()),
        ("schema long text", JsonSchema, r#"{"type":"string","minLength":100000,"maxLength":100000}"#.into()),
        ("schema many items", JsonSchema, r#"{"type":"array","items":{"type":"integer"},"minItems":100000,"maxItems":100000}"#.into()),
        ("schema pattern", JsonSchema, r#"{"type":"string","pattern":"^(((a+)+)+)+$"}"#.into()),
        ("schema allOf", JsonSchema, {
            let part = r#"{"properties":{"a":{"anyOf":[{"type":"string"},{"type":"number"},{"type":"object"}]}}}"#;
            format!("{{\"allOf\":[{}]}}", vec![part; 30].join(","))
        }),
        (
            "schema recursion",
            JsonSchema,
            r##"{"$defs":{"n":{"type":"object","properties":{"l":{"$ref":"#/$defs/n"},"r":{"$ref":"#/$defs/n"}}}},"$ref":"#/$defs/n"}"##
                .into(),
        ),
        ("lark doubling", Lark, format!("start: R0\n{}R30: \"x\"\n", doubling(30))),
        ("lark ambiguous", Lark, "start: s\ns: s s s | s s | \"a\" | \"\"\n".into()),
        ("lark empty", Lark, "start: e*\ne: \"\" | e e\n".into()),
        ("lark starred", Lark, "start: ((\"a\"*)*)*\n".into()),
        ("lark times", Lark, "start: (((\"a\"{1,1000}){1,1000}){1,1000}){1,1000}\n".into()),
        ("lark chain, short", Lark, format!("start: r0\n{}r3900: \"x\"\n", chain(3_900))),
        ("lark not", Lark, "start: A\nA: ~/(?s:.*)a(?s:.){20}b(?s:.*)/ & ~/(?s:.*)c(?s:.){20}d(?s:.*)/\n".into()),
        ("gbnf starred", Gbnf, "root ::= (\"a\"*)*".into()),
        ("gbnf left", Gbnf, "root ::= root \"a\" | \"b\"".into()),
        ("gbnf only itself", Gbnf, "root ::= root".into()),
        ("gbnf groups", Gbnf, format!("root ::= {}", "([a-z]* | \"x\"){0,100} ".repeat(200))),
    ];
    for (name, kind, text) in either {
        let _ = check(&grammars, name, kind, text, &mut complaints);
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn vocabularies_that_exhaust_a_trie_are_refused_or_work() {
    let same: Vec<Cow<'static, [u8]>> = vec![Cow::Borrowed(b"same"); 100_000];
    let long: Vec<Cow<'static, [u8]>> = (0..500).map(|i| Cow::Owned([format!("{i:03}").as_bytes(), &[b'x'; 10_000]].concat())).collect();
    for tokens in [same, long, vec![Cow::Borrowed(b"a")]] {
        let types = vec![TokenType::Normal; tokens.len()];
        let model = Model::Scores(vec![0.0; tokens.len()]);
        let data = VocabularyData { model, tokens, types, ..VocabularyData::empty(Alphabet::Characters) };
        let Ok(tokenizer) = Tokenizer::new(&data) else { continue };
        let started = Instant::now();
        if let Ok(grammars) = Grammars::new(&Arc::new(tokenizer)) {
            let result = run(&grammars, &ConstraintSource { kind: ConstraintKind::Regex, text: "[a-z]+".into() });
            assert!(result.is_ok() || result.is_err_and(|e| e.kind() == ErrorKind::DeadEnd));
        }
        assert!(started.elapsed() < MAX_TIME);
    }
}
