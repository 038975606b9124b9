//! The tokenizers of published models: expected ids, round trips, and the `tokenizers` crate as an oracle.
//!
//! The vocabularies are in `../shared/fixtures`; without that folder these tests print a line and pass.

#[path = "common/fixtures.rs"]
mod fixtures;

use fixtures::fixture;
use inference::error::ErrorKind;
use inference::formats::gguf::Gguf;
use inference::text::{DecodeOptions, Detokenizer, EncodeOptions, Token, TokenType, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const PARSED: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

fn from_gguf(name: &str) -> Option<Tokenizer> {
    Some(Tokenizer::from_gguf(Gguf::open(fixture(name)?).unwrap().metadata()).unwrap())
}

fn from_json(folder: &str) -> Option<Tokenizer> {
    let folder = fixture(folder)?;
    let config = std::fs::read(folder.join("tokenizer_config.json")).ok();
    Some(Tokenizer::from_json(&std::fs::read(folder.join("tokenizer.json")).unwrap(), config.as_deref()).unwrap())
}

/// The test strings of a vocabulary with the ids that its publisher's code gives them.
fn vectors(name: &str) -> Option<Vec<(String, Vec<Token>)>> {
    let read = |end: &str| Some(std::fs::read_to_string(fixture(&format!("tokenizers/ggml-vocab-{name}.gguf.{end}"))?).unwrap());
    let (texts, ids) = (read("inp")?, read("out")?);
    let texts = texts.split("\n__ggml_vocab_test__\n").map(str::to_owned);
    let ids = ids.split('\n').map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
    Some(texts.zip(ids).collect())
}

/// Every vocabulary there is, by its name among the vectors.
fn vocabularies() -> Vec<(&'static str, Tokenizer)> {
    let ggufs = ["llama-spm", "gpt-2", "phi-3", "falcon", "deepseek-llm"];
    let ggufs = ggufs.map(|name| Some((name, from_gguf(&format!("tokenizers/ggml-vocab-{name}.gguf"))?)));
    let jsons = ["llama-bpe", "qwen2"].map(|name| Some((name, from_json(&format!("tokenizers/{name}"))?)));
    ggufs.into_iter().chain(jsons).flatten().collect()
}

/// WordPiece, which does not keep spaces and case.
fn bert() -> Option<(&'static str, Tokenizer)> {
    Some(("bert-bge", from_gguf("tokenizers/ggml-vocab-bert-bge.gguf")?))
}

#[test]
fn all_vectors_give_the_expected_ids() {
    for (name, tokenizer) in vocabularies().into_iter().chain(bert()) {
        let vectors = vectors(name).unwrap();
        assert_eq!(vectors.len(), 47, "{name}");
        for (text, expected) in vectors {
            assert_eq!(tokenizer.encode(&text, PLAIN).unwrap(), expected, "{name}: {text:?}");
        }
    }
}

#[test]
fn a_trained_model_has_one_tokenizer_in_both_formats() {
    let (Some(gguf), Some(json)) = (from_gguf("stories260K/stories260K-F32.gguf"), from_json("stories260K/hf")) else { return };
    let reference = std::fs::read(fixture("stories260K/reference.json").unwrap()).unwrap();
    let reference: serde_json::Value = serde_json::from_slice(&reference).unwrap();
    for case in reference["cases"].as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let expected: Vec<Token> = serde_json::from_value(case["prompt_ids"].clone()).unwrap();
        for tokenizer in [&gguf, &json] {
            let options = EncodeOptions { add_special: true, parse_special: false };
            assert_eq!(tokenizer.encode(prompt, options).unwrap(), expected, "{prompt:?}");
            let whole = DecodeOptions { skip_special: true, at_text_start: true };
            assert_eq!(tokenizer.decode(&expected, whole).unwrap(), prompt.as_bytes());
            let generated: Vec<Token> = serde_json::from_value(case["greedy_ids"].clone()).unwrap();
            let whole = tokenizer.decode(&[expected.clone(), generated].concat(), whole).unwrap();
            assert!(whole.starts_with(case["text"].as_str().unwrap().as_bytes()), "{}", String::from_utf8_lossy(&whole));
        }
    }
    for tokenizer in [gguf, json] {
        assert_eq!((tokenizer.n_vocab(), tokenizer.bos(), tokenizer.eos()), (512, Some(1), Some(2)));
        assert!(tokenizer.is_eog(2) && !tokenizer.is_eog(1) && tokenizer.is_control(1) && !tokenizer.is_control(403));
    }
}

