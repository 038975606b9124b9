//! The pool's bookkeeping, on a model that computes nothing.

use super::*;
use crate::backend::{BLOCK_TOKENS, BlockId};
use crate::error::{ErrorKind, Result};
use crate::fail;
use crate::model::{Forward, ModelSpec, Pass, StoredTensor};
use crate::sys::budget::Budget;
use parking_lot::Mutex;
use std::io::Write;
use std::sync::Arc;

const BLOCK_BYTES: u64 = 100;

/// Remembers what is copied.
#[derive(Default)]
struct Fake {
    copies: Mutex<Vec<(BlockId, BlockId)>>,
}

impl Forward for Fake {
    fn spec(&self) -> &ModelSpec {
        unreachable!("the pool does not ask")
    }

    fn weight_bytes(&self) -> u64 {
        0
    }

    fn stored(&self) -> &[StoredTensor] {
        &[]
    }

    fn write_stored(&self, i: usize, _: &mut dyn Write) -> Result<()> {
        fail!(Internal, "there is no tensor {i}")
    }

    fn grow_kv(&self, n_blocks: usize) -> Result<()> {
        if n_blocks > 1000 {
            fail!(OutOfMemory, "{n_blocks} blocks");
        }
        Ok(())
    }

    fn kv_block_bytes(&self) -> u64 {
        BLOCK_BYTES
    }

    fn copy_kv(&self, from: BlockId, to: BlockId) -> Result<()> {
        self.copies.lock().push((from, to));
        Ok(())
    }

    fn turn_back(&self, _: &[BlockId], _: usize) -> Result<()> {
        Ok(())
    }

    fn read_block(&self, id: BlockId, out: &mut [u8]) -> Result<()> {
        out.fill(id as u8);
        Ok(())
    }

    fn write_block(&self, _: BlockId, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn fingerprint(&self) -> u128 {
        7
    }

    fn is_bit_stable(&self) -> bool {
        true
    }

    fn new_pass(self: Arc<Self>, _: usize, _: usize) -> Result<Box<dyn Pass>> {
        fail!(Internal, "the pool does not compute")
    }
}

fn pool(n_blocks: u64, most_cached: usize) -> (Arc<BlockPool>, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    (BlockPool::new(fake.clone(), vec![(Budget::new("test", 0), BLOCK_BYTES)], n_blocks * BLOCK_BYTES, most_cached).unwrap(), fake)
}

fn tokens(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32).map(|i| i * 7 + seed).collect()
}

/// A table that has computed `tokens`.
fn computed(pool: &Arc<BlockPool>, tokens: &[u32]) -> BlockTable {
    let mut table = BlockTable::new(pool.clone(), true);
    let n = table.adopt(tokens, 0);
    table.reserve(&(n..tokens.len())).unwrap();
    table.publish(tokens, tokens.len());
    table
}

#[test]
fn tables_of_the_same_tokens_hold_the_same_blocks_but_the_last() {
    let (pool, _) = pool(0, 100);
    let long = tokens(5 * BLOCK_TOKENS + 3, 0);
    let (a, b) = (computed(&pool, &long), computed(&pool, &long));
    assert_eq!((a.ids()[..5] == b.ids()[..5], a.ids()[5] == b.ids()[5]), (true, false));
    assert_eq!(pool.usage().n_used, 7);
    // Whole blocks: one is left to be computed, and then given up for the one that is known.
    let whole = computed(&pool, &long[..2 * BLOCK_TOKENS]);
    assert_eq!((whole.ids(), pool.usage().n_used), (&a.ids()[..2], 7));
    let other = computed(&pool, &[&tokens(BLOCK_TOKENS, 1), &long[BLOCK_TOKENS..]].concat());
    assert!(other.ids().iter().all(|id| !a.ids().contains(id)), "the same tokens behind another prefix are other blocks");
}

#[test]
fn who_writes_into_a_shared_block_gets_a_copy() {
    let (pool, fake) = pool(0, 100);
    let long = tokens(BLOCK_TOKENS + 5, 0);
    let mut parent = computed(&pool, &long);
    let mut child = parent.fork();
    assert_eq!(pool.usage().n_used, 2);
    child.reserve(&(long.len()..long.len() + 1)).unwrap();
    assert_eq!(*fake.copies.lock(), [(parent.ids()[1], child.ids()[1])]);
    parent.reserve(&(long.len()..long.len() + 1)).unwrap();
    assert_eq!((fake.copies.lock().len(), pool.usage().n_used), (1, 3));
    // A block that others may find is shared, even where nobody else holds it.
    parent.truncate(BLOCK_TOKENS - 1);
    parent.reserve(&(BLOCK_TOKENS - 1..BLOCK_TOKENS)).unwrap();
    assert!(fake.copies.lock().len() == 2 && parent.ids()[0] != child.ids()[0]);
}

