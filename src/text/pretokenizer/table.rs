//! The published pre-tokenizers: under which name GGUF files ask for them, under which pattern `tokenizer.json` does.

use super::runs::{CharKind, Runs};
use super::words::{GPT2, LLAMA3, QWEN2, WordRules};
use super::{PreTokenizer, Step};
use crate::error::Result;
use crate::fail;
use crate::formats::names::Quoted;

/// A pre-tokenizer as GGUF names it, with what the name implies beside it.
#[derive(Debug)]
pub(crate) struct Named {
    /// Values of `tokenizer.ggml.pre`.
    names: &'static [&'static str],
    steps: &'static [Step],
    /// A word that is a token is that token, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// A text begins with BOS unless the file says otherwise.
    pub(crate) add_bos: bool,
}

const fn runs(kind: CharKind) -> Step {
    Step::Runs(Runs::of(kind))
}

const fn runs_after_space(kind: CharKind) -> Step {
    Step::Runs(Runs { space_before: true, ..Runs::of(kind) })
}

/// `[0-9][0-9][0-9]`
const THREE_DIGITS: Step = Step::Runs(Runs { at_least: 3, at_most: 3, ..Runs::of(CharKind::AsciiDigit) });

/// `\s+$`
const TRAILING_SPACE: Step = Step::Runs(Runs { at_end: true, ..Runs::of(CharKind::WhiteSpace) });

/// The names are those that llama.cpp's converter writes.
const NAMED: &[Named] = &[
    plain(&["gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat", "mellum"], &[Step::Words(GPT2)]),
    Named {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        steps: &[Step::Words(LLAMA3)],
        ignore_merges: true,
        add_bos: true,
    },
    plain(&["dbrx", "smaug-bpe"], &[Step::Words(LLAMA3)]),
    plain(&["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"], &[Step::Words(QWEN2)]),
    plain(&["falcon"], &[runs(CharKind::Punctuation), Step::Words(GPT2), THREE_DIGITS]),
    plain(
        &["deepseek-llm"],
        &[
            Step::Runs(Runs { at_most: 1, ..Runs::of(CharKind::LineEnd) }),
            runs_after_space(CharKind::CasedLetter),
            runs_after_space(CharKind::DeepSeekPunctuation),
            TRAILING_SPACE,
            runs(CharKind::DeepSeekIdeograph),
            runs(CharKind::Number),
        ],
    ),
];

const fn plain(names: &'static [&'static str], steps: &'static [Step]) -> Named {
    Named { names, steps, ignore_merges: false, add_bos: false }
}

impl Named {
    /// The pre-tokenizer itself.
    pub(crate) fn pre_tokenizer(&self) -> PreTokenizer {
        PreTokenizer { steps: self.steps.to_vec() }
    }
}

/// The pre-tokenizer that GGUF calls `name`.
///
/// # Errors
/// `Unsupported`, naming it: any other splitter would give other tokens than the model was trained on.
pub(crate) fn from_name(name: &str) -> Result<&'static Named> {
    match NAMED.iter().find(|named| named.names.contains(&name)) {
        Some(named) => Ok(named),
        None => fail!(Unsupported, "pre-tokenizer {} is not known to this build", Quoted(name)),
    }
}

/// Patterns of `Split` in published `tokenizer.json` files, letter by letter.
const PATTERNS: &[(&str, WordRules)] = &[
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", GPT2),
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", GPT2),
    (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", LLAMA3),
    (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", QWEN2),
];

/// The splitter that equals the regular expression `pattern`.
///
/// # Errors
/// `Unsupported`, quoting it.
pub(crate) fn from_pattern(pattern: &str) -> Result<Step> {
    match PATTERNS.iter().find(|(known, _)| *known == pattern) {
        Some(&(_, rules)) => Ok(Step::Words(rules)),
        None => fail!(Unsupported, "pre-tokenizer pattern {pattern:?} is not known to this build"),
    }
}

/// `Digits` of `tokenizer.json`: numbers apart from all else, each digit alone if `individual`.
pub(crate) const fn digits(individual: bool) -> Step {
    Step::Runs(Runs { at_most: if individual { 1 } else { usize::MAX }, ..Runs::of(CharKind::Number) })
}

#[cfg(test)]
mod tests {
    use super::super::tests::pieces;
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn names_are_unique_and_unknown_ones_are_named() {
        let mut names: Vec<_> = NAMED.iter().flat_map(|n| n.names).collect();
        let n = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), n);
        let error = from_name("no-such-thing").unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.message().contains("no-such-thing"), "{error}");
        let error = from_pattern(r"(a+)+$").unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.message().contains("(a+)+$"), "{error}");
    }

    #[test]
    fn sequences_cut_again() {
        let falcon = from_name("falcon").unwrap().steps.to_vec();
        assert_eq!(pieces(falcon, "Hi, 12345 a+=b"), ["Hi", ",", " ", "123", "45", " a", "+=", "b"]);
        assert_eq!(pieces(vec![digits(true), Step::Words(GPT2)], "a 12 b"), ["a", " ", "1", "2", " b"]);
    }
}
