//! Each published vocabulary in the form that it was not published in: GGUF made from `tokenizer.json`, and the other way round.
//!
//! Both forms must give the published ids, and the `tokenizers` crate, which reads the made `tokenizer.json` too, must agree on
//! random texts. The vocabularies are in `../shared/fixtures`; without that folder these tests print a line and pass.

#[path = "common/fixtures.rs"]
mod fixtures;

use fixtures::fixture;
use inference::formats::gguf::{Array, Gguf, GgufWriter, Metadata, Strings, Value as Entry};
use inference::sys::file::MemorySource;
use inference::text::{EncodeOptions, Token, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

/// GGUF's numbers of token types.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// That `tokenizer` gives the published ids for the 47 published texts.
fn check_vectors(name: &str, tokenizer: &Tokenizer) {
    let read = |end: &str| std::fs::read_to_string(fixture(&format!("tokenizers/ggml-vocab-{name}.gguf.{end}")).unwrap()).unwrap();
    let (texts, ids) = (read("inp"), read("out"));
    let ids = ids.split('\n').map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<Token>>());
    let mut n = 0;
    for (text, expected) in texts.split("\n__ggml_vocab_test__\n").zip(ids) {
        assert_eq!(tokenizer.encode(text, PLAIN).unwrap(), expected, "{name}: {text:?}");
        n += 1;
    }
    assert_eq!(n, 47, "{name}");
}

#[test]
fn tokenizer_json_becomes_gguf() {
    for name in ["llama-bpe", "qwen2"] {
        let Some(path) = fixture(&format!("tokenizers/{name}/tokenizer.json")) else { return };
        let json = std::fs::read(path).unwrap();
        let made = Gguf::from_source(Arc::new(MemorySource::new(gguf_from_json(name, &json)))).unwrap();
        let (made, published) = (Tokenizer::from_gguf(made.metadata()).unwrap(), Tokenizer::from_json(&json, None).unwrap());
        check_vectors(name, &made);
        for_random_texts(|text| {
            assert_eq!(made.encode(text, PLAIN).unwrap(), published.encode(text, PLAIN).unwrap(), "{name}: {text:?}");
        });
    }
}

/// As a converter writes it: tokens by id, merges as `left right`.
fn gguf_from_json(name: &str, json: &[u8]) -> Vec<u8> {
    let document: Value = serde_json::from_slice(json).unwrap();
    let vocab = document["model"]["vocab"].as_object().unwrap();
    let mut tokens: Vec<_> = vocab.iter().map(|(text, id)| (id.as_u64().unwrap(), text.as_str(), NORMAL)).collect();
    tokens.extend(document["added_tokens"].as_array().unwrap().iter().map(|added| {
        let kind = if added["special"] == true { CONTROL } else { USER_DEFINED };
        (added["id"].as_u64().unwrap(), added["content"].as_str().unwrap(), kind)
    }));
    tokens.sort_unstable();
    assert!((0..).zip(&tokens).all(|(id, token)| id == token.0), "ids without holes");
    let merge = |merge: &Value| match merge {
        Value::String(merge) => merge.clone(),
        pair => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
    };
    let merges: Vec<String> = document["model"]["merges"].as_array().unwrap().iter().map(merge).collect();
    let mut writer = GgufWriter::new();
    let mut set = |key: &str, value: Entry| writer.set(&format!("tokenizer.ggml.{key}"), value).unwrap();
    set("model", Entry::String(b"gpt2".as_slice().into()));
    set("pre", Entry::String(name.as_bytes().into()));
    set("tokens", Entry::Array(Array::String(Strings::collect(tokens.iter().map(|t| t.1).collect::<Vec<_>>()).unwrap())));
    set("token_type", Entry::Array(Array::I32(tokens.iter().map(|t| t.2).collect())));
    set("merges", Entry::Array(Array::String(Strings::collect(&merges).unwrap())));
    writer.to_bytes().unwrap()
}

#[test]
fn gguf_becomes_tokenizer_json() {
    for name in ["llama-spm", "phi-3", "gpt-2", "falcon", "deepseek-llm"] {
        let Some(path) = fixture(&format!("tokenizers/ggml-vocab-{name}.gguf")) else { return };
        let published = Gguf::open(&path).unwrap();
        let json = json_from_gguf(name, published.metadata()).to_string();
        let (made, published) = (Tokenizer::from_json(json.as_bytes(), None).unwrap(), Tokenizer::from_gguf(published.metadata()).unwrap());
        let theirs: tokenizers::Tokenizer = json.parse().unwrap();
        check_vectors(name, &made);
        for_random_texts(|text| {
            let ids = made.encode(text, PLAIN).unwrap();
            assert_eq!(ids, published.encode(text, PLAIN).unwrap(), "{name}: {text:?}");
            assert_eq!(ids, theirs.encode_fast(text, false).unwrap().get_ids(), "{name}: {text:?}");
        });
    }
}

