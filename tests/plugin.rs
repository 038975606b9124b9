//! Plugins: what they compute arrives, and whatever is wrong with one is a reason, while the model on the CPU beside it goes on.
//!
//! The device is virtual (`examples/virtual_plugin.rs`): candle on the CPU behind the table of functions that a GPU is behind.

mod common {
    pub mod golden_data;
    pub mod lanes;
    pub mod placements;
}

use common::golden_data::Golden;
use common::lanes::prefill;
use common::placements;
use inference::backend::candle::{Candle, Precision};
use inference::backend::plugin::{self, DeviceRow, Failure, Handle, Plugin, Provider, Slice, Table, hand_over};
use inference::engine::{DeviceKind, LoadConfig, Model, Overflow, Runtime, RuntimeConfig, Sampler, Session, SessionConfig};
use inference::error::{ErrorKind, Result};
use inference::formats::gguf::Gguf;
use inference::kernels::KvType;
use inference::model::{ModelSpec, Placement, Topology};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A plugin inside this program.
struct Here;

impl Provider for Here {
    type Backend = Candle;

    fn n_devices(&self) -> Result<u32> {
        Ok(1)
    }

    fn device(&self, _: u32) -> Result<DeviceRow> {
        Ok(DeviceRow { memory_total: 7, memory_free: 5, usable: 1, reserved: 0, uuid: [0; 64], name: [0; 96], reason: [0; 128] })
    }

    fn open(&self, _: u32) -> Result<Candle> {
        Ok(Candle::cpu(Precision::Float))
    }
}

unsafe extern "C" fn open_here(abi: u32, build: Slice<u8>, table: *mut *const Table, provider: *mut Handle, failure: *mut Failure) -> u32 {
    // SAFETY: passed on from the caller.
    unsafe { hand_over(|| Ok(Here), (abi, build), table, provider, failure) }
}

