//! Text to tokens and back: tokenizer, incremental detokenizer, stop strings, chats. The engine and the C boundary use it.
//!
//! A vocabulary comes from GGUF metadata or from `tokenizer.json`; both become one [`VocabularyData`], which is
//! untrusted, and that one a [`Tokenizer`], which is validated and immutable.

mod byte_alphabet;
pub mod chat;
pub mod constraint;
mod decode;
mod detokenizer;
mod encode;
mod gguf;
mod json;
pub mod limits;
mod merge;
mod model;
mod normalizer;
mod pretokenizer;
mod special;
mod stop;
mod tokenizer;
mod unicode;
mod unigram;
mod vocabulary;
mod vocabulary_data;

pub use decode::DecodeOptions;
pub use detokenizer::Detokenizer;
pub use encode::EncodeOptions;
pub use gguf::{HUGGINGFACE_CONFIG, HUGGINGFACE_JSON};
pub use pretokenizer::PreTokenizer;
pub use special::MatchRules;
pub use stop::{StopMatcher, StopStrings};
pub use tokenizer::Tokenizer;
pub use vocabulary_data::{Alphabet, BertRules, Model, Normalization, SpacePrefix, TokenType, VocabularyData};

/// A token id; never negative inside the library.
pub type Token = u32;
