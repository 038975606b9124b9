//! Templates and messages made to exhaust: each ends soon, within 32 MiB, on a calling stack of 64 KiB.

mod common {
    pub mod peak;
}

use common::peak::{CountingAllocator, measure};
use inference::error::{ErrorKind, Result};
use inference::text::chat::{ChatRequest, ChatTemplates, OutputParser};
use inference::text::{Alphabet, TokenType, Tokenizer, VocabularyData};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The memory of one rendering.
const MAX_BYTES: usize = 32 << 20;
/// Far above what any takes, and far below for ever: machines that run tests are busy.
const MAX_TIME: Duration = Duration::from_secs(20);

fn tokenizer() -> Tokenizer {
    let mut data = VocabularyData::empty(Alphabet::Characters);
    for (text, kind) in [("<unk>", TokenType::Unknown), ("<s>", TokenType::Control), ("a", TokenType::Normal)] {
        data.tokens.push(text.as_bytes().into());
        data.types.push(kind);
    }
    data.unknown = Some(0);
    Tokenizer::new(&data).unwrap()
}

/// The length of what `template` renders, from a small stack; its cost is checked.
fn render(name: &str, template: String, messages: String) -> Result<usize> {
    let body = move || {
        let tokenizer = tokenizer();
        let started = Instant::now();
        let (result, peak) = measure(|| {
            let request = ChatRequest::parse(&messages, "", "")?;
            ChatTemplates::new(&tokenizer, Some(template), None).render(&tokenizer, &request).map(|rendered| rendered.text().len())
        });
        (result, peak, started.elapsed())
    };
    let (result, peak, time) = std::thread::Builder::new().stack_size(64 << 10).spawn(body).unwrap().join().unwrap();
    say(&format!("{name}: {} KiB, {} ms, {result:?}", peak >> 10, time.as_millis()));
    assert!(peak < MAX_BYTES, "{name}: {peak} bytes");
    assert!(time < MAX_TIME, "{name}: {time:?}");
    result
}

#[expect(clippy::print_stderr, reason = "the figures are for people")]
fn say(text: &str) {
    eprintln!("{text}");
}

const HELLO: &str = r#"[{"role":"user","content":"hello"}]"#;

