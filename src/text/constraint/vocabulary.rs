//! A model's vocabulary as grammars see it: a trie of the bytes of its tokens, and our tokenizer for text that a grammar forces.

use super::Constraint;
use super::ConstraintSource;
use super::compile::{compile, limits};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::stack::on_own_stack;
use crate::text::{Token, TokenType, Tokenizer};
use hashbrown::HashMap;
use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use std::sync::Arc;

/// Bytes of a token that a constraint may choose: the trie has no room for longer ones, and only runs of spaces or dashes are.
const MAX_WORD_BYTES: usize = 512;

/// Tokens with the same bytes: the trie goes through them one by one. SentencePiece has two of many, as a byte and as a character.
const MAX_SAME: u32 = 8;

/// What all constraints of one model share. Built when the first is compiled: a trie over a large vocabulary takes tens of milliseconds.
pub struct Grammars {
    factory: ParserFactory,
}

impl Grammars {
    /// The trie of `tokenizer`'s vocabulary.
    ///
    /// # Errors
    /// `Unsupported` for a vocabulary that makes a trie of more than four million nodes.
    pub fn new(tokenizer: &Arc<Tokenizer>) -> Result<Self> {
        let refused = |e| Error::new(ErrorKind::Unsupported, format!("constraints for this vocabulary: {e}"));
        on_own_stack(|| {
            let environment: TokEnv = Arc::new(Vocabulary::new(tokenizer.clone()));
            let capabilities = InferenceCapabilities { ff_tokens: environment.tokenize_is_canonical(), ..InferenceCapabilities::default() };
            let slices = SlicedBiasComputer::json_slices();
            let mut factory = ParserFactory::new(&environment, capabilities, &slices).map_err(refused)?;
            factory.quiet();
            *factory.limits_mut() = limits();
            Ok(Self { factory })
        })
        .map_err(|e| if e.kind() == ErrorKind::Internal { refused(e.into()) } else { e })
    }

    /// Compiles `source`.
    ///
    /// # Errors
    /// `Constraint` with `detail[0]` = byte offset, if it is not in its language, asks for what no grammar can say, or is too large.
    pub fn compile(&self, source: &ConstraintSource) -> Result<Constraint> {
        on_own_stack(|| compile(&self.factory, source))
    }
}

/// The trie, and the tokenizer.
struct Vocabulary {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
    /// Each byte has a token, so that any text can be forced.
    has_bytes: bool,
}

impl Vocabulary {
    fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let words = words(&tokenizer);
        let ends: Vec<Token> = (0..words.len() as Token).filter(|&token| tokenizer.is_eog(token)).collect();
        let info = TokRxInfo::new(words.len() as u32, ends.first().copied().unwrap_or(INVALID_TOKEN));
        let trie = TokTrie::from(&info, &words);
        let trie = if ends.len() > 1 { trie.with_eos_tokens(&ends) } else { trie };
        let has_bytes = (0..TokTrie::SPECIAL_TOKEN_MARKER).all(|byte| trie.token_id(&[byte]).is_some() || is_no_text(byte));
        Self { trie, tokenizer, has_bytes }
    }

    /// The tokens that our tokenizer makes of `text` where it continues another, if they stand for exactly these bytes.
    fn encode(&self, text: &[u8]) -> Option<Vec<Token>> {
        let tokens = self.tokenizer.encode_continuation(std::str::from_utf8(text).ok()?).ok()?;
        (self.trie.decode_raw(&tokens) == text).then_some(tokens)
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<Token> {
        self.encode(text).unwrap_or_else(|| self.trie.greedy_tokenize(text))
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
fn words(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    let mut seen: HashMap<&[u8], u32> = HashMap::new();
    let mut word = |token: Token| {
        let n_same = |seen: &mut HashMap<_, u32>, bytes| *seen.entry(bytes).and_modify(|n| *n += 1).or_insert(1);
        let bytes = tokenizer.token_bytes(token).unwrap_or_default();
        let is_text = matches!(tokenizer.token_type(token), Some(TokenType::Normal | TokenType::UserDefined | TokenType::Byte));
        match bytes {
            _ if bytes.is_empty() || bytes.len() > MAX_WORD_BYTES || n_same(&mut seen, bytes) > MAX_SAME => Vec::new(),
            _ if tokenizer.is_eog(token) || tokenizer.is_control(token) => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
            _ if is_text && bytes[0] != TokTrie::SPECIAL_TOKEN_MARKER => bytes.to_vec(),
            _ => Vec::new(),
        }
    };
    (0..tokenizer.n_vocab() as Token).map(&mut word).collect()
}
