//! What is done to a text before it is cut into words: Unicode's forms, BERT's clean-up, SentencePiece's replacements.
//!
//! For `encode`. Built from the [`Normalization`]s that a file describes.

mod bert;
mod charsmap;

use crate::error::{Error, ErrorKind, Result};
use crate::text::Normalization;
use crate::text::vocabulary::SPACE_MARK;
use bert::Bert;
use charsmap::Charsmap;
use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The validated form of [`Normalization`].
pub(super) enum Normalizer {
    Nfc,
    Bert(Bert),
    Charsmap(Charsmap),
    Strip { start: bool, end: bool },
    MergeSpaces,
    OneSpacePerWord,
}

impl Normalizer {
    /// # Errors
    /// `Format` if a table contradicts itself; `OutOfMemory`.
    pub(super) fn new(data: &Normalization<'_>) -> Result<Self> {
        Ok(match data {
            Normalization::Nfc => Self::Nfc,
            Normalization::Bert(rules) => Self::Bert(Bert::new(*rules)?),
            Normalization::Charsmap(bytes) => Self::Charsmap(Charsmap::new(bytes)?),
            &Normalization::Strip { start, end } => Self::Strip { start, end },
            Normalization::MergeSpaces => Self::MergeSpaces,
            Normalization::OneSpacePerWord => Self::OneSpacePerWord,
        })
    }

    /// `text` as it goes on.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(super) fn apply<'t>(&self, text: Cow<'t, str>) -> Result<Cow<'t, str>> {
        Ok(match self {
            Self::Nfc if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes => text,
            Self::Nfc => Cow::Owned(try_collect(text.len(), text.nfc())?),
            Self::Bert(bert) => Cow::Owned(bert.apply(&text)?),
            Self::Charsmap(charsmap) => Cow::Owned(charsmap.apply(&text)?),
            &Self::Strip { start, end } => {
                let kept = if start { text.trim_start() } else { &text };
                Cow::Owned(try_concat([if end { kept.trim_end() } else { kept }])?)
            }
            Self::MergeSpaces if !text.contains("  ") => text,
            Self::MergeSpaces => Cow::Owned(merge_spaces(&text)?),
            Self::OneSpacePerWord => Cow::Owned(try_concat(text.split_whitespace().flat_map(spaced))?),
        })
    }
}

/// A word with a space in front, unless it brings one.
fn spaced(word: &str) -> [&str; 2] {
    [if word.starts_with(SPACE_MARK) { "" } else { " " }, word]
}

fn merge_spaces(text: &str) -> Result<String> {
    let mut after_space = false;
    let kept = text.chars().filter(move |&c| !(std::mem::replace(&mut after_space, c == ' ') && c == ' '));
    try_collect(text.len(), kept)
}

/// `chars` as a string, which has about `n_bytes` bytes.
///
/// # Errors
/// `OutOfMemory`.
pub(super) fn try_collect(n_bytes: usize, chars: impl Iterator<Item = char>) -> Result<String> {
    let mut text = try_string(n_bytes)?;
    for c in chars {
        text.try_reserve(c.len_utf8()).map_err(|_| out_of_memory())?;
        text.push(c);
    }
    Ok(text)
}

/// `pieces` one after the other.
///
/// # Errors
/// `OutOfMemory`.
pub(super) fn try_concat<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Result<String> {
    let mut text = String::new();
    for piece in pieces {
        text.try_reserve(piece.len()).map_err(|_| out_of_memory())?;
        text.push_str(piece);
    }
    Ok(text)
}

fn try_string(n_bytes: usize) -> Result<String> {
    let mut text = String::new();
    text.try_reserve(n_bytes).map_err(|_| out_of_memory())?;
    Ok(text)
}

fn out_of_memory() -> Error {
    Error::new(ErrorKind::OutOfMemory, "cannot allocate the normalised text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(data: &Normalization<'_>, text: &str) -> String {
        Normalizer::new(data).unwrap().apply(Cow::Borrowed(text)).unwrap().into_owned()
    }

    #[test]
    fn white_space_is_dropped_or_merged() {
        assert_eq!(apply(&Normalization::Strip { start: true, end: false }, " \ta \n"), "a \n");
        assert_eq!(apply(&Normalization::Strip { start: false, end: true }, " \ta \n"), " \ta");
        assert_eq!(apply(&Normalization::MergeSpaces, "  a   b \t c "), " a b \t c ");
        assert_eq!(apply(&Normalization::OneSpacePerWord, "\ta \u{3000} b\n"), " a b");
        assert_eq!(apply(&Normalization::OneSpacePerWord, " \n"), "");
    }

    #[test]
    fn composed_form() {
        assert_eq!(apply(&Normalization::Nfc, "e\u{301}a"), "éa");
    }
}
