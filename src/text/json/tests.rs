//! Small files in the published forms, and broken ones. The published files themselves are in `tests/tokenizer_vectors.rs`.

use super::*;
use crate::text::limits::MAX_TOKENS;
use crate::text::{DecodeOptions, EncodeOptions};
use serde_json::{Value, json};

/// A file of GPT-2's form.
fn gpt2() -> Value {
    json!({
        "added_tokens": [
            { "id": 6, "content": "<|endoftext|>", "special": true, "normalized": true },
            { "id": 7, "content": "<tool>", "special": false },
        ],
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true },
        "post_processor": { "type": "ByteLevel" },
        "decoder": { "type": "ByteLevel" },
        "model": {
            "vocab": { "a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4, "Ċ": 5, "<|endoftext|>": 6 },
            "merges": ["a b", "Ġ ab"],
        },
    })
}

/// A file of Llama 2's form.
fn llama2() -> Value {
    json!({
        "added_tokens": [
            { "id": 0, "content": "<unk>", "special": true },
            { "id": 1, "content": "<s>", "special": true },
            { "id": 2, "content": "</s>", "special": true },
        ],
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
            { "type": "ByteFallback" },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
            "vocab": { "<unk>": 0, "<s>": 1, "</s>": 2, "<0x41>": 3, "a": 4, "▁": 5, "▁a": 6 },
            "merges": [["▁", "a"]],
        },
    })
}

fn load(document: &Value) -> Result<Tokenizer> {
    Tokenizer::from_json(document.to_string().as_bytes(), None)
}

#[test]
fn another_pre_tokenizer_may_be_asked_for() {
    let load = |document: &Value, name| Tokenizer::from_json_with(document.to_string().as_bytes(), None, Some(name));
    let mut unknown = gpt2();
    let split = json!({ "type": "Split", "pattern": { "Regex": "[ab]" }, "behavior": "Isolated", "invert": false });
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": false });
    unknown["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [split, bytes] });
    for document in [gpt2(), unknown] {
        assert_eq!(load(&document, "gpt-2").unwrap().encode(" ab", EncodeOptions::default()).unwrap(), [4]);
        let error = load(&document, "nonsense").err().unwrap();
        assert!(error.kind() == ErrorKind::InvalidArgument && error.message().contains("\"nonsense\""), "{error}");
    }
    let error = load(&llama2(), "gpt-2").err().unwrap();
    assert!(error.kind() == ErrorKind::InvalidArgument && error.message().contains("pre_tokenizer"), "{error}");
}

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const SPECIAL: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

#[test]
fn gpt2_form() {
    let tokenizer = load(&gpt2()).unwrap();
    assert_eq!(tokenizer.encode("ab ab\n", PLAIN).unwrap(), [2, 4, 5]);
    assert_eq!(tokenizer.encode("a<tool>", PLAIN).unwrap(), [0, 7]);
    assert_eq!(tokenizer.encode("a<|endoftext|>", SPECIAL).unwrap(), [0, 6]);
    assert!(tokenizer.encode("<|endoftext|>", PLAIN).is_err(), "this vocabulary cannot spell it");
    assert!(tokenizer.is_control(6) && tokenizer.is_eog(6) && !tokenizer.is_control(7));
    assert_eq!(tokenizer.decode(&[4, 6, 7], DecodeOptions::default()).unwrap(), b" ab<|endoftext|><tool>");
}

#[test]
fn llama2_form() {
    let tokenizer = load(&llama2()).unwrap();
    assert_eq!(tokenizer.encode("a a", PLAIN).unwrap(), [6, 6]);
    assert_eq!(tokenizer.encode("a</s>a", SPECIAL).unwrap(), [1, 6, 2, 6]);
    assert_eq!(tokenizer.encode("Aéé", PLAIN).unwrap(), [5, 3, 0]);
    let whole = DecodeOptions { skip_special: true, at_text_start: true };
    assert_eq!(tokenizer.decode(&[1, 6, 6, 3], whole).unwrap(), b"a aA");
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), None));
}

