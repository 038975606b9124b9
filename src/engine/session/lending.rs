//! Who holds a session's state: the session, a call of the host, or a generation; and who gets it next.

use super::{Session, State};
use crate::engine::Wait;
use crate::engine::events::EventQueue;
use crate::engine::hooks::in_hook;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A generation, as the session that it borrows sees it.
pub(in crate::engine) struct Borrower {
    pub(in crate::engine) cancelled: AtomicBool,
    pub(in crate::engine) events: EventQueue,
}

impl Borrower {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

pub(super) enum Slot {
    Here(Box<State>),
    /// A call of the host works with it.
    InUse,
    /// It is promised to a generation, which has it, or gets it when a cancelled one before it has ended; and which brings it back before it tells its end.
    Lent(Arc<Borrower>),
    /// The cancelled one has ended, and the next one has not looked yet.
    Kept(Box<State>, Arc<Borrower>),
}

impl Session {
    /// Moves the state into a generation. `None` if a cancelled one still has it: it is for [`Self::collect`] when that has ended. Never waits.
    pub(in crate::engine) fn lend(&self, borrower: Arc<Borrower>) -> Result<Option<Box<State>>> {
        self.model.runtime().check_alive()?;
        let mut slot = self.slot.lock();
        self.check_unused(&slot)?;
        let before = std::mem::replace(&mut *slot, Slot::Lent(borrower));
        drop(slot);
        match before {
            Slot::Here(mut state) | Slot::Kept(mut state, _) => {
                self.give_up_pass(&mut state);
                Ok(Some(state))
            }
            Slot::Lent(_) | Slot::InUse => Ok(None),
        }
    }

    /// The state for a generation that was promised it, once the one before has brought it back.
    pub(in crate::engine) fn collect(&self, borrower: &Arc<Borrower>) -> Option<Box<State>> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut *slot, Slot::Lent(borrower.clone())) {
            Slot::Kept(state, next) if Arc::ptr_eq(&next, borrower) => Some(state),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// A generation ends that was promised the state, and never got it.
    pub(in crate::engine) fn renounce(&self, borrower: &Arc<Borrower>) {
        borrower.cancelled.store(true, Ordering::Release);
        let mut slot = self.slot.lock();
        *slot = match std::mem::replace(&mut *slot, Slot::InUse) {
            Slot::Kept(state, next) if Arc::ptr_eq(&next, borrower) => Slot::Here(state),
            other => other,
        };
        self.returned.notify_all();
    }

    /// Takes the state back from a call.
    pub(super) fn take_back(&self, state: Box<State>) {
        self.put_back(state, None);
    }

    /// Takes the state back from the generation `by`, in which way ever that ended; the next one, if there is one already, finds it here.
    pub(in crate::engine) fn take_back_from(&self, by: &Arc<Borrower>, state: Box<State>) {
        self.put_back(state, Some(by));
    }

    fn put_back(&self, mut state: Box<State>, by: Option<&Arc<Borrower>>) {
        state.sequence.set_at_work(false);
        self.publish(&state);
        let mut slot = self.slot.lock();
        *slot = match std::mem::replace(&mut *slot, Slot::InUse) {
            Slot::Lent(next) if by.is_some_and(|by| !Arc::ptr_eq(by, &next)) && !next.is_cancelled() => Slot::Kept(state, next),
            _ => Slot::Here(state),
        };
        drop(slot);
        self.returned.notify_all();
    }

    /// The host let go of it: cancels the generation that holds it, if any, and lets no other begin.
    pub fn release(&self) {
        self.released.store(true, Ordering::Release);
        let borrower = match &*self.slot.lock() {
            Slot::Lent(borrower) | Slot::Kept(_, borrower) => borrower.clone(),
            Slot::Here(_) | Slot::InUse => return,
        };
        // Not under the lock: where the host drives, the generation ends here and brings the state back.
        borrower.cancelled.store(true, Ordering::Release);
        self.model.runtime().wake_driver();
    }

    /// The state for a call. Waits only for a cancelled generation, which brings it back within a pass.
    pub(super) fn take(&self) -> Result<Box<State>> {
        let mut slot = self.slot.lock();
        loop {
            self.check_unused(&slot)?;
            match std::mem::replace(&mut *slot, Slot::InUse) {
                Slot::Here(state) | Slot::Kept(state, _) => return Ok(state),
                Slot::InUse => fail!(Internal, "the session's state is missing"),
                lent @ Slot::Lent(_) => *slot = lent,
            }
            if in_hook() {
                fail!(Busy, "a cancelled generation still holds the session, and a hook must not wait for it");
            }
            self.wait_for_return(&mut slot);
        }
    }

    /// That no call and no generation that goes on has the state.
    fn check_unused(&self, slot: &Slot) -> Result<()> {
        let busy = |why| Err(Error::new(ErrorKind::Busy, why));
        match slot {
            _ if self.released.load(Ordering::Acquire) => fail!(InvalidHandle, "the session was freed meanwhile"),
            Slot::InUse => busy("the session is in use by another thread"),
            Slot::Lent(borrower) | Slot::Kept(_, borrower) if !borrower.is_cancelled() => {
                busy("the session belongs to a running generation")
            }
            Slot::Here(_) | Slot::Lent(_) | Slot::Kept(..) => Ok(()),
        }
    }

    /// Waits until a cancelled generation may have brought the state back; where the host drives, by ending it here.
    fn wait_for_return(&self, slot: &mut MutexGuard<'_, Slot>) {
        let runtime = self.model.runtime();
        if runtime.is_host_driven() {
            MutexGuard::unlocked(slot, || runtime.drive(Wait::Forever));
        } else {
            self.returned.wait(slot);
        }
    }
}
