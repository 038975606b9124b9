//! Constraints over small vocabularies.

use super::*;
use crate::error::{Error, ErrorKind};
use crate::text::{Alphabet, Model, Token, TokenType, Tokenizer, VocabularyData};
use std::borrow::Cow;
use std::sync::Arc;

/// Bytes as `<0xHH>`, the control tokens `</s>` (256) and `<call>` (257), and a few longer tokens.
fn tokenizer() -> Arc<Tokenizer> {
    let mut tokens: Vec<Cow<'static, [u8]>> = (0..256).map(|byte| Cow::Owned(format!("<0x{byte:02X}>").into_bytes())).collect();
    let mut types = vec![TokenType::Byte; 256];
    for (text, kind) in [
        ("</s>", TokenType::Control),
        ("<call>", TokenType::Control),
        ("name", TokenType::Normal),
        ("\":", TokenType::Normal),
        ("true", TokenType::Normal),
    ] {
        tokens.push(Cow::Borrowed(text.as_bytes()));
        types.push(kind);
    }
    let data = VocabularyData {
        model: Model::Scores(vec![0.0; tokens.len()]),
        tokens,
        types,
        eos: Some(256),
        ..VocabularyData::empty(Alphabet::Characters)
    };
    Arc::new(Tokenizer::new(&data).unwrap_or_else(|e| panic!("{e}")))
}

fn compile(kind: ConstraintKind, text: &str) -> Result<Constraint, Error> {
    let grammars = Grammars::new(&tokenizer()).unwrap();
    grammars.compile(&ConstraintSource { kind, text: text.to_owned() })
}

/// True if `text`, byte by byte, is allowed, and may end there.
fn takes(constraint: &mut Constraint, text: &str) -> bool {
    constraint.reset();
    text.bytes().all(|byte| is_allowed(constraint, byte.into()) && constraint.accept(byte.into()).is_ok()) && is_allowed(constraint, 256)
}

fn is_allowed(constraint: &mut Constraint, token: Token) -> bool {
    match constraint.allowed() {
        Ok(Allowed::One(one)) => one == token,
        Ok(Allowed::Bits(bits)) => bits[token as usize / 32] >> (token % 32) & 1 == 1,
        Err(_) => false,
    }
}

fn takes_all(kind: ConstraintKind, source: &str, good: &[&str], bad: &[&str]) {
    let mut constraint = compile(kind, source).unwrap_or_else(|e| panic!("{source}: {e}"));
    good.iter().for_each(|text| assert!(takes(&mut constraint, text), "{source}: {text} is refused"));
    bad.iter().for_each(|text| assert!(!takes(&mut constraint, text), "{source}: {text} is taken"));
}

