//! Weights that stay in their mapped file: the bits of packed ones on every kernel set, accounts that say whose memory it is, and files that
//! are not as they should be.

#[path = "common/golden_data.rs"]
mod golden_data;
#[path = "common/hf_directory.rs"]
#[expect(dead_code, reason = "models are opened by their paths here")]
mod hf_directory;

use golden_data::Golden;
use hf_directory::HfDirectory;
use inference::dtype::DType;
use inference::engine::{BackendKind, LoadConfig, Model, Runtime, RuntimeConfig, Sampler, Session, SessionConfig};
use inference::error::ErrorKind;
use inference::kernels::available;
use inference::model::{Quantization, Topology};
use inference::sys::file::MemorySource;
use inference::sys::pool::PoolConfig;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of this process, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("inference-mmap-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn runtime(kernels: &str) -> Arc<Runtime> {
    let pool = PoolConfig { n_threads: 2, ..PoolConfig::default() };
    Runtime::new(RuntimeConfig { pool, kernels: Some(kernels.to_owned()), log_level: 4, ..RuntimeConfig::default() }).unwrap()
}

fn config(path: &Path, mmap: bool) -> LoadConfig {
    LoadConfig { paths: vec![path.to_owned()], mmap, ..LoadConfig::default() }
}

/// The golden model called `name`, its matrices stored as `dtype`.
fn stored(folder: &Path, name: &str, dtype: &str) -> PathBuf {
    let path = folder.join(format!("{name}-{dtype}.gguf"));
    let quantization = Quantization::new(Some(dtype), &Topology::default()).unwrap();
    let model = Model::load(&runtime("scalar"), &LoadConfig { quantization, ..config(&Golden::read(name).path, false) }).unwrap();
    model.save_gguf(&path).unwrap();
    path
}

fn session(model: &Arc<Model>) -> Arc<Session> {
    Session::new(model, SessionConfig::default()).unwrap()
}

/// Logits behind `prompt`, all of it in one pass, and behind each of ten greedy tokens.
fn logits(session: &Session, prompt: &[u32]) -> Vec<f32> {
    let mut all = Vec::new();
    session.append(prompt).unwrap();
    for _ in 0..10 {
        session.step(None, None, true).unwrap();
        let logits = session.with_logits(<[f32]>::to_vec).unwrap();
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        session.append(&[best as u32]).unwrap();
        all.extend(logits);
    }
    all
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn host_bytes(model: &Model) -> u64 {
    model.runtime().memory().now()
}

#[test]
fn every_set_gives_the_bits_of_packed_weights_in_less_memory() {
    let scratch = Scratch::new("bits");
    let prompt = Golden::read("qwen2").prompt;
    for path in [Golden::read("qwen2").path, stored(&scratch.0, "qwen2", "f16"), stored(&scratch.0, "qwen2", "q8_0")] {
        for kernels in available() {
            let load = |mmap| Model::load(&runtime(kernels), &config(&path, mmap)).unwrap();
            let (packed, mapped) = (load(false), load(true));
            let (in_memory, elsewhere) = (host_bytes(&packed), host_bytes(&packed) - host_bytes(&mapped));
            assert!(elsewhere > in_memory * 3 / 4, "{kernels}: {elsewhere} of {in_memory} are not in memory");
            let (expected, got) = (session(&packed), session(&mapped));
            assert_eq!(bits(&logits(&got, &prompt)), bits(&logits(&expected, &prompt)), "{kernels}, {}", path.display());
            assert_eq!(mapped.info(), packed.info());
        }
    }
}

#[test]
fn a_saved_session_does_not_care() {
    let scratch = Scratch::new("state");
    let (path, prompt) = (stored(&scratch.0, "qwen2", "q8_0"), Golden::read("qwen2").prompt);
    let load = |mmap| Model::load(&runtime(available()[0]), &config(&path, mmap)).unwrap();
    let (packed, mapped) = (load(false), load(true));
    for (from, to) in [(&packed, &mapped), (&mapped, &packed)] {
        let (saved, restored) = (session(from), session(to));
        saved.append(&prompt).unwrap();
        saved.step(None, None, true).unwrap();
        restored.restore(&saved.save().unwrap()).unwrap();
        assert_eq!(bits(&logits(&restored, &[7])), bits(&logits(&saved, &[7])));
    }
}

#[test]
fn a_mapped_model_is_saved_as_it_is() {
    let scratch = Scratch::new("save");
    let path = stored(&scratch.0, "qwen2", "f16");
    let again = scratch.0.join("again.gguf");
    Model::load(&runtime("scalar"), &config(&path, true)).unwrap().save_gguf(&again).unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(&again).unwrap());
}

