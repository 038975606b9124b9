//! A vocabulary from the metadata of a GGUF file, keys `tokenizer.ggml.*`.
//!
//! Key names and defaults are those of the GGUF specification and of llama.cpp, which writes these files.

use crate::error::{Error, Result};
use crate::fail;
use crate::formats::gguf::{Array, Metadata, Strings, Value};
use crate::formats::names::{Quoted, QuotedBytes};
use crate::sys::job;
use crate::sys::memory::try_with_capacity;
use crate::sys::progress::Progress;
use crate::text::pretokenizer::{Named, Step, from_name, from_option};
use crate::text::tokenizer::END_TEXTS;
use crate::text::vocabulary_data::ITEMS_PER_SLICE;
use crate::text::{Alphabet, BertRules, Model, Normalization, PreTokenizer, SpacePrefix, Token, TokenType, Tokenizer, VocabularyData};
use std::borrow::Cow;

/// What a file of one kind does not have to say.
struct Defaults {
    unknown: Option<Token>,
    bos: Option<Token>,
    eos: Option<Token>,
    separator: Option<Token>,
    add_bos: bool,
    add_eos: bool,
}

impl Defaults {
    const NONE: Self = Self { unknown: None, bos: None, eos: None, separator: None, add_bos: false, add_eos: false };
    /// `<unk>`, `<s>`, `</s>`.
    const SENTENCE_PIECE: Self = Self { unknown: Some(0), bos: Some(1), eos: Some(2), add_bos: true, ..Self::NONE };
    /// `</s>`, `<unk>`, as T5 numbers them.
    const UNIGRAM: Self = Self { unknown: Some(2), eos: Some(1), add_eos: true, ..Self::NONE };
    /// `[UNK]`, `[CLS]`, `[SEP]`, as BERT numbers them.
    const WORD_PIECE: Self = Self { unknown: Some(100), bos: Some(101), separator: Some(102), add_bos: true, ..Self::NONE };
}

/// Characters of a word that BERT's own tokenizer looks at; files do not say.
const MAX_WORD_PIECE_CHARS: usize = 100;

impl Tokenizer {
    /// The tokenizer that the metadata of a model describes.
    ///
    /// # Errors
    /// `Format` if an entry is missing, of another type, or contradicts another one; `Unsupported` if the kind of vocabulary
    /// or the pre-tokenizer, which the message names, is not known; `OutOfMemory`.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        job::run(Self::from_gguf_with(metadata, None, &Progress::default()))
    }

    /// As [`Self::from_gguf`], in slices, as long as `progress` is not cancelled, with the pre-tokenizer of this name (if any) instead of the
    /// one that the file names or lacks. Another one than the model was trained with gives other tokens, and worse answers.
    ///
    /// # Errors
    /// As [`Self::from_gguf`]; `Cancelled`.
    pub async fn from_gguf_with(metadata: &Metadata, pre_tokenizer: Option<&str>, progress: &Progress) -> Result<Self> {
        if let (None, Some(Value::String(json))) = (metadata.get(KIND), metadata.get(HUGGINGFACE_JSON)) {
            return from_embedded_json(metadata, json, pre_tokenizer);
        }
        let data = vocabulary_data(metadata, pre_tokenizer, progress).await?;
        Self::build(&data).await.map_err(|e| e.at("metadata \"tokenizer.ggml\""))
    }
}

/// The tokenizer of a model that was saved from a Hugging Face directory: its `tokenizer.json`, whole.
fn from_embedded_json(metadata: &Metadata, json: &[u8], pre_tokenizer: Option<&str>) -> Result<Tokenizer> {
    let n_vocab = metadata.usize_opt(&format!("{}.vocab_size", metadata.str("general.architecture")?))?;
    let config = match metadata.get(HUGGINGFACE_CONFIG) {
        Some(Value::String(config)) => Some(&**config),
        _ => None,
    };
    Tokenizer::from_json_for(json, config, pre_tokenizer, n_vocab)
}

