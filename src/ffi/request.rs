//! Requests as one JSON text: what `inf_generate_json` takes.

use crate::engine::{GenerateParams, Model, Prompt, Sampler};
use crate::error::Result;
use crate::fail;
use crate::sys::stack::on_own_stack;
use crate::text::chat::{ChatRequest, Json};
use crate::text::constraint::{ConstraintSource, response_format};

/// The generation that `text` asks for.
///
/// # Errors
/// `InvalidArgument`, naming the key; with `detail[0]` = byte offset where it is no JSON.
pub(super) fn parse(model: &Model, text: &str) -> Result<GenerateParams> {
    on_own_stack(|| {
        let mut request = Request::read(Json::parse("request_json", text)?)?;
        let sampling = request.sampling.take();
        let sampler = sampling.map(|json| Sampler::from_json(model, &json)).transpose()?;
        Ok(GenerateParams { sampler, ..request.params()? })
    })
}

/// What options_json says about the continuation of a text.
///
/// # Errors
/// `InvalidArgument`, naming the key.
pub(super) fn text_options(text: &str) -> Result<Option<ConstraintSource>> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    on_own_stack(|| match Json::parse("options_json", text)? {
        Json::Object(fields) => text_fields(&fields),
        other => fail!(InvalidArgument, "options_json: {}, expected an object", other.kind()),
    })
}

fn text_fields(fields: &[(String, Json)]) -> Result<Option<ConstraintSource>> {
    let mut constraint = None;
    for (key, value) in fields.iter().filter(|(_, value)| *value != Json::Null) {
        match key.as_str() {
            "response_format" => constraint = response_format(value)?,
            _ => fail!(InvalidArgument, "option {key:?} is for chats: \"messages\" is missing"),
        }
    }
    Ok(constraint)
}

/// Options that OpenAI's API has beside the messages.
const ANSWER_OPTIONS: [&str; 3] = ["response_format", "tool_choice", "parallel_tool_calls"];

/// The keys of a request, with their types checked.
#[derive(Default)]
struct Request {
    text: Option<String>,
    messages: Option<Json>,
    tools: Option<Json>,
    options: Option<Json>,
    /// Further options, which stand beside the others.
    answer: Vec<(String, Json)>,
    logprobs: bool,
    top_logprobs: u32,
    sampling: Option<Json>,
    stop: Vec<String>,
    max_tokens: u32,
    n_draft: u32,
}

impl Request {
    fn read(json: Json) -> Result<Self> {
        let Json::Object(fields) = json else { fail!(InvalidArgument, "request_json: {}, expected an object", json.kind()) };
        let mut request = Self::default();
        for (key, value) in fields {
            match (key.as_str(), value) {
                (_, Json::Null) => {}
                ("text", Json::String(text)) => request.text = Some(text),
                ("messages", messages) => request.messages = Some(messages),
                ("tools", tools) => request.tools = Some(tools),
                ("sampling", sampling) => request.sampling = Some(sampling),
                ("options", options) => request.options = Some(options),
                (key, value) if ANSWER_OPTIONS.contains(&key) => request.answer.push((key.to_owned(), value)),
                ("logprobs", Json::Bool(wanted)) => request.logprobs = wanted,
                ("top_logprobs", Json::Int(n)) if u32::try_from(n).is_ok() => request.top_logprobs = u32::try_from(n).unwrap_or(0),
                ("stop", Json::String(text)) => request.stop = vec![text],
                ("stop", Json::Array(texts)) => request.stop = texts.into_iter().map(stop_text).collect::<Result<_>>()?,
                ("max_tokens", Json::Int(n)) if u32::try_from(n).is_ok() => request.max_tokens = u32::try_from(n).unwrap_or(0),
                ("n_draft", Json::Int(n)) if u32::try_from(n).is_ok() => request.n_draft = u32::try_from(n).unwrap_or(0),
                ("text" | "stop" | "max_tokens" | "n_draft" | "logprobs" | "top_logprobs", other) => {
                    fail!(InvalidArgument, "request_json: {key:?} is {}, expected {}", other.kind(), expected(&key));
                }
                _ => fail!(InvalidArgument, "request_json: unknown key {key:?}"),
            }
        }
        Ok(request)
    }

