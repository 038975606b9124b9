//! A vocabulary as a file describes it, before anything is checked: what `gguf` and `json` fill in and `Tokenizer` takes.

use crate::error::Result;
use crate::sys::progress::Progress;
use crate::text::{MatchRules, PreTokenizer, Token};
use std::borrow::Cow;

/// What a token is for. The numbers are those of GGUF's `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenType {
    /// Text.
    Normal = 1,
    /// Stands for text that the vocabulary cannot express.
    Unknown = 2,
    /// Steers the model: never made from text unless the host asks for it, invisible in output.
    Control = 3,
    /// Text that is always this token, before any merging.
    UserDefined = 4,
    /// A place that is kept free.
    Unused = 5,
    /// One byte, written `<0xHH>`.
    Byte = 6,
}

impl TokenType {
    /// The type with GGUF's number `id`.
    pub fn from_id(id: i64) -> Option<Self> {
        [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte]
            .into_iter()
            .find(|&kind| i64::from(kind as u8) == id)
    }

    /// True if text becomes this token by merging, or because it is a word of the vocabulary.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Normal | Self::Unused)
    }

    /// True if a merge may have it as a part or as its result.
    pub(super) fn may_merge(self) -> bool {
        self.is_text() || self == Self::UserDefined
    }

    /// True if text must not become this token unless the host asks for it.
    pub(super) fn is_guarded(self) -> bool {
        matches!(self, Self::Control | Self::Unknown)
    }
}

/// How the texts of the tokens are written, and what merging starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// SentencePiece: characters, with U+2581 for a space; what the vocabulary lacks falls back to `<0xHH>` tokens.
    Characters,
    /// GPT-2: bytes, each written as one printable character.
    Bytes,
}

/// Which neighbours merge, and which first.
#[derive(Clone, Debug)]
pub enum MergeOrder<'a> {
    /// Any two whose texts together are a token; the highest score first. One score per token.
    Scores(Vec<f32>),
    /// The pairs in this list, the first one first.
    Pairs(Vec<[Cow<'a, [u8]>; 2]>),
}

/// Where a space is put in front of text before it is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpacePrefix {
    /// Nowhere.
    Never,
    /// Before each stretch of text, at the start and after each special token.
    EveryStretch,
    /// As `EveryStretch`, unless there is one already.
    EveryStretchWithout,
    /// At the start of the text, unless there is one already or the text starts with a special token.
    TextStart,
}

/// Everything a file says about its tokenizer. Ids may be out of range and texts contradictory: nothing is checked yet.
#[derive(Clone, Debug)]
pub struct VocabularyData<'a> {
    /// What merging starts from.
    pub alphabet: Alphabet,
    /// The texts as written in the file; an empty one is a hole. (n_vocab)
    pub tokens: Vec<Cow<'a, [u8]>>,
    /// (n_vocab)
    pub types: Vec<TokenType>,
    /// Which neighbours merge.
    pub merges: MergeOrder<'a>,
    /// A word that is a token is that token, whatever the merges say.
    pub ignore_merges: bool,
    /// Unknown tokens in a row become one.
    pub fuse_unknown: bool,
    /// What cuts text into words.
    pub pre_tokenizer: PreTokenizer,
    /// Text is brought into Unicode's composed form first.
    pub nfc: bool,
    /// Where a space is put in front.
    pub space_prefix: SpacePrefix,
    /// Decoding a whole text drops the space at its start.
    pub strip_first_space: bool,
    /// Added tokens that are found by other rules than their text alone.
    pub match_rules: Vec<(Token, MatchRules)>,
    /// Stands for text that has no token.
    pub unknown: Option<Token>,
    /// Begins a text.
    pub bos: Option<Token>,
    /// Ends a text.
    pub eos: Option<Token>,
    /// Further tokens that end a generation.
    pub ends: Vec<Token>,
    /// What `add_special` puts before a text.
    pub prefix: Vec<Token>,
    /// What `add_special` puts after a text.
    pub suffix: Vec<Token>,
    /// The load that this is for: building a large vocabulary takes long enough to be cancelled.
    pub progress: Option<&'a Progress>,
}

/// Items between two looks at the cancel flag: half a millisecond of hashing.
const ITEMS_PER_CHECK: u32 = 4096;

impl VocabularyData<'_> {
    /// A vocabulary without tokens, of the plainest kind.
    pub fn empty(alphabet: Alphabet) -> Self {
        Self {
            alphabet,
            tokens: Vec::new(),
            types: Vec::new(),
            merges: MergeOrder::Pairs(Vec::new()),
            ignore_merges: false,
            fuse_unknown: true,
            pre_tokenizer: PreTokenizer::default(),
            nfc: false,
            space_prefix: SpacePrefix::Never,
            strip_first_space: false,
            match_rules: Vec::new(),
            unknown: None,
            bos: None,
            eos: None,
            ends: Vec::new(),
            prefix: Vec::new(),
            suffix: Vec::new(),
            progress: None,
        }
    }

    /// To be asked at each item `i` of a long loop: fails if the load was cancelled.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(super) fn check_wanted(&self, i: u32) -> Result<()> {
        match self.progress {
            Some(progress) if i.is_multiple_of(ITEMS_PER_CHECK) => progress.check(),
            _ => Ok(()),
        }
    }
}
