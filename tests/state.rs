//! Saved sessions: what is restored goes on with the same bits, what is refused changes nothing, and a file is old or new, never a mix.

use inference::engine::{BackendKind, LoadConfig, Model, Overflow, Runtime, RuntimeConfig, Sampler, Session, SessionConfig};
use inference::error::ErrorKind;
use inference::kernels::KvType;
use inference::sys::file;
use inference::sys::pool::PoolConfig;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn load(name: &str, n_threads: usize, kv: Option<KvType>) -> Arc<Model> {
    let pool = PoolConfig { n_threads, ..PoolConfig::default() };
    let runtime = Runtime::new(RuntimeConfig { pool, ..RuntimeConfig::default() }).unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/golden/{name}.gguf"));
    Model::load(&runtime, &LoadConfig { paths: vec![path], kv, ..LoadConfig::default() }).unwrap()
}

fn tokens(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i + 13 * i + seed * 101) % 250).collect()
}

fn session(model: &Arc<Model>) -> Arc<Session> {
    Session::new(model, SessionConfig::default()).unwrap()
}

/// `n` greedy tokens behind what `session` holds, and the logits that follow.
fn go_on(session: &Session, n: usize) -> (Vec<u32>, Vec<f32>) {
    let mut greedy = Sampler::new(session.model().info().n_vocab as usize);
    let chosen = (0..n).map(|_| session.step(Some(&mut greedy), None, true).unwrap().token.unwrap()).collect();
    session.step(None, None, true).unwrap();
    (chosen, session.with_logits(<[f32]>::to_vec).unwrap())
}

#[test]
fn what_is_restored_goes_on_with_the_same_bits() {
    let (model, other) = (load("qwen2", 2, None), load("qwen2", 1, None));
    for (n, queued) in [(1, 0), (31, 0), (32, 0), (33, 5), (100, 0), (128, 40)] {
        let s = session(&model);
        s.append(&tokens(n, 1)).unwrap();
        s.step(None, None, true).unwrap();
        s.append(&tokens(queued, 2)).unwrap();
        let state = s.save().unwrap();
        assert_eq!(state.len(), s.saved_bytes().unwrap());
        let (held, expected) = (s.tokens().unwrap(), go_on(&s, 20));
        let (fresh, foreign) = (session(&model), session(&other));
        foreign.append(&tokens(77, 9)).unwrap();
        foreign.step(None, None, true).unwrap();
        for restored in [&s, &fresh, &foreign] {
            restored.restore(&state).unwrap();
            assert_eq!((restored.tokens().unwrap(), restored.n_tokens() as usize), (held.clone(), n + queued));
            let child = restored.fork().unwrap();
            assert_eq!(go_on(restored, 20), expected, "{n}, {queued}");
            assert_eq!(go_on(&child, 20), expected, "{n}, {queued}, forked");
        }
    }
    let empty = session(&model).save().unwrap();
    let s = session(&model);
    s.append(&[1, 2]).unwrap();
    s.restore(&empty).unwrap();
    assert_eq!(s.n_tokens(), 0);
}

#[test]
fn a_restored_session_gives_nothing_to_others() {
    let model = load("qwen2", 1, None);
    let s = session(&model);
    s.append(&tokens(100, 3)).unwrap();
    let expected = go_on(&s, 5);
    s.truncate(100).unwrap();
    let mut state = s.save().unwrap();
    // A forged state: other keys and values, and a sum that fits.
    let n = state.len();
    state[1000..n - 8].fill(0x3c);
    let sum = inference::sys::checksum::checksum(&state[..n - 8]);
    state[n - 8..].copy_from_slice(&sum.to_le_bytes());
    drop(s);
    let forged = session(&model);
    forged.restore(&state).unwrap();
    forged.append(&tokens(60, 4)).unwrap();
    forged.step(None, None, true).unwrap();
    let honest = session(&model);
    honest.append(&tokens(100, 3)).unwrap();
    assert_eq!(go_on(&honest, 5), expected);
}

#[test]
fn every_damaged_state_is_refused_and_changes_nothing() {
    let model = load("qwen2", 1, None);
    let s = session(&model);
    s.append(&tokens(40, 5)).unwrap();
    let expected = go_on(&s, 10);
    let state = s.save().unwrap();
    s.truncate(40).unwrap();
    let victim = session(&model);
    victim.append(&tokens(40, 5)).unwrap();
    victim.step(None, None, true).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        let error = victim.restore(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StateMismatch, "{what}: {error}");
    };
    // Every bit of the header, the tokens and the sum; of the block, one in each byte.
    for i in 0..state.len() {
        let edge = i < 512 || i + 64 > state.len();
        for bit in (0..8).filter(|bit| edge || *bit == i % 8) {
            let mut damaged = state.clone();
            damaged[i] ^= 1 << bit;
            refused(&damaged, &format!("byte {i}, bit {bit}"));
        }
        if edge || i % 97 == 0 {
            refused(&state[..i], &format!("{i} bytes"));
        }
    }
    refused(&[&state[..], &[0]].concat(), "a byte more");
    assert_eq!(go_on(&victim, 10), expected);
}

#[test]
fn states_are_bound_to_model_and_type_and_must_fit() {
    let model = load("qwen2", 1, None);
    let s = session(&model);
    s.append(&tokens(70, 6)).unwrap();
    s.step(None, None, true).unwrap();
    let state = s.save().unwrap();
    for other in [load("qwen3", 1, None), load("llama-tied", 1, None), load("qwen2", 1, Some(KvType::F32))] {
        assert_eq!(session(&other).restore(&state).unwrap_err().kind(), ErrorKind::StateMismatch);
    }
    let small = Session::new(&model, SessionConfig { n_ctx: 69, ..SessionConfig::default() }).unwrap();
    assert_eq!(small.restore(&state).unwrap_err().kind(), ErrorKind::ContextFull);
    assert_eq!(small.n_tokens(), 0);
}