#[test]
fn the_ends_of_published_vocabularies_are_known() {
    for (name, tokenizer) in vocabularies() {
        let texts: &[&str] = match name {
            "llama-spm" => &["</s>"],
            "gpt-2" | "falcon" => &["<|endoftext|>"],
            "phi-3" => &["<|endoftext|>", "<|end|>"],
            "llama-bpe" => &["<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"],
            "qwen2" => &["<|endoftext|>", "<|im_end|>"],
            _ => &["<｜end▁of▁sentence｜>"],
        };
        let ends: Vec<Token> = (0..tokenizer.n_vocab() as Token).filter(|&token| tokenizer.is_eog(token)).collect();
        let mut expected: Vec<Token> = texts.iter().map(|text| tokenizer.token_to_id(text).unwrap()).collect();
        expected.sort_unstable();
        assert_eq!(ends, expected, "{name}");
    }
}

/// Texts in which everything that a splitter looks at is likely: spaces, line ends, digits, contractions, marks, emoji.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ a-zA-Z]{1,8}",
        "[ \t\r\n\u{a0}\u{3000}\u{2028}]{1,4}",
        "[0-9½²٣]{1,5}",
        "'(s|S|t|re|RE|ve|m|ll|LL|d|x|ſ)?",
        "[!-/:-@\\[-`{-~。，…]{1,4}",
        "[à-üА-яا-ي一-龥가-힣\u{300}-\u{30f}]{1,6}",
        "[😀-🙏👍🏽\u{200d}\u{fe0f}]{1,4}",
        ".{0,4}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Runs `check` on `cases` random values.
fn for_random<S: Strategy>(cases: u32, strategy: &S, check: impl Fn(S::Value)) {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let checked = |value| {
        check(value);
        Ok(())
    };
    runner.run(strategy, checked).unwrap();
}

/// The tokens of `text`. Only Falcon's vocabulary has no token for some bytes, such as those of planes 8 to 11.
fn encoded(name: &str, tokenizer: &Tokenizer, text: &str) -> Option<Vec<Token>> {
    match tokenizer.encode(text, PLAIN) {
        Err(e) if name == "falcon" && e.kind() == ErrorKind::Unsupported => None,
        tokens => Some(tokens.unwrap()),
    }
}

#[test]
fn decoding_gives_back_what_was_encoded() {
    for (name, tokenizer) in vocabularies() {
        // SentencePiece reads U+2581 as a space, and Qwen's composed form is not always what was written.
        let unchanged = |text: &str| !text.contains('\u{2581}') && (name != "qwen2" || text.is_ascii());
        for_random(300, &texts(), |text| {
            let Some(tokens) = encoded(name, &tokenizer, &text) else { return };
            let decoded = tokenizer.decode(&tokens, DecodeOptions { skip_special: false, at_text_start: true }).unwrap();
            assert!(!unchanged(&text) || decoded == text.as_bytes(), "{name}: {text:?} {tokens:?}");
            let (mut stream, mut streamed) = (Detokenizer::new(DecodeOptions { skip_special: false, at_text_start: true }), String::new());
            tokens.iter().for_each(|&token| stream.push(&tokenizer, token, &mut streamed).unwrap());
            stream.finish(&mut streamed);
            assert_eq!(streamed.as_bytes(), decoded, "{name}: {text:?}");
        });
    }
}

