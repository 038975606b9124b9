//! How Python writes values: templates are written for it, and a model was trained on what it wrote.
//!
//! For `environment`: `json.dumps` and `repr` of floating-point numbers.

use crate::text::limits::MAX_TEMPLATE_DEPTH;
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use std::fmt::Write;

/// `repr(value)`: the shortest digits that read back as `value`, with an exponent below 1e-4 and from 1e16 on.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) && value != 0.0 => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        _ => format!("{value:?}"),
    }
}

/// `(text + "\n").splitlines()`: also at the other characters that Python ends lines with.
pub(super) fn split_lines(text: &str) -> Vec<&str> {
    const ENDS: [char; 9] = ['\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c| c == '\n' || ENDS.contains(&c)) {
        lines.push(&rest[..at]);
        let end = &rest[at..];
        rest = end.strip_prefix("\r\n").unwrap_or_else(|| end.chars().next().map_or("", |c| &end[c.len_utf8()..]));
    }
    lines.push(rest);
    lines
}

/// What `json.dumps` is asked for.
#[derive(Clone, Debug)]
pub(super) struct JsonStyle {
    pub(super) ensure_ascii: bool,
    /// One level of indentation; `None` = all on one line.
    pub(super) indent: Option<String>,
    /// Between items, and between key and value.
    pub(super) separators: (String, String),
    pub(super) sort_keys: bool,
}

/// `json.dumps(value)`, paid for with the fuel of `state`.
///
/// # Errors
/// As Python: for what JSON cannot say. Out of fuel, and for values nested deeper than [`MAX_TEMPLATE_DEPTH`].
pub(super) fn json_dumps(state: &State<'_, '_>, value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut dump = Dump { state, style, out: String::new() };
    dump.value(value, 0)?;
    Ok(dump.out)
}

struct Dump<'a> {
    state: &'a State<'a, 'a>,
    style: &'a JsonStyle,
    out: String,
}

impl Dump<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        // A value that contains itself many times over is small in memory and endless on paper.
        self.state.consume_fuel(1 + value.as_str().map_or(0, str::len) as u64 / 16)?;
        if depth > MAX_TEMPLATE_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: the value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq => self.list(value, depth)?,
            ValueKind::Map => self.object(value, depth)?,
            other => return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {other} is not JSON serializable"))),
        }
        Ok(())
    }

    fn number(&mut self, value: &Value) {
        match f64::try_from(value.clone()) {
            Ok(number) if !value.is_integer() => self.out.push_str(&match float(number).as_str() {
                "nan" => "NaN".to_owned(),
                "inf" => "Infinity".to_owned(),
                "-inf" => "-Infinity".to_owned(),
                finite => finite.to_owned(),
            }),
            _ => self.out.push_str(&value.to_string()),
        }
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut empty = true;
        for item in value.try_iter()? {
            self.start_item(empty, depth + 1);
            self.value(&item, depth + 1)?;
            empty = false;
        }
        self.end(']', empty, depth);
        Ok(())
    }

    fn object(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('{');
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.style.sort_keys {
            keys.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
        let empty = keys.is_empty();
        for (i, key) in keys.iter().enumerate() {
            self.start_item(i == 0, depth + 1);
            self.key(key)?;
            self.out.push_str(&self.style.separators.1);
            self.value(&value.get_item(key)?, depth + 1)?;
        }
        self.end('}', empty, depth);
        Ok(())
    }

    /// Keys are strings; Python turns numbers, truth values and None into some.
    fn key(&mut self, key: &Value) -> Result<(), Error> {
        let mut text = Dump { state: self.state, style: self.style, out: String::new() };
        match key.kind() {
            ValueKind::String => return self.value(key, 0),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => text.value(key, 0)?,
            other => return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: keys must be strings, not {other}"))),
        }
        self.string(&text.out);
        Ok(())
    }

    fn start_item(&mut self, first: bool, depth: usize) {
        if !first {
            self.out.push_str(&self.style.separators.0);
        }
        self.new_line(depth);
    }

    fn end(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.new_line(depth);
        }
        self.out.push(bracket);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                // Without ensure_ascii, Python leaves U+007F alone; with it, it escapes from there on.
                c if c < ' ' || (self.style.ensure_ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a String cannot fail.
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        // What CPython 3.12 prints for repr() of these.
        let expected = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (5e-324, "5e-324"),
            (1.0 / 3.0, "0.3333333333333333"),
            (123_456_789.125, "123456789.125"),
            (f64::INFINITY, "inf"),
        ];
        for (value, text) in expected {
            assert_eq!(float(value), text);
        }
    }
}
