//! Runs a chat template: messages in, the text of a prompt out. Bounded in time, memory and depth, whatever the template says.

use super::dialect;
use super::environment::environment;
use super::guard::{self, Guard};
use super::json::Json;
use super::{ChatRequest, calendar};
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::text::limits::{
    MAX_TEMPLATE_BYTES, MAX_TEMPLATE_FOLDS, MAX_TEMPLATE_FUEL, TEMPLATE_FUEL, TEMPLATE_FUEL_PER_KIB, TEMPLATE_FUEL_PER_VALUE,
};
use minijinja::value::Value;
use std::borrow::Cow;

/// Options that hosts set for any template, whether it reads them or not.
const COMMON_VARIABLES: [&str; 6] = ["enable_thinking", "thinking", "reasoning_effort", "documents", "date_string", "builtin_tools"];

/// The text of a prompt, with marks where no control token may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    text: String,
    mark: char,
}

impl Rendered {
    /// The text as a model sees it.
    pub fn text(&self) -> Cow<'_, str> {
        if self.text.contains(self.mark) { Cow::Owned(self.text.replace(self.mark, "")) } else { Cow::Borrowed(&self.text) }
    }

    /// The text with its marks, and the mark.
    pub(in crate::text) fn marked(&self) -> (&str, char) {
        (&self.text, self.mark)
    }
}

/// Renders `request` with the template `source`; `special` are the texts of the vocabulary's named tokens, as `bos_token`.
///
/// Recursion goes as deep as the engine allows: to be called on a stack of our own.
///
/// # Errors
/// `Template` with the line and the cause, also if the template refuses the chat; `InvalidArgument` for options that nobody knows.
pub(super) fn render(source: &str, special: &[(&'static str, String)], guard: &Guard, request: &ChatRequest) -> Result<Rendered> {
    if source.len() > MAX_TEMPLATE_BYTES {
        fail!(Template, "the chat template has {} bytes, expected {MAX_TEMPLATE_BYTES} at most", source.len());
    }
    let n_folds = source.bytes().filter(|byte| matches!(byte, b'~' | b'+')).count() + source.matches("not").count();
    if n_folds > MAX_TEMPLATE_FOLDS {
        fail!(Template, "the chat template has {n_folds} of ~, + and not, expected {MAX_TEMPLATE_FOLDS} at most");
    }
    let source = dialect::translate(source);
    let now = request.now.unwrap_or_else(calendar::now);
    let environment = environment(fuel(request), now).map_err(describe)?;
    let template = environment.template_from_named_str("template", &source).map_err(describe)?;
    check_variables(request, || template.undeclared_variables(false).into_iter().collect())?;
    let mark = choose_mark(&source, request)?;
    let text = template.render(context(special, guard, request, mark)).map_err(describe)?;
    Ok(Rendered { text, mark })
}

fn fuel(request: &ChatRequest) -> u64 {
    let values: usize = request.values().map(Json::n_values).sum();
    let mut n_bytes = 0usize;
    request.values().for_each(|json| guard::texts(json, &mut |text| n_bytes = n_bytes.saturating_add(text.len())));
    let of_values = (values as u64).saturating_mul(TEMPLATE_FUEL_PER_VALUE);
    let of_bytes = (n_bytes as u64 / 1024).saturating_mul(TEMPLATE_FUEL_PER_KIB);
    TEMPLATE_FUEL.saturating_add(of_values).saturating_add(of_bytes).min(MAX_TEMPLATE_FUEL)
}

/// Refuses an option that neither we nor the template know: it is a typing error.
fn check_variables(request: &ChatRequest, used: impl FnOnce() -> Vec<String>) -> Result<()> {
    let mut unknown = request.variables.iter().map(|(name, _)| name).filter(|name| !COMMON_VARIABLES.contains(&name.as_str())).peekable();
    if unknown.peek().is_none() {
        return Ok(());
    }
    let used = used();
    match unknown.find(|name| !used.contains(*name)) {
        Some(name) => fail!(InvalidArgument, "options_json: unknown key {name:?}, and the chat template does not use it either"),
        None => Ok(()),
    }
}

fn choose_mark(source: &str, request: &ChatRequest) -> Result<char> {
    let mut texts = vec![source];
    request.values().for_each(|json| guard::texts(json, &mut |text| texts.push(text)));
    guard::choose_mark(texts.into_iter())
}

/// What the template sees. `transformers` defines `tools` and `documents` always, as none where there are none.
fn context(special: &[(&'static str, String)], guard: &Guard, request: &ChatRequest, mark: char) -> Value {
    let data = Data { guard, mark };
    let messages: Value = request.messages.iter().map(|message| data.value(message)).collect();
    let tools: Value = match &request.tools {
        Some(tools) => tools.iter().map(|tool| data.value(tool)).collect(),
        None => Value::from(()),
    };
    let mut entries: Vec<(&str, Value)> = vec![("documents", Value::from(()))];
    entries.extend(special.iter().map(|(name, text)| (*name, Value::from(text.as_str()))));
    entries.extend(request.variables.iter().map(|(name, value)| (name.as_str(), data.value(value))));
    entries.push(("messages", messages));
    entries.push(("tools", tools));
    entries.push(("add_generation_prompt", Value::from(request.add_generation_prompt)));
    Value::from_pairs(entries)
}

/// Turns what the host sent into what the template sees.
struct Data<'a> {
    guard: &'a Guard,
    mark: char,
}

impl Data<'_> {
    fn value(&self, json: &Json) -> Value {
        match json {
            Json::Null => Value::from(()),
            Json::Bool(value) => Value::from(*value),
            Json::Int(value) => Value::from(*value),
            Json::Float(value) => Value::from(*value),
            Json::String(text) => Value::from(self.guard.protect(text, self.mark)),
            Json::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Json::Object(pairs) => Value::from_pairs(pairs.iter().map(|(key, value)| (self.name(key), self.field(key, value)))),
        }
    }

    fn field(&self, key: &str, value: &Json) -> Value {
        match (key, value) {
            // Templates compare these with names, and build control tokens from roles.
            ("role" | "type", Json::String(name)) => Value::from(self.name(name)),
            _ => self.value(value),
        }
    }

    fn name(&self, name: &str) -> String {
        self.guard.protect_name(name, self.mark)
    }
}

/// The engine's error as ours: where, and why.
fn describe(e: minijinja::Error) -> Error {
    let cause = match (e.kind(), e.detail()) {
        (minijinja::ErrorKind::OutOfFuel, _) => "it does more work than any chat needs".to_owned(),
        (minijinja::ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let line = e.line().map_or(0, |line| i64::try_from(line).unwrap_or(0));
    let place = if line > 0 { format!("chat template, line {line}: {cause}") } else { format!("chat template: {cause}") };
    Error::new(ErrorKind::Template, place).with_detail([line, 0])
}
