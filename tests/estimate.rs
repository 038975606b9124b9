//! What is said before a load, from the header of a file, is what the runtime accounts for afterwards.

use inference::engine::{LoadConfig, Model, Runtime, RuntimeConfig, Session, SessionConfig};
use inference::error::ErrorKind;
use inference::kernels::KvType;
use std::path::{Path, PathBuf};

/// Of the estimate, in percent.
const MOST_OFF: u64 = 3;

fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_dir(root.join("tests/data/golden")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = golden.filter(|path| path.extension().is_some_and(|ext| ext == "gguf")).collect();
    files.push(root.join("models/demo.gguf"));
    files
}

/// Loads a model, and fills the context of a session.
fn check(path: &Path, kv: KvType, n_ctx: u32) {
    let runtime = Runtime::new(RuntimeConfig { host_driven: true, ..RuntimeConfig::default() }).unwrap();
    let config = LoadConfig { paths: vec![path.to_path_buf()], n_ctx, kv: Some(kv), ..LoadConfig::default() };
    let plan = match Model::estimate(&runtime, &config) {
        // Heads of a few elements only.
        Err(e) if kv == KvType::Q8_0 && e.kind() == ErrorKind::Unsupported => return,
        plan => plan.unwrap(),
    };
    assert_eq!((runtime.memory().now(), plan.host_bytes), (0, plan.weights_bytes + plan.kv_bytes + plan.scratch_bytes));
    let model = Model::load(&runtime, &config).unwrap();
    let near = |estimate: u64| {
        let held = runtime.memory().now();
        assert!(held.abs_diff(estimate) * 100 <= estimate * MOST_OFF, "{path:?} {kv:?} {n_ctx}: {held} bytes held, {estimate} expected");
    };
    near(plan.weights_bytes);
    let session = Session::new(&model, SessionConfig::default()).unwrap();
    session.append(&vec![3; plan.n_ctx as usize]).unwrap();
    session.step(None, None, true).unwrap();
    near(plan.host_bytes);
}

#[test]
fn estimates_are_within_three_percent_for_every_architecture() {
    let files = files();
    assert!(files.len() > 20);
    for path in files {
        check(&path, KvType::F16, 128);
        check(&path, KvType::Q8_0, 96);
    }
}
