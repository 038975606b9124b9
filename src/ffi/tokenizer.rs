//! The tokenizer: methods of the model.

use super::boundary;
use super::bytes::{self, Buffer};
use super::handle;
use super::model::{inf_model, inf_token};
use super::options;
use super::status::{inf_error, inf_status};
use crate::error::Result;
use crate::fail;
use crate::text::{DecodeOptions, EncodeOptions, Token};
use std::ffi::c_char;

/// `inf_tokenize`: put the tokens around the text that the model expects, such as the beginning of text.
pub const INF_TOK_ADD_SPECIAL: u32 = 1u32;
/// `inf_tokenize`: text that spells a control token becomes that token; without it, it stays text, so that what a user
/// writes is never a control token. `inf_detokenize`: control tokens are spelled out; without it, they are left out.
pub const INF_TOK_PARSE_SPECIAL: u32 = 2u32;
/// `inf_detokenize`: the tokens continue a text, as an answer continues its prompt: a space that they begin with is kept.
pub const INF_TOK_CONTINUES: u32 = 4u32;

/// Turns UTF-8 into tokens. flags: `INF_TOK_*`.
///
/// tokens, cap and n follow the rules for buffers, counted in tokens. Any thread. Blocks for the time of the work only.
///
/// - `INF_ERR_BUFFER_TOO_SMALL`: `*n` is the number of tokens.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_tokenize(
    m: *const inf_model,
    text: *const c_char,
    len: usize,
    flags: u32,
    tokens: *mut inf_token,
    cap: usize,
    n: *mut usize,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let model = handle::get(m)?;
            let buffer = Buffer::new(tokens.cast::<Token>(), cap, n)?;
            options::known_flags(flags, INF_TOK_ADD_SPECIAL | INF_TOK_PARSE_SPECIAL)?;
            let options =
                EncodeOptions { add_special: flags & INF_TOK_ADD_SPECIAL != 0, parse_special: flags & INF_TOK_PARSE_SPECIAL != 0 };
            buffer.fill(&model.tokenizer().encode(bytes::bytes("text", text, len)?, options)?)
        })
    }
}

/// Turns n tokens into text, as `inf_tokenize` would have made them from. flags: `INF_TOK_PARSE_SPECIAL`, `INF_TOK_CONTINUES`. The text
/// may begin or end inside a character if the tokens do.
///
/// buf, cap and len follow the rules for buffers. Any thread. Blocks for the time of the work only.
///
/// - `INF_ERR_INVALID_ARGUMENT`: a number that is no token of the model.
/// - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_detokenize(
    m: *const inf_model,
    tokens: *const inf_token,
    n: usize,
    flags: u32,
    buf: *mut c_char,
    cap: usize,
    len: *mut usize,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let model = handle::get(m)?;
            let buffer = Buffer::new(buf.cast(), cap, len)?;
            options::known_flags(flags, INF_TOK_PARSE_SPECIAL | INF_TOK_CONTINUES)?;
            let tokens = all_from_c(bytes::array("tokens", tokens, n)?)?;
            let options = DecodeOptions { skip_special: flags & INF_TOK_PARSE_SPECIAL == 0, at_text_start: flags & INF_TOK_CONTINUES == 0 };
            buffer.fill_string(&model.tokenizer().decode(&tokens, options)?)
        })
    }
}

/// The bytes of one token: may be part of a character, and need not be UTF-8. Control tokens are spelled out.
///
/// buf, cap and len follow the rules for buffers. Any thread. Never blocks.
///
/// - `INF_ERR_INVALID_ARGUMENT`: t is no token of the model.
/// - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_token_bytes(
    m: *const inf_model,
    t: inf_token,
    buf: *mut c_char,
    cap: usize,
    len: *mut usize,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let model = handle::get(m)?;
            let buffer = Buffer::new(buf.cast(), cap, len)?;
            buffer.fill_string(model.tokenizer().token_bytes(from_c(t)?)?)
        })
    }
}

/// A token of the host as one of ours; whether the vocabulary has it, is for the engine to say.
pub(super) fn from_c(token: inf_token) -> Result<Token> {
    match Token::try_from(token) {
        Ok(token) => Ok(token),
        Err(_) => fail!(InvalidArgument, "token {token}: expected a number >= 0"),
    }
}

/// All tokens of the host as ours.
pub(super) fn all_from_c(tokens: &[inf_token]) -> Result<Vec<Token>> {
    tokens.iter().map(|token| from_c(*token)).collect()
}

/// A token of ours for the host. A vocabulary has far fewer than 2^31 tokens.
pub(super) fn to_c(token: Token) -> inf_token {
    inf_token::try_from(token).unwrap_or(-1)
}

/// A token or none, for the host.
pub(super) fn optional_to_c(token: Option<Token>) -> inf_token {
    token.map_or(-1, to_c)
}
