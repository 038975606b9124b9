//! What a host says about calls and formats of the answer to a chat: `tool_choice`, `parallel_tool_calls`, `response_format`.

use super::output::Answer;
use super::{ChatRequest, Json};
use crate::error::Result;
use crate::fail;
use crate::text::Tokenizer;
use crate::text::constraint::{ConstraintSource, response_format};

/// Which tools the model may or must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// None, however much it wants to.
    None,
    /// Any number; those that it makes are whole.
    Auto,
    /// One at least.
    Required,
    /// This one.
    Named(String),
}

impl ToolChoice {
    /// Reads `"none"`, `"auto"`, `"required"`, or `{"type":"function","function":{"name":".."}}`.
    ///
    /// # Errors
    /// `InvalidArgument`.
    fn read(json: &Json) -> Result<Self> {
        let named = json.get("function").unwrap_or(json).get("name").and_then(Json::as_str);
        match (json.as_str(), named) {
            (Some("none"), _) => Ok(Self::None),
            (Some("auto"), _) => Ok(Self::Auto),
            (Some("required"), _) => Ok(Self::Required),
            (None, Some(name)) => Ok(Self::Named(name.to_owned())),
            _ => fail!(
                InvalidArgument,
                "options_json: \"tool_choice\" is {json}, expected \"none\", \"auto\", \"required\" or {{\"type\":\"function\",\"function\":{{\"name\":\"..\"}}}}"
            ),
        }
    }
}

/// What constrains an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Choices {
    tool_choice: Option<ToolChoice>,
    /// One call at most.
    single_call: bool,
    format: Option<ConstraintSource>,
}

impl Choices {
    /// Takes the option `key`; false if it is none of these.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the key.
    pub(super) fn set(&mut self, key: &str, value: &Json) -> Result<bool> {
        match (key, value) {
            ("tool_choice" | "parallel_tool_calls" | "response_format", Json::Null) => {}
            ("tool_choice", choice) => self.tool_choice = Some(ToolChoice::read(choice)?),
            ("parallel_tool_calls", Json::Bool(parallel)) => self.single_call = !parallel,
            ("parallel_tool_calls", other) => {
                fail!(InvalidArgument, "options_json: {key:?} is {}, expected true or false", other.kind());
            }
            ("response_format", format) => self.format = response_format(format)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl ChatRequest {
    /// True if something says what the answer must match.
    pub fn is_constrained(&self) -> bool {
        self.choices.tool_choice.is_some() || self.choices.format.is_some()
    }

    /// What the answer to `prompt`, which `template` rendered, must match; `None` if it is free.
    ///
    /// # Errors
    /// `InvalidArgument` for a tool that the chat does not have, `Unsupported` for a template whose notation of calls is not known.
    pub fn constraint(&self, tokenizer: &Tokenizer, template: &str, prompt: &str) -> Result<Option<ConstraintSource>> {
        let Choices { tool_choice, single_call, format } = &self.choices;
        let answer = Answer { tokenizer, template, prompt, tools: self.tools(), parallel: !single_call };
        match (tool_choice, format) {
            (Some(ToolChoice::Required | ToolChoice::Named(_)), Some(_)) => {
                fail!(InvalidArgument, "options_json: \"response_format\" is about answers, but \"tool_choice\" demands a call");
            }
            (_, Some(format)) => Ok(Some(answer.formatted(format))),
            (Some(ToolChoice::None | ToolChoice::Auto), None) if self.tools().is_empty() => Ok(None),
            (Some(choice), None) => answer.choosing(choice).map(Some),
            (None, None) => Ok(None),
        }
    }
}
