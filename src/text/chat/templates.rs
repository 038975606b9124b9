//! The templates of one model, with what they need of its vocabulary.

use super::ChatRequest;
use super::guard::Guard;
use super::template::{Rendered, render};
use crate::error::Result;
use crate::fail;
use crate::formats::gguf::Metadata;
use crate::sys::stack::on_own_stack;
use crate::text::{Token, Tokenizer};
use once_cell::sync::OnceCell;

const KEY: &str = "tokenizer.chat_template";

/// The variant that `transformers` takes where tools are given and a model has several templates.
const WITH_TOOLS: &str = "tool_use";

/// The templates of a model, and the texts of its named tokens.
pub struct ChatTemplates {
    default: Option<String>,
    with_tools: Option<String>,
    /// `bos_token` and the like.
    special: Vec<(&'static str, String)>,
    guard: OnceCell<Guard>,
}

impl ChatTemplates {
    /// The template `default`, and one to be taken instead where tools are given.
    pub fn new(tokenizer: &Tokenizer, default: Option<String>, with_tools: Option<String>) -> Self {
        let text = |token: Token| tokenizer.token_text(token).unwrap_or_default();
        let named = [("bos_token", tokenizer.bos()), ("eos_token", tokenizer.eos()), ("unk_token", tokenizer.unknown)];
        let special = named.into_iter().filter_map(|(name, token)| Some((name, text(token?)))).collect();
        Self { default, with_tools, special, guard: OnceCell::new() }
    }

    /// The templates in the metadata of a model: `tokenizer.chat_template`, and its variant for tools.
    ///
    /// # Errors
    /// `Format` if an entry has another type.
    pub fn from_gguf(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Self> {
        let default = metadata.str_opt(KEY)?.map(str::to_owned);
        let with_tools = metadata.str_opt(&format!("{KEY}.{WITH_TOOLS}"))?.map(str::to_owned);
        Ok(Self::new(tokenizer, default, with_tools))
    }

    /// True if chats need no template from the host.
    pub fn has_template(&self) -> bool {
        self.default.is_some()
    }

    /// The source that `request` is rendered with.
    ///
    /// # Errors
    /// `Unsupported` if neither the model nor the request has one.
    pub fn source<'a>(&'a self, request: &'a ChatRequest) -> Result<&'a str> {
        let with_tools = request.tools.as_ref().and(self.with_tools.as_deref());
        match request.template.as_deref().or(with_tools).or(self.default.as_deref()) {
            Some(source) => Ok(source),
            None => fail!(Unsupported, "the model's file has no chat template: give one with the option \"chat_template\""),
        }
    }

    /// The prompt of `request`, on a stack of our own.
    ///
    /// # Errors
    /// `Template` with line and cause (`detail[0]` = line); `InvalidArgument` for an unknown option; `Unsupported` without a template.
    pub fn render(&self, tokenizer: &Tokenizer, request: &ChatRequest) -> Result<Rendered> {
        let source = self.source(request)?;
        let guard = self.guard.get_or_try_init(|| Guard::new(tokenizer.guarded_texts()))?;
        on_own_stack(|| render(source, &self.special, guard, request))
    }
}
