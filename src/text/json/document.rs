//! `tokenizer.json` as it is written: types for serde, which read the large tables without a tree of values.

use crate::formats::names::Quoted;
use crate::text::Token;
use crate::text::limits::MAX_TOKENS;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// The file.
#[derive(Deserialize)]
pub(super) struct Document<'a> {
    #[serde(borrow, default)]
    pub(super) added_tokens: List<AddedToken<'a>>,
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
    pub(super) max_input_chars_per_word: Option<usize>,
    pub(super) unk_id: Option<Token>,
    #[serde(borrow)]
    pub(super) vocab: VocabularyMap<'a>,
    #[serde(borrow)]
    pub(super) merges: Option<List<Pair<'a>>>,
}

impl Model<'_> {
    /// The type of the model; files of 2019 do not say that it is BPE.
    pub(super) fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("BPE")
    }

    /// True if its type is `kind`.
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind() == kind
    }
}

/// A list of at most [`MAX_TOKENS`] items, for which memory is asked and not taken: added tokens are tokens, and a merge makes one.
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    push(&mut list, item)?;
                }
                Ok(list)
            }
        }

        deserializer.deserialize_seq(ListVisitor(PhantomData)).map(List)
    }
}

/// Appends to a list of at most [`MAX_TOKENS`] items.
fn push<T, E: Error>(list: &mut Vec<T>, item: T) -> Result<(), E> {
    if list.len() == MAX_TOKENS {
        return Err(E::custom(format_args!("a list of more than {MAX_TOKENS} items")));
    }
    list.try_reserve(1).map_err(|_| E::custom("out of memory"))?;
    list.push(item);
    Ok(())
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
    /// Of BPE and WordPiece.
    Ids(Vec<(Text<'a>, Token)>),
    /// Of Unigram: in the order of their ids, with their log probabilities.
    Scores(Vec<(Text<'a>, f64)>),
}

impl VocabularyMap<'_> {
    /// The id of `text`; in time linear in the vocabulary.
    pub(super) fn id(&self, text: &str) -> Option<Token> {
        match self {
            Self::Ids(ids) => ids.iter().find(|(known, _)| known.0 == text).map(|(_, id)| *id),
            Self::Scores(scores) => scores.iter().position(|(known, _)| known.0 == text).and_then(|at| Token::try_from(at).ok()),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for VocabularyMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;

        impl<'de> Visitor<'de> for MapVisitor {
            type Value = VocabularyMap<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tokens to ids, or a list of tokens with their scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut ids = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    push(&mut ids, entry)?;
                }
                Ok(VocabularyMap::Ids(ids))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut scores = Vec::new();
                while let Some(entry) = items.next_element()? {
                    push(&mut scores, entry)?;
                }
                Ok(VocabularyMap::Scores(scores))
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
