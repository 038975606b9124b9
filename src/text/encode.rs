//! Text to tokens: special tokens are taken out, the rest is normalised, cut into words, and each word merged.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::names::Quoted;
use crate::text::limits::MAX_TEXT_BYTES;
use crate::text::model::{WordModel, WordScratch};
use crate::text::normalizer::{try_collect, try_concat};
use crate::text::special::Stretch;
use crate::text::vocabulary::SPACE_MARK;
use crate::text::{Alphabet, SpacePrefix, Token, TokenType, Tokenizer};
use std::borrow::Cow;
use std::sync::atomic::Ordering;

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
        let mut encoder = Encoder { tokenizer: self, scratch: WordScratch::default(), tokens: Vec::new() };
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

    /// The tokens of `text` with its control tokens, which are not read across a `mark`; the marks themselves are no part of the text.
    pub(super) fn encode_marked(&self, text: &str, mark: char) -> Result<Vec<Token>> {
        let mut encoder = Encoder { tokenizer: self, scratch: WordScratch::default(), tokens: Vec::new() };
        // Text since the last control token: what a mark tore apart is one again, for the tokens that text may become.
        let (mut plain, mut first) = (String::new(), true);
        self.special.split(&self.classes, checked(text.as_bytes())?, true, &mut |stretch| {
            match stretch {
                Stretch::Text { text, .. } => plain.extend(text.chars().filter(|&c| c != mark)),
                Stretch::Token(token) if self.token_type(token).is_some_and(TokenType::is_guarded) => {
                    encoder.plain(&std::mem::take(&mut plain), std::mem::take(&mut first))?;
                    encoder.extend(&[token])?;
                }
                Stretch::Token(token) => plain.push_str(&self.token_text(token).unwrap_or_default()),
            }
            Ok(())
        })?;
        encoder.plain(&plain, first)?;
        Ok(encoder.tokens)
    }

    /// The tokens of `text` where it continues another text: no space is put in front of it.
    pub(super) fn encode_continuation(&self, text: &str) -> Result<Vec<Token>> {
        let mut encoder = Encoder { tokenizer: self, scratch: WordScratch::default(), tokens: Vec::new() };
        encoder.plain(checked(text.as_bytes())?, false)?;
        Ok(encoder.tokens)
    }

    /// `text` as it is cut into words: normalised, with spaces for U+2581, and with a space in front where one belongs.
    fn prepare<'t>(&self, text: &'t str, first: bool) -> Result<Cow<'t, str>> {
        let mut text = self.normalizers.iter().try_fold(Cow::Borrowed(text), |text, normalizer| normalizer.apply(text))?;
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
        if add_space && !text.is_empty() {
            text = Cow::Owned(try_concat([" ", &text])?);
        }
        Ok(text)
    }

    /// The tokens of one word.
    fn word<'s>(&self, word: &str, scratch: &'s mut WordScratch) -> Result<&'s [Token]> {
        let WordScratch { merge, unigram } = scratch;
        match &self.model {
            WordModel::Merges(merges) => {
                self.symbols(word, &mut merge.symbols)?;
                merges.merge(merge)?;
            }
            WordModel::LongestFirst(model) => {
                merge.symbols.clear();
                merge.symbols.try_reserve(word.len()).map_err(|_| too_many_tokens())?;
                if !model.tokenize(&self.vocabulary, word, &mut merge.symbols) {
                    self.push_unknown(word, &mut merge.symbols)?;
                }
            }
            WordModel::Unigram(model) => {
                model.split(&self.vocabulary, word, unigram)?;
                merge.symbols.clear();
                merge.symbols.try_reserve(word.len()).map_err(|_| too_many_tokens())?;
                for &(start, end, token) in &unigram.parts {
                    match token {
                        Some(token) => merge.symbols.push(token),
                        None => self.push_missing(&word[start as usize..end as usize], &mut merge.symbols)?,
                    }
                }
            }
        }
        Ok(&merge.symbols)
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
            Alphabet::Characters | Alphabet::Words => {
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
        self.push_missing(character, symbols)
    }

    /// The tokens of the bytes of `character`, which has no token, else the unknown token.
    fn push_missing(&self, character: &str, symbols: &mut Vec<Token>) -> Result<()> {
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
    scratch: WordScratch,
    tokens: Vec<Token>,
}

impl Encoder<'_> {
    fn extend(&mut self, tokens: &[Token]) -> Result<()> {
        self.tokens.try_reserve(tokens.len()).map_err(|_| too_many_tokens())?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Text between control tokens; `first` if it starts the whole text.
    fn plain(&mut self, text: &str, first: bool) -> Result<()> {
        let tokenizer = self.tokenizer;
        tokenizer.special.split(&tokenizer.classes, text, false, &mut |stretch| match stretch {
            Stretch::Token(token) => self.extend(&[token]),
            Stretch::Text { text, first: at_start } => self.stretch(text, first && at_start),
        })
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
        let symbols = self.tokenizer.word(word, &mut self.scratch)?;
        if let Some((token, whole)) = whole
            && *symbols == [token]
        {
            whole.store(true, Ordering::Relaxed);
        }
        self.tokens.try_reserve(symbols.len()).map_err(|_| too_many_tokens())?;
        self.tokens.extend_from_slice(symbols);
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

fn too_many_tokens() -> Error {
    Error::new(ErrorKind::OutOfMemory, "cannot allocate the tokens of the text")
}
