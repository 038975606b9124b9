//! Where every case is tried: the whole path from the bytes of a file to text, watched for panics, hangs and memory.

use crate::peak;
use inference::engine::{LoadConfig, Model, Runtime, RuntimeConfig, Session, SessionConfig};
use inference::error::{Error, ErrorKind};
use inference::sys::pool::PoolConfig;
use inference::text::{DecodeOptions, Detokenizer, EncodeOptions};
use parking_lot::Mutex;
use std::fmt::Display;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What every model is asked to continue.
const TEXT: &str = "abc ab ba\n";
/// Tokens that every model generates.
const N_STEPS: usize = 4;
/// Cases take milliseconds, the largest of a torture two seconds, and much longer on a busy machine; what takes this long hangs.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// True in `make torture`: nothing is left out.
pub fn is_torture() -> bool {
    std::env::var_os("INF_TORTURE").is_some_and(|value| value == "1")
}

/// `every`-th item in a normal test, every item in torture.
pub fn stride(every: usize) -> usize {
    if is_torture() { 1 } else { every }
}

/// Where on the path something failed. Each place has its own sensible kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Load,
    Recommend,
    Encode,
    Append,
    Step,
    /// Making a session, reading facts, decoding: cannot fail for a model that loaded.
    Elsewhere,
}

impl Place {
    /// The kinds that tell a host what is wrong with its file. `OutOfMemory` is none: a file may not ask for more than it is.
    fn expects(self, kind: ErrorKind) -> bool {
        match self {
            Self::Load => matches!(kind, ErrorKind::Format | ErrorKind::Unsupported),
            Self::Recommend => kind == ErrorKind::Format,
            Self::Encode => kind == ErrorKind::Unsupported,
            Self::Append => kind == ErrorKind::ContextFull,
            Self::Step => matches!(kind, ErrorKind::ContextFull | ErrorKind::Format),
            Self::Elsewhere => false,
        }
    }
}

type Outcome = Result<(), (Place, Error)>;

/// A runtime, a file whose bytes change from case to case, and the counts.
pub struct Bench {
    name: &'static str,
    runtime: Arc<Runtime>,
    config: LoadConfig,
    path: PathBuf,
    file: File,
    /// What the file holds between cases.
    base: Vec<u8>,
    watch: Watch,
    started: Instant,
    n_lived: usize,
    n_refused: usize,
    /// The most bytes beyond four times the file.
    worst: isize,
    slowest: (Duration, String),
}

impl Bench {
    /// For the test called `name`, on the best kernels of this machine.
    pub fn new(name: &'static str) -> Self {
        Self::with(name, None, LoadConfig::default())
    }

    /// On the kernel set `kernels`, loading as `config` says.
    pub fn with(name: &'static str, kernels: Option<&str>, config: LoadConfig) -> Self {
        // One thread, the caller's: the allocator counts per thread.
        let pool = PoolConfig { n_threads: 1, ..PoolConfig::default() };
        let runtime = Runtime::new(RuntimeConfig { pool, kernels: kernels.map(str::to_owned), ..RuntimeConfig::default() }).unwrap();
        let path = unused_path();
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        let (base, watch, started, slowest) = (Vec::new(), Watch::new(), Instant::now(), (Duration::ZERO, String::new()));
        let config = LoadConfig { paths: vec![path.clone()], ..config };
        Self { name, runtime, config, path, file, base, watch, started, n_lived: 0, n_refused: 0, worst: isize::MIN, slowest }
    }

    /// The file that the following cases are edits of.
    pub fn set_base(&mut self, bytes: &[u8]) {
        self.file.set_len(0).unwrap();
        self.file.write_all_at(bytes, 0).unwrap();
        self.base = bytes.to_vec();
    }

    /// The base as it is; it must live.
    pub fn intact(&mut self, case: impl Display) {
        assert!(self.try_file(&case), "{case}: the intact model does not run");
    }

    /// The base with other bytes at `at`. True if the model lives.
    pub fn patched(&mut self, case: impl Display, at: usize, bytes: &[u8]) -> bool {
        self.file.write_all_at(bytes, at as u64).unwrap();
        let lives = self.try_file(&case);
        let end = self.base.len().min(at + bytes.len());
        self.file.write_all_at(&self.base[at..end], at as u64).unwrap();
        self.file.set_len(self.base.len() as u64).unwrap();
        lives
    }

    /// The first `len` bytes of the base.
    pub fn cut(&mut self, case: impl Display, len: usize) -> bool {
        self.file.set_len(len as u64).unwrap();
        let lives = self.try_file(&case);
        self.file.write_all_at(&self.base[len..], len as u64).unwrap();
        lives
    }

    /// Another file.
    pub fn whole(&mut self, case: impl Display, bytes: &[u8]) -> bool {
        self.set_base(bytes);
        self.try_file(&case)
    }

