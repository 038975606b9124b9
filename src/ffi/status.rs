//! Status codes and the error struct: what every fallible export answers.

use super::boundary;
use crate::error::{Error, ErrorKind};
use std::ffi::{CStr, c_char};

/// The result of a call: `INF_OK`, or one of the `INF_ERR_*` codes. Codes are never renumbered and never reused.
pub type inf_status = u32;

/// Success.
pub const INF_OK: u32 = 0u32;
/// An argument that no state of the library makes valid: NULL where a value is needed, a number out of range, bad UTF-8 or JSON.
pub const INF_ERR_INVALID_ARGUMENT: u32 = 1u32;
/// A handle that is NULL, freed, of another kind, or never was one.
pub const INF_ERR_INVALID_HANDLE: u32 = 2u32;
/// struct_size is smaller than in the first release, or carries non-zero fields that this build does not know.
pub const INF_ERR_ABI: u32 = 3u32;
/// The handle is in use by another thread, has live work, or this is a blocking call from inside a hook.
pub const INF_ERR_BUSY: u32 = 4u32;
/// The output does not fit. `*len` (or `*n`) holds the size needed; nothing else was written.
pub const INF_ERR_BUFFER_TOO_SMALL: u32 = 5u32;
/// The operating system refused to open or to read.
pub const INF_ERR_IO: u32 = 6u32;
/// Not a model, or a corrupt or truncated one.
pub const INF_ERR_FORMAT: u32 = 7u32;
/// A valid request for an architecture, type or feature that this build does not have.
pub const INF_ERR_UNSUPPORTED: u32 = 8u32;
/// `detail[0]` = bytes wanted, `detail[1]` = bytes available if known.
pub const INF_ERR_OUT_OF_MEMORY: u32 = 9u32;
/// Would exceed the host's memory budget.
pub const INF_ERR_BUDGET: u32 = 10u32;
/// No such device, or it cannot be used.
pub const INF_ERR_NO_DEVICE: u32 = 11u32;
/// A device failed for good: free every handle on it, then create anew.
pub const INF_ERR_DEVICE_LOST: u32 = 12u32;
/// The session has no room for these tokens; it is unchanged.
pub const INF_ERR_CONTEXT_FULL: u32 = 13u32;
/// A grammar or schema did not compile; `detail[0]` = byte offset.
pub const INF_ERR_CONSTRAINT: u32 = 14u32;
/// A constraint admits no token.
pub const INF_ERR_DEAD_END: u32 = 15u32;
/// A chat template failed.
pub const INF_ERR_TEMPLATE: u32 = 16u32;
/// A saved state is of another model, version or KV type.
pub const INF_ERR_STATE_MISMATCH: u32 = 17u32;
/// An earlier failure left this session unusable: truncate it to 0, or free it.
pub const INF_ERR_POISONED: u32 = 18u32;
/// Cancelled by the host.
pub const INF_ERR_CANCELLED: u32 = 19u32;
/// Not finished in the time given; work goes on.
pub const INF_ERR_TIMEOUT: u32 = 20u32;
/// A bug in this library, caught: outputs are not written, the process lives. Please report it.
pub const INF_ERR_INTERNAL: u32 = 21u32;
/// Logits were asked for while tokens are queued.
pub const INF_ERR_NOT_READY: u32 = 22u32;
/// The runtime of this handle was shut down; the handle can only be freed.
pub const INF_ERR_SHUTDOWN: u32 = 23u32;
/// The handle was made before a fork() and is used in the child. Freeing it there does nothing.
pub const INF_ERR_FORKED: u32 = 24u32;

