//! Splitters that isolate runs of one kind of character and leave what lies between them whole.
//!
//! They come before or after the word rules in pre-tokenizers that are published as a sequence.

use crate::text::unicode::{ClassSet, Classes, LETTER, LOWERCASE, NUMBER, PUNCTUATION, UPPERCASE};

/// A run of characters of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Runs {
    pub(super) kind: CharKind,
    /// One character before the run may belong to it.
    pub(super) before: Before,
    /// A longer run is cut after so many characters, `usize::MAX` for never.
    pub(super) at_most: usize,
    /// Fewer characters than this are no run.
    pub(super) at_least: usize,
    /// The run must end the text: `$`.
    pub(super) at_end: bool,
}

/// What may stand before a run and belong to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Before {
    Nothing,
    /// ` ?`
    Space,
    /// `\s?`
    WhiteSpace,
}

/// The kinds of character that published patterns single out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CharKind {
    /// `\p{N}`
    Number,
    /// `\p{L}`
    Letter,
    /// `[0-9]`
    AsciiDigit,
    /// `\n`
    NewLine,
    /// `[\r\n]`
    LineEnd,
    /// `\s`
    WhiteSpace,
    /// ``[\p{P}$+<=>^~|`]``: Unicode's punctuation and ASCII's.
    Punctuation,
    /// `[\p{P}$+<=>^~|]`: as `Punctuation` without the grave accent.
    PunctuationButGrave,
    /// `\p{P}`
    UnicodePunctuation,
    /// `[^(\s|.,!?…。，、।۔،)]`: as BLOOM wrote it; the parentheses and the bar are members.
    BloomWord,
    /// Letters that have a case: `[\p{Lu}\p{Ll}\p{Lt}]`.
    CasedLetter,
    /// ``[!-/:-~！-／：-～‘-‟　-。]``: as DeepSeek wrote it; the range `:-~` includes ASCII letters.
    DeepSeekPunctuation,
    /// `[一-龥ࠀ-一가-퟿]`
    DeepSeekIdeograph,
    /// What lies in these ranges, first and last.
    OneOf(&'static [(char, char)]),
}

impl CharKind {
    fn contains(self, c: char, class: ClassSet) -> bool {
        match self {
            Self::Number => class & NUMBER != 0,
            Self::Letter => class & LETTER != 0,
            Self::AsciiDigit => c.is_ascii_digit(),
            Self::NewLine => c == '\n',
            Self::LineEnd => matches!(c, '\r' | '\n'),
            Self::WhiteSpace => c.is_whitespace(),
            Self::Punctuation => class & PUNCTUATION != 0 || c.is_ascii_punctuation(),
            Self::PunctuationButGrave => class & PUNCTUATION != 0 || (c.is_ascii_punctuation() && c != '`'),
            Self::UnicodePunctuation => class & PUNCTUATION != 0,
            Self::BloomWord => !c.is_whitespace() && !"(|.,!?…。，、।۔،)".contains(c),
            Self::OneOf(ranges) => ranges.iter().any(|&(first, last)| (first..=last).contains(&c)),
            Self::CasedLetter => class & (UPPERCASE | LOWERCASE) != 0,
            Self::DeepSeekPunctuation => {
                matches!(c, '!'..='/' | ':'..='~' | '！'..='／' | '：'..='～' | '‘'..='‟' | '\u{3000}'..='。')
            }
            Self::DeepSeekIdeograph => matches!(c, 'ࠀ'..='龥' | '가'..='\u{d7ff}'),
        }
    }
}

impl Runs {
    /// Runs of `kind`, as long as they are.
    pub(crate) const fn of(kind: CharKind) -> Self {
        Self { kind, before: Before::Nothing, at_most: usize::MAX, at_least: 1, at_end: false }
    }

    /// Bytes of the first piece of `text`, which is not empty: a run, or all before the first one.
    pub(super) fn next(&self, classes: &Classes, text: &str) -> usize {
        if let Some(end) = self.run(classes, text) {
            return end;
        }
        let starts = text.char_indices().skip(1).map(|(at, _)| at);
        // A run that must reach the end is tried at its first character only, or white space would cost quadratic time.
        let mut starts = starts.filter(|&at| !self.at_end || !self.ends_inside(classes, &text[..at]));
        starts.find(|&at| self.run(classes, &text[at..]).is_some()).unwrap_or(text.len())
    }

    fn ends_inside(&self, classes: &Classes, before: &str) -> bool {
        before.chars().next_back().is_some_and(|c| self.kind.contains(c, classes.of(c)))
    }

    /// Where the run at the start of `text` ends, if there is one.
    fn run(&self, classes: &Classes, text: &str) -> Option<usize> {
        let first = text.chars().next()?;
        let belongs = match self.before {
            Before::Nothing => false,
            Before::Space => first == ' ',
            Before::WhiteSpace => first.is_whitespace(),
        };
        let space = if belongs { first.len_utf8() } else { 0 };
        // The space is optional: it may itself be the first character of the run.
        self.run_after(space, classes, text).or_else(|| if space > 0 { self.run_after(0, classes, text) } else { None })
    }

    fn run_after(&self, start: usize, classes: &Classes, text: &str) -> Option<usize> {
        let (mut n, mut end) = (0, start);
        for c in text[start..].chars().take(self.at_most) {
            if !self.kind.contains(c, classes.of(c)) {
                break;
            }
            (n, end) = (n + 1, end + c.len_utf8());
        }
        (n >= self.at_least && (!self.at_end || end == text.len())).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Step, tests::pieces};
    use super::*;

    fn isolate(runs: Runs, text: &str) -> Vec<String> {
        pieces(vec![Step::Runs(runs)], text)
    }

    #[test]
    fn runs_are_isolated_and_gaps_stay_whole() {
        let numbers = Runs::of(CharKind::Number);
        assert_eq!(isolate(numbers, "ab12 c½3"), ["ab", "12", " c", "½3"]);
        assert_eq!(isolate(Runs { at_most: 1, ..numbers }, "ab12"), ["ab", "1", "2"]);
        assert_eq!(isolate(Runs { at_most: 3, at_least: 3, ..numbers }, "12345x12"), ["123", "45x12"]);
    }

    #[test]
    fn a_space_before_belongs_to_the_run() {
        let letters = Runs { before: Before::WhiteSpace, ..Runs::of(CharKind::CasedLetter) };
        assert_eq!(isolate(letters, "é  b c中"), ["é", " ", " b", " c", "中"]);
        let punctuation = Runs { before: Before::WhiteSpace, ..Runs::of(CharKind::DeepSeekPunctuation) };
        assert_eq!(isolate(punctuation, "1\u{3000}1 。"), ["1", "\u{3000}", "1", " 。"]);
    }

    #[test]
    fn only_a_run_at_the_end_counts_where_it_must() {
        let spaces = Runs { at_end: true, ..Runs::of(CharKind::WhiteSpace) };
        assert_eq!(isolate(spaces, " a  b  "), [" a  b", "  "]);
        assert_eq!(isolate(spaces, " a"), [" a"]);
        assert_eq!(isolate(spaces, "  "), ["  "]);
    }
}