#[test]
fn what_nobody_uses_is_kept_and_goes_first_oldest_first_when_memory_is_short() {
    let (pool, _) = pool(8, 100);
    let (first, second) = (tokens(4 * BLOCK_TOKENS, 0), tokens(4 * BLOCK_TOKENS, 1));
    drop(computed(&pool, &first));
    drop(computed(&pool, &second));
    assert_eq!((pool.usage().n_used, pool.usage().n_cached), (0, 8));
    let third = computed(&pool, &tokens(3 * BLOCK_TOKENS, 2));
    assert_eq!((pool.usage().n_used, pool.usage().n_cached, pool.usage().n_blocks), (3, 5, 8));
    let mut table = BlockTable::new(pool.clone(), true);
    assert_eq!(table.adopt(&first, 0), BLOCK_TOKENS, "the end of the oldest went, its beginning stays");
    assert_eq!(table.adopt(&first, BLOCK_TOKENS), BLOCK_TOKENS);
    let short = table.reserve(&(0..6 * BLOCK_TOKENS)).unwrap_err();
    assert_eq!((short.kind(), pool.usage().n_cached), (ErrorKind::Budget, 0));
    drop((table, third));
    assert_eq!(pool.usage().n_used, 0);
}

#[test]
fn the_cache_is_bounded_without_a_limit_too() {
    let (pool, _) = pool(0, 6);
    for seed in 0..50 {
        drop(computed(&pool, &tokens(4 * BLOCK_TOKENS, seed)));
        assert!(pool.usage().n_cached <= 6);
    }
    assert!(pool.usage().n_blocks <= 12, "{:?}", pool.usage());
}

#[test]
fn a_shift_leaves_the_blocks_of_others_and_the_index_alone() {
    let (pool, fake) = pool(0, 100);
    let long = tokens(5 * BLOCK_TOKENS + 3, 0);
    let other = computed(&pool, &long);
    let mut table = computed(&pool, &long);
    let last = table.ids()[5];
    table.shift(1..3).unwrap();
    table.settle().unwrap();
    assert_eq!((table.ids().len(), table.ids()[0], table.ids()[3]), (4, other.ids()[0], last));
    assert_eq!(fake.copies.lock().len(), 2, "blocks 3 and 4 are shared, the last one is not");
    assert!(!table.is_pure() && table.ids()[1..].iter().all(|id| !other.ids().contains(id)));
    let moved = [&long[..BLOCK_TOKENS], &long[3 * BLOCK_TOKENS..]].concat();
    table.publish(&moved, moved.len());
    let mut finder = BlockTable::new(pool.clone(), true);
    assert_eq!(finder.adopt(&moved, 0), BLOCK_TOKENS, "what was moved is not found");
    drop(finder);
    drop((table, other));
    assert_eq!(pool.usage().n_used, 0);
}

#[test]
fn a_table_that_does_not_share_finds_nothing_and_is_not_found() {
    let (pool, _) = pool(0, 100);
    let long = tokens(3 * BLOCK_TOKENS, 0);
    let mut private = BlockTable::new(pool.clone(), false);
    private.reserve(&(0..long.len())).unwrap();
    private.publish(&long, long.len());
    let shared = computed(&pool, &long);
    assert_eq!(private.adopt(&long, 0), 0);
    assert!(shared.ids().iter().all(|id| !private.ids().contains(id)));
}

#[test]
fn the_first_part_of_a_block_is_copied() {
    let (pool, fake) = pool(0, 100);
    let long = tokens(BLOCK_TOKENS + 20, 0);
    let mut owner = computed(&pool, &long);
    let begun = |n: usize| [&long[..n], &tokens(30, 9)].concat();
    let start = |text: &[u32]| {
        let mut table = BlockTable::new(pool.clone(), true);
        let n = table.adopt(text, 0);
        table.adopt_start(text, n)
    };
    assert_eq!(start(&begun(BLOCK_TOKENS + 10)), BLOCK_TOKENS + 10);
    assert_eq!(fake.copies.lock().pop().unwrap().0, owner.ids()[1]);
    assert_eq!(
        (start(&begun(BLOCK_TOKENS + 3)), start(&begun(10))),
        (BLOCK_TOKENS, 10),
        "few are computed; a whole block has a first part, too"
    );
    assert_eq!(start(&long[..BLOCK_TOKENS + 15]), BLOCK_TOKENS + 14, "one token is left to be computed");
    owner.truncate(BLOCK_TOKENS + 8);
    assert_eq!(start(&long), BLOCK_TOKENS + 8, "what its owner may write is not copied");
    owner.publish(&long, BLOCK_TOKENS + 12);
    assert_eq!(start(&long), BLOCK_TOKENS + 12);
    owner.shift(0..1).unwrap();
    assert_eq!(start(&long), BLOCK_TOKENS, "what is turned is not copied");
    drop(owner);
    assert_eq!((start(&long), pool.usage().n_used), (BLOCK_TOKENS, 0));
}

#[test]
fn who_writes_a_block_that_is_copied_meanwhile_takes_a_copy_and_the_owner_of_a_fork_does_not_mix_them() {
    let (pool, _) = pool(0, 100);
    let long = tokens(20, 0);
    let mut parent = computed(&pool, &long);
    let mut child = parent.fork();
    // Both hold the block: the child changes its end, in a copy.
    child.truncate(10);
    let changed = [&long[..10], &tokens(10, 50)].concat();
    child.reserve(&(10..20)).unwrap();
    child.publish(&changed, 20);
    let mut table = BlockTable::new(pool.clone(), true);
    assert_eq!((table.adopt_start(&[&changed[..], &[1, 2]].concat(), 0), table.ids().len()), (20, 1));
    parent.publish(&long, 20);
    let mut table = BlockTable::new(pool.clone(), true);
    assert_eq!(table.adopt_start(&[&long[..], &[1, 2]].concat(), 0), 20);
}
