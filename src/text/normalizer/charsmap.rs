//! SentencePiece's table of replacements: `precompiled_charsmap` of GGUF, `Precompiled` of `tokenizer.json`.
//!
//! Layout, all little-endian: the size of a trie in bytes (u32), the trie, then the replacements, each ended by a zero
//! byte. The trie is a double array (Aoe 1989) in the bit layout of Darts-clone, whose units are u32.

use super::{out_of_memory, try_string};
use crate::error::Result;
use crate::fail;
use crate::sys::memory::try_with_capacity;
use crate::text::limits::MAX_REPLACED_BYTES;

/// A unit that holds a value: an offset into the replacements.
const IS_VALUE: u32 = 1 << 31;

/// A validated table: every value in the trie is the start of a replacement.
pub(in crate::text) struct Charsmap {
    /// Units of the double array.
    trie: Vec<u32>,
    /// UTF-8, each replacement ended by a zero byte.
    replacements: String,
}

impl Charsmap {
    /// # Errors
    /// `Format` if the sizes contradict each other, or a value is not the start of a replacement; `OutOfMemory`.
    pub(super) fn new(bytes: &[u8]) -> Result<Self> {
        let Some((size, rest)) = bytes.split_first_chunk() else {
            fail!(Format, "the character map has {} bytes, expected 4 at least", bytes.len());
        };
        let size = u32::from_le_bytes(*size) as usize;
        let Some((units, replacements)) = rest.split_at_checked(size).filter(|_| size >= 4 && size.is_multiple_of(4)) else {
            fail!(Format, "the trie of the character map has {size} of {} bytes, expected a multiple of 4", rest.len());
        };
        let Ok(replacements) = std::str::from_utf8(replacements) else {
            fail!(Format, "the replacements of the character map are not UTF-8")
        };
        if replacements.split('\0').any(|replacement| replacement.len() > MAX_REPLACED_BYTES) || !replacements.ends_with('\0') {
            fail!(Format, "a replacement of the character map is longer than {MAX_REPLACED_BYTES} bytes, or does not end");
        }
        let mut table = Self { trie: try_with_capacity(size / 4)?, replacements: try_string(replacements.len())? };
        table.replacements.push_str(replacements);
        table.trie.extend(units.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)));
        let is_start =
            |unit: &&u32| replacements.is_char_boundary((**unit & !IS_VALUE) as usize) && (**unit & !IS_VALUE) < replacements.len() as u32;
        let values = table.trie.iter().filter(|unit| **unit & IS_VALUE != 0);
        if let Some(unit) = values.clone().find(|unit| !is_start(unit)) {
            fail!(Format, "the character map has {} bytes of replacements, but refers to byte {}", replacements.len(), unit & !IS_VALUE);
        }
        Ok(table)
    }

    /// `text` with the longest sequence that has a replacement replaced, again and again.
    pub(super) fn apply(&self, text: &str) -> Result<String> {
        let (mut out, mut rest) = (try_string(text.len())?, text);
        while let Some(c) = rest.chars().next() {
            let (length, piece) = match self.longest(rest) {
                Some(found) => found,
                None => (c.len_utf8(), &rest[..c.len_utf8()]),
            };
            out.try_reserve(piece.len()).map_err(|_| out_of_memory())?;
            out.push_str(piece);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(out)
    }

    /// The length of the longest key that begins `text`, and its replacement.
    fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let (mut found, mut at) = (None, children(*self.trie.first()?));
        for (i, byte) in text.bytes().enumerate().take(MAX_REPLACED_BYTES) {
            at ^= u32::from(byte);
            let Some(&unit) = self.trie.get(at as usize) else { break };
            if byte == 0 || unit & (IS_VALUE | 0xff) != u32::from(byte) {
                break;
            }
            at ^= children(unit);
            let value = self.trie.get(at as usize).filter(|value| has_value(unit) && **value & IS_VALUE != 0);
            // A crafted trie may end a key inside a character.
            if let Some(value) = value.filter(|_| text.is_char_boundary(i + 1)) {
                found = Some((i + 1, value & !IS_VALUE));
            }
        }
        let (length, start) = found?;
        Some((length, self.replacements.get(start as usize..)?.split('\0').next()?))
    }
}

