//! Calls of tools as the fixture templates write them: rendered, and read back from every cut of the text that the model would have generated.
//!
//! The templates are not ours and not in the repository: without `../shared/fixtures` this test prints that it skips.

#[path = "common/fixtures.rs"]
mod fixtures;

use fixtures::fixture;
use inference::error::Result;
use inference::text::chat::{ChatRequest, ChatTemplates, Json, OutputParser, Piece};
use inference::text::{Alphabet, TokenType, Tokenizer, VocabularyData};

const TOOLS: &str = r#"[{"type":"function","function":{"name":"get_price","description":"Tells a price.","parameters":{"type":"object","properties":
    {"ware":{"type":"string","description":"What it is."},"n":{"type":"integer","description":"How many."},"deep":{"type":"object","description":"More."}},"required":["ware"]}}}]"#;
const USER: &str = r#"{"role":"user","content":"What does it cost?"}"#;
/// Stands for an answer in text, to find what a template writes behind one.
const PLAIN: &str = "QXZPLAIN";

#[expect(clippy::print_stderr, reason = "the figures are for people")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Twenty sets of arguments that notations have trouble with.
fn arguments() -> Vec<Json> {
    let wares = ["sword", "12", "true", "two words", "é日本🦀", "a \\\"quoted\\\" one", "back\\\\slash", "<b>", "[x]", "it's"];
    let simple = wares.iter().map(|ware| format!(r#"{{"ware":"{ware}"}}"#));
    let deep = |(i, ware)| format!(r#"{{"ware":"{ware}","n":{},"deep":{{"list":[1,2.5,true,"s"],"map":{{"k":"v"}}}}}}"#, i as i64 * 37 - 5);
    let more = wares.iter().enumerate().map(deep);
    simple.chain(more).map(|text| Json::parse("arguments", &text).unwrap()).collect()
}

fn tokenizer() -> Tokenizer {
    let mut data = VocabularyData::empty(Alphabet::Characters);
    for (text, kind) in [("<unk>", TokenType::Unknown), ("<s>", TokenType::Control), ("</s>", TokenType::Control)] {
        data.tokens.push(text.as_bytes().into());
        data.types.push(kind);
    }
    (data.unknown, data.bos, data.eos) = (Some(0), Some(1), Some(2));
    Tokenizer::new(&data).unwrap()
}

/// A fixture template.
struct Template {
    source: String,
    tokenizer: Tokenizer,
}

impl Template {
    fn render(&self, messages: &str, with_prompt: bool) -> Result<String> {
        let options = format!(r#"{{"now":0,"add_generation_prompt":{with_prompt},"enable_thinking":false,"thinking":false}}"#);
        let request = ChatRequest::parse(&format!("[{messages}]"), TOOLS, &options)?;
        let templates = ChatTemplates::new(&self.tokenizer, Some(self.source.clone()), None);
        Ok(templates.render(&self.tokenizer, &request)?.text().into_owned())
    }

    /// What the model would have generated for a call with `arguments`, and the prompt before it.
    fn called(&self, arguments: &Json) -> Option<(String, String)> {
        let message = format!(
            r#"{{"role":"assistant","content":"","tool_calls":[{{"id":"abc123def","type":"function","function":{{"name":"get_price","arguments":{arguments}}}}}]}}"#
        );
        self.generated(&message).filter(|(_, text)| text.contains("get_price"))
    }

    /// As [`Self::called`], for any message. `None` if the template refuses it, or writes what was said in another way than it is generated.
    fn generated(&self, message: &str) -> Option<(String, String)> {
        let chat = |message: &str| self.render(&format!("{USER},{message}"), false).ok();
        let plain = chat(&format!(r#"{{"role":"assistant","content":"{PLAIN}"}}"#))?;
        let (_, end) = plain.split_once(PLAIN)?;
        let called = chat(message)?;
        let (prompt, without) = (self.render(USER, true).ok()?, self.render(USER, false).ok()?);
        // Some begin an answer with thoughts, and leave them out of what was said before.
        let (prompt, answer) = match called.strip_prefix(prompt.trim_end()) {
            Some(answer) => (prompt.as_str(), answer),
            None => ("", called.strip_prefix(without.as_str())?),
        };
        Some((prompt.to_owned(), answer.strip_suffix(end).unwrap_or(answer).to_owned()))
    }
}

fn read(template: &Template, prompt: &str, pieces: &[&str]) -> Vec<Piece> {
    let Json::Array(tools) = Json::parse("tools", TOOLS).unwrap() else { panic!("tools") };
    let (mut parser, mut out) = (OutputParser::new(&template.source, prompt, &tools), Vec::new());
    pieces.iter().for_each(|piece| parser.push(piece, &mut out));
    parser.finish(&mut out);
    // Text that arrives in parts is one text.
    let mut joined: Vec<Piece> = Vec::new();
    for piece in out {
        match (joined.last_mut(), piece) {
            (Some(Piece::Text(last)), Piece::Text(text)) | (Some(Piece::Thinking(last)), Piece::Thinking(text)) => last.push_str(&text),
            (_, piece) => joined.push(piece),
        }
    }
    joined
}

/// With the keys of maps in order: some templates sort them.
fn sorted(json: &Json) -> Json {
    match json {
        Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
        Json::Object(pairs) => {
            let mut pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            Json::Object(pairs)
        }
        other => other.clone(),
    }
}

/// The only call among `pieces`, if nothing of it is left as text.
fn call(pieces: &[Piece]) -> Option<(&str, Json)> {
    let calls: Vec<_> = pieces.iter().filter(|piece| matches!(piece, Piece::Call(_) | Piece::Broken(_))).collect();
    match calls[..] {
        [Piece::Call(call)] => Some((&call.name, sorted(&call.arguments))),
        _ => None,
    }
}

#[test]
fn calls_that_templates_write_are_read_back_from_every_cut() {
    let Some(folder) = fixture("chat-templates") else { return };
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let (mut wrong, mut n_read, mut without) = (Vec::new(), 0, Vec::new());
    for path in &paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let template = Template { source: std::fs::read_to_string(path).unwrap(), tokenizer: tokenizer() };
        let mut n = 0;
        for arguments in arguments() {
            // Some templates take arguments as a map, some as a text with JSON in it.
            let generated =
                [arguments.clone(), Json::String(arguments.to_string())].iter().find_map(|arguments| template.called(arguments));
            let Some((prompt, text)) = generated else { continue };
            n += 1;
            let whole = read(&template, &prompt, &[&text]);
            if call(&whole) != Some(("get_price", sorted(&arguments))) {
                wrong.push(format!("{name}: {arguments}\n    {text:?}\n    {whole:?}"));
                continue;
            }
            for at in (1..text.len()).filter(|&at| text.is_char_boundary(at)) {
                assert_eq!(read(&template, &prompt, &[&text[..at], &text[at..]]), whole, "{name} cut at {at}: {text}");
            }
        }
        n_read += usize::from(n > 0);
        if n == 0 {
            without.push(name);
        }
    }
    say(&format!("{n_read} templates write calls; not: {}", without.join(", ")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_read > 30, "{n_read}");
}
