//! A load that runs in the background: progress, cancel, and the model at its end. `ffi` hands it to hosts.
//!
//! [`Model::load`] is the same load on the caller's own thread.

mod queue;
mod running;

pub(super) use running::Loads;

use super::Wait;
use super::hooks::{Wake, WakeHook, in_hook};
use super::log::LogLevel;
use super::model::{LoadConfig, Model};
use super::runtime::Runtime;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::job::{self, Job};
use crate::sys::panic;
use crate::sys::progress::Progress;
use crate::sys::stack;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;
use std::time::Instant;

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
    /// Where the host drives: it is advanced there.
    host_driven: Option<Arc<Runtime>>,
}

impl Load {
    /// Starts to load a model on a thread of its own, or, where the host drives, in slices; what is wrong with the files is told by [`Self::wait`].
    /// `wake` is called when it has ended, on that thread.
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
        if runtime.is_host_driven() {
            runtime.loads().enqueue(progress.clone(), build(runtime.clone(), config, progress), {
                let shared = shared.clone();
                move |result| shared.finish(result)
            })?;
            return Ok(Self { shared, host_driven: Some(runtime.clone()) });
        }
        let (thread_shared, thread_runtime) = (shared.clone(), runtime.clone());
        runtime.loads().spawn(progress, move || {
            // It lets go of runtime and sources before the end is told, so that a host that knows it holds the last references.
            let result = panic::catch(|| job::run(build(thread_runtime, config, thread_shared.progress.clone())));
            thread_shared.finish(result);
        })?;
        Ok(Self { shared, host_driven: None })
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
            match (deadline, &self.host_driven) {
                (Some(at), _) if Instant::now() >= at => break,
                (_, Some(runtime)) => MutexGuard::unlocked(&mut outcome, || runtime.drive(wait)),
                (Some(at), None) => {
                    self.shared.ended.wait_until(&mut outcome, at);
                }
                (None, None) => self.shared.ended.wait(&mut outcome),
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
        if let Some(runtime) = &self.host_driven {
            runtime.loads().end_cancelled();
        }
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

    /// Tells the end to whoever waits, and to the hook.
    fn finish(&self, result: Result<Arc<Model>>) {
        self.end(result);
        self.wake.call();
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
        let load = build(runtime.clone(), config.clone(), progress.clone());
        runtime.loads().run(progress, || stack::on_stack_of(STACK_BYTES, || job::run(load)))?
    }
}

/// Of a load on its caller's thread: that may have 64 KiB, which a load comes near.
const STACK_BYTES: usize = 256 << 10;

/// The whole load, to be run on whatever thread.
///
/// Made in a frame of its own: it has many kilobytes before it is in its box, and a host's thread may have 64 in all.
#[inline(never)]
fn build(runtime: Arc<Runtime>, config: LoadConfig, progress: Arc<Progress>) -> Job<Result<Arc<Model>>> {
    Box::pin(async move {
        let result = Model::build(&runtime, &config, &progress).await;
        if let Err(e) = &result {
            let level = if e.kind() == ErrorKind::Cancelled { LogLevel::Info } else { LogLevel::Error };
            runtime.log().line(level, || format!("model: {e}"));
        }
        result
    })
}