async fn vocabulary_data<'a>(metadata: &'a Metadata, instead: Option<&str>, progress: &'a Progress) -> Result<VocabularyData<'a>> {
    let (mut data, defaults) = match metadata.str(KIND)? {
        kind @ ("llama" | "t5" | "bert") if instead.is_some() => {
            fail!(InvalidArgument, "option \"pre_tokenizer\": a vocabulary of kind {kind:?} has none")
        }
        "llama" => (sentence_piece(metadata)?, Defaults::SENTENCE_PIECE),
        "t5" => (unigram(metadata)?, Defaults::UNIGRAM),
        "bert" => (word_piece(metadata)?, Defaults::WORD_PIECE),
        "gpt2" => {
            let named = instead.map_or_else(|| pre_tokenizer(metadata), from_option)?;
            (byte_level(metadata, named, progress).await?, Defaults { add_bos: named.add_bos, ..Defaults::NONE })
        }
        other => fail!(Unsupported, "vocabulary of kind {}, expected \"llama\", \"gpt2\", \"bert\" or \"t5\"", Quoted(other)),
    };
    data.progress = Some(progress);
    data.tokens = try_with_capacity(metadata.strings(TOKENS)?.len())?;
    for (token, text) in metadata.strings(TOKENS)?.iter().enumerate() {
        progress.pause(token, ITEMS_PER_SLICE).await?;
        data.tokens.push(Cow::Borrowed(text));
    }
    name_tokens(metadata, &mut data, &defaults)?;
    data.types = types(metadata, &data, progress).await?;
    data.ends = ["eot", "eom"].iter().filter_map(|name| token(metadata, name).transpose()).collect::<Result<_>>()?;
    Ok(data)
}

const KIND: &str = "tokenizer.ggml.model";

/// A whole `tokenizer.json`, for which the GGUF specification has this key.
pub const HUGGINGFACE_JSON: &str = "tokenizer.huggingface.json";

/// The `tokenizer_config.json` beside it: a key of ours.
pub const HUGGINGFACE_CONFIG: &str = "tokenizer.huggingface.config";

const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";

/// SentencePiece: merging by score. It has no pre-tokenizer, whatever `tokenizer.ggml.pre` says.
fn sentence_piece(metadata: &Metadata) -> Result<VocabularyData<'_>> {
    let in_file = metadata.f32s("tokenizer.ggml.scores")?;
    let mut scores = try_with_capacity(in_file.len())?;
    scores.extend_from_slice(in_file);
    let has_prefix = metadata.bool_or("tokenizer.ggml.add_space_prefix", true)?;
    Ok(VocabularyData {
        model: Model::Scores(scores),
        space_prefix: if has_prefix { SpacePrefix::EveryStretch } else { SpacePrefix::Never },
        strip_first_space: has_prefix,
        ..VocabularyData::empty(Alphabet::Characters)
    })
}

/// Unigram: the likeliest tokens. Without a character map, text is left as it is, as the converter writes the one there is.
fn unigram(metadata: &Metadata) -> Result<VocabularyData<'_>> {
    let in_file = metadata.f32s("tokenizer.ggml.scores")?;
    let mut scores = try_with_capacity(in_file.len())?;
    scores.extend(in_file.iter().copied().map(f64::from));
    let has_prefix = metadata.bool_or("tokenizer.ggml.add_space_prefix", false)?;
    let mut normalizations: Vec<_> = charsmap(metadata)?.map(Normalization::Charsmap).into_iter().collect();
    if metadata.bool_or("tokenizer.ggml.remove_extra_whitespaces", false)? {
        normalizations.extend([Normalization::Strip { start: true, end: true }, Normalization::MergeSpaces]);
    }
    Ok(VocabularyData {
        model: Model::Likeliest(scores),
        normalizations,
        space_prefix: if has_prefix { SpacePrefix::EveryStretch } else { SpacePrefix::Never },
        strip_first_space: has_prefix,
        ..VocabularyData::empty(Alphabet::Characters)
    })
}

/// SentencePiece's character map, an array of bytes of either sign.
fn charsmap(metadata: &Metadata) -> Result<Option<Cow<'_, [u8]>>> {
    const KEY: &str = "tokenizer.ggml.precompiled_charsmap";
    Ok(match metadata.get(KEY) {
        None => None,
        Some(Value::Array(Array::U8(bytes))) => Some(Cow::Borrowed(bytes)),
        Some(Value::Array(Array::I8(bytes))) => {
            let mut unsigned = try_with_capacity(bytes.len())?;
            unsigned.extend(bytes.iter().map(|byte| byte.cast_unsigned()));
            Some(Cow::Owned(unsigned))
        }
        Some(_) => fail!(Format, "metadata {KEY:?}: expected an array of bytes"),
    })
}

