//! A stack of our own, for work whose depth follows what a file or a host says: theirs may be a game's fibre with 64 KiB.

use super::panic;
use crate::error::Result;

/// Parsers stop at a depth of their own, for which 1 MiB is plenty. A template of the largest size we take is compiled in 65,000 levels, each with a few
/// hundred bytes. Only what is used takes memory.
const STACK_BYTES: usize = 64 << 20;

/// Runs `body` on this thread and on a fresh stack, with a guard page behind it. A panic in it is an error.
///
/// # Errors
/// Those of `body`; `Internal` if it panics, or the system has no memory for the stack.
pub fn on_own_stack<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    on_stack_of(STACK_BYTES, body)
}

/// As [`on_own_stack`], with as much stack as the work is known to need at most: a smaller one is made faster.
///
/// # Errors
/// As there.
pub fn on_stack_of<T>(n_bytes: usize, body: impl FnOnce() -> Result<T>) -> Result<T> {
    panic::catch(|| stacker::grow(n_bytes, || panic::catch(body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    fn deep(n: usize) -> usize {
        let frame = black_box([n; 64]);
        if n == 0 { frame[0] } else { deep(n - 1) + black_box(frame[63]) - n + 1 }
    }

    #[test]
    fn a_small_stack_is_no_bound() {
        let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(|| on_own_stack(|| Ok(deep(10_000)))).unwrap();
        assert_eq!(thread.join().unwrap().unwrap(), 10_000);
    }

    #[test]
    fn panics_come_back_as_errors() {
        let result: Result<()> = on_own_stack(|| std::panic::resume_unwind(Box::new("deep")));
        assert!(result.unwrap_err().message().contains("deep"));
    }
}
