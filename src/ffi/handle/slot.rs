//! The atomic core of the handle table: one slot, whose whole state is one 64-bit word.
//!
//! ```text
//! | generation: 32 | kind: 4 | references: 16 | pins: 12 |
//! ```
//!
//! An object is reachable while `references > 0`; a lookup pins the slot, so that the object stays until the lookup holds an `Arc`
//! of its own. Whoever brings a slot to "no references, no pins" takes the object out, and nobody else can: no reference means no new pin.

use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

const PIN: u64 = 1;
const PINS: u64 = (1 << 12) - 1;
const REFERENCE: u64 = 1 << 12;
const REFERENCES: u64 = ((1 << 16) - 1) << 12;
const KIND_SHIFT: u32 = 28;
const GENERATION_SHIFT: u32 = 32;

/// What a handle says about its slot; anything else in the slot's word means that the handle is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// How often the slot was used before; at least 1, so that no handle is NULL.
    pub generation: u32,
    /// Which type the object has, `1..16`.
    pub kind: u8,
}

impl Stamp {
    const fn bits(self) -> u64 {
        (self.generation as u64) << GENERATION_SHIFT | (self.kind as u64) << KIND_SHIFT
    }

    /// True if `state` is of this generation and kind and its object is reachable.
    const fn is_live_in(self, state: u64) -> bool {
        state & !(PINS | REFERENCES) == self.bits() && state & REFERENCES != 0
    }
}

/// A place for one object of any kind.
pub(super) struct Slot {
    state: AtomicU64,
    object: AtomicPtr<()>,
    /// The process that made the object: a forked child must not touch it.
    process: AtomicU32,
    /// Link of the table's list of vacant slots: index + 1, 0 = none.
    pub next_vacant: AtomicU32,
}

/// An object that left its slot, and whether the slot has generations left.
#[derive(Debug)]
pub(super) struct Evicted {
    pub object: *mut (),
    pub reusable: bool,
}

impl Slot {
    /// A vacant slot in its first generation.
    pub(super) const fn new() -> Self {
        Self {
            state: AtomicU64::new(1 << GENERATION_SHIFT),
            object: AtomicPtr::new(std::ptr::null_mut()),
            process: AtomicU32::new(0),
            next_vacant: AtomicU32::new(0),
        }
    }

    /// Fills a vacant slot that this thread alone holds, with one reference; says its generation.
    pub(super) fn publish(&self, kind: u8, object: *mut (), process: u32) -> u32 {
        let generation = (self.state.load(Ordering::Relaxed) >> GENERATION_SHIFT) as u32;
        self.object.store(object, Ordering::Relaxed);
        self.process.store(process, Ordering::Relaxed);
        // Release: who sees the reference also sees the object and the process.
        self.state.store(Stamp { generation, kind }.bits() | REFERENCE, Ordering::Release);
        generation
    }

    /// Keeps the object of `stamp` from leaving until [`Pin::unpin`]; `None` if it is not here any more.
    pub(super) fn pin(&self, stamp: Stamp) -> Option<Pin<'_>> {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            if !stamp.is_live_in(state) {
                return None;
            }
            if state & PINS == PINS {
                // 4095 threads are inside the few instructions of a lookup of this one handle: wait for one to leave.
                std::hint::spin_loop();
                state = self.state.load(Ordering::Acquire);
                continue;
            }
            match self.state.compare_exchange_weak(state, state + PIN, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(Pin { slot: self }),
                Err(seen) => state = seen,
            }
        }
    }

    /// Takes the object out of a slot without references and pins; `last` is its last generation that a handle can express.
    fn evict(&self, state: u64, last: u32) -> Evicted {
        let generation = (state >> GENERATION_SHIFT) as u32;
        let object = self.object.swap(std::ptr::null_mut(), Ordering::Relaxed);
        let reusable = generation < last;
        // A spent slot keeps generation 0, which no handle has.
        let next = if reusable { u64::from(generation + 1) << GENERATION_SHIFT } else { 0 };
        self.state.store(next, Ordering::Release);
        Evicted { object, reusable }
    }
}

/// A slot whose object cannot leave. To be ended with [`Self::unpin`].
#[must_use = "a pin that is not ended keeps its object for ever"]
pub(super) struct Pin<'a> {
    slot: &'a Slot,
}

