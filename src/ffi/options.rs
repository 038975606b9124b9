//! Versioned structs and JSON options: how a host built against one release talks to another.

use super::bytes;
use crate::engine::Wait;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use serde_json::{Map, Value};
use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::time::Duration;

/// No struct of any release is this large; a bigger `struct_size` is an uninitialised one, and is not read.
const MAX_STRUCT_SIZE: usize = 4096;

/// A struct of the header that begins with `struct_size`.
///
/// # Safety
/// The type is `repr(C)`, its first field is `struct_size: u32`, and every bit pattern is a valid value: integers, floats, raw pointers,
/// `Option`s of function pointers, and arrays of those.
pub(super) unsafe trait Versioned: Copy {
    /// What error messages call it.
    const NAME: &'static str;
    /// Its size in the first release: no host can know less.
    const FIRST_SIZE: usize;

    /// All zeros: every field at its default.
    fn zeroed() -> Self {
        // SAFETY: zero is a valid bit pattern by the trait's contract.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
}

/// Reads the host's struct: a shorter one as if zeros followed; a longer one must end in zeros.
///
/// # Errors
/// `InvalidArgument` for NULL; `Abi` for a size below the first release's, or for a tail that this build does not know.
///
/// # Safety
/// `pointer` is NULL or points to `struct_size` readable bytes that begin with that number.
pub(super) unsafe fn read<T: Versioned>(pointer: *const T) -> Result<T> {
    // SAFETY: passed on from the caller.
    let (value, tail) = unsafe { read_known(pointer) }?;
    tail.map(|()| value)
}

/// What this build knows of the host's struct, and whether it is all: for structs that come with duties even where the call fails.
///
/// # Errors
/// As [`read`]; that of the tail comes beside the value.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn read_known<T: Versioned>(pointer: *const T) -> Result<(T, Result<()>)> {
    // SAFETY: passed on from the caller.
    let host_size = unsafe { host_size(pointer) }?;
    let (known, start) = (host_size.min(size_of::<T>()), pointer.cast::<u8>());
    let mut value = T::zeroed();
    // SAFETY: `known` bytes are readable at `start` and fit into `value`, for which every bit pattern is valid.
    unsafe { (&raw mut value).cast::<u8>().copy_from_nonoverlapping(start, known) };
    // SAFETY: `known..host_size` lies inside the bytes that the caller promised.
    let tail = unsafe { std::slice::from_raw_parts(start.add(known), host_size - known) };
    Ok((value, check_tail(T::NAME, known, tail)))
}

/// That a newer host has set nothing behind the `known` bytes.
fn check_tail(name: &str, known: usize, tail: &[u8]) -> Result<()> {
    match tail.iter().position(|byte| *byte != 0) {
        None => Ok(()),
        Some(at) => fail!(Abi, "{name}: the byte at offset {} is set, but this build knows only the first {known} bytes", known + at),
    }
}

/// As [`read`]; NULL means all defaults.
///
/// # Errors
/// `Abi`, as [`read`].
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn read_or_default<T: Versioned>(pointer: *const T) -> Result<T> {
    if pointer.is_null() {
        return Ok(T::zeroed());
    }
    // SAFETY: passed on from the caller.
    unsafe { read(pointer) }
}

/// A struct that the host wants filled; checked early, written late.
pub(super) struct OutStruct<T> {
    place: *mut T,
    host_size: usize,
}

impl<T: Versioned> OutStruct<T> {
    /// The host's struct at `pointer`. Only its `struct_size` is read.
    ///
    /// # Errors
    /// As [`read`].
    ///
    /// # Safety
    /// `pointer` is NULL or points to `struct_size` writable bytes that begin with that number, as long as the value lives.
    pub(super) unsafe fn new(pointer: *mut T) -> Result<Self> {
        // SAFETY: passed on from the caller.
        let host_size = unsafe { host_size(pointer.cast_const()) }?;
        Ok(Self { place: pointer, host_size })
    }

    /// Writes as much of `value` as the host has room for and zeros behind it; `struct_size` stays the host's.
    pub(super) fn set(&self, value: &T) {
        let (known, start) = (self.host_size.min(size_of::<T>()), self.place.cast::<u8>());
        let header = size_of::<u32>();
        // SAFETY: the writes stay within the `host_size` bytes promised to `new`; `value` has `known` initialised bytes, because
        // structs of the header have no padding (`tests/header.rs`), and is not the host's memory.
        unsafe {
            start.add(header).copy_from_nonoverlapping((&raw const *value).cast::<u8>().add(header), known - header);
            start.add(known).write_bytes(0, self.host_size - known);
        }
    }
}

/// The `struct_size` that the host wrote, if a struct of that size can exist.
///
/// # Safety
/// `pointer` is NULL or valid for a read of a `u32`, aligned or not.
unsafe fn host_size<T: Versioned>(pointer: *const T) -> Result<usize> {
    let name = T::NAME;
    if pointer.is_null() {
        fail!(InvalidArgument, "{name}: NULL");
    }
    // SAFETY: not NULL, and readable by the caller's promise.
    let size = unsafe { pointer.cast::<u32>().read_unaligned() } as usize;
    if size < T::FIRST_SIZE || size > MAX_STRUCT_SIZE {
        fail!(Abi, "{name}: struct_size is {size}; set it to sizeof({name}), which is {} in this build", size_of::<T>());
    }
    Ok(size)
}

