//! The published pre-tokenizers: under which name GGUF files ask for them, under which pattern `tokenizer.json` does.

use super::runs::{Before, CharKind, Runs};
use super::words::{
    DEEPSEEK3, EXAONE_MOE, GPT2, GPT4O, JAIS2, KIMI_K2, LLAMA3, MINICPM5, QWEN2, QWEN35, SEED_CODER, SPARK, TEKKEN, UFAKZEKA, YOUTU,
};
use super::{PreTokenizer, Step};
use crate::error::{Error, ErrorKind, Result};
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

const fn up_to(at_most: usize, kind: CharKind) -> Step {
    Step::Runs(Runs { at_most, ..Runs::of(kind) })
}

const fn runs_after(before: Before, kind: CharKind) -> Step {
    Step::Runs(Runs { before, ..Runs::of(kind) })
}

/// `[0-9][0-9][0-9]`
const THREE_DIGITS: Step = Step::Runs(Runs { at_least: 3, at_most: 3, ..Runs::of(CharKind::AsciiDigit) });
/// `\s+$`
const TRAILING_SPACE: Step = Step::Runs(Runs { at_end: true, ..Runs::of(CharKind::WhiteSpace) });
/// `\p{N}`
const EACH_NUMBER: Step = up_to(1, CharKind::Number);
/// `\p{N}{1,3}`
const UP_TO_3_NUMBERS: Step = up_to(3, CharKind::Number);
/// `[\r\n]`
const EACH_LINE_END: Step = up_to(1, CharKind::LineEnd);
/// `\s?\p{L&}+`
const CASED_WORDS: Step = runs_after(Before::WhiteSpace, CharKind::CasedLetter);
/// `Punctuation` of `tokenizer.json`: runs of it.
pub(crate) const PUNCTUATION: Step = runs(CharKind::Punctuation);
/// ` ?[^(\s|.,!?…。，、।۔،)]+`
const BLOOM_WORDS: Step = runs_after(Before::Space, CharKind::BloomWord);
/// `[一-龥぀-ゟ゠-ヿ]+`
const IDEOGRAPHS_AND_KANA: Step = runs(CharKind::OneOf(&[('一', '龥'), ('぀', 'ゟ'), ('゠', 'ヿ')]));

/// The names are those that llama.cpp's converter writes; the steps are those of the models' own `tokenizer.json`.
const NAMED: &[Named] = &[
    plain(&["default"], &[runs(CharKind::PunctuationButGrave), Step::Words(GPT2), runs(CharKind::Number), THREE_DIGITS]),
    plain(
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "roberta-bpe",
            "gigachat",
            "mellum",
            "a.x-4.0",
            "modern-bert",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ],
        &[Step::Words(GPT2)],
    ),
    plain(
        &["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[EACH_NUMBER, Step::Words(GPT2)],
    ),
    Named {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        steps: &[Step::Words(LLAMA3)],
        ignore_merges: true,
        add_bos: true,
    },
    plain(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[Step::Words(LLAMA3)]),
    whole(&["glm4", "glm5"], &[Step::Words(LLAMA3)]),
    whole(&["minicpm5"], &[UP_TO_3_NUMBERS, Step::Words(MINICPM5)]),
    plain(&["jais-2"], &[Step::Words(JAIS2)]),
    plain(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "hunyuan",
            "megrez",
            "kormo",
            "f2llmv2",
            "grok-2",
            "solar-open",
            "bailingmoe",
            "bailingmoe2",
            "llada-moe",
        ],
        &[Step::Words(QWEN2)],
    ),
    plain(&["qwen35"], &[Step::Words(QWEN35)]),
    plain(&["laguna"], &[runs(CharKind::NewLine), Step::Words(QWEN2)]),
    plain(&["seed-coder"], &[Step::Words(SEED_CODER)]),
    plain(&["ufakzeka"], &[Step::Words(UFAKZEKA)]),
    plain(&["exaone-moe"], &[Step::Words(EXAONE_MOE)]),
    plain(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[Step::Words(GPT4O)]),
    whole(&["granite-embed-multi-97m"], &[Step::Words(GPT4O)]),
    Named { names: &["tekken"], steps: &[Step::Words(TEKKEN)], ignore_merges: true, add_bos: true },
    plain(&["kimi-k2"], &[Step::Words(KIMI_K2)]),
    whole(
        &["youtu"],
        &[
            runs(CharKind::OneOf(&[('가', '힣'), ('ㄱ', 'ㆎ')])),
            runs(CharKind::OneOf(&[
                ('！', '！'),
                ('…', '…'),
                ('“', '”'),
                ('‘', '’'),
                ('—', '—'),
                ('：', '；'),
                ('，', '，'),
                ('、', '〿'),
                ('︰', '﹏'),
            ])),
            runs(CharKind::OneOf(&[('ㄅ', 'ㄯ')])),
            IDEOGRAPHS_AND_KANA,
            Step::Words(YOUTU),
        ],
    ),
    plain(&["falcon"], &[PUNCTUATION, Step::Words(GPT2), THREE_DIGITS]),
    plain(&["bloom", "poro-chat", "gpt3-finnish"], &[BLOOM_WORDS]),
    plain(&["viking"], &[BLOOM_WORDS, EACH_NUMBER]),
    plain(&["superbpe"], &[runs(CharKind::Number), Step::ByThousands]),
    plain(
        &["deepseek-llm"],
        &[
            EACH_LINE_END,
            CASED_WORDS,
            runs_after(Before::WhiteSpace, CharKind::DeepSeekPunctuation),
            TRAILING_SPACE,
            runs(CharKind::DeepSeekIdeograph),
            runs(CharKind::Number),
        ],
    ),
    plain(
        &["deepseek-coder"],
        &[
            EACH_LINE_END,
            runs_after(Before::WhiteSpace, CharKind::Letter),
            runs_after(Before::WhiteSpace, CharKind::UnicodePunctuation),
            runs(CharKind::DeepSeekIdeograph),
            EACH_NUMBER,
        ],
    ),
    plain(&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], &[UP_TO_3_NUMBERS, IDEOGRAPHS_AND_KANA, Step::Words(DEEPSEEK3)]),
    plain(&["spark2_5"], &[UP_TO_3_NUMBERS, IDEOGRAPHS_AND_KANA, Step::Words(SPARK), EACH_NUMBER]),
];

