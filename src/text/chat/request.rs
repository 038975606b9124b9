//! What a host wants rendered: messages, tools, options.

use super::choice::Choices;
use super::json::Json;
use super::messages::{checked_messages, checked_tools};
use crate::error::Result;
use crate::fail;
use crate::sys::stack::on_own_stack;

/// Names that a host cannot give to a template: they come from the chat itself.
const RESERVED: [&str; 2] = ["messages", "tools"];

/// A chat, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    pub(super) messages: Vec<Json>,
    pub(super) tools: Option<Vec<Json>>,
    /// End with what makes the model answer.
    pub(super) add_generation_prompt: bool,
    /// A template instead of the model's.
    pub(super) template: Option<String>,
    /// Seconds since 1970, for templates that write the date; `None` = now.
    pub(super) now: Option<i64>,
    /// What the answer must match.
    pub(super) choices: Choices,
    /// Further variables of the template.
    pub(super) variables: Vec<(String, Json)>,
}

impl ChatRequest {
    /// Parses the JSON of a host: messages and tools in the shape of OpenAI's API; empty texts stand for nothing. Options: `add_generation_prompt`
    /// (true unless said otherwise), `chat_template`, `now`, `tool_choice`, `parallel_tool_calls`, `response_format`; the others are variables of the template, as `enable_thinking`.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the place; `detail[0]` = byte offset where it is no JSON.
    pub fn parse(messages: &str, tools: &str, options: &str) -> Result<Self> {
        // Hosts call this on their threads, whose stacks may be small.
        on_own_stack(|| {
            let tools = if tools.trim().is_empty() { Json::Null } else { Json::parse("tools", tools)? };
            let options = if options.trim().is_empty() { Json::Object(Vec::new()) } else { Json::parse("options_json", options)? };
            Self::new(Json::parse("messages", messages)?, tools, options)
        })
    }

    /// As [`Self::parse`], from JSON that was parsed.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the place.
    pub fn new(messages: Json, tools: Json, options: Json) -> Result<Self> {
        let mut request = Self {
            messages: checked_messages(messages)?,
            tools: checked_tools(tools)?,
            add_generation_prompt: true,
            template: None,
            now: None,
            choices: Choices::default(),
            variables: Vec::new(),
        };
        let options = match options {
            Json::Object(options) => options,
            Json::Null => Vec::new(),
            other => fail!(InvalidArgument, "options_json: {}, expected an object", other.kind()),
        };
        options.into_iter().try_for_each(|(key, value)| request.set(key, value))?;
        Ok(request)
    }

    fn set(&mut self, key: String, value: Json) -> Result<()> {
        if self.choices.set(&key, &value)? {
            return Ok(());
        }
        match (key.as_str(), value) {
            ("add_generation_prompt", Json::Bool(value)) => self.add_generation_prompt = value,
            ("chat_template", Json::String(source)) => self.template = Some(source),
            ("now", Json::Int(seconds)) => self.now = Some(seconds),
            ("add_generation_prompt" | "chat_template" | "now", Json::Null) => {}
            ("add_generation_prompt", other) => fail!(InvalidArgument, "options_json: {key:?} is {}, expected true or false", other.kind()),
            ("chat_template", other) => fail!(InvalidArgument, "options_json: {key:?} is {}, expected a string", other.kind()),
            ("now", other) => fail!(InvalidArgument, "options_json: {key:?} is {}, expected whole seconds since 1970", other.kind()),
            (name, _) if RESERVED.contains(&name) => fail!(InvalidArgument, "options_json: {key:?} has a parameter of its own"),
            (_, value) => self.variables.push((key, value)),
        }
        Ok(())
    }

    /// The tools that the model may call.
    pub fn tools(&self) -> &[Json] {
        self.tools.as_deref().unwrap_or_default()
    }

    /// Everything that the host sent.
    pub(super) fn values(&self) -> impl Iterator<Item = &Json> {
        let variables = self.variables.iter().map(|(_, value)| value);
        self.messages.iter().chain(self.tools.iter().flatten()).chain(variables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_typed_and_the_rest_are_variables() {
        let parse = |options| ChatRequest::parse(r#"[{"role":"user","content":"x"}]"#, "", options);
        let request = parse(r#"{"add_generation_prompt":false,"now":7,"enable_thinking":false}"#).unwrap();
        assert_eq!((request.add_generation_prompt, request.now), (false, Some(7)));
        assert_eq!(request.variables, [("enable_thinking".to_owned(), Json::Bool(false))]);
        assert!(parse("").unwrap().add_generation_prompt);
        for (bad, says) in [
            (r#"{"add_generation_prompt":1}"#, "\"add_generation_prompt\" is a number"),
            (r#"{"now":1.5}"#, "\"now\""),
            (r#"{"chat_template":[]}"#, "\"chat_template\""),
            (r#"{"tools":[]}"#, "\"tools\" has a parameter"),
            ("[]", "expected an object"),
            ("{", "options_json"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.message().contains(says), "{bad}: {error}");
        }
    }
}