#[test]
fn experts_and_directories_stay_in_their_files() {
    let scratch = Scratch::new("others");
    let golden = Golden::read("qwen3moe");
    let folder = scratch.0.join("hf");
    HfDirectory::golden(&Golden::read("mistral").path).write(&folder, DType::BF16, 2);
    for (path, prompt) in [(golden.path, golden.prompt), (folder, Golden::read("mistral").prompt)] {
        let load = |mmap| Model::load(&runtime(available()[0]), &config(&path, mmap)).unwrap();
        let (packed, mapped) = (load(false), load(true));
        assert!(host_bytes(&mapped) < host_bytes(&packed), "{}", path.display());
        assert_eq!(bits(&logits(&session(&mapped), &prompt)), bits(&logits(&session(&packed), &prompt)), "{}", path.display());
    }
}

#[test]
fn what_a_plan_says_is_what_is_held() {
    let scratch = Scratch::new("plan");
    let path = stored(&scratch.0, "qwen2", "q8_0");
    let runtime = runtime(available()[0]);
    let (packed, mapped) = (config(&path, false), config(&path, true));
    let plans = [&packed, &mapped].map(|config| Model::estimate(&runtime, config).unwrap());
    // Tiles are filled up with rows of zeros, files are not.
    let weights = plans.map(|plan| plan.weights_bytes);
    assert!(weights[1] <= weights[0] && weights[1] > weights[0] * 3 / 4, "{weights:?}");
    assert!(plans[0].host_bytes - plans[1].host_bytes > weights[1] * 3 / 4, "{plans:?}");
    let model = Model::load(&runtime, &mapped).unwrap();
    let kv_and_scratch = plans[1].kv_bytes + plans[1].scratch_bytes;
    let held = host_bytes(&model);
    assert!(held <= plans[1].host_bytes && held + kv_and_scratch >= plans[1].host_bytes * 97 / 100, "{held} of {:?}", plans[1]);
}

/// What `transformers` says, from the file itself.
#[test]
fn greedy_tokens_are_those_of_transformers() {
    let golden = Golden::read("qwen2");
    for kernels in available() {
        let model = Model::load(&runtime(kernels), &config(&golden.path, true)).unwrap();
        let session = session(&model);
        let mut greedy = Sampler::new(model.n_vocab());
        session.append(&golden.prompt).unwrap();
        let got: Vec<u32> = golden.greedy.iter().map(|_| session.step(Some(&mut greedy), None, true).unwrap().token.unwrap()).collect();
        assert_eq!(got, golden.greedy, "{kernels}");
    }
}

/// Other types are packed, other sources and backends read, as if nobody had asked.
#[test]
fn what_cannot_be_mapped_is_read() {
    let scratch = Scratch::new("read");
    let path = stored(&scratch.0, "qwen2", "q4_0");
    let prompt = Golden::read("qwen2").prompt;
    let runtime = runtime(available()[0]);
    let expected = bits(&logits(&session(&Model::load(&runtime, &config(&path, false)).unwrap()), &prompt));
    let memory =
        LoadConfig { paths: Vec::new(), sources: vec![Arc::new(MemorySource::new(fs::read(&path).unwrap()))], ..config(&path, true) };
    for config in [config(&path, true), memory] {
        assert_eq!(bits(&logits(&session(&Model::load(&runtime, &config).unwrap()), &prompt)), expected);
    }
    let golden = Golden::read("qwen2").path;
    let candle = |mmap| LoadConfig { backend: BackendKind::Candle, ..config(&golden, mmap) };
    let held = [false, true].map(|mmap| {
        let model = Model::load(&runtime, &candle(mmap)).unwrap();
        (host_bytes(&model), bits(&logits(&session(&model), &prompt)))
    });
    assert_eq!(held[0], held[1]);
    // Encoded on the way in, so nothing of the file is left to use.
    let quantization = Quantization::new(Some("q8_0"), &Topology::default()).unwrap();
    let encoded = [false, true].map(|mmap| {
        let load = LoadConfig { quantization: quantization.clone(), ..config(&golden, mmap) };
        bits(&logits(&session(&Model::load(&runtime, &load).unwrap()), &prompt))
    });
    assert_eq!(encoded[0], encoded[1]);
}

#[test]
fn a_truncated_file_is_an_error_and_no_signal() {
    let scratch = Scratch::new("truncated");
    let bytes = fs::read(stored(&scratch.0, "qwen2", "q8_0")).unwrap();
    let path = scratch.0.join("short.gguf");
    for len in [0, 4, 1000, bytes.len() / 2, bytes.len() - 64] {
        fs::write(&path, &bytes[..len]).unwrap();
        let errors = [false, true].map(|mmap| Model::load(&runtime("scalar"), &config(&path, mmap)).err().unwrap());
        assert_eq!((errors[1].kind(), errors[1].message()), (ErrorKind::Format, errors[0].message()), "{len} bytes");
    }
}