/// WordPiece. Its words are cut as BERT does, whatever `tokenizer.ggml.pre` says.
fn word_piece(metadata: &Metadata) -> Result<VocabularyData<'_>> {
    let lowercase = metadata.bool_or("tokenizer.ggml.normalizer.lowercase", true)?;
    let strip_accents = metadata.bool_or("tokenizer.ggml.normalizer.strip_accents", lowercase)?;
    Ok(VocabularyData {
        model: Model::LongestFirst(MAX_WORD_PIECE_CHARS),
        normalizations: vec![Normalization::Bert(BertRules { clean: true, isolate_chinese: true, strip_accents, lowercase })],
        pre_tokenizer: PreTokenizer { steps: vec![Step::BeforeSpace] },
        strip_first_space: true,
        ..VocabularyData::empty(Alphabet::Words)
    })
}

/// Byte-level BPE: merging by the list of merges.
async fn byte_level<'a>(metadata: &'a Metadata, named: &Named, progress: &Progress) -> Result<VocabularyData<'a>> {
    let has_prefix = metadata.bool_or("tokenizer.ggml.add_space_prefix", false)?;
    Ok(VocabularyData {
        model: Model::Pairs(merges(metadata.strings("tokenizer.ggml.merges")?, progress).await?),
        ignore_merges: named.ignore_merges,
        pre_tokenizer: named.pre_tokenizer(),
        space_prefix: if has_prefix { SpacePrefix::EveryStretchWithout } else { SpacePrefix::Never },
        ..VocabularyData::empty(Alphabet::Bytes)
    })
}

/// The pre-tokenizer that the file names. A file without one is refused: llama.cpp goes on with "default" and warns that answers
/// will be worse, but the host may know the right one.
fn pre_tokenizer(metadata: &Metadata) -> Result<&'static Named> {
    const HOW: &str = "; the option \"pre_tokenizer\" names another one, as \"default\" at your own risk";
    match metadata.str_opt("tokenizer.ggml.pre")? {
        Some(name) => from_name(name).map_err(|e| Error::new(e.kind(), format!("{}{HOW}", e.message()))),
        None => fail!(
            Unsupported,
            "metadata \"tokenizer.ggml.pre\" is missing: the file was converted before 2024-05 and does not say how text is cut into words{HOW}"
        ),
    }
}

/// The halves of every merge, which is written `"a b"`.
async fn merges<'a>(list: &'a Strings, progress: &Progress) -> Result<Vec<[Cow<'a, [u8]>; 2]>> {
    let mut merges = try_with_capacity(list.len())?;
    for (i, merge) in list.iter().enumerate() {
        progress.pause(i, ITEMS_PER_SLICE).await?;
        // A half may be a space in vocabularies whose alphabet is not the usual one; none is empty.
        let space = merge.iter().skip(1).position(|&byte| byte == b' ').and_then(|at| merge.split_at_checked(at.saturating_add(1)));
        let Some((left, [_, right @ ..])) = space else {
            fail!(Format, "merge {i} is {}, expected two halves with a space between", QuotedBytes(merge));
        };
        merges.push([Cow::Borrowed(left), Cow::Borrowed(right)]);
    }
    Ok(merges)
}

/// Fills in the tokens that are known by name, and what stands before and after a text.
fn name_tokens(metadata: &Metadata, data: &mut VocabularyData<'_>, defaults: &Defaults) -> Result<()> {
    let n_tokens = data.tokens.len();
    let default = |token: Option<Token>| token.filter(|&token| (token as usize) < n_tokens);
    data.unknown = token(metadata, "unknown")?.or(default(defaults.unknown));
    // BERT's converter called the same token by another name.
    data.bos = token(metadata, "bos")?.or(token(metadata, "cls")?).or(default(defaults.bos));
    data.eos = token(metadata, "eos")?.or(default(defaults.eos));
    if metadata.bool_or("tokenizer.ggml.add_bos_token", defaults.add_bos)? {
        data.prefix.extend(data.bos);
    }
    if metadata.bool_or("tokenizer.ggml.add_eos_token", defaults.add_eos)? {
        data.suffix.extend(data.eos);
    }
    if data.alphabet == Alphabet::Words && metadata.bool_or("tokenizer.ggml.add_sep_token", true)? {
        // Spelled so in the files.
        data.suffix.extend(token(metadata, "seperator")?.or(default(defaults.separator)));
    }
    Ok(())
}

