//! Tokens to text, one by one, in whole characters: what a generation streams to its host.

use crate::error::Result;
use crate::text::decode::TextStart;
use crate::text::{DecodeOptions, Token, Tokenizer};

/// The state of one stream of tokens.
///
/// What it writes, put together, is [`String::from_utf8_lossy`] of the bytes of all tokens, however they are cut.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    start: TextStart,
    /// The bytes of a character that is not complete: three at most between calls.
    tail: Vec<u8>,
}

impl Detokenizer {
    /// A detokenizer before its first token.
    pub fn new(options: DecodeOptions) -> Self {
        Self { start: TextStart::new(options), tail: Vec::new() }
    }

    /// Appends to `out` the characters that are complete with `token`, the next one.
    ///
    /// # Errors
    /// `InvalidArgument` if there is no such token; nothing has changed then.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: Token, out: &mut String) -> Result<()> {
        self.tail.extend_from_slice(self.start.piece(tokenizer, token)?);
        let mut done = 0;
        for chunk in self.tail.utf8_chunks() {
            out.push_str(chunk.valid());
            done += chunk.valid().len();
            if is_incomplete(&self.tail[done..]) {
                break;
            }
            if !chunk.invalid().is_empty() {
                out.push(char::REPLACEMENT_CHARACTER);
                done += chunk.invalid().len();
            }
        }
        self.tail.drain(..done);
        Ok(())
    }

    /// Appends to `out` what an incomplete character at the end leaves, U+FFFD: no token follows.
    pub fn finish(&mut self, out: &mut String) {
        if !self.tail.is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
            self.tail.clear();
        }
    }
}

/// True if `bytes` are the start of a character, and more bytes could complete it.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Alphabet, TokenType, VocabularyData};
    use proptest::prelude::*;

    /// 256 byte tokens, then a few more.
    fn tokenizer() -> Tokenizer {
        let mut data = VocabularyData::empty(Alphabet::Characters);
        let bytes = (0..=255).map(|b| (format!("<0x{b:02X}>"), TokenType::Byte));
        let others = [("<s>", TokenType::Control), ("▁", TokenType::Normal), ("▁a", TokenType::Normal)];
        for (text, kind) in bytes.chain(others.map(|(text, kind)| (text.to_owned(), kind))) {
            data.tokens.push(text.into_bytes().into());
            data.types.push(kind);
        }
        data.strip_first_space = true;
        Tokenizer::new(&data).unwrap()
    }

    fn stream(tokens: &[Token], options: DecodeOptions) -> String {
        let (tokenizer, mut detokenizer, mut out) = (tokenizer(), Detokenizer::new(options), String::new());
        for &token in tokens {
            detokenizer.push(&tokenizer, token, &mut out).unwrap();
        }
        detokenizer.finish(&mut out);
        out
    }

    #[test]
    fn characters_come_whole() {
        let (tokenizer, mut detokenizer) = (tokenizer(), Detokenizer::new(DecodeOptions::default()));
        let mut out = String::new();
        for (byte, seen) in "a€".bytes().zip(["a", "a", "a", "a€"]) {
            detokenizer.push(&tokenizer, byte.into(), &mut out).unwrap();
            assert_eq!(out, seen);
        }
        assert!(detokenizer.push(&tokenizer, 259, &mut out).is_err());
        assert!(detokenizer.push(&tokenizer, u32::MAX, &mut out).is_err());
    }

    #[test]
    fn the_space_in_front_is_taken_at_the_start_only() {
        let options = DecodeOptions { skip_special: true, at_text_start: true };
        assert_eq!(stream(&[256, 258, 258], options), "a a");
        assert_eq!(stream(&[256, 257, 258], options), " a");
        assert_eq!(stream(&[258, 258], DecodeOptions { at_text_start: false, ..options }), " a a");
        assert_eq!(stream(&[256, 258], DecodeOptions { skip_special: false, ..options }), "<s> a");
    }

    proptest! {
        #[test]
        fn any_bytes_become_what_lossy_decoding_makes_of_them(
            bytes in prop::collection::vec(prop_oneof![prop::sample::select(b"\xe2\x82\xac\xf0\x9f\xed".to_vec()), any::<u8>()], 0..40)
        ) {
            let tokens: Vec<Token> = bytes.iter().map(|&b| b.into()).collect();
            prop_assert_eq!(stream(&tokens, DecodeOptions::default()), String::from_utf8_lossy(&bytes));
        }
    }
}