/// The names of the codes; a code is its index here.
const NAMES: [&CStr; 25] = [
    c"INF_OK",
    c"INF_ERR_INVALID_ARGUMENT",
    c"INF_ERR_INVALID_HANDLE",
    c"INF_ERR_ABI",
    c"INF_ERR_BUSY",
    c"INF_ERR_BUFFER_TOO_SMALL",
    c"INF_ERR_IO",
    c"INF_ERR_FORMAT",
    c"INF_ERR_UNSUPPORTED",
    c"INF_ERR_OUT_OF_MEMORY",
    c"INF_ERR_BUDGET",
    c"INF_ERR_NO_DEVICE",
    c"INF_ERR_DEVICE_LOST",
    c"INF_ERR_CONTEXT_FULL",
    c"INF_ERR_CONSTRAINT",
    c"INF_ERR_DEAD_END",
    c"INF_ERR_TEMPLATE",
    c"INF_ERR_STATE_MISMATCH",
    c"INF_ERR_POISONED",
    c"INF_ERR_CANCELLED",
    c"INF_ERR_TIMEOUT",
    c"INF_ERR_INTERNAL",
    c"INF_ERR_NOT_READY",
    c"INF_ERR_SHUTDOWN",
    c"INF_ERR_FORKED",
];

/// The code of `kind`.
pub(super) const fn code(kind: ErrorKind) -> inf_status {
    match kind {
        ErrorKind::InvalidArgument => INF_ERR_INVALID_ARGUMENT,
        ErrorKind::InvalidHandle => INF_ERR_INVALID_HANDLE,
        ErrorKind::Abi => INF_ERR_ABI,
        ErrorKind::Busy => INF_ERR_BUSY,
        ErrorKind::BufferTooSmall => INF_ERR_BUFFER_TOO_SMALL,
        ErrorKind::Io => INF_ERR_IO,
        ErrorKind::Format => INF_ERR_FORMAT,
        ErrorKind::Unsupported => INF_ERR_UNSUPPORTED,
        ErrorKind::OutOfMemory => INF_ERR_OUT_OF_MEMORY,
        ErrorKind::Budget => INF_ERR_BUDGET,
        ErrorKind::NoDevice => INF_ERR_NO_DEVICE,
        ErrorKind::DeviceLost => INF_ERR_DEVICE_LOST,
        ErrorKind::ContextFull => INF_ERR_CONTEXT_FULL,
        ErrorKind::Constraint => INF_ERR_CONSTRAINT,
        ErrorKind::DeadEnd => INF_ERR_DEAD_END,
        ErrorKind::Template => INF_ERR_TEMPLATE,
        ErrorKind::StateMismatch => INF_ERR_STATE_MISMATCH,
        ErrorKind::Poisoned => INF_ERR_POISONED,
        ErrorKind::Cancelled => INF_ERR_CANCELLED,
        ErrorKind::Timeout => INF_ERR_TIMEOUT,
        ErrorKind::Internal => INF_ERR_INTERNAL,
        ErrorKind::NotReady => INF_ERR_NOT_READY,
        ErrorKind::Shutdown => INF_ERR_SHUTDOWN,
        ErrorKind::Forked => INF_ERR_FORKED,
    }
}

/// Bytes of [`inf_error::message`]: what is left of 512.
const MESSAGE_CAPACITY: usize = 488;

/// What went wrong, in words. Lives where the host puts it, need not be initialised, holds nothing to free; 512 bytes for ever.
/// A call that takes one always fills it: on success with `INF_OK` and an empty message.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct inf_error {
    /// Two numbers whose meaning is said at the code; 0 otherwise.
    pub detail: [i64; 2],
    /// The status that the call returned.
    pub status: inf_status,
    /// 0.
    pub reserved: u32,
    /// A sentence in UTF-8: what, where, and what was expected. Always NUL-terminated, truncated between characters.
    pub message: [c_char; 488],
}

const _: () = assert!(size_of::<inf_error>() == 512);

/// Writes the outcome of a call into the host's error struct, if it gave one, and says its code.
///
/// # Safety
/// `out` is NULL or points to memory of the host that is large enough for an `inf_error`; it need not be aligned or initialised.
pub(super) unsafe fn report(outcome: Result<(), &Error>, out: *mut inf_error) -> inf_status {
    let (status, detail, text) = match outcome {
        Ok(()) => (INF_OK, [0; 2], ""),
        Err(e) => (code(e.kind()), e.detail(), e.message()),
    };
    if !out.is_null() {
        // SAFETY: by contract `out` has room for every field; `write_unaligned` needs no alignment.
        unsafe {
            (&raw mut (*out).detail).write_unaligned(detail);
            (&raw mut (*out).status).write_unaligned(status);
            (&raw mut (*out).reserved).write_unaligned(0);
            write_message(text, (&raw mut (*out).message).cast());
        }
    }
    status
}

