//! A thread pool that belongs to one runtime: sized by the host, panic-safe, joined on drop.
//!
//! A *region* is one call of [`Pool::run`]: the caller and whichever workers are awake claim its tasks one by one from a counter.
//! A worker that comes late misses the region and nobody waits for it. `gate` holds the protocol, `parts` the safe views of slices.

mod gate;
mod parts;
#[cfg(test)]
mod tests;

use crate::error::Result;
use crate::fail;
use crate::sys::cores;
use crate::sys::process::ProcessStamp;
use crate::sys::thread::Thread;
use gate::Gate;
use parking_lot::Mutex;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

pub use cores::default_threads;

/// More threads than any machine we know has cores; a larger number is a mistake of the host.
const MAX_THREADS: usize = 1024;

/// Stack of a worker. Kernels need little; hooks of the host run here too.
const STACK_BYTES: usize = 2 << 20;

/// What a runtime asks of its pool.
#[derive(Clone, Default)]
pub struct PoolConfig {
    /// Threads that compute, the calling one included. 0 = [`default_threads`].
    pub n_threads: usize,
    /// Busy-wait of a worker before it parks, in microseconds. 0 = park at once.
    pub spin_us: u32,
    /// CPUs the workers may run on: bit `i % 64` of word `i / 64` is CPU `i`. `None` = where the system puts them.
    pub cpu_mask: Option<[u64; 4]>,
    /// Urgency of the workers: -2 idle, -1 low, 0 normal, 1 high. What the system refuses is ignored.
    pub priority: i32,
    /// Called on each worker thread with `true` at its start and `false` at its end.
    pub hook: Option<ThreadHook>,
}

/// Called on a thread of the library with `true` at its start and `false` at its end.
pub type ThreadHook = Arc<dyn Fn(bool) + Send + Sync>;

impl PoolConfig {
    /// Runs `body` as every thread of a runtime runs: on its CPUs, with its priority, announced to its hook.
    pub fn enter(&self, body: impl FnOnce()) {
        if let Some(mask) = &self.cpu_mask {
            cores::bind_thread(mask);
        }
        cores::set_thread_priority(self.priority);
        let call = |starting| self.hook.iter().for_each(|hook| hook(starting));
        call(true);
        body();
        call(false);
    }
}

/// One unit of a parallel region.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Which task, `0..n_tasks`.
    pub index: usize,
    /// Which thread runs it, `0..n_threads`; two tasks of a region with one worker never overlap.
    pub worker: usize,
}

/// Worker threads that compute parallel regions together with the caller.
///
/// Any number of threads may call it at once; their regions take turns.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Mutex<Vec<Thread>>,
    born: ProcessStamp,
}

/// What the workers see.
struct Shared {
    config: PoolConfig,
    /// Held by the caller whose region runs.
    turn: Mutex<()>,
    gate: Gate,
    /// The region of the open gate; dangling while the gate is closed and empty.
    region: AtomicPtr<Region<'static>>,
}

/// One call of [`Pool::run`]; lives on the caller's stack.
struct Region<'f> {
    f: &'f (dyn Fn(Task) + Sync),
    n_tasks: usize,
    /// The next task to claim; may run past `n_tasks`.
    next: AtomicUsize,
    /// What the first task to panic said.
    panic: Mutex<Option<String>>,
}

thread_local! {
    /// The pool whose task this thread is running (null if none), and the worker it runs it as.
    static CURRENT: Cell<(*const Shared, usize)> = const { Cell::new((ptr::null(), 0)) };
}

impl Pool {
    /// Starts `n_threads - 1` workers; the caller of a region is the last one.
    ///
    /// # Errors
    /// `InvalidArgument` for more than 1024 threads; `OutOfMemory` if the system refuses a thread.
    pub fn new(config: &PoolConfig) -> Result<Self> {
        let n_threads = if config.n_threads == 0 { default_threads() } else { config.n_threads };
        if n_threads > MAX_THREADS {
            fail!(InvalidArgument, "n_threads = {n_threads}: at most {MAX_THREADS}");
        }
        let shared = Shared {
            config: PoolConfig { n_threads, ..config.clone() },
            turn: Mutex::new(()),
            gate: Gate::default(),
            region: AtomicPtr::new(ptr::null_mut()),
        };
        let pool = Self { shared: Arc::new(shared), workers: Mutex::default(), born: ProcessStamp::current() };
        for worker in 0..n_threads - 1 {
            let shared = Arc::clone(&pool.shared);
            // On failure `pool` is dropped, which ends the workers started so far.
            let handle = Thread::spawn(&format!("inference-{worker}"), STACK_BYTES, move || shared.config.enter(|| shared.work(worker)))?;
            pool.workers.lock().push(handle);
        }
        Ok(pool)
    }

