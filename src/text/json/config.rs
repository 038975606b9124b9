//! `tokenizer_config.json`: which tokens begin and end a text.

use serde::Deserialize;

/// What of the file concerns the tokenizer.
#[derive(Default, Deserialize)]
pub(super) struct Config {
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
    pub(super) add_bos_token: Option<bool>,
    pub(super) add_eos_token: Option<bool>,
}

/// A token, written as its text or as an object that holds it.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenName {
    Text(String),
    Object { content: String },
}

impl Config {
    pub(super) fn bos_token(&self) -> Option<&str> {
        self.bos_token.as_ref().map(TokenName::text)
    }

    pub(super) fn eos_token(&self) -> Option<&str> {
        self.eos_token.as_ref().map(TokenName::text)
    }
}

impl TokenName {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}
