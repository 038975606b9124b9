//! Arithmetic on sizes and offsets that come from a file: one type, and every operation is checked.

use crate::error::{Error, ErrorKind, Result};

/// A number of bytes, or an offset in bytes. Cannot wrap: an operation that would is a `Format` error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(u64);

impl ByteSize {
    /// `bytes` bytes.
    pub(crate) const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    /// `self + other`.
    pub(crate) fn plus(self, other: Self) -> Result<Self> {
        self.0.checked_add(other.0).map(Self).ok_or_else(too_large)
    }

    /// `self - other`, or an error if that is negative.
    pub(crate) fn minus(self, other: Self) -> Result<Self> {
        self.0.checked_sub(other.0).map(Self).ok_or_else(too_large)
    }

    /// `n` items of this size.
    pub(crate) fn times(self, n: u64) -> Result<Self> {
        self.0.checked_mul(n).map(Self).ok_or_else(too_large)
    }

    /// The next multiple of `alignment`, which is a power of two.
    pub(crate) fn align_up(self, alignment: u32) -> Result<Self> {
        self.0.checked_next_multiple_of(u64::from(alignment)).map(Self).ok_or_else(too_large)
    }

    /// The size as a length in this process's memory.
    pub(crate) fn to_usize(self) -> Result<usize> {
        usize::try_from(self.0).map_err(|_| too_large())
    }
}

impl From<usize> for ByteSize {
    /// Saturates where a `usize` is wider than 64 bits, which no platform has.
    fn from(bytes: usize) -> Self {
        Self(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

fn too_large() -> Error {
    Error::new(ErrorKind::Format, "a size in the file is out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_refuses_to_wrap() {
        let max = ByteSize::new(u64::MAX);
        let one = ByteSize::new(1);
        assert!(max.plus(one).is_err());
        assert!(one.minus(max).is_err());
        assert!(max.times(2).is_err());
        assert!(max.align_up(32).is_err());
        assert!(max.align_up(0).is_err(), "not a panic either");
    }

    #[test]
    fn operations_compute() {
        let five = ByteSize::new(5);
        assert_eq!(five.plus(five).unwrap().get(), 10);
        assert_eq!(five.minus(five).unwrap().get(), 0);
        assert_eq!(five.times(3).unwrap().to_usize().unwrap(), 15);
        assert_eq!(five.align_up(32).unwrap().get(), 32);
        assert_eq!(ByteSize::new(64).align_up(32).unwrap().get(), 64);
    }
}
