//! GGUF files that are as they should be: what is written is read, fixtures open, split sets are one model.

#[path = "common/fixtures.rs"]
mod fixtures;

use fixtures::fixture;
use inference::dtype::DType;
use inference::error::ErrorKind;
use inference::formats::gguf::{Array, Gguf, GgufWriter, Strings, Value};
use inference::sys::file::{MemorySource, ReadAt};
use inference::sys::job;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn source(bytes: Vec<u8>) -> Arc<dyn ReadAt> {
    Arc::new(MemorySource::new(bytes))
}

fn bytes(n: usize, seed: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + seed) as u8).collect()
}

/// A folder of this test that is removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("inference-gguf-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// ---- what is written is read ----

fn any_array() -> impl Strategy<Value = Array> {
    let flat = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8),
        vec(any::<i8>(), 0..9).prop_map(Array::I8),
        vec(any::<u16>(), 0..9).prop_map(Array::U16),
        vec(any::<i16>(), 0..9).prop_map(Array::I16),
        vec(any::<u32>(), 0..9).prop_map(Array::U32),
        vec(any::<i32>(), 0..9).prop_map(Array::I32),
        vec(prop::num::f32::NORMAL, 0..9).prop_map(Array::F32),
        vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        vec(vec(any::<u8>(), 0..9), 0..9).prop_map(|v| Array::String(Strings::collect(v).unwrap())),
        vec(any::<u64>(), 0..9).prop_map(Array::U64),
        vec(any::<i64>(), 0..9).prop_map(Array::I64),
        vec(prop::num::f64::NORMAL, 0..9).prop_map(Array::F64),
    ];
    flat.prop_recursive(4, 16, 4, |inner| vec(inner, 0..4).prop_map(Array::Array))
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        prop::num::f32::NORMAL.prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        vec(any::<u8>(), 0..99).prop_map(|v| Value::String(v.into())),
        any_array().prop_map(Value::Array),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        prop::num::f64::NORMAL.prop_map(Value::F64),
    ]
}

/// A type, and a shape whose rows are whole blocks of it.
fn any_tensor() -> impl Strategy<Value = (DType, Vec<usize>)> {
    (prop::sample::select(&DType::ALL[..]), vec(0..4usize, 1..=4)).prop_map(|(dtype, mut shape)| {
        shape[0] *= dtype.block_len();
        (dtype, shape)
    })
}

fn n_bytes(dtype: DType, shape: &[usize]) -> usize {
    dtype.row_bytes(shape[0]).unwrap() * shape[1..].iter().product::<usize>()
}

fn write(metadata: &BTreeMap<String, Value>, tensors: &BTreeMap<String, (DType, Vec<usize>)>) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    for (key, value) in metadata {
        writer.set(key, value.clone()).unwrap();
    }
    for (i, (name, (dtype, shape))) in tensors.iter().enumerate() {
        writer.tensor(name, *dtype, shape, bytes(n_bytes(*dtype, shape), i)).unwrap();
    }
    writer.to_bytes().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_is_read(
        metadata in btree_map("[a-z.é\"]{1,20}", any_value(), 0..8),
        tensors in btree_map("[a-z0-9.]{1,64}", any_tensor(), 0..8),
        alignment in 0..=16u32,
    ) {
        let mut metadata = metadata;
        metadata.insert("general.alignment".into(), (1u32 << alignment).into());
        let gguf = Gguf::from_source(source(write(&metadata, &tensors))).unwrap();
        prop_assert!(gguf.metadata().iter().eq(metadata.iter().map(|(key, value)| (key.as_str(), value))));
        prop_assert_eq!(gguf.tensors().len(), tensors.len());
        for (i, (name, (dtype, shape))) in tensors.iter().enumerate() {
            let tensor = gguf.tensor(name).unwrap();
            prop_assert_eq!((tensor.name(), tensor.dtype().unwrap(), tensor.shape()), (name.as_str(), *dtype, &shape[..]));
            prop_assert_eq!(tensor.n_elements(), shape.iter().product::<usize>());
            let expected = bytes(n_bytes(*dtype, shape), i);
            let loaded = gguf.load(tensor).unwrap();
            prop_assert_eq!(loaded.as_slice(), expected);
        }
    }
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let mut writer = GgufWriter::new();
    let nested = (0..17).fold(Array::U8(vec![]), |inner, _| Array::Array(vec![inner]));
    let f32 = DType::F32;
    let refused = [
        ("empty key", writer.set("", 1u8)),
        ("NUL", writer.set("a\0", 1u8)),
        ("alignment", writer.set("general.alignment", 3u32)),
        ("depth", writer.set("deep", nested)),
        ("long name", writer.tensor(&"n".repeat(65), f32, &[1], bytes(4, 0))),
        ("no dimensions", writer.tensor("t", f32, &[], bytes(4, 0))),
        ("five dimensions", writer.tensor("t", f32, &[1; 5], bytes(4, 0))),
        ("part of a block", writer.tensor("t", DType::Q8_0, &[31], bytes(34, 0))),
        ("overflow", writer.tensor("t", f32, &[usize::MAX, 2], bytes(4, 0))),
        ("wrong size", writer.tensor("t", f32, &[2], bytes(4, 0))),
    ];
    for (name, result) in refused {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument, "{name}");
    }
    writer.tensor_with("t", f32, &[2], |out| Ok(out.write_all(&[0; 4])?)).unwrap();
    assert!(writer.to_bytes().unwrap_err().message().contains("4 bytes were written, expected 8"));
    let mut writer = GgufWriter::new();
    writer.tensor("t", f32, &[1], bytes(4, 0)).unwrap();
    writer.tensor("t", f32, &[1], bytes(4, 0)).unwrap();
    assert!(writer.to_bytes().unwrap_err().message().contains("\"t\" appears twice"));
}

