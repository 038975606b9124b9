//! The loads of one runtime that run now, so that a shutdown can cancel them and wait for their threads.

use crate::error::Result;
use crate::fail;
use crate::sys::pool::PoolConfig;
use crate::sys::progress::Progress;
use crate::sys::thread::Thread;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Instant;

/// Stack of a loader: parsing needs little; sources of the host are read on it.
const STACK_BYTES: usize = 2 << 20;

struct Running {
    id: u64,
    progress: Arc<Progress>,
    /// `None` for a load on the caller's thread.
    thread: Option<Thread>,
}

#[derive(Default)]
struct State {
    stopped: bool,
    next_id: u64,
    running: Vec<Running>,
    /// Threads that have nothing left to do but to end.
    ended: Vec<Thread>,
}

impl State {
    /// True if a load runs that is not the work of this very thread.
    fn others_run(&self) -> bool {
        self.running.iter().any(|load| !load.thread.as_ref().is_some_and(Thread::is_current))
    }
}

/// The running loads of a runtime.
pub(in crate::engine) struct Loads {
    state: Mutex<State>,
    left: Condvar,
    config: PoolConfig,
}

impl Loads {
    pub(in crate::engine) fn new(config: PoolConfig) -> Self {
        Self { state: Mutex::default(), left: Condvar::new(), config }
    }

    /// Runs `body` here.
    ///
    /// # Errors
    /// `Shutdown`.
    pub(in crate::engine) fn run<T>(&self, progress: Arc<Progress>, body: impl FnOnce() -> T) -> Result<T> {
        let id = self.enter(progress)?;
        let _leave = Leave { loads: self, id };
        Ok(body())
    }

    /// Runs `body` on a thread of its own.
    ///
    /// # Errors
    /// `Shutdown`, or `OutOfMemory` if the system refuses a thread.
    pub(in crate::engine) fn spawn(self: &Arc<Self>, progress: Arc<Progress>, body: impl FnOnce() + Send + 'static) -> Result<()> {
        self.join_ended();
        let id = self.enter(progress)?;
        let loads = self.clone();
        let spawned = Thread::spawn("inference-load", STACK_BYTES, move || {
            let _leave = Leave { loads: &loads, id };
            loads.config.enter(body);
        });
        let thread = spawned.inspect_err(|_| self.leave(id))?;
        let mut state = self.state.lock();
        match state.running.iter_mut().find(|load| load.id == id) {
            Some(load) => load.thread = Some(thread),
            None => state.ended.push(thread),
        }
        Ok(())
    }

    /// Cancels all and waits for them until `deadline` (`None` = for ever), but not for the thread it is called on. False if one still runs.
    pub(in crate::engine) fn stop(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        state.stopped = true;
        state.running.iter().for_each(|load| load.progress.cancel());
        while state.others_run() {
            match deadline {
                Some(at) if self.left.wait_until(&mut state, at).timed_out() => return !state.others_run(),
                Some(_) => {}
                None => self.left.wait(&mut state),
            }
        }
        drop(state);
        self.join_ended();
        true
    }

    /// Waits for the last instructions of threads that have left.
    fn join_ended(&self) {
        let ended = std::mem::take(&mut self.state.lock().ended);
        ended.into_iter().filter(|thread| !thread.is_current()).for_each(Thread::join);
    }

    fn enter(&self, progress: Arc<Progress>) -> Result<u64> {
        let mut state = self.state.lock();
        if state.stopped {
            fail!(Shutdown, "the runtime was shut down");
        }
        let id = state.next_id;
        state.next_id += 1;
        state.running.push(Running { id, progress, thread: None });
        Ok(id)
    }

    fn leave(&self, id: u64) {
        let mut state = self.state.lock();
        if let Some(at) = state.running.iter().position(|load| load.id == id) {
            let load = state.running.swap_remove(at);
            state.ended.extend(load.thread);
        }
        self.left.notify_all();
    }
}

/// Takes a load off the list when it ends, in whatever way.
struct Leave<'a> {
    loads: &'a Loads,
    id: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.loads.leave(self.id);
    }
}
