//! Items with unique names: found by name, kept in the order of the file. Metadata and tensor lists are such tables.

use crate::error::Result;
use crate::fail;
use crate::sys::memory::try_vec;
use std::fmt;

/// Something that a file gives a name.
pub(crate) trait Named {
    /// The name.
    fn name(&self) -> &str;
}

/// Items in file order, and their indices in the order of their names: 4 bytes per item, and no copy of a name.
pub(crate) struct NameTable<T> {
    items: Vec<T>,
    by_name: Vec<u32>,
}

impl<T: Named> NameTable<T> {
    /// Indexes `items`.
    ///
    /// # Errors
    /// `Format` if two have the same name; `OutOfMemory`.
    pub(crate) fn new(items: Vec<T>) -> Result<Self> {
        let mut by_name = try_vec::<u32>(items.len())?;
        for (slot, index) in by_name.iter_mut().zip(0..) {
            *slot = index;
        }
        by_name.sort_unstable_by_key(|&index| name_at(&items, index));
        for (&a, &b) in by_name.iter().zip(by_name.iter().skip(1)) {
            if name_at(&items, a) == name_at(&items, b) {
                fail!(Format, "{} appears twice", Quoted(name_at(&items, a)));
            }
        }
        Ok(Self { items, by_name })
    }

    /// The item called `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        let found = self.by_name.binary_search_by_key(&name, |&index| name_at(&self.items, index)).ok()?;
        item_at(&self.items, *self.by_name.get(found)?)
    }

    /// All items, in file order.
    pub(crate) fn items(&self) -> &[T] {
        &self.items
    }
}

fn item_at<T>(items: &[T], index: u32) -> Option<&T> {
    items.get(usize::try_from(index).ok()?)
}

fn name_at<T: Named>(items: &[T], index: u32) -> &str {
    item_at(items, index).map_or("", Named::name)
}

/// A name from a file as messages show it: in quotes, control characters escaped, cut where it gets long.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

/// Enough for every real name; a message stays one line.
const MAX_QUOTED_CHARS: usize = 80;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MAX_QUOTED_CHARS) {
            Some((cut, _)) => write!(f, "{:?}...", self.0.get(..cut).unwrap_or_default()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// As [`Quoted`], of bytes that need not be UTF-8.
pub(crate) struct QuotedBytes<'a>(pub(crate) &'a [u8]);

impl fmt::Display for QuotedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A character has 4 bytes at most; one more character shows `Quoted` that there is more.
        let start = self.0.get(..4 * MAX_QUOTED_CHARS + 4).unwrap_or(self.0);
        Quoted(&String::from_utf8_lossy(start)).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Named for &str {
        fn name(&self) -> &str {
            self
        }
    }

    #[test]
    fn items_are_found_and_keep_their_order() {
        let table = NameTable::new(vec!["b", "c", "a"]).unwrap();
        assert_eq!(table.items(), ["b", "c", "a"]);
        for name in ["a", "b", "c"] {
            assert_eq!(table.get(name), Some(&name));
        }
        assert_eq!(table.get("d"), None);
        assert_eq!(NameTable::<&str>::new(vec![]).unwrap().get(""), None);
    }

    #[test]
    fn a_second_use_of_a_name_is_named() {
        let error = NameTable::new(vec!["x", "y", "x"]).err().unwrap();
        assert!(error.message().contains("\"x\" appears twice"), "{error}");
    }

    #[test]
    fn quoting_escapes_and_cuts() {
        assert_eq!(Quoted("a\n").to_string(), r#""a\n""#);
        assert_eq!(Quoted(&"é".repeat(1000)).to_string().chars().count(), 85);
        assert_eq!(QuotedBytes(b"a\xff\n").to_string(), "\"a\u{fffd}\\n\"");
        assert_eq!(QuotedBytes(&"\u{1F600}".repeat(1000).into_bytes()).to_string().chars().count(), 85);
    }
}
