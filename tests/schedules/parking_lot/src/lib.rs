//! The part of parking_lot's interface that the library uses, on shuttle's locks.

use shuttle::sync as inner;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

/// As parking_lot's.
#[derive(Default)]
pub struct Mutex<T>(inner::Mutex<T>);

/// As parking_lot's. Empty only while its thread waits.
pub struct MutexGuard<'a, T>(Option<inner::MutexGuard<'a, T>>);

/// As parking_lot's; no wait ever times out.
#[derive(Default)]
pub struct Condvar(inner::Condvar);

/// As parking_lot's.
pub struct WaitTimeoutResult;

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(inner::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap()))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap()
    }
}

impl Condvar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.0 = Some(self.0.wait(guard.0.take().unwrap()).unwrap());
    }

    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _at: Instant) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        false
    }
}