#[test]
fn a_key_set_again_is_replaced() {
    let mut writer = GgufWriter::new();
    writer.set("a", 1u32).unwrap();
    writer.set("b", 2u32).unwrap();
    writer.set("a", "text").unwrap();
    let gguf = Gguf::from_source(source(writer.to_bytes().unwrap())).unwrap();
    assert!(gguf.metadata().iter().map(|(key, _)| key).eq(["a", "b"]));
    assert_eq!(gguf.metadata().str("a").unwrap(), "text");
}

// ---- reading tensors ----

#[test]
fn reads_are_checked_against_the_tensor() {
    let mut writer = GgufWriter::new();
    writer.tensor("t", DType::F32, &[4], bytes(16, 0)).unwrap();
    let gguf = Gguf::from_source(source(writer.to_bytes().unwrap())).unwrap();
    let tensor = gguf.tensor("t").unwrap();
    let mut part = [0; 4];
    gguf.read_range(tensor, 12, &mut part).unwrap();
    assert_eq!(part[..], bytes(16, 0)[12..]);
    assert_eq!(gguf.read(tensor, &mut part).unwrap_err().kind(), ErrorKind::InvalidArgument);
    for start in [13, usize::MAX] {
        assert_eq!(gguf.read_range(tensor, start, &mut part).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert!(gguf.tensor("u").is_none());
}

// ---- split sets ----

/// The parts of a set that claims `count` parts and has three, with one tensor each.
fn parts(count: u16, n_tensors: i32) -> [Vec<u8>; 3] {
    std::array::from_fn(|no| {
        let mut writer = GgufWriter::new();
        writer.set("split.no", no as u16).unwrap();
        writer.set("split.count", count).unwrap();
        writer.set("split.tensors.count", n_tensors).unwrap();
        if no == 0 {
            writer.set("general.architecture", "llama").unwrap();
        }
        writer.tensor(&format!("t{no}"), DType::F32, &[4], bytes(16, no)).unwrap();
        writer.to_bytes().unwrap()
    })
}

fn write_parts(folder: &Folder, parts: &[Vec<u8>]) -> Vec<PathBuf> {
    parts.iter().enumerate().map(|(no, part)| folder.write(&format!("m-{:05}-of-00003.gguf", no + 1), part)).collect()
}

fn check_whole(gguf: &Gguf) {
    assert_eq!(gguf.metadata().str("general.architecture").unwrap(), "llama");
    assert!(gguf.tensors().map(|tensor| tensor.name()).eq(["t0", "t1", "t2"]));
    for (no, tensor) in gguf.tensors().enumerate() {
        assert_eq!(gguf.load(tensor).unwrap().as_slice(), bytes(16, no));
    }
}

#[test]
fn a_split_set_is_one_model() {
    let folder = Folder::new("split");
    for path in write_parts(&folder, &parts(3, 3)) {
        check_whole(&Gguf::open(path).unwrap());
    }
    let [a, b, c] = parts(3, 3).map(source);
    check_whole(&job::run(Gguf::from_sources(vec![c, a, b])).unwrap());
}

#[test]
fn a_missing_part_is_named() {
    let folder = Folder::new("missing");
    let paths = write_parts(&folder, &parts(3, 3));
    std::fs::remove_file(&paths[1]).unwrap();
    let error = Gguf::open(&paths[0]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.message().contains("part 2 of 3") && error.message().contains("m-00002-of-00003.gguf"), "{error}");
    let given = parts(3, 3).map(source)[..2].to_vec();
    assert_eq!(job::run(Gguf::from_sources(given)).err().unwrap().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let cases: [(&str, Vec<Vec<u8>>, ErrorKind); 5] = [
        ("wrong number of tensors", parts(3, 4).into(), ErrorKind::Format),
        ("one part twice", [0, 0, 2].map(|no| parts(3, 3)[no].clone()).into(), ErrorKind::InvalidArgument),
        ("too few parts named", parts(2, 3).into(), ErrorKind::Format),
        ("too many parts named", parts(513, 3).into(), ErrorKind::Format),
        ("negative number of tensors", parts(3, -1).into(), ErrorKind::Format),
    ];
    for (name, parts, kind) in cases {
        let folder = Folder::new("contradict");
        let paths = write_parts(&folder, &parts);
        assert!(Gguf::open(&paths[0]).is_err(), "{name}, from files");
        let error = job::run(Gguf::from_sources(parts.into_iter().map(source).collect())).err().unwrap();
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
    assert!(job::run(Gguf::from_sources(vec![])).is_err());
}

#[test]
fn a_part_must_be_named_so_that_the_others_can_be_found() {
    let folder = Folder::new("name");
    let path = folder.write("renamed.gguf", &parts(3, 3)[0]);
    let error = Gguf::open(path).err().unwrap();
    assert!(error.message().contains("-00001-of-00003.gguf"), "{error}");
}

// ---- fixtures ----

fn gguf_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            gguf_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "gguf") {
            found.push(path);
        }
    }
}

#[test]
fn all_fixtures_open_and_their_tensors_fill_them() {
    let Some(folder) = fixture("") else { return };
    let mut files = Vec::new();
    gguf_files(&folder, &mut files);
    assert!(!files.is_empty(), "no files below {}", folder.display());
    for path in files {
        let gguf = Gguf::open(&path).unwrap();
        assert!(gguf.metadata().str("general.architecture").is_ok(), "{}", path.display());
        let mut n_data = 0;
        for tensor in gguf.tensors() {
            let rows: usize = tensor.shape()[1..].iter().product();
            let expected = tensor.dtype().unwrap().row_bytes(tensor.shape()[0]).unwrap() * rows;
            assert_eq!(gguf.load(tensor).unwrap().as_slice().len(), expected, "{}", tensor.name());
            n_data += expected.next_multiple_of(32);
        }
        let len = std::fs::metadata(&path).unwrap().len() as usize;
        assert!(gguf.tensors().len() == 0 || (len - 64 * 1024..len).contains(&n_data), "{}: {n_data} of {len}", path.display());
    }
}

#[test]
fn the_stories_have_the_shapes_of_their_model() {
    let Some(path) = fixture("stories260K/stories260K-F32.gguf") else { return };
    let gguf = Gguf::open(path).unwrap();
    let metadata = gguf.metadata();
    let n_embd = metadata.usize("llama.embedding_length").unwrap();
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap();
    let embd = gguf.tensor("token_embd.weight").unwrap();
    assert_eq!((embd.shape(), embd.dtype().unwrap()), (&[n_embd, tokens.len()][..], DType::F32));
    assert_eq!(metadata.f32s("tokenizer.ggml.scores").unwrap().len(), tokens.len());
    assert_eq!(metadata.i32s("tokenizer.ggml.token_type").unwrap().len(), tokens.len());
    assert_eq!(tokens.get(1), Some(&b"<s>"[..]));
    let rows = gguf.load(embd).unwrap();
    let values = rows.as_slice().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    assert!(values.clone().all(|v| v.abs() < 10.0) && values.map(f32::abs).sum::<f32>() > 1.0);
}
