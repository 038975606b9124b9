//! Which blocks are being computed, and by whom: a session that is stepped waits for one that another computes, instead of computing the same.
//!
//! A claim promises nothing: its owner may never be stepped again. Who waits looks at how far the owner has come since it looked last.

use super::index::{BlockTokens, Prefix};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Instant;

/// What a block will hold: the prefix before it, and its tokens.
type Name = (Prefix, BlockTokens);

/// The claims on the blocks of one pool.
#[derive(Default)]
pub(in crate::engine) struct Claims {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ahead: HashMap<Name, Ahead>,
    last_owner: u64,
}

/// Who computes a block, as seen by who needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Ahead {
    owner: u64,
    /// Grows whenever the owner has done something.
    pub(in crate::engine) progress: u64,
    /// A thread computes for the owner right now.
    pub(in crate::engine) at_work: bool,
}

/// The block that one sequence computes next. Given up when dropped.
pub(in crate::engine) struct Claim {
    claims: Arc<Claims>,
    owner: u64,
    name: Option<Name>,
    /// It follows the sequence from block to block.
    active: bool,
}

impl Claims {
    /// For a new sequence: claims nothing yet.
    pub(super) fn claim(self: &Arc<Self>) -> Claim {
        let mut state = self.state.lock();
        state.last_owner += 1;
        Claim { claims: self.clone(), owner: state.last_owner, name: None, active: false }
    }
}

impl Claim {
    /// Claims `name`, which the sequence begins to compute, unless another one has; gives up what was claimed before.
    pub(in crate::engine) fn begin(&mut self, name: Option<(Prefix, &BlockTokens)>) {
        self.active = true;
        self.move_to(name);
    }

    /// The sequence has computed what it claimed: if it is still at it, it claims `name`, which comes next.
    pub(in crate::engine) fn go_on(&mut self, name: Option<(Prefix, &BlockTokens)>) {
        let name = name.filter(|_| self.active);
        self.active = name.is_some();
        self.move_to(name);
    }

    /// The sequence does not compute any more.
    pub(in crate::engine) fn give_up(&mut self) {
        self.go_on(None);
    }

    fn move_to(&mut self, name: Option<(Prefix, &BlockTokens)>) {
        let name = name.map(|(before, tokens)| (before, *tokens));
        if self.name == name {
            return;
        }
        let mut state = self.claims.state.lock();
        let before = self.name.take().and_then(|name| state.ahead.remove(&name));
        if let Some(name) = name
            && let Entry::Vacant(entry) = state.ahead.entry(name)
        {
            let progress = before.map_or(0, |ahead| ahead.progress + 1);
            entry.insert(Ahead { owner: self.owner, progress, at_work: before.is_some_and(|ahead| ahead.at_work) });
            self.name = Some(name);
        }
        drop(state);
        self.claims.changed.notify_all();
    }

    /// A thread begins to compute for the sequence, or ends: then it has done something.
    pub(in crate::engine) fn set_at_work(&mut self, at_work: bool) {
        let Some(name) = &self.name else { return };
        if let Some(own) = self.claims.state.lock().ahead.get_mut(name) {
            own.progress += u64::from(own.at_work && !at_work);
            own.at_work = at_work;
        }
        self.claims.changed.notify_all();
    }

    /// Who else computes `name`.
    pub(in crate::engine) fn ahead(&self, (before, tokens): (Prefix, &BlockTokens)) -> Option<Ahead> {
        let state = self.claims.state.lock();
        state.ahead.get(&(before, *tokens)).copied().filter(|ahead| ahead.owner != self.owner)
    }

    /// Sleeps while `ahead` is at work at `name`, until `at`. False if it still is.
    pub(in crate::engine) fn wait(&self, (before, tokens): (Prefix, &BlockTokens), at: Instant) -> bool {
        let name = (before, *tokens);
        let mut state = self.claims.state.lock();
        while state.ahead.get(&name).is_some_and(|ahead| ahead.at_work) {
            if self.claims.changed.wait_until(&mut state, at).timed_out() {
                return false;
            }
        }
        true
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BLOCK_TOKENS;

    const A: BlockTokens = [1; BLOCK_TOKENS];
    const B: BlockTokens = [2; BLOCK_TOKENS];

    #[test]
    fn the_first_to_claim_is_ahead_of_the_others_until_it_gives_up() {
        let claims = Arc::new(Claims::default());
        let (mut first, mut second) = (claims.claim(), claims.claim());
        let name = (Prefix::EMPTY, &A);
        first.begin(Some(name));
        second.begin(Some(name));
        let seen = second.ahead(name).unwrap();
        assert!(!seen.at_work && first.ahead(name).is_none());
        first.set_at_work(true);
        assert!(second.ahead(name).unwrap().at_work && !second.wait(name, Instant::now()));
        first.set_at_work(false);
        assert_eq!(second.ahead(name).unwrap().progress, seen.progress + 1);
        first.go_on(Some((Prefix::EMPTY, &B)));
        assert!(second.ahead(name).is_none() && second.ahead((Prefix::EMPTY, &B)).unwrap().progress > seen.progress);
        second.begin(Some(name));
        drop(first);
        assert!(second.ahead((Prefix::EMPTY, &B)).is_none() && second.wait(name, Instant::now()));
        let third = claims.claim();
        second.give_up();
        assert!(third.ahead(name).is_none());
    }

    #[test]
    fn who_waits_is_woken_by_the_end_of_the_work() {
        let claims = Arc::new(Claims::default());
        let (mut first, second) = (claims.claim(), claims.claim());
        let name = (Prefix::EMPTY, &A);
        first.begin(Some(name));
        first.set_at_work(true);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| second.wait(name, Instant::now() + std::time::Duration::from_secs(60)));
            first.go_on(None);
            assert!(waiter.join().unwrap());
        });
    }
}
