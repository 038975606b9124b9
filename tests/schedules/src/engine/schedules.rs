//! Blocks, claims on them, and events.

use super::Wait;
use super::blocks::pool::BlockPool;
use super::blocks::table::BlockTable;
use super::events::{Event, EventKind, EventQueue};
use crate::backend::BlockId;
use crate::check;
use crate::error::{ErrorKind, Result};
use crate::model::Forward;
use crate::sys::budget::Budget;
use shuttle::sync::Arc as SharedArc;
use shuttle::thread;
use std::sync::Arc;

/// Computes nothing.
struct Fake;

impl Forward for Fake {
    fn grow_kv(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn kv_block_bytes(&self) -> u64 {
        1
    }

    fn copy_kv(&self, _: BlockId, _: BlockId) -> Result<()> {
        Ok(())
    }

    fn turn_back(&self, _: &[BlockId], _: usize) -> Result<()> {
        Ok(())
    }

    fn read_block(&self, _: BlockId, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn write_block(&self, _: BlockId, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn is_bit_stable(&self) -> bool {
        true
    }
}

/// Three sequences that begin alike and share, fork, shift and let go, with memory for some of it: no block has two writers, and in the end nothing is held.
#[test]
fn blocks_are_counted_right() {
    check(|| {
        let pool = BlockPool::new(Arc::new(Fake), vec![(Budget::new("blocks", 9), Fake.kv_block_bytes())], 0, 3).unwrap();
        let threads: Vec<_> = (0..3)
            .map(|i| {
                let pool = pool.clone();
                thread::spawn(move || {
                    let tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, i];
                    let mut table = BlockTable::new(pool, true);
                    let n = table.adopt(&tokens, 0);
                    match table.reserve(&(n..tokens.len())) {
                        Ok(()) => table.publish(&tokens, tokens.len()),
                        Err(error) => return assert_eq!(error.kind(), ErrorKind::Budget),
                    }
                    let mut fork = table.fork();
                    if fork.reserve(&(10..11)).is_ok() {
                        assert_ne!(fork.ids()[2], table.ids()[2], "two writers");
                    }
                    drop(table);
                    fork.shift(1..2).unwrap();
                    let settled = fork.settle();
                    assert!(settled.is_ok_and(|()| !fork.owes_turns()) || fork.owes_turns());
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(pool.usage().n_used, 0);
    });
}

/// Of two sequences that need the same block, one computes it, and the other waits until that one is through, or has gone away.
#[test]
fn who_waits_for_a_claim_is_woken() {
    check(|| {
        let pool = BlockPool::new(Arc::new(Fake), vec![(Budget::new("blocks", 0), Fake.kv_block_bytes())], 0, 3).unwrap();
        let tokens = [1, 2, 3, 4, 5];
        let threads: Vec<_> = (0..3)
            .map(|i| {
                let pool = pool.clone();
                thread::spawn(move || {
                    let (mut table, mut claim) = (BlockTable::new(pool.clone(), true), pool.claim());
                    while table.adopt(&tokens, 0) == 0 {
                        let name = table.current_name(&tokens, 0).unwrap();
                        if claim.ahead(name).is_some_and(|ahead| ahead.at_work) {
                            assert!(claim.wait(name, std::time::Instant::now()));
                            continue;
                        }
                        claim.begin(Some(name));
                        claim.set_at_work(true);
                        if i == 0 {
                            return; // it goes away in the middle
                        }
                        table.reserve(&(0..4)).unwrap();
                        table.publish(&tokens, 4);
                        claim.go_on(None);
                        break;
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let mut late = BlockTable::new(pool, true);
        assert_eq!(late.adopt(&tokens, 0), 4);
    });
}

/// A reader gets all events of its worker in order, then the end, again and again; whoever waits when the generation is freed is told.
#[test]
fn events_arrive_in_order_and_a_free_wakes_the_reader() {
    check(|| {
        let queue = SharedArc::new(EventQueue::new(2, None));
        let (worker, host) = (queue.clone(), queue.clone());
        let worker = thread::spawn(move || {
            for n_done in 0..2 {
                worker.push(Event { kind: EventKind::Text, n_done, ..Event::default() });
            }
            worker.finish(Event { kind: EventKind::Done, ..Event::default() });
        });
        let closer = thread::spawn(move || host.close());
        let mut n = 0;
        let freed = loop {
            match queue.next(Wait::Forever) {
                Ok((event, _)) if event.kind == EventKind::Done => break false,
                Ok((event, _)) => {
                    assert_eq!(event.n_done, n);
                    n += 1;
                }
                Err(error) => break error.kind() == ErrorKind::Cancelled,
            }
        };
        assert!(freed || n == 2);
        worker.join().unwrap();
        closer.join().unwrap();
        assert_eq!(queue.next(Wait::Poll).err().unwrap().kind(), ErrorKind::Cancelled);
    });
}
