//! What an answer must match, as a grammar: calls of tools in the notation of the template, answers in a format, both behind the model's thinking.

use super::formats::{self, Format};
use super::notation::{self, Arguments, Notation};
use crate::error::Result;
use crate::fail;
use crate::text::chat::{Json, ToolChoice};
use crate::text::constraint::{ConstraintKind, ConstraintSource, any_text_but, json_value, quoted};
use crate::text::{TokenType, Tokenizer};

/// What is known about the answer that is to be constrained.
pub(in crate::text::chat) struct Answer<'a> {
    pub(in crate::text::chat) tokenizer: &'a Tokenizer,
    pub(in crate::text::chat) template: &'a str,
    /// Rendered; what it ends with has begun the answer.
    pub(in crate::text::chat) prompt: &'a str,
    pub(in crate::text::chat) tools: &'a [Json],
    /// More than one call may be made.
    pub(in crate::text::chat) parallel: bool,
}

/// A grammar in the making.
struct Lark<'a> {
    answer: &'a Answer<'a>,
    format: Format,
    thinking: Option<(&'static str, &'static str)>,
    rules: String,
    n_rules: usize,
}

impl Answer<'_> {
    /// What calls, or their absence, as `choice` wants it, must match.
    ///
    /// # Errors
    /// `InvalidArgument` for a tool that the chat does not have, `Unsupported` for a template without a known notation.
    pub(in crate::text::chat) fn choosing(&self, choice: &ToolChoice) -> Result<ConstraintSource> {
        let mut lark = Lark::new(self);
        let lead = lark.lead();
        let body = match choice {
            ToolChoice::None => lark.no_call(),
            ToolChoice::Auto => {
                let (free, (mark, until)) = (lark.no_call(), lark.text_before_call()?);
                format!("({free} | {until} {})", lark.calls(None, mark)?)
            }
            ToolChoice::Required => lark.calls(None, lark.begun_by_prompt())?,
            ToolChoice::Named(name) => lark.calls(Some(name), lark.begun_by_prompt())?,
        };
        Ok(lark.finish(&lead, &body))
    }

    /// `format`, behind the thinking that the template lets a model do.
    pub(in crate::text::chat) fn formatted(&self, format: &ConstraintSource) -> ConstraintSource {
        let mut lark = Lark::new(self);
        let lead = lark.lead();
        let body = match format.kind {
            _ if lead.is_empty() && !lark.format.channels => return format.clone(),
            ConstraintKind::AnyJson => json_value("{}"),
            ConstraintKind::JsonSchema => json_value(&format.text),
            ConstraintKind::Regex => format!("/{}/", format.text.replace('/', "\\/")),
            // Their rules have names of their own.
            ConstraintKind::Lark | ConstraintKind::Gbnf => return format.clone(),
        };
        let body = if lark.format.channels { format!("{} {body}", lark.pieces("<|channel|>final<|message|>")) } else { body };
        lark.finish(&lead, &body)
    }
}

impl<'a> Lark<'a> {
    fn new(answer: &'a Answer<'a>) -> Self {
        let (format, thinking) = formats::detect(answer.template);
        Self { answer, format, thinking, rules: String::new(), n_rules: 0 }
    }

    fn finish(self, lead: &str, body: &str) -> ConstraintSource {
        ConstraintSource { kind: ConstraintKind::Lark, text: format!("start: {lead} {body}\n{}", self.rules) }
    }

    /// Adds a rule, or, with an upper-case prefix, a terminal, and returns its name.
    fn rule(&mut self, prefix: &str, attributes: &str, body: &str) -> String {
        let name = format!("{prefix}{}", self.n_rules);
        self.n_rules += 1;
        self.rules.extend([&name, attributes, ": ", body, "\n"]);
        name
    }

    /// What a model may tell itself before it answers.
    fn lead(&mut self) -> String {
        if self.format.channels {
            let (open, close) = (self.pieces("<|channel|>analysis<|message|>"), self.pieces("<|end|><|start|>assistant"));
            return format!("({open} /(?s:.*)/ {close})?");
        }
        let Some((open, close)) = self.thinking else { return String::new() };
        let prompt = self.answer.prompt.trim_end();
        if prompt.ends_with(close) {
            return String::new();
        }
        let thought = self.text_until(close);
        let thought = format!("{thought} /\\s*/");
        if prompt.ends_with(open) { thought } else { format!("({} {thought})?", self.pieces(open)) }
    }

