//! BERT's normalisation and its cutting into words, whose result has one space in front of every word.
//!
//! Source: the behaviour of BERT's `BasicTokenizer` and of the `BertNormalizer` and `BertPreTokenizer` of `tokenizers`.

use super::try_string;
use crate::error::Result;
use crate::text::BertRules;
use crate::text::normalizer::out_of_memory;
use crate::text::unicode::Ranges;
use unicode_normalization::UnicodeNormalization;

/// The rules with the Unicode categories that they name.
pub(in crate::text) struct Bert {
    rules: BertRules,
    /// Cc, Cf, Co: dropped, but for those that are white space in ASCII.
    control: Ranges,
    /// Mn: accents, once a text is decomposed.
    accents: Ranges,
    punctuation: Ranges,
}

impl Bert {
    pub(super) fn new(rules: BertRules) -> Result<Self> {
        Ok(Self {
            rules,
            control: Ranges::new(r"[\p{Cc}\p{Cf}\p{Co}--[\t\n\r]]")?,
            accents: Ranges::new(r"\p{Mn}")?,
            punctuation: Ranges::new(r"[\p{P}!-/:-@\[-`{-~]")?,
        })
    }

    /// The words of `text`, each with a space in front.
    pub(super) fn apply(&self, text: &str) -> Result<String> {
        let mut words = Words { text: try_string(text.len().saturating_add(1))?, in_word: false };
        let chars = text.chars().filter(|&c| !self.is_dropped(c)).flat_map(|c| self.spaced(c));
        if self.rules.strip_accents {
            chars.nfd().filter(|&c| !self.accents.contains(c)).try_for_each(|c| self.push(&mut words, c))?;
        } else {
            chars.into_iter().try_for_each(|c| self.push(&mut words, c))?;
        }
        Ok(words.text)
    }

    fn is_dropped(&self, c: char) -> bool {
        self.rules.clean && (c == '\0' || c == char::REPLACEMENT_CHARACTER || self.control.contains(c))
    }

    /// `c`, between spaces if it is a word of its own before the text is decomposed.
    fn spaced(&self, c: char) -> impl Iterator<Item = char> + use<> {
        let is_word = self.rules.isolate_chinese && is_chinese(c);
        let space = is_word.then_some(' ');
        space.into_iter().chain([c]).chain(space)
    }

    fn push(&self, words: &mut Words, c: char) -> Result<()> {
        if !self.rules.lowercase {
            return self.push_cased(words, c);
        }
        c.to_lowercase().try_for_each(|c| self.push_cased(words, c))
    }

    fn push_cased(&self, words: &mut Words, c: char) -> Result<()> {
        if c.is_whitespace() {
            words.in_word = false;
            return Ok(());
        }
        let is_punctuation = self.punctuation.contains(c);
        words.in_word &= !is_punctuation;
        words.push(c)?;
        words.in_word = !is_punctuation;
        Ok(())
    }
}

/// Words on their way.
struct Words {
    text: String,
    /// The next character continues the last word.
    in_word: bool,
}

impl Words {
    fn push(&mut self, c: char) -> Result<()> {
        self.text.try_reserve(c.len_utf8() + 1).map_err(|_| out_of_memory())?;
        if !self.in_word {
            self.text.push(' ');
        }
        self.text.push(c);
        Ok(())
    }
}

/// The blocks of ideographs that BERT counts as Chinese. It leaves out U+2B820 to U+2B91F, and so must we.
fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2b73f | 0x2b740..=0x2b81f | 0x2b920..=0x2ceaf
        | 0xf900..=0xfaff | 0x2f800..=0x2fa1f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokenizers::normalizers::BertNormalizer;
    use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
    use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    fn apply(rules: BertRules, text: &str) -> String {
        Bert::new(rules).unwrap().apply(text).unwrap()
    }

    const UNCASED: BertRules = BertRules { clean: true, isolate_chinese: true, strip_accents: true, lowercase: true };
    const CASED: BertRules = BertRules { strip_accents: false, lowercase: false, ..UNCASED };

    #[test]
    fn words_come_with_one_space_in_front() {
        assert_eq!(apply(UNCASED, "  Äpfel\tund\u{200b} Birnen!! "), " apfel und birnen ! !");
        assert_eq!(apply(CASED, "Äpfel中文x"), " Äpfel 中 文 x");
        assert_eq!(apply(UNCASED, "\u{301}\u{fffd}\0 "), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        /// The publisher's code gives the same words, whatever the rules. It knows an older Unicode: characters that are in both.
        #[test]
        fn agrees_with_the_publishers_code(text in "([ -~]|[à-üİΑ-ω]|[一-丁가-깁𫠠豈]|[\\u{300}-\\u{303}ा]|[\\t\\n\\r\\x0b\\u{85}\\u{a0}\\u{200d}\\u{3000}。😀]|[\\u{1}-\\u{52f}]){0,24}",
                                           flags in any::<[bool; 4]>()) {
            let [clean, isolate_chinese, strip_accents, lowercase] = flags;
            let ours = apply(BertRules { clean, isolate_chinese, strip_accents, lowercase }, &text);
            let mut normalized = NormalizedString::from(text.as_str());
            BertNormalizer::new(clean, isolate_chinese, Some(strip_accents), lowercase).normalize(&mut normalized).unwrap();
            let mut words = PreTokenizedString::from(normalized.get());
            BertPreTokenizer.pre_tokenize(&mut words).unwrap();
            let splits = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let theirs: String = splits.iter().filter(|split| !split.0.is_empty()).map(|split| format!(" {}", split.0)).collect();
            prop_assert_eq!(ours, theirs);
        }
    }
}