#[test]
fn metaspace_forms() {
    let mut document = llama2();
    document["normalizer"] = Value::Null;
    for (scheme, expected) in [("first", [6, 2, 4]), ("always", [6, 2, 6]), ("never", [4, 2, 4])] {
        document["pre_tokenizer"] = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false });
        let tokens = load(&document).unwrap().encode("a</s>a", EncodeOptions { add_special: false, parse_special: true });
        assert_eq!(tokens.unwrap(), expected, "{scheme}");
    }
}

#[test]
fn the_config_names_the_ends() {
    let document = llama2().to_string();
    let config = json!({ "bos_token": { "content": "<s>" }, "eos_token": "</s>", "add_bos_token": false, "add_eos_token": true });
    let tokenizer = Tokenizer::from_json(document.as_bytes(), Some(config.to_string().as_bytes())).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    assert_eq!(tokenizer.encode("a", SPECIAL).unwrap(), [6, 2]);
    let unknown = json!({ "eos_token": "<eos>" }).to_string();
    let error = Tokenizer::from_json(document.as_bytes(), Some(unknown.as_bytes())).err().unwrap();
    assert!(error.message().contains("<eos>"), "{error}");
}

#[test]
fn added_tokens_take_white_space_if_the_file_says_so() {
    let mut document = llama2();
    document["added_tokens"][2]["rstrip"] = true.into();
    let tokenizer = load(&document).unwrap();
    assert_eq!(tokenizer.encode("a</s>  a", SPECIAL).unwrap(), [1, 6, 2, 6]);
}

