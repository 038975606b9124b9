//! The inside of a tool call: every notation that models write them in, told apart by what stands in them.

use crate::text::chat::Json;

/// One call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// What the model calls it, if it does.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// An object.
    pub arguments: Json,
}

/// What separates the name of a tool from its arguments.
const SEPARATORS: [&str; 5] = ["[ARGS]", "<｜tool▁sep｜>", "<|tool_call_argument_begin|>", "<|tool_call:args|>", "\n"];

/// The calls in `body`; `None` if it is no whole call. `tools` tell which arguments are texts, where the notation does not.
pub(super) fn parse(body: &str, tools: &[Json]) -> Option<Vec<ToolCall>> {
    let body = body.trim();
    let one = |call: Option<ToolCall>| Some(vec![call?]);
    match body {
        _ if body.starts_with(['{', '[']) => json_calls(body).or_else(|| python_calls(body)),
        _ if body.starts_with("<function=") || body.starts_with('=') => one(function_tag(body, tools)),
        _ if body.starts_with("call:") => one(gemma(body)),
        _ if body.starts_with("name=") => one(invoke(body, tools)),
        _ if body.contains("<arg_key>") || (!body.is_empty() && is_name(body)) => one(arg_keys(body, tools)),
        _ => one(name_then_json(body)),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-.:/".contains(c))
}

fn object(text: &str) -> Option<Json> {
    let text = text.trim();
    // Some write nothing for nothing.
    let parsed = if text.is_empty() { Json::Object(Vec::new()) } else { Json::parse("arguments", text).ok()? };
    matches!(parsed, Json::Object(_)).then_some(parsed)
}

/// `{"name":..,"arguments":{..}}`, or a list of them; names of the fields differ.
fn json_calls(body: &str) -> Option<Vec<ToolCall>> {
    match Json::parse("call", body).ok()? {
        Json::Array(items) if !items.is_empty() => items.iter().map(json_call).collect(),
        single => Some(vec![json_call(&single)?]),
    }
}

fn json_call(json: &Json) -> Option<ToolCall> {
    let json = json.get("function").filter(|function| matches!(function, Json::Object(_))).unwrap_or(json);
    let first = |names: &[&str]| names.iter().find_map(|name| json.get(name));
    let name = first(&["name", "tool_name", "function"])?.as_str()?.to_owned();
    let arguments = match first(&["arguments", "parameters", "args"]) {
        Some(Json::String(text)) => object(text)?,
        Some(arguments @ Json::Object(_)) => arguments.clone(),
        Some(Json::Null) | None => Json::Object(Vec::new()),
        Some(_) => return None,
    };
    let id = first(&["id", "tool_call_id"]).and_then(Json::as_str).map(str::to_owned);
    is_name(&name).then_some(ToolCall { id, name, arguments })
}

/// `name[ARGS]{..}`, `functions.name:0<|tool_call_argument_begin|>{..}`, ```` type<sep>name\n```json\n{..}\n``` ````, and their like.
fn name_then_json(body: &str) -> Option<ToolCall> {
    let brace = body.find('{')?;
    let (mut head, arguments) = body.split_at(brace);
    for separator in SEPARATORS {
        head = head.trim_end().trim_end_matches("```json").trim_end().trim_end_matches(separator);
    }
    let arguments = object(arguments.trim_end().trim_end_matches("```"))?;
    // What stands before the name: an id, or the type of the call.
    let (before, name) = ["<|tool_call:name|>", "<｜tool▁sep｜>"].iter().find_map(|s| head.split_once(s)).unwrap_or(("", head));
    let (name, after) = name.split_once("[CALL_ID]").unwrap_or((name, ""));
    let whole = name.trim();
    let name = whole.strip_prefix("functions.").unwrap_or(whole);
    let (name, id) = match name.rsplit_once(':') {
        Some((name, number)) if number.parse::<u32>().is_ok() => (name, Some(whole.to_owned())),
        _ => (name, [before, after].into_iter().map(str::trim).find(|id| !id.is_empty() && *id != "function").map(str::to_owned)),
    };
    is_name(name).then(|| ToolCall { id, name: name.to_owned(), arguments })
}

/// An argument that is written without quotes: JSON, unless the tool wants a text or it is none.
fn value(text: &str, tool: &str, key: &str, tools: &[Json]) -> Json {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let function = tools.iter().map(|tool| tool.get("function").unwrap_or(tool));
    let schema = function
        .filter(|function| function.get("name").and_then(Json::as_str) == Some(tool))
        .find_map(|function| function.get("parameters")?.get("properties")?.get(key)?.get("type")?.as_str());
    let as_text = || Json::String(text.to_owned());
    match (schema, Json::parse("value", text)) {
        (Some("string"), _) | (None, Ok(Json::String(_))) => as_text(),
        (_, Ok(json)) => json,
        // Some templates write lists and maps as Python does, and so do their models.
        (None, Err(_)) if !text.starts_with(['[', '{']) => as_text(),
        (_, Err(_)) => python_value(text).unwrap_or_else(as_text),
    }
}

/// `{'a': [1, True, None]}`
fn python_value(text: &str) -> Option<Json> {
    let mut reader = Reader { rest: text, quotes: PYTHON_QUOTES, depth: 0 };
    let value = reader.value(':')?;
    reader.rest.trim().is_empty().then_some(value)
}

/// `<function=name><parameter=key>value</parameter></function>`, or JSON inside. The opening mark may be gone.
fn function_tag(body: &str, tools: &[Json]) -> Option<ToolCall> {
    let body = body.strip_prefix("<function").unwrap_or(body).strip_prefix('=')?;
    let (name, rest) = body.split_once('>')?;
    let (name, rest) = (name.trim(), rest.trim_end().trim_end_matches("</function>"));
    if rest.trim_start().starts_with('{') {
        return is_name(name).then_some(ToolCall { id: None, name: name.to_owned(), arguments: object(rest)? });
    }
    let arguments = parameters(rest, "<parameter=", "</parameter>", |head| Some((head.to_owned(), None)), name, tools)?;
    is_name(name).then(|| ToolCall { id: None, name: name.to_owned(), arguments })
}

/// ` name="f"><parameter name="key">value</parameter>`, what stands inside `<invoke` and `</invoke>`.
fn invoke(body: &str, tools: &[Json]) -> Option<ToolCall> {
    let (head, rest) = body.split_once('>')?;
    let name = head.strip_prefix("name=")?.trim().trim_matches('"');
    let (open, close) =
        if rest.contains("｜DSML｜") { ("<｜DSML｜parameter ", "</｜DSML｜parameter>") } else { ("<parameter ", "</parameter>") };
    let head = |head: &str| {
        let key = head.strip_prefix("name=\"")?.split('"').next()?.to_owned();
        Some((key, head.contains("string=\"true\"").then_some(true)))
    };
    let arguments = parameters(rest, open, close, head, name, tools)?;
    is_name(name).then(|| ToolCall { id: None, name: name.to_owned(), arguments })
}

/// Arguments between tags; `head` reads the key, and whether the value is a text, from the opening tag.
fn parameters(
    mut rest: &str,
    open: &str,
    close: &str,
    head: impl Fn(&str) -> Option<(String, Option<bool>)>,
    tool: &str,
    tools: &[Json],
) -> Option<Json> {
    let mut arguments = Vec::new();
    while let Some((before, parameter)) = rest.split_once(open) {
        let (tag, content) = parameter.split_once('>')?;
        let (text, after) = content.split_once(close)?;
        let (key, is_text) = head(tag)?;
        let value = if is_text == Some(true) { Json::String(text.to_owned()) } else { value(text, tool, &key, tools) };
        before.trim().is_empty().then(|| arguments.push((key, value)))?;
        rest = after;
    }
    rest.trim().is_empty().then_some(Json::Object(arguments))
}

/// `name<arg_key>key</arg_key><arg_value>value</arg_value>`
fn arg_keys(body: &str, tools: &[Json]) -> Option<ToolCall> {
    let (name, mut rest) = body.split_at(body.find("<arg_key>").unwrap_or(body.len()));
    let (name, mut arguments) = (name.trim(), Vec::new());
    while let Some(pair) = rest.trim_start().strip_prefix("<arg_key>") {
        let (key, after) = pair.split_once("</arg_key>")?;
        let (text, after) = after.trim_start().strip_prefix("<arg_value>")?.split_once("</arg_value>")?;
        arguments.push((key.trim().to_owned(), value(text, name, key.trim(), tools)));
        rest = after;
    }
    (rest.trim().is_empty() && is_name(name)).then(|| ToolCall { id: None, name: name.to_owned(), arguments: Json::Object(arguments) })
}

/// `call:name{key:<|"|>text<|"|>,n:1,list:[..],map:{..}}`: JSON with bare keys and quotes of its own.
fn gemma(body: &str) -> Option<ToolCall> {
    let body = body.strip_prefix("call:")?;
    let (name, arguments) = body.split_at(body.find('{')?);
    let mut reader = Reader { rest: arguments, quotes: &["<|\"|>", "\""], depth: 0 };
    let arguments = reader.value(':')?;
    (reader.rest.trim().is_empty() && is_name(name)).then(|| ToolCall { id: None, name: name.to_owned(), arguments })
}

/// `[f(a=1, b='x'), g()]`: calls as Python writes them.
fn python_calls(body: &str) -> Option<Vec<ToolCall>> {
    let mut reader = Reader { rest: body.strip_prefix('[')?, quotes: PYTHON_QUOTES, depth: 0 };
    let mut calls = Vec::new();
    loop {
        let (name, rest) = reader.rest.split_once('(')?;
        reader.rest = rest;
        let arguments = reader.pairs('=', ')')?;
        is_name(name.trim())
            .then(|| calls.push(ToolCall { id: None, name: name.trim().to_owned(), arguments: Json::Object(arguments) }))?;
        if !reader.eat(",") {
            return (reader.eat("]") && reader.rest.trim().is_empty()).then_some(calls);
        }
    }
}

/// True if `rest` may follow a text in quotes.
fn ends_a_text(rest: &str) -> bool {
    let rest = rest.trim_start();
    rest.is_empty() || rest.starts_with([',', ':', '=', ')', ']', '}'])
}

/// Reads values that are almost JSON.
struct Reader<'a> {
    rest: &'a str,
    /// What texts may stand between; a longer one first.
    quotes: &'a [&'static str],
    depth: usize,
}

