//! WordPiece and Unigram: the same vocabulary as GGUF and as `tokenizer.json`, and the `tokenizers` crate as the oracle of both.

#[path = "common/fixtures.rs"]
mod fixtures;

use fixtures::fixture;
use inference::formats::gguf::{Array, Gguf, GgufWriter, Strings, Value};
use inference::sys::file::MemorySource;
use inference::text::{DecodeOptions, EncodeOptions, Token, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use std::sync::Arc;

const SPECIAL: EncodeOptions = EncodeOptions { add_special: true, parse_special: false };

fn gguf(entries: Vec<(&str, Value)>) -> Tokenizer {
    let mut writer = GgufWriter::new();
    for (key, value) in entries {
        writer.set(&format!("tokenizer.ggml.{key}"), value).unwrap();
    }
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).unwrap();
    Tokenizer::from_gguf(Gguf::from_source(Arc::new(MemorySource::new(bytes))).unwrap().metadata()).unwrap()
}

fn text(text: &str) -> Value {
    Value::String(text.as_bytes().into())
}

fn strings<T: AsRef<[u8]>>(items: &[T]) -> Value {
    Value::Array(Array::String(Strings::collect(items).unwrap()))
}

/// Runs `check` on random texts of these pieces.
fn for_random(cases: u32, pieces: Vec<&'static str>, check: impl Fn(&str)) {
    let piece = prop_oneof![prop::sample::select(pieces).prop_map(str::to_owned), "[a-zA-Z ]{0,6}", "[\\u{1}-\\u{52f}]{0,3}"];
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let checked = |pieces: Vec<String>| {
        check(&pieces.concat());
        Ok(())
    };
    runner.run(&prop::collection::vec(piece, 0..12), checked).unwrap_or_else(|e| panic!("{e}"));
}

#[track_caller]
fn same(ours: &Tokenizer, theirs: &tokenizers::Tokenizer, text: &str) {
    let expected = theirs.encode_fast(text, true).unwrap();
    assert_eq!(ours.encode(text, SPECIAL).unwrap(), expected.get_ids(), "{text:?}: {:?}", expected.get_tokens());
}

/// BERT's form of `tokenizer.json`, with tokens as in its `vocab.txt`.
fn word_piece_json(tokens: &[String], lowercase: bool) -> Vec<u8> {
    let vocab: serde_json::Map<String, serde_json::Value> = tokens.iter().cloned().zip((0..).map(|id: u32| id.into())).collect();
    let id = |token: &str| vocab[token].clone();
    let special = |token: &str| json!({ "id": token, "ids": [id(token)], "tokens": [token] });
    let added = |token: &str| json!({ "id": id(token), "content": token, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false });
    let document = json!({
        "version": "1.0",
        "added_tokens": [added("[UNK]"), added("[CLS]"), added("[SEP]")],
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": lowercase },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "[CLS]": special("[CLS]"), "[SEP]": special("[SEP]") },
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab },
    });
    document.to_string().into_bytes()
}

/// Texts in which what BERT looks at is likely.
fn bert_pieces() -> Vec<&'static str> {
    let long = "unaffable".repeat(12).leak();
    vec![
        "un", "aff", "able", "Hello", "world", "Äpfel", "é", "e\u{301}", "中文", "한", "日本", "!", "...", "$5", "\u{200d}", "\t", "\n",
        " ", "İ", "▁", "[UNK]", "x1", "😀", long,
    ]
}

#[test]
fn word_piece_is_the_same_in_both_formats_and_as_published() {
    let words = "[PAD] [UNK] [CLS] [SEP] un ##aff ##able hello hell ##o ##w world apfel e é ##é 中 文 日 ! . $ 5 a ##a b ##b x ##1 ##x i ##i ##un c ##c";
    let tokens: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let marked = |token: &String| match token.strip_prefix("##") {
        Some(rest) => rest.to_owned(),
        None if token.starts_with('[') => token.clone(),
        None => format!("▁{token}"),
    };
    let converted: Vec<String> = tokens.iter().map(marked).collect();
    let types = (0..tokens.len()).map(|id| if id < 4 { 3 } else { 1 }).collect();
    for lowercase in [true, false] {
        let json = word_piece_json(&tokens, lowercase);
        let (ours, theirs) = (Tokenizer::from_json(&json, None).unwrap(), tokenizers::Tokenizer::from_bytes(&json).unwrap());
        let other = gguf(vec![
            ("model", text("bert")),
            ("tokens", strings(&converted)),
            ("token_type", Value::Array(Array::I32(Vec::clone(&types)))),
            ("unknown_token_id", Value::U32(1)),
            ("cls_token_id", Value::U32(2)),
            ("seperator_token_id", Value::U32(3)),
            ("normalizer.lowercase", Value::Bool(lowercase)),
        ]);
        for_random(2000, bert_pieces(), |text| {
            if !text.contains("[UNK]") {
                same(&ours, &theirs, text); // they find special tokens in any text
            }
            assert_eq!(ours.encode(text, SPECIAL).unwrap(), other.encode(text, SPECIAL).unwrap(), "{text:?}");
        });
        let tokens = ours.encode("unaffable hello", EncodeOptions::default()).unwrap();
        let whole = DecodeOptions { skip_special: true, at_text_start: true };
        assert_eq!(ours.decode(&tokens, whole).unwrap(), b"unaffable hello");
    }
}

