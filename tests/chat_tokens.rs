//! What a user writes never becomes a control token: every fixture vocabulary, every fixture template, and texts made to break out.
//!
//! The fixtures are not ours and not in the repository: without `../shared/fixtures` these tests print that they skip.

#[path = "common/fixtures.rs"]
mod fixtures;

use fixtures::fixture;
use inference::formats::gguf::Gguf;
use inference::text::chat::{ChatRequest, ChatTemplates};
use inference::text::{EncodeOptions, TokenType, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::path::{Path, PathBuf};

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == extension));
    files.sort();
    files
}

/// A vocabulary with the texts of its control tokens.
struct Vocabulary {
    name: String,
    tokenizer: Tokenizer,
    control: Vec<String>,
    /// What stands for text without tokens; some files call it a control token.
    unknown: Vec<u32>,
}

fn vocabularies(folder: &Path) -> Vec<Vocabulary> {
    let load = |path: PathBuf| {
        let tokenizer = Tokenizer::from_gguf(Gguf::open(&path).unwrap().metadata()).unwrap();
        let guarded = |token: &u32| matches!(tokenizer.token_type(*token), Some(TokenType::Control | TokenType::Unknown));
        let text = |token| String::from_utf8(tokenizer.token_bytes(token).unwrap().to_vec()).unwrap();
        let control: Vec<_> = (0..tokenizer.n_vocab() as u32).filter(guarded).map(text).take(40).collect();
        let unknown = tokenizer.encode("\u{FDD5}", EncodeOptions::default()).unwrap_or_default();
        Vocabulary { name: path.file_name().unwrap().to_string_lossy().into_owned(), tokenizer, control, unknown }
    };
    let all: Vec<_> = files(&folder.join("tokenizers"), "gguf").into_iter().map(load).collect();
    assert!(all.len() > 5 && all.iter().filter(|v| v.control.len() > 1).count() > 3);
    all
}

/// Pieces of control tokens and of ordinary text, in any order.
fn hostile_text(control: &[String]) -> impl Strategy<Value = String> + use<> {
    let cut = |text: &String| {
        let at = text.floor_char_boundary(text.len() / 2);
        [text.clone(), text[..at].to_owned(), text[at..].to_owned()]
    };
    let mut pieces: Vec<String> = control.iter().flat_map(cut).filter(|piece| !piece.is_empty()).collect();
    pieces.extend(["<", ">", "|", "<|", "|>", " ", "\n", "x", "hello", "[", "]", "é", "\u{FDD0}"].map(str::to_owned));
    prop::collection::vec(prop::sample::select(pieces), 0..6).prop_map(|pieces| pieces.concat())
}

/// Tokens of a chat that are control tokens, in order.
fn control_tokens(v: &Vocabulary, template: &str, texts: [&str; 4]) -> Option<Vec<u32>> {
    let [system, user, name, result] = texts.map(|text| serde_json::to_string(text).unwrap());
    let messages = format!(
        r#"[{{"role":"system","content":{system}}},{{"role":"user","content":{user}}},
            {{"role":"assistant","content":"","tool_calls":[{{"id":"call00001","type":"function","function":{{"name":{name},"arguments":{{"a":{user}}}}}}}]}},
            {{"role":"tool","tool_call_id":"call00001","name":{name},"content":{result}}}]"#
    );
    let tools = format!(
        r#"[{{"type":"function","function":{{"name":{name},"description":{result},"parameters":{{"type":"object","properties":{{"a":{{"type":"string","description":{system}}}}}}}}}}}]"#
    );
    let request = ChatRequest::parse(&messages, &tools, r#"{"now":0}"#).unwrap();
    let templates = ChatTemplates::new(&v.tokenizer, Some(template.to_owned()), None);
    // A template may refuse the chat; some look at what is in it.
    let rendered = templates.render(&v.tokenizer, &request).ok()?;
    let tokens = v.tokenizer.encode_chat(&rendered).unwrap();
    let is_control = |token: &u32| v.tokenizer.token_type(*token) == Some(TokenType::Control) && !v.unknown.contains(token);
    Some(tokens.into_iter().filter(is_control).collect())
}

#[test]
fn what_users_write_never_becomes_a_control_token() {
    let Some(folder) = fixture("") else { return };
    let templates: Vec<String> =
        files(&folder.join("chat-templates"), "jinja").iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let compared = Cell::new(0);
    for v in vocabularies(&folder) {
        let text = || hostile_text(&v.control);
        let case = (0..templates.len(), [text(), text(), text(), text()]);
        let mut runner =
            TestRunner::new_with_rng(Config::with_cases(300), prop::test_runner::TestRng::deterministic_rng(Default::default()));
        let result = runner.run(&case, |(template, texts)| {
            let harmless = texts.each_ref().map(|text| if text.trim().is_empty() { text.as_str() } else { "hello" });
            let texts = texts.each_ref().map(String::as_str);
            let (hostile, plain) = (control_tokens(&v, &templates[template], texts), control_tokens(&v, &templates[template], harmless));
            if let (Some(hostile), Some(plain)) = (hostile, plain) {
                // The template writes the same control tokens around any text, and the text adds none.
                prop_assert!(hostile == plain || is_template_choice(&templates[template], &texts), "{hostile:?} {plain:?}");
                compared.set(compared.get() + 1);
            }
            Ok(())
        });
        result.unwrap_or_else(|e| panic!("{}: {e}", v.name));
    }
    assert!(compared.get() > 1000, "{compared:?}");
}

/// Whether a template may have written more for these texts because of what they say.
fn is_template_choice(template: &str, texts: &[&str; 4]) -> bool {
    let quotes = ["/no_think", "/think", "</think>", "<think>", "<tool_response>"];
    quotes.iter().any(|quote| template.contains(quote) && texts.iter().any(|text| text.contains(quote)))
}

/// Without anything to guard against, a chat is the tokens of its text.
#[test]
fn ordinary_chats_are_the_tokens_of_their_text() {
    let Some(folder) = fixture("") else { return };
    let template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}";
    for v in vocabularies(&folder) {
        let request =
            ChatRequest::parse(r#"[{"role":"user","content":"Grüße, how are you? 1 < 2"},{"role":"assistant","content":" ok"}]"#, "", "")
                .unwrap();
        let rendered = ChatTemplates::new(&v.tokenizer, Some(template.into()), None).render(&v.tokenizer, &request).unwrap();
        let options = EncodeOptions { add_special: false, parse_special: true };
        let expected = v.tokenizer.encode(rendered.text().as_bytes(), options).unwrap();
        assert_eq!(v.tokenizer.encode_chat(&rendered).unwrap(), expected, "{}", v.name);
    }
}
