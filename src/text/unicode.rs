//! The Unicode classes that published pre-tokenizer patterns name, as one table lookup per character.
//!
//! For `pretokenizer`. The ranges come from `regex-syntax`; every tokenizer owns its table, as the library has no statics.

use super::vocabulary::out_of_memory;
use crate::error::{Error, ErrorKind, Result};
use regex_syntax::hir::{Class, HirKind};

/// A set of classes, one bit each.
pub(super) type ClassSet = u8;

/// `\p{L}`
pub(super) const LETTER: ClassSet = 1;
/// `\p{N}`
pub(super) const NUMBER: ClassSet = 1 << 1;
/// `\s`
pub(super) const SPACE: ClassSet = 1 << 2;
/// `\p{M}`
pub(super) const MARK: ClassSet = 1 << 3;
/// `\p{P}`
pub(super) const PUNCTUATION: ClassSet = 1 << 4;
/// `\p{S}`
pub(super) const SYMBOL: ClassSet = 1 << 5;
/// `\p{Lu}` or `\p{Lt}`
pub(super) const UPPERCASE: ClassSet = 1 << 6;
/// `\p{Ll}`
pub(super) const LOWERCASE: ClassSet = 1 << 7;

const PATTERNS: [(ClassSet, &str); 8] = [
    (LETTER, r"\p{L}"),
    (NUMBER, r"\p{N}"),
    (SPACE, r"\s"),
    (MARK, r"\p{M}"),
    (PUNCTUATION, r"\p{P}"),
    (SYMBOL, r"\p{S}"),
    (UPPERCASE, r"[\p{Lu}\p{Lt}]"),
    (LOWERCASE, r"\p{Ll}"),
];

/// Characters per block of the table: most blocks of this size are equal to another one.
const BLOCK: usize = 256;

/// The classes of every character, in two levels: blocks of 256 characters, equal blocks stored once (about 80 KiB).
pub(super) struct Classes {
    /// Which of `blocks` holds the characters from `256 * i`; (0x1100)
    index: Vec<u16>,
    blocks: Vec<[ClassSet; BLOCK]>,
    /// `\d`
    decimal: Ranges,
}

impl Classes {
    pub(super) fn new() -> Result<Self> {
        let sets = class_ranges()?;
        let mut table = Self { index: Vec::new(), blocks: Vec::new(), decimal: Ranges::new(r"\p{Nd}")? };
        let mut next = [0; PATTERNS.len()]; // per class: the first range that does not end before the block
        for first in (0..=u32::from(char::MAX)).step_by(BLOCK) {
            let mut block = [0; BLOCK];
            for ((ranges, next), (class, _)) in sets.iter().zip(&mut next).zip(PATTERNS) {
                fill(&mut block, first, ranges, next, class);
            }
            table.push(block)?;
        }
        Ok(table)
    }

    fn push(&mut self, block: [ClassSet; BLOCK]) -> Result<()> {
        let at = match self.blocks.iter().position(|b| *b == block) {
            Some(known) => known,
            None => {
                self.blocks.try_reserve(1).map_err(|_| out_of_memory())?;
                self.blocks.push(block);
                self.blocks.len() - 1
            }
        };
        self.index.push(u16::try_from(at).map_err(|_| internal("has more than 65,536 kinds of block"))?);
        Ok(())
    }

    /// True for `\d`.
    pub(super) fn is_decimal(&self, c: char) -> bool {
        c.is_ascii_digit() || (!c.is_ascii() && self.decimal.contains(c))
    }

    /// The classes of `c`.
    #[inline]
    pub(super) fn of(&self, c: char) -> ClassSet {
        let c = u32::from(c) as usize; // at most 0x10ffff, and `new` fills the index up to there
        self.blocks[usize::from(self.index[c / BLOCK])][c % BLOCK]
    }
}

/// Sets `class` for the characters of the block from `first` that lie in `ranges`, which are sorted.
fn fill(block: &mut [ClassSet; BLOCK], first: u32, ranges: &[(u32, u32)], next: &mut usize, class: ClassSet) {
    let last = first + (BLOCK as u32 - 1);
    while let Some(&(start, end)) = ranges.get(*next) {
        for c in start.max(first)..=end.min(last) {
            block[(c - first) as usize] |= class;
        }
        if end > last {
            return; // goes on in the next block
        }
        *next += 1;
    }
}

