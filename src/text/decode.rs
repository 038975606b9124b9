//! Tokens to text, all at once; `detokenizer` does it one by one.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::text::{Token, TokenType, Tokenizer};

/// How tokens become text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Leave out control and unknown tokens instead of writing their names.
    pub skip_special: bool,
    /// The tokens begin a text: the space that encoding put in front of it, if the vocabulary asks for one, is taken away.
    /// False for what continues a text, such as an answer after its prompt.
    pub at_text_start: bool,
}

impl Tokenizer {
    /// What `token` stands for, perhaps a part of a character; for a control token its name.
    ///
    /// # Errors
    /// `InvalidArgument` if there is no such token.
    pub fn token_bytes(&self, token: Token) -> Result<&[u8]> {
        match self.vocabulary.piece(token) {
            Some(piece) => Ok(piece),
            None => fail!(InvalidArgument, "there is no token {token}: the vocabulary has {}", self.n_vocab()),
        }
    }

    /// The bytes that `tokens` stand for; UTF-8 if the tokens came from a text.
    ///
    /// # Errors
    /// `InvalidArgument` if one is no token; `OutOfMemory`.
    pub fn decode(&self, tokens: &[Token], options: DecodeOptions) -> Result<Vec<u8>> {
        let (mut start, mut bytes) = (TextStart::new(options), Vec::new());
        for &token in tokens {
            let piece = start.piece(self, token)?;
            let too_long = |_| Error::new(ErrorKind::OutOfMemory, "cannot allocate the text of the tokens");
            bytes.try_reserve(piece.len()).map_err(too_long)?;
            bytes.extend_from_slice(piece);
        }
        Ok(bytes)
    }
}

/// Applies [`DecodeOptions`] token by token.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextStart {
    options: DecodeOptions,
    /// No text came yet.
    pending: bool,
}

impl TextStart {
    pub(super) fn new(options: DecodeOptions) -> Self {
        Self { options, pending: options.at_text_start }
    }

    /// What `token`, the next one, adds to the text.
    pub(super) fn piece<'a>(&mut self, tokenizer: &'a Tokenizer, token: Token) -> Result<&'a [u8]> {
        let piece = tokenizer.token_bytes(token)?;
        if self.options.skip_special && tokenizer.token_type(token).is_some_and(TokenType::is_guarded) {
            return Ok(&[]);
        }
        let begins = self.pending;
        self.pending &= piece.is_empty();
        match piece.strip_prefix(b" ") {
            Some(stripped) if begins && tokenizer.strip_first_space => Ok(stripped),
            _ => Ok(piece),
        }
    }
}
