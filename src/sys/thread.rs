//! Named threads with an explicit stack, started fallibly.

use crate::error::{Error, ErrorKind, Result};
use std::thread::{Builder, JoinHandle};

/// Starts a thread.
///
/// # Errors
/// `OutOfMemory` if the system refuses it.
pub fn spawn(name: &str, stack_bytes: usize, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let refused = |e| Error::new(ErrorKind::OutOfMemory, format!("cannot start thread {name}: {e}"));
    Builder::new().name(name.into()).stack_size(stack_bytes).spawn(body).map_err(refused)
}