/// As the publishers wrote it, as far as tokens depend on it.
fn json_from_gguf(name: &str, metadata: &Metadata) -> Value {
    let tokens: Vec<&str> = metadata.strings("tokenizer.ggml.tokens").unwrap().iter().map(|t| std::str::from_utf8(t).unwrap()).collect();
    let types = metadata.i32s("tokenizer.ggml.token_type").unwrap();
    let is_added = |id: usize| !matches!(types[id], NORMAL | BYTE);
    let added = (0..tokens.len()).filter(|&id| is_added(id)).map(|id| {
        let special = types[id] != USER_DEFINED;
        json!({ "id": id, "content": tokens[id], "special": special, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false })
    });
    let is_spm = metadata.str("tokenizer.ggml.model").unwrap() == "llama";
    let vocab: serde_json::Map<String, Value> = (0..tokens.len()).map(|id| (tokens[id].to_owned(), id.into())).collect();
    let merges =
        if is_spm { merges_of_scores(&tokens, &types, metadata.f32s("tokenizer.ggml.scores").unwrap()) } else { merges_in_file(metadata) };
    let mut model = json!({ "type": "BPE", "vocab": vocab, "merges": merges });
    let mut document = json!({ "version": "1.0", "added_tokens": added.collect::<Vec<_>>() });
    if is_spm {
        model["byte_fallback"] = true.into();
        model["fuse_unk"] = true.into();
        model["unk_token"] = tokens[0].into();
        let marks = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
        document["normalizer"] = json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, marks] });
    } else {
        document["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": pre_tokenizers(name) });
        document["decoder"] = byte_level(false);
    }
    document["model"] = model;
    document
}

fn merges_in_file(metadata: &Metadata) -> Vec<[String; 2]> {
    let split = |merge: &[u8]| {
        let (left, right) = std::str::from_utf8(merge).unwrap().split_once(' ').unwrap();
        [left.to_owned(), right.to_owned()]
    };
    metadata.strings("tokenizer.ggml.merges").unwrap().iter().map(split).collect()
}

/// What SentencePiece's scores mean as a list: every cut of a token in two tokens, the highest score first.
fn merges_of_scores(tokens: &[&str], types: &[i32], scores: &[f32]) -> Vec<[String; 2]> {
    let normal = |id: &usize| types[*id] == NORMAL;
    let ids: HashMap<&str, usize> = (0..tokens.len()).filter(normal).map(|id| (tokens[id], id)).collect();
    let mut merges = Vec::new();
    for id in (0..tokens.len()).filter(normal) {
        for (at, _) in tokens[id].char_indices().skip(1) {
            let (left, right) = tokens[id].split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) {
                merges.push((scores[id], [left.to_owned(), right.to_owned()]));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    merges.into_iter().map(|(_, pair)| pair).collect()
}

fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}

/// The pre-tokenizers of the published `tokenizer.json` of this name.
fn pre_tokenizers(name: &str) -> Vec<Value> {
    let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    match name {
        "gpt-2" => vec![byte_level(true)],
        "falcon" => {
            let punctuation = json!({ "type": "Punctuation", "behavior": "Contiguous" });
            vec![punctuation, byte_level(true), json!({ "type": "Digits", "individual_digits": false }), split("[0-9][0-9][0-9]")]
        }
        "deepseek-llm" => vec![
            split("[\r\n]"),
            // In the middle of the published list, all other letters that have a case.
            split(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿ\p{Lu}\p{Ll}\p{Lt}𑢠-𑣟𞤀-𞥃]+"),
            split("\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+"),
            split(r"\s+$"),
            split("[一-龥ࠀ-一가-\u{d7ff}]+"),
            json!({ "type": "Digits", "individual_digits": false }),
            byte_level(false),
        ],
        other => panic!("{other}"),
    }
}

/// Runs `check` on texts in which everything that a splitter looks at is likely. No text of an added token is among them.
fn for_random_texts(check: impl Fn(&str)) {
    let piece = prop_oneof![
        "[ a-zA-Z]{1,9}",
        "[ \t\r\n\u{a0}\u{3000}]{1,4}",
        "[0-9½²٣]{1,5}",
        "'(s|S|t|re|ve|m|ll|d|x)?",
        "[!-;=?-@\\[-`{}~。，…]{1,4}",
        "[а-яا-ي一-龥가-힣]{1,6}",
        "[😀-🙏👍🏽\u{200d}\u{fe0f}]{1,3}",
    ];
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let checked = |pieces: Vec<String>| {
        check(&pieces.concat());
        Ok(())
    };
    runner.run(&prop::collection::vec(piece, 0..10), checked).unwrap_or_else(|e| panic!("{e}"));
}
