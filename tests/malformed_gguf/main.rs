//! Whatever a GGUF file holds, opening it gives an error or a model that works, and takes memory in proportion to the file.

mod cases;
#[path = "../common/fixtures.rs"]
mod fixtures;

#[path = "../common/peak.rs"]
mod peak;
mod raw;

use fixtures::fixture;
use inference::error::{Error, ErrorKind, Result};
use inference::formats::gguf::{Array, Gguf, GgufWriter, Strings, Value};
use inference::sys::file::{MemorySource, ReadAt};
use raw::Raw;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: peak::CountingAllocator = peak::CountingAllocator;

/// Opens `source` and uses all of it; checks what holds for every file.
fn exercise(source: impl ReadAt + 'static, name: &dyn Fn() -> String) -> Result<Gguf> {
    let budget = 4 * source.len() as usize + (64 << 20);
    let (result, peak) = peak::measure(|| {
        let gguf = Gguf::from_source(Arc::new(source))?;
        for tensor in gguf.tensors() {
            let loaded = gguf.load(tensor).map(|bytes| bytes.as_slice().len());
            assert_eq!(loaded, tensor.n_bytes(), "{}: {}", name(), tensor.name());
        }
        Ok(gguf)
    });
    assert!(peak <= budget, "{}: {peak} bytes at once, {budget} allowed", name());
    if let Err(e) = &result {
        check_error(e, name);
    }
    result
}

fn check_error(e: &Error, name: &dyn Fn() -> String) {
    assert!(matches!(e.kind(), ErrorKind::Format | ErrorKind::Unsupported), "{}: {:?} {e}", name(), e.kind());
    assert!((10..1000).contains(&e.message().len()), "{}: {e}", name());
}

#[test]
fn hand_made_files_get_the_error_they_deserve() {
    let cases = cases::all();
    assert!(cases.len() >= 90, "{} cases: none may get lost", cases.len());
    for case in cases {
        let result = exercise(MemorySource::new(case.bytes), &|| case.name.to_owned());
        match (result, case.refused) {
            (Ok(_), None) => {}
            (Ok(_), Some(_)) => panic!("{}: was accepted", case.name),
            (Err(e), None) => panic!("{}: {e}", case.name),
            (Err(e), Some((kind, message))) => {
                assert_eq!(e.kind(), kind, "{}: {e}", case.name);
                assert!(e.message().contains(message), "{}: {e}", case.name);
            }
        }
    }
}

/// A reader that keeps one enum per element needs 32 times the file for bytes, and 24 for empty strings.
#[test]
fn large_arrays_take_as_much_memory_as_in_the_file() {
    let mut n_cases = 0;
    for case in cases::all().into_iter().filter(|case| case.name.starts_with("8 MiB")) {
        let len = case.bytes.len();
        let (gguf, peak) = peak::measure(|| Gguf::from_source(Arc::new(MemorySource::new(case.bytes))).unwrap());
        assert_eq!(gguf.metadata().len(), 1);
        // A list of strings that grows holds its old and its new buffer, one twice as large, for a moment.
        assert!(peak <= 3 * len, "{}: {peak} bytes for a file of {len}", case.name);
        n_cases += 1;
    }
    assert_eq!(n_cases, 5);
}

