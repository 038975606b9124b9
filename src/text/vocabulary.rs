//! The validated table of tokens: id to text, id to bytes, and back.
//!
//! For the merge table, which is built from it, and for encoding and decoding, which look words and ids up.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::gguf::Strings;
use crate::formats::names::QuotedBytes;
use crate::sys::memory::try_with_capacity;
use crate::text::byte_alphabet::ByteAlphabet;
use crate::text::limits::{MAX_TOKEN_BYTES, MAX_TOKENS};
use crate::text::vocabulary_data::{Alphabet, TokenType};
use crate::text::{Token, VocabularyData};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// U+2581, which SentencePiece writes for a space.
pub(super) const SPACE_MARK: &str = "\u{2581}";

/// The tokens; immutable.
pub(super) struct Vocabulary {
    /// As written in the file.
    texts: Strings,
    /// What the tokens stand for in a text.
    pieces: Strings,
    types: Vec<TokenType>,
    by_text: Index,
    /// Of tokens that text may become by itself: normal and unused ones.
    by_piece: Index,
}

impl Vocabulary {
    /// # Errors
    /// `Format` if the table contradicts itself, is empty, or exceeds a cap of `limits`; `OutOfMemory`.
    pub(super) async fn new(data: &VocabularyData<'_>) -> Result<Self> {
        check(data)?;
        let mut vocabulary = Self {
            texts: Strings::with_capacity(data.tokens.len())?,
            pieces: Strings::with_capacity(data.tokens.len())?,
            types: try_with_capacity(data.types.len())?,
            by_text: Index::with_capacity(data.tokens.len())?,
            by_piece: Index::with_capacity(data.tokens.len())?,
        };
        let (alphabet, mut piece) = (ByteAlphabet::new(), Vec::new());
        for ((text, &kind), token) in data.tokens.iter().zip(&data.types).zip(0..) {
            data.pause(token).await?;
            piece.clear();
            let spelled = spell(data.alphabet, &alphabet, text, kind, &mut piece)?;
            vocabulary.push(text, &piece, kind, spelled && kind.is_text())?;
        }
        Ok(vocabulary)
    }

    /// Adds the next token. `is_word`: text may become it by itself.
    fn push(&mut self, text: &[u8], piece: &[u8], kind: TokenType, is_word: bool) -> Result<()> {
        let id = self.types.len() as Token; // at most MAX_TOKENS, by `check`
        self.types.push(kind);
        self.texts.push(text)?;
        self.pieces.push(piece)?;
        if text.is_empty() {
            return Ok(());
        }
        if let Some(other) = self.by_text.insert(&self.texts, id) {
            fail!(Format, "tokens {other} and {id} are both {}", QuotedBytes(text));
        }
        // Two texts may spell the same, as a space and U+2581 do; the first one is found.
        if is_word && !piece.is_empty() {
            self.by_piece.insert(&self.pieces, id);
        }
        Ok(())
    }

    /// Number of tokens; at most [`MAX_TOKENS`].
    pub(super) fn len(&self) -> usize {
        self.types.len()
    }

    /// The token written `text` in the file.
    pub(super) fn token(&self, text: &[u8]) -> Option<Token> {
        self.by_text.find(&self.texts, text)
    }

    /// The token that text `piece` may become by itself.
    pub(super) fn word(&self, piece: &[u8]) -> Option<Token> {
        self.by_piece.find(&self.pieces, piece)
    }

    /// The text of `token` in the file.
    pub(super) fn text(&self, token: Token) -> Option<&[u8]> {
        self.texts.get(token as usize)
    }

    /// What `token` stands for in a text.
    pub(super) fn piece(&self, token: Token) -> Option<&[u8]> {
        self.pieces.get(token as usize)
    }

    pub(super) fn token_type(&self, token: Token) -> Option<TokenType> {
        self.types.get(token as usize).copied()
    }

    /// Every token with its type.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Token, TokenType)> + '_ {
        (0..).zip(self.types.iter().copied())
    }
}

fn check(data: &VocabularyData<'_>) -> Result<()> {
    let n = data.tokens.len();
    if n == 0 {
        fail!(Format, "the vocabulary has no tokens");
    }
    if n > MAX_TOKENS {
        fail!(Format, "the vocabulary has {n} tokens, expected {MAX_TOKENS} at most");
    }
    if data.types.len() != n {
        fail!(Format, "the vocabulary has {n} tokens and {} token types", data.types.len());
    }
    if let Some(id) = data.tokens.iter().position(|t| t.len() > MAX_TOKEN_BYTES) {
        fail!(Format, "token {id} has {} bytes, expected {MAX_TOKEN_BYTES} at most", data.tokens[id].len());
    }
    Ok(())
}

/// Appends to `piece` what the token stands for; false if its text is not written in the alphabet, and stands for itself.
fn spell(alphabet: Alphabet, bytes: &ByteAlphabet, text: &[u8], kind: TokenType, piece: &mut Vec<u8>) -> Result<bool> {
    match (kind, alphabet) {
        (TokenType::Byte, _) => piece.push(byte_token(text)?),
        (TokenType::Normal | TokenType::Unused, Alphabet::Bytes) if bytes.decode(text, piece) => {}
        (TokenType::Normal | TokenType::Unused, Alphabet::Characters) => unmark_spaces(text, piece),
        (TokenType::UserDefined, Alphabet::Characters) => unmark_spaces(text, piece),
        // The mark is no character here, but stands for the start of a word.
        (TokenType::Normal | TokenType::Unused, Alphabet::Words) => match text.strip_prefix(SPACE_MARK.as_bytes()) {
            Some(word) => {
                piece.push(b' ');
                piece.extend_from_slice(word);
            }
            None => piece.extend_from_slice(text),
        },
        _ => {
            piece.extend_from_slice(text);
            return Ok(false);
        }
    }
    Ok(true)
}

