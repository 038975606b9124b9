//! A model's vocabulary as grammars see it: tries of the bytes of its tokens, and our tokenizer for text that a grammar forces.

use super::Constraint;
use super::ConstraintSource;
use super::compile::{compile, limits};
use super::mask::{self, Masks};
use super::trie::MAX_WORD_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::job;
use crate::sys::stack::on_own_stack;
use crate::text::{Token, TokenType, Tokenizer};
use hashbrown::HashMap;
use llguidance::ParserFactory;
use llguidance::toktrie::{INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use once_cell::sync::OnceCell;
use std::sync::Arc;

/// Tokens with the same bytes: a trie goes through them one by one. SentencePiece has two of many, as a byte and as a character.
const MAX_SAME: u32 = 8;

/// Tokens whose words are read, or sorted, between two pauses: about a millisecond.
const TOKENS_PER_SLICE: usize = 8192;

/// What all constraints of one model share. Built when the first is compiled.
pub struct Grammars {
    factory: ParserFactory,
    masks: Arc<Masks>,
}

impl Grammars {
    /// The tries of `tokenizer`'s vocabulary, in slices.
    ///
    /// For 150,000 tokens each takes a millisecond or two, but for one: the trie that llguidance makes for itself.
    ///
    /// # Errors
    /// `Unsupported` for a vocabulary that makes a trie of more than four million nodes.
    pub async fn build(tokenizer: Arc<Tokenizer>) -> Result<Self> {
        let words = words(&tokenizer).await;
        let order = sorted(&words).await;
        let vocabulary = Arc::new(Vocabulary::new(tokenizer, &words));
        let factory = checked(|| factory(&vocabulary))?;
        job::pause().await;
        checked(|| vocabulary.make_trie(&words))?;
        job::pause().await;
        let masks = Arc::new(Masks::build(vocabulary, &words, &order).await);
        Ok(Self { factory, masks })
    }

    /// [`Self::build`], all at once.
    ///
    /// # Errors
    /// As there.
    pub fn new(tokenizer: &Arc<Tokenizer>) -> Result<Self> {
        job::run(Self::build(tokenizer.clone()))
    }

    /// Compiles `source`.
    ///
    /// # Errors
    /// `Constraint` with `detail[0]` = byte offset, if it is not in its language, asks for what no grammar can say, or is too large.
    pub fn compile(&self, source: &ConstraintSource) -> Result<Constraint> {
        on_own_stack(|| compile(&self.factory, &self.masks, source))
    }
}

/// Runs `body` on a stack of our own. What llguidance does not take of a vocabulary, it refuses by a panic.
fn checked<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let refused = |e: Error| Error::new(ErrorKind::Unsupported, format!("constraints for this vocabulary: {e}"));
    on_own_stack(body).map_err(|e| if e.kind() == ErrorKind::Internal { refused(e) } else { e })
}

fn factory(vocabulary: &Arc<Vocabulary>) -> Result<ParserFactory> {
    let environment: TokEnv = vocabulary.clone();
    let capabilities = InferenceCapabilities { ff_tokens: environment.tokenize_is_canonical(), ..InferenceCapabilities::default() };
    let made = ParserFactory::new(&environment, capabilities, &mask::texts());
    let mut factory = made.map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?;
    factory.quiet();
    *factory.limits_mut() = limits();
    Ok(factory)
}

/// The trie that parsers look tokens up in, and the tokenizer.
pub(super) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: OnceCell<TokTrie>,
    /// Until there is the other one: a factory makes a dozen tries out of it, which ours take the place of.
    no_trie: TokTrie,
    /// Each byte has a token, so that any text can be forced.
    has_bytes: bool,
}

impl Vocabulary {
    fn new(tokenizer: Arc<Tokenizer>, words: &[Vec<u8>]) -> Self {
        let mut known = [false; 256];
        words.iter().filter(|word| word.len() == 1).for_each(|word| known[usize::from(word[0])] = true);
        let has_bytes = (0..TokTrie::SPECIAL_TOKEN_MARKER).all(|byte| known[usize::from(byte)] || is_no_text(byte));
        let no_trie = TokTrie::from(&TokRxInfo::new(1, INVALID_TOKEN), &[vec![b' ']]);
        Self { tokenizer, trie: OnceCell::new(), no_trie, has_bytes }
    }

