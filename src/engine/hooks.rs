//! Calls into the host: wrapped so that the library knows when it is inside one.

use parking_lot::Mutex;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// "Something is ready": carries no data, is called on a thread of the library.
pub type WakeHook = Arc<dyn Fn() + Send + Sync>;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// True on a thread that is inside a hook of the host; blocking calls refuse to run there.
pub fn in_hook() -> bool {
    DEPTH.get() > 0
}

/// Calls `hook` with [`in_hook`] true.
pub fn call(hook: &dyn Fn()) {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _leave = Leave;
    hook();
}

/// A wake hook that its owner can silence, so that the host may free what the hook uses.
pub(super) struct Wake {
    /// Held during a call, so that [`Self::silence`] can wait for it.
    hook: Mutex<Option<WakeHook>>,
    silenced: AtomicBool,
}

impl Wake {
    pub(super) fn new(hook: Option<WakeHook>) -> Self {
        Self { hook: Mutex::new(hook), silenced: AtomicBool::new(false) }
    }

    /// Calls the hook, if there is one and it was not silenced.
    pub(super) fn call(&self) {
        let hook = self.hook.lock();
        if let Some(hook) = &*hook
            && !self.silenced.load(Ordering::Acquire)
        {
            call(&**hook);
        }
    }

    /// No call begins afterwards. Waits for one in progress, except inside a hook, which may be that very call.
    pub(super) fn silence(&self) {
        self.silenced.store(true, Ordering::Release);
        if !in_hook() {
            self.hook.lock().take();
        }
    }
}
