//! The host's memory: strings and arrays that come in, buffers and values that go out.
//!
//! Everything is checked before anything is written, so that a call that fails has written nothing. The functions are unsafe because
//! no check can tell whether the host's pointers are what the header demands.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::ptr::{self, NonNull};

/// As a length: the string ends at its NUL. `INF_NUL` in the header.
const NUL_TERMINATED: usize = usize::MAX;

/// An array of the host: `n` elements from `pointer`, which may be NULL if `n` is 0.
///
/// # Errors
/// `InvalidArgument`, naming the parameter.
///
/// # Safety
/// `pointer` is NULL, or valid for reads of `n` elements during `'a`, which the caller keeps within the export's call.
pub(super) unsafe fn array<'a, T: Copy>(name: &str, pointer: *const T, n: usize) -> Result<&'a [T]> {
    if n == 0 {
        return Ok(&[]);
    }
    check_pointer(name, pointer)?;
    if n.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        fail!(InvalidArgument, "{name}: {n} elements are more than memory can hold");
    }
    // SAFETY: not NULL, aligned, and of a size that exists; that it is readable is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, n) })
}

/// A string of the host as bytes: `len` of them, or up to the NUL if `len` is `INF_NUL`. NULL is an empty one.
///
/// # Errors
/// `InvalidArgument`, naming the parameter.
///
/// # Safety
/// As [`array`]; with `INF_NUL`, `pointer` is NULL or a NUL-terminated string.
pub(super) unsafe fn bytes<'a>(name: &str, pointer: *const c_char, len: usize) -> Result<&'a [u8]> {
    if len == NUL_TERMINATED {
        if pointer.is_null() {
            return Ok(&[]);
        }
        // SAFETY: not NULL; that it is terminated is the caller's promise.
        return Ok(unsafe { CStr::from_ptr(pointer) }.to_bytes());
    }
    // SAFETY: passed on from the caller.
    unsafe { array(name, pointer.cast(), len) }
}

/// A string of the host as UTF-8.
///
/// # Errors
/// `InvalidArgument`, naming the parameter and the first bad byte.
///
/// # Safety
/// As [`bytes`].
pub(super) unsafe fn text<'a>(name: &str, pointer: *const c_char, len: usize) -> Result<&'a str> {
    // SAFETY: passed on from the caller.
    let bytes = unsafe { bytes(name, pointer, len) }?;
    std::str::from_utf8(bytes).map_err(|e| Error::new(ErrorKind::InvalidArgument, format!("{name}: not UTF-8 at byte {}", e.valid_up_to())))
}

/// A NUL-terminated string that must be there.
///
/// # Errors
/// As [`text`], and `InvalidArgument` for NULL.
///
/// # Safety
/// `pointer` is NULL or a NUL-terminated string.
pub(super) unsafe fn required_text<'a>(name: &str, pointer: *const c_char) -> Result<&'a str> {
    check_pointer(name, pointer)?;
    // SAFETY: not NULL, and terminated by the caller's promise.
    unsafe { text(name, pointer, NUL_TERMINATED) }
}

/// A NUL-terminated string that may be absent.
///
/// # Errors
/// As [`text`].
///
/// # Safety
/// `pointer` is NULL or a NUL-terminated string.
pub(super) unsafe fn optional_text<'a>(name: &str, pointer: *const c_char) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: passed on from the caller.
    unsafe { text(name, pointer, NUL_TERMINATED) }.map(Some)
}

/// A place where the host wants one value; checked early, written late.
pub(super) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// The place `pointer`.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the parameter, if it is NULL or misaligned.
    ///
    /// # Safety
    /// `pointer` is NULL, or valid for a write as long as the value lives.
    pub(super) unsafe fn new(name: &str, pointer: *mut T) -> Result<Self> {
        check_pointer(name, pointer)?;
        NonNull::new(pointer).map(Self).ok_or_else(|| null(name))
    }

    /// Writes the value.
    pub(super) fn set(&self, value: T) {
        // SAFETY: not NULL and aligned, checked in `new`; writable by the promise made there. The old content is not read or dropped.
        unsafe { self.0.write(value) };
    }
}

/// A buffer of the host with the place for its length.
pub(super) struct Buffer<T> {
    start: *mut T,
    capacity: usize,
    len: Out<usize>,
}