#[test]
fn a_tensor_of_an_unknown_type_is_refused_when_it_is_used() {
    for (id, type_name, bytes) in [(16, "IQ2_XXS", 66), (40, "NVFP4", 144), (4, "Q4_2", 0), (99, "unknown", 0)] {
        let file = Raw::new(2, 0).tensor("new", &[256], id, 0).tensor("known", &[4], raw::F32, 160).data(32, 176.max(bytes));
        let gguf = exercise(MemorySource::new(file.0), &|| type_name.to_owned()).unwrap();
        let error = gguf.load(gguf.tensor("new").unwrap()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        for part in ["\"new\"", type_name, &id.to_string()] {
            assert!(error.message().contains(part), "{error}");
        }
        assert_eq!(gguf.load(gguf.tensor("known").unwrap()).unwrap().as_slice()[0], 160);
    }
}

/// A source of which only the beginning exists; the rest is zeros that take no memory.
struct Sparse {
    start: Vec<u8>,
    len: u64,
}

impl ReadAt for Sparse {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<()> {
        for (i, byte) in dst.iter_mut().enumerate() {
            *byte = self.start.get(offset as usize + i).copied().unwrap_or(0);
        }
        Ok(())
    }
}

#[test]
fn a_large_file_may_not_have_a_large_header() {
    let start = Raw::new(0, 1).entry("large", raw::STRING).u64(300 << 20).0;
    let error = exercise(Sparse { start, len: 1 << 40 }, &|| "large header".to_owned()).err().unwrap();
    assert!(error.message().contains("the header may not be longer"), "{error}");
}

#[test]
fn a_large_tensor_needs_no_memory_until_it_is_loaded() {
    let start = Raw::new(1, 0).tensor("t", &[1 << 30, 64], raw::F32, 0).0;
    let (gguf, peak) = peak::measure(|| Gguf::from_source(Arc::new(Sparse { start, len: 1 << 40 })).unwrap());
    assert_eq!(gguf.tensor("t").unwrap().n_bytes().unwrap(), 1 << 38);
    assert!(peak < 1 << 20, "{peak} bytes");
}

/// A file with every type of value and a few tensors: the seed of the sweeps.
fn seed() -> Vec<u8> {
    let mut writer = GgufWriter::new();
    let scalars: [(&str, Value); 12] = [
        ("u8", 1u8.into()),
        ("i8", (-1i8).into()),
        ("u16", 2u16.into()),
        ("i16", (-2i16).into()),
        ("general.alignment", 32u32.into()),
        ("i32", (-3i32).into()),
        ("f32", 1.5f32.into()),
        ("bool", true.into()),
        ("general.architecture", "llama".into()),
        ("u64", 4u64.into()),
        ("i64", (-4i64).into()),
        ("f64", 2.5f64.into()),
    ];
    for (key, value) in scalars {
        writer.set(key, value).unwrap();
    }
    writer.set("tokens", Strings::collect(["a", "", "bc"]).unwrap()).unwrap();
    writer.set("types", vec![1i32, 3, 6]).unwrap();
    writer.set("flags", vec![true, false]).unwrap();
    writer.set("nested", vec![Array::U8(vec![1, 2]), Array::Array(vec![Array::F32(vec![0.5])])]).unwrap();
    let bytes = |n| (0..n).map(|i| i as u8).collect::<Vec<u8>>();
    writer.tensor("token_embd.weight", inference::dtype::DType::F32, &[4, 3], bytes(48)).unwrap();
    writer.tensor("blk.0.attn_q.weight", inference::dtype::DType::Q8_0, &[32, 2], bytes(68)).unwrap();
    writer.tensor("output.weight", inference::dtype::DType::F16, &[4, 2, 2], bytes(32)).unwrap();
    writer.to_bytes().unwrap()
}

/// `base` with a few bytes replaced, or cut off; shared, so that a sweep copies nothing.
struct Edited {
    base: Arc<Vec<u8>>,
    len: usize,
    at: usize,
    bytes: Vec<u8>,
}

impl ReadAt for Edited {
    fn len(&self) -> u64 {
        self.len as u64
    }

    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<()> {
        let offset = offset as usize;
        if offset + dst.len() > self.len {
            return Err(Error::new(ErrorKind::Io, "the parser read past the end"));
        }
        dst.copy_from_slice(&self.base[offset..offset + dst.len()]);
        for (i, &byte) in self.bytes.iter().enumerate() {
            if let Some(dst) = (self.at + i).checked_sub(offset).and_then(|i| dst.get_mut(i)) {
                *dst = byte;
            }
        }
        Ok(())
    }
}

#[test]
fn truncated_at_every_byte() {
    let base = Arc::new(seed());
    assert!(Gguf::from_source(Arc::new(MemorySource::new(base.to_vec()))).is_ok());
    for len in 0..base.len() {
        let cut = Edited { base: base.clone(), len, at: 0, bytes: vec![] };
        let result = exercise(cut, &|| format!("cut at {len}"));
        // The padding behind the last tensor is all that may be missing.
        assert_eq!(result.is_ok(), len >= base.len() - (base.len() - 32) % 32, "cut at {len}");
    }
}

#[test]
fn extreme_values_at_every_byte() {
    let base = Arc::new(seed());
    let wide = [0, 1, 1 << 31, 1 << 32, u64::MAX / 2, 1 << 63, u64::MAX].map(|n: u64| n.to_le_bytes().to_vec());
    let narrow = [0, 1, u32::MAX / 2, 1 << 31, u32::MAX].map(|n: u32| n.to_le_bytes().to_vec());
    let mut n_refused = 0;
    for at in 0..base.len() {
        for bytes in wide.iter().chain(&narrow) {
            let edited = Edited { base: base.clone(), len: base.len(), at, bytes: bytes.clone() };
            n_refused += usize::from(exercise(edited, &|| format!("{bytes:?} at {at}")).is_err());
        }
    }
    assert!(n_refused > base.len(), "the sweep must reach the checks, {n_refused} refused");
}

#[test]
fn every_bit_flipped() {
    let base = Arc::new(seed());
    for bit in 0..base.len() * 8 {
        let (at, flipped) = (bit / 8, base[bit / 8] ^ 1 << (bit % 8));
        let edited = Edited { base: base.clone(), len: base.len(), at, bytes: vec![flipped] };
        let _ = exercise(edited, &|| format!("bit {bit}"));
    }
}

/// Nine is odd, so that every byte of the real header has a bit flipped, and each bit its turn.
#[test]
fn a_ninth_of_the_bits_of_a_real_header_flipped() {
    let Some(path) = fixture("stories260K/stories260K-Q4_0.gguf") else { return };
    let base = Arc::new(std::fs::read(path).unwrap());
    let gguf = Gguf::from_source(Arc::new(MemorySource::new(base.to_vec()))).unwrap();
    let n_data: usize = gguf.tensors().map(|tensor| tensor.n_bytes().unwrap().next_multiple_of(32)).sum();
    for bit in (0..(base.len() - n_data) * 8).step_by(9) {
        let (at, flipped) = (bit / 8, base[bit / 8] ^ 1 << (bit % 8));
        let edited = Edited { base: base.clone(), len: base.len(), at, bytes: vec![flipped] };
        let _ = exercise(edited, &|| format!("bit {bit}"));
    }
}

/// The host's stack may be small: reading and dropping the deepest file takes little of it.
#[test]
fn deep_nesting_fits_a_small_stack() {
    let deepest = cases::all().into_iter().find(|case| case.name == "arrays 16 deep").unwrap();
    let read = move || Gguf::from_source(Arc::new(MemorySource::new(deepest.bytes))).map(drop);
    std::thread::Builder::new().stack_size(64 << 10).spawn(read).unwrap().join().unwrap().unwrap();
}
