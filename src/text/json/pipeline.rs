//! The parts of `tokenizer.json` around the model: normalizer, pre-tokenizer, post-processor, decoder.
//!
//! Each is recognised in the forms in which it was published for the families we run; all else is refused by quoting it.

use super::base64;
use super::document::Document;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::text::limits::MAX_JSON_PART_BYTES;
use crate::text::pretokenizer::{GPT2, Named, PUNCTUATION, Step, digits, from_pattern};
use crate::text::vocabulary::SPACE_MARK;
use crate::text::{Alphabet, BertRules, Normalization, PreTokenizer, SpacePrefix, Token};
use serde_json::Value;
use serde_json::value::RawValue;

/// What the parts ask for.
pub(super) struct Pipeline {
    pub(super) alphabet: Alphabet,
    pub(super) normalizations: Vec<Normalization<'static>>,
    pub(super) space_prefix: SpacePrefix,
    pub(super) strip_first_space: bool,
    pub(super) pre_tokenizer: PreTokenizer,
    pub(super) prefix: Vec<Token>,
    pub(super) suffix: Vec<Token>,
}

/// What the parts were seen to do.
#[derive(Default)]
struct Seen {
    bytes: bool,
    space_marks: bool,
    normalizations: Vec<Normalization<'static>>,
    /// BERT's words.
    words: bool,
    space_prefix: Option<SpacePrefix>,
    strip_first_space: bool,
    steps: Vec<Step>,
    /// What the host wants in place of the steps.
    instead: Option<&'static Named>,
    prefix: Vec<Token>,
    suffix: Vec<Token>,
}

impl Pipeline {
    /// # Errors
    /// `Unsupported`, quoting the part that is not known; `InvalidArgument` if words are asked to be cut otherwise and cannot.
    pub(super) fn new(document: &Document<'_>, instead: Option<&'static Named>) -> Result<Self> {
        let mut seen = Seen { instead, ..Seen::default() };
        each_part("normalizers", document.normalizer, &mut |part| seen.normalizer(part)).map_err(|e| e.at("normalizer"))?;
        let pre_tokenizers = &mut |part: &Value| seen.pre_tokenizer(part);
        each_part("pretokenizers", document.pre_tokenizer, pre_tokenizers).map_err(|e| e.at("pre_tokenizer"))?;
        let post_processors = &mut |part: &Value| seen.post_processor(part);
        each_part("processors", document.post_processor, post_processors).map_err(|e| e.at("post_processor"))?;
        each_part("decoders", document.decoder, &mut |part| seen.decoder(part)).map_err(|e| e.at("decoder"))?;
        seen.finish()
    }
}

impl Seen {
    fn finish(self) -> Result<Pipeline> {
        let is_bert = |part: &Normalization<'_>| matches!(part, Normalization::Bert(_));
        let alphabet = match (self.bytes, self.space_marks, self.words, self.normalizations.iter().any(is_bert)) {
            (true, false, false, false) => Alphabet::Bytes,
            (false, true, false, false) => Alphabet::Characters,
            (false, false, true, true) if self.normalizations.len() == 1 && self.steps == [Step::BeforeSpace] => Alphabet::Words,
            _ => fail!(Unsupported, "expected either ByteLevel, or U+2581 for spaces, or BertNormalizer with BertPreTokenizer"),
        };
        let pre_tokenizer = match self.instead {
            None => PreTokenizer { steps: self.steps },
            Some(named) if alphabet == Alphabet::Bytes => named.pre_tokenizer(),
            Some(_) => fail!(InvalidArgument, "option \"pre_tokenizer\": only a vocabulary of bytes has one"),
        };
        Ok(Pipeline {
            alphabet,
            normalizations: self.normalizations,
            space_prefix: self.space_prefix.unwrap_or(SpacePrefix::Never),
            strip_first_space: self.strip_first_space || self.words,
            pre_tokenizer,
            prefix: self.prefix,
            suffix: self.suffix,
        })
    }