impl Pin<'_> {
    /// The object.
    pub(super) fn object(&self) -> *mut () {
        self.slot.object.load(Ordering::Relaxed)
    }

    /// The process that made it.
    pub(super) fn process(&self) -> u32 {
        self.slot.process.load(Ordering::Relaxed)
    }

    /// One reference more; false if there are too many, or the last one was given back since this pin began.
    pub(super) fn retain(&self) -> bool {
        self.update_references(|state| (state & REFERENCES != REFERENCES).then_some(state + REFERENCE))
    }

    /// One reference less, unless there is none.
    pub(super) fn release(&self) {
        self.update_references(|state| Some(state - REFERENCE));
    }

    fn update_references(&self, update: impl Fn(u64) -> Option<u64>) -> bool {
        let checked = |state| if state & REFERENCES == 0 { None } else { update(state) };
        self.slot.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, checked).is_ok()
    }

    /// Ends the pin. If nothing holds the object any more, the caller owns it now and returns the slot to the table.
    pub(super) fn unpin(self, last_generation: u32) -> Option<Evicted> {
        // Release: our use of the object happens before its removal. Acquire: so did everybody else's.
        let state = self.slot.state.fetch_sub(PIN, Ordering::AcqRel) - PIN;
        (state & (PINS | REFERENCES) == 0).then(|| self.slot.evict(state, last_generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u32 = 3;

    fn stamp(generation: u32) -> Stamp {
        Stamp { generation, kind: 5 }
    }

    /// A pointer to compare; the slot never follows it.
    fn object() -> *mut () {
        std::ptr::without_provenance_mut(64)
    }

    /// Gives one reference back through a pin of its own.
    fn release(slot: &Slot, stamp: Stamp) -> Option<Evicted> {
        let pin = slot.pin(stamp)?;
        pin.release();
        pin.unpin(LAST)
    }

    #[test]
    fn only_the_exact_stamp_reaches_the_object() {
        let slot = Slot::new();
        assert!(slot.pin(stamp(1)).is_none(), "vacant");
        assert_eq!(slot.publish(5, object(), 7), 1);
        for wrong in [stamp(0), stamp(2), Stamp { generation: 1, kind: 4 }] {
            assert!(slot.pin(wrong).is_none());
        }
        let pin = slot.pin(stamp(1)).unwrap();
        assert_eq!((pin.object(), pin.process()), (object(), 7));
        assert!(pin.unpin(LAST).is_none());
    }

    #[test]
    fn a_pin_outlives_the_last_reference() {
        let slot = Slot::new();
        slot.publish(5, object(), 7);
        let pin = slot.pin(stamp(1)).unwrap();
        assert!(release(&slot, stamp(1)).is_none(), "pinned");
        assert!(slot.pin(stamp(1)).is_none(), "no new pins");
        assert!(!pin.retain(), "no way back");
        pin.release();
        let evicted = pin.unpin(LAST).unwrap();
        assert_eq!((evicted.object, evicted.reusable), (object(), true));
    }

    #[test]
    fn references_count() {
        let slot = Slot::new();
        slot.publish(5, object(), 7);
        let pin = slot.pin(stamp(1)).unwrap();
        assert!(pin.retain());
        assert!(pin.unpin(LAST).is_none());
        assert!(release(&slot, stamp(1)).is_none());
        assert!(release(&slot, stamp(1)).is_some());
        assert!(release(&slot, stamp(1)).is_none(), "freed twice");
    }

    #[test]
    fn references_never_wrap() {
        let slot = Slot::new();
        slot.publish(5, object(), 7);
        let pin = slot.pin(stamp(1)).unwrap();
        let granted = (0..1 << 17).filter(|_| pin.retain()).count();
        assert_eq!(granted, (1 << 16) - 2, "one was there from the start");
        assert!(pin.unpin(LAST).is_none());
    }

    #[test]
    fn a_slot_is_spent_after_its_last_generation() {
        let slot = Slot::new();
        for generation in 1..=LAST {
            assert_eq!(slot.publish(5, object(), 7), generation);
            let evicted = release(&slot, stamp(generation)).unwrap();
            assert_eq!(evicted.reusable, generation < LAST);
        }
        assert!((0..=LAST + 1).all(|generation| slot.pin(stamp(generation)).is_none()));
    }
}