#[test]
fn each_language_is_understood() {
    takes_all(ConstraintKind::Regex, "[a-c]{2}|x/y", &["ab", "cc", "x/y"], &["a", "abc", "x", ""]);
    takes_all(ConstraintKind::JsonSchema, r#"{"enum":[1,"a"]}"#, &["1", "\"a\""], &["2", "a"]);
    takes_all(ConstraintKind::AnyJson, "", &["1", "[1, {\"a\":null}]", "\"é\\n\"", "[\n  true\n]"], &["[", "nul", "[1,]", "[  1]"]);
    takes_all(ConstraintKind::Lark, "start: A \"b\"\nA: /a+/", &["ab", "aab"], &["b", "aa"]);
    takes_all(ConstraintKind::JsonSchema, "true", &["{}"], &[""]);
}

#[test]
fn gbnf_matches_what_it_says() {
    takes_all(ConstraintKind::Gbnf, "root ::= [a-z]* \"b\"", &["b", "ab", "abb"], &["a", ""]);
    takes_all(ConstraintKind::Gbnf, "root ::= (\"a\" | \"ab\") \"b\"", &["ab", "abb"], &["a", "abbb"]);
    takes_all(ConstraintKind::Gbnf, "root ::= \"(\" root? \")\" | \"x\"{2}", &["()", "((xx))", "xx"], &["(", "x", "(x)"]);
    let json = r#"
        root   ::= object
        value  ::= object | array | string | number | ("true" | "false" | "null") ws
        object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
        array  ::= "[" ws ( value ("," ws value)* )? "]" ws
        string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
        number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
        # a space or a line
        ws ::= | " " | "\n" [ \t]{0,20}"#;
    takes_all(
        ConstraintKind::Gbnf,
        json,
        &["{}", "{\"a\": [1, 2.5e1, \"x\\u00e9\"], \"b\":{\"c\" :null}}", "{ \"a\":[[]]}"],
        &["[]", "{\"a\"}", "{\"a\":01}", "{\"a\":1,}"],
    );
}

#[test]
fn forced_tokens_are_told_and_taken() {
    let mut constraint =
        compile(ConstraintKind::JsonSchema, r#"{"type":"object","properties":{"name":{"type":"boolean"}},"required":["name"]}"#).unwrap();
    assert!(is_allowed(&mut constraint, u32::from(b'{')));
    for token in [u32::from(b'{'), u32::from(b'"')] {
        constraint.accept(token).unwrap();
    }
    let mut forced = Vec::new();
    while let Some(token) = constraint.next_forced() {
        forced.push(token as u8);
        constraint.accept(token).unwrap();
    }
    assert_eq!(forced, b"name", "as our tokenizer cuts it; the quote behind it may be one token with its colon");
    assert!(is_allowed(&mut constraint, u32::from(b'"')) && is_allowed(&mut constraint, 259) && !is_allowed(&mut constraint, 260));
    constraint.accept(259).unwrap();
    assert!(
        is_allowed(&mut constraint, 260) && is_allowed(&mut constraint, u32::from(b'f')) && !is_allowed(&mut constraint, u32::from(b'"'))
    );
}

#[test]
fn a_copy_goes_its_own_way_and_a_reset_goes_back() {
    let mut constraint = compile(ConstraintKind::Regex, "ab|ac").unwrap();
    constraint.accept(u32::from(b'a')).unwrap();
    let mut copy = constraint.clone();
    constraint.accept(u32::from(b'b')).unwrap();
    assert!(is_allowed(&mut copy, u32::from(b'c')) && is_allowed(&mut copy, u32::from(b'b')));
    assert!(is_allowed(&mut constraint, 256) && !is_allowed(&mut constraint, u32::from(b'c')));
    constraint.accept(256).unwrap();
    assert_eq!(constraint.accept(u32::from(b'c')).unwrap_err().kind(), ErrorKind::InvalidArgument);
    constraint.reset();
    assert!(is_allowed(&mut constraint, u32::from(b'a')));
}

#[test]
fn what_is_not_allowed_changes_nothing() {
    let mut constraint = compile(ConstraintKind::Regex, "abc").unwrap();
    for wrong in [u32::from(b'b'), 256, 257, 9999] {
        assert_eq!(constraint.accept(wrong).unwrap_err().kind(), ErrorKind::InvalidArgument, "{wrong}");
    }
    assert!(takes(&mut constraint, "abc"));
}

#[test]
fn control_tokens_are_chosen_where_the_grammar_names_them_only() {
    takes_all(ConstraintKind::Regex, "(?s:.*)", &["<call>", "\u{7f}"], &[]);
    let mut any = compile(ConstraintKind::Regex, "(?s:.*)").unwrap();
    assert!(!is_allowed(&mut any, 257) && is_allowed(&mut any, 256));
    for grammar in ["start: <call> \"x\"", "start: <[257]> \"x\""] {
        let mut call = compile(ConstraintKind::Lark, grammar).unwrap();
        assert!(is_allowed(&mut call, 257) && !is_allowed(&mut call, u32::from(b'<')), "{grammar}");
        call.accept(257).unwrap();
        assert!(is_allowed(&mut call, u32::from(b'x')));
    }
}

#[test]
fn errors_tell_where() {
    for (kind, text, at, says) in [
        (ConstraintKind::JsonSchema, r#"{"type": }"#, 9, "expected value"),
        (ConstraintKind::JsonSchema, r#"{"properties":{"a":{"type":"strnig"}}}"#, 27, "strnig"),
        (ConstraintKind::JsonSchema, r#"{"type":"object","not":{}}"#, 17, "not"),
        (ConstraintKind::Regex, "a(b", 1, "unclosed group"),
        (ConstraintKind::Lark, "start: A\nB: /x/", 7, "A"),
        (ConstraintKind::Lark, "start: \"a\" )", 11, ""),
        (ConstraintKind::Gbnf, "root ::= [", 9, "]"),
    ] {
        let error = compile(kind, text).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert_eq!((error.kind(), error.detail()[0]), (ErrorKind::Constraint, at), "{text}: {error}");
        assert!(error.message().contains(says), "{text}: {error}");
    }
}

#[test]
fn a_large_vocabulary_is_made_ready_in_many_slices() {
    let mut data = VocabularyData::empty(Alphabet::Characters);
    data.tokens = (0..100_000).map(|i| Cow::Owned(format!("{:x}{i}", i % 977).into_bytes())).collect();
    data.types = vec![TokenType::Normal; 100_000];
    data.model = Model::Scores(vec![0.0; 100_000]);
    let mut job: crate::sys::job::Job<_> = Box::pin(Grammars::build(Arc::new(Tokenizer::new(&data).unwrap())));
    let mut n_slices = 1;
    let grammars = loop {
        match crate::sys::job::advance(&mut job) {
            Some(made) => break made.unwrap(),
            None => n_slices += 1,
        }
    };
    assert!(n_slices > 30, "{n_slices}");
    assert!(grammars.compile(&ConstraintSource { kind: ConstraintKind::Regex, text: "[0-9a-f]+".into() }).is_ok());
}
