//! A runtime: threads, kernels, memory and log of one user of the library. Any number may exist; nothing is global.

use super::Wait;
use super::compiling::Background;
use super::device::{self, DeviceInfo, Gpus};
use super::driver::{Driver, Pumped, Task};
use super::hooks::{self, in_hook};
use super::load::Loads;
use super::log::{Log, LogLevel, LogSink};
use super::session::{STAGES_PER_BUDGET, State};
use crate::error::Result;
use crate::fail;
use crate::kernels::{self, Kernels};
use crate::sys::budget::Budget;
use crate::sys::pool::{Pool, PoolConfig, ThreadHook};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
    /// Make no thread: the host pumps. The pool's `n_threads` must be 0 or 1.
    pub host_driven: bool,
    /// Most bytes of host memory for weights, keys and values, and activations; 0 = unlimited.
    pub memory_limit: u64,
    /// Most bytes of each device's memory; 0 = unlimited.
    pub device_memory_limit: u64,
    /// A kernel set by name; `None` = the best this machine has.
    pub kernels: Option<String>,
    /// Where the plugin for GPUs is; `None` = beside this library.
    pub plugin: Option<PathBuf>,
}

/// Threads, kernels and log.
pub struct Runtime {
    pool: Arc<Pool>,
    kernels: &'static dyn Kernels,
    log: Arc<Log>,
    memory: Arc<Budget>,
    device_memory_limit: u64,
    /// By GPU: those that were asked for.
    device_memory: Mutex<BTreeMap<u32, Arc<Budget>>>,
    gpus: Gpus,
    host_driven: bool,
    driver: Driver,
    loads: Arc<Loads>,
    background: Background,
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
        if config.host_driven && config.pool.n_threads > 1 {
            fail!(InvalidArgument, "n_threads {} of a host-driven runtime: it computes on the host's threads alone", config.pool.n_threads);
        }
        let kernels = kernels::select(config.kernels.as_deref())?;
        let hook = config.pool.hook.map(|hook| -> ThreadHook { Arc::new(move |starting| hooks::call(&|| hook(starting))) });
        let n_threads = if config.host_driven { 1 } else { config.pool.n_threads };
        let threads = PoolConfig { hook, n_threads, ..config.pool };
        let pool = Arc::new(Pool::new(&threads)?);
        let log = Arc::new(Log::new(config.log_level, config.log));
        let driver = Driver::new(log.clone(), threads.clone(), config.host_driven);
        let loads = Arc::new(Loads::new(threads));
        let background = Background::new(loads.clone());
        log.line(LogLevel::Info, || format!("runtime: {} threads, {} kernels", pool.n_threads(), kernels.name()));
        let memory = Budget::new("host memory", config.memory_limit);
        Ok(Arc::new(Self {
            pool,
            kernels,
            log,
            memory,
            device_memory_limit: config.device_memory_limit,
            device_memory: Mutex::default(),
            gpus: Gpus::new(config.plugin),
            host_driven: config.host_driven,
            driver,
            loads,
            background,
            stopped: AtomicBool::new(false),
        }))
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

    /// Works on loads and generations for about `budget` on the calling thread, and returns whether some work is left. Stages are cut to the budget
    /// by what they took before, and one that would end too late is not begun; but one slice is always run.
    ///
    /// # Errors
    /// `InvalidArgument` if the runtime has threads of its own, `Busy` inside a hook, `Shutdown`.
    pub fn pump(&self, budget: Duration) -> Result<bool> {
        if !self.host_driven {
            fail!(InvalidArgument, "the runtime has threads of its own: only one that was made with host_driven is pumped");
        }
        if in_hook() {
            fail!(Busy, "a hook must not pump: it may be inside of a pump already");
        }
        self.check_alive()?;
        let deadline = Instant::now().checked_add(budget);
        Ok(self.driver.pump(deadline, Some(budget / STAGES_PER_BUDGET), &mut || self.loads.slice()) != Pumped::Idle)
    }

    /// Where the host drives, works for a slice on a thread that waits for something, or lets another thread work.
    pub(super) fn drive(&self, wait: Wait) {
        let most = match wait {
            Wait::For(time) => Some(time / STAGES_PER_BUDGET),
            Wait::Poll | Wait::Forever => None,
        };
        if self.driver.pump(None, most, &mut || self.loads.slice()) != Pumped::Worked {
            self.driver.rest();
        }
    }

    /// True if it has no threads of its own.
    pub fn is_host_driven(&self) -> bool {
        self.host_driven
    }

    /// What this machine can compute on: the processor, and every GPU. The first call loads the plugin, if there is one.
    pub fn devices(&self) -> Vec<DeviceInfo> {
        let mut devices = vec![device::cpu(self.kernels, self.pool.n_threads())];
        devices.extend(self.gpus.list());
        devices
    }

    pub(super) fn gpus(&self) -> &Gpus {
        &self.gpus
    }

    /// The account of the memory of a GPU.
    pub(super) fn device_memory(&self, gpu: u32) -> Arc<Budget> {
        self.device_memory.lock().entry(gpu).or_insert_with(|| Budget::new("device memory", self.device_memory_limit)).clone()
    }

    /// The account of host memory for `None`, of a GPU's otherwise.
    pub(super) fn account(&self, gpu: Option<u32>) -> Arc<Budget> {
        gpu.map_or_else(|| self.memory.clone(), |gpu| self.device_memory(gpu))
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

    /// The account of host memory.
    pub fn memory(&self) -> &Arc<Budget> {
        &self.memory
    }

    pub(super) fn loads(&self) -> &Arc<Loads> {
        &self.loads
    }

    /// For work of single generations. Not where the host drives: nobody may ever pump again.
    pub(super) fn background(&self) -> &Background {
        &self.background
    }

    pub(super) fn submit(&self, task: Task, state: Option<Box<State>>) -> Result<()> {
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
