//! Where something is in the text of a constraint: for errors, and for bounds on what parsers do by recursion.

use super::compile::refused;
use super::{ConstraintKind, ConstraintSource};
use crate::error::Result;

/// Groups inside each other: each takes some kilobytes of stack.
pub(super) const MAX_NESTING: u32 = 200;

/// Rules of a grammar: one that uses the next, and so on, is compiled by recursion.
const MAX_RULES: usize = 4_000;

/// Byte offset of a line and a column, which count from 1; columns in bytes.
pub(super) fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(text.len())
}

/// The byte offset that `message` of the compiler is about, 0 if it does not tell, and its first line.
pub(super) fn of(source: &ConstraintSource, message: &str) -> (usize, String) {
    let first = message.lines().next().unwrap_or_default();
    let text = source.text.as_str();
    match source.kind {
        ConstraintKind::Lark => match position(first) {
            Some((line, column, rest)) => (offset(text, line, column), rest.to_owned()),
            None => (0, first.to_owned()),
        },
        ConstraintKind::JsonSchema => (key(text, message), message.lines().collect::<Vec<_>>().join("; ")),
        // A place in the grammar that it was converted to means nothing to who wrote it.
        _ => (0, position(first).map_or(first, |(_, _, rest)| rest).to_owned()),
    }
}

/// Line, column and sentence of `at 3(14): sentence`, or without the `at`.
fn position(message: &str) -> Option<(usize, usize, &str)> {
    let (place, sentence) = message.split_once("): ")?;
    let (line, column) = place.strip_prefix("at ").unwrap_or(place).split_once('(')?;
    Some((line.parse().ok()?, column.parse().ok()?, sentence))
}

/// Where the key of a schema stands that `message` quotes, or a step of the path that it names; the rarest one, for it says most.
fn key(schema: &str, message: &str) -> usize {
    let words = message.split(['"', '\'', '/', ' ', '[', ']', ',', '`']).filter(|word| word.len() > 1);
    let found = words.filter_map(|word| {
        let quoted = format!("\"{word}\"");
        schema.find(&quoted).map(|at| (schema.matches(&quoted).count(), at))
    });
    found.min_by_key(|&(n, _)| n).map_or(0, |(_, at)| at)
}

/// A terminal of Lark: any text in which none of `marks` occurs, and which does not begin with `first`.
pub(in crate::text) fn any_text_but(marks: &[&str], first: Option<char>) -> String {
    let begins = first.map_or_else(|| "/(?s:.*)/".to_owned(), |c| format!("/([^\\x{{{:X}}}](?s:.*))?/", u32::from(c)));
    let escaped: Vec<String> = marks.iter().map(|mark| regex_syntax::escape(mark).replace('/', "\\/")).collect();
    if escaped.is_empty() { begins } else { format!("{begins} & ~/(?s:.*)({})(?s:.*)/", escaped.join("|")) }
}

/// Refuses a grammar whose groups or rules would be too deep a recursion.
pub(super) fn check_shape(lark: &str) -> Result<()> {
    let (mut depth, mut n_rules, mut chars) = (0u32, 0usize, lark.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => skip_to('"', &mut chars),
            '#' => while chars.next().is_some_and(|(_, c)| c != '\n') {},
            '/' if !lark[at + 1..].starts_with('/') => skip_to('/', &mut chars),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ':' => n_rules += 1,
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(refused(at, format!("groups inside each other, deeper than {MAX_NESTING}")));
        }
        if n_rules > MAX_RULES {
            return Err(refused(at, format!("more than {MAX_RULES} rules")));
        }
    }
    Ok(())
}

/// Refuses an expression whose groups are inside each other too deep: its parser takes memory for each before it counts them.
pub(super) fn check_groups(regex: &str) -> Result<()> {
    let (mut depth, mut chars) = (0u32, regex.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(refused(at, format!("groups inside each other, deeper than {MAX_NESTING}")));
        }
    }
    Ok(())
}

/// Goes behind the next `end` that no backslash stands before.
fn skip_to(end: char, chars: &mut std::str::CharIndices<'_>) {
    while let Some((_, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c if c == end => return,
            _ => {}
        }
    }
}
