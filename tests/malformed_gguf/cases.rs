//! Hand-made files, each with one lie: the kinds of llama.cpp's `test-gguf`, and those that broke other readers.

use crate::raw::{ARRAY, BOOL, F32, I32, I64, IQ4_XS, Q8_0, Raw, STRING, U8, U32};
use inference::error::ErrorKind;

/// A file, and what must come of it: `None` if it is fine, else the kind of the error and a part of its message.
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub refused: Option<(ErrorKind, &'static str)>,
}

fn good(name: &'static str, raw: Raw) -> Case {
    Case { name, bytes: raw.0, refused: None }
}

fn corrupt(name: &'static str, message: &'static str, raw: Raw) -> Case {
    Case { name, bytes: raw.0, refused: Some((ErrorKind::Format, message)) }
}

fn unsupported(name: &'static str, message: &'static str, raw: Raw) -> Case {
    Case { name, bytes: raw.0, refused: Some((ErrorKind::Unsupported, message)) }
}

pub fn all() -> Vec<Case> {
    [headers(), keys(), values(), alignments(), descriptions(), shapes(), data()].into_iter().flatten().collect()
}

fn headers() -> Vec<Case> {
    let magic = |magic: &[u8]| Raw::default().bytes(magic).bytes(&Raw::new(0, 0).0[4..]);
    vec![
        good("empty header", Raw::new(0, 0)),
        good("version 2", Raw::version(2, 0, 0)),
        corrupt("no bytes at all", "ends at byte 0", Raw::default()),
        corrupt("bad magic", "starts with \"FUGG\"", magic(b"FUGG")),
        corrupt("magic of GGML", "not a GGUF file", magic(b"lmgg")),
        corrupt("version 0", "version 0", Raw::version(0, 0, 0)),
        unsupported("version 1", "version 1", Raw::version(1, 0, 0)),
        unsupported("future version", "version 4", Raw::version(4, 0, 0)),
        unsupported("big endian", "big-endian", Raw::version(3u32.swap_bytes(), 0, 0)),
        corrupt("2^64-1 tensors", "18446744073709551615 tensors", Raw::new(u64::MAX, 0)),
        corrupt("2^64-1 entries", "18446744073709551615 metadata entries", Raw::new(0, u64::MAX)),
        corrupt("2^32 entries in 64 bytes", "metadata entries", Raw::new(0, 1 << 32).data(64, 0)),
        corrupt("2^32 tensors in 64 bytes", "tensors", Raw::new(1 << 32, 0).data(64, 0)),
        corrupt("as many entries as allowed, in 64 bytes", "the file ends", Raw::new(0, 1 << 16).data(64, 0)),
        corrupt("as many tensors as allowed, in 64 bytes", "the file ends", Raw::new(1 << 17, 0).data(64, 0)),
    ]
}

fn keys() -> Vec<Case> {
    let key = |key: &[u8]| Raw::new(0, 1).string(key).u32(U8).bytes(&[1]);
    vec![
        good("longest key", key(&[b'k'; 65_535])),
        corrupt("key too long", "65536 bytes long", key(&[b'k'; 65_536])),
        corrupt("key of 2^64-1 bytes", "bytes long", Raw::new(0, 1).u64(u64::MAX).bytes(&[0; 64])),
        corrupt("key past the end", "the file ends", Raw::new(0, 1).u64(100).bytes(&[b'k'; 32])),
        corrupt("empty key", "not empty", key(b"").bytes(&[0; 8])),
        corrupt("key with NUL", "NUL", key(b"a\0b")),
        corrupt("key not UTF-8", "not UTF-8", key(b"a\xff")),
        corrupt("duplicate key", "\"a\" appears twice", Raw::new(0, 2).entry("a", U8).bytes(&[1]).entry("a", BOOL).bytes(&[1])),
    ]
}

/// `n` arrays, each the only element of the one before, the innermost of u8.
fn nested(n: usize) -> Raw {
    let raw = (0..n).fold(Raw::new(0, 1).entry("deep", ARRAY), |raw, _| raw.u32(ARRAY).u64(1));
    raw.u32(U8).u64(1).bytes(&[7])
}

/// An array of `n` empty arrays.
fn wide(n: u64) -> Raw {
    (0..n).fold(Raw::new(0, 1).entry("wide", ARRAY).u32(ARRAY).u64(n), |raw, _| raw.u32(U8).u64(0))
}

