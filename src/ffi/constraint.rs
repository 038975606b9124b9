//! Constraints: what a sampler may choose at all.

use super::boundary;
use super::bytes;
use super::handle;
use super::sampler::inf_sampler;
use super::status::{inf_error, inf_status};
use crate::error::Result;
use crate::fail;
use crate::text::constraint::{ConstraintKind, ConstraintSource};
use std::ffi::c_char;

/// A JSON schema. Property order is that of the schema; keywords that no grammar can express are an error.
pub const INF_CONSTRAINT_JSON_SCHEMA: u32 = 1u32;
/// A regular expression in the syntax of Rust's regex; the whole answer matches it.
pub const INF_CONSTRAINT_REGEX: u32 = 2u32;
/// A grammar in llguidance's variant of Lark; it begins with the rule start. `<name>` and `<[17]>` stand for control tokens.
pub const INF_CONSTRAINT_LARK: u32 = 3u32;
/// A grammar as llama.cpp reads them (GBNF); it begins with the rule root.
pub const INF_CONSTRAINT_GBNF: u32 = 4u32;
/// Any JSON value; there is no source.
pub const INF_CONSTRAINT_JSON: u32 = 5u32;

/// Lets a chain choose only tokens that continue a text of a language, and the end only where the text is complete. kind is one of `INF_CONSTRAINT_*` and src its
/// source, or kind is 0 and src empty: then everything is allowed again. It is applied before every stage, wherever it was set, and begins with the next token
/// that the chain chooses or accepts; `inf_sampler_reset` begins it anew, a copy of the chain goes on by itself. Where only one token is allowed, `inf_session_step`
/// takes it without computing logits; where a bias of minus infinity forbids that one, others that say the same are looked for. What `inf_session_step`
/// and `inf_sampler_pick` answer if nothing is allowed is `INF_ERR_DEAD_END`.
///
/// Between the values of JSON it allows a space, or a line break with an indentation, at most: `"x-guidance":{"whitespace_flexible":false}` in a schema allows none.
///
/// One thread at a time. Blocks for the time of the work: mostly a few milliseconds, a tenth of a second where src is made to take long. The first constraint of a
/// model also makes tries of its vocabulary, once, which takes the longer the larger that is: set any constraint on a loading screen to have that behind you. The
/// constraint of a generation is compiled while its prompt is computed, and beside the generations that run.
///
/// - `INF_ERR_CONSTRAINT`: src does not compile, says what no grammar can, or is too large; detail[0] is the byte offset (0 where it is about all of it), the
///   sentence names the key or the rule; unchanged.
/// - `INF_ERR_INVALID_ARGUMENT`: an unknown kind, or a source where there is none; unchanged.
/// - `INF_ERR_INVALID_HANDLE`: the model of the chain was freed.
/// - `INF_ERR_BUSY`: in use by another thread; unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_sampler_set_constraint(
    s: *mut inf_sampler,
    kind: u32,
    src: *const c_char,
    len: usize,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let chain = handle::get(s.cast_const())?;
            let text = bytes::text("src", src, len)?;
            let source = constraint_source(kind, text)?;
            let compiled = source.map(|source| chain.model()?.compile(&source)).transpose()?;
            chain.write()?.set_constraint(compiled);
            Ok(())
        })
    }
}

fn constraint_source(kind: u32, text: &str) -> Result<Option<ConstraintSource>> {
    let kind = match kind {
        0 | INF_CONSTRAINT_JSON if !text.is_empty() => fail!(InvalidArgument, "src: this kind of constraint has none"),
        0 => return Ok(None),
        INF_CONSTRAINT_JSON_SCHEMA => ConstraintKind::JsonSchema,
        INF_CONSTRAINT_REGEX => ConstraintKind::Regex,
        INF_CONSTRAINT_LARK => ConstraintKind::Lark,
        INF_CONSTRAINT_GBNF => ConstraintKind::Gbnf,
        INF_CONSTRAINT_JSON => ConstraintKind::AnyJson,
        other => fail!(InvalidArgument, "kind {other}: expected 0 or one of INF_CONSTRAINT_*"),
    };
    Ok(Some(ConstraintSource { kind, text: text.to_owned() }))
}
