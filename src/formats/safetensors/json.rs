//! The JSON of safetensors files, read straight into lists: headers and shard indices come from anywhere, and a tree would be many times larger.

use crate::formats::limits::{MAX_DIMS, MAX_TENSORS};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// What a header says about a tensor.
#[derive(Deserialize)]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    pub(super) dtype: Cow<'a, str>,
    /// Outermost dimension first.
    #[serde(deserialize_with = "shape")]
    pub(super) shape: Vec<u64>,
    pub(super) data_offsets: [u64; 2],
}

/// A header: the tensors by name, in the order of the file. `__metadata__` is skipped.
pub(super) type Entries<'a> = List<Entry<'a>>;

/// `model.safetensors.index.json`
#[derive(Deserialize)]
pub(super) struct Index {
    /// Which file has a tensor.
    pub(super) weight_map: List<String>,
}

/// A JSON object as a list: repeated names stay, so that they can be refused.
pub(super) struct List<T>(pub(super) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = Vec<(String, T)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value = map.next_value().map_err(|e| A::Error::custom(format_args!("{name:.80?}: {e}")))?;
                    if !usize::try_from(MAX_TENSORS).is_ok_and(|most| list.len() < most) {
                        return Err(A::Error::custom(format_args!("more than {MAX_TENSORS} tensors")));
                    }
                    list.try_reserve(1).map_err(|_| A::Error::custom("out of memory"))?;
                    list.push((name, value));
                }
                Ok(list)
            }
        }

        deserializer.deserialize_map(ListVisitor(PhantomData)).map(List)
    }
}

/// A few dimensions; a longer list is an error before it is stored.
fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    struct ShapeVisitor;

    impl<'de> Visitor<'de> for ShapeVisitor {
        type Value = Vec<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_DIMS} dimensions")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut dims: A) -> Result<Self::Value, A::Error> {
            let mut shape = Vec::new();
            while let Some(dim) = dims.next_element()? {
                if shape.len() == MAX_DIMS {
                    return Err(A::Error::invalid_length(MAX_DIMS.saturating_add(1), &self));
                }
                shape.push(dim);
            }
            Ok(shape)
        }
    }

    deserializer.deserialize_seq(ShapeVisitor)
}
