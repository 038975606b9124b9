//! A vocabulary from `tokenizer.json`, the format of Hugging Face's `tokenizers`, and `tokenizer_config.json`.
//!
//! What the published files of the families we run are made of is recognised part by part; anything else is refused by
//! quoting it. The file is read straight into tables, and its large arrays borrow from it.

mod config;
mod document;
mod pipeline;

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::names::{Quoted, QuotedBytes};
use crate::text::limits::{MAX_ID_HOLES, MAX_JSON_BYTES, MAX_TOKENS};
use crate::text::vocabulary::{out_of_memory, parse_byte};
use crate::text::{Alphabet, MatchRules, MergeOrder, Token, TokenType, Tokenizer, VocabularyData};
use config::Config;
use document::{AddedToken, Document, Model, VocabularyMap};
use pipeline::Pipeline;
use std::borrow::Cow;

impl Tokenizer {
    /// The tokenizer that `tokenizer.json` describes. `config` is the `tokenizer_config.json` beside it, which alone names
    /// the BOS and EOS tokens.
    ///
    /// # Errors
    /// `Format` if the files are no such JSON, or contradict themselves; `Unsupported` if they ask for something that this
    /// build does not have, which the message quotes; `OutOfMemory`.
    pub fn from_json(tokenizer_json: &[u8], config: Option<&[u8]>) -> Result<Self> {
        let document: Document<'_> = parse("tokenizer.json", tokenizer_json)?;
        let config: Config = config.map_or(Ok(Config::default()), |config| parse("tokenizer_config.json", config))?;
        let data = vocabulary_data(document, &config).map_err(|e| e.at("tokenizer.json"))?;
        Self::new(&data).map_err(|e| e.at("tokenizer.json"))
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(name: &str, json: &'a [u8]) -> Result<T> {
    if json.len() > MAX_JSON_BYTES {
        fail!(Format, "{name} has {} bytes, expected {MAX_JSON_BYTES} at most", json.len());
    }
    serde_json::from_slice(json).map_err(|e| Error::new(ErrorKind::Format, format!("{name}: {e}")))
}

fn vocabulary_data<'a>(document: Document<'a>, config: &Config) -> Result<VocabularyData<'a>> {
    let Document { added_tokens, model, .. } = &document;
    check_model(model)?;
    let pipeline = Pipeline::new(&document)?;
    let mut data = VocabularyData {
        ignore_merges: model.ignore_merges.unwrap_or(false),
        fuse_unknown: model.fuse_unk.unwrap_or(false),
        pre_tokenizer: pipeline.pre_tokenizer,
        nfc: pipeline.nfc,
        space_prefix: pipeline.space_prefix,
        strip_first_space: pipeline.strip_first_space,
        prefix: pipeline.prefix,
        suffix: pipeline.suffix,
        ..VocabularyData::empty(pipeline.alphabet)
    };
    add_tokens(&mut data, &document.model, added_tokens)?;
    name_tokens(&mut data, &document, config)?;
    let merges = document.model.merges.unwrap_or_default();
    data.merges = MergeOrder::Pairs(merges.into_iter().map(|pair| pair.0.map(into_bytes)).collect());
    Ok(data)
}

/// What of the model is not a table.
fn check_model(model: &Model<'_>) -> Result<()> {
    let kind = model.kind.as_deref().unwrap_or("BPE"); // files of 2019 do not say
    if kind != "BPE" {
        fail!(Unsupported, "model type {kind:?}, expected \"BPE\"");
    }
    for (name, affix) in
        [("continuing_subword_prefix", &model.continuing_subword_prefix), ("end_of_word_suffix", &model.end_of_word_suffix)]
    {
        if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
            fail!(Unsupported, "{name} {affix:?}, expected none");
        }
    }
    if let Some(dropout) = model.dropout.filter(|&dropout| dropout != 0.0) {
        fail!(Unsupported, "dropout {dropout}, expected none: tokens would be random");
    }
    Ok(())
}

/// Fills in the table of tokens: the model's, then the added ones, each at its id.
fn add_tokens<'a>(data: &mut VocabularyData<'a>, model: &Model<'a>, added: &[AddedToken<'a>]) -> Result<()> {
    let VocabularyMap::Ids(ids) = &model.vocab else { fail!(Format, "the vocab is not a map of tokens to ids") };
    let n = table_len(ids.iter().map(|(_, id)| *id).chain(added.iter().map(|token| token.id)), ids.len() + added.len())?;
    data.tokens.try_reserve_exact(n).map_err(|_| out_of_memory())?;
    data.tokens.resize(n, Cow::Borrowed(b""));
    data.types.try_reserve_exact(n).map_err(|_| out_of_memory())?;
    data.types.resize(n, TokenType::Unused);
    let byte_fallback = model.byte_fallback.unwrap_or(false);
    for (text, id) in ids {
        let is_byte = byte_fallback && parse_byte(text.0.as_bytes()).is_some();
        let kind = if is_byte { TokenType::Byte } else { TokenType::Normal };
        put(data, *id, text.0.clone(), kind)?;
    }
    for token in added {
        let unknown = data.alphabet == Alphabet::Characters && model.unk_token.as_deref() == Some(token.content.0.as_ref());
        let kind = match token.special {
            true if unknown => TokenType::Unknown,
            true => TokenType::Control,
            false => TokenType::UserDefined,
        };
        put(data, token.id, token.content.0.clone(), kind)?;
        let rules = MatchRules { lstrip: token.lstrip, rstrip: token.rstrip, single_word: token.single_word };
        if rules != MatchRules::default() {
            data.match_rules.push((token.id, rules));
        }
    }
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

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// Fills in the tokens that are known by name: BOS, EOS, unknown.
fn name_tokens(data: &mut VocabularyData<'_>, document: &Document<'_>, config: &Config) -> Result<()> {
    let find = |name: &str, text: Option<&str>| {
        let Some(text) = text else { return Ok(None) };
        let added = document.added_tokens.iter().find(|token| token.content.0 == text).map(|token| token.id);
        let found = added.or_else(|| document.model.vocab.id(text));
        if found.is_none() {
            fail!(Format, "the {name} {} is not in the vocabulary", Quoted(text));
        }
        Ok(found)
    };
    data.unknown = find("unk_token", document.model.unk_token.as_deref())?;
    // Without a config, a text still begins with what the template puts there.
    data.bos = find("bos_token", config.bos_token())?.or(data.prefix.first().copied());
    data.eos = find("eos_token", config.eos_token())?;
    if let (Some(add), Some(bos)) = (config.add_bos_token, data.bos) {
        require(&mut data.prefix, bos, add);
    }
    if let (Some(add), Some(eos)) = (config.add_eos_token, data.eos) {
        require(&mut data.suffix, eos, add);
    }
    Ok(())
}

/// Makes `tokens` hold `token` if `present`, else not.
fn require(tokens: &mut Vec<Token>, token: Token, present: bool) {
    if !present {
        tokens.retain(|&t| t != token);
    } else if !tokens.contains(&token) {
        tokens.insert(0, token);
    }
}

#[cfg(test)]
mod tests;