impl<T: Copy> Buffer<T> {
    /// The buffer `start` with room for `capacity` elements; NULL with capacity 0 asks for the size.
    ///
    /// # Errors
    /// `InvalidArgument`.
    ///
    /// # Safety
    /// `start` is NULL or valid for writes of `capacity` elements, `len` is NULL or valid for a write, as long as the value lives.
    pub(super) unsafe fn new(start: *mut T, capacity: usize, len: *mut usize) -> Result<Self> {
        if capacity > 0 {
            check_pointer("the output buffer", start)?;
        }
        // SAFETY: passed on from the caller.
        let len = unsafe { Out::new("the place for the output's length", len) }?;
        Ok(Self { start, capacity, len })
    }

    /// True if the host only wants to know the size.
    pub(super) fn asks_for_size(&self) -> bool {
        self.start.is_null()
    }

    /// Writes all of `items` and their number; if they do not fit, only their number.
    ///
    /// # Errors
    /// `BufferTooSmall` with `detail` = elements needed, elements there were.
    pub(super) fn fill(&self, items: &[T]) -> Result<()> {
        self.check_room(items.len())?;
        if !self.start.is_null() {
            // SAFETY: `items` fits into the `capacity` elements that the promise of `new` covers, and is our memory, not the host's.
            unsafe { self.start.copy_from_nonoverlapping(items.as_ptr(), items.len()) };
        }
        Ok(())
    }

    /// Tells the host that the output will have `n` elements, before they are made.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub(super) fn announce(&self, n: usize) -> Result<()> {
        self.check_room(n)
    }

    /// Tells the host that the output has `n` elements, and checks that they fit if it gave a buffer.
    fn check_room(&self, n: usize) -> Result<()> {
        self.len.set(n);
        if self.start.is_null() || n <= self.capacity {
            return Ok(());
        }
        let message = format!("the output needs room for {n}, the buffer has {}", self.capacity);
        Err(Error::new(ErrorKind::BufferTooSmall, message).with_detail([n as i64, self.capacity as i64]))
    }
}

impl Buffer<u8> {
    /// As [`Self::fill`], and a NUL behind the bytes if it fits. The length never counts it.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub(super) fn fill_string(&self, bytes: &[u8]) -> Result<()> {
        self.fill(bytes)?;
        self.terminate(bytes.len());
        Ok(())
    }

    /// As [`Self::fill_string`] with what `value` displays, which is never held as a whole: it may be many times as long as a model's header.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub(super) fn fill_display(&self, value: &impl fmt::Display) -> Result<()> {
        let mut counted = Displayed { start: ptr::null_mut(), capacity: 0, len: 0 };
        counted.show(value)?;
        let n_bytes = counted.len;
        self.check_room(n_bytes)?;
        if !self.start.is_null() {
            Displayed { start: self.start, capacity: n_bytes, len: 0 }.show(value)?;
            self.terminate(n_bytes);
        }
        Ok(())
    }

    /// Writes a NUL behind `n` bytes if there is room.
    fn terminate(&self, n: usize) {
        if n < self.capacity {
            // SAFETY: inside the `capacity` elements that the promise of `new` covers.
            unsafe { self.start.add(n).write(0) };
        }
    }
}

/// Counts the bytes of what is displayed, and writes those that fit.
struct Displayed {
    /// Valid for writes of `capacity` bytes.
    start: *mut u8,
    capacity: usize,
    len: usize,
}

impl Displayed {
    fn show(&mut self, value: &impl fmt::Display) -> Result<()> {
        fmt::write(self, format_args!("{value}")).map_err(|_| Error::new(ErrorKind::Internal, "a value cannot be displayed"))
    }
}

impl fmt::Write for Displayed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.capacity.saturating_sub(self.len);
        if !text.is_empty() && text.len() <= room {
            // SAFETY: `len + text.len()` is at most `capacity`, which `start` is valid for; the host's memory is not ours.
            unsafe { self.start.add(self.len).copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        }
        self.len += text.len();
        Ok(())
    }
}

/// Copies `text` into a fixed field of a struct, truncated between characters, NUL-terminated.
pub(super) fn field<const N: usize>(text: &str) -> [c_char; N] {
    let mut out = [0; N];
    let len = text.floor_char_boundary(N.saturating_sub(1));
    for (to, from) in out.iter_mut().zip(&text.as_bytes()[..len]) {
        *to = *from as c_char;
    }
    out
}

fn check_pointer<T>(name: &str, pointer: *const T) -> Result<()> {
    if pointer.is_null() {
        return Err(null(name));
    }
    if !pointer.is_aligned() {
        fail!(InvalidArgument, "{name}: {pointer:p} is not aligned to {} bytes", align_of::<T>());
    }
    Ok(())
}