/// The token that the file calls `name`. -1, in either width, means that there is none.
fn token(metadata: &Metadata, name: &str) -> Result<Option<Token>> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    let is_none = |id| id == -1 || id == i128::from(Token::MAX);
    if metadata.get(&key).and_then(|value| value.as_integer()).is_some_and(is_none) {
        return Ok(None);
    }
    metadata.u32_opt(&key)
}

/// The type of each token; without a list, all are text but those known by name.
async fn types(metadata: &Metadata, data: &VocabularyData<'_>, progress: &Progress) -> Result<Vec<TokenType>> {
    let mut types = types_in_file(metadata, data, progress).await?;
    // Some converters mark the end of a turn as text; it ends a generation all the same. "</s>" alone is also a tag that people write.
    for (token, (kind, text)) in types.iter_mut().zip(&data.tokens).enumerate() {
        progress.pause(token, ITEMS_PER_SLICE).await?;
        if text.as_ref() != b"</s>" && END_TEXTS.iter().any(|end| end.as_bytes() == text.as_ref()) {
            *kind = TokenType::Control;
        }
    }
    Ok(types)
}

async fn types_in_file(metadata: &Metadata, data: &VocabularyData<'_>, progress: &Progress) -> Result<Vec<TokenType>> {
    let mut types = try_with_capacity(data.tokens.len())?;
    if let Some(ids) = metadata.i32s_opt(TOKEN_TYPES)? {
        for (token, &id) in ids.iter().enumerate() {
            progress.pause(token, ITEMS_PER_SLICE).await?;
            // 0 is what llama.cpp calls undefined and treats as text.
            match TokenType::from_id(id.max(1).into()).filter(|_| id >= 0) {
                Some(kind) => types.push(kind),
                None => fail!(Format, "token {token} has type {id}, expected 0 to 6"),
            }
        }
        return Ok(types);
    }
    types.resize(data.tokens.len(), TokenType::Normal);
    for token in [data.bos, data.eos].into_iter().flatten() {
        if let Some(kind) = usize::try_from(token).ok().and_then(|at| types.get_mut(at)) {
            *kind = TokenType::Control;
        }
    }
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::formats::gguf::{Array, Gguf, GgufWriter, Value};
    use crate::sys::file::MemorySource;
    use crate::text::EncodeOptions;
    use std::sync::Arc;

    fn strings(items: &[&str]) -> Value {
        Value::Array(Array::String(Strings::collect(items).unwrap()))
    }

    fn types(ids: &[i32]) -> Value {
        Value::Array(Array::I32(ids.to_vec()))
    }

    fn scores(scores: &[f32]) -> Value {
        Value::Array(Array::F32(scores.to_vec()))
    }

    fn text(text: &str) -> Value {
        Value::String(text.as_bytes().into())
    }

    /// A vocabulary that loads, with some entries changed or, with `None`, left out.
    fn load(kind: &str, changes: &[(&str, Option<Value>)]) -> Result<Tokenizer> {
        let tokens = ["<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab", "▁"];
        let mut entries = vec![
            ("model", text(kind)),
            ("pre", text("gpt-2")),
            ("tokens", strings(&tokens)),
            ("scores", scores(&[0.0; 8])),
            ("merges", strings(&["a b"])),
            ("token_type", types(&[2, 3, 3, 6, 1, 1, 1, 1])),
        ];
        for (key, value) in changes {
            entries.retain(|(other, _)| other != key);
            entries.extend(value.clone().map(|value| (*key, value)));
        }
        let mut writer = GgufWriter::new();
        for (key, value) in entries {
            writer.set(&format!("tokenizer.ggml.{key}"), value).unwrap();
        }
        let mut bytes = Vec::new();
        writer.write_to(&mut bytes).unwrap();
        Tokenizer::from_gguf(Gguf::from_source(Arc::new(MemorySource::new(bytes))).unwrap().metadata())
    }

    #[test]
    fn a_small_vocabulary_of_each_kind_loads() {
        let options = EncodeOptions { add_special: true, parse_special: false };
        let spm = load("llama", &[]).unwrap();
        assert_eq!(spm.encode("abA?", options).unwrap(), [1, 7, 6, 3, 0]);
        assert_eq!((spm.bos(), spm.eos(), spm.is_eog(2)), (Some(1), Some(2), true));
        let bpe = load("gpt2", &[("bos_token_id", Some(Value::U32(1))), ("add_bos_token", Some(Value::Bool(true)))]).unwrap();
        assert_eq!(bpe.encode("abb", options).unwrap(), [1, 6, 5]);
        assert_eq!(bpe.encode("c", options).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_cancelled_load_builds_no_vocabulary() {
        let mut writer = GgufWriter::new();
        let entries = [("model", text("gpt2")), ("pre", text("gpt-2")), ("tokens", strings(&["a"])), ("merges", strings(&[]))];
        entries.into_iter().for_each(|(key, value)| writer.set(&format!("tokenizer.ggml.{key}"), value).unwrap());
        let gguf = Gguf::from_source(Arc::new(MemorySource::new(writer.to_bytes().unwrap()))).unwrap();
        let progress = Progress::default();
        job::run(Tokenizer::from_gguf_with(gguf.metadata(), None, &progress)).unwrap();
        progress.cancel();
        let error = job::run(Tokenizer::from_gguf_with(gguf.metadata(), None, &progress)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn another_pre_tokenizer_may_be_asked_for() {
        let entries = [("model", text("gpt2")), ("pre", text("nonsense")), ("tokens", strings(&["a"])), ("merges", strings(&[]))];
        let mut writer = GgufWriter::new();
        entries.into_iter().for_each(|(key, value)| writer.set(&format!("tokenizer.ggml.{key}"), value).unwrap());
        let mut bytes = Vec::new();
        writer.write_to(&mut bytes).unwrap();
        let gguf = Gguf::from_source(Arc::new(MemorySource::new(bytes))).unwrap();
        let load = |name: Option<&str>| job::run(Tokenizer::from_gguf_with(gguf.metadata(), name, &Progress::default()));
        assert_eq!(load(Some("default")).unwrap().encode("aa", EncodeOptions::default()).unwrap(), [0, 0]);
        let message = |name| load(name).err().unwrap().message().to_owned();
        assert!(message(None).contains("nonsense") && message(None).contains("pre_tokenizer"), "{}", message(None));
        assert!(message(Some("other")).contains("option \"pre_tokenizer\"") && message(Some("other")).contains("\"other\""));
    }

    #[test]
    fn a_vocabulary_without_pre_tokenizer_is_not_given_one() {
        let mut writer = GgufWriter::new();
        writer.set("tokenizer.ggml.model", text("llama")).unwrap();
        let gguf = Gguf::from_source(Arc::new(MemorySource::new(writer.to_bytes().unwrap()))).unwrap();
        let error = job::run(Tokenizer::from_gguf_with(gguf.metadata(), Some("gpt-2"), &Progress::default())).err().unwrap();
        assert!(error.kind() == ErrorKind::InvalidArgument && error.message().contains("\"llama\""), "{error}");
    }

    #[test]
    fn types_may_be_missing() {
        let spm = load("llama", &[("token_type", None)]).unwrap();
        assert!(spm.is_control(1) && spm.is_control(2) && !spm.is_control(4));
    }

    #[test]
    fn an_id_of_minus_one_is_no_token() {
        for id in [Value::I32(-1), Value::I64(-1), Value::U32(u32::MAX)] {
            let bpe = load("gpt2", &[("eos_token_id", Some(id.clone())), ("eot_token_id", Some(id))]).unwrap();
            assert_eq!(bpe.eos(), None);
        }
    }

    /// Each change alone makes the file wrong; the error says what is.
    #[test]
    fn broken_metadata_is_refused() {
        let cases: Vec<(&str, &str, Option<Value>, ErrorKind, &str)> = vec![
            ("llama", "model", None, ErrorKind::Format, "tokenizer.ggml.model"),
            ("llama", "model", Some(Value::U32(1)), ErrorKind::Format, "tokenizer.ggml.model"),
            ("rwkv", "pre", None, ErrorKind::Unsupported, "rwkv"),
            ("gpt2", "pre", Some(text("nonsense")), ErrorKind::Unsupported, "nonsense"),
            ("gpt2", "pre", None, ErrorKind::Unsupported, "tokenizer.ggml.pre"),
            ("gpt2", "merges", None, ErrorKind::Format, "merges"),
            ("gpt2", "merges", Some(strings(&["ab"])), ErrorKind::Format, "merge 0 is \"ab\""),
            ("gpt2", "merges", Some(strings(&[""])), ErrorKind::Format, "merge 0 is \"\""),
            ("gpt2", "merges", Some(strings(&[" "])), ErrorKind::Format, "merge 0 is \" \""),
            ("gpt2", "merges", Some(strings(&["a b", "b a"])), ErrorKind::Format, "merge 1 needs \"ba\""),
            ("gpt2", "merges", Some(strings(&["a "])), ErrorKind::Format, "merge 0 needs \"\""),
            ("gpt2", "merges", Some(types(&[1])), ErrorKind::Format, "expected an array of strings"),
            ("llama", "tokens", None, ErrorKind::Format, "tokens"),
            ("llama", "tokens", Some(strings(&[])), ErrorKind::Format, "no tokens"),
            ("llama", "tokens", Some(types(&[1])), ErrorKind::Format, "expected an array of strings"),
            ("llama", "tokens", Some(strings(&["a"; 8])), ErrorKind::Format, "tokens 0 and 1 are both"),
            ("llama", "tokens", Some(strings(&["0", "1", "2", "<0xZZ>", "4", "5", "6", "7"])), ErrorKind::Format, "<0xZZ>"),
            ("llama", "scores", None, ErrorKind::Format, "scores"),
            ("llama", "scores", Some(scores(&[0.0; 7])), ErrorKind::Format, "8 tokens and 7 scores"),
            ("llama", "scores", Some(scores(&[f32::NAN; 8])), ErrorKind::Format, "not a number"),
            ("llama", "scores", Some(types(&[0; 8])), ErrorKind::Format, "expected an array of f32"),
            ("llama", "token_type", Some(types(&[1; 9])), ErrorKind::Format, "8 tokens and 9 token types"),
            ("llama", "token_type", Some(types(&[7; 8])), ErrorKind::Format, "token 0 has type 7"),
            ("llama", "token_type", Some(types(&[-1; 8])), ErrorKind::Format, "token 0 has type -1"),
            ("llama", "token_type", Some(scores(&[1.0; 8])), ErrorKind::Format, "expected an array of integers"),
            ("llama", "bos_token_id", Some(Value::U32(8)), ErrorKind::Format, "the bos token is 8"),
            ("llama", "eos_token_id", Some(Value::U32(u32::MAX - 1)), ErrorKind::Format, "the eos token is"),
            ("llama", "eot_token_id", Some(Value::U32(8)), ErrorKind::Format, "the end token is 8"),
            ("llama", "unknown_token_id", Some(Value::U32(9)), ErrorKind::Format, "the unknown token is 9"),
            ("llama", "bos_token_id", Some(Value::I32(-2)), ErrorKind::Format, "bos_token_id"),
            ("llama", "bos_token_id", Some(Value::U64(1 << 32)), ErrorKind::Format, "bos_token_id"),
            ("llama", "add_bos_token", Some(Value::U32(1)), ErrorKind::Format, "add_bos_token"),
            ("llama", "add_space_prefix", Some(text("yes")), ErrorKind::Format, "add_space_prefix"),
        ];
        for (kind, key, value, expected, says) in cases {
            let error = load(kind, &[(key, value)]).err().unwrap_or_else(|| panic!("{kind} {key} {says}: loads"));
            assert!(error.kind() == expected && error.message().contains(says), "{kind} {key}: {error}, expected {says}");
        }
    }
}
