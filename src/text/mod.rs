//! Text to tokens and back: tokenizer, incremental detokenizer, stop strings. The only room that names `tokenizers`.

/// A token id; never negative inside the library.
pub type Token = u32;