/// What texts stand between in Python.
const PYTHON_QUOTES: &[&str] = &["'", "\""];

/// Values inside each other: as deep as JSON that we take.
const MAX_DEPTH: usize = crate::text::limits::MAX_CHAT_DEPTH;

impl Reader<'_> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// One value; `colon` stands between keys and values.
    fn value(&mut self, colon: char) -> Option<Json> {
        if self.depth >= MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let value = match () {
            () if self.eat("{") => self.pairs(':', '}').map(Json::Object),
            () if self.eat("[") => self.list(colon).map(Json::Array),
            () => self.text().map(Json::String).or_else(|| self.word()),
        };
        self.depth -= 1;
        value
    }

    /// The rest of a list.
    fn list(&mut self, colon: char) -> Option<Vec<Json>> {
        let mut items = Vec::new();
        while !self.eat("]") {
            if !items.is_empty() && !self.eat(",") {
                return None;
            }
            items.push(self.value(colon)?);
        }
        Some(items)
    }

    /// The rest of a map, or of the arguments of a call.
    fn pairs(&mut self, colon: char, close: char) -> Option<Vec<(String, Json)>> {
        let (mut pairs, close) = (Vec::new(), close.to_string());
        while !self.eat(&close) {
            if !pairs.is_empty() && !self.eat(",") {
                return None;
            }
            let key = match self.text() {
                Some(key) => key,
                None => {
                    let end = self.rest.find(colon)?;
                    self.rest[..end].trim().to_owned()
                }
            };
            self.rest = self.rest.split_once(colon)?.1;
            let value = self.value(':')?;
            pairs.push((key, value));
        }
        Some(pairs)
    }

    /// A quoted text. Short quotes have escapes, long ones have none.
    fn text(&mut self) -> Option<String> {
        let rest = self.rest.trim_start();
        let quote = self.quotes.iter().find(|quote| rest.starts_with(**quote))?;
        let inside = &rest[quote.len()..];
        if quote.len() > 1 {
            let (text, rest) = inside.split_once(*quote)?;
            self.rest = rest;
            return Some(text.to_owned());
        }
        let (mut text, mut chars) = (String::new(), inside.char_indices());
        loop {
            let (at, c) = chars.next()?;
            match c {
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    c @ ('\\' | '\'' | '"') => text.push(c),
                    // No escape: Python leaves the backslash where it is.
                    other => text.extend(['\\', other]),
                },
                // Some templates write texts between quotes as they are, apostrophes and all.
                c if quote.starts_with(c) && ends_a_text(&inside[at + 1..]) => {
                    self.rest = &inside[at + 1..];
                    return Some(text);
                }
                c => text.push(c),
            }
        }
    }

    /// A number, or a name for true, false and nothing, in Python's or JSON's spelling.
    fn word(&mut self) -> Option<Json> {
        let rest = self.rest.trim_start();
        let end = rest.find([',', ')', ']', '}']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let value = match word.trim() {
            "True" | "true" => Json::Bool(true),
            "False" | "false" => Json::Bool(false),
            "None" | "null" => Json::Null,
            number => Json::parse("number", number).ok().filter(|n| matches!(n, Json::Int(_) | Json::Float(_)))?,
        };
        self.rest = after;
        Some(value)
    }
}
