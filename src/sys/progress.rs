//! How far a long reading job is, and whether it is still wanted. Shared by the thread that reads and those that watch.
//!
//! The job opens its sources through [`Watched`]; readers above it need not know.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::file::{ReadAt, read_pieces};
use crate::sys::job;
use crate::sys::mapping::MappedBytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Most bytes that are read between two looks at the cancel flag: 10 ms of a slow network share, and long enough that the calls cost nothing.
const PIECE_BYTES: usize = 1 << 20;

/// The largest fraction below 1, which a job shows only when it is done.
pub const ALMOST: f32 = 1.0 - f32::EPSILON / 2.0;

/// Bytes done of bytes planned, and a flag that asks the job to end.
#[derive(Debug, Default)]
pub struct Progress {
    planned: AtomicU64,
    done: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    /// From now on the job has `bytes` to read; what it read to find that out is not counted.
    pub fn plan(&self, bytes: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.planned.store(bytes, Ordering::Relaxed);
    }

    /// How much of the plan is done: from 0, never falling, below 1 as long as the job runs. 0 before there is a plan.
    pub fn fraction(&self) -> f32 {
        let (done, planned) = (self.done.load(Ordering::Relaxed), self.planned.load(Ordering::Relaxed));
        if planned == 0 { 0.0 } else { ((done as f64 / planned as f64) as f32).min(ALMOST) }
    }

    /// Asks the job to end. Any thread; does not wait.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// True once the job was asked to end.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Ends a job that was asked to.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "the load was cancelled"));
        }
        Ok(())
    }

    /// Ends a slice of the job at every item whose number is a multiple of `every`; to be asked at each one of a long loop.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn pause(&self, item: usize, every: usize) -> Result<()> {
        if !item.is_multiple_of(every) {
            return Ok(());
        }
        job::pause().await;
        self.check()
    }

    fn advance(&self, bytes: usize) {
        // Before there is a plan nothing is counted: the fraction must not begin above 0.
        if self.planned.load(Ordering::Relaxed) > 0 {
            self.done.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// A source that counts what is read from it and stops reading when the job is cancelled.
pub struct Watched {
    source: Arc<dyn ReadAt>,
    progress: Arc<Progress>,
}

impl Watched {
    /// `source`, counted in `progress`.
    pub fn new(source: Arc<dyn ReadAt>, progress: Arc<Progress>) -> Self {
        Self { source, progress }
    }
}

impl ReadAt for Watched {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn name(&self) -> Option<&str> {
        self.source.name()
    }

    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<()> {
        read_pieces(self, offset, dst)
    }

    fn read_some_at(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        self.progress.check()?;
        let piece = dst.len().min(PIECE_BYTES);
        let n = self.source.read_some_at(offset, &mut dst[..piece])?;
        self.progress.advance(n);
        Ok(n)
    }

    fn mapped_at(&self, offset: u64, len: usize) -> Result<Option<MappedBytes>> {
        self.progress.check()?;
        let mapped = self.source.mapped_at(offset, len)?;
        self.progress.advance(mapped.as_ref().map_or(0, |_| len));
        Ok(mapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::MemorySource;

    fn watched(n_bytes: usize) -> (Watched, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        (Watched::new(Arc::new(MemorySource::new(vec![7; n_bytes])), progress.clone()), progress)
    }

    #[test]
    fn only_planned_bytes_count_and_one_is_not_reached() {
        let (source, progress) = watched(4000);
        source.read_exact_at(0, &mut [0; 1000]).unwrap();
        assert_eq!(progress.fraction(), 0.0);
        progress.plan(3000);
        assert_eq!(progress.fraction(), 0.0);
        source.read_exact_at(1000, &mut [0; 1500]).unwrap();
        assert_eq!(progress.fraction(), 0.5);
        source.read_exact_at(2500, &mut [0; 1500]).unwrap();
        assert!(progress.fraction() > 0.999 && progress.fraction() < 1.0);
        source.read_exact_at(0, &mut [0; 4000]).unwrap();
        assert!(progress.fraction() < 1.0, "more than planned");
    }

    #[test]
    fn a_cancelled_job_reads_no_further_byte() {
        let (source, progress) = watched(3 * PIECE_BYTES);
        progress.plan(source.len());
        let mut dst = vec![0; 3 * PIECE_BYTES];
        assert_eq!(source.read_some_at(0, &mut dst).unwrap(), PIECE_BYTES, "cancel is looked at between pieces");
        progress.cancel();
        assert_eq!(source.read_exact_at(0, &mut dst).unwrap_err().kind(), ErrorKind::Cancelled);
        assert!((progress.fraction() - 1.0 / 3.0).abs() < 1e-6);
    }
}
