//! What chats need of a tokenizer: the texts of named and of control tokens, and prompts as tokens.

use super::Rendered;
use crate::error::Result;
use crate::text::{Token, TokenType, Tokenizer};

impl Tokenizer {
    /// The tokens of a rendered chat. Control tokens are read where the template wrote them, never in what users wrote. Nothing is put around it: the template
    /// writes the beginning of text itself.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_chat(&self, chat: &Rendered) -> Result<Vec<Token>> {
        let (text, mark) = chat.marked();
        self.encode_marked(text, mark)
    }

    /// The text of `token` in the file, if it is one.
    pub(in crate::text) fn token_text(&self, token: Token) -> Option<String> {
        self.vocabulary.text(token).and_then(|text| std::str::from_utf8(text).ok()).map(str::to_owned)
    }

    /// The texts of all tokens that text must not become.
    pub(super) fn guarded_texts(&self) -> impl Iterator<Item = &str> {
        let guarded = self.vocabulary.iter().filter(|&(_, kind)| TokenType::is_guarded(kind));
        guarded.filter_map(|(token, _)| std::str::from_utf8(self.vocabulary.text(token)?).ok())
    }
}