/// What the index of a node's children is combined with: bits 10 to 30, shifted by eight if bit 9 is set.
fn children(unit: u32) -> u32 {
    (unit >> 10) << ((unit & 1 << 9) >> 6)
}

/// True if a key ends at this node: its value is the child of byte zero.
fn has_value(unit: u32) -> bool {
    unit >> 8 & 1 != 0
}

#[cfg(test)]
pub(in crate::text) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A charsmap that replaces each key, made by trying offsets until all children fit.
    pub(in crate::text) fn build(map: &BTreeMap<&str, &str>) -> Vec<u8> {
        let (mut units, mut used, mut texts) = (vec![0u32; 1 << 12], vec![false; 1 << 12], String::new());
        used[0] = true;
        let mut nodes = vec![(Vec::new(), 0usize)];
        while let Some((prefix, node)) = nodes.pop() {
            let below = map.keys().map(|key| key.as_bytes()).filter(|key| key.starts_with(&prefix));
            let mut labels: Vec<u8> = below.map(|key| key.get(prefix.len()).copied().unwrap_or(0)).collect();
            labels.dedup();
            let fits = |offset: &usize| labels.iter().all(|&label| !used[node ^ offset ^ usize::from(label)]);
            let offset = (1..1 << 11).map(|offset| offset ^ node & !0x7ff).find(fits).unwrap();
            units[node] |= (offset as u32) << 10 | u32::from(labels[0] == 0) << 8;
            for label in labels {
                let child = node ^ offset ^ usize::from(label);
                used[child] = true;
                if label == 0 {
                    units[child] = IS_VALUE | texts.len() as u32;
                    texts += map[std::str::from_utf8(&prefix).unwrap()];
                    texts.push('\0');
                } else {
                    units[child] = label.into();
                    nodes.push(([&prefix[..], &[label]].concat(), child));
                }
            }
        }
        let trie: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        [&(trie.len() as u32).to_le_bytes()[..], &trie, texts.as_bytes()].concat()
    }

    fn sample() -> Vec<u8> {
        build(&BTreeMap::from([("\t", " "), ("ﬁ", "fi"), ("e\u{301}", "é"), ("e", "E"), ("½", "1/2"), ("\u{ad}", "")]))
    }

    #[test]
    fn the_longest_key_is_replaced() {
        let charsmap = Charsmap::new(&sample()).unwrap();
        assert_eq!(charsmap.apply("a\tﬁe\u{301}e\u{302}½\u{ad}x\0").unwrap(), "a fiéE\u{302}1/2x\0");
        assert_eq!(charsmap.apply("").unwrap(), "");
    }

    #[test]
    fn broken_maps_are_refused() {
        let map = sample();
        let size = u32::from_le_bytes(*map.first_chunk().unwrap());
        let sized = |size: u32| [&size.to_le_bytes()[..], &map[4..]].concat();
        let cases = [
            (vec![0; 3], "has 3 bytes"),
            (sized(0), "multiple of 4"),
            (sized(size - 2), "multiple of 4"),
            (sized(u32::MAX), "multiple of 4"),
            (sized(size + 4), "refers to byte"),
            (map[..map.len() - 1].to_vec(), "does not end"),
            ([&map[..], &[0xff, 0]].concat(), "not UTF-8"),
            ([&map[..], &[b'x'; 2000], &[0]].concat(), "longer than"),
        ];
        for (bytes, says) in cases {
            let error = Charsmap::new(&bytes).err().unwrap_or_else(|| panic!("{says}: loads"));
            assert!(error.message().contains(says), "{error}, expected {says}");
        }
    }

    proptest! {
        /// Any damage is refused or does no harm.
        #[test]
        fn damaged_maps_do_no_harm(at in 0..20_000usize, bit in 0..8u8, units in prop::collection::vec(any::<u32>(), 1..64), text in "[a-fé½\\t]{0,12}") {
            let mut map = sample();
            let at = at % map.len();
            map[at] ^= 1 << bit;
            let random: Vec<u8> = units.iter().flat_map(|unit| (unit & 0x0fff_ffff).to_le_bytes()).collect();
            let random = [&(random.len() as u32).to_le_bytes()[..], &random, b"\0"].concat();
            for bytes in [map, random] {
                if let Ok(charsmap) = Charsmap::new(&bytes) {
                    charsmap.apply(&text).unwrap();
                }
            }
        }
    }
}