const fn plain(names: &'static [&'static str], steps: &'static [Step]) -> Named {
    Named { names, steps, ignore_merges: false, add_bos: false }
}

/// As `plain`, with words that are tokens kept whole.
const fn whole(names: &'static [&'static str], steps: &'static [Step]) -> Named {
    Named { names, steps, ignore_merges: true, add_bos: false }
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

/// The pre-tokenizer `name` that a host asks for in place of the file's own.
///
/// # Errors
/// `InvalidArgument`, naming option and value.
pub(crate) fn from_option(name: &str) -> Result<&'static Named> {
    from_name(name).map_err(|e| Error::new(ErrorKind::InvalidArgument, format!("option \"pre_tokenizer\": {}", e.message())))
}

/// Patterns of `Split` in published `tokenizer.json` files, letter by letter, each with the step that equals it.
const PATTERNS: &[(&str, Step)] = &[
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", Step::Words(GPT2)),
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", Step::Words(GPT2)),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Step::Words(LLAMA3),
    ),
    (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", Step::Words(QWEN2)),
    (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+", Step::Words(QWEN2)),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Step::Words(MINICPM5),
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Step::Words(QWEN35),
    ),
    (r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", Step::Words(UFAKZEKA)),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
        Step::Words(SEED_CODER),
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}",
        Step::Words(JAIS2),
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        Step::Words(EXAONE_MOE),
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Step::Words(GPT4O),
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Step::Words(YOUTU),
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Step::Words(TEKKEN),
    ),
    (
        r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Step::Words(KIMI_K2),
    ),
    (
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
        Step::Words(DEEPSEEK3),
    ),
    (
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\r\n]|\\s+(?!\\S)|\\s+",
        Step::Words(SPARK),
    ),
    (r"[\p{P}\$\+<=>\^~\|`]+", PUNCTUATION),
    (r"[\p{P}\$\+<=>\^~\|]+", runs(CharKind::PunctuationButGrave)),
    (r"\p{N}+", runs(CharKind::Number)),
    (r"\p{N}", EACH_NUMBER),
    (r"\p{N}{1,3}", UP_TO_3_NUMBERS),
    ("[0-9][0-9][0-9]", THREE_DIGITS),
    (r"\s+$", TRAILING_SPACE),
    ("[\r\n]", EACH_LINE_END),
    (r"[^\n]+|[\n]+", runs(CharKind::NewLine)),
    (r"\s?\p{L}+", runs_after(Before::WhiteSpace, CharKind::Letter)),
    (r"\s?\p{P}+", runs_after(Before::WhiteSpace, CharKind::UnicodePunctuation)),
    ("\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+", runs_after(Before::WhiteSpace, CharKind::DeepSeekPunctuation)),
    ("[一-龥ࠀ-一가-\u{d7ff}]+", runs(CharKind::DeepSeekIdeograph)),
    ("[一-龥\u{3040}-ゟ゠-ヿ]+", IDEOGRAPHS_AND_KANA),
    (r" ?[^(\s|.,!?…。，、।۔،)]+", BLOOM_WORDS),
    (r" ?[^(\s|[.,!?…。，、।۔،])]+", BLOOM_WORDS),
    (r"(?=(\d{3})+(?!\d))", Step::ByThousands),
];