    fn normalizer(&mut self, part: &Value) -> Result<()> {
        match kind(part) {
            "NFC" => self.normalizations.push(Normalization::Nfc),
            "BertNormalizer" => self.normalizations.push(Normalization::Bert(bert_rules(part))),
            "Precompiled" => match text(part, "precompiled_charsmap").and_then(base64::decode) {
                Some(charsmap) => self.normalizations.push(Normalization::Charsmap(charsmap.into())),
                None => fail!(Format, "the precompiled_charsmap is not Base64"),
            },
            "Strip" => self
                .normalizations
                .push(Normalization::Strip { start: flag(part, "strip_left", true), end: flag(part, "strip_right", true) }),
            "Replace" if merges_spaces(part) => self.normalizations.push(Normalization::MergeSpaces),
            "Prepend" if text(part, "prepend") == Some(SPACE_MARK) => self.set_prefix(SpacePrefix::EveryStretch, part)?,
            "Replace" if replaces(part, " ", SPACE_MARK) => self.space_marks = true,
            _ => return unknown(part),
        }
        Ok(())
    }

    fn pre_tokenizer(&mut self, part: &Value) -> Result<()> {
        match kind(part) {
            "ByteLevel" => self.byte_level(part)?,
            "BertPreTokenizer" => {
                self.words = true;
                self.steps.push(Step::BeforeSpace);
            }
            "WhitespaceSplit" => self.normalizations.push(Normalization::OneSpacePerWord),
            "Metaspace" if matches!(text(part, "replacement"), None | Some(SPACE_MARK)) => self.metaspace(part)?,
            // After ByteLevel, numbers are ASCII digits and six bytes that are parts of characters: merges learnt so do not cross those.
            "Digits" => self.steps.push(digits(flag(part, "individual_digits", false), self.bytes)),
            "Punctuation" if text(part, "behavior") == Some("Contiguous") => self.steps.push(PUNCTUATION),
            "Split" if self.instead.is_some() => {}
            // Gemma's: after its normalizer there are no spaces left to split at.
            "Split" if self.space_marks && part.pointer("/pattern/String").and_then(Value::as_str) == Some(" ") => {}
            "Split" if isolates(part) => match part.pointer("/pattern/Regex").and_then(Value::as_str) {
                Some(pattern) => self.steps.push(from_pattern(pattern)?),
                None => return unknown(part),
            },
            _ => return unknown(part),
        }
        Ok(())
    }

    fn byte_level(&mut self, part: &Value) -> Result<()> {
        if flag(part, "add_prefix_space", true) {
            if !self.steps.is_empty() {
                return unknown(part); // it would put a space before every word
            }
            self.set_prefix(SpacePrefix::EveryStretchWithout, part)?;
        }
        if flag(part, "use_regex", true) {
            self.steps.push(Step::Words(GPT2));
        }
        self.bytes = true;
        Ok(())
    }

    fn metaspace(&mut self, part: &Value) -> Result<()> {
        self.space_marks = true;
        let scheme = match text(part, "prepend_scheme") {
            None if flag(part, "add_prefix_space", true) => SpacePrefix::EveryStretchWithout,
            None | Some("never") => SpacePrefix::Never,
            Some("always") => SpacePrefix::EveryStretchWithout,
            Some("first") => SpacePrefix::TextStart,
            Some(_) => return unknown(part),
        };
        if matches!(self.normalizations.last(), Some(Normalization::OneSpacePerWord)) && scheme != SpacePrefix::EveryStretchWithout {
            return unknown(part); // words of which only the first has a mark
        }
        if flag(part, "split", true) {
            self.steps.push(Step::BeforeSpace);
        }
        self.set_prefix(scheme, part)
    }

    fn set_prefix(&mut self, prefix: SpacePrefix, part: &Value) -> Result<()> {
        match self.space_prefix.replace(prefix) {
            None => Ok(()),
            Some(_) => unknown(part), // two prefixes
        }
    }

    fn post_processor(&mut self, part: &Value) -> Result<()> {
        match kind(part) {
            "ByteLevel" => Ok(()), // offsets only
            "TemplateProcessing" => self.template(part),
            "BertProcessing" | "RobertaProcessing" => self.pair(part),
            _ => unknown(part),
        }
    }

    /// `cls` and `sep` are `[text, id]`: they go around the text.
    fn pair(&mut self, part: &Value) -> Result<()> {
        let id = |key: &str| part.get(key)?.get(1)?.as_u64().and_then(|id| Token::try_from(id).ok());
        let (Some(cls), Some(sep)) = (id("cls"), id("sep")) else { return unknown(part) };
        self.prefix.push(cls);
        self.suffix.push(sep);
        Ok(())
    }