    fn make_trie(&self, words: &[Vec<u8>]) -> Result<()> {
        let ends: Vec<Token> = (0..words.len() as Token).filter(|&token| self.tokenizer.is_eog(token)).collect();
        let info = TokRxInfo::new(words.len() as u32, ends.first().copied().unwrap_or(INVALID_TOKEN));
        self.trie.get_or_init(|| {
            let trie = TokTrie::from(&info, words);
            if ends.len() > 1 { trie.with_eos_tokens(&ends) } else { trie }
        });
        Ok(())
    }

    pub(super) fn trie(&self) -> &TokTrie {
        self.trie.get().unwrap_or(&self.no_trie)
    }

    /// The tokens that our tokenizer makes of `text` where it continues another, if they stand for exactly these bytes.
    fn encode(&self, text: &[u8]) -> Option<Vec<Token>> {
        let tokens = self.tokenizer.encode_continuation(std::str::from_utf8(text).ok()?).ok()?;
        (self.trie().decode_raw(&tokens) == text).then_some(tokens)
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        self.trie()
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<Token> {
        self.encode(text).unwrap_or_else(|| self.trie().greedy_tokenize(text))
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.has_bytes
    }
}

/// Bytes that occur nowhere in UTF-8.
fn is_no_text(byte: u8) -> bool {
    matches!(byte, 0xC0 | 0xC1 | 0xF5..)
}

/// The bytes of each token. Tokens that are no text are marked, and match no text.
async fn words(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    let mut seen: HashMap<&[u8], u32> = HashMap::new();
    let mut words = Vec::with_capacity(tokenizer.n_vocab());
    for token in 0..tokenizer.n_vocab() as Token {
        let bytes = tokenizer.token_bytes(token).unwrap_or_default();
        let is_text = matches!(tokenizer.token_type(token), Some(TokenType::Normal | TokenType::UserDefined | TokenType::Byte));
        let n_same = seen.entry(bytes).and_modify(|n| *n += 1).or_insert(1);
        words.push(match bytes {
            _ if bytes.is_empty() || bytes.len() > MAX_WORD_BYTES || *n_same > MAX_SAME => Vec::new(),
            _ if tokenizer.is_eog(token) || tokenizer.is_control(token) => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
            _ if is_text && bytes[0] != TokTrie::SPECIAL_TOKEN_MARKER => bytes.to_vec(),
            _ => Vec::new(),
        });
        if words.len().is_multiple_of(TOKENS_PER_SLICE) {
            job::pause().await;
        }
    }
    words
}

/// The tokens that have a word, ordered by their words.
async fn sorted(words: &[Vec<u8>]) -> Vec<Token> {
    // By the first two bytes first, so that the rest can be done piece by piece.
    let bucket = |word: &[u8]| usize::from(word[0]) << 8 | usize::from(word.get(1).copied().unwrap_or(0));
    let mut ends = vec![0usize; 1 << 16];
    words.iter().filter(|word| !word.is_empty()).for_each(|word| ends[bucket(word)] += 1);
    let mut n = 0;
    ends.iter_mut().for_each(|end| n += std::mem::replace(end, n));
    let mut order = vec![0; n];
    for (word, token) in words.iter().zip(0..).filter(|(word, _)| !word.is_empty()) {
        let next = &mut ends[bucket(word)];
        order[*next] = token;
        *next += 1;
    }
    job::pause().await;
    let (mut done, mut since_pause) = (0, 0);
    for end in ends {
        order[done..end].sort_unstable_by_key(|&token| (&words[token as usize], token));
        since_pause += end - done;
        done = end;
        if since_pause >= TOKENS_PER_SLICE {
            since_pause = 0;
            job::pause().await;
        }
    }
    order
}
