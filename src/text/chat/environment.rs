//! What a template may call, beyond what the engine brings: the functions and filters that `transformers` adds, with Python's behaviour.

use super::calendar;
use super::dialect::LOOPED;
use super::python::{self, JsonStyle};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

/// An environment for one rendering that may do `fuel` work, at the moment `now` (seconds since 1970).
///
/// # Errors
/// None that can be expected: the syntax is Jinja's own.
pub(super) fn environment(fuel: u64, now: i64) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.set_formatter(format);
    env.set_fuel(Some(fuel));
    env.add_filter("tojson", tojson);
    env.add_filter("string", string);
    env.add_filter("indent", indent);
    env.add_filter(LOOPED, looped_over);
    env.add_test("sequence", is_sequence);
    env.add_test("iterable", is_iterable);
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", move |format: &str| calendar::strftime(format, now));
    Ok(env)
}

/// `{{ value }}`: floating-point numbers as Python writes them, everything else as the engine does.
fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match as_float(value) {
        Some(number) => Ok(out.write_str(&python::float(number))?),
        None => minijinja::escape_formatter(out, state, value),
    }
}

/// `value|string`
fn string(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    match as_float(value) {
        Some(number) => Ok(Value::from(python::float(number))),
        None => minijinja::filters::string(state, value),
    }
}

fn as_float(value: &Value) -> Option<f64> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    is_float.then(|| f64::try_from(value.clone()).ok()).flatten()
}

/// `text|indent(width=4, first=false, blank=false)`: all lines but the first, and none that are empty, unless said so.
fn indent(state: &State<'_, '_>, text: &str, width: Option<Value>, first: Option<bool>, kwargs: Kwargs) -> Result<String, Error> {
    let width = match width {
        Some(width) => width,
        None => kwargs.get::<Option<Value>>("width")?.unwrap_or_else(|| Value::from(4)),
    };
    let indent = indentation(&width)?.unwrap_or_default();
    let first = first.or(kwargs.get("first")?).unwrap_or(false);
    let blank = kwargs.get::<Option<bool>>("blank")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let lines = python::split_lines(text);
    state.consume_fuel((text.len() + lines.len() * indent.len()) as u64 / 64)?;
    let mut out = String::with_capacity(text.len());
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if if i == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&indent);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// What a loop runs over: as the engine, but none is an error, as it is in Python.
fn looped_over(value: &Value) -> Result<Value, Error> {
    if value.is_none() {
        return Err(Error::new(ErrorKind::InvalidOperation, "a loop over none: the chat lacks what the template needs"));
    }
    Ok(value.clone())
}

/// Lets a template refuse a conversation: `message` is what the host is told.
fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// Jinja calls a sequence what has a length and items by index: texts and maps too.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
}

/// What a loop can run over; also what is undefined, but not none.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, as `transformers` defines it.
fn tojson(state: &State<'_, '_>, value: &Value, positional: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    const NAMES: [&str; 4] = ["ensure_ascii", "indent", "separators", "sort_keys"];
    if positional.len() > NAMES.len() {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let argument = |place: usize| -> Result<Value, Error> {
        match positional.get(place) {
            Some(value) => Ok(value.clone()),
            None => Ok(kwargs.get::<Option<Value>>(NAMES[place])?.unwrap_or_default()),
        }
    };
    let indent = indentation(&argument(1)?)?;
    let style = JsonStyle {
        ensure_ascii: argument(0)?.is_true(),
        separators: separators(&argument(2)?, indent.is_some())?,
        sort_keys: argument(3)?.is_true(),
        indent,
    };
    kwargs.assert_all_used()?;
    python::json_dumps(state, value, &style)
}

/// Spaces of one level, which Python takes as a number or as a text.
fn indentation(value: &Value) -> Result<Option<String>, Error> {
    // Deeper than any reader wants it, and no way to make a small value endless.
    const MAX_INDENT: usize = 32;
    if value.is_none() || value.is_undefined() {
        return Ok(None);
    }
    let spaces = || usize::try_from(value.as_i64()?.max(0)).ok().map(|n| " ".repeat(n.min(MAX_INDENT)));
    match value.as_str().map(str::to_owned).or_else(spaces) {
        Some(indent) if indent.len() <= MAX_INDENT => Ok(Some(indent)),
        _ => Err(Error::new(ErrorKind::InvalidOperation, "tojson: indent must be a small number or a short text")),
    }
}

fn separators(value: &Value, indented: bool) -> Result<(String, String), Error> {
    if value.is_none() || value.is_undefined() {
        return Ok(((if indented { "," } else { ", " }).into(), ": ".into()));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    match &items[..] {
        [item, key] if item.as_str().is_some() && key.as_str().is_some() => Ok((item.to_string(), key.to_string())),
        _ => Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators must be two texts")),
    }
}
