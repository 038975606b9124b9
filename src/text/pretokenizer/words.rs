//! The splitter behind most patterns: contractions, words, numbers, punctuation, white space, in this order.
//!
//! GPT-2's regular expression started a family; its members differ in a few details, which are the fields here.
//! Sources: the `pattern` of published `tokenizer.json` files.

use crate::text::unicode::{ClassSet, Classes, LETTER, NUMBER, SPACE};

/// The details of one member of the family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WordRules {
    /// `'s 't 're 've 'm 'll 'd` also in capitals: `(?i:...)`.
    any_case: bool,
    before_word: BeforeWord,
    numbers: Numbers,
    /// Line ends that follow punctuation belong to it, `[\r\n]*`, and others end a piece of white space, `\s*[\r\n]+`.
    line_ends: bool,
}

/// What one character before its letters a word may begin with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum BeforeWord {
    /// ` ?\p{L}+`
    Space,
    /// `[^\r\n\p{L}\p{N}]?\p{L}+`
    AnyButLineEnd,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Numbers {
    /// ` ?\p{N}+`
    WithSpace,
    /// `\p{N}{1,n}`
    UpTo(usize),
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(crate) const GPT2: WordRules =
    WordRules { any_case: false, before_word: BeforeWord::Space, numbers: Numbers::WithSpace, line_ends: false };

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(crate) const LLAMA3: WordRules =
    WordRules { any_case: true, before_word: BeforeWord::AnyButLineEnd, numbers: Numbers::UpTo(3), line_ends: true };

/// [`LLAMA3`] with every digit alone: `\p{N}`.
pub(crate) const QWEN2: WordRules = WordRules { numbers: Numbers::UpTo(1), ..LLAMA3 };

impl WordRules {
    /// Bytes of the first word of `text`, which is not empty. One of the alternatives takes any first character.
    pub(super) fn next(&self, classes: &Classes, text: &str) -> usize {
        let text = Text { text, classes };
        let (first, class) = text.at(0);
        let alternative = match first {
            '\'' => self.contraction(text.text).or_else(|| self.word(text)),
            _ => self.word(text),
        };
        let alternative = alternative.or_else(|| self.number(text)).or_else(|| self.punctuation(text));
        alternative.unwrap_or_else(|| if class & SPACE != 0 { self.white_space(text) } else { first.len_utf8() })
    }

    /// `'s|'t|'re|'ve|'m|'ll|'d`. Case folding knows a third form of one of these letters: U+017F, the long s.
    fn contraction(&self, text: &str) -> Option<usize> {
        let mut chars = text.chars().skip(1).map(|c| match c {
            'ſ' if self.any_case => 's',
            c if self.any_case => c.to_ascii_lowercase(),
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
        let may_precede = match self.before_word {
            BeforeWord::Space => first == ' ',
            BeforeWord::AnyButLineEnd => !is_line_end(first) && class & (LETTER | NUMBER) == 0,
        };
        let start = if may_precede { first.len_utf8() } else { 0 };
        text.run(start, |_, class| class & LETTER != 0)
    }

    fn number(&self, text: Text<'_>) -> Option<usize> {
        let is_number = |_, class| class & NUMBER != 0;
        match self.numbers {
            Numbers::WithSpace => text.run(usize::from(text.at(0).0 == ' '), is_number),
            Numbers::UpTo(n) => {
                let numbers = text.text.chars().take(n).take_while(|&c| is_number(c, text.classes.of(c)));
                Some(numbers.map(char::len_utf8).sum()).filter(|&end| end > 0)
            }
        }
    }

    /// ` ?[^\s\p{L}\p{N}]+`, and `[\r\n]*` where line ends belong to it.
    fn punctuation(&self, text: Text<'_>) -> Option<usize> {
        let end = text.run(usize::from(text.at(0).0 == ' '), |_, class| class & (SPACE | LETTER | NUMBER) == 0)?;
        if !self.line_ends {
            return Some(end);
        }
        Some(text.run(end, |c, _| is_line_end(c)).unwrap_or(end))
    }

    /// `\s*[\r\n]+` where line ends count, then `\s+(?!\S)`, then `\s+`: the last space before a word is left to it.
    fn white_space(&self, text: Text<'_>) -> usize {
        let end = text.run(0, |_, class| class & SPACE != 0).unwrap_or(text.text.len());
        let run = &text.text[..end];
        if self.line_ends
            && let Some(last) = run.rfind(is_line_end)
        {
            return last + 1;
        }
        let last = run.char_indices().next_back().map_or(0, |(at, _)| at);
        if end == text.text.len() || last == 0 { end } else { last }
    }
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
