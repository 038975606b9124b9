//! Where bytes come from: anything that can be read at an offset.

use crate::error::Result;

/// A random-access, read-only byte source of known length. Reads may come from several threads at once.
pub trait ReadAt: Send + Sync {
    /// Total length in bytes.
    fn len(&self) -> u64;

    /// True if there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `dst` from `offset`, or fails; never partially.
    ///
    /// # Errors
    /// `Io` if the system refuses, `Format` if the source ends before `dst` is full.
    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<()>;
}