#[test]
fn a_context_that_shifted_is_saved_as_it_is() {
    let model = load("qwen2", 1, None);
    let config = SessionConfig { n_ctx: 128, overflow: Overflow::Shift { n_keep: 10 }, ..SessionConfig::default() };
    let s = Session::new(&model, config).unwrap();
    s.append(&tokens(120, 7)).unwrap();
    go_on(&s, 30);
    let state = s.save().unwrap();
    let expected = go_on(&s, 20);
    let restored = Session::new(&model, config).unwrap();
    restored.restore(&state).unwrap();
    assert_eq!(go_on(&restored, 20), expected);
}

/// A directory of this test's own, empty.
fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("inference-state-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn files_are_replaced_and_nothing_else_is_left() {
    let (model, directory) = (load("qwen2", 1, None), directory("files"));
    let path = directory.join("a state \u{e9}");
    let s = session(&model);
    for n in [10, 60] {
        s.append(&tokens(n, 8)).unwrap();
        s.step(None, None, true).unwrap();
        s.save_file(&path).unwrap();
    }
    let restored = session(&model);
    restored.restore_file(&path).unwrap();
    assert_eq!(restored.tokens().unwrap(), s.tokens().unwrap());
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    for wrong in [directory.join("no/such"), directory.clone()] {
        assert_eq!(s.save_file(&wrong).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(restored.restore_file(&wrong).unwrap_err().kind(), ErrorKind::Io);
    }
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "a failed write leaves nothing");
    std::fs::remove_dir_all(directory).unwrap();
}

/// Set for a process that only writes: the file to be replaced again and again.
const WRITER: &str = "INFERENCE_STATE_WRITER";
/// Larger than what a disk takes at once.
const CONTENT: usize = 1 << 20;

fn write_for_ever(path: &Path) -> ! {
    // Tells the other process that it begins.
    std::io::stderr().write_all(b".").unwrap();
    loop {
        for letter in [b'a', b'b'] {
            file::replace(path, &vec![letter; CONTENT]).unwrap();
        }
    }
}

#[test]
fn a_writer_that_is_killed_leaves_the_old_content_or_the_new_one() {
    if let Some(path) = std::env::var_os(WRITER) {
        write_for_ever(Path::new(&path));
    }
    let directory = directory("killed");
    let path = directory.join("state");
    std::fs::write(&path, vec![b'a'; CONTENT]).unwrap();
    let this = std::env::current_exe().unwrap();
    let test = "a_writer_that_is_killed_leaves_the_old_content_or_the_new_one";
    for round in 0..200_u64 {
        let mut writer = Command::new(&this);
        let mut child = writer.args([test, "--exact"]).env(WRITER, &path).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        child.stderr.take().unwrap().read_exact(&mut [0]).unwrap();
        let until = Instant::now() + Duration::from_micros(round * 7919 % 20_000);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let content = std::fs::read(&path).unwrap();
        assert!(content.len() == CONTENT && content.iter().all(|byte| *byte == content[0]), "round {round}: a mix");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

/// On candle, too, a session is saved, goes on when it is restored, and shifts; what another backend saved is not its own.
#[test]
fn candle_saves_restores_and_shifts() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/qwen2.gguf");
    let config = LoadConfig { paths: vec![path], backend: BackendKind::Candle, ..LoadConfig::default() };
    let model = Model::load(&Runtime::new(RuntimeConfig::default()).unwrap(), &config).unwrap();
    let shifting = SessionConfig { n_ctx: 128, overflow: Overflow::Shift { n_keep: 10 }, ..SessionConfig::default() };
    let s = Session::new(&model, shifting).unwrap();
    s.append(&tokens(120, 7)).unwrap();
    go_on(&s, 30);
    let state = s.save().unwrap();
    let (tokens_behind, logits) = go_on(&s, 20);
    let restored = Session::new(&model, shifting).unwrap();
    restored.restore(&state).unwrap();
    let again = go_on(&restored, 20);
    // Candle sums in another order for another number of rows.
    let difference = again.1.iter().zip(&logits).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap();
    assert!(again.0 == tokens_behind && difference < 1e-4, "logits differ by {difference}");
    let ours = load("qwen2", 1, None);
    let s = session(&ours);
    s.append(&tokens(70, 4)).unwrap();
    s.step(None, None, true).unwrap();
    let n = restored.n_tokens();
    assert_eq!(restored.restore(&s.save().unwrap()).unwrap_err().kind(), ErrorKind::StateMismatch);
    assert_eq!(restored.n_tokens(), n);
    let host_driven = Runtime::new(RuntimeConfig { host_driven: true, ..RuntimeConfig::default() }).unwrap();
    assert_eq!(Model::load(&host_driven, &config).err().unwrap().kind(), ErrorKind::Unsupported);
}

/// As many tokens as our own kernels choose behind a context that has shifted.
#[test]
fn candle_shifts_as_our_own_kernels_do() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/qwen2.gguf");
    let shifting = SessionConfig { n_ctx: 128, overflow: Overflow::Shift { n_keep: 10 }, ..SessionConfig::default() };
    let texts = [BackendKind::Cpu, BackendKind::Candle].map(|backend| {
        let config = LoadConfig { paths: vec![path.clone()], backend, kv: Some(KvType::F32), ..LoadConfig::default() };
        let model = Model::load(&Runtime::new(RuntimeConfig::default()).unwrap(), &config).unwrap();
        let s = Session::new(&model, shifting).unwrap();
        s.append(&tokens(120, 7)).unwrap();
        go_on(&s, 40).0
    });
    assert_eq!(texts[0], texts[1]);
}