/// How DeepSeek's list of every letter that has a case begins and ends; what is between comes in two Unicode normal forms.
const DEEPSEEK_LETTERS: (&str, &str) = (r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿ", "𑢠-𑣟𞤀-𞥃]+");

/// The splitter that equals the regular expression `pattern`.
///
/// # Errors
/// `Unsupported`, quoting it.
pub(crate) fn from_pattern(pattern: &str) -> Result<Step> {
    match PATTERNS.iter().find(|(known, _)| *known == pattern) {
        Some(&(_, step)) => Ok(step),
        None if pattern.starts_with(DEEPSEEK_LETTERS.0) && pattern.ends_with(DEEPSEEK_LETTERS.1) => Ok(CASED_WORDS),
        None => fail!(Unsupported, "pre-tokenizer pattern {pattern:?} is not known to this build"),
    }
}

/// `Digits` of `tokenizer.json`: numbers, or only ASCII digits, apart from all else, each digit alone if `individual`.
pub(crate) const fn digits(individual: bool, ascii: bool) -> Step {
    let kind = if ascii { CharKind::AsciiDigit } else { CharKind::Number };
    up_to(if individual { 1 } else { usize::MAX }, kind)
}

#[cfg(test)]
mod tests {
    use super::super::tests::pieces;
    use super::*;

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
        assert_eq!(pieces(vec![digits(true, false), Step::Words(GPT2)], "a 12 b"), ["a", " ", "1", "2", " b"]);
    }

    use crate::text::PreTokenizer;
    use crate::text::unicode::Classes;
    use proptest::prelude::*;
    use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, SplitDelimiterBehavior};

    /// Texts in which everything that a pattern looks at is likely.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[ a-zA-Z]{1,8}",
            "[ \t\r\n/\u{a0}\u{3000}\u{85}]{1,5}",
            "[0-9½²٣Ⅷ]{1,8}",
            "'(s|S|t|re|RE|ve|m|ll|LL|d|x|ſ)?",
            "[!-/:-@\\[-`{-~。，…、।‘]{1,4}",
            "[à-üÀ-ÞА-яا-ي\u{300}-\u{30f}ǅʰªं]{1,6}",
            "[一-丁々〇⺀가-깁ぁ-んァ-ンㄅㄱ]{1,4}",
            "[😀👍🏽\u{200d}\u{fe0f}\u{1}\u{ad}]{1,3}",
            ".{0,3}",
        ];
        prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
    }

    /// A step and its pattern cut the same pieces.
    #[test]
    fn every_step_equals_its_published_pattern() {
        let classes = Classes::new().unwrap();
        for (pattern, step) in PATTERNS {
            let split = Split::new(SplitPattern::Regex((*pattern).to_owned()), SplitDelimiterBehavior::Isolated, false).unwrap();
            let mut runner =
                prop::test_runner::TestRunner::new(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() });
            let same = |text: String| {
                let mut theirs = PreTokenizedString::from(text.as_str());
                split.pre_tokenize(&mut theirs).unwrap();
                let theirs = theirs.get_splits(OffsetReferential::Original, OffsetType::Byte);
                let theirs: Vec<_> = theirs.into_iter().map(|split| split.0).filter(|piece| !piece.is_empty()).collect();
                let mut ours = Vec::new();
                let mut each = |piece: &str| {
                    ours.push(piece.to_owned());
                    Ok(())
                };
                PreTokenizer { steps: vec![*step] }.split(&classes, &text, &mut each).unwrap();
                prop_assert_eq!(ours, theirs, "{:?}", text);
                Ok(())
            };
            runner.run(&texts(), same).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        }
    }

    /// So that the test above covers every name.
    #[test]
    fn every_named_step_has_a_pattern() {
        let has_pattern = |step: &Step| PATTERNS.iter().any(|(_, known)| known == step);
        // These have ranges of their own, or letters without a class for them.
        let own = |step: &Step| matches!(step, Step::Runs(Runs { kind: CharKind::OneOf(_) | CharKind::CasedLetter, .. }));
        for named in NAMED {
            assert!(named.steps.iter().all(|step| has_pattern(step) || own(step)), "{:?}", named.names);
        }
    }
}
