//! Text to tokens: special tokens are taken out, the rest is normalised, cut into words, and each word merged.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::names::Quoted;
use crate::text::limits::MAX_TEXT_BYTES;
use crate::text::merge::MergeScratch;
use crate::text::special::Stretch;
use crate::text::vocabulary::SPACE_MARK;
use crate::text::{Alphabet, SpacePrefix, Token, Tokenizer};
use std::borrow::Cow;
use std::sync::atomic::Ordering;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// How a text becomes tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put before and after it what the model expects around a text, as BOS.
    pub add_special: bool,
    /// Let the texts of control tokens become these tokens. Never for text that comes from a user.
    pub parse_special: bool,
}

impl Tokenizer {
    /// The tokens of `text`, which is UTF-8.
    ///
    /// # Errors
    /// `InvalidArgument` if `text` is not UTF-8 (`detail[0]` = byte offset) or longer than [`MAX_TEXT_BYTES`];
    /// `Unsupported` if the vocabulary has no token for a character of it, nor one that stands for unknown ones;
    /// `OutOfMemory`.
    pub fn encode(&self, text: impl AsRef<[u8]>, options: EncodeOptions) -> Result<Vec<Token>> {
        let text = checked(text.as_ref())?;
        let mut encoder = Encoder { tokenizer: self, scratch: MergeScratch::default(), tokens: Vec::new() };
        if options.add_special {
            encoder.extend(&self.prefix)?;
        }
        self.special.split(&self.classes, text, options.parse_special, &mut |stretch| match stretch {
            Stretch::Token(token) => encoder.extend(&[token]),
            Stretch::Text { text, first } => encoder.stretch(text, first),
        })?;
        if options.add_special {
            encoder.extend(&self.suffix)?;
        }
        Ok(encoder.tokens)
    }

    /// `text` as it is merged: composed, with spaces for U+2581, and with a space in front where one belongs.
    fn prepare<'t>(&self, text: &'t str, first: bool) -> Result<Cow<'t, str>> {
        let mut text = Cow::Borrowed(text);
        if self.nfc && !text.is_ascii() && is_nfc_quick(text.chars()) != IsNormalized::Yes {
            text = Cow::Owned(try_collect(text.len(), text.nfc())?);
        }
        if self.alphabet == Alphabet::Characters && text.contains(SPACE_MARK) {
            text = Cow::Owned(try_collect(text.len(), text.chars().map(|c| if c == '\u{2581}' { ' ' } else { c }))?);
        }
        let has_space = text.starts_with(' ');
        let add_space = match self.space_prefix {
            SpacePrefix::Never => false,
            SpacePrefix::EveryStretch => true,
            SpacePrefix::EveryStretchWithout => !has_space,
            SpacePrefix::TextStart => first && !has_space,
        };
        if add_space {
            let mut prefixed = try_string(text.len() + 1)?;
            prefixed.push(' ');
            prefixed.push_str(&text);
            text = Cow::Owned(prefixed);
        }
        Ok(text)
    }

    /// One symbol per byte or character of `word`, for merging to begin with.
    fn symbols(&self, word: &str, symbols: &mut Vec<Token>) -> Result<()> {
        symbols.clear();
        symbols.try_reserve(word.len()).map_err(|_| too_many_tokens())?;
        match self.alphabet {
            Alphabet::Bytes => {
                for byte in word.bytes() {
                    match self.byte_tokens[usize::from(byte)] {
                        Some(token) => symbols.push(token),
                        None => self.push_unknown(word, symbols)?,
                    }
                }
            }
            Alphabet::Characters => {
                for (at, c) in word.char_indices() {
                    self.push_character(&word[at..at + c.len_utf8()], symbols)?;
                }
            }
        }
        Ok(())
    }

    /// The token of one character, else the tokens of its bytes, else the unknown token.
    fn push_character(&self, character: &str, symbols: &mut Vec<Token>) -> Result<()> {
        if let Some(token) = self.vocabulary.word(character.as_bytes()) {
            symbols.push(token);
            return Ok(());
        }
        let n = symbols.len();
        symbols.extend(character.bytes().map_while(|byte| self.byte_tokens[usize::from(byte)]));
        if symbols.len() < n + character.len() {
            symbols.truncate(n);
            self.push_unknown(character, symbols)?;
        }
        Ok(())
    }

    fn push_unknown(&self, text: &str, symbols: &mut Vec<Token>) -> Result<()> {
        // Some files name the token here that begins or ends a text; what a user writes must not become that.
        let harmless = |token: &Token| !self.is_eog(*token) && self.bos() != Some(*token);
        let Some(unknown) = self.unknown.filter(harmless) else {
            fail!(Unsupported, "the vocabulary has no token for {}, nor one for what is unknown", Quoted(text));
        };
        if !(self.fuse_unknown && symbols.last() == Some(&unknown)) {
            symbols.push(unknown);
        }
        Ok(())
    }
}

/// A text on its way to tokens.
struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    scratch: MergeScratch,
    tokens: Vec<Token>,
}

impl Encoder<'_> {
    fn extend(&mut self, tokens: &[Token]) -> Result<()> {
        self.tokens.try_reserve(tokens.len()).map_err(|_| too_many_tokens())?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Text between special tokens; `first` if it starts the whole text.
    fn stretch(&mut self, text: &str, first: bool) -> Result<()> {
        let tokenizer = self.tokenizer;
        let text = tokenizer.prepare(text, first)?;
        tokenizer.pre_tokenizer.split(&tokenizer.classes, &text, &mut |word| self.word(word))
    }

    fn word(&mut self, word: &str) -> Result<()> {
        let known = self.tokenizer.vocabulary.word(word.as_bytes());
        let whole = known.and_then(|token| Some((token, self.tokenizer.whole.get(token as usize)?)));
        if let Some((token, whole)) = whole
            && (self.tokenizer.ignore_merges || whole.load(Ordering::Relaxed))
        {
            return self.extend(&[token]);
        }
        self.tokenizer.symbols(word, &mut self.scratch.symbols)?;
        self.tokenizer.merges.merge(&mut self.scratch)?;
        if let Some((token, whole)) = whole
            && self.scratch.symbols == [token]
        {
            whole.store(true, Ordering::Relaxed);
        }
        self.tokens.try_reserve(self.scratch.symbols.len()).map_err(|_| too_many_tokens())?;
        self.tokens.extend_from_slice(&self.scratch.symbols);
        Ok(())
    }
}

fn checked(text: &[u8]) -> Result<&str> {
    if text.len() > MAX_TEXT_BYTES {
        fail!(InvalidArgument, "the text has {} bytes, expected {MAX_TEXT_BYTES} at most", text.len());
    }
    std::str::from_utf8(text).map_err(|e| {
        let at = e.valid_up_to();
        let message = format!("the text is not UTF-8: byte {at} begins no character");
        Error::new(ErrorKind::InvalidArgument, message).with_detail([at as i64, 0])
    })
}

/// `chars` as a string, which has about `n_bytes` bytes.
fn try_collect(n_bytes: usize, chars: impl Iterator<Item = char>) -> Result<String> {
    let mut text = try_string(n_bytes)?;
    for c in chars {
        text.try_reserve(c.len_utf8()).map_err(|_| too_many_tokens())?;
        text.push(c);
    }
    Ok(text)
}

fn try_string(n_bytes: usize) -> Result<String> {
    let mut text = String::new();
    text.try_reserve(n_bytes).map_err(|_| too_many_tokens())?;
    Ok(text)
}

fn too_many_tokens() -> Error {
    Error::new(ErrorKind::OutOfMemory, "cannot allocate the tokens of the text")
}
