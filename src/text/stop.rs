//! Stop strings in a stream: text that could become one is held back, so that no part of a stop string is ever shown.
//!
//! The generation loop runs its text through a [`StopMatcher`] after the detokenizer. Each stop string is followed by the
//! algorithm of Knuth, Morris and Pratt, so that the work per byte does not depend on how the text was cut.

use crate::error::Result;
use crate::fail;
use crate::text::limits::{MAX_STOP_BYTES, MAX_STOPS};
use std::sync::Arc;

/// The stop strings of a generation, validated.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Arc<[Stop]>,
}

#[derive(Debug)]
struct Stop {
    text: Box<[u8]>,
    /// `border[n]`: length of the longest proper prefix of `text[..n]` that is also its suffix; (text.len() + 1)
    border: Box<[usize]>,
}

impl StopStrings {
    /// The stop strings `texts`, known from here on by their index.
    ///
    /// # Errors
    /// `InvalidArgument` if one is empty or longer than [`MAX_STOP_BYTES`], or there are more than [`MAX_STOPS`].
    pub fn new(texts: Vec<String>) -> Result<Self> {
        if texts.len() > MAX_STOPS {
            fail!(InvalidArgument, "{} stop strings, expected {MAX_STOPS} at most", texts.len());
        }
        for (i, text) in texts.iter().enumerate() {
            if text.is_empty() {
                fail!(InvalidArgument, "stop string {i} is empty: it would stop before the first token");
            }
            if text.len() > MAX_STOP_BYTES {
                fail!(InvalidArgument, "stop string {i} has {} bytes, expected {MAX_STOP_BYTES} at most", text.len());
            }
        }
        Ok(Self { stops: texts.into_iter().map(|text| Stop::new(text.into_bytes().into())).collect() })
    }

    /// A matcher at the start of a text.
    pub fn matcher(&self) -> StopMatcher {
        StopMatcher { stops: self.stops.clone(), matched: vec![0; self.stops.len()], held: String::new() }
    }
}

impl Stop {
    fn new(text: Box<[u8]>) -> Self {
        let mut stop = Self { border: vec![0; text.len() + 1].into(), text };
        for n in 1..stop.text.len() {
            stop.border[n + 1] = stop.advance(stop.border[n], stop.text[n]);
        }
        stop
    }

    /// How much of the stop string is matched when `byte` follows `matched` bytes of it, which are not all of it.
    fn advance(&self, mut matched: usize, byte: u8) -> usize {
        while matched > 0 && self.text[matched] != byte {
            matched = self.border[matched];
        }
        matched + usize::from(self.text[matched] == byte)
    }
}

/// The state of one stream.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Arc<[Stop]>,
    /// Per stop string: how many bytes of it the text ends with; (n_stops)
    matched: Vec<usize>,
    /// The end of the text that was not given out yet, because a stop string may begin in it.
    held: String,
}

impl StopMatcher {
    /// Takes the next piece of text and appends to `out` what is certainly not part of a stop string.
    ///
    /// Returns the index of the stop string that is complete first (of several that end at the same place, the longest).
    /// `out` then ends before it, the text after it is dropped, and the matcher is at the start of a new text.
    /// The result depends on the text only, not on how it is cut into pieces.
    pub fn push(&mut self, text: &str, out: &mut String) -> Option<usize> {
        let n_before = self.held.len();
        self.held.push_str(text);
        for end in n_before..self.held.len() {
            if let Some(stop) = self.advance(self.held.as_bytes()[end]) {
                let start = end + 1 - self.stops[stop].text.len();
                out.push_str(&self.held[..start]);
                self.reset();
                return Some(stop);
            }
        }
        // A match begins with a first byte of a character, as the stop string does: this is a character border.
        let n_sure = self.held.len() - self.matched.iter().max().unwrap_or(&0);
        out.extend(self.held.drain(..n_sure));
        None
    }

    /// Appends to `out` what was held back: the text has ended, so no stop string can follow.
    pub fn flush(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.reset();
    }

    fn reset(&mut self) {
        self.held.clear();
        self.matched.fill(0);
    }