#[test]
fn every_family_computes_behind_the_table_what_it_computes_without() {
    // SAFETY: a plugin's function.
    let plugin = unsafe { Plugin::of(open_here) }.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|e| Some(e.unwrap().file_name().to_str()?.strip_suffix(".gguf")?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() >= 25, "{names:?}");
    for name in names {
        let golden = Golden::read(&name);
        let gguf = Gguf::open(&golden.path).unwrap();
        let spec = ModelSpec::from_gguf(&gguf).unwrap();
        let n_layers = spec.layers.len();
        let remote = || Placement::Remote(plugin.open(0).unwrap());
        let logits = |placement: Placement, chunk| prefill(&placements::load(&gguf, placement, KvType::F32), &golden.prompt, chunk);
        let whole = logits(Placement::Candle, golden.prompt.len());
        assert_eq!(logits(remote(), golden.prompt.len()), whole, "{name}: the same code, the same bits");
        if !spec.is_divisible() {
            assert_eq!(name, "gemma3n");
            continue;
        }
        let parts = Placement::Split(vec![(0..n_layers / 2, placements::cpu("scalar", 1)), (n_layers / 2..n_layers, remote())]);
        let worst = logits(parts, 7).iter().zip(&whole).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap();
        assert!(worst <= 1e-4, "{name}, half of it on the CPU: logits differ by {worst}");
    }
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("inference-plugin-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// The virtual plugin, which cargo has built beside the tests, sealed in `folder`.
fn virtual_plugin(folder: &Path) -> PathBuf {
    let built = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples/libvirtual_plugin.so");
    let built = std::env::var_os("INF_VIRTUAL_PLUGIN").map_or(built, PathBuf::from);
    let file = folder.join(plugin::FILE_NAME);
    std::fs::write(&file, plugin::sealed(std::fs::read(built).unwrap(), plugin::BUILD)).unwrap();
    file
}

fn runtime(plugin: &Path) -> Arc<Runtime> {
    Runtime::new(RuntimeConfig { plugin: Some(plugin.to_owned()), log_level: 3, ..RuntimeConfig::default() }).unwrap()
}

fn load(runtime: &Arc<Runtime>, golden: &Golden, config: LoadConfig) -> Result<Arc<Model>> {
    Model::load(runtime, &LoadConfig { paths: vec![golden.path.clone()], ..config })
}

/// The ids that follow the prompt.
fn greedy(model: &Arc<Model>, golden: &Golden) -> Vec<u32> {
    let session = Session::new(model, SessionConfig::default()).unwrap();
    session.append(&golden.prompt).unwrap();
    go_on(&session, golden.greedy.len())
}

fn go_on(session: &Session, n: usize) -> Vec<u32> {
    let mut greedy = Sampler::new(session.model().n_vocab());
    (0..n).map(|_| session.step(Some(&mut greedy), None, true).unwrap().token.unwrap()).collect()
}

fn device(name: &str) -> LoadConfig {
    LoadConfig { device: name.into(), ..LoadConfig::default() }
}

fn log(runtime: &Runtime) -> String {
    let mut lines = String::new();
    let mut more = true;
    while more {
        runtime.next_log(|line| {
            more = line.is_some();
            lines.extend(line.map(|(_, text)| format!("{text}\n")));
            true
        });
    }
    lines
}

#[test]
#[cfg(target_os = "linux")]
fn a_model_on_a_device_does_what_one_on_the_cpu_does() {
    let folder = folder("engine");
    let runtime = runtime(&virtual_plugin(&folder));
    let devices = runtime.devices();
    let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
    assert_eq!(ids, ["cpu", "cuda:0", "cuda:1"], "{devices:?}");
    assert!(devices[1].kind == DeviceKind::Cuda && devices[1].unusable.is_none() && devices[2].unusable.as_deref() == Some("too slow"));
    let golden = Golden::read("qwen2");
    for name in ["cuda:0", "cuda", "auto", "", "GPU-00000000-0000"] {
        let model = load(&runtime, &golden, device(name)).unwrap();
        assert_eq!((model.info().device.as_str(), greedy(&model, &golden)), ("cuda:0", golden.greedy.clone()), "{name:?}");
    }
    for name in ["cuda:1", "cuda:2", "GPU-0000000"] {
        assert_eq!(load(&runtime, &golden, device(name)).err().unwrap().kind(), ErrorKind::NoDevice, "{name}");
    }
    let before = runtime.memory().now();
    let model = load(&runtime, &golden, device("cuda:0")).unwrap();
    assert!(runtime.memory().now() - before < 1000, "weights of a device are not memory of the host");
    sessions_work(&model, &golden);
    let plan = Model::estimate(&runtime, &LoadConfig { paths: vec![golden.path.clone()], ..device("cuda:0") }).unwrap();
    assert_eq!((plan.device.as_str(), plan.n_layers_on_device), ("cuda:0", plan.n_layers));
    assert!(plan.fits && plan.device_bytes > plan.weights_bytes && plan.host_bytes < plan.device_bytes, "{plan:?}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// Fork, truncate, shift, save and restore.
fn sessions_work(model: &Arc<Model>, golden: &Golden) {
    let config = SessionConfig { n_ctx: 128, overflow: Overflow::Shift { n_keep: 4 }, ..SessionConfig::default() };
    let session = Session::new(model, config).unwrap();
    session.append(&golden.prompt).unwrap();
    session.step(None, None, true).unwrap();
    let (fork, state) = (session.fork().unwrap(), session.save().unwrap());
    assert_eq!(go_on(&session, 16), golden.greedy[..16]);
    assert_eq!(go_on(&fork, 16), golden.greedy[..16]);
    let n = golden.prompt.len() as u32;
    session.truncate(n - 1).unwrap();
    session.append(&golden.prompt[golden.prompt.len() - 1..]).unwrap();
    assert_eq!(go_on(&session, 16), golden.greedy[..16]);
    let restored = Session::new(model, config).unwrap();
    restored.restore(&state).unwrap();
    assert_eq!(go_on(&restored, 16), golden.greedy[..16]);
    assert_eq!(go_on(&restored, 200).len(), 200, "the context shifts");
}

#[test]
#[cfg(target_os = "linux")]
fn layers_go_where_rules_and_memory_put_them() {
    let folder = folder("layers");
    let golden = Golden::read("qwen2");
    let runtime = runtime(&virtual_plugin(&folder));
    let rules = |json: serde_json::Value| Topology::new(Some(&json)).unwrap().rules("device", |name| Ok(name.to_owned())).unwrap();
    for topology in [
        serde_json::json!([{ "layers": "1-99", "device": "cuda:0" }]),
        serde_json::json!([{ "layers": "0-1", "device": "cuda:0" }, { "tensors": "^blk\\.1\\.", "device": "candle" }]),
    ] {
        let config = LoadConfig { devices: rules(topology), ..device("cpu") };
        let plan = Model::estimate(&runtime, &LoadConfig { paths: vec![golden.path.clone()], ..config.clone() }).unwrap();
        assert!(plan.n_layers_on_device > 0 && plan.n_layers_on_device < plan.n_layers, "{plan:?}");
        assert_eq!(greedy(&load(&runtime, &golden, config).unwrap(), &golden), golden.greedy);
    }
    // The device has a GiB, of which a plan leaves 256 MiB: with all but a little of the rest reserved, some layers fit.
    let whole = Model::estimate(&runtime, &LoadConfig { paths: vec![golden.path.clone()], ..device("cuda:0") }).unwrap();
    let room = whole.device_bytes - 1;
    let config = LoadConfig { reserve_device_bytes: (1 << 30) - (256 << 20) - room, ..device("cuda:0") };
    let refused = load(&runtime, &golden, config.clone()).err().unwrap();
    assert_eq!((refused.kind(), refused.detail()), (ErrorKind::OutOfMemory, [room as i64 + 1, room as i64]), "{refused}");
    let model = load(&runtime, &golden, LoadConfig { fit: true, ..config.clone() }).unwrap();
    assert!(greedy(&model, &golden) == golden.greedy && log(&runtime).contains("layers fit"));
    // What is chosen for the host falls back.
    let model = load(&runtime, &golden, LoadConfig { device: "auto".into(), ..config }).unwrap();
    assert!(model.info().device == "cpu" && log(&runtime).contains("device: cpu (cuda:0: the model needs"));
    std::fs::remove_dir_all(folder).unwrap();
}

/// What `cc` makes of `source` as a shared library; `None` without a compiler.
fn compiled(folder: &Path, source: &str) -> Option<Vec<u8>> {
    let (text, library) = (folder.join("fake.c"), folder.join("fake.so"));
    std::fs::write(&text, source).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &text]).status();
    made.is_ok_and(|status| status.success()).then(|| std::fs::read(library).unwrap())
}

/// A plugin that refuses with status 8, `Abi`, and no sentence; one without the symbol; one that hands over nothing.
const FAKES: [(&str, &str); 3] = [
    ("unsigned inf_plugin_open(void) { return 8; }", "no plugin: "),
    ("int nothing;", "it has no"),
    ("unsigned inf_plugin_open(void) { return 0; }", "it handed over no table"),
];

#[test]
#[cfg(target_os = "linux")]
fn whatever_is_wrong_with_a_plugin_is_a_reason() {
    let folder = folder("wrong");
    let file = folder.join(plugin::FILE_NAME);
    let golden = Golden::read("qwen2");
    refused(&file, &golden, "the file is not there");
    let whole = plugin::sealed(std::fs::read(virtual_plugin(&folder)).unwrap(), plugin::BUILD);
    let damaged = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    let cases = [
        (Vec::new(), "not a plugin"),
        (b"not a library at all".to_vec(), "not a plugin"),
        (whole[..whole.len() / 2].to_vec(), "not a plugin"),
        (damaged(whole.len() / 2), "damaged"),
        (damaged(100), "damaged"),
        (plugin::sealed(whole.clone(), "0.0.9-0123456789abcdef"), "built for 0.0.9-0123456789abcdef"),
        (plugin::sealed(b"sealed, and no library".to_vec(), plugin::BUILD), "no plugin: "),
    ];
    for (content, reason) in cases {
        std::fs::write(&file, content).unwrap();
        refused(&file, &golden, reason);
    }
    for (i, (source, reason)) in FAKES.into_iter().enumerate() {
        let Some(library) = compiled(&folder, source) else { break };
        // A name of its own: the system knows a library that is loaded by its name.
        let file = folder.join(format!("fake-{i}.so"));
        std::fs::write(&file, plugin::sealed(library, plugin::BUILD)).unwrap();
        refused(&file, &golden, reason);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// That the plugin at `file` is no device, for `reason`; and that the CPU computes as ever.
fn refused(file: &Path, golden: &Golden, reason: &str) {
    let runtime = runtime(file);
    let devices = runtime.devices();
    assert_eq!(devices.len(), 2, "{devices:?}");
    let why = devices[1].unusable.as_deref().unwrap();
    assert!(why.starts_with("no plugin: ") && why.contains(reason), "{why}: expected {reason}");
    let error = load(&runtime, golden, device("cuda:0")).err().unwrap();
    assert!(error.kind() == ErrorKind::NoDevice && error.message().contains(reason), "{error}");
    let model = load(&runtime, golden, device("auto")).unwrap();
    assert_eq!((model.info().device.as_str(), greedy(&model, golden)), ("cpu", golden.greedy.clone()));
    assert!(log(&runtime).contains(&format!("device: cpu ({why})")));
}
