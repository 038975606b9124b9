//! The splitter behind most patterns: contractions, words, numbers, punctuation, white space, in this order.
//!
//! GPT-2's regular expression started a family; its members differ in a few details, which are the fields here.
//! Sources: the `pattern` of published `tokenizer.json` files.

use crate::text::unicode::{ClassSet, Classes, LETTER, LOWERCASE, MARK, NUMBER, PUNCTUATION, SPACE, SYMBOL, UPPERCASE, is_han};

/// The details of one member of the family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WordRules {
    contractions: Contractions,
    before_word: BeforeWord,
    letters: Letters,
    numbers: Numbers,
    marks: Marks,
    after_punctuation: AfterPunctuation,
    white_space: WhiteSpace,
}

/// `'s 't 're 've 'm 'll 'd`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Contractions {
    Never,
    /// `'s|'t|'re|'ve|'m|'ll|'d`
    Lower,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
    AnyCase,
    /// As `AnyCase`, but only as the end of a word.
    AnyCaseAfterWord,
}

/// What one character before its letters a word may begin with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum BeforeWord {
    /// ` ?`
    Space,
    /// `[^\r\n\p{L}\p{N}]?`
    AnyButLineEnd,
    /// `[^\r\n\p{L}\p{P}\p{S}]?`, after the alternative ``[!-/:-@\[-`{-~][A-Za-z]+``.
    NoSymbol,
}

/// What a word is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Letters {
    /// `\p{L}+`
    Alone,
    /// `[\p{L}\p{M}]+`
    WithMarks,
    /// `U*L+` or else `U+L*`, where U is `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]` and L is `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`.
    Cased,
    /// As `Cased` without Chinese characters, whose runs are words before all else: `\p{Han}+`.
    CasedOrHan,
    /// `(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`
    Spaced,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Numbers {
    /// ` ?\p{N}+`
    WithSpace,
    /// `\p{N}{1,n}`
    UpTo(usize),
    /// They are cut off by an earlier step.
    Never,
}

/// What punctuation is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Marks {
    /// `[^\s\p{L}\p{N}]`
    AllElse,
    /// `[^\s\p{L}\p{M}\p{N}]`
    AllElseButAccents,
    /// `[\p{P}\p{S}]`
    Symbols,
}

/// What follows punctuation and belongs to it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum AfterPunctuation {
    Nothing,
    /// `[\r\n]*`
    LineEnds,
    /// `[\r\n/]*`
    LineEndsAndSlashes,
    /// `[\r\n/]?`
    OneLineEndOrSlash,
}

/// How white space is cut: all end with `\s+(?!\S)|\s+`, which leaves the last one before a word to it, but for `Powers`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum WhiteSpace {
    Plain,
    /// `\s*[\r\n]+` first.
    LineEnds,
    /// `[\r\n]` first.
    OneLineEnd,
    /// `\s*[\r\n]+`, then runs whose lengths are powers of two up to 512: `\s{512}(?!\S)|\s{256}(?!\S)|...|\s{1,2}(?!\S)|\s{1}`.
    Powers,
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(crate) const GPT2: WordRules = WordRules {
    contractions: Contractions::Lower,
    before_word: BeforeWord::Space,
    letters: Letters::Alone,
    numbers: Numbers::WithSpace,
    marks: Marks::AllElse,
    after_punctuation: AfterPunctuation::Nothing,
    white_space: WhiteSpace::Plain,
};

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(crate) const LLAMA3: WordRules = WordRules {
    contractions: Contractions::AnyCase,
    before_word: BeforeWord::AnyButLineEnd,
    letters: Letters::Alone,
    numbers: Numbers::UpTo(3),
    marks: Marks::AllElse,
    after_punctuation: AfterPunctuation::LineEnds,
    white_space: WhiteSpace::LineEnds,
};

