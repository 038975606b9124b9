//! Memory whose size comes from data: allocated fallibly, aligned for SIMD.

use crate::error::{Error, ErrorKind, Result};

/// The alignment of weight and activation buffers: a cache line, and the widest vector register.
pub const ALIGN: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// A zeroed vector of `n` elements, or `OutOfMemory` instead of an abort.
///
/// # Errors
/// `OutOfMemory` with `detail` = bytes wanted, 0.
pub fn try_vec<T: Clone + Default>(n: usize) -> Result<Vec<T>> {
    let mut v = try_with_capacity(n)?;
    v.resize(n, T::default());
    Ok(v)
}

/// An empty vector with room for exactly `n` elements, or `OutOfMemory` instead of an abort.
///
/// # Errors
/// As [`try_vec`].
pub fn try_with_capacity<T>(n: usize) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).map_err(|_| out_of_memory(n.saturating_mul(size_of::<T>())))?;
    Ok(v)
}

fn out_of_memory(bytes: usize) -> Error {
    let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
    Error::new(ErrorKind::OutOfMemory, format!("cannot allocate {bytes} bytes")).with_detail([wanted, 0])
}

/// An owned, zero-initialised byte buffer that starts on a cache line.
pub struct AlignedBytes {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBytes {
    /// `len` zero bytes.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn zeroed(len: usize) -> Result<Self> {
        let n_lines = len.div_ceil(ALIGN);
        let mut lines = Vec::new();
        lines.try_reserve_exact(n_lines).map_err(|_| out_of_memory(len))?;
        lines.resize(n_lines, Line([0; ALIGN]));
        Ok(Self { lines, len })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `lines` owns at least `len` initialised bytes (`len.div_ceil(ALIGN)` lines), and u8 has no alignment.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
