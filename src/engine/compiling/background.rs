//! One thread for jobs of which each concerns one generation only. It does one after the other, and ends when there is none left.

use crate::engine::load::Loads;
use crate::sys::job::{self, Job};
use crate::sys::panic;
use crate::sys::progress::Progress;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job<()>>,
    /// The thread was started, and will look here again before it ends.
    running: bool,
}

/// The background thread of a runtime that has threads.
pub(in crate::engine) struct Background {
    loads: Arc<Loads>,
    jobs: Arc<Mutex<Jobs>>,
}

impl Background {
    /// `loads` starts the thread, and waits for its end at a shutdown.
    pub(in crate::engine) fn new(loads: Arc<Loads>) -> Self {
        Self { loads, jobs: Arc::default() }
    }

    /// Has `job` done; here, if the system refuses a thread. After a shutdown it is dropped.
    pub(in crate::engine) fn submit(&self, job: Job<()>) {
        let mut jobs = self.jobs.lock();
        jobs.waiting.push_back(job);
        if std::mem::replace(&mut jobs.running, true) {
            return;
        }
        drop(jobs);
        let (jobs, shutdown) = (self.jobs.clone(), Arc::new(Progress::default()));
        let until = shutdown.clone();
        if self.loads.spawn(shutdown, move || work(&jobs, &until)).is_err() {
            work(&self.jobs, &Progress::default());
        }
    }
}

/// Does what waits, until there is nothing, or until `shutdown` is cancelled.
fn work(jobs: &Mutex<Jobs>, shutdown: &Progress) {
    loop {
        let mut waiting = jobs.lock();
        if shutdown.is_cancelled() {
            let given_up = std::mem::take(&mut waiting.waiting);
            drop(waiting);
            return drop(given_up);
        }
        let Some(mut job) = waiting.waiting.pop_front() else {
            waiting.running = false;
            return;
        };
        drop(waiting);
        // Who waits for a job that panics sees that it is gone.
        while !shutdown.is_cancelled() && matches!(panic::catch(|| Ok(job::advance(&mut job))), Ok(None)) {}
    }
}