/// [`LLAMA3`] with every digit alone: `\p{N}`.
pub(crate) const QWEN2: WordRules = WordRules { numbers: Numbers::UpTo(1), ..LLAMA3 };
/// [`QWEN2`] with accents as parts of words.
pub(crate) const QWEN35: WordRules = WordRules { letters: Letters::WithMarks, marks: Marks::AllElseButAccents, ..QWEN2 };
/// [`QWEN2`] without contractions.
pub(crate) const UFAKZEKA: WordRules = WordRules { contractions: Contractions::Never, ..QWEN2 };
/// [`QWEN2`] with line ends apart from punctuation.
pub(crate) const SEED_CODER: WordRules = WordRules { after_punctuation: AfterPunctuation::Nothing, ..QWEN2 };
/// [`LLAMA3`] with numbers of any length.
pub(crate) const MINICPM5: WordRules = WordRules { numbers: Numbers::UpTo(usize::MAX), ..LLAMA3 };
/// [`LLAMA3`] with white space cut by powers of two.
pub(crate) const JAIS2: WordRules = WordRules { white_space: WhiteSpace::Powers, ..LLAMA3 };
/// OpenAI's `o200k`.
pub(crate) const GPT4O: WordRules = WordRules {
    contractions: Contractions::AnyCaseAfterWord,
    letters: Letters::Cased,
    after_punctuation: AfterPunctuation::LineEndsAndSlashes,
    ..LLAMA3
};
/// [`GPT4O`] with every digit alone.
pub(crate) const YOUTU: WordRules = WordRules { numbers: Numbers::UpTo(1), ..GPT4O };
/// [`YOUTU`] without contractions.
pub(crate) const TEKKEN: WordRules = WordRules { contractions: Contractions::Never, ..YOUTU };
/// [`GPT4O`] with Chinese characters apart.
pub(crate) const KIMI_K2: WordRules = WordRules { letters: Letters::CasedOrHan, after_punctuation: AfterPunctuation::LineEnds, ..GPT4O };
/// [`QWEN2`] with words that go on after a space.
pub(crate) const EXAONE_MOE: WordRules =
    WordRules { letters: Letters::Spaced, after_punctuation: AfterPunctuation::OneLineEndOrSlash, ..QWEN2 };
/// DeepSeek's, which leaves numbers and controls between words whole.
pub(crate) const DEEPSEEK3: WordRules = WordRules {
    contractions: Contractions::Never,
    before_word: BeforeWord::NoSymbol,
    letters: Letters::WithMarks,
    numbers: Numbers::Never,
    marks: Marks::Symbols,
    after_punctuation: AfterPunctuation::LineEnds,
    white_space: WhiteSpace::LineEnds,
};
/// [`DEEPSEEK3`] with every line end alone.
pub(crate) const SPARK: WordRules =
    WordRules { after_punctuation: AfterPunctuation::Nothing, white_space: WhiteSpace::OneLineEnd, ..DEEPSEEK3 };

impl WordRules {
    /// Bytes of the first piece of `text`, which is not empty: a word, or all before the first one.
    pub(super) fn next(&self, classes: &Classes, text: &str) -> usize {
        if let Some(end) = self.first(Text { text, classes }) {
            return end;
        }
        let mut starts = text.char_indices().skip(1).map(|(at, _)| at);
        starts.find(|&at| self.first(Text { text: &text[at..], classes }).is_some()).unwrap_or(text.len())
    }

    /// Where the word at the start of `text` ends, by the first alternative that takes any of it.
    fn first(&self, text: Text<'_>) -> Option<usize> {
        let (first, class) = text.at(0);
        let contracts = first == '\'' && matches!(self.contractions, Contractions::Lower | Contractions::AnyCase);
        let contraction = if contracts { self.contraction(text.text) } else { None };
        let word = contraction.or_else(|| self.word(text)).or_else(|| self.number(text)).or_else(|| self.punctuation(text));
        word.or_else(|| (class & SPACE != 0).then(|| self.white_space(text)))
    }

    /// `'s|'t|'re|'ve|'m|'ll|'d`. Case folding knows a third form of one of these letters: U+017F, the long s.
    fn contraction(&self, text: &str) -> Option<usize> {
        let any_case = self.contractions != Contractions::Lower;
        let mut chars = text.strip_prefix('\'')?.chars().map(|c| match c {
            'ſ' if any_case => 's',
            c if any_case => c.to_ascii_lowercase(),
            c => c,
        });
        let length = match (chars.next()?, chars.next()) {
            ('s', _) => 1 + text.chars().nth(1)?.len_utf8(),
            ('t' | 'm' | 'd', _) => 2,
            ('r' | 'v', Some('e')) | ('l', Some('l')) => 3,
            _ => return None,
        };
        Some(length)
    }

