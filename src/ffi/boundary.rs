//! The one boundary between C and Rust: every export runs its body in here.
//!
//! It keeps panics inside (a panic is a bug of ours and becomes `INF_ERR_INTERNAL`), computes in the default floating-point
//! environment and gives the host its own back, and turns results into statuses. `tests/layers.rs` fails on an export without it.
//!
//! The panic hook is the host's and is never replaced: where the library itself raises, it uses `resume_unwind`, which calls no hook,
//! so that nothing is printed. Only a real bug reaches the hook.

use super::status::{self, inf_error, inf_status};
use crate::error::Result;
use crate::sys::fpenv::FpEnv;
use crate::sys::panic;

// With `panic = "abort"` a bug of ours would end the host's process.
const _: () = assert!(cfg!(panic = "unwind"), "libinference must be built with panic = \"unwind\"");

/// Runs the body of an export that returns a status.
///
/// # Safety
/// `err` is NULL or points to memory of the host that is large enough for an `inf_error`.
pub(super) unsafe fn status(err: *mut inf_error, body: impl FnOnce() -> Result<()>) -> inf_status {
    let outcome = guarded(body);
    // SAFETY: passed on from the caller.
    unsafe { status::report(outcome.as_ref().copied(), err) }
}

/// Runs the body of an export that returns a plain value: `fallback` if it fails.
pub(super) fn value<T>(fallback: T, body: impl FnOnce() -> Result<T>) -> T {
    guarded(body).unwrap_or(fallback)
}

/// Runs the body of an export that returns nothing and cannot fail: the `free` and `cancel` functions.
pub(super) fn quiet(body: impl FnOnce()) {
    value((), || {
        body();
        Ok(())
    });
}

/// Runs `body` with our floating-point modes, and turns a panic into `Internal`.
fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let _env = FpEnv::set_default();
    // A body reaches shared state only through handles, whose objects sit behind locks that do not poison and mark themselves
    // unusable where a half-done change would matter: nothing broken can be observed after the unwind.
    panic::catch(body)
}

#[cfg(test)]
mod tests {
    use super::super::status::{INF_ERR_BUSY, INF_ERR_INTERNAL, INF_OK};
    use super::*;
    use crate::error::{Error, ErrorKind};
    use std::panic::resume_unwind;

    /// A payload that panics when it is dropped, with a payload that does so too.
    struct Nested(u32);

    impl Drop for Nested {
        fn drop(&mut self) {
            if self.0 > 0 {
                resume_unwind(Box::new(Nested(self.0 - 1)));
            }
        }
    }

    fn run(body: impl FnOnce() -> Result<()>) -> inf_status {
        // SAFETY: NULL is allowed.
        unsafe { status(std::ptr::null_mut(), body) }
    }

    #[test]
    fn panics_become_internal_and_the_next_call_works() {
        assert_eq!(run(|| resume_unwind(Box::new("text"))), INF_ERR_INTERNAL);
        assert_eq!(run(|| resume_unwind(Box::new(7u8))), INF_ERR_INTERNAL);
        assert_eq!(run(|| resume_unwind(Box::new(Nested(2)))), INF_ERR_INTERNAL);
        assert_eq!(run(|| Ok(())), INF_OK);
        assert_eq!(run(|| Err(Error::new(ErrorKind::Busy, "b"))), INF_ERR_BUSY);
        assert_eq!(value(3, || resume_unwind(Box::new(()))), 3);
        quiet(|| resume_unwind(Box::new(Nested(1))));
    }

    #[test]
    fn the_panic_message_reaches_the_host() {
        let error = guarded(|| -> Result<()> { resume_unwind(Box::new(String::from("index 9 of 3"))) }).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, "a bug in libinference: index 9 of 3"));
    }
}
