//! Requests as one JSON text: what `inf_generate_json` takes.

use crate::engine::{GenerateParams, Model, Prompt, Sampler};
use crate::error::Result;
use crate::fail;
use crate::sys::stack::on_own_stack;
use crate::text::chat::{ChatRequest, Json};

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

/// The keys of a request, with their types checked.
#[derive(Default)]
struct Request {
    text: Option<String>,
    messages: Option<Json>,
    tools: Option<Json>,
    options: Option<Json>,
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
                ("stop", Json::String(text)) => request.stop = vec![text],
                ("stop", Json::Array(texts)) => request.stop = texts.into_iter().map(stop_text).collect::<Result<_>>()?,
                ("max_tokens", Json::Int(n)) if u32::try_from(n).is_ok() => request.max_tokens = u32::try_from(n).unwrap_or(0),
                ("n_draft", Json::Int(n)) if u32::try_from(n).is_ok() => request.n_draft = u32::try_from(n).unwrap_or(0),
                ("text" | "stop" | "max_tokens" | "n_draft", other) => {
                    fail!(InvalidArgument, "request_json: {key:?} is {}, expected {}", other.kind(), expected(&key));
                }
                _ => fail!(InvalidArgument, "request_json: unknown key {key:?}"),
            }
        }
        Ok(request)
    }

    fn params(mut self) -> Result<GenerateParams> {
        let prompt = match (self.text.take(), self.messages.take()) {
            (Some(_), Some(_)) => fail!(InvalidArgument, "request_json: \"text\" and \"messages\" are both given"),
            (None, Some(messages)) => {
                let (tools, options) = (self.tools.take().unwrap_or(Json::Null), self.options.take().unwrap_or(Json::Null));
                Prompt::Chat(Box::new(ChatRequest::new(messages, tools, options)?))
            }
            (_, None) if self.tools.is_some() || self.options.is_some() => {
                fail!(InvalidArgument, "request_json: \"tools\" and \"options\" are for chats: \"messages\" is missing");
            }
            (text, None) => Prompt::Text(text.unwrap_or_default()),
        };
        let Self { max_tokens, n_draft, stop, .. } = self;
        Ok(GenerateParams { prompt, max_tokens, n_draft, stop, ..GenerateParams::default() })
    }
}

fn expected(key: &str) -> &'static str {
    match key {
        "text" => "a string",
        "stop" => "a string or an array of strings",
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
            (r#"{"text":"x","messages":[]}"#, "both"),
            (r#"{"messages":[]}"#, "messages: empty"),
        ] {
            let error = read(text).err().unwrap();
            assert!(error.message().contains(says), "{text}: {error}");
        }
    }
}
