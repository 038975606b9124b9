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
    /// BERT: characters, with U+2581 in front of what begins a word; what continues one has nothing in front.
    Words,
}

/// How a word becomes tokens.
#[derive(Clone, Debug)]
pub enum Model<'a> {
    /// SentencePiece's BPE: any two neighbours whose texts together are a token merge; the highest score first. One score per token.
    Scores(Vec<f32>),
    /// BPE: the pairs in this list merge, the first one first.
    Pairs(Vec<[Cow<'a, [u8]>; 2]>),
    /// WordPiece: the longest token again and again; a word that does not come out so, or has more characters than this, is unknown.
    LongestFirst(usize),
    /// Unigram: the tokens whose scores, log probabilities, have the greatest sum. One score per token.
    Likeliest(Vec<f64>),
}

/// A change of the text before it is cut into words.
#[derive(Clone, Debug)]
pub enum Normalization<'a> {
    /// Unicode's composed form.
    Nfc,
    /// What BERT does before it looks words up: every word of the result has one space in front.
    Bert(BertRules),
    /// SentencePiece's table of replacements, `precompiled_charsmap`, as it stands in files.
    Charsmap(Cow<'a, [u8]>),
    /// White space at these ends is dropped.
    Strip {
        /// At the start.
        start: bool,
        /// At the end.
        end: bool,
    },
    /// Of several spaces in a row, one stays.
    MergeSpaces,
    /// White space of any kind and length becomes one space, with one in front of the text and none behind.
    OneSpacePerWord,
}

/// Which parts of BERT's normalisation are done; cutting at white space and punctuation always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BertRules {
    /// Drop control characters.
    pub clean: bool,
    /// Chinese characters are words.
    pub isolate_chinese: bool,
    /// Drop accents: decompose and leave out non-spacing marks.
    pub strip_accents: bool,
    /// Lower case.
    pub lowercase: bool,
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
    /// How words become tokens.
    pub model: Model<'a>,
    /// A word that is a token is that token, whatever the merges say.
    pub ignore_merges: bool,
    /// Unknown tokens in a row become one.
    pub fuse_unknown: bool,
    /// What cuts text into words.
    pub pre_tokenizer: PreTokenizer,
    /// What is done to text first, in this order.
    pub normalizations: Vec<Normalization<'a>>,
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

/// Items of a slice of a load: a tenth of a millisecond of hashing.
pub(super) const ITEMS_PER_SLICE: usize = 1024;

impl VocabularyData<'_> {
    /// A vocabulary without tokens, of the plainest kind.
    pub fn empty(alphabet: Alphabet) -> Self {
        Self {
            alphabet,
            tokens: Vec::new(),
            types: Vec::new(),
            model: Model::Pairs(Vec::new()),
            ignore_merges: false,
            fuse_unknown: true,
            pre_tokenizer: PreTokenizer::default(),
            normalizations: Vec::new(),
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

    /// To be asked at each item `i` of a long loop: ends a slice now and then, and fails if the load was cancelled.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(super) async fn pause(&self, i: u32) -> Result<()> {
        match self.progress {
            Some(progress) => progress.pause(i as usize, ITEMS_PER_SLICE).await,
            None => Ok(()),
        }
    }
}