#[test]
fn templates_that_exhaust_are_stopped() {
    let loops = |body: &str| {
        format!("{{% set ns = namespace(a='xxxxxxxx', l=[]) %}}{{% for i in range(99999) %}}{body}{{% endfor %}}{{{{ ns.a|length }}}}")
    };
    let cases = [
        ("a macro that calls itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned()),
        ("macros that call each other", "{% macro f(x) %}{{ x(f) }}{{ x(f) }}{% endmacro %}{{ f(f) }}".to_owned()),
        ("text that doubles", loops("{% set ns.a = ns.a ~ ns.a %}")),
        ("text that doubles by plus", loops("{% set ns.a = ns.a + ns.a %}")),
        ("a product", "{{ 'xxxxxxxx' * 99999999 }}".to_owned()),
        ("products of products", "{{ ('x' * 10000) * 10000 }}".to_owned()),
        ("a list that doubles", loops("{% set ns.l = [ns.l, ns.l] %}") + "{{ ns.l|tojson }}"),
        ("a list that doubles, printed", loops("{% set ns.l = [ns.l, ns.l] %}") + "{{ ns.l }}"),
        ("loops in loops", "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}".to_owned()),
        ("much text", "{% for i in range(99999) %}".to_owned() + &"y".repeat(10_000) + "{% endfor %}"),
        ("brackets", "{{ ".to_owned() + &"(".repeat(300_000) + &")".repeat(300_000) + " }}"),
        ("lists in lists", "{{ ".to_owned() + &"[".repeat(300_000) + " }}"),
        ("blocks in blocks", "{% if x %}".repeat(90_000)),
        ("operators", "{{ 1".to_owned() + &" + 1".repeat(200_000) + " }}"),
        ("nots", "{{ ".to_owned() + &"not ".repeat(200_000) + "x }}"),
        ("filters", "{{ 'x'".to_owned() + &"|upper".repeat(100_000) + " }}"),
        (
            "replacements",
            "{% set ns = namespace(a='a') %}{% for i in range(99) %}{% set ns.a = ns.a|replace('a', 'aa') %}{% endfor %}".to_owned(),
        ),
        ("indentation", "{{ ('\\n' * 100000)|indent(100000) }}".to_owned()),
        ("a wide format", "{{ '%99999999d'|format(1) }}".to_owned()),
        (
            "joins",
            "{{ range(99999)|join('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 1000) }}"
                .to_owned(),
        ),
        ("too long a template", " ".repeat((1 << 20) + 1)),
    ];
    for (name, template) in cases {
        match render(name, template, HELLO.to_owned()) {
            Err(e) => assert_eq!(e.kind(), ErrorKind::Template, "{name}: {e}"),
            // What ends by itself is small.
            Ok(len) => assert!(len < MAX_BYTES, "{name}"),
        }
    }
}

#[test]
fn deep_values_made_by_a_template_are_dropped_without_harm() {
    let nested = "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}";
    let _ = render("a deep list", nested.to_owned(), HELLO.to_owned());
    let _ = render("a deep map", nested.replace("[ns.l]", "{'a': ns.l}"), HELLO.to_owned());
    let _ = render("a deep list, printed", nested.to_owned() + "{{ ns.l }}", HELLO.to_owned());
    let _ = render("a deep list, compared", nested.to_owned() + "{{ ns.l == [ns.l] }}", HELLO.to_owned());
}

#[test]
fn messages_that_exhaust_are_refused() {
    let plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
    for (name, messages) in [
        ("arrays", "[".repeat(1_000_000)),
        ("objects", r#"{"a":"#.repeat(1_000_000)),
        ("content", format!(r#"[{{"role":"user","content":{}"#, "[".repeat(1_000_000))),
        ("many values", format!("[{}0]", "0,".repeat(1_000_000))),
        ("no end", r#"[{"role":"user","content":""#.to_owned() + &"x".repeat(1_000_000)),
        ("one key very often", format!(r#"[{{"role":"user"{}}}]"#, r#","a":{}"#.repeat(200_000))),
    ] {
        let error = render(name, plain.to_owned(), messages).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name}: {error}");
    }
}

/// Work grows with the chat, so that long ones render.
#[test]
fn long_conversations_render() {
    let turn = r#"{"role":"user","content":"How are you?"},{"role":"assistant","content":"Well, thank you."}"#;
    let messages = format!("[{}]", [turn; 2000].join(","));
    let template = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content | trim }}\n{% endfor %}";
    assert!(render("two thousand turns", template.to_owned(), messages).unwrap() > 100_000);
}

#[test]
fn hostile_answers_are_read_in_linear_time() {
    let tools = [inference::text::chat::Json::Null];
    for (template, text) in [
        ("<tool_call>", "<tool_call>".repeat(20_000)),
        ("<tool_call>", format!("<tool_call>{}", "[".repeat(500_000))),
        ("<|tool_call>", format!("<|tool_call>call:f{}", "{a:".repeat(100_000))),
        ("<|tool_call_start|>", format!("<|tool_call_start|>[f(a={}", "[".repeat(100_000))),
        ("[TOOL_CALLS]", "[TOOL_CALLS]x".repeat(20_000)),
        ("<think>", "<thin".repeat(50_000)),
    ] {
        let started = Instant::now();
        let mut parser = OutputParser::new(template, "", &tools);
        let mut pieces = Vec::new();
        for chunk in text.as_bytes().chunks(7) {
            parser.push(std::str::from_utf8(chunk).unwrap(), &mut pieces);
        }
        parser.finish(&mut pieces);
        assert!(!pieces.is_empty() && started.elapsed() < MAX_TIME, "{template}: {:?}", started.elapsed());
    }
}
