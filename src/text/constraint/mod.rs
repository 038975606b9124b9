//! Constraints: a grammar or schema that says what a model may generate, as masks over its vocabulary. For samplers and generations.
//!
//! The only place that names `llguidance`. It is given fuel, runs on a stack of our own, logs nothing and starts no thread; a panic in it is an error.

mod compile;
mod gbnf;
mod mask;
mod place;
mod request;
mod schema;
mod state;
mod trie;
mod vocabulary;

pub(super) use gbnf::quoted;
pub(super) use place::any_text_but;
pub use request::response_format;
pub(super) use schema::json_value;
pub use state::{Allowed, Constraint};
pub use vocabulary::Grammars;

/// In which language a constraint is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstraintKind {
    /// A JSON schema, as JSON.
    JsonSchema,
    /// A regular expression, as Rust's `regex` reads them; all of the text matches it.
    Regex,
    /// A grammar in llguidance's variant of Lark; its first rule is `start`.
    Lark,
    /// A grammar as llama.cpp reads them; its first rule is `root`.
    Gbnf,
    /// Any JSON value; there is no source.
    AnyJson,
}

/// A constraint that is not compiled yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstraintSource {
    /// Its language.
    pub kind: ConstraintKind,
    /// Its text.
    pub text: String,
}

#[cfg(test)]
mod tests;
