//! Whole loads: a directory, shards, files from memory; progress, cancel, estimate; what is no text model.

use super::common::golden_data::Golden;
use super::common::hf_directory::HfDirectory;
use inference::dtype::DType;
use inference::engine::{LoadConfig, Model, Runtime, RuntimeConfig, Sampler, Session, SessionConfig};
use inference::error::ErrorKind;
use inference::sys::file::{MemorySource, ReadAt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of one test, empty at first.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hf-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn runtime() -> Arc<Runtime> {
    Runtime::new(RuntimeConfig::default()).unwrap()
}

fn of(path: &Path) -> LoadConfig {
    LoadConfig { paths: vec![path.to_owned()], ..LoadConfig::default() }
}

fn greedy(model: &Arc<Model>, prompt: &[u32], n: usize) -> Vec<u32> {
    let session = Session::new(model, SessionConfig::default()).unwrap();
    let mut greedy = Sampler::new(model.n_vocab());
    session.append(prompt).unwrap();
    (0..n).map(|_| session.step(Some(&mut greedy), None, true).unwrap().token.unwrap()).collect()
}

#[test]
fn directories_shards_and_files_from_memory_are_one_model() {
    let (golden, folder) = (Golden::read("llama-3.1"), Folder::new("forms"));
    let directory = HfDirectory::golden(&golden.path);
    let runtime = runtime();
    for (i, n_shards) in [1, 3].into_iter().enumerate() {
        let folder = folder.0.join(i.to_string());
        directory.write(&folder, DType::F32, n_shards);
        let model = Model::load(&runtime, &of(&folder)).unwrap();
        assert_eq!(greedy(&model, &golden.prompt, 32), golden.greedy);
        assert_eq!((model.info().architecture.as_str(), model.info().quantization.as_str(), model.info().n_vocab), ("llama", "F32", 277));
        let source = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            Arc::new(MemorySource::new(std::fs::read(entry.path()).unwrap()).named(name)) as Arc<dyn ReadAt>
        };
        let sources = std::fs::read_dir(&folder).unwrap().map(|entry| source(entry.unwrap())).collect();
        let model = Model::load(&runtime, &LoadConfig { sources, ..LoadConfig::default() }).unwrap();
        assert_eq!(greedy(&model, &golden.prompt, 4), golden.greedy[..4]);
    }
}

#[test]
fn an_estimate_is_what_the_load_takes() {
    let folder = Folder::new("estimate");
    HfDirectory::golden(&Golden::read("gemma2").path).write(&folder.0, DType::BF16, 1);
    let runtime = runtime();
    let plan = Model::estimate(&runtime, &of(&folder.0)).unwrap();
    let before = runtime.memory().now();
    let model = Model::load(&runtime, &of(&folder.0)).unwrap();
    assert_eq!(runtime.memory().now() - before, plan.weights_bytes);
    drop(model);
}

#[test]
fn what_is_no_text_model_is_refused_by_name() {
    let (runtime, folder) = (runtime(), Folder::new("refused"));
    let says = |parts: &[&str]| {
        let e = Model::load(&runtime, &of(&folder.0)).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        assert!(parts.iter().all(|part| e.message().contains(part)) && e.message().contains(folder.0.to_str().unwrap()), "{e}");
    };
    HfDirectory::golden(&Golden::read("qwen3").path).write(&folder.0, DType::F32, 1);
    std::fs::write(folder.0.join("modules.json"), "[]").unwrap();
    says(&["modules.json", "sentence-transformers"]);
    std::fs::remove_file(folder.0.join("modules.json")).unwrap();
    Model::load(&runtime, &of(&folder.0)).unwrap();
    std::fs::remove_file(folder.0.join("tokenizer.json")).unwrap();
    says(&["tokenizer.json is missing"]);
    std::fs::remove_file(folder.0.join("model.safetensors")).unwrap();
    says(&["model.safetensors is missing"]);
}

/// The published form of a trained model against its GGUF file: the same ids, the same logits.
#[test]
fn stories_from_a_directory_are_those_of_the_gguf_file() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/stories260K");
    if !folder.is_dir() {
        return say_skipped(&folder);
    }
    let runtime = runtime();
    let [hf, gguf] = ["hf", "stories260K-F32.gguf"].map(|name| Model::load(&runtime, &of(&folder.join(name))).unwrap());
    let prompt = hf.tokenizer().encode("Once upon a time", Default::default()).unwrap();
    assert_eq!(prompt, gguf.tokenizer().encode("Once upon a time", Default::default()).unwrap());
    assert_eq!(greedy(&hf, &prompt, 64), greedy(&gguf, &prompt, 64));
    assert_eq!((hf.info().eos, hf.info().bos, hf.info().n_params), (gguf.info().eos, gguf.info().bos, gguf.info().n_params));
}

#[expect(clippy::print_stderr, reason = "a test that skips says so")]
fn say_skipped(folder: &Path) {
    eprintln!("skipped: {} is absent", folder.display());
}

/// gpt-oss as it is published: four bits and a scale for 32 elements, in tensors of their own.
#[test]
fn blocks_of_mxfp4_are_read_as_gguf_has_them() {
    let mut directory = HfDirectory::golden(&Golden::read("gpt-oss").path);
    let (hidden, n_ff) = (32, 64);
    let config = directory.config.as_object_mut().unwrap();
    config.extend([("hidden_size".to_owned(), hidden.into()), ("intermediate_size".to_owned(), n_ff.into())]);
    config.insert("quantization_config".to_owned(), serde_json::json!({ "quant_method": "mxfp4" }));
    let resized = super::mxfp4::resized(&directory, hidden, n_ff);
    let packed = super::mxfp4::model(&directory, &resized, true);
    let plain = super::mxfp4::model(&directory, &resized, false);
    let prompt = [3, 17, 40, 99, 7];
    let (packed, plain) = (super::logits(&packed, &prompt), super::logits(&plain, &prompt));
    // The same numbers; products with blocks round their activations to eight bits.
    let scale = plain.iter().fold(0.0_f32, |scale, x| scale.max(x.abs()));
    assert!(super::worst(&packed, &plain) < 0.05 * scale, "{} of {scale}", super::worst(&packed, &plain));
}