/// The keys of an `options_json`, to be taken one by one; what is left over at the end was not known.
pub(super) struct JsonOptions {
    fields: Map<String, Value>,
}

impl JsonOptions {
    /// Parses the host's text: a JSON object, or nothing (NULL, or empty).
    ///
    /// # Errors
    /// `InvalidArgument`.
    ///
    /// # Safety
    /// As [`bytes::bytes`].
    pub(super) unsafe fn parse(pointer: *const c_char, len: usize) -> Result<Self> {
        if pointer.is_null() {
            return Ok(Self { fields: Map::new() });
        }
        // SAFETY: passed on from the caller.
        let text = unsafe { bytes::bytes("options_json", pointer, len) }?;
        let fields = if text.is_empty() { Map::new() } else { serde_json::from_slice(text).map_err(not_an_object)? };
        Ok(Self { fields })
    }

    /// Takes a text.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the key, if it has another type.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.fields.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => fail!(InvalidArgument, "options_json: {key:?} is {other}; expected a string"),
        }
    }

    /// Takes a value of any type, to be read by whoever knows it.
    pub(super) fn value(&mut self, key: &str) -> Option<Value> {
        self.fields.remove(key).filter(|value| !value.is_null())
    }

    /// Takes a truth value; absent is false.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the key, if it has another type.
    pub(super) fn flag(&mut self, key: &str) -> Result<bool> {
        match self.fields.remove(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => fail!(InvalidArgument, "options_json: {key:?} is {other}; expected true or false"),
        }
    }

    /// Takes a number; absent is 0.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the key, if it is no whole number from 0 to 2^32 - 1.
    pub(super) fn number(&mut self, key: &str) -> Result<u32> {
        match self.fields.remove(key) {
            None | Some(Value::Null) => Ok(0),
            Some(other) => match other.as_u64().and_then(|n| u32::try_from(n).ok()) {
                Some(n) => Ok(n),
                None => fail!(InvalidArgument, "options_json: {key:?} is {other}; expected a whole number from 0 to {}", u32::MAX),
            },
        }
    }

    /// Takes a number of bytes; absent is 0.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the key, if it is no whole number from 0 to 2^64 - 1.
    pub(super) fn bytes(&mut self, key: &str) -> Result<u64> {
        match self.fields.remove(key) {
            None | Some(Value::Null) => Ok(0),
            Some(other) => match other.as_u64() {
                Some(n) => Ok(n),
                None => fail!(InvalidArgument, "options_json: {key:?} is {other}; expected a whole number of bytes"),
            },
        }
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// `InvalidArgument`, naming a key that nobody took.
    pub(super) fn finish(self) -> Result<()> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(key) => fail!(InvalidArgument, "options_json: unknown key {key:?}"),
        }
    }
}

fn not_an_object(e: serde_json::Error) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("options_json: expected a JSON object: {e}"))
}

/// A JSON array of strings; nothing (NULL, or empty) is an empty one.
///
/// # Errors
/// `InvalidArgument`, naming the parameter.
///
/// # Safety
/// As [`bytes::bytes`].
pub(super) unsafe fn json_strings(name: &str, pointer: *const c_char, len: usize) -> Result<Vec<String>> {
    if pointer.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: passed on from the caller.
    let text = unsafe { bytes::bytes(name, pointer, len) }?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let expected = |e| Error::new(ErrorKind::InvalidArgument, format!("{name}: expected a JSON array of strings: {e}"));
    serde_json::from_slice(text).map_err(expected)
}

/// Refuses a value in a field that is reserved for a later release.
///
/// # Errors
/// `Abi`, naming the field.
pub(super) fn must_be_zero(field: &str, value: impl Into<u64>) -> Result<()> {
    let value = value.into();
    if value != 0 {
        fail!(Abi, "{field} is {value}: this build knows no meaning for it, it must be 0");
    }
    Ok(())
}

/// A field that is 0 or 1.
///
/// # Errors
/// `InvalidArgument`, naming the field.
pub(super) fn switch(field: &str, value: u32) -> Result<bool> {
    if value > 1 {
        fail!(InvalidArgument, "{field} {value}: expected 0 or 1");
    }
    Ok(value == 1)
}

/// Refuses flags that this build does not know.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn known_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known != 0 {
        fail!(InvalidArgument, "flags {flags:#x}: this build knows {known:#x}");
    }
    Ok(())
}

