//! `tokenizer.json` and `tokenizer_config.json`: cut, flipped, with values of other types, deep, huge and broken.

use crate::bench::{Watch, is_torture, stride};
use crate::peak;
use inference::error::{Error, ErrorKind, Result};
use inference::text::{DecodeOptions, EncodeOptions, Tokenizer};
use serde_json::{Value, json};
use std::fmt::Display;
use std::panic::catch_unwind;

/// Of byte-level BPE, as it is published.
fn byte_level() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [
            { "id": 6, "content": "<|end|>", "special": true, "lstrip": false, "rstrip": true, "single_word": false, "normalized": false },
            { "id": 7, "content": "<tool>", "special": false, "single_word": true },
        ],
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
            "vocab": { "a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4, "Ċ": 5, "c": 8 },
            "merges": ["a b", "Ġ ab"],
        },
    })
}

/// Of SentencePiece, as it is converted.
fn characters() -> Value {
    json!({
        "added_tokens": [{ "id": 0, "content": "<unk>", "special": true }, { "id": 1, "content": "<s>", "special": true }],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ]},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
        },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
            "vocab": { "<unk>": 0, "<s>": 1, "<0x41>": 2, "a": 3, "▁": 4, "▁a": 5, "b": 6 },
            "merges": [["▁", "a"]],
        },
    })
}

fn config() -> Value {
    json!({ "bos_token": { "content": "<s>" }, "eos_token": "<unk>", "add_bos_token": true, "add_eos_token": false })
}

/// Watches cases and counts them.
struct Bench {
    name: &'static str,
    watch: Watch,
    n_lived: usize,
    n_refused: usize,
}

impl Bench {
    fn new(name: &'static str) -> Self {
        Self { name, watch: Watch::new(), n_lived: 0, n_refused: 0 }
    }

    /// True if the files make a tokenizer that works.
    fn tried(&mut self, case: impl Display, json: &[u8], config: Option<&[u8]>) -> bool {
        let case = format!("{}: {case}", self.name);
        self.watch.begin(case.clone());
        let (outcome, peak) = peak::measure(|| catch_unwind(|| live(json, config)));
        self.watch.end();
        // A table's row takes ten times its `"a":1,` in the file.
        let budget = 16 * json.len() + (32 << 20);
        assert!(peak <= budget, "{case}: {peak} bytes at once for a file of {}", json.len());
        let Ok(outcome) = outcome else { panic!("{case}: panicked") };
        if let Err(e) = &outcome {
            assert!(matches!(e.kind(), ErrorKind::Format | ErrorKind::Unsupported), "{case}: {:?} {e}", e.kind());
            assert!((10..2000).contains(&e.message().len()), "{case}: {e}");
        }
        *(if outcome.is_ok() { &mut self.n_lived } else { &mut self.n_refused }) += 1;
        outcome.is_ok()
    }

    fn finish(self, expected: usize) {
        let Self { name, n_lived, n_refused, .. } = self;
        assert!(n_lived + n_refused >= expected, "{name}: {} cases, none may get lost of {expected}", n_lived + n_refused);
        assert!(n_lived > 0 && n_refused > 0, "{name}: {n_lived} lived, {n_refused} were refused: the cases miss their aim");
        if is_torture() {
            eprintln!("tokenizer.json, {name}: {} cases, {n_lived} lived", n_lived + n_refused);
        }
    }
}

/// Loads, encodes and decodes. A vocabulary that cannot spell the text says so.
fn live(json: &[u8], config: Option<&[u8]>) -> Result<()> {
    let tokenizer = Tokenizer::from_json(json, config)?;
    for text in ["ab a b\n", "<s>a<tool> b<|end|>  ", "\u{e9}\u{301}\u{1F600}"] {
        let tokens = match tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true }) {
            Err(e) if e.kind() == ErrorKind::Unsupported => continue,
            tokens => tokens.map_err(|e| Error::new(ErrorKind::Internal, format!("encoding: {e}")))?,
        };
        let decoded = tokenizer.decode(&tokens, DecodeOptions { skip_special: false, at_text_start: true });
        decoded.map_err(|e| Error::new(ErrorKind::Internal, format!("decoding: {e}")))?;
    }
    Ok(())
}

fn documents() -> [(&'static str, Value); 2] {
    [("byte level", byte_level()), ("characters", characters())]
}

#[test]
fn cut_at_every_byte() {
    let mut bench = Bench::new("cut");
    for (name, document) in documents() {
        let bytes = document.to_string().into_bytes();
        assert!(bench.tried(name, &bytes, None));
        for len in 0..bytes.len() {
            assert!(!bench.tried(format_args!("{name} at {len}"), &bytes[..len], None), "{name}, cut at {len}, was accepted");
        }
    }
    bench.finish(1_570);
}

#[test]
fn every_bit_flipped_and_every_byte_replaced() {
    let mut bench = Bench::new("bits");
    for (name, document) in documents() {
        let bytes = document.to_string().into_bytes();
        for at in 0..bytes.len() {
            let flips = (0..8).map(|bit| bytes[at] ^ 1 << bit).chain(*b"\0\"[]{}0-e,:\\");
            for byte in flips.step_by(stride(3)) {
                let mut edited = bytes.clone();
                edited[at] = byte;
                bench.tried(format_args!("{name}: {byte:#x} at {at}"), &edited, None);
            }
        }
    }
    bench.finish(10_900);
}

/// The place of every value inside `value`.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| places(value, &format!("{at}/{}", escape(key)), out)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), out)),
        _ => {}
    }
}

