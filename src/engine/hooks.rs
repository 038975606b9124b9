//! Calls into the host: wrapped so that the library knows when it is inside one.

use std::cell::Cell;
use std::sync::Arc;

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
