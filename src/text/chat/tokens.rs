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

    /// Calls `each` with the control tokens of `text` and with the text between them.
    pub(super) fn for_each_piece<'t>(&self, text: &'t str, each: &mut impl FnMut(std::result::Result<Token, &'t str>)) {
        let mut rest = text;
        while let Some((at, mark, token)) = self.first_control(rest) {
            if at > 0 {
                each(Err(&rest[..at]));
            }
            each(Ok(token));
            rest = &rest[at + mark..];
        }
        if !rest.is_empty() {
            each(Err(rest));
        }
    }

    /// Where the first control token in `text` stands, its bytes, and which it is: the longest of several at one place.
    fn first_control(&self, text: &str) -> Option<(usize, usize, Token)> {
        let ends = |at: usize| (at + 1..=text.len()).rev().filter(|&end| text.is_char_boundary(end));
        let at = |at: usize| {
            let found = ends(at).filter_map(|end| Some((at, end - at, self.token_to_id(&text[at..end])?)));
            let mut guarded = found.filter(|&(.., token)| self.token_type(token).is_some_and(TokenType::is_guarded));
            guarded.next()
        };
        text.char_indices().find_map(|(start, _)| at(start))
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