/// How long a call with this `timeout_ms` may wait.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn wait(timeout_ms: i32) -> Result<Wait> {
    match timeout_ms {
        0 => Ok(Wait::Poll),
        -1 => Ok(Wait::Forever),
        ms => match u64::try_from(ms) {
            Ok(ms) => Ok(Wait::For(Duration::from_millis(ms))),
            Err(_) => fail!(InvalidArgument, "timeout_ms {ms}: expected 0 (poll), milliseconds, or -1 (for ever)"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Params {
        struct_size: u32,
        old: u32,
        newer: u64,
    }

    // SAFETY: repr(C), begins with struct_size, integers only.
    unsafe impl Versioned for Params {
        const NAME: &'static str = "params";
        const FIRST_SIZE: usize = 8;
    }

    /// A host's memory: `struct_size`, then `fields`, in 32-bit words.
    fn memory(struct_size: u32, fields: &[u32]) -> Vec<u32> {
        [&[struct_size], fields].concat()
    }

    fn read_from(memory: &[u32]) -> Result<Params> {
        // SAFETY: every test passes at least `struct_size` bytes, or a size that is refused.
        unsafe { read(memory.as_ptr().cast()) }
    }

    #[test]
    fn older_and_newer_hosts_are_understood() {
        assert_eq!(read_from(&memory(8, &[7])).unwrap(), Params { struct_size: 8, old: 7, newer: 0 });
        assert_eq!(read_from(&memory(16, &[7, 8, 0])).unwrap(), Params { struct_size: 16, old: 7, newer: 8 });
        assert_eq!(read_from(&memory(24, &[7, 8, 0, 0, 0])).unwrap(), Params { struct_size: 24, old: 7, newer: 8 });
    }

    #[test]
    fn unknown_fields_and_impossible_sizes_are_refused() {
        let unknown = read_from(&memory(24, &[7, 8, 0, 0, 1])).unwrap_err();
        assert_eq!((unknown.kind(), unknown.message().contains("offset 20")), (ErrorKind::Abi, true), "{unknown}");
        for size in [0, 4, 7, 4097, u32::MAX] {
            assert_eq!(read_from(&memory(size, &[0; 3])).unwrap_err().kind(), ErrorKind::Abi, "{size}");
        }
        // SAFETY: NULL is allowed.
        let (refused, default) = unsafe { (read::<Params>(std::ptr::null()), read_or_default::<Params>(std::ptr::null())) };
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(default.unwrap(), Params::zeroed());
    }

    #[test]
    fn outputs_fill_the_hosts_struct_and_nothing_behind_it() {
        for (size, expected) in
            [(8, [8, 7, 0xEEEE, 0xEEEE, 0xEEEE]), (12, [12, 7, 8, 0xEEEE, 0xEEEE]), (16, [16, 7, 8, 0, 0xEEEE]), (20, [20, 7, 8, 0, 0])]
        {
            let mut host = memory(size, &[0xEEEE; 4]);
            // SAFETY: the vector holds 20 bytes, at least `struct_size`.
            let out = unsafe { OutStruct::<Params>::new(host.as_mut_ptr().cast()) }.unwrap();
            out.set(&Params { struct_size: 999, old: 7, newer: 8 });
            assert_eq!(host, expected);
        }
    }

    fn parse(json: &str) -> Result<JsonOptions> {
        // SAFETY: pointer and length of a live string.
        unsafe { JsonOptions::parse(json.as_ptr().cast(), json.len()) }
    }

    #[test]
    fn options_are_typed_and_unknown_keys_are_named() {
        let mut options = parse(r#"{"kernels":"avx2","vocab_only":true}"#).unwrap();
        assert_eq!(options.text("kernels").unwrap().as_deref(), Some("avx2"));
        assert!(options.flag("vocab_only").unwrap() && !options.flag("absent").unwrap());
        options.finish().unwrap();
        let mut options = parse(r#"{"kernles":"avx2"}"#).unwrap();
        assert_eq!(options.text("kernels").unwrap(), None);
        assert_eq!(options.finish().unwrap_err().message(), r#"options_json: unknown key "kernles""#);
        assert_eq!(parse(r#"{"n":7}"#).unwrap().number("n").unwrap(), 7);
        for bad in ["-1", "1.5", "4294967296", "\"7\"", "true"] {
            assert!(parse(&format!("{{\"n\":{bad}}}")).unwrap().number("n").is_err(), "{bad}");
        }
        assert_eq!(parse(r#"{"n":4294967296}"#).unwrap().bytes("n").unwrap(), 1 << 32);
        assert!(parse(r#"{"n":-1}"#).unwrap().bytes("n").is_err());
        assert!(parse(r#"{"flag":1}"#).unwrap().flag("flag").is_err());
        for bad in ["[]", "{", "7", "{\"a\":\"\u{0}\"}", " "] {
            assert_eq!(parse(bad).err().map(|e| e.kind()), Some(ErrorKind::InvalidArgument), "{bad:?}");
        }
        parse("").unwrap().finish().unwrap();
    }

    #[test]
    fn lists_of_strings_hold_strings() {
        // SAFETY: pointer and length of a live string.
        let list = |json: &str| unsafe { json_strings("stop_json", json.as_ptr().cast(), json.len()) };
        assert_eq!(list(r#"["\n\n","END"]"#).unwrap(), ["\n\n", "END"]);
        assert_eq!(list("").unwrap(), Vec::<String>::new());
        assert!(list(r#"["a",1]"#).is_err() && list(r#""a""#).is_err());
    }
}