    /// Threads that take part in a region, the caller included.
    pub fn n_threads(&self) -> usize {
        self.shared.config.n_threads
    }

    /// Calls `f` once for each index in `0..n_tasks`, on all threads, and returns when all are done.
    ///
    /// From inside a task of this pool it runs everything on the calling thread, with that task's `worker`.
    ///
    /// # Errors
    /// `Internal` if a task panicked: the rest of the region may be left out, the pool stays usable. `Internal` from inside a task
    /// of another pool, where waiting could be for ever. `Forked` in a child of the process that made the pool: the workers are not there.
    pub fn run(&self, n_tasks: usize, f: &(dyn Fn(Task) + Sync)) -> Result<()> {
        if !self.born.is_current() {
            fail!(Forked, "the thread pool was made before a fork() and is used in the child");
        }
        let region = Region { f, n_tasks, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        let (pool, worker) = CURRENT.get();
        if pool.is_null() {
            self.shared.run(&region);
        } else if ptr::eq(pool, &raw const *self.shared) {
            region.work(pool, worker);
        } else {
            fail!(Internal, "a task of one thread pool started a region of another");
        }
        region.outcome()
    }

    /// Waits for the region in progress and ends the workers; later regions run on their caller alone. Does nothing inside a task
    /// (it would wait for itself) and in a forked child (the workers are not there).
    pub fn shutdown(&self) {
        if self.born.is_current() && CURRENT.get().0.is_null() {
            let turn = self.shared.turn.lock();
            self.shared.gate.stop();
            drop(turn);
            self.join();
        }
    }

    /// Waits for the workers, which have been told to end.
    fn join(&self) {
        let workers = std::mem::take(&mut *self.workers.lock());
        if workers.iter().any(Thread::is_current) {
            return; // A thread cannot join itself: dropping the handles lets all of them end on their own.
        }
        workers.into_iter().for_each(Thread::join);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.born.is_current() {
            self.shared.gate.stop();
            self.join();
        } else {
            // The threads do not exist in this process, and the lock may be held for ever: the handles are not to be touched.
            std::mem::forget(std::mem::take(self.workers.get_mut()));
        }
    }
}

impl Shared {
    /// A worker's life.
    fn work(&self, worker: usize) {
        let busy = Duration::from_micros(self.config.spin_us.into());
        let mut seen = 0;
        while let Some(visit) = self.gate.enter(seen, busy) {
            // SAFETY: `run` stores a valid region before it opens the gate, and neither returns nor unwinds before the gate is
            // closed and empty; `visit` keeps the gate from being empty until this turn of the loop ends.
            let region = unsafe { &*self.region.load(Ordering::Acquire) };
            region.work(self, worker);
            seen = visit.epoch();
        }
    }

    /// Runs `region` with the help of the workers, when it is its caller's turn.
    fn run(&self, region: &Region<'_>) {
        /// Closes the gate on every way out of `run`.
        struct Close<'a>(&'a Gate);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.close();
            }
        }

        let _turn = self.turn.lock();
        let n_workers = self.config.n_threads - 1;
        let _close = if n_workers > 0 && region.n_tasks > 1 && !self.gate.is_stopped() {
            self.region.store((&raw const *region).cast_mut().cast(), Ordering::Release);
            self.gate.open(n_workers.min(region.n_tasks - 1));
            Some(Close(&self.gate))
        } else {
            None
        };
        region.work(self, n_workers);
    }
}

impl Region<'_> {
    /// Claims and runs tasks until none is left. Never unwinds.
    fn work(&self, pool: *const Shared, worker: usize) {
        let outer = CURRENT.replace((pool, worker));
        let done = catch_unwind(AssertUnwindSafe(|| {
            let claim = || Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < self.n_tasks);
            while let Some(index) = claim() {
                (self.f)(Task { index, worker });
            }
        }));
        CURRENT.set(outer);
        if let Err(payload) = done {
            self.next.fetch_max(self.n_tasks, Ordering::Relaxed);
            self.panic.lock().get_or_insert_with(|| message(&*payload));
        }
    }

    fn outcome(self) -> Result<()> {
        match self.panic.into_inner() {
            None => Ok(()),
            Some(message) => fail!(Internal, "a parallel task panicked: {message}"),
        }
    }
}

/// What a panic said.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
