//! The text of a constraint becomes a parser, or an error that says where and why. To be called on a stack of our own.

use super::mask::Masks;
use super::{Constraint, ConstraintKind, ConstraintSource, gbnf, place, schema};
use crate::error::{Error, ErrorKind, Result};
use llguidance::ParserFactory;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of a grammar or a schema. The largest that are used as tool schemas have some tens of KiB.
const MAX_SOURCE_BYTES: usize = 1 << 17;

/// Bytes of a regular expression, of which each may take a hundred bytes of memory.
const MAX_REGEX_BYTES: usize = 1 << 15;

/// Work and memory of one constraint: a hostile one is an error within a tenth of a second.
pub(super) fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2_000,
        initial_lexer_fuel: 500_000,
        step_lexer_fuel: 100_000,
        step_max_items: 50_000,
        // About a kilobyte each.
        max_lexer_states: 16_000,
        max_grammar_size: 100_000,
        // Would walk the whole trie for large expressions, with a fuel of its own.
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// Compiles `source` for the vocabulary of `factory`.
pub(super) fn compile(factory: &ParserFactory, masks: &Arc<Masks>, source: &ConstraintSource) -> Result<Constraint> {
    let text = source.text.as_str();
    let most = if source.kind == ConstraintKind::Regex { MAX_REGEX_BYTES } else { MAX_SOURCE_BYTES };
    if text.len() > most {
        return Err(refused(0, format!("{} bytes, expected {most} at most", text.len())));
    }
    let grammar = match source.kind {
        ConstraintKind::AnyJson => TopLevelGrammar::from_json_schema(schema::prepared("{}")?),
        ConstraintKind::JsonSchema => TopLevelGrammar::from_json_schema(schema::prepared(text)?),
        ConstraintKind::Regex => regex(text)?,
        ConstraintKind::Lark => lark(text.into())?,
        ConstraintKind::Gbnf => lark(gbnf::to_lark(text)?.into())?,
    };
    let mut parser = factory.create_parser(grammar).map_err(|e| {
        let (offset, message) = place::of(source, &e.to_string());
        refused(offset, message)
    })?;
    parser.bias_computer = masks.clone();
    Ok(Constraint::new(parser))
}

/// An error about the byte `offset`.
pub(super) fn refused(offset: usize, message: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Constraint, format!("constraint, byte {offset}: {message}")).with_detail([offset as i64, 0])
}

fn regex(text: &str) -> Result<TopLevelGrammar> {
    // The same parser as llguidance's, which does not tell where.
    place::check_groups(text)?;
    let parsed = regex_syntax::ast::parse::ParserBuilder::new().nest_limit(place::MAX_NESTING).build().parse(text);
    parsed.map_err(|e| refused(e.span().start.offset, e.kind()))?;
    Ok(TopLevelGrammar::from_regex(text))
}

fn lark(text: Cow<'_, str>) -> Result<TopLevelGrammar> {
    place::check_shape(&text)?;
    Ok(TopLevelGrammar::from_lark(text.into_owned()))
}