/// Each change alone makes the file wrong; the error says what is.
#[test]
fn broken_files_are_refused() {
    use ErrorKind::{Format, Unsupported};
    let cases: Vec<(&str, Value, ErrorKind, &str)> = vec![
        ("/model/type", json!("WordLevel"), Unsupported, "WordLevel"),
        ("/model/type", json!("Unigram"), Format, "not a list"),
        ("/model/type", json!(7), Format, "invalid type"),
        ("/model/vocab", json!([["a", 0.5]]), Format, "not a map"),
        ("/model/vocab", json!({ "a": -1 }), Format, "-1"),
        ("/model/vocab", json!({ "a": 4294967296u64 }), Format, "4294967296"),
        ("/model/vocab", json!({ "a": 4294967295u64 }), Format, "token id 4294967295"),
        ("/model/vocab", json!({ "a": 0, "b": 0 }), Format, "token 0 is both"),
        ("/model/vocab", json!({}), Format, "merge 0 needs"),
        ("/model/merges", json!(["ab"]), Format, "expected one space"),
        ("/model/merges", json!(["a b c"]), Format, "expected one space"),
        ("/model/merges", json!([["a"]]), Format, "invalid length 1"),
        ("/model/merges", json!([["▁", "▁"]]), Format, "merge 0 needs"),
        ("/model/merges", json!([["日", "本"]]), Format, "merge 0 needs"),
        ("/model/dropout", json!(0.1), Unsupported, "dropout 0.1"),
        ("/model/continuing_subword_prefix", json!("##"), Unsupported, "##"),
        ("/model/unk_token", json!("<none>"), Format, "<none>"),
        ("/normalizer", json!({ "type": "Precompiled" }), Format, "Base64"),
        ("/normalizer/normalizers/0", json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" }), Format, "has 3 bytes"),
        ("/normalizer", json!({ "type": "Lowercase" }), Unsupported, "Lowercase"),
        (
            "/pre_tokenizer",
            json!({ "type": "Split", "pattern": { "Regex": "(a+)+$" }, "behavior": "Isolated", "invert": false }),
            Unsupported,
            "(a+)+$",
        ),
        ("/pre_tokenizer", json!({ "type": "Sequence" }), Unsupported, "Sequence"),
        ("/pre_tokenizer", json!({ "type": "ByteLevel" }), Unsupported, "ByteLevel"),
        ("/pre_tokenizer", json!({ "type": "ByteLevel", "add_prefix_space": false }), Unsupported, "either"),
        ("/pre_tokenizer", json!({ "type": "Metaspace", "replacement": "_" }), Unsupported, "Metaspace"),
        ("/post_processor", json!({ "type": "BertProcessing" }), Unsupported, "BertProcessing"),
        ("/post_processor/special_tokens", json!({}), Unsupported, "SpecialToken"),
        ("/post_processor/special_tokens/<s>/ids", json!([99]), Format, "token is 99"),
        ("/post_processor/special_tokens/<s>/ids", json!([-1]), Unsupported, "-1"),
        ("/decoder", json!({ "type": "CTC" }), Unsupported, "CTC"),
        ("/added_tokens/0/id", json!(4), Format, "token 4 is both"),
        ("/added_tokens/0/id", json!(u32::MAX), Format, "token id 4294967295"),
        ("/added_tokens/0/content", json!("a"), Format, "token 0 is both"),
    ];
    for (place, value, expected, says) in cases {
        let mut document = llama2();
        if document.pointer(place).is_none() {
            let (parent, key) = place.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[key] = Value::Null;
        }
        *document.pointer_mut(place).unwrap() = value;
        let error = load(&document).err().unwrap_or_else(|| panic!("{place} {says}: loads"));
        assert!(error.kind() == expected && error.message().contains(says), "{place}: {error}, expected {says}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for bytes in [b"".as_slice(), b"{", b"[]", b"{}", b"\xff", b"{\"model\":{\"vocab\":{\"a\":0}", b"{\"model\":null}"] {
        assert_eq!(Tokenizer::from_json(bytes, None).err().unwrap().kind(), ErrorKind::Format);
    }
    let deep = format!("{{\"normalizer\":{}", "[".repeat(100_000));
    assert_eq!(Tokenizer::from_json(deep.as_bytes(), None).err().unwrap().kind(), ErrorKind::Format);
}

#[test]
fn control_tokens_cannot_be_merged_into_being() {
    let mut document = llama2();
    document["model"]["vocab"]["<"] = 7.into();
    document["model"]["vocab"]["s>"] = 8.into();
    document["model"]["vocab"]["s"] = 9.into();
    document["model"]["vocab"][">"] = 10.into();
    document["model"]["merges"] = json!([["s", ">"], ["<", "s>"], ["▁", "a"]]);
    let tokenizer = load(&document).unwrap();
    assert_eq!(tokenizer.encode("<s>", PLAIN).unwrap(), [5, 7, 8]);
}

/// Every byte of a file cut off, and every byte replaced by those that mean something to JSON: refused, or it works.
#[test]
fn damaged_files_do_no_harm() {
    let document = llama2().to_string().into_bytes();
    let try_all = |bytes: &[u8]| {
        let Ok(tokenizer) = Tokenizer::from_json(bytes, None) else { return false };
        let tokens = tokenizer.encode("a </s>Aé", SPECIAL).unwrap_or_default();
        tokenizer.decode(&tokens, DecodeOptions::default()).unwrap();
        true
    };
    assert!(try_all(&document));
    for at in 0..document.len() {
        assert!(!try_all(&document[..at]), "cut at {at}");
        let mut damaged = document.clone();
        for byte in *b"\"9-{[,\\ a\xff" {
            damaged[at] = byte;
            try_all(&damaged);
        }
    }
}

#[test]
fn lists_longer_than_any_vocabulary_are_refused_while_they_are_read() {
    let long = format!("[{}]", vec!["\"a b\""; MAX_TOKENS + 1].join(","));
    let json = gpt2().to_string().replace(r#"["a b","Ġ ab"]"#, &long);
    let error = Tokenizer::from_json(json.as_bytes(), None).err().unwrap();
    assert!(error.kind() == ErrorKind::Format && error.message().contains("more than 524288 items"), "{error}");
}
