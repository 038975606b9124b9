//! The log of one runtime: to the host's function, or into a ring that the host drains. Never to stdout or stderr.

use super::hooks;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Lines kept for a host that drains; older ones are dropped, because a host that never drains must not pay memory.
const RING_LINES: usize = 256;

/// Severity, numbered as in the C header; a runtime keeps lines up to its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed.
    Error = 1,
    /// Something is not as it should be, and work goes on.
    Warning = 2,
    /// What happened: loads, device choices.
    Info = 3,
    /// What happened in detail.
    Debug = 4,
}

/// Receives lines on the thread that logs.
pub type LogSink = Arc<dyn Fn(LogLevel, &str) + Send + Sync>;

/// The log of one runtime.
pub(super) struct Log {
    /// 0 = off, else the highest [`LogLevel`] kept.
    level: u32,
    sink: Option<LogSink>,
    ring: Mutex<VecDeque<(LogLevel, String)>>,
}

impl Log {
    pub(super) fn new(level: u32, sink: Option<LogSink>) -> Self {
        Self { level, sink, ring: Mutex::new(VecDeque::new()) }
    }

    /// Logs the line that `message` makes, if its level is kept.
    pub(super) fn line(&self, level: LogLevel, message: impl FnOnce() -> String) {
        if level as u32 > self.level {
            return;
        }
        let message = message();
        if let Some(sink) = &self.sink {
            return hooks::call(&|| sink(level, &message));
        }
        let mut ring = self.ring.lock();
        if ring.len() == RING_LINES {
            ring.pop_front();
        }
        ring.push_back((level, message));
    }

    /// Hands the oldest kept line to `take` and drops it if `take` says so.
    pub(super) fn next(&self, take: impl FnOnce(Option<(LogLevel, &str)>) -> bool) {
        let mut ring = self.ring.lock();
        let taken = take(ring.front().map(|(level, message)| (*level, message.as_str())));
        if taken {
            ring.pop_front();
        }
    }
}
