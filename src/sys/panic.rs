//! Panics become errors: at the C boundary, and on threads that must answer for their work.
//!
//! The panic hook is the host's and is never replaced.

use crate::error::{Error, ErrorKind, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body`; a panic in it, which is a bug of ours, is an error.
///
/// The caller answers for what `body` shares with others: nothing half-done may be seen through it after an unwind.
///
/// # Errors
/// Those of `body`; `Internal` with the panic's message.
pub fn catch<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(internal(payload)))
}

/// The error for a caught panic; also survives a payload whose drop panics again.
fn internal(payload: Box<dyn Any + Send>) -> Error {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| payload.downcast_ref::<String>().cloned());
    let error = Error::new(ErrorKind::Internal, format!("a bug in libinference: {}", text.as_deref().unwrap_or("unknown panic")));
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Whoever panics in a drop twice would do it again: leak it.
        std::mem::forget(second);
    }
    error
}