    fn word(&self, text: Text<'_>) -> Option<usize> {
        let (first, class) = text.at(0);
        if self.letters == Letters::CasedOrHan && is_han(first) {
            return text.run(0, |c, _| is_han(c));
        }
        let is_prefix = match self.before_word {
            BeforeWord::Space => first == ' ',
            BeforeWord::AnyButLineEnd => !is_line_end(first) && class & (LETTER | NUMBER) == 0,
            BeforeWord::NoSymbol => !is_line_end(first) && class & (LETTER | PUNCTUATION | SYMBOL) == 0,
        };
        if self.before_word == BeforeWord::NoSymbol && first.is_ascii_punctuation() {
            return text.run(1, |c, _| c.is_ascii_alphabetic());
        }
        let prefix = if is_prefix { first.len_utf8() } else { 0 };
        let starts = [prefix, 0]; // an accent may be the prefix, or else the first letter
        let end = match self.letters {
            Letters::Alone => text.run(prefix, |_, class| class & LETTER != 0),
            Letters::WithMarks => starts.into_iter().find_map(|at| text.run(at, |_, class| class & (LETTER | MARK) != 0)),
            Letters::Spaced => text.spaced_letters(prefix),
            Letters::Cased | Letters::CasedOrHan => {
                let lower_end = starts.into_iter().find_map(|at| self.ends_lower(text, at));
                lower_end.or_else(|| starts.into_iter().find_map(|at| self.begins_upper(text, at)))
            }
        }?;
        if self.contractions != Contractions::AnyCaseAfterWord {
            return Some(end);
        }
        Some(end + self.contraction(&text.text[end..]).unwrap_or(0))
    }

    /// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
    fn is_upper(&self, c: char, class: ClassSet) -> bool {
        class & (LETTER | MARK) != 0 && class & LOWERCASE == 0 && self.is_cased(c)
    }

    /// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
    fn is_lower(&self, c: char, class: ClassSet) -> bool {
        class & (LETTER | MARK) != 0 && class & UPPERCASE == 0 && self.is_cased(c)
    }

    fn is_cased(&self, c: char) -> bool {
        self.letters != Letters::CasedOrHan || !is_han(c)
    }

    /// `U*L+` from byte `start` on. What is both in U and in L goes to U as far as one is left for L.
    fn ends_lower(&self, text: Text<'_>, start: usize) -> Option<usize> {
        let upper = text.run(start, |c, class| self.is_upper(c, class)).unwrap_or(start);
        text.run(upper, |c, class| self.is_lower(c, class)).or_else(|| {
            let both = text.text[start..upper].char_indices().rev().find(|&(_, c)| self.is_lower(c, text.classes.of(c)));
            both.map(|(at, c)| start + at + c.len_utf8())
        })
    }

    /// `U+L*` from byte `start` on.
    fn begins_upper(&self, text: Text<'_>, start: usize) -> Option<usize> {
        let upper = text.run(start, |c, class| self.is_upper(c, class))?;
        Some(text.run(upper, |c, class| self.is_lower(c, class)).unwrap_or(upper))
    }

    fn number(&self, text: Text<'_>) -> Option<usize> {
        let is_number = |_, class| class & NUMBER != 0;
        match self.numbers {
            Numbers::WithSpace => text.run(usize::from(text.at(0).0 == ' '), is_number),
            Numbers::UpTo(n) => {
                let numbers = text.text.chars().take(n).take_while(|&c| is_number(c, text.classes.of(c)));
                Some(numbers.map(char::len_utf8).sum()).filter(|&end| end > 0)
            }
            Numbers::Never => None,
        }
    }

    /// ` ?` and punctuation, with what belongs to it.
    fn punctuation(&self, text: Text<'_>) -> Option<usize> {
        let start = usize::from(text.at(0).0 == ' ');
        let end = match self.marks {
            Marks::AllElse => text.run(start, |_, class| class & (SPACE | LETTER | NUMBER) == 0),
            Marks::AllElseButAccents => text.run(start, |_, class| class & (SPACE | LETTER | NUMBER | MARK) == 0),
            Marks::Symbols => text.run(start, |_, class| class & (PUNCTUATION | SYMBOL) != 0),
        }?;
        let after = match self.after_punctuation {
            AfterPunctuation::Nothing => None,
            AfterPunctuation::LineEnds => text.run(end, |c, _| is_line_end(c)),
            AfterPunctuation::LineEndsAndSlashes => text.run(end, |c, _| is_line_end(c) || c == '/'),
            AfterPunctuation::OneLineEndOrSlash => text.text[end..].starts_with(['\r', '\n', '/']).then_some(end + 1),
        };
        Some(after.unwrap_or(end))
    }

