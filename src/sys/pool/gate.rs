//! The door of a parallel region: which workers are inside, and who sleeps until that changes.
//!
//! One atomic word decides everything, so that a closed gate lets nobody in any more; the lock and the condition variables only
//! put threads to sleep. Nothing here knows what a region computes.

use crate::sys::sync::{AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, PoisonError};
use std::time::{Duration, Instant};

/// Workers inside: the low 16 bits.
const INSIDE: u64 = 0xffff;
/// Workers may enter.
const OPEN: u64 = 1 << 16;
/// The closer sleeps until the last worker leaves.
const AWAITED: u64 = 1 << 17;
/// The pool ends: workers go home.
const STOPPED: u64 = 1 << 18;
/// The upper half counts the openings, so that a worker does not enter the same one twice.
const EPOCH: u64 = 1 << 32;
const EPOCHS: u64 = !(EPOCH - 1);

/// How long the closer busy-waits for the last workers. They are in the middle of a task as long as the one it has just finished,
/// usually microseconds from the end; being woken from sleep would cost more.
const CLOSE_SPIN: Duration = Duration::from_micros(20);

/// Lets workers into one region at a time, and out again.
#[derive(Default)]
pub(super) struct Gate {
    /// `EPOCH * openings | flags | workers inside`
    word: AtomicU64,
    /// Workers that sleep, or are about to.
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    opened: Condvar,
    emptied: Condvar,
}

/// A worker's stay inside an open gate; it leaves when dropped, also by unwinding.
pub(super) struct Visit<'a> {
    gate: &'a Gate,
    epoch: u64,
}

/// What a worker finds when it looks at the gate.
enum Look<'a> {
    Closed,
    Entered(Visit<'a>),
    Stopped,
}

impl Gate {
    /// Opens for a new region and wakes up to `n_wanted` sleeping workers. The gate must be closed and empty.
    pub(super) fn open(&self, n_wanted: usize) {
        let epoch = (self.word.load(Ordering::Relaxed) & EPOCHS).wrapping_add(EPOCH);
        // Sequentially consistent with the pair in `sleep`: either we see the sleeper, or it sees the gate open.
        self.word.store(epoch | OPEN, Ordering::SeqCst);
        let n_sleepers = self.sleepers.load(Ordering::SeqCst);
        if n_sleepers == 0 {
            return;
        }
        // A worker between its last look and its sleep holds the lock; after us it is asleep and can be woken.
        drop(self.lock());
        if n_wanted >= n_sleepers {
            self.opened.notify_all();
        } else {
            (0..n_wanted).for_each(|_| self.opened.notify_one());
        }
    }

    /// Closes, and returns when nobody is inside.
    pub(super) fn close(&self) {
        self.word.fetch_and(!OPEN, Ordering::AcqRel);
        let is_empty = || (self.word.load(Ordering::Acquire) & INSIDE == 0).then_some(());
        if spin(CLOSE_SPIN, is_empty).is_some() {
            return;
        }
        let mut guard = self.lock();
        self.word.fetch_or(AWAITED, Ordering::AcqRel);
        while is_empty().is_none() {
            guard = self.emptied.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends all workers home, now and for ever. The gate must be closed and empty.
    pub(super) fn stop(&self) {
        self.word.fetch_or(STOPPED, Ordering::SeqCst);
        drop(self.lock());
        self.opened.notify_all();
    }

    /// Have the workers been sent home?
    pub(super) fn is_stopped(&self) -> bool {
        self.word.load(Ordering::Acquire) & STOPPED != 0
    }

    /// Waits for an opening after `seen`, first busily for `busy`, then asleep. `None` when the gate is stopped.
    pub(super) fn enter(&self, seen: u64, busy: Duration) -> Option<Visit<'_>> {
        let look = || match self.look(seen) {
            Look::Closed => None,
            Look::Entered(visit) => Some(Some(visit)),
            Look::Stopped => Some(None),
        };
        loop {
            if let Some(visit) = spin(busy, look) {
                return visit;
            }
            self.sleep(seen);
        }
    }

    fn look(&self, seen: u64) -> Look<'_> {
        let mut word = self.word.load(Ordering::Acquire);
        while is_new(word, seen) {
            if word & STOPPED != 0 {
                return Look::Stopped;
            }
            match self.word.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Look::Entered(Visit { gate: self, epoch: word & EPOCHS }),
                Err(now) => word = now,
            }
        }
        Look::Closed
    }

    fn sleep(&self, seen: u64) {
        let mut guard = self.lock();
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !is_new(self.word.load(Ordering::SeqCst), seen) {
            guard = self.opened.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit<'_> {
    /// Which opening this was, for the next [`Gate::enter`].
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let before = self.gate.word.fetch_sub(1, Ordering::AcqRel);
        if before & AWAITED != 0 && before & INSIDE == 1 {
            // As in `open`: the closer is past its last look only when it sleeps.
            drop(self.gate.lock());
            self.gate.emptied.notify_all();
        }
    }
}

/// Is there something to do for a worker that has seen opening `seen`?
fn is_new(word: u64, seen: u64) -> bool {
    word & STOPPED != 0 || (word & OPEN != 0 && word & EPOCHS != seen)
}

/// Asks `answer` until it has one or `limit` has passed; at least once.
fn spin<T>(limit: Duration, mut answer: impl FnMut() -> Option<T>) -> Option<T> {
    let first = answer();
    if first.is_some() || limit.is_zero() {
        return first;
    }
    let start = Instant::now();
    loop {
        // Looking at the clock costs tens of pauses.
        for _ in 0..64 {
            std::hint::spin_loop();
            if let Some(found) = answer() {
                return Some(found);
            }
        }
        if start.elapsed() >= limit {
            return None;
        }
    }
}
