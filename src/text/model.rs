//! How a word becomes tokens: by merging, by the longest token first, or by the likeliest sequence.
//!
//! For `encode`. Built from the [`Model`] that a file describes.

use crate::error::Result;
use crate::fail;
use crate::text::limits::MAX_WORD_CHARS;
use crate::text::merge::{MergeOrder, MergeScratch, MergeTable};
use crate::text::unigram::{Unigram, UnigramScratch};
use crate::text::vocabulary::Vocabulary;
use crate::text::{Model, Token, VocabularyData};

/// The validated form of [`Model`].
pub(super) enum WordModel {
    Merges(MergeTable),
    LongestFirst(LongestFirst),
    Unigram(Unigram),
}

impl WordModel {
    /// # Errors
    /// `Format` or `Unsupported` if the model contradicts the vocabulary or exceeds a cap; `OutOfMemory`.
    pub(super) async fn new(data: &VocabularyData<'_>, vocabulary: &Vocabulary) -> Result<Self> {
        Ok(match &data.model {
            Model::Scores(scores) => Self::Merges(MergeTable::new(data, MergeOrder::Scores(scores), vocabulary).await?),
            Model::Pairs(pairs) => Self::Merges(MergeTable::new(data, MergeOrder::Pairs(pairs), vocabulary).await?),
            Model::LongestFirst(max_chars) => Self::LongestFirst(LongestFirst::new(*max_chars, vocabulary)?),
            Model::Likeliest(scores) => Self::Unigram(Unigram::new(vocabulary, scores)?),
        })
    }

    /// True if no token that a text can become satisfies `crosses`.
    pub(super) fn no_token(&self, vocabulary: &Vocabulary, crosses: impl Fn(Token) -> bool) -> bool {
        match self {
            Self::Merges(merges) => !merges.results().any(crosses),
            Self::LongestFirst(_) => true, // never asked: its words are cut before
            Self::Unigram(_) => !vocabulary.iter().any(|(token, kind)| kind.is_text() && crosses(token)),
        }
    }
}

/// Memory of the models that is used again from word to word.
#[derive(Default)]
pub(super) struct WordScratch {
    pub(super) merge: MergeScratch,
    pub(super) unigram: UnigramScratch,
}

/// WordPiece, as in BERT (Devlin et al. 2018): the longest token that begins the word, then the longest that begins the rest.
pub(super) struct LongestFirst {
    max_chars: usize,
    /// Bytes of the longest token.
    max_bytes: usize,
}

impl LongestFirst {
    fn new(max_chars: usize, vocabulary: &Vocabulary) -> Result<Self> {
        if max_chars > MAX_WORD_CHARS {
            fail!(Unsupported, "words of {max_chars} characters, expected {MAX_WORD_CHARS} at most");
        }
        let lengths = vocabulary.iter().filter_map(|(token, _)| vocabulary.piece(token).map(<[u8]>::len));
        Ok(Self { max_chars, max_bytes: lengths.max().unwrap_or(0) })
    }

    /// Appends the tokens of `word`, which begins with a space; false, with `tokens` unchanged, if it is unknown.
    pub(super) fn tokenize(&self, vocabulary: &Vocabulary, word: &str, tokens: &mut Vec<Token>) -> bool {
        let (n, mut rest) = (tokens.len(), word);
        let fits = word.chars().nth(self.max_chars.saturating_add(1)).is_none(); // the space does not count
        while fits && !rest.is_empty() {
            // The space alone is no token: it marks the start of a word.
            let least = if rest.len() == word.len() { 2 } else { 1 };
            let Some((token, length)) = self.longest(vocabulary, rest, least) else { break };
            tokens.push(token);
            rest = rest.get(length..).unwrap_or_default();
        }
        if !fits || !rest.is_empty() {
            tokens.truncate(n);
        }
        fits && rest.is_empty()
    }

    /// The longest token that begins `text`, of at least so many bytes, with its length.
    fn longest(&self, vocabulary: &Vocabulary, text: &str, least: usize) -> Option<(Token, usize)> {
        let ends = (least..=text.len().min(self.max_bytes)).rev();
        ends.filter_map(|end| Some((vocabulary.word(text.get(..end)?.as_bytes())?, end))).next()
    }
}