/// The published vocabulary, written back into the form of `vocab.txt`.
#[test]
fn a_published_word_piece_vocabulary_agrees_with_the_publishers_code() {
    let Some(path) = fixture("tokenizers/ggml-vocab-bert-bge.gguf") else { return };
    let file = Gguf::open(&path).unwrap();
    let other = Tokenizer::from_gguf(file.metadata()).unwrap();
    let in_file = file.metadata().strings("tokenizer.ggml.tokens").unwrap().iter().map(|token| std::str::from_utf8(token).unwrap());
    let unmarked = |token: &str| match token.strip_prefix('▁') {
        Some(word) => word.to_owned(),
        None if token.starts_with('[') && token.ends_with(']') => token.to_owned(),
        None => format!("##{token}"),
    };
    let json = word_piece_json(&in_file.map(unmarked).collect::<Vec<_>>(), true);
    let (ours, theirs) = (Tokenizer::from_json(&json, None).unwrap(), tokenizers::Tokenizer::from_bytes(&json).unwrap());
    for_random(1500, bert_pieces(), |text| {
        if !text.contains("[UNK]") {
            same(&ours, &theirs, text);
        }
        assert_eq!(ours.encode(text, SPECIAL).unwrap(), other.encode(text, SPECIAL).unwrap(), "{text:?}");
    });
}

const UNIGRAM: [(&str, f64); 24] = [
    ("<pad>", 0.0),
    ("</s>", 0.0),
    ("<unk>", 0.0),
    ("▁", -2.5),
    ("▁the", -3.0),
    ("▁t", -4.25),
    ("he", -3.5),
    ("h", -5.0),
    ("e", -4.0),
    ("t", -4.5),
    ("a", -3.75),
    ("▁a", -3.25),
    ("at", -5.25),
    ("▁at", -5.5),
    ("th", -6.0),
    ("é", -7.0),
    ("中", -8.0),
    ("文", -8.0),
    ("中文", -9.0),
    ("s", -3.0),
    ("es", -4.75),
    ("fi", -6.5),
    ("f", -6.0),
    ("i", -5.0),
];

fn unigram_pieces() -> Vec<&'static str> {
    vec!["the", "that", " ", "  ", "he", "a", "t", "é", "中", "文", "z", "zz", "\u{4e01}", "\n", "s", "fi", "▁", "these"]
}

/// T5's form of `tokenizer.json`, with some parts of it.
fn unigram_json(normalizer: serde_json::Value, pre_tokenizer: serde_json::Value) -> Vec<u8> {
    let added = |id: Token, content: &str| json!({ "id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false });
    let document = json!({
        "version": "1.0",
        "added_tokens": [added(0, "<pad>"), added(1, "</s>"), added(2, "<unk>")],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "</s>", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } },
        },
        "decoder": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true },
        "model": { "type": "Unigram", "unk_id": 2, "vocab": UNIGRAM, "byte_fallback": false },
    });
    document.to_string().into_bytes()
}

#[test]
fn unigram_is_as_published_in_the_published_forms() {
    let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    let merge = |content: &str| json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": content });
    let strip = json!({ "type": "Strip", "strip_left": false, "strip_right": true });
    let forms = [
        (json!(null), metaspace.clone()),
        (merge(" "), metaspace.clone()),
        (json!({ "type": "Sequence", "normalizers": [strip, merge("▁")] }), metaspace.clone()),
        (json!(null), json!({ "type": "Sequence", "pretokenizers": [{ "type": "WhitespaceSplit" }, metaspace] })),
        (json!(null), json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false })),
    ];
    for (normalizer, pre_tokenizer) in forms {
        let json = unigram_json(normalizer, pre_tokenizer);
        let (ours, theirs) = (Tokenizer::from_json(&json, None).unwrap(), tokenizers::Tokenizer::from_bytes(&json).unwrap());
        for_random(1500, unigram_pieces(), |text| same(&ours, &theirs, text));
    }
}

#[test]
fn unigram_is_the_same_in_both_formats() {
    let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    let strip = json!({ "type": "Strip", "strip_left": true, "strip_right": true });
    let merge = json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " });
    let json = unigram_json(json!({ "type": "Sequence", "normalizers": [strip, merge] }), metaspace);
    let json = Tokenizer::from_json(&json, None).unwrap();
    let gguf = gguf(vec![
        ("model", text("t5")),
        ("tokens", strings(&UNIGRAM.map(|(token, _)| token))),
        ("scores", Value::Array(Array::F32(UNIGRAM.iter().map(|&(_, score)| score as f32).collect()))),
        ("token_type", Value::Array(Array::I32((0..UNIGRAM.len()).map(|id| [3, 3, 2, 1][id.min(3)]).collect()))),
        ("add_space_prefix", Value::Bool(true)),
        ("remove_extra_whitespaces", Value::Bool(true)),
    ]);
    assert_eq!(gguf.encode("the thats zz", SPECIAL).unwrap(), [4, 3, 14, 12, 19, 3, 2, 1]);
    assert_eq!((gguf.bos(), gguf.eos(), gguf.is_eog(1)), (None, Some(1), true));
    for_random(3000, unigram_pieces(), |text| {
        let text = text.replace('▁', ""); // SentencePiece puts a space in front of it, tokenizer.json does not
        assert_eq!(json.encode(&text, SPECIAL).unwrap(), gguf.encode(&text, SPECIAL).unwrap(), "{text:?}");
    });
}