    /// Lets every stop string see `byte`; the longest one that is complete with it.
    fn advance(&mut self, byte: u8) -> Option<usize> {
        let mut complete: Option<usize> = None;
        for (i, (stop, matched)) in self.stops.iter().zip(&mut self.matched).enumerate() {
            *matched = stop.advance(*matched, byte);
            let longer = complete.is_none_or(|c| stop.text.len() > self.stops[c].text.len());
            if *matched == stop.text.len() && longer {
                complete = Some(i);
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    fn stops(texts: &[&str]) -> StopStrings {
        StopStrings::new(texts.iter().map(|&s| s.to_owned()).collect()).unwrap()
    }

    /// All of `pieces`, as a host sees them: the text and the stop string that ended it.
    fn run<'a>(stops: &StopStrings, pieces: impl IntoIterator<Item = &'a str>) -> (String, Option<usize>) {
        let (mut matcher, mut out) = (stops.matcher(), String::new());
        for piece in pieces {
            if let Some(stop) = matcher.push(piece, &mut out) {
                return (out, Some(stop));
            }
        }
        matcher.flush(&mut out);
        (out, None)
    }

    /// The definition, without any cleverness: the first end at which some stop string ends, the longest of them.
    fn naive(stops: &[String], text: &str) -> (String, Option<usize>) {
        for end in text.char_indices().map(|(i, c)| i + c.len_utf8()) {
            let complete = (0..stops.len()).filter(|&i| text[..end].ends_with(stops[i].as_str()));
            if let Some(stop) = complete.max_by_key(|&i| (stops[i].len(), std::cmp::Reverse(i))) {
                return (text[..end - stops[stop].len()].to_owned(), Some(stop));
            }
        }
        (text.to_owned(), None)
    }

    #[test]
    fn overlapping_prefixes_are_found() {
        assert_eq!(run(&stops(&["aab"]), ["a", "a", "a", "b", "c"]), ("a".into(), Some(0)));
        assert_eq!(run(&stops(&["abcd", "bc"]), ["xabcd"]), ("xa".into(), Some(1)));
        assert_eq!(run(&stops(&["c", "abc"]), ["xab", "c"]), ("x".into(), Some(1)));
        assert_eq!(run(&stops(&["\n\n"]), ["a\n", "b\n", "\nc"]), ("a\nb".into(), Some(0)));
    }

    #[test]
    fn only_what_may_become_a_stop_is_held_back() {
        let (mut matcher, mut out) = (stops(&["<|end|>"]).matcher(), String::new());
        for (piece, seen) in [("hi <", "hi "), ("|e", "hi "), ("x", "hi <|ex"), ("<|end|", "hi <|ex")] {
            assert_eq!(matcher.push(piece, &mut out), None);
            assert_eq!(out, seen);
        }
        matcher.flush(&mut out);
        assert_eq!(out, "hi <|ex<|end|");
    }

    #[test]
    fn characters_are_never_cut() {
        // U+00E9 and U+00E8 share their first byte, which must not be enough to hold a half character back.
        let (mut matcher, mut out) = (stops(&["é!"]).matcher(), String::new());
        assert_eq!(matcher.push("è", &mut out), None);
        assert_eq!(out, "è");
        assert_eq!(matcher.push("aé", &mut out), None);
        assert_eq!(out, "èa");
        assert_eq!(matcher.push("!z", &mut out), Some(0));
        assert_eq!(out, "èa");
    }

    #[test]
    fn no_stop_strings_hold_nothing_back() {
        assert_eq!(run(&stops(&[]), ["a", "b"]), ("ab".into(), None));
    }

    #[test]
    fn senseless_stop_strings_are_refused() {
        for texts in [vec![String::new()], vec!["x".repeat(MAX_STOP_BYTES + 1)], vec!["x".into(); MAX_STOPS + 1]] {
            assert_eq!(StopStrings::new(texts).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }

    proptest! {
        #[test]
        fn equals_the_definition_for_any_cut(
            texts in prop::collection::vec("[abé]{1,5}", 0..4),
            pieces in prop::collection::vec("[abé]{0,6}", 0..8),
        ) {
            let compiled = StopStrings::new(texts.clone()).unwrap();
            prop_assert_eq!(run(&compiled, pieces.iter().map(String::as_str)), naive(&texts, &pieces.concat()));
        }
    }
}
