//! Long work as a value that is advanced slice by slice, on whatever thread has time for it: how a model loads without a thread of its own.
//!
//! The work is written as an `async` function that calls [`pause`] where it can be interrupted; there is no executor and no reactor.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// Work in progress.
pub type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Ends a slice here; the next one goes on behind it.
pub async fn pause() {
    let mut paused = false;
    poll_fn(|_| if std::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// A part of a job in a box, made in a frame of its own: its state and its slices take many kilobytes only while it runs, and a host's thread may
/// have 64 in all.
#[inline(never)]
pub fn boxed<'a, F: Future + Send + 'a>(part: impl FnOnce() -> F) -> Pin<Box<dyn Future<Output = F::Output> + Send + 'a>> {
    Box::pin(part())
}

/// Runs one slice of `job`, and returns its result if it was the last one. Not to be called again then.
pub fn advance<T>(job: &mut Job<T>) -> Option<T> {
    match job.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// Runs all slices of `work`.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(result) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn three_slices() -> u32 {
        pause().await;
        pause().await;
        7
    }

    #[test]
    fn a_job_ends_after_its_pauses() {
        let mut job: Job<u32> = Box::pin(three_slices());
        assert_eq!([advance(&mut job), advance(&mut job), advance(&mut job)], [None, None, Some(7)]);
        assert_eq!(run(three_slices()), 7);
    }
}
