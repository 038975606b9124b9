//! A vocabulary from `tokenizer.json`, the format of Hugging Face's `tokenizers`, and `tokenizer_config.json`.
//!
//! What the published files of the families we run are made of is recognised part by part; anything else is refused by
//! quoting it. The file is read straight into tables, and its large arrays borrow from it.

mod base64;
mod config;
mod document;
mod pipeline;
mod table;

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::names::Quoted;
use crate::sys::memory::try_with_capacity;
use crate::text::limits::MAX_JSON_BYTES;
use crate::text::pretokenizer::{Named, from_option};
use crate::text::vocabulary::out_of_memory;
use crate::text::{Model as WordModel, Token, TokenType, Tokenizer, VocabularyData};
use config::Config;
use document::{Document, Model, VocabularyMap};
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
        Self::from_json_with(tokenizer_json, config, None)
    }

    /// As [`Self::from_json`], with the pre-tokenizer of this name (if any) instead of the one that the file describes. Another one
    /// than the model was trained with gives other tokens, and worse answers.
    ///
    /// # Errors
    /// As [`Self::from_json`]; `InvalidArgument` if the name is not known, or the vocabulary is not one of bytes.
    pub fn from_json_with(tokenizer_json: &[u8], config: Option<&[u8]>, pre_tokenizer: Option<&str>) -> Result<Self> {
        Self::from_json_for(tokenizer_json, config, pre_tokenizer, None)
    }

    /// As [`Self::from_json_with`], with as many tokens as the embedding of the model has rows, `n_vocab`. Embeddings are often longer than
    /// vocabularies; the other way round, added tokens of other versions of a model have no row.
    ///
    /// # Errors
    /// As [`Self::from_json_with`].
    pub fn from_json_for(
        tokenizer_json: &[u8],
        config: Option<&[u8]>,
        pre_tokenizer: Option<&str>,
        n_vocab: Option<usize>,
    ) -> Result<Self> {
        let instead = pre_tokenizer.map(from_option).transpose()?;
        let mut document: Document<'_> = parse("tokenizer.json", tokenizer_json)?;
        let config: Config = config.map_or(Ok(Config::default()), |config| parse("tokenizer_config.json", config))?;
        if let Some(n_vocab) = n_vocab {
            document.added_tokens.0.retain(|token| (token.id as usize) < n_vocab);
        }
        let mut data = vocabulary_data(document, &config, instead).map_err(|e| e.at("tokenizer.json"))?;
        if let Some(n_vocab) = n_vocab {
            fit(&mut data, n_vocab).map_err(|e| e.at("tokenizer.json"))?;
        }
        Self::new(&data).map_err(|e| e.at("tokenizer.json"))
    }
}

/// Fills up with tokens that no text becomes.
fn fit(data: &mut VocabularyData<'_>, n_vocab: usize) -> Result<()> {
    let n_tokens = data.tokens.len();
    if n_tokens > n_vocab {
        fail!(Format, "{n_tokens} tokens, but the embedding has {n_vocab} rows");
    }
    data.tokens.try_reserve_exact(n_vocab - n_tokens).map_err(|_| out_of_memory())?;
    data.tokens.resize(n_vocab, Cow::Borrowed(b""));
    data.types.try_reserve_exact(n_vocab - n_tokens).map_err(|_| out_of_memory())?;
    data.types.resize(n_vocab, TokenType::Unused);
    match &mut data.model {
        WordModel::Likeliest(scores) => scores.resize(n_vocab, 0.0),
        WordModel::Scores(scores) => scores.resize(n_vocab, 0.0),
        WordModel::Pairs(_) | WordModel::LongestFirst(_) => {}
    }
    Ok(())
}

fn parse<'a, T: serde::Deserialize<'a>>(name: &str, json: &'a [u8]) -> Result<T> {
    if json.len() > MAX_JSON_BYTES {
        fail!(Format, "{name} has {} bytes, expected {MAX_JSON_BYTES} at most", json.len());
    }
    serde_json::from_slice(json).map_err(|e| Error::new(ErrorKind::Format, format!("{name}: {e}")))
}

fn vocabulary_data<'a>(document: Document<'a>, config: &Config, instead: Option<&'static Named>) -> Result<VocabularyData<'a>> {
    let Document { added_tokens, model, .. } = &document;
    check_model(model)?;
    let pipeline = Pipeline::new(&document, instead)?;
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
    table::fill(&mut data, model, &added_tokens.0)?;
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

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

#[cfg(test)]
mod tests;
