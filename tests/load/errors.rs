//! What is wrong with a file is said with its place: the file, the tensor or key, what was found and what was expected.

use super::sources::demo;
use super::{from_source, runtime};
use inference::dtype::DType;
use inference::engine::{LoadConfig, Model};
use inference::error::{Error, ErrorKind};
use inference::formats::gguf::{Gguf, GgufWriter, Value};
use inference::sys::file::MemorySource;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE: &str = "smith.gguf";

/// A tensor of the demo model, to be changed before it is written again.
struct Tensor {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Tensor {
    /// Without its last row.
    fn shorten(&mut self) {
        *self.shape.last_mut().unwrap() -= 1;
        self.data.truncate(self.dtype.row_bytes(self.shape[0]).unwrap() * self.shape[1..].iter().product::<usize>());
    }
}

/// The demo model in pieces.
struct Parts {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

impl Parts {
    fn demo() -> Self {
        let gguf = Gguf::from_source(Arc::new(MemorySource::new(demo()))).unwrap();
        let metadata = gguf.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let tensor = |t| {
            let mut data = vec![0; gguf.load(t).unwrap().as_slice().len()];
            gguf.read(t, &mut data).unwrap();
            Tensor { name: t.name().to_owned(), dtype: t.dtype().unwrap(), shape: t.shape().to_vec(), data }
        };
        Self { metadata, tensors: gguf.tensors().map(tensor).collect() }
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }

    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.remove(key);
        self.metadata.push((key.to_owned(), value.into()));
    }

    fn remove(&mut self, key: &str) {
        self.metadata.retain(|(other, _)| other != key);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        self.metadata.iter().for_each(|(key, value)| writer.set(key, value.clone()).unwrap());
        self.tensors.iter().for_each(|t| writer.tensor(&t.name, t.dtype, &t.shape, t.data.clone()).unwrap());
        writer.to_bytes().unwrap()
    }
}

fn load(config: &LoadConfig) -> Error {
    Model::load(&runtime(), config).err().expect("it loads")
}

fn load_bytes(bytes: Vec<u8>) -> Error {
    load(&from_source(MemorySource::new(bytes).named(FILE.into())))
}

/// What makes the demo model wrong.
type Change = fn(&mut Parts);

/// The error of the demo model with a change.
fn changed(change: impl FnOnce(&mut Parts)) -> Error {
    let mut parts = Parts::demo();
    change(&mut parts);
    load_bytes(parts.bytes())
}

/// That `error` is of `kind` and that its message has every one of `parts`.
fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    parts.iter().for_each(|part| assert!(error.message().contains(part), "{error}: expected {part}"));
}

#[test]
fn a_wrong_shape_is_told_as_expected_and_found() {
    let (mut expected, mut found) = (String::new(), String::new());
    let error = changed(|parts| {
        let up = parts.tensor("blk.1.ffn_up.weight");
        let text = |shape: &[usize]| shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        expected = text(&up.shape);
        up.shorten();
        up.shape.push(1); // told as it stands in the file
        found = text(&up.shape);
    });
    assert_eq!(error.message(), format!("{FILE}: blk.1.ffn_up.weight: shape {expected} expected, file has {found}"));
}

#[test]
fn tensors_are_named() {
    let cases: [(&str, Change); 5] = [
        ("blk.0.attn_q.weight is missing", |p| p.tensors.retain(|t| t.name != "blk.0.attn_q.weight")),
        ("token_embd.weight is missing", |p| p.tensors.retain(|t| t.name != "token_embd.weight")),
        ("blk.0.attn_norm.weight is missing", |p| p.tensor("blk.0.attn_norm.weight").name = "blk.0.new.weight".into()),
        ("token_embd.weight has", |p| p.tensor("token_embd.weight").shorten()),
        ("output_norm.weight: shape", |p| p.tensor("output_norm.weight").shorten()),
    ];
    for (part, change) in cases {
        says(&changed(change), ErrorKind::Format, &[FILE, part]);
    }
    let extra = changed(|p| {
        let (dtype, shape, data) = (DType::F32, vec![2], vec![0; 8]);
        p.tensors.push(Tensor { name: "blk.0.new.weight".into(), dtype, shape, data });
    });
    says(&extra, ErrorKind::Unsupported, &[FILE, "blk.0.new.weight"]);
}

#[test]
fn keys_are_named() {
    use ErrorKind::{Format, Unsupported};
    let cases: [(ErrorKind, &[&str], Change); 9] = [
        (Format, &["general.architecture", "missing"], |p| p.remove("general.architecture")),
        (Unsupported, &["abacus"], |p| p.set("general.architecture", "abacus")),
        (Format, &["llama.block_count", "missing"], |p| p.remove("llama.block_count")),
        (Format, &["llama.block_count", "expected"], |p| p.set("llama.block_count", "four")),
        (Format, &["llama.block_count", "expected", "1000000"], |p| p.set("llama.block_count", 1_000_000u32)),
        (Format, &["llama.attention.head_count"], |p| p.set("llama.attention.head_count", 7u32)),
        (Format, &["tokenizer.ggml.tokens"], |p| p.remove("tokenizer.ggml.tokens")),
        (Unsupported, &["sundial"], |p| p.set("tokenizer.ggml.pre", "sundial")),
        (Unsupported, &["rwkv"], |p| p.set("tokenizer.ggml.model", "rwkv")),
    ];
    for (kind, parts, change) in cases {
        let error = changed(change);
        says(&error, kind, parts);
        says(&error, kind, &[FILE]);
    }
}

