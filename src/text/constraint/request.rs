//! Constraints in the shape of OpenAI's `response_format`, and further types of it for the other languages.

use super::{ConstraintKind, ConstraintSource};
use crate::error::Result;
use crate::fail;
use crate::text::chat::Json;

/// The constraint that `format` asks for; `None` for text.
///
/// `{"type":"json_object"}`, `{"type":"json_schema","json_schema":{"schema":{..}}}` (or the schema as `"schema"` beside the type), and `{"type":"regex","regex":".."}`,
/// `{"type":"lark","grammar":".."}`, `{"type":"gbnf","grammar":".."}`, `{"type":"json"}` for any JSON.
///
/// # Errors
/// `InvalidArgument`, naming the key.
pub fn response_format(format: &Json) -> Result<Option<ConstraintSource>> {
    let Json::Object(fields) = format else { fail!(InvalidArgument, "response_format: {}, expected an object", format.kind()) };
    let Some(kind) = format.get("type").and_then(Json::as_str) else { fail!(InvalidArgument, "response_format: \"type\" is missing") };
    let (known, kind): (&[&str], _) = match kind {
        "text" => (&[], None),
        "json" => (&[], Some(ConstraintKind::AnyJson)),
        "json_object" => (&[], Some(ConstraintKind::JsonSchema)),
        "json_schema" => (&["json_schema", "schema", "strict", "name"], Some(ConstraintKind::JsonSchema)),
        "regex" => (&["regex"], Some(ConstraintKind::Regex)),
        "lark" => (&["grammar"], Some(ConstraintKind::Lark)),
        "gbnf" => (&["grammar"], Some(ConstraintKind::Gbnf)),
        other => {
            fail!(InvalidArgument, "response_format: type {other:?}: expected text, json, json_object, json_schema, regex, lark or gbnf")
        }
    };
    if let Some((key, _)) = fields.iter().find(|(key, _)| key != "type" && !known.contains(&key.as_str())) {
        fail!(InvalidArgument, "response_format: unknown key {key:?}");
    }
    let Some(kind) = kind else { return Ok(None) };
    let text = match (kind, known) {
        (ConstraintKind::AnyJson, _) => String::new(),
        (ConstraintKind::JsonSchema, []) => r#"{"type":"object"}"#.to_owned(),
        (ConstraintKind::JsonSchema, _) => schema(format)?.to_string(),
        (_, [key, ..]) => text(format, key)?,
        (_, []) => String::new(),
    };
    Ok(Some(ConstraintSource { kind, text }))
}

/// The schema inside `{"name":..,"schema":{..}}`, or beside the type.
fn schema(format: &Json) -> Result<&Json> {
    let inside = format.get("json_schema").unwrap_or(format);
    match inside.get("schema") {
        Some(schema) => Ok(schema),
        None => fail!(InvalidArgument, "response_format: \"schema\" is missing in \"json_schema\""),
    }
}

fn text(format: &Json, key: &str) -> Result<String> {
    match format.get(key) {
        Some(Json::String(text)) => Ok(text.clone()),
        Some(other) => fail!(InvalidArgument, "response_format: {key:?} is {}, expected a string", other.kind()),
        None => fail!(InvalidArgument, "response_format: {key:?} is missing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<ConstraintSource>> {
        response_format(&Json::parse("response_format", text)?)
    }

    #[test]
    fn shapes_are_those_of_the_api() {
        let source = |kind, text: &str| Some(ConstraintSource { kind, text: text.to_owned() });
        for (text, expected) in [
            (r#"{"type":"text"}"#, None),
            (r#"{"type":"json"}"#, source(ConstraintKind::AnyJson, "")),
            (r#"{"type":"json_object"}"#, source(ConstraintKind::JsonSchema, r#"{"type":"object"}"#)),
            (
                r#"{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"null"}}}"#,
                source(ConstraintKind::JsonSchema, r#"{"type":"null"}"#),
            ),
            (r#"{"type":"json_schema","schema":true}"#, source(ConstraintKind::JsonSchema, "true")),
            (r#"{"type":"regex","regex":"a+"}"#, source(ConstraintKind::Regex, "a+")),
            (r#"{"type":"gbnf","grammar":"root ::= \"a\""}"#, source(ConstraintKind::Gbnf, "root ::= \"a\"")),
        ] {
            assert_eq!(parsed(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn an_error_names_the_key() {
        for (text, says) in [
            ("[]", "an array"),
            ("{}", "\"type\" is missing"),
            (r#"{"type":"xml"}"#, "\"xml\""),
            (r#"{"type":"regex"}"#, "\"regex\" is missing"),
            (r#"{"type":"regex","regex":1}"#, "a number"),
            (r#"{"type":"lark","grammer":"x"}"#, "\"grammer\""),
            (r#"{"type":"json_schema","json_schema":{}}"#, "\"schema\" is missing"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.message().contains(says), "{text}: {error}");
        }
    }
}
