//! The library's threads: named, with an explicit stack, in the default FP environment, never interrupted by the host's signals.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::fpenv::FpEnv;
use crate::sys::process::SignalsBlocked;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

thread_local! {
    /// The mark of the [`Thread`] that this thread is; null on threads of the host. `std::thread::current` would allocate on those.
    static MARK: Cell<*const u8> = const { Cell::new(ptr::null()) };
}

/// A thread of ours. Dropping it lets it run on; [`Self::join`] waits for its end.
pub struct Thread {
    handle: JoinHandle<()>,
    /// Its address is the thread's identity, as long as anybody asks.
    mark: Arc<u8>,
}

impl Thread {
    /// Starts a thread that runs `body`.
    ///
    /// # Errors
    /// `OutOfMemory` if the system refuses it.
    pub fn spawn(name: &str, stack_bytes: usize, body: impl FnOnce() + Send + 'static) -> Result<Self> {
        let refused = |e| Error::new(ErrorKind::OutOfMemory, format!("cannot start thread {name}: {e}"));
        let _signals = SignalsBlocked::new();
        let mark = Arc::new(0);
        let own_mark = mark.clone();
        let run = move || {
            MARK.set(Arc::as_ptr(&own_mark));
            // A new thread inherits the registers of the host's thread that started it.
            let _environment = FpEnv::set_default();
            body();
        };
        let handle = Builder::new().name(name.into()).stack_size(stack_bytes).spawn(run).map_err(refused)?;
        Ok(Self { handle, mark })
    }

    /// True on the thread itself.
    pub fn is_current(&self) -> bool {
        MARK.get() == Arc::as_ptr(&self.mark)
    }

    /// Waits for its end. Must not be called on the thread itself.
    pub fn join(self) {
        // It only fails if the host's hook panicked: there is nobody to tell but the host.
        let _ = self.handle.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn only_the_thread_itself_is_current() {
        let ((send, receive), (answer, answered)) = (channel::<Arc<Thread>>(), channel());
        let thread = Arc::new(Thread::spawn("test", 1 << 16, move || answer.send(receive.recv().unwrap().is_current()).unwrap()).unwrap());
        let other = Thread::spawn("other", 1 << 16, || {}).unwrap();
        assert!(!thread.is_current() && !other.is_current());
        send.send(thread).unwrap();
        assert!(answered.recv().unwrap());
        other.join();
    }
}