#[test]
fn damaged_bytes_are_placed() {
    let (demo, n) = (demo(), demo().len());
    says(&load_bytes(demo[..n - 1].to_vec()), ErrorKind::Format, &[FILE, "tensor \"", &format!("ends at byte {}", n - 1)]);
    says(&load_bytes(demo[..5000].to_vec()), ErrorKind::Format, &[FILE, "5000"]);
    says(&load_bytes(vec![]), ErrorKind::Format, &[FILE]);
    says(&load_bytes(b"PK\x03\x04 and so on".to_vec()), ErrorKind::Format, &[FILE, "not a GGUF file", "PK"]);
    let mut old = demo;
    old[4] = 1;
    says(&load_bytes(old), ErrorKind::Unsupported, &[FILE, "version 1"]);
}

#[test]
fn paths_that_cannot_be_opened_are_named() {
    let of = |path: &Path| LoadConfig { paths: vec![path.to_owned()], ..LoadConfig::default() };
    says(&load(&of(Path::new("/nonexistent/smith.gguf"))), ErrorKind::Io, &["/nonexistent/smith.gguf"]);
    let folder = std::env::temp_dir();
    says(&load(&of(&folder)), ErrorKind::Io, &[&folder.display().to_string(), "directory"]);
    says(&load(&LoadConfig::default()), ErrorKind::InvalidArgument, &["no model file"]);
    let device = LoadConfig { device: "cuda:0".into(), ..of(&super::demo_path()) };
    says(&load(&device), ErrorKind::NoDevice, &["cuda:0", "plugin"]);
}

#[test]
fn files_beside_gguf_are_refused_by_name() {
    for name in ["tokenizer.json", "Model.SAFETENSORS", "vocab.txt"] {
        let both = LoadConfig {
            sources: vec![
                Arc::new(MemorySource::new(demo()).named(FILE.into())),
                Arc::new(MemorySource::new(vec![b'{', b'}']).named(name.into())),
            ],
            ..LoadConfig::default()
        };
        says(&load(&both), ErrorKind::Unsupported, &[name, "GGUF"]);
        says(&load(&LoadConfig { paths: vec![name.into()], ..LoadConfig::default() }), ErrorKind::Unsupported, &[name]);
    }
}

/// The demo model in two parts.
fn split() -> [Vec<u8>; 2] {
    let n_tensors = Parts::demo().tensors.len();
    [0, 1].map(|no| {
        let mut parts = Parts::demo();
        let second = parts.tensors.split_off(n_tensors / 2);
        if no == 1 {
            parts = Parts { metadata: vec![], tensors: second };
        }
        parts.set("split.no", u32::try_from(no).unwrap());
        parts.set("split.count", 2u32);
        parts.set("split.tensors.count", u32::try_from(n_tensors).unwrap());
        parts.bytes()
    })
}

/// A folder of this test that goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn parts_come_from_anywhere_and_a_missing_one_is_named() {
    let (folder, [first, second]) = (Folder::new("split"), split());
    let paths = [1, 2].map(|n| folder.0.join(format!("smith-{n:05}-of-00002.gguf")));
    std::fs::write(&paths[0], &first).unwrap();
    let of = |paths: &[PathBuf], sources: &[&Vec<u8>]| LoadConfig {
        paths: paths.to_vec(),
        sources: sources.iter().map(|&bytes| Arc::new(MemorySource::new(bytes.clone()).named(FILE.into())) as _).collect(),
        ..LoadConfig::default()
    };
    says(&load(&of(&paths[..1], &[])), ErrorKind::Io, &["part 2 of 2", "smith-00002-of-00002.gguf"]);
    says(&load(&of(&[], &[&first])), ErrorKind::InvalidArgument, &[FILE, "2 parts", "1 are given"]);
    says(&load(&of(&[], &[&second, &second])), ErrorKind::InvalidArgument, &["part 1 of 2 is missing"]);
    let whole = Model::load(&runtime(), &of(&[super::demo_path()], &[])).unwrap();
    let mixed = Model::load(&runtime(), &of(&paths[..1], &[&second])).unwrap();
    assert_eq!(whole.info(), mixed.info());
    Model::load(&runtime(), &of(&[], &[&second, &first])).unwrap();
    std::fs::write(&paths[1], &second).unwrap();
    Model::load(&runtime(), &of(&paths[1..], &[])).unwrap();
}
