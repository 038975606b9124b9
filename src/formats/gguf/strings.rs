//! Many byte strings in one buffer: a vocabulary of 262,144 tokens is two allocations.

use crate::error::{Error, ErrorKind, Result};
use crate::formats::limits::MAX_STRING_ARRAY_BYTES;
use crate::formats::size::ByteSize;
use crate::sys::memory::try_with_capacity;
use std::fmt;

/// A list of byte strings: mostly UTF-8, but tokens may be any bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Strings {
    /// All strings, one after the other.
    bytes: Vec<u8>,
    /// Where each string ends in `bytes`; it starts where the one before ends.
    ends: Vec<u32>,
}

impl Strings {
    /// No strings, with room for `n` ends.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(crate) fn with_capacity(n: usize) -> Result<Self> {
        Ok(Self { bytes: Vec::new(), ends: try_with_capacity(n)? })
    }

    /// The strings of `items`.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn collect<S: AsRef<[u8]>>(items: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut strings = Self::default();
        items.into_iter().try_for_each(|item| strings.push(item.as_ref()))?;
        Ok(strings)
    }

    /// Appends `string`.
    ///
    /// # Errors
    /// `Format` beyond [`MAX_STRING_ARRAY_BYTES`]; `OutOfMemory`.
    pub fn push(&mut self, string: &[u8]) -> Result<()> {
        self.push_with(string.len(), |dst| {
            dst.copy_from_slice(string);
            Ok(())
        })
    }

    /// Appends a string of `n` bytes that `fill` writes. If `fill` fails, nothing is appended.
    pub(crate) fn push_with(&mut self, n: usize, fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<()> {
        let start = self.bytes.len();
        let total = ByteSize::from(start).plus(n.into())?;
        let end = u32::try_from(total.get())
            .map_err(|_| Error::new(ErrorKind::Format, format!("the strings of one array exceed {MAX_STRING_ARRAY_BYTES} bytes")))?;
        self.bytes.try_reserve(n).map_err(|_| out_of_memory(n))?;
        self.ends.try_reserve(1).map_err(|_| out_of_memory(1))?;
        self.bytes.resize(total.to_usize()?, 0);
        if let Err(e) = fill(self.bytes.get_mut(start..).unwrap_or_default()) {
            self.bytes.truncate(start);
            return Err(e);
        }
        self.ends.push(end);
        Ok(())
    }

    /// Gives back memory that was reserved and not used.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `i`.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let start = match i.checked_sub(1) {
            Some(before) => self.end(before)?,
            None => 0,
        };
        self.bytes.get(start..self.end(i)?)
    }

    fn end(&self, i: usize) -> Option<usize> {
        usize::try_from(*self.ends.get(i)?).ok()
    }

    /// All strings, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }
}

fn out_of_memory(n: usize) -> Error {
    Error::new(ErrorKind::OutOfMemory, format!("cannot allocate room for {n} more in a list of strings"))
}

impl fmt::Debug for Strings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(String::from_utf8_lossy)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_keep_their_bytes_and_their_order() {
        let items: [&[u8]; 4] = [b"", b"ab", b"\xff\x00", b""];
        let strings = Strings::collect(items).unwrap();
        assert_eq!(strings.len(), 4);
        assert!(strings.iter().eq(items));
        assert_eq!(strings.get(2), Some(&b"\xff\x00"[..]));
        assert_eq!(strings.get(4), None);
        assert_eq!(strings.get(usize::MAX), None);
    }

    #[test]
    fn a_string_that_could_not_be_read_is_not_there() {
        let mut strings = Strings::collect(["a"]).unwrap();
        let failed = strings.push_with(5, |_| Err(Error::new(ErrorKind::Io, "no")));
        assert!(failed.is_err());
        strings.push(b"b").unwrap();
        assert!(strings.iter().eq([b"a", b"b"]));
    }
}
