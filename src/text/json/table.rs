//! The table of tokens of a `tokenizer.json`: the model's, and the added ones among or behind them.

use super::document::{AddedToken, Model, Text, VocabularyMap};
use super::{CONTINUATION, into_bytes};
use crate::error::Result;
use crate::fail;
use crate::formats::names::{Quoted, QuotedBytes};
use crate::sys::memory::try_with_capacity;
use crate::text::limits::{MAX_ID_HOLES, MAX_TOKENS};
use crate::text::vocabulary::{SPACE_MARK, out_of_memory, parse_byte};
use crate::text::{Alphabet, MatchRules, Token, TokenType, VocabularyData};
use std::borrow::Cow;

/// Fills in the tokens of `data`, each at its id.
pub(super) fn fill<'a>(data: &mut VocabularyData<'a>, model: &Model<'a>, added: &[AddedToken<'a>]) -> Result<()> {
    let mut added_ids = try_with_capacity(added.len())?;
    added_ids.extend(added.iter().map(|token| token.id));
    added_ids.sort_unstable();
    make_room(data, model, &added_ids)?;
    let mut put_text = |id, text: &Text<'a>| {
        let is_marked = data.alphabet == Alphabet::Words && added_ids.binary_search(&id).is_err();
        let text = if is_marked { marked(&text.0) } else { text.0.clone() };
        let kind = kind_of(model, id, &text);
        put(data, id, text, kind)
    };
    match &model.vocab {
        VocabularyMap::Ids(ids) => ids.iter().try_for_each(|(text, id)| put_text(*id, text))?,
        VocabularyMap::Scores(scores) => (0..).zip(scores).try_for_each(|(id, (text, _))| put_text(id, text))?,
    }
    added.iter().try_for_each(|token| put_added(data, model, token))
}

/// Holes for all ids.
fn make_room(data: &mut VocabularyData<'_>, model: &Model<'_>, added_ids: &[Token]) -> Result<()> {
    let added = added_ids.iter().copied();
    let n = match &model.vocab {
        VocabularyMap::Ids(ids) => table_len(ids.iter().map(|(_, id)| *id).chain(added), ids.len() + added_ids.len())?,
        VocabularyMap::Scores(scores) => table_len(added, scores.len() + added_ids.len())?.max(scores.len()),
    };
    data.tokens.try_reserve_exact(n).map_err(|_| out_of_memory())?;
    data.tokens.resize(n, Cow::Borrowed(b""));
    data.types.try_reserve_exact(n).map_err(|_| out_of_memory())?;
    data.types.resize(n, TokenType::Unused);
    Ok(())
}

/// Length of the table that holds all `ids`, `n_tokens` of them.
fn table_len(ids: impl Iterator<Item = Token>, n_tokens: usize) -> Result<usize> {
    let n = ids.max().map_or(0, |last| last as usize + 1);
    let most = n_tokens.saturating_mul(2).saturating_add(MAX_ID_HOLES).min(MAX_TOKENS);
    if n > most {
        fail!(Format, "token id {} among {n_tokens} tokens, expected less than {most}", n - 1);
    }
    Ok(n)
}

/// What a token of the model is.
fn kind_of(model: &Model<'_>, id: Token, text: &str) -> TokenType {
    match model.byte_fallback.unwrap_or(false) && parse_byte(text.as_bytes()).is_some() {
        _ if model.unk_id == Some(id) => TokenType::Unknown,
        true => TokenType::Byte,
        false => TokenType::Normal,
    }
}

/// A token of WordPiece as the converter to GGUF writes it: a mark in front of what begins a word, not of what continues one.
fn marked<'a>(text: &str) -> Cow<'a, str> {
    Cow::Owned(text.strip_prefix(CONTINUATION).map_or_else(|| format!("{SPACE_MARK}{text}"), str::to_owned))
}

fn put_added<'a>(data: &mut VocabularyData<'a>, model: &Model<'a>, token: &AddedToken<'a>) -> Result<()> {
    let is_named = model.unk_token.as_deref() == Some(token.content.0.as_ref()) || model.unk_id == Some(token.id);
    let kind = match token.special {
        true if is_named && data.alphabet != Alphabet::Bytes => TokenType::Unknown,
        true => TokenType::Control,
        false => TokenType::UserDefined,
    };
    put(data, token.id, token.content.0.clone(), kind)?;
    let rules = MatchRules { lstrip: token.lstrip, rstrip: token.rstrip, single_word: token.single_word };
    if rules != MatchRules::default() {
        data.match_rules.push((token.id, rules));
    }
    Ok(())
}

/// Sets token `id`, which may be there already if it is the same.
fn put<'a>(data: &mut VocabularyData<'a>, id: Token, text: Cow<'a, str>, kind: TokenType) -> Result<()> {
    let at = id as usize;
    let (Some(slot), Some(slot_kind)) = (data.tokens.get_mut(at), data.types.get_mut(at)) else {
        fail!(Internal, "token id {id} is beyond the table");
    };
    if !slot.is_empty() && slot.as_ref() != text.as_bytes() {
        fail!(Format, "token {id} is both {} and {}", QuotedBytes(slot), Quoted(&text));
    }
    *slot = into_bytes(text);
    *slot_kind = kind;
    Ok(())
}
