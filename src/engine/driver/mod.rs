//! The thread that runs generations: takes requests in, steps each model's batch, sleeps when there is nothing to do.

mod answer;
mod batch;
mod task;

pub(super) use task::Task;

use super::log::{Log, LogLevel};
use super::session::State;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::pool::PoolConfig;
use crate::sys::thread::Thread;
use batch::ModelBatch;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Stack of the driver thread: tokenising and sampling need little, and the host pays for every thread.
const STACK_BYTES: usize = 2 << 20;

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

/// The driver of one runtime. Its thread starts with the first generation.
pub(super) struct Driver {
    shared: Arc<Shared>,
    thread: Mutex<Option<Thread>>,
    log: Arc<Log>,
    config: PoolConfig,
}

impl Driver {
    pub(super) fn new(log: Arc<Log>, config: PoolConfig) -> Self {
        Self { shared: Arc::default(), thread: Mutex::new(None), log, config }
    }

    /// Hands in a task with the state it borrowed. On failure the state goes back.
    pub(super) fn submit(&self, mut task: Task, state: Box<State>) -> Result<()> {
        if let Err(e) = self.ensure_thread() {
            task.session().take_back(state);
            return Err(e);
        }
        let mut inbox = self.shared.inbox.lock();
        if inbox.stop {
            drop(inbox);
            task.session().take_back(state);
            return Err(Error::new(ErrorKind::Shutdown, "the runtime was shut down"));
        }
        task.adopt(state);
        inbox.tasks.push(task);
        inbox.signal = true;
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Something outside changed: a cancel, or room in a queue.
    pub(super) fn wake(&self) {
        self.shared.inbox.lock().signal = true;
        self.shared.changed.notify_all();
    }

    /// Cancels all tasks and waits for the thread until `deadline` (`None` = for ever). False if it still runs.
    pub(super) fn stop(&self, deadline: Option<Instant>) -> bool {
        // The last reference may be dropped by the driver itself: it cannot wait for its own end, and leaves on its own.
        let own = self.thread.lock().as_ref().is_some_and(Thread::is_current);
        let mut inbox = self.shared.inbox.lock();
        inbox.stop = true;
        self.shared.changed.notify_all();
        while inbox.running && !own {
            match deadline {
                Some(at) if self.shared.changed.wait_until(&mut inbox, at).timed_out() => return !inbox.running,
                Some(_) => {}
                None => self.shared.changed.wait(&mut inbox),
            }
        }
        drop(inbox);
        if let Some(thread) = self.thread.lock().take_if(|_| !own) {
            thread.join();
        }
        true
    }

    /// Starts the thread if it does not run yet.
    fn ensure_thread(&self) -> Result<()> {
        let mut thread = self.thread.lock();
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

impl Shared {
    /// Ends cancelled tasks that wait to be taken in.
    fn end_cancelled(&self) {
        // Dropped, which ends them, after the lock: the end calls a hook of the host.
        let cancelled: Vec<Task> = self.inbox.lock().tasks.extract_if(.., |task| task.is_cancelled()).collect();
        drop(cancelled);
    }
}

/// The thread's life: until told to stop.
fn run(shared: &Shared, log: &Log) {
    let mut batches: Vec<ModelBatch> = Vec::new();
    loop {
        if !take_in(shared, &mut batches) {
            batches.iter_mut().for_each(ModelBatch::cancel_all);
            return;
        }
        let mut worked = false;
        for i in 0..batches.len() {
            let (before, rest) = batches.split_at_mut(i);
            let [batch, after @ ..] = rest else { break };
            // A cancel must not wait for the pass of others.
            worked |= batch.step(&mut || {
                before.iter_mut().chain(&mut *after).for_each(ModelBatch::cancel_requested);
                shared.end_cancelled();
            });
        }
        batches.retain(|batch| !batch.is_idle());
        if !worked {
            log.line(LogLevel::Debug, || "driver: waiting".into());
            wait(shared);
        }
    }
}

/// Moves new tasks to the batch of their model; false if the driver must stop.
fn take_in(shared: &Shared, batches: &mut Vec<ModelBatch>) -> bool {
    let mut inbox = shared.inbox.lock();
    let tasks = std::mem::take(&mut inbox.tasks);
    let stop = inbox.stop;
    drop(inbox);
    for task in tasks {
        match batches.iter_mut().find(|batch| batch.serves(&task)) {
            Some(batch) => batch.add(task),
            None => batches.push(ModelBatch::new(task)),
        }
    }
    !stop
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