/// Writes as many whole characters of `text` as fit, and a NUL.
///
/// # Safety
/// `out` is valid for writes of [`MESSAGE_CAPACITY`] bytes.
unsafe fn write_message(text: &str, out: *mut u8) {
    // A NUL inside would hide the rest from a C program.
    let text = text.split('\0').next().unwrap_or("");
    let len = text.floor_char_boundary(MESSAGE_CAPACITY - 1);
    // SAFETY: `len` bytes and the NUL are at most `MESSAGE_CAPACITY`, and the host's memory is not our string.
    unsafe {
        out.copy_from_nonoverlapping(text.as_ptr(), len);
        out.add(len).write(0);
    }
}

/// The name of a status: `"INF_ERR_BUSY"`; `"INF_ERR_UNKNOWN"` for a number that is none.
///
/// A static string, never freed. Any thread. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_status_name(status: inf_status) -> *const c_char {
    boundary::value(c"INF_ERR_INTERNAL".as_ptr(), || Ok(NAMES.get(status as usize).copied().unwrap_or(c"INF_ERR_UNKNOWN").as_ptr()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::MaybeUninit;

    fn filled(outcome: Result<(), &Error>) -> inf_error {
        let mut error = MaybeUninit::<inf_error>::uninit();
        // SAFETY: points to a local of the right type; every field but the tail of the message is initialised by the call.
        unsafe {
            error.as_mut_ptr().cast::<u8>().write_bytes(0xAA, size_of::<inf_error>());
            report(outcome, error.as_mut_ptr());
            error.assume_init()
        }
    }

    fn message(error: &inf_error) -> String {
        let bytes = error.message.map(|c| c as u8);
        CStr::from_bytes_until_nul(&bytes).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn success_clears_and_failure_tells() {
        let error = filled(Ok(()));
        assert_eq!((error.status, error.detail, error.reserved, message(&error)), (INF_OK, [0; 2], 0, String::new()));
        let failure = Error::new(ErrorKind::OutOfMemory, "no room").with_detail([5, 3]);
        let error = filled(Err(&failure));
        assert_eq!((error.status, error.detail, message(&error)), (INF_ERR_OUT_OF_MEMORY, [5, 3], "no room".into()));
    }

    #[test]
    fn long_messages_end_between_characters() {
        for prefix in 0..4 {
            let text = "x".repeat(prefix) + &"\u{1F600}".repeat(200);
            let shown = message(&filled(Err(&Error::new(ErrorKind::Io, text.clone()))));
            assert!(text.starts_with(&shown) && shown.len() > MESSAGE_CAPACITY - 5 && shown.len() < MESSAGE_CAPACITY);
        }
        assert_eq!(message(&filled(Err(&Error::new(ErrorKind::Io, "a\0b")))), "a");
    }

    #[test]
    fn a_misaligned_or_missing_struct_is_fine() {
        let mut memory = [0u8; 520];
        let failure = Error::new(ErrorKind::Busy, "m");
        // SAFETY: 512 bytes from offset 3 lie inside the array.
        let status = unsafe { report(Err(&failure), memory.as_mut_ptr().add(3).cast()) };
        assert_eq!((status, memory[3 + 24]), (INF_ERR_BUSY, b'm'));
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { report(Ok(()), std::ptr::null_mut()) }, INF_OK);
    }

    #[test]
    fn names_follow_the_codes() {
        let source = include_str!("status.rs");
        let constants = source.lines().filter_map(|l| l.strip_prefix("pub const INF_")?.split_once(": u32 = "));
        let constants: Vec<_> =
            constants.map(|(name, value)| (format!("INF_{name}"), value.trim_end_matches("u32;").parse::<u32>().unwrap())).collect();
        assert_eq!(constants.len(), NAMES.len());
        for (name, value) in constants {
            assert_eq!(NAMES[value as usize].to_str(), Ok(name.as_str()));
        }
        // SAFETY: the function returns static strings.
        let unknown = unsafe { CStr::from_ptr(inf_status_name(25)) };
        assert_eq!(unknown, c"INF_ERR_UNKNOWN");
    }
}
