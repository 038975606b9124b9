//! Cutting text into the words inside which byte-level BPE merges: hand-written splitters instead of regular expressions.
//!
//! For `encode`. A regex from a file could run for hours; these run in time linear in the text. `table` knows the
//! published names and patterns.

mod runs;
mod table;
mod words;

pub(super) use table::{Named, PUNCTUATION, digits, from_name, from_option, from_pattern};
pub(super) use words::GPT2;

use crate::error::Result;
use crate::text::unicode::Classes;
use runs::Runs;
use words::WordRules;

/// What one step cuts a piece into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// Words, numbers, punctuation and white space, by one of the rules in the tradition of GPT-2.
    Words(WordRules),
    /// Runs of one kind of character; what lies between them stays whole.
    Runs(Runs),
    /// Before each group of three digits, counted from the end of their run: `(?=(\d{3})+(?!\d))`.
    ByThousands,
    /// Before each run of spaces: no token of the vocabulary reaches across such a border, so cutting there changes nothing.
    BeforeSpaces,
    /// Before each space.
    BeforeSpace,
}

/// The steps of a published pre-tokenizer; each cuts the pieces of the one before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreTokenizer {
    pub(super) steps: Vec<Step>,
}

impl PreTokenizer {
    /// Calls `each` with the words of `text`, in order; together they are `text`.
    pub(super) fn split(&self, classes: &Classes, text: &str, each: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        split(&self.steps, classes, text, each)
    }
}

/// One level of recursion per step, of which there are fewer than ten.
fn split(steps: &[Step], classes: &Classes, text: &str, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let Some((step, later)) = steps.split_first() else { return each(text) };
    if *step == Step::ByThousands {
        return by_thousands(classes, text, &mut |piece| split(later, classes, piece, each));
    }
    let mut rest = text;
    while !rest.is_empty() {
        // A step that took nothing, or half a character, would be a bug here; taking all keeps it from looping for ever.
        let (piece, after) = rest.split_at_checked(step.next(classes, rest).max(1)).unwrap_or((rest, ""));
        split(later, classes, piece, each)?;
        rest = after;
    }
    Ok(())
}

impl Step {
    /// Bytes of the first piece of `text`, which is not empty.
    fn next(&self, classes: &Classes, text: &str) -> usize {
        match self {
            Self::Words(rules) => rules.next(classes, text),
            Self::Runs(runs) => runs.next(classes, text),
            Self::ByThousands => text.len(), // `split` does it
            Self::BeforeSpaces => {
                let spaces = text.len() - text.trim_start_matches(' ').len();
                text[spaces..].find(' ').map_or(text.len(), |n| spaces + n)
            }
            Self::BeforeSpace => text.char_indices().skip(1).find(|&(_, c)| c == ' ').map_or(text.len(), |(at, _)| at),
        }
    }
}

/// [`Step::ByThousands`], in one pass: the length of a run of digits decides where its first group ends.
fn by_thousands(classes: &Classes, text: &str, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let (mut rest, mut at) = (text, 0); // all before `at` belongs to the piece that `rest` begins with
    while let Some(start) = rest[at..].find(|c| classes.is_decimal(c)).map(|found| at + found) {
        let digits = rest[start..].chars().take_while(|&c| classes.is_decimal(c));
        let (mut n, mut end) = (digits.clone().count(), start);
        for c in digits {
            if n.is_multiple_of(3) && end > 0 {
                each(&rest[..end])?;
                (rest, end) = (&rest[end..], 0);
            }
            (n, end) = (n - 1, end + c.len_utf8());
        }
        at = end;
    }
    if rest.is_empty() { Ok(()) } else { each(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn pieces(steps: Vec<Step>, text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        let mut each = |piece: &str| {
            pieces.push(piece.to_owned());
            Ok(())
        };
        PreTokenizer { steps }.split(&Classes::new().unwrap(), text, &mut each).unwrap();
        pieces
    }

    #[test]
    fn spaces_begin_words() {
        assert_eq!(pieces(vec![Step::BeforeSpaces], "  a b  ç "), ["  a", " b", "  ç", " "]);
        assert_eq!(pieces(vec![Step::BeforeSpace], "  a é b"), [" ", " a", " é", " b"]);
        assert_eq!(pieces(vec![Step::BeforeSpace], "é"), ["é"]);
    }

    #[test]
    fn digits_are_grouped_from_the_end() {
        assert_eq!(pieces(vec![Step::ByThousands], "a1234567b12c123x"), ["a1", "234", "567b12c", "123x"]);
        assert_eq!(pieces(vec![Step::ByThousands], "123456"), ["123", "456"]);
    }

    #[test]
    fn no_steps_leave_the_text_whole() {
        assert_eq!(pieces(vec![], "a b"), ["a b"]);
        assert!(pieces(vec![Step::BeforeSpaces], "").is_empty());
    }
}