    /// `single` is a list of special tokens around one `Sequence`, the text.
    fn template(&mut self, part: &Value) -> Result<()> {
        let mut before_text = true;
        for item in part.get("single").and_then(Value::as_array).into_iter().flatten() {
            if item.get("Sequence").is_some() {
                before_text = false;
                continue;
            }
            let name = item.pointer("/SpecialToken/id").and_then(Value::as_str);
            let token = name.and_then(|name| part.get("special_tokens")?.get(name)?.get("ids")?.as_array());
            let Some(ids) = token else { return unknown(item) };
            for id in ids {
                let Some(id) = id.as_u64().and_then(|id| Token::try_from(id).ok()) else { return unknown(id) };
                if before_text { self.prefix.push(id) } else { self.suffix.push(id) }
            }
        }
        if before_text { unknown(part) } else { Ok(()) }
    }

    fn decoder(&mut self, part: &Value) -> Result<()> {
        match kind(part) {
            "ByteLevel" | "ByteFallback" | "Fuse" | "WordPiece" => {}
            "Replace" if replaces(part, SPACE_MARK, " ") => {}
            "Strip" if text(part, "content") == Some(" ") => self.strip_first_space |= part.get("start") == Some(&1.into()),
            "Metaspace" => {
                let never = text(part, "prepend_scheme") == Some("never") || !flag(part, "add_prefix_space", true);
                self.strip_first_space |= !never;
            }
            _ => return unknown(part),
        }
        Ok(())
    }
}

/// Calls `each` with the parts of a `Sequence`, whose list has the name `list`, or with the one part there is.
fn each_part(list: &str, part: Option<&RawValue>, each: &mut dyn FnMut(&Value) -> Result<()>) -> Result<()> {
    let Some(part) = part else { return Ok(()) };
    let n_bytes = part.get().len();
    if n_bytes > MAX_JSON_PART_BYTES {
        fail!(Unsupported, "{n_bytes} bytes of JSON, expected {MAX_JSON_PART_BYTES} at most");
    }
    let part: Value = serde_json::from_str(part.get()).map_err(|e| Error::new(ErrorKind::Format, e.to_string()))?;
    if kind(&part) != "Sequence" {
        return each(&part);
    }
    match part.get(list).and_then(Value::as_array) {
        Some(parts) => parts.iter().try_for_each(each),
        None => unknown(&part),
    }
}

fn kind(part: &Value) -> &str {
    text(part, "type").unwrap_or_default()
}

fn text<'a>(part: &'a Value, key: &str) -> Option<&'a str> {
    part.get(key)?.as_str()
}

fn flag(part: &Value, key: &str, default: bool) -> bool {
    part.get(key).and_then(Value::as_bool).unwrap_or(default)
}

fn replaces(part: &Value, from: &str, to: &str) -> bool {
    part.pointer("/pattern/String").and_then(Value::as_str) == Some(from) && text(part, "content") == Some(to)
}

/// ` {2,}` becomes a space, or what stands for one.
fn merges_spaces(part: &Value) -> bool {
    part.pointer("/pattern/Regex").and_then(Value::as_str) == Some(" {2,}") && matches!(text(part, "content"), Some(" " | SPACE_MARK))
}

fn bert_rules(part: &Value) -> BertRules {
    let lowercase = flag(part, "lowercase", true);
    BertRules {
        clean: flag(part, "clean_text", true),
        isolate_chinese: flag(part, "handle_chinese_chars", true),
        strip_accents: flag(part, "strip_accents", lowercase),
        lowercase,
    }
}

/// True if a `Split` keeps what it finds and what lies between. The known patterns leave nothing between.
fn isolates(part: &Value) -> bool {
    matches!((text(part, "behavior"), flag(part, "invert", false)), (Some("Isolated"), false) | (Some("Removed"), true))
}

/// Characters of a part that are quoted in the message that refuses it.
const MAX_QUOTE: usize = 300;

fn unknown<T>(part: &Value) -> Result<T> {
    let quote: String = part.to_string().chars().take(MAX_QUOTE).collect();
    fail!(Unsupported, "{quote} is not known to this build")
}