    /// Any text, and `mark` behind it.
    fn text_until(&mut self, mark: &str) -> String {
        match self.control(mark) {
            Some(token) => format!("/(?s:.*)/ <[{token}]>"),
            None => self.rule("until", &format!("[suffix={}]", quoted(mark)), "/(?s:.*)/"),
        }
    }

    /// Text without a call.
    fn no_call(&mut self) -> String {
        if self.format.channels {
            return format!("{} /(?s:.*)/", self.pieces("<|channel|>final<|message|>"));
        }
        let marks: Vec<&str> = self.opening_marks().into_iter().filter(|mark| self.control(mark).is_none()).collect();
        let text = any_text_but(&marks, self.format.bare_json.then_some('{'));
        let text = self.rule("FREE", "", &text);
        let around: Vec<String> = self.format.noise.iter().filter_map(|mark| Some(format!("<[{}]>", self.control(mark)?))).collect();
        if around.is_empty() { text } else { format!("({text} | {})*", around.join(" | ")) }
    }

    /// Marks that a call begins with.
    fn opening_marks(&self) -> Vec<&'static str> {
        let calls = self.format.calls.iter().map(|(open, _)| *open);
        calls.chain(self.format.noise.iter().copied().filter(|mark| mark.contains("tool_calls"))).filter(|mark| !mark.is_empty()).collect()
    }

    /// The mark that the first call begins with, and the text that ends with it. Where a whole answer is a call, there are none.
    fn text_before_call(&mut self) -> Result<(&'static str, String)> {
        if self.format.bare_json || self.format.channels {
            return Ok(("", String::new()));
        }
        let notation = self.notation()?;
        let first = if notation.before.is_empty() { notation.call } else { notation.before };
        let mark = self.opening_marks().into_iter().find(|mark| first.trim_start().starts_with(mark)).unwrap_or(first);
        Ok((mark, self.text_until(mark)))
    }

    /// The mark of a call that the prompt ends with, if it does.
    fn begun_by_prompt(&self) -> &'static str {
        let prompt = self.answer.prompt.trim_end();
        self.opening_marks().into_iter().find(|mark| prompt.ends_with(mark)).unwrap_or_default()
    }

    fn notation(&self) -> Result<Notation> {
        match notation::of(&self.format, self.answer.template) {
            Some(notation) => Ok(notation),
            None => fail!(Unsupported, "tool_choice: the chat template writes calls in no notation that this build knows"),
        }
    }

    /// Calls of the tool `name`, or of any, behind the mark `begun`.
    fn calls(&mut self, name: Option<&str>, begun: &str) -> Result<String> {
        let notation = self.notation()?;
        let tools = self.answer.tools.iter().map(|tool| tool.get("function").unwrap_or(tool));
        let called = |tool: &&Json| name.is_none_or(|name| tool.get("name").and_then(Json::as_str) == Some(name));
        let tools: Vec<&Json> = tools.filter(called).collect();
        match name {
            Some(name) if tools.is_empty() => fail!(InvalidArgument, "tool_choice: the chat has no tool {name:?}"),
            None if tools.is_empty() => fail!(InvalidArgument, "tool_choice: a call is required, but the chat has no tools"),
            _ => {}
        }
        let behind = |text: &'static str| text.trim_start().strip_prefix(begun).unwrap_or(text);
        let first = Notation { before: behind(notation.before), call: behind(notation.call), ..notation };
        let call = self.any_call(if notation.before.is_empty() { &first } else { &notation }, &tools);
        let (before, after) = (self.pieces(first.before), self.pieces(notation.after));
        let more = match notation.between {
            Some(between) if self.answer.parallel => {
                let other = if notation.before.is_empty() { self.any_call(&notation, &tools) } else { call.clone() };
                format!("({} {other})*", self.pieces(between))
            }
            _ => String::new(),
        };
        Ok(format!("{before} {call} {more} {after}"))
    }

    fn any_call(&mut self, notation: &Notation, tools: &[&Json]) -> String {
        let calls: Vec<String> = tools.iter().map(|tool| self.call(notation, tool)).collect();
        self.rule("call", "", &calls.join(" | "))
    }

    fn call(&self, notation: &Notation, tool: &Json) -> String {
        let name = tool.get("name").and_then(Json::as_str).unwrap_or_default();
        let schema = tool.get("parameters").filter(|schema| matches!(schema, Json::Object(_)));
        let arguments = match notation.arguments {
            Arguments::Json => json_value(&schema.map_or_else(|| r#"{"type":"object"}"#.to_owned(), Json::to_string)),
            pairs @ Arguments::Pairs { .. } => self.pairs(pairs, schema),
        };
        let (head, tail) = notation.call.split_once("{arguments}").unwrap_or((notation.call, ""));
        let (head, tail) = (head.replace("{name}", name), tail.to_owned());
        let head = match head.split_once("{id}") {
            Some((before, after)) => format!("{} /[a-z0-9]{{1,10}}/ {}", self.pieces(before), self.pieces(after)),
            None => self.pieces(&head),
        };
        format!("{head} {arguments} {}", self.pieces(&tail))
    }

    /// Arguments one by one: those that are required, then the others, in the order of the schema.
    fn pairs(&self, notation: Arguments, schema: Option<&Json>) -> String {
        let Arguments::Pairs { open, close, between, quote } = notation else { return String::new() };
        let Some(Json::Object(properties)) = schema.and_then(|schema| schema.get("properties")) else { return String::new() };
        let is_required = |key: &str| match schema.and_then(|schema| schema.get("required")) {
            Some(Json::Array(keys)) => keys.iter().any(|required| required.as_str() == Some(key)),
            _ => false,
        };
        let pair = |(key, schema): &&(String, Json)| {
            let is_text = schema.get("type").and_then(Json::as_str) == Some("string");
            let open = open.replace("{key}", key).replace("{string}", if is_text { "true" } else { "false" });
            format!("{} {} {}", self.pieces(&open), self.value(schema, is_text, quote), self.pieces(close))
        };
        let (required, others): (Vec<_>, Vec<_>) = properties.iter().partition(|(key, _)| is_required(key));
        let (required, others): (Vec<String>, Vec<String>) = (required.iter().map(pair).collect(), others.iter().map(pair).collect());
        let separator = self.pieces(between);
        // Without one that is always there, the first of the others has nothing to be separated from.
        let is_first = required.is_empty() && !between.is_empty();
        let mut out = required.join(&format!(" {separator} "));
        for (i, pair) in others.iter().enumerate() {
            let begins = is_first && i == 0;
            out.push_str(&if begins { format!("({pair}") } else { format!(" ({separator} {pair})?") });
        }
        if is_first && !others.is_empty() { out + ")?" } else { out }
    }

    /// The value of an argument that is written by itself.
    fn value(&self, schema: &Json, is_text: bool, quote: &str) -> String {
        if !is_text || quote == "\"" {
            return json_value(&schema.to_string());
        }
        let quote = self.pieces(quote);
        let text = match schema.get("enum").or(schema.get("const")) {
            Some(Json::Array(values)) => {
                let values: Vec<String> = values.iter().filter_map(|value| Some(quoted(value.as_str()?))).collect();
                format!("({})", values.join(" | "))
            }
            Some(Json::String(value)) => quoted(value),
            // No mark begins with anything else.
            _ => "/[^<]*/".to_owned(),
        };
        format!("{quote} {text} {quote}")
    }

    /// The token of `mark`, if it is one that text never becomes.
    fn control(&self, mark: &str) -> Option<u32> {
        let token = self.answer.tokenizer.token_to_id(mark)?;
        matches!(self.answer.tokenizer.token_type(token)?, TokenType::Control | TokenType::Unknown).then_some(token)
    }

    /// `text` with its control tokens.
    fn pieces(&self, text: &str) -> String {
        let mut out = Vec::new();
        self.answer.tokenizer.for_each_piece(text, &mut |piece| match piece {
            Ok(token) => out.push(format!("<[{token}]>")),
            Err(text) => out.push(quoted(text)),
        });
        out.join(" ")
    }
}