    fn params(mut self) -> Result<GenerateParams> {
        let mut constraint = None;
        let mut options = match self.options.take() {
            Some(Json::Object(options)) => options,
            None => Vec::new(),
            Some(other) => fail!(InvalidArgument, "request_json: \"options\" is {}, expected an object", other.kind()),
        };
        options.append(&mut self.answer);
        let prompt = match (self.text.take(), self.messages.take()) {
            (Some(_), Some(_)) => fail!(InvalidArgument, "request_json: \"text\" and \"messages\" are both given"),
            (None, Some(messages)) => {
                Prompt::Chat(Box::new(ChatRequest::new(messages, self.tools.take().unwrap_or(Json::Null), Json::Object(options))?))
            }
            (_, None) if self.tools.is_some() => fail!(InvalidArgument, "request_json: \"tools\" is for chats: \"messages\" is missing"),
            (text, None) => {
                constraint = text_fields(&options)?;
                Prompt::Text(text.unwrap_or_default())
            }
        };
        let logprobs = (self.logprobs || self.top_logprobs > 0).then_some(self.top_logprobs);
        let Self { max_tokens, n_draft, stop, .. } = self;
        Ok(GenerateParams { prompt, max_tokens, n_draft, stop, constraint, logprobs, ..GenerateParams::default() })
    }
}

fn expected(key: &str) -> &'static str {
    match key {
        "text" => "a string",
        "stop" => "a string or an array of strings",
        "logprobs" => "true or false",
        _ => "a whole number from 0 to 4294967295",
    }
}

fn stop_text(value: Json) -> Result<String> {
    match value {
        Json::String(text) => Ok(text),
        other => fail!(InvalidArgument, "request_json: \"stop\" holds {}, expected strings", other.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<GenerateParams> {
        Request::read(Json::parse("request_json", text)?)?.params()
    }

    #[test]
    fn requests_are_read() {
        let params = read(r#"{"text":"Once","stop":["a","b"],"max_tokens":7,"n_draft":3,"messages":null}"#).unwrap();
        assert_eq!(params.n_draft, 3);
        assert_eq!((params.prompt, params.max_tokens, params.stop), (Prompt::Text("Once".into()), 7, vec!["a".into(), "b".into()]));
        assert!(matches!(read(r#"{"messages":[{"role":"user","content":"x"}],"stop":"."}"#).unwrap().prompt, Prompt::Chat(_)));
    }

    #[test]
    fn answers_are_asked_for_as_in_the_api() {
        let params = read(r#"{"text":"x","response_format":{"type":"json_object"},"logprobs":true,"top_logprobs":3}"#).unwrap();
        assert_eq!((params.constraint.map(|source| source.text).as_deref(), params.logprobs), (Some(r#"{"type":"object"}"#), Some(3)));
        assert_eq!(read(r#"{"text":"x","logprobs":true}"#).unwrap().logprobs, Some(0));
        let chat =
            read(r#"{"messages":[{"role":"user","content":"x"}],"tool_choice":"required","options":{"enable_thinking":false}}"#).unwrap();
        assert!(matches!(chat.prompt, Prompt::Chat(chat) if chat.is_constrained()));
        assert_eq!(text_options(" ").unwrap(), None);
        assert!(text_options(r#"{"response_format":{"type":"regex","regex":"a"}}"#).unwrap().is_some());
    }

    #[test]
    fn an_error_names_the_key() {
        for (text, says) in [
            ("[]", "an array"),
            ("{", "request_json"),
            (r#"{"txet":"x"}"#, "\"txet\""),
            (r#"{"text":1}"#, "\"text\" is a number"),
            (r#"{"stop":[1]}"#, "\"stop\" holds"),
            (r#"{"max_tokens":-1}"#, "\"max_tokens\""),
            (r#"{"max_tokens":1e3}"#, "\"max_tokens\""),
            (r#"{"tools":[]}"#, "\"messages\" is missing"),
            (r#"{"tool_choice":"auto"}"#, "\"tool_choice\" is for chats"),
            (r#"{"logprobs":1}"#, "\"logprobs\" is a number, expected true"),
            (r#"{"text":"","response_format":{"type":"xml"}}"#, "\"xml\""),
            (r#"{"messages":[{"role":"user","content":"x"}],"tool_choice":"some"}"#, "\"tool_choice\""),
            (r#"{"text":"x","messages":[]}"#, "both"),
            (r#"{"messages":[]}"#, "messages: empty"),
        ] {
            let error = read(text).err().unwrap();
            assert!(error.message().contains(says), "{text}: {error}");
        }
    }
}
