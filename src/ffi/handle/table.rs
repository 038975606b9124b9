//! All slots: segments that are allocated on demand and never freed, and a list of vacant slots.
//!
//! Nothing here locks, so a host thread that is stopped or forked in the middle blocks nobody; and because a slot's memory is never
//! given back, a stale handle is compared with live atomics and never with freed memory.

use super::slot::Slot;
use crate::error::Result;
use crate::fail;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Slots of the first segment; each further one is twice the size of the one before.
const FIRST_SEGMENT: u32 = 64;

/// Enough segments for 2^28 slots, the most that a handle can name: 64 * (2^23 - 1) > 2^28.
const SEGMENTS: usize = 23;

/// A growing array of slots.
pub(super) struct Table {
    segments: [AtomicPtr<Slot>; SEGMENTS],
    /// Slots ever used: indices below it exist.
    used: AtomicU32,
    /// Head of the list of vacant slots: `tag << 32 | index + 1`. The tag changes with every pop, so that a head that was
    /// popped and pushed again meanwhile is not mistaken for the old one.
    vacant: AtomicU64,
}

impl Table {
    /// A table without slots.
    pub(super) const fn new() -> Self {
        Self { segments: [const { AtomicPtr::new(std::ptr::null_mut()) }; SEGMENTS], used: AtomicU32::new(0), vacant: AtomicU64::new(0) }
    }

    /// The slot `index`, if it was ever used.
    pub(super) fn slot(&self, index: u32) -> Option<&Slot> {
        if index >= self.used.load(Ordering::Acquire) {
            return None;
        }
        let (segment, offset) = locate(index);
        let base = self.segments.get(segment)?.load(Ordering::Acquire);
        // SAFETY: `used` covers only indices whose segment was stored before (`grow`), a stored segment has `segment_len` slots and
        // is never freed, and `locate` keeps `offset` below that length.
        (!base.is_null()).then(|| unsafe { &*base.add(offset) })
    }

    /// A vacant slot that only this thread knows, with its index: an old one, or a new one if fewer than `max` are used.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no slot and none can be made.
    pub(super) fn take(&self, max: u32) -> Result<(u32, &Slot)> {
        let index = match self.pop() {
            Some(index) => index,
            None => self.grow(max)?,
        };
        match self.slot(index) {
            Some(slot) => Ok((index, slot)),
            None => fail!(Internal, "handle table: slot {index} vanished"),
        }
    }

    /// Returns a vacant slot.
    pub(super) fn put_back(&self, index: u32) {
        let Some(slot) = self.slot(index) else { return };
        let mut head = self.vacant.load(Ordering::Relaxed);
        loop {
            slot.next_vacant.store(head as u32, Ordering::Relaxed);
            let new = (head & !u64::from(u32::MAX)) | u64::from(index + 1);
            // Release: who pops the slot sees its link.
            match self.vacant.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }

    fn pop(&self) -> Option<u32> {
        let mut head = self.vacant.load(Ordering::Acquire);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let next = self.slot(index)?.next_vacant.load(Ordering::Relaxed);
            let tag = (head >> 32).wrapping_add(1) << 32;
            match self.vacant.compare_exchange_weak(head, tag | u64::from(next), Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(seen) => head = seen,
            }
        }
    }

    /// The index of a slot that was never used.
    fn grow(&self, max: u32) -> Result<u32> {
        let mut index = self.used.load(Ordering::Relaxed);
        loop {
            if index >= max {
                fail!(OutOfMemory, "all {max} handles are in use or spent");
            }
            self.ensure_segment(locate(index).0)?;
            // Release: who sees the index as used sees its segment.
            match self.used.compare_exchange_weak(index, index + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(index),
                Err(seen) => index = seen,
            }
        }
    }

    fn ensure_segment(&self, segment: usize) -> Result<()> {
        let Some(place) = self.segments.get(segment) else { fail!(OutOfMemory, "the handle table is full") };
        if !place.load(Ordering::Acquire).is_null() {
            return Ok(());
        }
        let n = segment_len(segment);
        let mut slots = Vec::new();
        if slots.try_reserve_exact(n).is_err() {
            fail!(OutOfMemory, "cannot allocate {n} more handles");
        }
        slots.resize_with(n, Slot::new);
        let base = Box::into_raw(slots.into_boxed_slice());
        if place.compare_exchange(std::ptr::null_mut(), base.cast(), Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: another thread was first, so nobody has seen this segment, which came from `Box::into_raw` above.
            drop(unsafe { Box::from_raw(base) });
        }
        Ok(())
    }
}

const fn segment_len(segment: usize) -> usize {
    (FIRST_SEGMENT as usize) << segment
}

/// Segment of `index`, and its place there. Segment `s` starts at `FIRST_SEGMENT * (2^s - 1)`.
const fn locate(index: u32) -> (usize, usize) {
    let segment = (index / FIRST_SEGMENT + 1).ilog2() as usize;
    (segment, index as usize - (segment_len(segment) - FIRST_SEGMENT as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::collections::HashSet;

    #[test]
    fn segments_tile_the_indices() {
        let mut expected = (0, 0);
        for index in 0..100_000 {
            assert_eq!(locate(index), expected, "{index}");
            expected.1 += 1;
            if expected.1 == segment_len(expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(locate((1 << 28) - 1).0 < SEGMENTS);
    }

    #[test]
    fn vacant_slots_are_used_again_before_new_ones() {
        let table = Table::new();
        let taken: Vec<u32> = (0..200).map(|_| table.take(1000).unwrap().0).collect();
        assert_eq!(taken, (0..200).collect::<Vec<_>>());
        table.put_back(7);
        table.put_back(150);
        assert_eq!([150, 7, 200].map(|_| table.take(1000).unwrap().0), [150, 7, 200]);
    }

    #[test]
    fn the_limit_is_an_error_and_unused_slots_do_not_exist() {
        let table = Table::new();
        assert!(table.slot(0).is_none());
        assert!((0..70).all(|_| table.take(70).is_ok()));
        assert_eq!(table.take(70).err().map(|e| e.kind()), Some(ErrorKind::OutOfMemory));
        assert!(table.slot(69).is_some() && table.slot(70).is_none() && table.slot(u32::MAX).is_none());
        table.put_back(3);
        assert_eq!(table.take(70).unwrap().0, 3);
    }

    #[test]
    fn threads_never_hold_the_same_slot() {
        let table = Table::new();
        let n_rounds = 20_000;
        let still_held: Vec<u32> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut held = Vec::new();
                        for round in 0..n_rounds {
                            let (index, slot) = table.take(1 << 20).unwrap();
                            // The owner may use the link as it likes: a second owner would overwrite the mark.
                            slot.next_vacant.store(u32::MAX - index, Ordering::Relaxed);
                            std::hint::spin_loop();
                            assert_eq!(slot.next_vacant.load(Ordering::Relaxed), u32::MAX - index);
                            if round % 100 == 0 { held.push(index) } else { table.put_back(index) }
                        }
                        held
                    })
                })
                .collect();
            workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
        });
        let distinct: HashSet<_> = still_held.iter().collect();
        assert_eq!(distinct.len(), 4 * n_rounds / 100);
    }
}
