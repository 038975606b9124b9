//! Every family: twenty calls, cut at every place, as the whole; and what is no call is not lost.

use super::*;
use crate::text::chat::ToolChoice;
use crate::text::constraint::{Allowed, Constraint, Grammars};
use crate::text::{Alphabet, Model, TokenType, Tokenizer, VocabularyData};
use std::borrow::Cow;
use std::sync::Arc;

/// What a parser makes of `text`, cut into `pieces`; neighbours of one kind joined.
fn run(template: &str, prompt: &str, tools: &[Json], pieces: &[&str]) -> Vec<Piece> {
    let (mut parser, mut out) = (OutputParser::new(template, prompt, tools), Vec::new());
    for piece in pieces {
        let mut new = Vec::new();
        parser.push(piece, &mut new);
        new.into_iter().for_each(|piece| join(&mut out, piece));
    }
    let mut rest = Vec::new();
    parser.finish(&mut rest);
    rest.into_iter().for_each(|piece| join(&mut out, piece));
    out
}

fn join(out: &mut Vec<Piece>, piece: Piece) {
    match (out.last_mut(), piece) {
        (Some(Piece::Text(last)), Piece::Text(text)) | (Some(Piece::Thinking(last)), Piece::Thinking(text)) => last.push_str(&text),
        (_, piece) => out.push(piece),
    }
}

fn json(text: &str) -> Json {
    Json::parse("test", text).unwrap()
}

fn tools() -> Vec<Json> {
    let tool = r#"[{"type":"function","function":{"name":"get_price","parameters":{"type":"object","properties":{"ware":{"type":"string"},"n":{"type":"integer"}}}}}]"#;
    let Json::Array(tools) = json(tool) else { panic!("an array") };
    tools
}

