//! The library's threads: named, with an explicit stack, in the default FP environment, never interrupted by the host's signals.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::fpenv::FpEnv;
use crate::sys::process::SignalsBlocked;
use std::thread::{Builder, JoinHandle};

/// A thread of ours. Dropping it lets it run on; [`Self::join`] waits for its end.
pub struct Thread {
    handle: JoinHandle<()>,
}

impl Thread {
    /// Starts a thread that runs `body`.
    ///
    /// # Errors
    /// `OutOfMemory` if the system refuses it.
    pub fn spawn(name: &str, stack_bytes: usize, body: impl FnOnce() + Send + 'static) -> Result<Self> {
        let refused = |e| Error::new(ErrorKind::OutOfMemory, format!("cannot start thread {name}: {e}"));
        let _signals = SignalsBlocked::new();
        let run = move || {
            // A new thread inherits the registers of the host's thread that started it.
            let _environment = FpEnv::set_default();
            body();
        };
        let handle = Builder::new().name(name.into()).stack_size(stack_bytes).spawn(run).map_err(refused)?;
        Ok(Self { handle })
    }

    /// True on the thread itself.
    pub fn is_current(&self) -> bool {
        self.handle.thread().id() == std::thread::current().id()
    }

    /// Waits for its end. Must not be called on the thread itself.
    pub fn join(self) {
        // It only fails if the host's hook panicked: there is nobody to tell but the host.
        let _ = self.handle.join();
    }
}
