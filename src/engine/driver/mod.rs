//! Who runs generations: a thread that sleeps when there is nothing to do, or, where the host drives, whoever pumps or waits.

mod answer;
mod batch;
mod logprobs;
mod task;
mod work;

pub(super) use task::Task;

use super::log::{Log, LogLevel};
use super::session::State;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::pool::PoolConfig;
use crate::sys::thread::Thread;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};
use work::{Slice, Work};

/// Stack of the driver thread: tokenising and sampling need little, and the host pays for every thread.
const STACK_BYTES: usize = 2 << 20;

/// How long a thread that has to wait for another one's pump sleeps before it looks again.
const REST: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Inbox {
    tasks: Vec<Task>,
    /// Something changed since the driver last looked.
    signal: bool,
    stop: bool,
    /// The thread was started and has not ended.
    running: bool,
}

/// What the driver thread and the rest of the engine share.
#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

enum Mode {
    /// A thread, which starts with the first generation.
    Thread(Mutex<Option<Thread>>),
    /// No thread: whoever has the lock works.
    Host(Mutex<Work>),
}

/// The driver of one runtime.
pub(super) struct Driver {
    shared: Arc<Shared>,
    mode: Mode,
    log: Arc<Log>,
    config: PoolConfig,
}

/// What became of a slice that a host asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Something was done.
    Worked,
    /// There is nothing to do.
    Idle,
    /// Another thread is at it.
    Taken,
}

impl Driver {
    pub(super) fn new(log: Arc<Log>, config: PoolConfig, host_driven: bool) -> Self {
        let mode = if host_driven { Mode::Host(Mutex::default()) } else { Mode::Thread(Mutex::new(None)) };
        Self { shared: Arc::default(), mode, log, config }
    }

    /// Hands in a task with the state it borrowed, `None` if it has to wait for that. On failure the state goes back.
    pub(super) fn submit(&self, mut task: Task, state: Option<Box<State>>) -> Result<()> {
        if let Err(e) = self.ensure_thread() {
            task.give_back(state);
            return Err(e);
        }
        let mut inbox = self.shared.inbox.lock();
        if inbox.stop {
            drop(inbox);
            task.give_back(state);
            return Err(Error::new(ErrorKind::Shutdown, "the runtime was shut down"));
        }
        task.adopt(state);
        inbox.tasks.push(task);
        inbox.signal = true;
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Something outside changed: a cancel, or room in a queue. Where the host drives, what was cancelled ends here: nobody may ever pump again.
    pub(super) fn wake(&self) {
        self.shared.inbox.lock().signal = true;
        self.shared.changed.notify_all();
        let Mode::Host(work) = &self.mode else { return };
        // Whoever has the lock looks at the signal after giving it back.
        while let Some(mut work) = work.try_lock() {
            self.shared.inbox.lock().signal = false;
            work.end_cancelled(&self.shared);
            drop(work);
            if !self.shared.inbox.lock().signal {
                break;
            }
        }
    }

    /// Runs slices on this thread until `deadline`, or one if there is none; the last one is not begun if it would probably end too late. Stages
    /// take at most `most`, if that is given. Only where the host drives.
    pub(super) fn pump(&self, deadline: Option<Instant>, most: Option<Duration>, beside: &mut dyn FnMut() -> bool) -> Pumped {
        let Mode::Host(lock) = &self.mode else { return Pumped::Idle };
        let Some(mut work) = lock.try_lock() else { return Pumped::Taken };
        let mut pumped = Pumped::Idle;
        loop {
            let loaded = beside();
            if work.slice(&self.shared, most) != Slice::Worked && !loaded {
                break;
            }
            pumped = Pumped::Worked;
            if deadline.is_none_or(|at| Instant::now() + work.expected() >= at) {
                break;
            }
        }
        drop(work);
        if self.shared.inbox.lock().signal {
            self.wake();
        }
        pumped
    }

    /// Sleeps until something changes, but not long.
    pub(super) fn rest(&self) {
        self.shared.changed.wait_for(&mut self.shared.inbox.lock(), REST);
    }

    /// Cancels all tasks and waits for the thread until `deadline` (`None` = for ever). False if it still runs.
    pub(super) fn stop(&self, deadline: Option<Instant>) -> bool {
        self.shared.inbox.lock().stop = true;
        self.shared.changed.notify_all();
        match &self.mode {
            Mode::Thread(thread) => self.stop_thread(thread, deadline),
            Mode::Host(work) => {
                let work = match deadline {
                    Some(at) => work.try_lock_until(at),
                    None => Some(work.lock()),
                };
                work.map(|mut work| work.slice(&self.shared, None)).is_some()
            }
        }
    }

    fn stop_thread(&self, thread: &Mutex<Option<Thread>>, deadline: Option<Instant>) -> bool {
        // The last reference may be dropped by the driver itself: it cannot wait for its own end, and leaves on its own.
        let own = thread.lock().as_ref().is_some_and(Thread::is_current);
        let mut inbox = self.shared.inbox.lock();
        while inbox.running && !own {
            match deadline {
                Some(at) if self.shared.changed.wait_until(&mut inbox, at).timed_out() => return !inbox.running,
                Some(_) => {}
                None => self.shared.changed.wait(&mut inbox),
            }
        }
        drop(inbox);
        if let Some(thread) = thread.lock().take_if(|_| !own) {
            thread.join();
        }
        true
    }

    /// Starts the thread if there is to be one and it does not run yet.
    fn ensure_thread(&self) -> Result<()> {
        let Mode::Thread(thread) = &self.mode else { return Ok(()) };
        let mut thread = thread.lock();
        let mut inbox = self.shared.inbox.lock();
        if inbox.stop {
            fail!(Shutdown, "the runtime was shut down");
        }
        if thread.is_some() {
            return Ok(());
        }
        let (shared, log, config) = (self.shared.clone(), self.log.clone(), self.config.clone());
        let spawned = Thread::spawn("inference-run", STACK_BYTES, move || {
            config.enter(|| run(&shared, &log));
            shared.inbox.lock().running = false;
            shared.changed.notify_all();
        })?;
        inbox.running = true;
        *thread = Some(spawned);
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop(None);
    }
}

/// The thread's life: until told to stop.
fn run(shared: &Shared, log: &Log) {
    let mut work = Work::default();
    loop {
        match work.slice(shared, None) {
            Slice::Worked => {}
            Slice::Stopped => return,
            Slice::Idle => {
                log.line(LogLevel::Debug, || "driver: waiting".into());
                wait(shared);
            }
        }
    }
}

/// Sleeps until something changes. The timeout is a safety net for a lost wake-up, not a polling interval.
fn wait(shared: &Shared) {
    let mut inbox = shared.inbox.lock();
    while !inbox.signal && !inbox.stop && inbox.tasks.is_empty() {
        if shared.changed.wait_for(&mut inbox, Duration::from_secs(3600)).timed_out() {
            break;
        }
    }
    inbox.signal = false;
}
