//! JSON schemas as llguidance gets them: with our rules for white space, and with dates that exist.

use super::compile::refused;
use super::place;
use crate::error::Result;
use serde_json::{Map, Value, json};

/// What stands between the values of generated JSON: at most a space, or a line break with an indentation, so that a model cannot go on with
/// white space for ever.
const SPACE: &str = r"\x20|\x0A[\x20\x09]{0,32}";

/// A day that every calendar has: no year 0, no 29th of February, which is a day in some years only.
const DATE: &str = "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)-\
    ((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))";

/// A time of RFC 3339 without leap seconds, of which there are 27 in all.
const TIME: &str = r"([01][0-9]|2[0-3])(:[0-5][0-9]){2}(\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";

/// Keywords with values that are data.
const DATA: [&str; 5] = ["const", "enum", "default", "examples", "x-guidance"];

/// The schema `text`, ready to be compiled.
///
/// # Errors
/// `Constraint` with the byte offset, if it is no JSON.
pub(super) fn prepared(text: &str) -> Result<Value> {
    let parsed: serde_json::Result<Value> = serde_json::from_str(text);
    let mut schema = parsed.map_err(|e| refused(place::offset(text, e.line(), e.column()), e))?;
    if schema == Value::Bool(true) {
        schema = json!({});
    }
    write_formats(&mut schema);
    if let Some(fields) = schema.as_object_mut() {
        fields.entry("x-guidance").or_insert_with(|| json!({ "whitespace_pattern": SPACE }));
    }
    Ok(schema)
}

/// A JSON value that `schema` describes, as a part of a Lark grammar.
pub(in crate::text) fn json_value(schema: &str) -> String {
    format!("%json {}", prepared(schema).map_or_else(|_| schema.to_owned(), |schema| schema.to_string()))
}

/// Puts patterns in place of the formats that have days or seconds which do not exist. The depth is that of a parsed JSON text.
fn write_formats(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(write_formats),
        Value::Object(fields) => {
            write_format(fields);
            fields.iter_mut().filter(|(key, _)| !DATA.contains(&key.as_str())).for_each(|(_, value)| write_formats(value));
        }
        _ => {}
    }
}

fn write_format(fields: &mut Map<String, Value>) {
    let pattern = match fields.get("format").and_then(Value::as_str) {
        Some("date") => format!("^({DATE})$"),
        Some("time") => format!("^({TIME})$"),
        Some("date-time") => format!("^({DATE})T({TIME})$"),
        _ => return,
    };
    if !fields.contains_key("pattern") {
        fields.remove("format");
        fields.insert("pattern".to_owned(), pattern.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_become_patterns_where_they_are_keywords() {
        let schema = prepared(
            r#"{"properties":{"format":{"type":"string","format":"time"}},"enum":[{"format":"date"}],"items":[{"format":"uuid"}]}"#,
        )
        .unwrap();
        assert!(schema["properties"]["format"]["pattern"].as_str().unwrap().contains("2[0-3]"), "{schema}");
        assert_eq!((&schema["enum"][0]["format"], &schema["items"][0]["format"]), (&json!("date"), &json!("uuid")));
        assert_eq!(schema["x-guidance"]["whitespace_pattern"], SPACE);
        assert!(json_value(r#"{"z":1,"a":2,"x-guidance":{}}"#).starts_with(r#"%json {"z":1,"a":2"#), "in the order that was written");
    }

    #[test]
    fn patterns_match_what_exists() {
        let matches = |pattern: &str, text: &str| {
            let mut regex = llguidance::derivre::Regex::new(pattern).unwrap();
            regex.is_match(text)
        };
        for (text, is_date) in [
            ("2024-02-28", true),
            ("2024-02-29", false),
            ("0000-01-01", false),
            ("1990-12-31", true),
            ("1990-06-31", false),
            ("2000-10-00", false),
        ] {
            assert_eq!(matches(DATE, text), is_date, "{text}");
        }
        for (text, is_time) in
            [("23:59:59Z", true), ("23:59:60Z", false), ("07:00:00.25+01:30", true), ("24:00:00Z", false), ("07:00:00", false)]
        {
            assert_eq!(matches(TIME, text), is_time, "{text}");
        }
    }
}