/// Appends `text` with a space for each [`SPACE_MARK`].
fn unmark_spaces(text: &[u8], piece: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = rest.strip_prefix(SPACE_MARK.as_bytes()).map_or((first, after), |after| (b' ', after));
        piece.push(byte);
        rest = after;
    }
}

/// The byte that the text `<0xHH>` names.
fn byte_token(text: &[u8]) -> Result<u8> {
    parse_byte(text).ok_or_else(|| Error::new(ErrorKind::Format, format!("byte token {}, expected <0x00> to <0xFF>", QuotedBytes(text))))
}

/// The byte that `<0xHH>` names, if `text` is written so.
pub(super) fn parse_byte(text: &[u8]) -> Option<u8> {
    let &[b'<', b'0', b'x', high, low, b'>'] = text else { return None };
    let digit = |c: u8| char::from(c).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// A table of the vocabulary did not fit.
pub(super) fn out_of_memory() -> Error {
    Error::new(ErrorKind::OutOfMemory, "cannot allocate the tables of the vocabulary")
}

/// Finds the id of a string. It keeps ids only; the strings stay where they are.
struct Index {
    ids: HashTable<Token>,
    /// Seeded per table: a file cannot choose strings that collide.
    hasher: DefaultHashBuilder,
}

impl Index {
    fn with_capacity(n: usize) -> Result<Self> {
        let (mut ids, hasher) = (HashTable::new(), DefaultHashBuilder::default());
        ids.try_reserve(n, |_| 0).map_err(|_| out_of_memory())?;
        Ok(Self { ids, hasher })
    }

    fn find(&self, strings: &Strings, string: &[u8]) -> Option<Token> {
        let same = |&id: &Token| strings.get(id as usize) == Some(string);
        self.ids.find(self.hasher.hash_one(string), same).copied()
    }

    /// Adds `id`, unless its string is there already: then the id it has.
    fn insert(&mut self, strings: &Strings, id: Token) -> Option<Token> {
        let string = strings.get(id as usize)?;
        if let Some(other) = self.find(strings, string) {
            return Some(other);
        }
        let hash = |id: &Token| self.hasher.hash_one(strings.get(*id as usize).unwrap_or_default());
        self.ids.insert_unique(hash(&id), id, hash);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::job;
    use std::borrow::Cow;

    fn data(alphabet: Alphabet, tokens: &[(&'static str, TokenType)]) -> VocabularyData<'static> {
        VocabularyData {
            tokens: tokens.iter().map(|(text, _)| Cow::Borrowed(text.as_bytes())).collect(),
            types: tokens.iter().map(|&(_, kind)| kind).collect(),
            ..VocabularyData::empty(alphabet)
        }
    }

    #[test]
    fn pieces_are_what_tokens_stand_for() {
        use TokenType::{Byte, Control, Normal, UserDefined};
        let v = data(Alphabet::Characters, &[("▁▁a", Normal), ("<0x0A>", Byte), ("<s>", Control), ("", Normal), ("▁", UserDefined)]);
        let v = job::run(Vocabulary::new(&v)).unwrap();
        let pieces: Vec<_> = (0..5).map(|t| v.piece(t).unwrap()).collect();
        assert_eq!(pieces, [b"  a".as_slice(), b"\n", b"<s>", b"", b" "]);
        assert_eq!((v.word(b"  a"), v.word(b"\n"), v.word(b"<s>"), v.word(b" ")), (Some(0), None, None, None));
        assert_eq!((v.token(b"<s>"), v.token(b""), v.piece(5), v.token_type(5)), (Some(2), None, None, None));

        let v = job::run(Vocabulary::new(&data(Alphabet::Bytes, &[("Ġa", Normal), ("a b", Normal), ("Ġ", Control)]))).unwrap();
        assert_eq!((v.piece(0).unwrap(), v.piece(1).unwrap(), v.piece(2).unwrap()), (b" a".as_slice(), b"a b".as_slice(), "Ġ".as_bytes()));
        assert_eq!((v.word(b" a"), v.word(b"a b")), (Some(0), None));
    }

    #[test]
    fn contradictions_are_refused() {
        use TokenType::{Byte, Normal};
        let long: &'static str = "x".repeat(MAX_TOKEN_BYTES + 1).leak();
        for (tokens, says) in [
            (vec![], "no tokens"),
            (vec![("a", Normal), ("b", Normal), ("a", Normal)], "tokens 0 and 2 are both \"a\""),
            (vec![("<0xZZ>", Byte)], "<0xZZ>"),
            (vec![("<0x-1>", Byte)], "<0x-1>"),
            (vec![("x", Byte)], "expected <0x00>"),
            (vec![(long, Normal)], "16385 bytes"),
        ] {
            let error = job::run(Vocabulary::new(&data(Alphabet::Characters, &tokens))).err().unwrap();
            assert!(error.kind() == ErrorKind::Format && error.message().contains(says), "{error}");
        }
        let mut unequal = data(Alphabet::Characters, &[("a", Normal)]);
        unequal.types.clear();
        assert_eq!(job::run(Vocabulary::new(&unequal)).err().unwrap().kind(), ErrorKind::Format);
    }
}
