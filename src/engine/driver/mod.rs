//! The thread that runs generations: takes requests in, steps each model's batch, sleeps when there is nothing to do.

mod batch;
mod task;

pub(super) use task::Task;

use super::log::{Log, LogLevel};
use super::session::State;
use crate::error::{Error, ErrorKind, Result};
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
    finished: bool,
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
    hook: Option<ThreadHook>,
}

/// Called with true when a thread of the library starts, with false when it ends.
pub(in crate::engine) type ThreadHook = Arc<dyn Fn(bool) + Send + Sync>;

impl Driver {
    pub(super) fn new(log: Arc<Log>, hook: Option<ThreadHook>) -> Self {
        Self { shared: Arc::default(), thread: Mutex::new(None), log, hook }
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
        let mut thread = self.thread.lock();
        let Some(handle) = &*thread else {
            self.shared.inbox.lock().stop = true;
            return true;
        };
        let own = handle.is_current();
        let mut inbox = self.shared.inbox.lock();
        inbox.stop = true;
        self.shared.changed.notify_all();
        // The last reference may be dropped by the driver itself: it cannot wait for its own end, and leaves on its own.
        while !inbox.finished && !own {
            match deadline {
                Some(at) if self.shared.changed.wait_until(&mut inbox, at).timed_out() => return inbox.finished,
                Some(_) => {}
                None => self.shared.changed.wait(&mut inbox),
            }
        }
        drop(inbox);
        if let Some(handle) = thread.take()
            && !own
        {
            handle.join();
        }
        true
    }

    fn ensure_thread(&self) -> Result<()> {
        let mut thread = self.thread.lock();
        if thread.is_some() {
            return Ok(());
        }
        let (shared, log, hook) = (self.shared.clone(), self.log.clone(), self.hook.clone());
        let spawned = Thread::spawn("inference-run", STACK_BYTES, move || {
            let call = |starting| hook.iter().for_each(|h| super::hooks::call(&|| h(starting)));
            call(true);
            run(&shared, &log);
            call(false);
            shared.inbox.lock().finished = true;
            shared.changed.notify_all();
        })?;
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
    let mut batches: Vec<ModelBatch> = Vec::new();
    loop {
        if !take_in(shared, &mut batches) {
            batches.iter_mut().for_each(ModelBatch::cancel_all);
            return;
        }
        let mut worked = false;
        for batch in &mut batches {
            worked |= batch.step();
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
