//! Memory whose size comes from data: allocated fallibly, aligned for SIMD, on huge pages where it is large.

use crate::error::{Error, ErrorKind, Result};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// The alignment of weight and activation buffers: a cache line, and the widest vector register.
pub const ALIGN: usize = 64;

/// A huge page of x86-64, and of aarch64 with pages of 4 KiB. A buffer of this size begins on one: a stream of weights then needs a
/// translation per 2 MiB, which is worth a third of the bandwidth in a virtual machine.
const HUGE_PAGE: usize = 2 << 20;

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

/// Makes `v` at least `n` elements long, the new ones zero. Grows by half at least, so that steady growth allocates rarely.
///
/// # Errors
/// `OutOfMemory` with `detail` = bytes wanted, 0; `v` is unchanged.
pub fn try_grow<T: Clone + Default>(v: &mut Vec<T>, n: usize) -> Result<()> {
    if n > v.len() {
        let wanted = n.max(v.len() + v.len() / 2);
        v.try_reserve_exact(wanted - v.len()).map_err(|_| out_of_memory(wanted.saturating_mul(size_of::<T>())))?;
        v.resize(wanted, T::default());
    }
    Ok(())
}

fn out_of_memory(bytes: usize) -> Error {
    let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
    Error::new(ErrorKind::OutOfMemory, format!("cannot allocate {bytes} bytes")).with_detail([wanted, 0])
}

/// An owned, zero-initialised byte buffer that starts on a cache line; a large one on a huge page.
///
/// Its pages are the system's own zero pages until they are written: a large buffer costs memory only where it is used.
pub struct AlignedBytes {
    /// The allocation: `allocated(len)` bytes, zeroed.
    base: NonNull<u8>,
    /// From `base` to the first byte of the buffer; below `alignment(len)`.
    offset: usize,
    len: usize,
}

// SAFETY: the buffer is plain bytes with one owner and no interior mutability, as `Vec<u8>`.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// `len` zero bytes.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn zeroed(len: usize) -> Result<Self> {
        let layout = Self::allocated(len).ok_or_else(|| out_of_memory(len))?;
        // SAFETY: the layout is not empty: it has `alignment(len)` bytes more than `len`.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(|| out_of_memory(len))?;
        let mut bytes = Self { base, offset: base.addr().get().wrapping_neg() % Self::alignment(len), len };
        ask_for_huge_pages(bytes.as_mut_slice());
        Ok(bytes)
    }

    /// What the first byte is a multiple of.
    const fn alignment(len: usize) -> usize {
        if len < HUGE_PAGE { ALIGN } else { HUGE_PAGE }
    }

    /// Alignment is made by hand: allocators give untouched zero pages only for alignments that `calloc` knows.
    fn allocated(len: usize) -> Option<Layout> {
        Layout::from_size_align(len.checked_add(Self::alignment(len))?, 1).ok()
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `base` has `len + alignment(len)` initialised bytes and `offset < alignment(len)`; `&self` keeps writers away.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(self.offset), self.len) }
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(self.offset), self.len) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        if let Some(layout) = Self::allocated(self.len) {
            // SAFETY: `zeroed` made `base` with this very layout, and nobody frees it twice.
            unsafe { dealloc(self.base.as_ptr(), layout) };
        }
    }
}

/// Asks the system to back the whole huge pages at the start of `bytes` by such. It may refuse: they are an optimisation.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(bytes: &mut [u8]) {
    let len = bytes.len() - bytes.len() % HUGE_PAGE;
    if len > 0 {
        // SAFETY: the range is part of `bytes`, and the advice changes nothing but how its pages are mapped.
        unsafe { libc::madvise(bytes.as_mut_ptr().cast(), len, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_bytes: &mut [u8]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_zero_aligned_and_writable() {
        for len in [0, 1, 63, 64, 65, 1 << 20, HUGE_PAGE - 1, HUGE_PAGE, 2 * HUGE_PAGE + 1] {
            let mut bytes = AlignedBytes::zeroed(len).unwrap();
            assert_eq!(bytes.as_slice(), vec![0; len]);
            assert_eq!(bytes.as_slice().as_ptr().addr() % if len < HUGE_PAGE { ALIGN } else { HUGE_PAGE }, 0);
            bytes.as_mut_slice().fill(7);
            assert_eq!(bytes.as_slice(), vec![7; len]);
        }
    }

    #[test]
    fn sizes_no_machine_has_are_an_error_with_the_bytes_wanted() {
        for len in [usize::MAX, usize::MAX - ALIGN, isize::MAX as usize, 1 << 60] {
            assert_eq!(AlignedBytes::zeroed(len).err().unwrap().kind(), ErrorKind::OutOfMemory);
        }
        let e = try_vec::<f32>(1 << 58).unwrap_err();
        assert_eq!((e.kind(), e.detail()), (ErrorKind::OutOfMemory, [1 << 60, 0]));
    }

    #[test]
    fn growing_keeps_the_contents_and_fails_without_change() {
        let mut v = vec![1u32, 2];
        try_grow(&mut v, 1).unwrap();
        assert_eq!(v, [1, 2]);
        try_grow(&mut v, 4).unwrap();
        assert_eq!(v, [1, 2, 0, 0]);
        assert!(try_grow(&mut v, usize::MAX).is_err());
        assert_eq!(v, [1, 2, 0, 0]);
    }
}
