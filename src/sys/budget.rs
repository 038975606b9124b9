//! Accounts of memory: what is held, the most that ever was, and a limit that the host may set.
//!
//! Whoever makes data-sized memory takes a [`Charge`] first and drops it with the memory. An account may belong to a larger one.

use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// Bytes held on behalf of one owner.
pub struct Budget {
    /// What it is for, in error messages: `"host memory"`.
    name: &'static str,
    limit: u64,
    held: Mutex<Held>,
    /// The account that pays too.
    parent: Option<Arc<Budget>>,
}

#[derive(Clone, Copy, Default)]
struct Held {
    now: u64,
    peak: u64,
}

impl Budget {
    /// An account of at most `limit` bytes; 0 = unlimited.
    pub fn new(name: &'static str, limit: u64) -> Arc<Self> {
        Self::within(name, limit, None)
    }

    /// An account whose bytes also count for `parent`.
    pub fn within(name: &'static str, limit: u64, parent: Option<Arc<Budget>>) -> Arc<Self> {
        let limit = if limit == 0 { u64::MAX } else { limit };
        Arc::new(Self { name, limit, held: Mutex::default(), parent })
    }

    /// Bytes held now.
    pub fn now(&self) -> u64 {
        self.held.lock().now
    }

    /// The most bytes held so far.
    pub fn peak(&self) -> u64 {
        self.held.lock().peak
    }

    /// Bytes that may still be charged.
    pub fn left(&self) -> u64 {
        let own = self.limit - self.now();
        self.parent.as_ref().map_or(own, |parent| own.min(parent.left()))
    }

    /// Charges `bytes`, until the charge is dropped.
    ///
    /// # Errors
    /// `Budget` with `detail` = bytes wanted, bytes left; nothing is charged then.
    pub fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge> {
        self.add(bytes)?;
        Ok(Charge { budget: self.clone(), bytes })
    }

    fn add(&self, bytes: u64) -> Result<()> {
        if let Some(parent) = &self.parent {
            parent.add(bytes)?;
        }
        let mut held = self.held.lock();
        match held.now.checked_add(bytes).filter(|sum| *sum <= self.limit) {
            Some(sum) => *held = Held { now: sum, peak: held.peak.max(sum) },
            None => {
                let left = self.limit - held.now;
                drop(held);
                if let Some(parent) = &self.parent {
                    parent.subtract(bytes);
                }
                let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                let message = format!("{}: {bytes} bytes wanted, {left} of {} left", self.name, self.limit);
                return Err(Error::new(ErrorKind::Budget, message).with_detail([number(bytes), number(left)]));
            }
        }
        Ok(())
    }

    fn subtract(&self, bytes: u64) {
        self.held.lock().now -= bytes;
        if let Some(parent) = &self.parent {
            parent.subtract(bytes);
        }
    }
}

/// Bytes charged to a [`Budget`]; given back when dropped.
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Charge {
    /// Bytes it stands for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Charges the same bytes once more.
    ///
    /// # Errors
    /// As [`Budget::charge`].
    pub fn another(&self) -> Result<Self> {
        self.budget.charge(self.bytes)
    }

    /// Charges `bytes` more.
    ///
    /// # Errors
    /// As [`Budget::charge`]; the charge is as it was.
    pub fn grow(&mut self, bytes: u64) -> Result<()> {
        self.budget.add(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives `bytes` back, at most what it stands for.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.budget.subtract(bytes);
        self.bytes -= bytes;
    }

    /// Makes it stand for exactly `bytes`.
    ///
    /// # Errors
    /// As [`Self::grow`].
    pub fn set(&mut self, bytes: u64) -> Result<()> {
        if bytes > self.bytes {
            return self.grow(bytes - self.bytes);
        }
        self.shrink(self.bytes - bytes);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.subtract(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_counts_until_it_is_dropped_and_the_peak_stays() {
        let budget = Budget::new("test", 100);
        let mut first = budget.charge(60).unwrap();
        let second = budget.charge(40).unwrap();
        assert_eq!((budget.now(), budget.left()), (100, 0));
        drop(second);
        first.set(10).unwrap();
        assert_eq!((budget.now(), budget.peak(), first.bytes()), (10, 100, 10));
        drop(first);
        assert_eq!(budget.now(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_charged_nowhere() {
        let parent = Budget::new("parent", 100);
        let child = Budget::within("child", 80, Some(parent.clone()));
        let e = child.charge(90).err().unwrap();
        assert_eq!((e.kind(), e.detail()), (ErrorKind::Budget, [90, 80]));
        let beside = parent.charge(50).unwrap();
        assert_eq!(child.left(), 50);
        let mut held = child.charge(50).unwrap();
        assert!(held.grow(1).is_err() && held.grow(u64::MAX).is_err());
        assert_eq!((parent.now(), child.now()), (100, 50));
        drop((beside, held));
        assert_eq!((parent.now(), child.now()), (0, 0));
    }

    #[test]
    fn zero_is_no_limit() {
        let budget = Budget::new("test", 0);
        drop(budget.charge(1 << 62).unwrap());
        assert_eq!(budget.peak(), 1 << 62);
    }
}
