//! Every fixture template and conversation, against what `transformers` renders (`tools/golden/chat.py`): the same bytes, or both refuse.
//!
//! The templates are not ours and not in the repository: without `../shared/fixtures` these tests print that they skip.

#[path = "common/fixtures.rs"]
mod fixtures;

use fixtures::fixture;
use inference::error::Result;
use inference::text::chat::{ChatRequest, ChatTemplates, Json};
use inference::text::{Alphabet, TokenType, Tokenizer, VocabularyData};
use std::path::Path;

/// The moment at which `tools/golden/chat.py` renders.
const NOW: i64 = 1_767_323_045;

/// Templates that we render in another way than `transformers` where a chat has tools, with the reason.
const DIFFERENT: [(&str, &str); 2] = [
    ("llama-cpp-deepseek-r1.jinja", "writes what a filter yields lazily as JSON, which Python's cannot; we write the list"),
    (
        "meetkai-functionary-medium-v3.1.jinja",
        "adds JSON to a text marked as safe for HTML: Python's Jinja then escapes its quotes; we do not",
    ),
];

#[expect(clippy::print_stderr, reason = "a test that fails says all")]
fn say(text: &str) {
    eprintln!("{text}");
}

fn data(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/chat").join(name);
    Json::parse(name, &std::fs::read_to_string(path).unwrap()).unwrap()
}

fn entries(json: &Json) -> &[(String, Json)] {
    match json {
        Json::Object(entries) => entries,
        other => panic!("{} where an object should be", other.kind()),
    }
}

/// FNV-1a with 64 bits, and the length, as `tools/golden/chat.py` writes them.
fn fnv(text: &str) -> String {
    let step = |value: u64, byte: u8| (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    format!("{:016x}-{}", text.bytes().fold(0xCBF2_9CE4_8422_2325, step), text.len())
}

/// A vocabulary whose control tokens occur in the conversations: what users write is marked, and must come out as they wrote it.
fn tokenizer() -> Tokenizer {
    let mut data = VocabularyData::empty(Alphabet::Characters);
    for text in ["<unk>", "<s>", "</s>", "<|im_end|>", "<|im_start|>", "[INST]", "[/INST]", "<|eot_id|>"] {
        data.tokens.push(text.as_bytes().into());
        data.types.push(TokenType::Control);
    }
    (data.unknown, data.bos, data.eos) = (Some(0), Some(1), Some(2));
    Tokenizer::new(&data).unwrap()
}

fn render(tokenizer: &Tokenizer, source: &str, case: &Json) -> Result<String> {
    let field = |name: &str| case.get(name).cloned().unwrap_or(Json::Null);
    let Json::Object(mut options) = case.get("options").cloned().unwrap_or(Json::Object(Vec::new())) else { panic!("options") };
    options.push(("now".into(), Json::Int(NOW)));
    let request = ChatRequest::new(field("messages"), field("tools"), Json::Object(options))?;
    let templates = ChatTemplates::new(tokenizer, Some(source.to_owned()), None);
    Ok(templates.render(tokenizer, &request)?.text().into_owned())
}

#[test]
fn templates_render_as_transformers_renders_them() {
    let Some(folder) = fixture("chat-templates") else { return };
    let (expected, conversations) = (data("expected.json"), data("conversations.json"));
    let tokenizer = tokenizer();
    let (mut wrong, mut same, mut refused, mut different) = (Vec::new(), 0, 0, 0);
    for (file, known) in entries(&expected) {
        let source = std::fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(known.get("template").unwrap().as_str(), Some(fnv(&source).as_str()), "{file} changed: make the golden data again");
        for (name, hash) in entries(known.get("cases").unwrap()) {
            let ours = render(&tokenizer, &source, conversations.get(name).unwrap());
            match (&ours, hash.as_str()) {
                (Ok(text), Some(hash)) if fnv(text) == hash => same += 1,
                (Err(_), None) => refused += 1,
                _ if DIFFERENT.iter().any(|(other, _)| other == file) && conversations.get(name).unwrap().get("tools").is_some() => {
                    different += 1
                }
                (Ok(_), _) => wrong.push(format!("{file} / {name}: transformers {}", hash.as_str().map_or("refuses", |_| "differs"))),
                (Err(e), _) => wrong.push(format!("{file} / {name}: {e}")),
            }
        }
    }
    say(&format!("{same} equal, {refused} refused by both, {different} different for a reason"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(same > 600 && refused > 100 && different <= 10);
}

/// `INF_CHAT_SHOW="template/conversation"` prints one rendering, to be compared with that of `tools/golden/chat.py`.
#[test]
fn one_rendering_can_be_looked_at() {
    let (Some(folder), Ok(wanted)) = (fixture("chat-templates"), std::env::var("INF_CHAT_SHOW")) else { return };
    let (file, name) = wanted.split_once('/').unwrap();
    let source = std::fs::read_to_string(folder.join(file)).unwrap();
    say(&render(&tokenizer(), &source, data("conversations.json").get(name).unwrap()).unwrap());
}
