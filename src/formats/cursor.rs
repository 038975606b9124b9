//! Reads a header from front to back: buffered, little-endian, and never past the end. Format readers are made of it.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::size::ByteSize;
use crate::sys::file::ReadAt;
use crate::sys::memory::try_vec;

/// One read of the operating system fetches this much: few calls for a header of megabytes, little waste for a small one.
const BUFFER_BYTES: u64 = 64 << 10;

/// A position in a source, and the bytes that were read ahead of it.
pub(crate) struct Cursor<'a> {
    source: &'a dyn ReadAt,
    /// Bytes of the source from here on are not read: its end, or the cap of the caller.
    end: ByteSize,
    /// Where `buffer` starts in the source.
    base: ByteSize,
    buffer: Vec<u8>,
    /// How much of `buffer` is consumed.
    used: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte of `source` that may read `max_bytes` bytes at most.
    pub(crate) fn new(source: &'a dyn ReadAt, max_bytes: u64) -> Self {
        let end = ByteSize::new(source.len().min(max_bytes));
        Self { source, end, base: ByteSize::default(), buffer: Vec::new(), used: 0 }
    }

    /// Offset of the next byte.
    pub(crate) fn position(&self) -> Result<ByteSize> {
        self.base.plus(self.used.into())
    }

    /// Fails unless `n` bytes can still follow. To be asked before memory is allocated for them.
    pub(crate) fn expect_bytes(&self, n: u64) -> Result<()> {
        match self.remaining()? >= ByteSize::new(n) {
            true => Ok(()),
            false => Err(self.too_short(format_args!("{n} bytes"))),
        }
    }

    /// Fails unless `n` items of at least `min_bytes` bytes each can still follow.
    pub(crate) fn expect_items(&self, n: u64, min_bytes: u64) -> Result<()> {
        match ByteSize::new(min_bytes).times(n) {
            Ok(needed) if needed <= self.remaining()? => Ok(()),
            _ => Err(self.too_short(format_args!("{n} items of {min_bytes} bytes or more"))),
        }
    }

    fn remaining(&self) -> Result<ByteSize> {
        self.end.minus(self.position()?)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        if let Some(bytes) = self.buffer.get(self.used..).and_then(<[u8]>::first_chunk) {
            self.used = self.used.saturating_add(N);
            return Ok(*bytes);
        }
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The next `dst.len()` bytes, into `dst`.
    pub(crate) fn fill(&mut self, dst: &mut [u8]) -> Result<()> {
        self.expect_bytes(ByteSize::from(dst.len()).get())?;
        let mut dst = dst;
        while !dst.is_empty() {
            let ahead = self.read_ahead()?;
            let n = ahead.len().min(dst.len());
            let (Some((from, _)), Some((to, rest))) = (ahead.split_at_checked(n), dst.split_at_mut_checked(n)) else {
                return Err(self.too_short(format_args!("{n} bytes")));
            };
            to.copy_from_slice(from);
            dst = rest;
            self.used = self.used.saturating_add(n);
        }
        Ok(())
    }

    /// The buffered bytes after the position: at least one. Fetches more of the source when there are none.
    fn read_ahead(&mut self) -> Result<&[u8]> {
        if self.used >= self.buffer.len() {
            let base = self.position()?;
            let n = self.end.minus(base)?.min(ByteSize::new(BUFFER_BYTES)).to_usize()?;
            if n == 0 {
                return Err(self.too_short(format_args!("more")));
            }
            if self.buffer.len() != n {
                self.buffer = try_vec(n)?;
            }
            self.source.read_exact_at(base.get(), &mut self.buffer)?;
            (self.base, self.used) = (base, 0);
        }
        Ok(self.buffer.get(self.used..).unwrap_or_default())
    }

    /// The next `n` bytes, in memory of their own.
    pub(crate) fn bytes(&mut self, n: u64) -> Result<Vec<u8>> {
        self.expect_bytes(n)?;
        let mut bytes = try_vec(ByteSize::new(n).to_usize()?)?;
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The next 4 bytes as a number.
    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next 8 bytes as a number.
    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn too_short(&self, wanted: std::fmt::Arguments<'_>) -> Error {
        let at = self.position().map_or(u64::MAX, ByteSize::get);
        let end = self.end.get();
        let what = if end < self.source.len() { "the header may not be longer than" } else { "the file ends at" };
        Error::new(ErrorKind::Format, format!("{what} byte {end}, expected {wanted} at byte {at}"))
    }
}

/// `n`, or an error that says which `limit` on `what` it exceeds.
pub(crate) fn at_most(limit: u64, n: u64, what: &str) -> Result<u64> {
    if n > limit {
        fail!(Format, "{n} {what}, expected {limit} at most");
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::MemorySource;

    fn numbers(n: usize) -> MemorySource<Vec<u8>> {
        MemorySource::new((0..n).map(|i| (i % 251) as u8).collect())
    }

    #[test]
    fn reads_cross_the_buffer_border() {
        let n = BUFFER_BYTES as usize * 2 + 5;
        let source = numbers(n);
        let mut cursor = Cursor::new(&source, u64::MAX);
        for at in (0..n - 6).step_by(7) {
            let expected: [u8; 7] = std::array::from_fn(|i| ((at + i) % 251) as u8);
            assert_eq!(cursor.array::<7>().unwrap(), expected, "at {at}");
        }
    }

    #[test]
    fn one_read_may_be_larger_than_the_buffer() {
        let n = BUFFER_BYTES as usize * 3;
        let source = numbers(n);
        let mut cursor = Cursor::new(&source, u64::MAX);
        cursor.u32().unwrap();
        let bytes = cursor.bytes(n as u64 - 4).unwrap();
        assert!(bytes.iter().enumerate().all(|(i, &b)| b == ((i + 4) % 251) as u8));
        assert_eq!(cursor.position().unwrap().get(), n as u64);
    }

    #[test]
    fn the_end_is_an_error_that_says_where() {
        let source = numbers(10);
        let mut cursor = Cursor::new(&source, u64::MAX);
        cursor.u64().unwrap();
        let error = cursor.u32().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.message().contains("ends at byte 10") && error.message().contains("at byte 8"), "{error}");
        assert!(cursor.bytes(3).is_err() && cursor.bytes(u64::MAX).is_err());
        assert!(cursor.expect_items(u64::MAX, 2).is_err());
        assert_eq!(cursor.bytes(2).unwrap(), [8, 9], "a refused read consumes nothing");
    }

    #[test]
    fn the_cap_is_an_error_that_says_so() {
        let source = numbers(10);
        let error = Cursor::new(&source, 6).u64().unwrap_err();
        assert!(error.message().contains("may not be longer than byte 6"), "{error}");
    }
}