/// An array whose header claims `n` elements of `element_type`, and has 64 bytes.
fn array(element_type: u32, n: u64) -> Raw {
    Raw::new(0, 1).entry("array", ARRAY).u32(element_type).u64(n).bytes(&[0; 64])
}

fn values() -> Vec<Case> {
    let one = |value_type| Raw::new(0, 1).entry("key", value_type);
    let mib = 1 << 20;
    vec![
        corrupt("value of type 13", "\"key\": value type 13", one(13).bytes(&[0; 8])),
        corrupt("value of type 2^32-1", "value type 4294967295", one(u32::MAX).bytes(&[0; 8])),
        corrupt("array of type 13", "value type 13", array(13, 1)),
        corrupt("bool of 2", "expected 0 or 1", one(BOOL).bytes(&[2])),
        corrupt("value past the end", "the file ends", one(U32).bytes(&[0; 3])),
        corrupt("string of 2^64-1 bytes", "the file ends", one(STRING).u64(u64::MAX).bytes(&[0; 64])),
        corrupt("string of 2^63 bytes", "the file ends", one(STRING).u64(1 << 63).bytes(&[0; 64])),
        corrupt("array of 2^32 u8", "the file ends", array(U8, 1 << 32)),
        corrupt("array of 2^61 u64, which wraps to 0 bytes", "the file ends", array(10, 1 << 61)),
        corrupt("array of 2^62 u32, which wraps to 0 bytes", "the file ends", array(U32, 1 << 62)),
        corrupt("array of 2^32 strings", "the file ends", array(STRING, 1 << 32)),
        corrupt("array of 2^64-1 arrays", "arrays inside arrays", array(ARRAY, u64::MAX)),
        corrupt("array of 65,536 arrays in 64 bytes", "the file ends", array(ARRAY, 1 << 16)),
        good("arrays 16 deep", nested(16)),
        corrupt("arrays 17 deep", "nested more than 16", nested(17)),
        corrupt("arrays 65 deep", "nested more than 16", nested(65)),
        corrupt("arrays 100,000 deep", "nested more than 16", nested(100_000)),
        good("65,536 empty arrays", wide(1 << 16)),
        corrupt("65,537 empty arrays", "65537 arrays", wide((1 << 16) + 1)),
        good("8 MiB of u8", one(ARRAY).u32(U8).u64(8 * mib).bytes(&vec![1; 8 << 20])),
        good("8 MiB of bool", one(ARRAY).u32(BOOL).u64(8 * mib).bytes(&vec![1; 8 << 20])),
        good("8 MiB of empty strings", one(ARRAY).u32(STRING).u64(mib).bytes(&vec![0; 8 << 20])),
        good("8 MiB of strings", (0..1 << 17).fold(one(ARRAY).u32(STRING).u64(1 << 17), |raw, _| raw.string(&[b'x'; 56]))),
        good("8 MiB in one string of an array", one(ARRAY).u32(STRING).u64(1).string(&vec![b'x'; 8 << 20])),
    ]
}

fn alignments() -> Vec<Case> {
    let aligned = |alignment| Raw::new(0, 1).alignment(U32, alignment);
    let one_tensor = |alignment, offset| Raw::new(1, 1).alignment(U32, alignment).tensor("t", &[4], F32, offset);
    vec![
        good("alignment 1, data", one_tensor(1, 3).data(1, 19)),
        good("alignment 65536, data", one_tensor(65_536, 0).data(65_536, 16)),
        corrupt("alignment 0", "power of two", aligned(0)),
        corrupt("alignment 3", "power of two", aligned(3)),
        corrupt("alignment 13", "power of two", aligned(13)),
        corrupt("alignment 2^17", "power of two up to 65536", aligned(1 << 17)),
        corrupt("alignment 2^31", "power of two up to 65536", aligned(1 << 31)),
        corrupt("alignment as i32", "is i32, expected u32", Raw::new(0, 1).alignment(I32, 32)),
        corrupt("alignment 13, data", "power of two", one_tensor(13, 0).data(13, 64)),
        corrupt("tensors laid out for alignment 1", "multiple of 32", one_tensor(32, 16).data(32, 64)),
    ]
}

