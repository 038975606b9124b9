//! A vocabulary from `tokenizer.json`, the format of Hugging Face's `tokenizers`, and `tokenizer_config.json`.
//!
//! What the published files of the families we run are made of is recognised part by part; anything else is refused by
//! quoting it. The file is read straight into tables, and its large arrays borrow from it.

mod base64;
mod config;
mod document;
mod pipeline;

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::names::{Quoted, QuotedBytes};
use crate::sys::memory::try_with_capacity;
use crate::text::limits::{MAX_ID_HOLES, MAX_JSON_BYTES, MAX_TOKENS};
use crate::text::vocabulary::{SPACE_MARK, out_of_memory, parse_byte};
use crate::text::{Alphabet, MatchRules, Model as WordModel, Token, TokenType, Tokenizer, VocabularyData};
use config::Config;
use document::{AddedToken, Document, Model, Text, VocabularyMap};
use pipeline::Pipeline;
use std::borrow::Cow;

/// In front of a token of WordPiece that continues a word.
const CONTINUATION: &str = "##";

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
        fuse_unknown: model.fuse_unk.unwrap_or(model.is("Unigram")),
        pre_tokenizer: pipeline.pre_tokenizer,
        normalizations: pipeline.normalizations,
        space_prefix: pipeline.space_prefix,
        strip_first_space: pipeline.strip_first_space,
        prefix: pipeline.prefix,
        suffix: pipeline.suffix,
        ..VocabularyData::empty(pipeline.alphabet)
    };
    add_tokens(&mut data, &document.model, &added_tokens.0)?;
    name_tokens(&mut data, &document, config)?;
    data.model = word_model(document.model, data.tokens.len())?;
    Ok(data)
}

/// How words become the `n_tokens` tokens.
fn word_model(model: Model<'_>, n_tokens: usize) -> Result<WordModel<'_>> {
    if model.is("WordPiece") {
        return Ok(WordModel::LongestFirst(model.max_input_chars_per_word.unwrap_or(100)));
    }
    match model.vocab {
        VocabularyMap::Scores(vocab) => {
            let mut scores = try_with_capacity(n_tokens)?;
            scores.extend(vocab.iter().map(|&(_, score)| score));
            scores.resize(n_tokens, 0.0); // of added tokens, which no text becomes by itself
            Ok(WordModel::Likeliest(scores))
        }
        VocabularyMap::Ids(_) => {
            let merges = model.merges.unwrap_or_default();
            Ok(WordModel::Pairs(merges.0.into_iter().map(|pair| pair.0.map(into_bytes)).collect()))
        }
    }
}

/// What of the model is not a table.
fn check_model(model: &Model<'_>) -> Result<()> {
    let kind = model.kind();
    let prefix = match (kind, &model.vocab) {
        ("BPE", VocabularyMap::Ids(_)) | ("Unigram", VocabularyMap::Scores(_)) => "",
        ("WordPiece", VocabularyMap::Ids(_)) => CONTINUATION,
        ("BPE" | "WordPiece", _) => fail!(Format, "the vocab is not a map of tokens to ids"),
        ("Unigram", _) => fail!(Format, "the vocab is not a list of tokens with their scores"),
        _ => fail!(Unsupported, "model type {kind:?}, expected \"BPE\", \"WordPiece\" or \"Unigram\""),
    };
    let found = model.continuing_subword_prefix.as_deref().unwrap_or(prefix);
    if found != prefix {
        fail!(Unsupported, "continuing_subword_prefix {found:?}, expected {prefix:?}");
    }
    if let Some(affix) = model.end_of_word_suffix.as_deref().filter(|affix| !affix.is_empty()) {
        fail!(Unsupported, "end_of_word_suffix {affix:?}, expected none");
    }
    if let Some(dropout) = model.dropout.filter(|&dropout| dropout != 0.0) {
        fail!(Unsupported, "dropout {dropout}, expected none: tokens would be random");
    }
    Ok(())
}

/// Fills in the table of tokens: the model's, then the added ones, each at its id.
fn add_tokens<'a>(data: &mut VocabularyData<'a>, model: &Model<'a>, added: &[AddedToken<'a>]) -> Result<()> {
    let added_ids = added.iter().map(|token| token.id);
    let n = match &model.vocab {
        VocabularyMap::Ids(ids) => table_len(ids.iter().map(|(_, id)| *id).chain(added_ids), ids.len() + added.len())?,
        VocabularyMap::Scores(scores) => table_len(added_ids, scores.len() + added.len())?.max(scores.len()),
    };
    data.tokens.try_reserve_exact(n).map_err(|_| out_of_memory())?;
    data.tokens.resize(n, Cow::Borrowed(b""));
    data.types.try_reserve_exact(n).map_err(|_| out_of_memory())?;
    data.types.resize(n, TokenType::Unused);
    let byte_fallback = model.byte_fallback.unwrap_or(false);
    let is_word_piece = data.alphabet == Alphabet::Words;
    let mut sorted = try_with_capacity(added.len())?;
    sorted.extend(added.iter().map(|token| token.id));
    sorted.sort_unstable();
    let mut put_text = |id, text: &Text<'a>| {
        let is_byte = byte_fallback && parse_byte(text.0.as_bytes()).is_some();
        let kind = if is_byte { TokenType::Byte } else { TokenType::Normal };
        let is_added = || sorted.binary_search(&id).is_ok();
        let text = if is_word_piece && !is_added() { marked(&text.0) } else { text.0.clone() };
        put(data, id, text, if model.unk_id == Some(id) { TokenType::Unknown } else { kind })
    };
    match &model.vocab {
        VocabularyMap::Ids(ids) => ids.iter().try_for_each(|(text, id)| put_text(*id, text))?,
        VocabularyMap::Scores(scores) => (0..).zip(scores).try_for_each(|(id, (text, _))| put_text(id, text))?,
    }
    for token in added {
        let is_named = model.unk_token.as_deref() == Some(token.content.0.as_ref()) || model.unk_id == Some(token.id);
        let unknown = data.alphabet != Alphabet::Bytes && is_named;
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

/// A token of WordPiece as the converter to GGUF writes it: a mark in front of what begins a word, not of what continues one.
fn marked<'a>(text: &str) -> Cow<'a, str> {
    Cow::Owned(text.strip_prefix(CONTINUATION).map_or_else(|| format!("{SPACE_MARK}{text}"), str::to_owned))
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
        let added = document.added_tokens.0.iter().find(|token| token.content.0 == text).map(|token| token.id);
        let found = added.or_else(|| document.model.vocab.id(text));
        if found.is_none() {
            fail!(Format, "the {name} {} is not in the vocabulary", Quoted(text));
        }
        Ok(found)
    };
    data.unknown = find("unk_token", document.model.unk_token.as_deref())?.or(document.model.unk_id);
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
