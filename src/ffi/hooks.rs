//! Functions of the host that the library calls: wrapped as closures for the engine.

use super::runtime::{inf_log_fn, inf_thread_fn, inf_wake_fn};
use crate::engine::{LogLevel, LogSink, WakeHook, in_hook};
use crate::error::Result;
use crate::fail;
use std::ffi::c_void;
use std::sync::Arc;

/// The host's `void *user`: handed back, never followed.
#[derive(Clone, Copy)]
pub(super) struct User(*mut c_void);

// SAFETY: this library only copies the pointer; the header tells the host that hooks are called with it on any thread.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

impl User {
    /// What the host gave.
    pub(super) fn new(pointer: *mut c_void) -> Self {
        Self(pointer)
    }

    /// A method, because a closure that named the field would capture the bare pointer.
    pub(super) fn pointer(self) -> *mut c_void {
        self.0
    }
}

/// The host's log function as a sink.
pub(super) fn log_sink(hook: inf_log_fn, user: *mut c_void) -> Option<LogSink> {
    let (hook, user) = (hook?, User(user));
    Some(Arc::new(move |level: LogLevel, line: &str| {
        // With a NUL behind it, so that a host may print it as a C string.
        let text = [line.as_bytes(), b"\0"].concat();
        // SAFETY: a function of the type that the header asks for; the text lives until it returns.
        unsafe { hook(user.pointer(), level as u32, text.as_ptr().cast(), line.len()) };
    }))
}

/// The host's thread function as a hook.
pub(super) fn thread_hook(hook: inf_thread_fn, user: *mut c_void) -> Option<Arc<dyn Fn(bool) + Send + Sync>> {
    let (hook, user) = (hook?, User(user));
    // SAFETY: a function of the type that the header asks for.
    Some(Arc::new(move |starting| unsafe { hook(user.pointer(), u32::from(starting)) }))
}

/// The host's wake function as a hook.
pub(super) fn wake_hook(hook: inf_wake_fn, user: *mut c_void, tag: u64) -> Option<WakeHook> {
    let (hook, user) = (hook?, User(user));
    // SAFETY: a function of the type that the header asks for.
    Some(Arc::new(move || unsafe { hook(user.pointer(), tag) }))
}

/// Refuses a call that computes or waits on a thread that is inside a hook: it could wait for the very thread it runs on.
///
/// # Errors
/// `Busy`.
pub(super) fn refuse_inside() -> Result<()> {
    if in_hook() {
        fail!(Busy, "a hook must not call a function that blocks; let it signal another thread");
    }
    Ok(())
}