fn null(name: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("{name}: NULL"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::{null, null_mut};

    fn refused<T>(result: Result<T>) -> bool {
        result.is_err_and(|e| e.kind() == ErrorKind::InvalidArgument)
    }

    #[test]
    fn strings_come_with_a_length_or_a_nul() {
        let s = c"h\xC3\xA9llo".as_ptr();
        // SAFETY: lengths lie inside the literal, or it is terminated; NULL is allowed.
        unsafe {
            assert_eq!(text("t", s, NUL_TERMINATED).unwrap(), "h\u{e9}llo");
            assert_eq!(text("t", s, 3).unwrap(), "h\u{e9}");
            assert_eq!(text("t", null(), 0).unwrap(), "");
            assert_eq!(text("t", s, 2).unwrap_err().message(), "t: not UTF-8 at byte 1");
            assert_eq!(text("t", null(), NUL_TERMINATED).unwrap(), "");
            assert!(refused(text("t", null(), 1)) && refused(required_text("t", null())));
            assert!(refused(bytes("t", s, usize::MAX - 1)));
            assert_eq!(optional_text("t", null()).unwrap(), None);
        }
    }

    #[test]
    fn arrays_are_checked() {
        let numbers = [1u32, 2, 3];
        // SAFETY: reads stay inside the array; the others are refused before any read.
        unsafe {
            assert_eq!(array("a", numbers.as_ptr(), 3).unwrap(), [1, 2, 3]);
            assert!(array("a", null::<u32>(), 0).unwrap().is_empty());
            assert!(refused(array("a", numbers.as_ptr().byte_add(1), 1)));
            assert!(refused(array("a", numbers.as_ptr(), usize::MAX / 4)));
        }
    }

    /// Fills a buffer of `capacity` over `0xEE` bytes; the status, the length and what the buffer holds then.
    fn fill(capacity: usize, what: &[u8]) -> (Result<()>, usize, [u8; 4]) {
        let (mut memory, mut len) = ([0xEE; 4], 99);
        let start = if capacity == 0 { null_mut() } else { memory.as_mut_ptr() };
        // SAFETY: `capacity` is at most the array's length.
        let buffer = unsafe { Buffer::new(start, capacity, &raw mut len) }.unwrap();
        let result = buffer.fill_string(what);
        (result, len, memory)
    }

    #[test]
    fn buffers_follow_the_size_rules() {
        assert_eq!(fill(4, b"abc"), (Ok(()), 3, *b"abc\0"));
        assert_eq!(fill(3, b"abc"), (Ok(()), 3, [b'a', b'b', b'c', 0xEE]), "fits without its NUL");
        assert_eq!(fill(0, b"abc"), (Ok(()), 3, [0xEE; 4]), "asks for the size");
        assert_eq!(fill(1, b""), (Ok(()), 0, [0, 0xEE, 0xEE, 0xEE]));
        let (result, len, memory) = fill(2, b"abc");
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.detail(), len, memory), (ErrorKind::BufferTooSmall, [3, 2], 3, [0xEE; 4]));
    }

    #[test]
    fn what_is_displayed_follows_the_size_rules_too() {
        for capacity in 0..5 {
            let (mut memory, mut len) = ([0xEE; 4], 99);
            let start = if capacity == 0 { null_mut() } else { memory.as_mut_ptr() };
            // SAFETY: `capacity` is at most the array's length, or refers to nothing.
            let result = unsafe { Buffer::new(start, capacity.min(4), &raw mut len) }.unwrap().fill_display(&format_args!("{}{}", 1, "23"));
            assert_eq!((result, len, memory), fill(capacity.min(4), b"123"));
        }
    }

    #[test]
    fn impossible_outputs_are_refused() {
        let mut len = 0usize;
        // SAFETY: NULL and misaligned pointers are refused before any write.
        unsafe {
            assert!(refused(Buffer::<u8>::new(null_mut(), 1, &raw mut len)));
            assert!(refused(Buffer::<u8>::new(null_mut(), 0, null_mut())));
            assert!(refused(Out::new("o", (&raw mut len).byte_add(1))));
        }
    }

    #[test]
    fn fields_are_truncated_between_characters() {
        assert_eq!(field::<4>("ab").map(|c| c as u8), *b"ab\0\0");
        assert_eq!(field::<4>("ab\u{e9}").map(|c| c as u8), *b"ab\0\0");
        assert_eq!(field::<5>("ab\u{e9}").map(|c| c as u8), *b"ab\xC3\xA9\0");
    }
}