/// Values of every type, and the edges of each.
fn replacements() -> Vec<Value> {
    let numbers = [
        json!(0),
        json!(1),
        json!(-1),
        json!(8),
        json!(99),
        json!(1 << 31),
        json!(u32::MAX),
        json!(1u64 << 32),
        json!(u64::MAX),
        json!(0.5),
        json!(1e300),
    ];
    let texts = [
        "",
        "a",
        " ",
        "a b",
        "▁",
        "BPE",
        "Unigram",
        "WordPiece",
        "Sequence",
        "ByteLevel",
        "Metaspace",
        "Split",
        "(a+)+$",
        "\u{0}",
        "<0xZZ>",
    ];
    let others =
        [json!(null), json!(true), json!(false), json!([]), json!({}), json!([[]]), json!([null]), json!({ "a": 0 }), json!(["a", "b"])];
    numbers.into_iter().chain(texts.map(Into::into)).chain(others).collect()
}

#[test]
fn every_value_replaced_and_removed() {
    let mut bench = Bench::new("values");
    for (name, document) in documents() {
        let mut all = Vec::new();
        places(&document, "", &mut all);
        for place in all {
            for value in replacements() {
                let mut edited = document.clone();
                *edited.pointer_mut(&place).unwrap() = value.clone();
                bench.tried(
                    format_args!("{name}: {place} = {value}"),
                    edited.to_string().as_bytes(),
                    Some(config().to_string().as_bytes()),
                );
            }
            let Some((parent, key)) = place.rsplit_once('/') else { continue };
            let mut edited = document.clone();
            if let Some(map) = edited.pointer_mut(parent).unwrap().as_object_mut() {
                map.remove(&key.replace("~1", "/").replace("~0", "~"));
                bench.tried(format_args!("{name} without {place}"), edited.to_string().as_bytes(), None);
            }
        }
    }
    bench.finish(4_400);
}

#[test]
fn every_value_of_the_config_replaced() {
    let mut bench = Bench::new("config");
    let document = characters().to_string();
    let mut all = Vec::new();
    places(&config(), "", &mut all);
    for place in all {
        for value in replacements() {
            let mut edited = config();
            *edited.pointer_mut(&place).unwrap() = value.clone();
            bench.tried(format_args!("{place} = {value}"), document.as_bytes(), Some(edited.to_string().as_bytes()));
        }
    }
    bench.finish(200);
}

#[test]
fn deep_huge_and_costly() {
    let mut bench = Bench::new("costly");
    assert!(bench.tried("as it is", characters().to_string().as_bytes(), None));
    for n in [100, 127, 128, 129, 1_000, 1_000_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}0{}", open.repeat(n), close.repeat(n));
            for key in ["normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens", "unknown", "model"] {
                let mut fields: Vec<String> = Vec::new();
                for (name, value) in characters().as_object().unwrap() {
                    fields.extend((name != key).then(|| format!("{name:?}:{value}")));
                }
                bench.tried(format_args!("{n} {open} as {key}"), format!("{{{},{key:?}:{deep}}}", fields.join(",")).as_bytes(), None);
            }
        }
    }
    let n = if is_torture() { 1_000_000 } else { 100_000 };
    let with = |place: &str, value: Value| {
        let mut document = characters();
        *document.pointer_mut(place).unwrap() = value;
        document.to_string()
    };
    let many: serde_json::Map<String, Value> = (0..n).map(|i| (format!("{i:x}"), (i + 10).into())).collect();
    let costly = [
        ("many tokens", with("/model/vocab", Value::Object(many))),
        ("the same merge often", with("/model/merges", vec![json!(["▁", "a"]); n].into())),
        ("a merge of long halves", with("/model/merges", json!([["a".repeat(n), "b".repeat(n)]]))),
        (
            "many added tokens",
            with("/added_tokens", (0..n).map(|i| json!({ "id": 10 + i, "content": format!("<{i}>") })).collect::<Vec<_>>().into()),
        ),
        ("one token added often", with("/added_tokens", vec![json!({ "id": 3, "content": "a" }); n].into())),
        (
            "long added tokens",
            with(
                "/added_tokens",
                (0..400).map(|i| json!({ "id": 10 + i, "content": format!("{i}{}", "x\u{e9}".repeat(4_000)) })).collect::<Vec<_>>().into(),
            ),
        ),
        ("a long template", with("/post_processor/single", vec![json!({ "SpecialToken": { "id": "<s>", "type_id": 0 } }); n].into())),
        ("a wide normalizer", with("/normalizer/normalizers", vec![json!({ "type": "NFC" }); n].into())),
        (
            "a long pattern",
            with(
                "/pre_tokenizer",
                json!({ "type": "Split", "pattern": { "Regex": "(a".repeat(n) }, "behavior": "Isolated", "invert": false }),
            ),
        ),
        ("a number of many digits", with("/model/vocab/a", json!(3)).replace("\"a\":3", &format!("\"a\":{}", "9".repeat(n)))),
        ("escapes only", with("/model/vocab", json!({})).replace("\"vocab\":{}", &format!("\"vocab\":{{\"{}\":3}}", "\\u0061".repeat(n)))),
    ];
    for (name, json) in costly {
        bench.tried(name, json.as_bytes(), None);
    }
    bench.finish(90);
}