/// Twenty sets of arguments that models have trouble with.
fn arguments() -> Vec<Json> {
    let wares = ["sword", "", "12", "true", "two words", "é日本🦀", "a \\\"quoted\\\" one", "back\\\\slash", "<b>", "[x]"];
    let simple = wares.iter().map(|ware| format!(r#"{{"ware":"{ware}"}}"#));
    let more = wares
        .iter()
        .enumerate()
        .map(|(i, ware)| format!(r#"{{"ware":"{ware}","n":{},"deep":{{"list":[1,2.5,true,null,"s"],"map":{{}}}}}}"#, i as i64 * 37 - 5));
    simple.chain(more).map(|text| json(&text)).collect()
}

/// The calls as a model of `format` writes them.
fn written(format: &str, arguments: &Json) -> String {
    let pairs = || match arguments {
        Json::Object(pairs) => pairs.iter(),
        _ => panic!("an object"),
    };
    let plain = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let xml = || pairs().map(|(key, value)| format!("<parameter={key}>\n{}\n</parameter>\n", plain(value))).collect::<String>();
    let call = format!(r#"{{"name":"get_price","arguments":{arguments}}}"#);
    match format {
        "gpt-oss" => {
            format!("<|start|>assistant<|channel|>commentary to=functions.get_price <|constrain|>json<|message|>{arguments}<|call|>")
        }
        "solar" => format!("<|tool_calls|><|tool_call:begin|>id7<|tool_call:name|>get_price<|tool_call:args|>{arguments}<|tool_call:end|>"),
        "gemma" => format!("<|tool_call>call:get_price{}<tool_call|>", gemma(arguments)),
        "deepseek-v4" => {
            let one = |(key, value): &(String, Json)| {
                format!("<｜DSML｜parameter name=\"{key}\" string=\"{}\">{}</｜DSML｜parameter>\n", value.as_str().is_some(), plain(value))
            };
            format!(
                "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"get_price\">\n{}</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
                pairs().map(one).collect::<String>()
            )
        }
        "deepseek" => {
            format!("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_price<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜><｜tool▁calls▁end｜>")
        }
        "kimi" => format!(
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_price:0<|tool_call_argument_begin|>{arguments}<|tool_call_end|><|tool_calls_section_end|>"
        ),
        "mistral" => format!("[TOOL_CALLS]get_price[ARGS]{arguments}"),
        "lfm2" | "lfm2-lists" => {
            let args: Vec<String> = pairs().map(|(key, value)| format!("{key}={}", python(value))).collect();
            format!("<|tool_call_start|>[get_price({})]<|tool_call_end|>", args.join(", "))
        }
        "cohere" => format!(
            "<|START_ACTION|>[\n {{\"tool_call_id\": \"0\", \"tool_name\": \"get_price\", \"parameters\": {arguments}}}\n]<|END_ACTION|>"
        ),
        "command-r" => format!("Action:\n```json\n[{{\"tool_name\": \"get_price\", \"parameters\": {arguments}}}]```"),
        "gigachat" => format!("<|function_call|>{call}"),
        "gigachat-text" => format!("function call<|role_sep|>{call}"),
        "minimax" => {
            let one = |(key, value): &(String, Json)| format!("<parameter name=\"{key}\">{}</parameter>\n", plain(value));
            format!(
                "<minimax:tool_call>\n<invoke name=\"get_price\">\n{}</invoke>\n</minimax:tool_call>",
                pairs().map(one).collect::<String>()
            )
        }
        "seed" => format!("<seed:tool_call>\n<function=get_price>\n{}</function>\n</seed:tool_call>", xml()),
        "hermes" => format!("<tool_call>\n{call}\n</tool_call>"),
        "hermes-xml" => format!("<tool_call>\n<function=get_price>\n{}</function>\n</tool_call>", xml()),
        "hermes-glm" => {
            let one = |(key, value): &(String, Json)| format!("<arg_key>{key}</arg_key><arg_value>{}</arg_value>", plain(value));
            format!("<tool_call>get_price{}</tool_call>", pairs().map(one).collect::<String>())
        }
        "apriel" => format!("<tool_calls>[{call}]</tool_calls>"),
        "nemotron" => format!("<TOOLCALL>[{call}]</TOOLCALL>"),
        "functionary-v3.2" => format!(">>>get_price\n{arguments}"),
        "functionary-v3.1" => format!("<function=get_price>{arguments}</function>"),
        "firefunction" => format!(" functools[{call}]"),
        "phi" => format!("<|tool_call|>[{call}]<|/tool_call|>"),
        "granite" => format!("<|tool_call|>[{call}]"),
        "llama" => format!("<|python_tag|>{}", call.replace("arguments", "parameters")),
        other => panic!("no notation for {other}"),
    }
}

fn gemma(value: &Json) -> String {
    match value {
        Json::String(text) => format!("<|\"|>{text}<|\"|>"),
        Json::Array(items) => format!("[{}]", items.iter().map(gemma).collect::<Vec<_>>().join(",")),
        Json::Object(pairs) => {
            format!("{{{}}}", pairs.iter().map(|(key, value)| format!("{key}:{}", gemma(value))).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

fn python(value: &Json) -> String {
    match value {
        Json::Null => "None".into(),
        Json::Bool(value) => if *value { "True" } else { "False" }.into(),
        Json::String(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        Json::Array(items) => format!("[{}]", items.iter().map(python).collect::<Vec<_>>().join(", ")),
        Json::Object(pairs) => {
            format!("{{{}}}", pairs.iter().map(|(key, value)| format!("'{key}': {}", python(value))).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn twenty_calls_of_every_format_at_every_cut() {
    let names = formats::FORMATS.iter().map(|format| format.name).chain(["hermes-xml", "hermes-glm"]);
    for name in names {
        let row_name = if name.starts_with("hermes") { "hermes" } else { name };
        let row = formats::FORMATS.iter().find(|format| format.name == row_name).unwrap();
        let template = row.signature.concat();
        assert_eq!(formats::detect(&template).0.name, row.name, "an earlier row takes the template of {name}");
        for (i, arguments) in arguments().iter().enumerate() {
            let text = format!("Let me see.\n{}", written(name, arguments));
            let whole = run(&template, "", &tools(), &[&text]);
            let [Piece::Text(said), Piece::Call(call)] = &whole[..] else { panic!("{name} {i}: {text}\n{whole:?}") };
            assert_eq!((said.as_str(), call.name.as_str()), ("Let me see.", "get_price"), "{name} {i}");
            assert_eq!(call.arguments.to_string(), arguments.to_string(), "{name} {i}: {text}");
            for at in (1..text.len()).filter(|&at| text.is_char_boundary(at)) {
                assert_eq!(run(&template, "", &tools(), &[&text[..at], &text[at..]]), whole, "{name} {i} cut at {at}");
            }
            let singly: Vec<&str> = text.split("").collect();
            assert_eq!(run(&template, "", &tools(), &singly), whole, "{name} {i} by characters");
        }
    }
}

/// Bytes, and an end.
fn byte_tokenizer() -> Arc<Tokenizer> {
    let mut data = VocabularyData::empty(Alphabet::Characters);
    data.tokens = (0..256).map(|byte| Cow::Owned(format!("<0x{byte:02X}>").into_bytes())).collect();
    data.types = vec![TokenType::Byte; 256];
    data.tokens.push(Cow::Borrowed(b"</s>"));
    data.types.push(TokenType::Control);
    (data.model, data.eos) = (Model::Scores(vec![0.0; 257]), Some(256));
    Arc::new(Tokenizer::new(&data).unwrap_or_else(|e| panic!("{e}")))
}

/// Something that `constraint` allows; what may close something is chosen often, so that it ends. `None` if it does not.
fn any_text(constraint: &mut Constraint, random: &mut u64) -> Option<String> {
    let mut bytes = Vec::new();
    let mut next = |n: usize| {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 33) as usize % n
    };
    for _ in 0..2000 {
        let allowed: Vec<u32> = match constraint.allowed().unwrap() {
            Allowed::One(token) => vec![token],
            Allowed::Bits(bits) => (0..257).filter(|id| bits[*id as usize / 32] >> (id % 32) & 1 == 1).collect(),
        };
        let closing: Vec<u32> =
            allowed.iter().copied().filter(|&token| token == 256 || b"\"<]})|/".iter().any(|&b| u32::from(b) == token)).collect();
        let choices = if closing.is_empty() || next(2) == 0 { &allowed } else { &closing };
        let token = choices[next(choices.len())];
        constraint.accept(token).unwrap();
        match u8::try_from(token) {
            Ok(byte) => bytes.push(byte),
            Err(_) => return String::from_utf8(bytes).ok(),
        }
    }
    None
}

#[test]
fn calls_that_must_be_made_are_read_back_in_every_format() {
    let (tokenizer, tools) = (byte_tokenizer(), tools());
    let grammars = Grammars::new(&tokenizer).unwrap();
    let variants =
        [("hermes", "<function="), ("hermes", "<arg_key>"), ("deepseek", "```json"), ("mistral", "[ARGS]"), ("mistral", "[ARGS][CALL_ID]")];
    let plain = formats::FORMATS.iter().map(|format| (format.name, ""));
    for (name, more) in plain.chain(variants) {
        let row = formats::FORMATS.iter().find(|format| format.name == name).unwrap();
        let template = row.signature.concat() + more;
        let answer = Answer { tokenizer: &tokenizer, template: &template, prompt: "", tools: &tools, parallel: true };
        let source = answer.choosing(&ToolChoice::Named("get_price".into())).unwrap();
        let mut constraint = grammars.compile(&source).unwrap_or_else(|e| panic!("{name} {more}: {e}\n{}", source.text));
        let (mut random, mut n_read) = (7, 0);
        for _ in 0..12 {
            constraint.reset();
            let Some(text) = any_text(&mut constraint, &mut random) else { continue };
            let pieces = run(&template, "", &tools, &[&text]);
            let is_call = |piece: &Piece| matches!(piece, Piece::Call(call) if call.name == "get_price");
            let is_space = |piece: &Piece| matches!(piece, Piece::Text(text) if text.trim().is_empty());
            assert!(
                pieces.iter().any(is_call) && pieces.iter().all(|piece| is_call(piece) || is_space(piece)),
                "{name} {more}: {text:?}\n{pieces:?}"
            );
            n_read += 1;
        }
        assert!(n_read > 0, "{name} {more}: nothing ends");
    }
}

/// True if `text`, byte by byte, is allowed, and may end there.
fn takes(constraint: &mut Constraint, text: &str) -> bool {
    constraint.reset();
    let mut is_next = |token: u32| {
        let allowed = match constraint.allowed() {
            Ok(Allowed::One(one)) => one == token,
            Ok(Allowed::Bits(bits)) => bits[token as usize / 32] >> (token % 32) & 1 == 1,
            Err(_) => false,
        };
        allowed && constraint.accept(token).is_ok()
    };
    text.bytes().map(u32::from).chain([256]).all(&mut is_next)
}

#[test]
fn every_choice_is_enforced_in_every_format() {
    let (tokenizer, mut tools) = (byte_tokenizer(), tools());
    tools.push(json(r#"{"type":"function","function":{"name":"leave","parameters":{"type":"object","properties":{}}}}"#));
    let grammars = Grammars::new(&tokenizer).unwrap();
    for row in &formats::FORMATS {
        let (name, template) = (row.name, row.signature.concat());
        let answer = Answer { tokenizer: &tokenizer, template: &template, prompt: "", tools: &tools, parallel: true };
        let compile = |choice: ToolChoice| grammars.compile(&answer.choosing(&choice).unwrap()).unwrap();
        let mut price = compile(ToolChoice::Named("get_price".into()));
        let mut random = 3;
        let call = (0..50).find_map(|_| {
            price.reset();
            any_text(&mut price, &mut random)
        });
        let call = call.unwrap_or_else(|| panic!("{name}: nothing ends"));
        let plain_text = if row.channels { "<|channel|>final<|message|>It costs 3 gold." } else { "It costs 3 gold." };
        let half = &call[..call.floor_char_boundary(call.find("get_price").unwrap() + 4)];
        for (choice, whole, unfinished, plain) in [
            (ToolChoice::None, false, false, true),
            (ToolChoice::Auto, true, false, true),
            (ToolChoice::Required, true, false, false),
            (ToolChoice::Named("get_price".into()), true, false, false),
            (ToolChoice::Named("leave".into()), false, false, false),
        ] {
            let mut constraint = compile(choice.clone());
            for (text, expected) in [(call.as_str(), whole), (half, unfinished), (plain_text, plain)] {
                assert_eq!(takes(&mut constraint, text), expected, "{name}, {choice:?}: {text:?}");
            }
        }
    }
}

#[test]
fn thinking_is_told_apart_at_every_cut() {
    let text = Piece::Text("Four.".into());
    let thought = Piece::Thinking("Two and\ntwo.".into());
    for (template, prompt, output) in [
        ("<think></think>", "", "<think>\nTwo and\ntwo.\n</think>\n\nFour."),
        ("<think></think>", "user<think>\n", "Two and\ntwo.\n</think>\n\nFour."),
        ("</think>", "", "<think>Two and\ntwo.</think>Four."),
        (
            "<|START_THINKING|><|START_ACTION|>",
            "",
            "<|START_THINKING|>Two and\ntwo.<|END_THINKING|><|START_RESPONSE|>Four.<|END_RESPONSE|>",
        ),
        (
            "<|channel|>to=functions.",
            "",
            "<|channel|>analysis<|message|>Two and\ntwo.<|end|><|start|>assistant<|channel|>final<|message|>Four.",
        ),
        ("Here are my reasoning steps:", "Here are my reasoning steps:\n", "Two and\ntwo.\n[BEGIN FINAL RESPONSE]\nFour."),
    ] {
        let expected = [thought.clone(), text.clone()];
        for at in (0..output.len()).filter(|&at| output.is_char_boundary(at)) {
            assert_eq!(run(template, prompt, &[], &[&output[..at], &output[at..]]), expected, "{output} cut at {at}");
        }
    }
}

#[test]
fn nothing_is_lost() {
    let hermes = |text: &str| run("<tool_call>", "", &tools(), &[text]);
    let broken = |text: &str| Piece::Broken(text.into());
    assert_eq!(hermes("<tool_call>\n{\"name\":"), [broken("<tool_call>\n{\"name\":")]);
    assert_eq!(
        hermes("a<tool_call>no</call></tool_call>b"),
        [Piece::Text("a".into()), broken("<tool_call>no</call>"), Piece::Text("b".into())]
    );
    assert_eq!(hermes("a < b <tool"), [Piece::Text("a < b <tool".into())]);
    for plain in ["", " a ", "\n\nx <tool_cal y\n", "{\"a\": 1}", "   "] {
        let expected: Vec<Piece> = if plain.is_empty() { vec![] } else { vec![Piece::Text(plain.into())] };
        assert_eq!(hermes(plain), expected);
        assert_eq!(run("nothing", "", &tools(), &[plain]), expected);
        assert_eq!(run("ipython", "", &tools(), &[plain]), expected, "{plain:?}");
    }
    assert_eq!(run("<tool_call>", "", &[], &["<tool_call>x"]), [Piece::Text("<tool_call>x".into())], "without tools it is text");
    assert!(
        matches!(&run("ipython", "", &tools(), &["{\"name\": \"f\", \"parameters\": {}}"])[..], [Piece::Call(call)] if call.name == "f")
    );
    let deep = format!("<tool_call>{}</tool_call>", "[".repeat(100_000));
    assert!(matches!(&hermes(&deep)[..], [Piece::Broken(_)]));
}
