//! `tokenizer.json` as it is written: types for serde, which read the large tables without a tree of values.

use crate::formats::names::Quoted;
use crate::text::Token;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The file.
#[derive(Deserialize)]
pub(super) struct Document<'a> {
    #[serde(borrow, default)]
    pub(super) added_tokens: Vec<AddedToken<'a>>,
    #[serde(borrow)]
    pub(super) normalizer: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) post_processor: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) decoder: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) model: Model<'a>,
}

/// A token that is searched for as a whole.
#[derive(Deserialize)]
pub(super) struct AddedToken<'a> {
    pub(super) id: Token,
    #[serde(borrow)]
    pub(super) content: Text<'a>,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) special: bool,
}

/// The model: tokens and merges.
#[derive(Deserialize)]
pub(super) struct Model<'a> {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) dropout: Option<f32>,
    pub(super) unk_token: Option<String>,
    pub(super) continuing_subword_prefix: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    pub(super) fuse_unk: Option<bool>,
    pub(super) byte_fallback: Option<bool>,
    pub(super) ignore_merges: Option<bool>,
    #[serde(borrow)]
    pub(super) vocab: VocabularyMap<'a>,
    #[serde(borrow)]
    pub(super) merges: Option<Vec<Pair<'a>>>,
}

/// A string that borrows from the file unless it is written with escapes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// The `vocab` of a model.
pub(super) enum VocabularyMap<'a> {
    /// Of BPE.
    Ids(Vec<(Text<'a>, Token)>),
    /// Of another model, which is not read.
    Other,
}

impl VocabularyMap<'_> {
    /// The id of `text`; in time linear in the vocabulary.
    pub(super) fn id(&self, text: &str) -> Option<Token> {
        match self {
            Self::Ids(ids) => ids.iter().find(|(known, _)| known.0 == text).map(|(_, id)| *id),
            Self::Other => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for VocabularyMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;

        impl<'de> Visitor<'de> for MapVisitor {
            type Value = VocabularyMap<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut ids = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    ids.push(entry);
                }
                Ok(VocabularyMap::Ids(ids))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(VocabularyMap::Other)
            }
        }

        deserializer.deserialize_any(MapVisitor)
    }
}

/// A merge, written `["a", "b"]` or, before 2024, `"a b"`.
pub(super) struct Pair<'a>(pub(super) [Cow<'a, str>; 2]);

impl<'de: 'a, 'a> Deserialize<'de> for Pair<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairVisitor;

        impl<'de> Visitor<'de> for PairVisitor {
            type Value = Pair<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two strings, or one with a space between its two halves")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut half = |at| items.next_element::<Text<'de>>()?.ok_or_else(|| A::Error::invalid_length(at, &self));
                Ok(Pair([half(0)?.0, half(1)?.0]))
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                halves(text).map(|halves| Pair(halves.map(Cow::Borrowed)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                halves(text).map(|halves| Pair(halves.map(|half| Cow::Owned(half.to_owned()))))
            }
        }

        deserializer.deserialize_any(PairVisitor)
    }
}

/// The two halves of `"a b"`. Tokens hold no spaces, as both alphabets write something else for it.
fn halves<E: Error>(text: &str) -> Result<[&str; 2], E> {
    let halves = text.split_once(' ').filter(|(_, right)| !right.contains(' '));
    halves.map(Into::into).ok_or_else(|| E::custom(format_args!("merge {}, expected one space in it", Quoted(text))))
}
