//! A load that runs in the background: progress, cancel, and the model at its end. `ffi` hands it to hosts.
//!
//! [`Model::load`] is the same load on the caller's own thread.

mod running;

pub(super) use running::Loads;

use super::Wait;
use super::hooks::{Wake, WakeHook, in_hook};
use super::log::LogLevel;
use super::model::{LoadConfig, Model};
use super::runtime::Runtime;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::panic;
use crate::sys::progress::Progress;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// What became of a load so far.
enum Outcome {
    Loading,
    Loaded(Arc<Model>),
    Taken,
    Failed(Error),
}

/// What the thread and the watchers share.
struct Shared {
    progress: Arc<Progress>,
    outcome: Mutex<Outcome>,
    ended: Condvar,
    wake: Wake,
}

/// A model load in progress. Dropping it cancels, and silences its wake hook.
pub struct Load {
    shared: Arc<Shared>,
}

impl Load {
    /// Starts to load a model on a thread of its own; what is wrong with the files is told by [`Self::wait`]. `wake` is called when it has ended,
    /// on that thread.
    ///
    /// # Errors
    /// `Shutdown`, or `OutOfMemory` if no thread can be started.
    pub fn start(runtime: &Arc<Runtime>, config: LoadConfig, wake: Option<WakeHook>) -> Result<Self> {
        let progress = Arc::new(Progress::default());
        let shared = Arc::new(Shared {
            progress: progress.clone(),
            outcome: Mutex::new(Outcome::Loading),
            ended: Condvar::new(),
            wake: Wake::new(wake),
        });
        let (thread_shared, thread_runtime) = (shared.clone(), runtime.clone());
        runtime.loads().spawn(progress, move || {
            let result = build(&thread_runtime, &config, &thread_shared.progress);
            // Before the end is told, so that a host that knows it holds the last references.
            drop((config, thread_runtime));
            thread_shared.end(result);
            thread_shared.wake.call();
        })?;
        Ok(Self { shared })
    }

    /// Waits for the end and hands the model to `take`, once; where `take` fails, the model stays for the next call.
    ///
    /// # Errors
    /// `Timeout` while it loads; what made the load fail, each time; `Cancelled` after a cancel or a shutdown, when all its memory is back;
    /// `InvalidArgument` if the model was taken before; `Busy` for a wait inside a hook.
    pub fn wait<T>(&self, wait: Wait, take: impl FnOnce(&Arc<Model>) -> Result<T>) -> Result<T> {
        if wait != Wait::Poll && in_hook() {
            fail!(Busy, "a hook must not wait for a load; poll, or wait on another thread");
        }
        let deadline = wait.deadline();
        let mut outcome = self.shared.outcome.lock();
        while matches!(*outcome, Outcome::Loading) {
            match deadline {
                Some(at) if self.shared.ended.wait_until(&mut outcome, at).timed_out() => break,
                Some(_) => {}
                None => self.shared.ended.wait(&mut outcome),
            }
        }
        let taken = match &*outcome {
            Outcome::Loading => fail!(Timeout, "still loading"),
            Outcome::Failed(error) => return Err(error.clone()),
            Outcome::Taken => fail!(InvalidArgument, "the model of this load was handed out before"),
            Outcome::Loaded(model) => take(model)?,
        };
        *outcome = Outcome::Taken;
        Ok(taken)
    }

    /// Bytes read of the bytes that the weights have in the file: from 0, never falling, 1 only when the model is ready.
    pub fn progress(&self) -> f32 {
        match &*self.shared.outcome.lock() {
            Outcome::Loaded(_) | Outcome::Taken => 1.0,
            Outcome::Loading | Outcome::Failed(_) => self.shared.progress.fraction(),
        }
    }

    /// Ends it as soon as the read in flight is done, unless it has ended already. Any thread; does not wait.
    pub fn cancel(&self) {
        self.shared.progress.cancel();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.cancel();
        self.shared.wake.silence();
    }
}

impl Shared {
    /// Tells the end. A model that comes after a cancel is dropped first: who cancelled does not look for it any more.
    fn end(&self, result: Result<Arc<Model>>) {
        let result = if self.progress.is_cancelled() { result.and_then(|model| discard(model, &self.progress)) } else { result };
        let mut outcome = self.outcome.lock();
        *outcome = match result {
            Ok(model) => Outcome::Loaded(model),
            Err(error) => Outcome::Failed(error),
        };
        self.ended.notify_all();
    }
}

fn discard(model: Arc<Model>, progress: &Progress) -> Result<Arc<Model>> {
    drop(model);
    progress.check()?;
    fail!(Internal, "a load was discarded that nobody cancelled")
}

impl Model {
    /// Reads and packs a model. Blocks until it is done; a shutdown of the runtime ends it.
    ///
    /// # Errors
    /// `Io`, `Format` (corrupt, names what and where), `Unsupported` (names architecture, tensor type or tokenizer), `NoDevice`, `OutOfMemory`,
    /// `Shutdown`, `Cancelled` by a shutdown meanwhile.
    pub fn load(runtime: &Arc<Runtime>, config: &LoadConfig) -> Result<Arc<Self>> {
        let progress = Arc::new(Progress::default());
        runtime.loads().run(progress.clone(), || build(runtime, config, &progress))?
    }
}

/// The whole load, on whatever thread. A panic in it is an error of it.
fn build(runtime: &Arc<Runtime>, config: &LoadConfig, progress: &Arc<Progress>) -> Result<Arc<Model>> {
    let result = panic::catch(|| Model::build(runtime, config, progress));
    if let Err(e) = &result {
        let level = if e.kind() == ErrorKind::Cancelled { LogLevel::Info } else { LogLevel::Error };
        runtime.log().line(level, || format!("model: {e}"));
    }
    result
}
