//! Cutting text into the words inside which byte-level BPE merges: hand-written splitters instead of regular expressions.
//!
//! For `encode`. A regex from a file could run for hours; these run in time linear in the text. `table` knows the
//! published names and patterns.

mod runs;
mod table;
mod words;

pub(super) use table::{Named, digits, from_name, from_pattern};
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
fn split(steps: &[Step], classes: &Classes, text: &str, each: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
    let Some((step, later)) = steps.split_first() else { return each(text) };
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
            Self::BeforeSpaces => {
                let spaces = text.len() - text.trim_start_matches(' ').len();
                text[spaces..].find(' ').map_or(text.len(), |n| spaces + n)
            }
            Self::BeforeSpace => text.char_indices().skip(1).find(|&(_, c)| c == ' ').map_or(text.len(), |(at, _)| at),
        }
    }
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
    fn no_steps_leave_the_text_whole() {
        assert_eq!(pieces(vec![], "a b"), ["a b"]);
        assert!(pieces(vec![Step::BeforeSpaces], "").is_empty());
    }
}