/// The sorted, disjoint ranges of each of [`PATTERNS`].
fn class_ranges() -> Result<Vec<Vec<(u32, u32)>>> {
    PATTERNS.iter().map(|(_, pattern)| ranges(pattern)).collect()
}

/// The sorted, disjoint ranges of `pattern`, a class.
fn ranges(pattern: &str) -> Result<Vec<(u32, u32)>> {
    let hir = regex_syntax::parse(pattern).map_err(|e| internal(&e.to_string()))?;
    let HirKind::Class(Class::Unicode(class)) = hir.kind() else {
        return Err(internal(&format!("has no class for {pattern}")));
    };
    Ok(class.ranges().iter().map(|r| (r.start().into(), r.end().into())).collect())
}

/// `\p{Han}`, Chinese characters; the tables of scripts are not in this build. (first, last)
const HAN: [(u32, u32); 22] = [
    (0x2e80, 0x2e99),
    (0x2e9b, 0x2ef3),
    (0x2f00, 0x2fd5),
    (0x3005, 0x3005),
    (0x3007, 0x3007),
    (0x3021, 0x3029),
    (0x3038, 0x303b),
    (0x3400, 0x4dbf),
    (0x4e00, 0x9fff),
    (0xf900, 0xfa6d),
    (0xfa70, 0xfad9),
    (0x16fe2, 0x16fe3),
    (0x16ff0, 0x16ff1),
    (0x20000, 0x2a6df),
    (0x2a700, 0x2b739),
    (0x2b740, 0x2b81d),
    (0x2b820, 0x2cea1),
    (0x2ceb0, 0x2ebe0),
    (0x2ebf0, 0x2ee5d),
    (0x2f800, 0x2fa1d),
    (0x30000, 0x3134a),
    (0x31350, 0x323af),
];

/// True for a Chinese character.
pub(super) fn is_han(c: char) -> bool {
    c >= '\u{2e80}' && HAN.iter().any(|&(first, last)| (first..=last).contains(&u32::from(c)))
}

/// The characters of one class, for classes that are asked for rarely.
pub(super) struct Ranges {
    /// Sorted and disjoint.
    ranges: Vec<(u32, u32)>,
}

impl Ranges {
    /// The characters that `pattern`, a class, accepts.
    pub(super) fn new(pattern: &str) -> Result<Self> {
        Ok(Self { ranges: ranges(pattern)? })
    }

    pub(super) fn contains(&self, c: char) -> bool {
        let c = u32::from(c);
        let after = self.ranges.partition_point(|&(_, end)| end < c);
        self.ranges.get(after).is_some_and(|&(start, _)| start <= c)
    }
}

fn internal(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("the Unicode table {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library_on_every_character_of_both_unicode_versions() {
        let classes = Classes::new().unwrap();
        for c in '\0'..=char::MAX {
            let class = classes.of(c);
            assert_eq!(class & SPACE != 0, c.is_whitespace(), "{c:?}");
            assert!(class == 0 || (class & NUMBER != 0) == c.is_numeric(), "{c:?}");
            assert!(class & LETTER == 0 || c.is_alphabetic(), "{c:?}");
            assert!(!c.is_ascii() || (class & (PUNCTUATION | SYMBOL) != 0) == c.is_ascii_punctuation(), "{c:?}");
        }
    }

    /// A newer Unicode adds characters to the script: those that are unassigned here do not count.
    #[test]
    fn chinese_characters_are_those_of_the_script() {
        let han = tokenizers::utils::SysRegex::new(r"\p{Han}").unwrap();
        let classes = Classes::new().unwrap();
        for c in ('\0'..=char::MAX).filter(|&c| classes.of(c) != 0) {
            assert_eq!(is_han(c), han.find_iter(c.encode_utf8(&mut [0; 4])).next().is_some(), "{c:?} {:x}", u32::from(c));
        }
    }

    #[test]
    fn letters_have_a_case_or_none_and_marks_are_no_letters() {
        let classes = Classes::new().unwrap();
        let expected = [
            ('a', LETTER | LOWERCASE),
            ('Z', LETTER | UPPERCASE),
            ('ǅ', LETTER | UPPERCASE),
            ('ß', LETTER | LOWERCASE),
            ('中', LETTER),
            ('\u{301}', MARK),
            ('½', NUMBER),
            ('\u{85}', SPACE),
            ('€', SYMBOL),
            ('«', PUNCTUATION),
            ('\u{10ffff}', 0),
        ];
        for (c, class) in expected {
            assert_eq!(classes.of(c), class, "{c:?}");
        }
    }
}