fn descriptions() -> Vec<Case> {
    let named = |name: &str| Raw::new(1, 0).tensor(name, &[4], F32, 0).data(32, 16);
    let not_utf8 = Raw::new(1, 0).string(b"\xff").u32(1).u64(4).u32(F32).u64(0).data(32, 16);
    let twice = Raw::new(2, 0).tensor("t", &[4], F32, 0).tensor("t", &[4], F32, 32).data(32, 64);
    vec![
        good("name of 64 bytes", named(&"n".repeat(64))),
        corrupt("name of 65 bytes", "65 bytes long", named(&"n".repeat(65))),
        corrupt("name of 2^64-1 bytes", "bytes long", Raw::new(1, 0).u64(u64::MAX).bytes(&[0; 64])),
        corrupt("empty name", "not empty", named("").data(32, 32)),
        corrupt("name with NUL", "NUL", named("a\0b")),
        corrupt("name not UTF-8", "not UTF-8", not_utf8),
        corrupt("duplicate name", "\"t\" appears twice", twice),
        corrupt("description past the end", "the file ends", Raw::new(1, 0).string(b"t").u32(4).bytes(&[0; 40])),
    ]
}

fn shapes() -> Vec<Case> {
    let shaped = |dims: &[u64], ggml_type| Raw::new(1, 0).tensor("t", dims, ggml_type, 0).data(32, 64);
    vec![
        good("a dimension of 0", shaped(&[4, 0], F32)),
        good("four dimensions", shaped(&[2, 2, 2, 2], F32)),
        corrupt("no dimensions", "0 dimensions", shaped(&[], F32)),
        corrupt("five dimensions", "5 dimensions", shaped(&[1; 5], F32)),
        corrupt("2^32-1 dimensions", "dimensions", Raw::new(1, 0).string(b"t").u32(u32::MAX).bytes(&[0; 64])),
        corrupt("a dimension of -1", "elements", shaped(&[u64::MAX], F32)),
        corrupt("dimensions that wrap to 0", "elements", shaped(&[1 << 32, 1 << 32], F32)),
        corrupt("dimensions that wrap to 1", "elements", shaped(&[u64::MAX, u64::MAX], F32)),
        corrupt("dimensions that wrap behind a 0", "elements", shaped(&[0, 1 << 63, 1 << 63], F32)),
        corrupt("too many elements", "elements", shaped(&[4 * 0x7fff_ffff, 4 * 0x7fff_ffff], F32)),
        corrupt("bytes that wrap", "out of range", shaped(&[1 << 31, 1 << 30], I64)),
        corrupt("bytes that wrap to 0", "out of range", shaped(&[1 << 62], F32)),
        corrupt("rows that are not whole blocks", "multiple of 32 for Q8_0", shaped(&[33], Q8_0)),
        corrupt("rows that are not whole blocks of another type", "multiple of 256 for IQ4_XS", shaped(&[32], IQ4_XS)),
    ]
}

fn data() -> Vec<Case> {
    let at = |offset, n| Raw::new(1, 0).tensor("t", &[16], F32, offset).data(32, n);
    let two = |a: u64, b: u64, n| Raw::new(2, 0).tensor("a", &[16], F32, a).tensor("b", &[16], F32, b).data(32, n);
    let huge = 0x7fff_ffff_ffff_ffc0;
    let overflow = Raw::new(2, 0).tensor("a", &[huge], 24, 0).tensor("b", &[huge], 24, huge).data(32, 32);
    vec![
        good("exactly enough data", at(0, 64)),
        good("more than enough data", at(0, 1000)),
        good("two tensors in reverse order", two(64, 0, 128)),
        corrupt("one byte too few", "the file ends", at(0, 63)),
        corrupt("no data", "the file ends", at(0, 0)),
        corrupt("offset at the end", "the file ends", at(64, 64)),
        corrupt("offset beyond the file", "the file ends", at(1 << 40, 64)),
        corrupt("offset not aligned", "multiple of 32", at(1, 128)),
        corrupt("offset 2^64-1", "multiple of 32", at(u64::MAX, 64)),
        corrupt("offset that wraps", "out of range", at(u64::MAX - 31, 64)),
        corrupt("sizes whose sum wraps", "the file ends", overflow),
        corrupt("tensors at one place", "\"a\" and \"b\" overlap", two(0, 0, 128)),
        corrupt("tensors that overlap", "overlap", two(0, 32, 128)),
        corrupt("tensors that overlap in reverse order", "overlap", two(32, 0, 128)),
        corrupt("unknown type beyond the file", "the file ends", Raw::new(1, 0).tensor("t", &[4], 99, 1 << 20).data(32, 64)),
    ]
}