    fn try_file(&mut self, case: &dyn Display) -> bool {
        let n_bytes = fs::metadata(&self.path).unwrap().len() as usize;
        self.watch.begin(format!("{}: {case}", self.name));
        let started = Instant::now();
        let (outcome, peak) = peak::measure(|| catch_unwind(AssertUnwindSafe(|| live(&self.runtime, &self.config))));
        let took = started.elapsed();
        self.watch.end();
        self.worst = self.worst.max(peak as isize - 4 * n_bytes as isize);
        if took > self.slowest.0 {
            self.slowest = (took, case.to_string());
        }
        assert!(peak <= 4 * n_bytes + (64 << 20), "{case}: {peak} bytes at once for a file of {n_bytes}");
        let Ok(outcome) = outcome else { panic!("{case}: panicked") };
        self.judge(case, outcome)
    }

    fn judge(&mut self, case: &dyn Display, outcome: Outcome) -> bool {
        if let Err((place, e)) = &outcome {
            assert!(place.expects(e.kind()), "{case}: {place:?} failed with {:?}: {e}", e.kind());
            assert!((10..2000).contains(&e.message().len()), "{case}: {e}");
        }
        let lives = !matches!(outcome, Err((Place::Load, _)));
        self.n_lived += usize::from(lives);
        self.n_refused += usize::from(!lives);
        lives
    }

    /// Ends a test: at least `expected` cases were tried, some of both outcomes.
    pub fn finish(self, expected: usize) {
        let Self { name, n_lived, n_refused, worst, slowest, started, .. } = &self;
        let n = n_lived + n_refused;
        assert!(n >= expected, "{name}: {n} cases, none may get lost of {expected}");
        assert!(*n_lived > 0 && *n_refused > 0, "{name}: {n_lived} lived, {n_refused} were refused: the cases miss their aim");
        if is_torture() {
            let (worst, took) = (*worst as f64 / f64::from(1 << 20), started.elapsed().as_secs());
            let (case_took, case) = slowest;
            eprintln!("{name}: {n} cases in {took} s, {n_lived} lived; 4 x file {worst:+.1} MiB at most; slowest {case_took:.0?}: {case}");
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Loads the file, continues a text and reads what was written.
fn live(runtime: &Arc<Runtime>, config: &LoadConfig) -> Outcome {
    let at = |place| move |e| (place, e);
    let model = Model::load(runtime, config).map_err(at(Place::Load))?;
    if !model.info().generates {
        return Ok(());
    }
    let tokenizer = model.tokenizer();
    let options = EncodeOptions { add_special: true, parse_special: true };
    // A vocabulary that cannot spell the text can still be stepped, with any token.
    let mut prompt = match tokenizer.encode(TEXT, options) {
        Err(e) if !Place::Encode.expects(e.kind()) => return Err((Place::Encode, e)),
        encoded => encoded.unwrap_or_default(),
    };
    if prompt.is_empty() {
        prompt.push(0);
    }
    let mut sampler = model.recommended_sampler().map_err(at(Place::Recommend))?;
    sampler.set_seed(1);
    let session = Session::new(&model, SessionConfig::default()).map_err(at(Place::Elsewhere))?;
    session.append(&prompt).map_err(at(Place::Append))?;
    for _ in 0..N_STEPS {
        session.step(Some(&mut sampler), None, true).map_err(at(Place::Step))?;
    }
    let tokens = session.tokens().map_err(at(Place::Elsewhere))?;
    assert_eq!(tokens.len(), prompt.len() + N_STEPS);
    tokenizer.decode(&tokens, DecodeOptions { skip_special: false, at_text_start: true }).map_err(at(Place::Elsewhere))?;
    let mut detokenizer = Detokenizer::new(DecodeOptions { skip_special: true, at_text_start: false });
    let mut text = String::new();
    for token in tokens {
        detokenizer.push(tokenizer, token, &mut text).map_err(at(Place::Elsewhere))?;
    }
    detokenizer.finish(&mut text);
    Ok(())
}

/// A file of our own in the build's folder for temporary ones.
fn unused_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("hostile-{}-{}.gguf", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Ends the process if a case hangs: a test that never returns says nothing.
pub struct Watch {
    case: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Watch {
    pub fn new() -> Self {
        let case: Arc<Mutex<Option<(Instant, String)>>> = Arc::default();
        let watched = Arc::downgrade(&case);
        std::thread::spawn(move || {
            while let Some(case) = watched.upgrade() {
                if let Some((since, name)) = &*case.lock()
                    && since.elapsed() > TIME_LIMIT
                {
                    eprintln!("{name}: hangs, {TIME_LIMIT:?} are over");
                    std::process::abort();
                }
                drop(case);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Self { case }
    }

    pub fn begin(&self, name: String) {
        *self.case.lock() = Some((Instant::now(), name));
    }

    pub fn end(&self) {
        *self.case.lock() = None;
    }
}