#[test]
fn any_tokens_stream_as_they_decode() {
    for (name, tokenizer) in vocabularies().into_iter().chain(bert()) {
        let tokens = prop::collection::vec(0..tokenizer.n_vocab() as Token, 0..40);
        for_random(200, &tokens, |tokens| {
            let options = DecodeOptions { skip_special: true, at_text_start: false };
            let (mut stream, mut streamed) = (Detokenizer::new(options), String::new());
            tokens.iter().for_each(|&token| stream.push(&tokenizer, token, &mut streamed).unwrap());
            stream.finish(&mut streamed);
            let decoded = tokenizer.decode(&tokens, options).unwrap();
            assert_eq!(streamed, String::from_utf8_lossy(&decoded), "{name}: {tokens:?}");
        });
    }
}

#[test]
fn text_never_becomes_a_control_token_unless_asked_for() {
    for (name, tokenizer) in vocabularies() {
        let guarded = |token: Token| matches!(tokenizer.token_type(token), Some(TokenType::Control | TokenType::Unknown));
        let controls: Vec<Token> = (0..tokenizer.n_vocab() as Token).filter(|&token| guarded(token)).collect();
        let shown = |token: Token| String::from_utf8(tokenizer.token_bytes(token).unwrap().to_vec()).unwrap();
        for &token in &controls {
            let text = shown(token);
            assert_eq!(tokenizer.encode(&text, EncodeOptions { add_special: false, parse_special: true }).unwrap(), [token], "{name}");
            assert!(!tokenizer.encode(&text, PLAIN).unwrap().into_iter().any(guarded), "{name}: {text:?}");
        }
        let pieces = prop::collection::vec((prop::sample::select(controls), 0..12usize, texts()), 1..6);
        for_random(100, &pieces, |pieces| {
            let cut = |token, n: usize| shown(token).chars().skip(n % 3).collect::<String>();
            let text: String = pieces.into_iter().map(|(token, n, text)| cut(token, n) + &text).collect();
            let tokens = encoded(name, &tokenizer, &text).unwrap_or_default();
            assert!(!tokens.into_iter().any(guarded), "{name}: {text:?}");
        });
    }
}

#[test]
fn agrees_with_the_publishers_code() {
    for folder in ["tokenizers/llama-bpe", "tokenizers/qwen2", "stories260K/hf"] {
        let Some(ours) = from_json(folder) else { return };
        let theirs = tokenizers::Tokenizer::from_file(fixture(folder).unwrap().join("tokenizer.json")).unwrap();
        // They always look for control tokens, as we do when asked to.
        let words = prop_oneof![texts(), Just("<|eot_id|>".to_owned()), Just("<|im_start|>".to_owned()), Just("</s> ".to_owned())];
        for_random(600, &prop::collection::vec(words, 1..4), |words| {
            let text = words.concat();
            let expected = theirs.encode_fast(text.as_str(), true).unwrap();
            assert_eq!(ours.encode(&text, PARSED).unwrap(), expected.get_ids(), "{folder}: {text:?}");
        });
    }
}

#[test]
fn long_words_take_no_quadratic_time() {
    for (name, tokenizer) in vocabularies() {
        for unit in ["a", " ", "ab1", "\n", "中", "\u{301}", "<", "'", "1"] {
            let text = unit.repeat(1 << 17);
            let start = std::time::Instant::now();
            let tokens = tokenizer.encode(&text, PLAIN).unwrap();
            assert!(start.elapsed().as_secs() < 20, "{name}: {unit:?} took {:?}", start.elapsed());
            let decoded = tokenizer.decode(&tokens, DecodeOptions { skip_special: false, at_text_start: true }).unwrap();
            assert_eq!(decoded, text.as_bytes(), "{name}: {unit:?}");
        }
    }
}