    /// White space at the start of `text`, where there is some.
    fn white_space(&self, text: Text<'_>) -> usize {
        let end = text.run(0, |_, class| class & SPACE != 0).unwrap_or(text.text.len());
        let run = &text.text[..end];
        match self.white_space {
            WhiteSpace::OneLineEnd if run.starts_with(is_line_end) => return 1,
            WhiteSpace::LineEnds | WhiteSpace::Powers => {
                if let Some(last) = run.rfind(is_line_end) {
                    return last + 1;
                }
            }
            _ => {}
        }
        let last = run.char_indices().next_back().map_or(0, |(at, _)| at);
        let free = if end == text.text.len() || last == 0 { end } else { last };
        if self.white_space == WhiteSpace::Powers { power_of_two(&run[..free]) } else { free }
    }
}

/// Bytes of the longest start of `run` with 1, 2, 4, ... or 512 characters.
fn power_of_two(run: &str) -> usize {
    let n = run.chars().take(512).count();
    let taken = n.checked_ilog2().map_or(0, |log| 1 << log);
    run.chars().take(taken).map(char::len_utf8).sum()
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// The text from the start of a piece on, with the classes of its characters.
#[derive(Clone, Copy)]
struct Text<'a> {
    text: &'a str,
    classes: &'a Classes,
}

impl Text<'_> {
    /// The character at byte `at`, with its classes; U+0000 at the end.
    fn at(self, at: usize) -> (char, ClassSet) {
        let c = self.text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or_default();
        (c, self.classes.of(c))
    }

    /// Where the run of characters that `belongs` accepts ends, if at byte `start` there is one.
    fn run(self, start: usize, mut belongs: impl FnMut(char, ClassSet) -> bool) -> Option<usize> {
        let rest = self.text.get(start..)?;
        let end = rest.char_indices().find(|&(_, c)| !belongs(c, self.classes.of(c))).map_or(rest.len(), |(at, _)| at);
        (end > 0).then_some(start + end)
    }

    /// Letters, each with its accents, that begin at byte `start`; single spaces may lie between them.
    fn spaced_letters(self, start: usize) -> Option<usize> {
        let is_letter = |at| self.at(at).1 & LETTER != 0;
        let mut end = start;
        while is_letter(end) || (end > start && self.at(end).0 == ' ' && is_letter(end + 1)) {
            end += usize::from(self.at(end).0 == ' ');
            end += self.at(end).0.len_utf8();
            end = self.run(end, |_, class| class & MARK != 0).unwrap_or(end);
        }
        (end > start).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Step, tests::pieces};
    use super::*;

    fn words(rules: WordRules, text: &str) -> Vec<String> {
        pieces(vec![Step::Words(rules)], text)
    }

    #[test]
    fn gpt2() {
        assert_eq!(words(GPT2, "I'll  go, 123 x'S\n\n y "), ["I", "'ll", " ", " go", ",", " 123", " x", "'", "S", "\n\n", " y", " "]);
        assert_eq!(words(GPT2, "a\n b\u{a0}c"), ["a", "\n", " b", "\u{a0}", "c"]);
        assert_eq!(words(GPT2, "'re're'r"), ["'re", "'re", "'", "r"]);
    }

    #[test]
    fn llama3() {
        assert_eq!(words(LLAMA3, "I'LL (go) 12345\tx"), ["I", "'LL", " (", "go", ")", " ", "123", "45", "\tx"]);
        assert_eq!(words(LLAMA3, "a!\r\n\n  \n  b \n"), ["a", "!\r\n\n", "  \n", " ", " b", " \n"]);
        assert_eq!(words(LLAMA3, "it'\u{17f} 'hello"), ["it", "'\u{17f}", " '", "hello"]);
        assert_eq!(words(LLAMA3, "'hello 'S"), ["'hello", " '", "S"]);
    }

    #[test]
    fn qwen2_takes_digits_one_by_one() {
        assert_eq!(words(QWEN2, "v12 ½"), ["v", "1", "2", " ", "½"]);
    }

    #[test]
    fn marks_are_punctuation_and_line_separators_are_spaces() {
        assert_eq!(words(LLAMA3, "e\u{301}x\u{2028}\u{85}y"), ["e", "\u{301}x", "\u{2028}", "\u{85}y"]);
    }
}
