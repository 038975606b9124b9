//! A runtime: threads, kernels and log of one user of the library. Any number may exist; nothing is global.

use super::Wait;
use super::device::{self, DeviceInfo};
use super::driver::{Driver, Task};
use super::hooks::{self, in_hook};
use super::load::Loads;
use super::log::{Log, LogLevel, LogSink};
use super::session::State;
use crate::error::Result;
use crate::fail;
use crate::kernels::{self, Kernels};
use crate::sys::pool::{Pool, PoolConfig, ThreadHook};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// More threads than any machine this runs on; beyond it the number is a mistake.
const MAX_THREADS: usize = 1024;

/// What a host asks of a runtime.
#[derive(Clone, Default)]
pub struct RuntimeConfig {
    /// Size, affinity, priority and hook of the worker threads.
    pub pool: PoolConfig,
    /// 0 = off, else the highest [`LogLevel`] kept.
    pub log_level: u32,
    /// Where lines go; without one they wait in a ring for [`Runtime::next_log`].
    pub log: Option<LogSink>,
    /// A kernel set by name; `None` = the best this machine has.
    pub kernels: Option<String>,
}

/// Threads, kernels and log.
pub struct Runtime {
    pool: Arc<Pool>,
    kernels: &'static dyn Kernels,
    log: Arc<Log>,
    driver: Driver,
    loads: Arc<Loads>,
    stopped: AtomicBool,
}

impl Runtime {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// `InvalidArgument` for an impossible number of threads, `Unsupported` for kernels this machine cannot run, `OutOfMemory`.
    pub fn new(config: RuntimeConfig) -> Result<Arc<Self>> {
        if config.pool.n_threads > MAX_THREADS {
            fail!(InvalidArgument, "n_threads {}: expected at most {MAX_THREADS}", config.pool.n_threads);
        }
        let kernels = kernels::select(config.kernels.as_deref())?;
        let hook = config.pool.hook.map(|hook| -> ThreadHook { Arc::new(move |starting| hooks::call(&|| hook(starting))) });
        let threads = PoolConfig { hook, ..config.pool };
        let pool = Arc::new(Pool::new(&threads)?);
        let log = Arc::new(Log::new(config.log_level, config.log));
        let driver = Driver::new(log.clone(), threads.clone());
        let loads = Arc::new(Loads::new(threads));
        log.line(LogLevel::Info, || format!("runtime: {} threads, {} kernels", pool.n_threads(), kernels.name()));
        Ok(Arc::new(Self { pool, kernels, log, driver, loads, stopped: AtomicBool::new(false) }))
    }

    /// Cancels loads and generations, joins the threads; models and sessions answer `Shutdown` afterwards and can still be freed.
    ///
    /// # Errors
    /// `Timeout` if the work in flight does not end in time (call again), `Busy` inside a hook.
    pub fn shutdown(&self, wait: Wait) -> Result<()> {
        if in_hook() {
            fail!(Busy, "a runtime cannot be shut down from inside a hook");
        }
        self.stopped.store(true, Ordering::Release);
        let deadline = wait.deadline();
        if !self.loads.stop(deadline) || !self.driver.stop(deadline) {
            fail!(Timeout, "the work in flight has not ended yet");
        }
        self.pool.shutdown();
        self.log.line(LogLevel::Info, || "runtime: shut down".into());
        Ok(())
    }

    /// What this machine can compute on.
    pub fn devices(&self) -> Vec<DeviceInfo> {
        vec![device::cpu(self.kernels, self.pool.n_threads())]
    }

    /// Hands the oldest log line to `take`, which says whether it took it.
    pub fn next_log(&self, take: impl FnOnce(Option<(LogLevel, &str)>) -> bool) {
        self.log.next(take);
    }

    /// Refuses work after a shutdown.
    pub(super) fn check_alive(&self) -> Result<()> {
        if self.stopped.load(Ordering::Acquire) {
            fail!(Shutdown, "the runtime was shut down");
        }
        Ok(())
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(super) fn kernels(&self) -> &'static dyn Kernels {
        self.kernels
    }

    pub(super) fn loads(&self) -> &Arc<Loads> {
        &self.loads
    }

    pub(super) fn submit(&self, task: Task, state: Box<State>) -> Result<()> {
        self.driver.submit(task, state)
    }

    pub(super) fn wake_driver(&self) {
        self.driver.wake();
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Only threads that are past their work are left: a running load keeps its runtime.
        self.loads.stop(None);
    }
}
