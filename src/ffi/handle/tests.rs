//! Handles as a hostile host uses them: stale, foreign, invented, from many threads, across a fork.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

struct Apple;
struct Pear;

impl Handle for Apple {
    const KIND: u8 = 1;
    const NAME: &'static str = "apple";
    type Object = Fruit;
}

impl Handle for Pear {
    const KIND: u8 = 2;
    const NAME: &'static str = "pear";
    type Object = u64;
}

/// Counts itself: dropped exactly once, and never while it is in use.
struct Fruit {
    alive: Arc<AtomicUsize>,
    rotten: AtomicBool,
}

impl Fruit {
    fn new(alive: &Arc<AtomicUsize>) -> Arc<Self> {
        alive.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { alive: alive.clone(), rotten: AtomicBool::new(false) })
    }
}

impl Drop for Fruit {
    fn drop(&mut self) {
        assert!(!self.rotten.swap(true, Ordering::Relaxed), "dropped twice");
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

fn table() -> Handles {
    Handles { table: Table::new(), packing: Packing::NATIVE }
}

fn kind_of<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

#[test]
fn a_handle_lives_until_it_is_freed() {
    let (handles, alive) = (table(), Arc::default());
    let a: *mut Apple = handles.insert(Fruit::new(&alive)).unwrap();
    let b: *mut Apple = handles.insert(Fruit::new(&alive)).unwrap();
    assert_ne!(a, b);
    let held = handles.get(a.cast_const()).unwrap();
    handles.free(a);
    handles.free(a);
    assert_eq!(kind_of(handles.get(a.cast_const())), Some(ErrorKind::InvalidHandle));
    assert_eq!(alive.load(Ordering::Relaxed), 2, "a call still holds it");
    drop(held);
    assert_eq!(alive.load(Ordering::Relaxed), 1);
    let c: *mut Apple = handles.insert(Fruit::new(&alive)).unwrap();
    assert_ne!(a, c, "the slot is used again, the handle is not");
    assert!(handles.get(a.cast_const()).is_err() && handles.get(c.cast_const()).is_ok());
    handles.free(b);
    handles.free(c);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn references_are_counted_per_handle() {
    let (handles, alive) = (table(), Arc::default());
    let a: *mut Apple = handles.insert(Fruit::new(&alive)).unwrap();
    handles.retain(a.cast_const()).unwrap();
    handles.free(a);
    assert!(handles.get(a.cast_const()).is_ok());
    handles.free(a);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
    assert_eq!(kind_of(handles.retain(a.cast_const())), Some(ErrorKind::InvalidHandle));
}

#[test]
fn null_foreign_and_invented_handles_are_refused() {
    let handles = table();
    let pear: *mut Pear = handles.insert(Arc::new(5)).unwrap();
    assert_eq!(kind_of(handles.get(std::ptr::null::<Pear>())), Some(ErrorKind::InvalidHandle));
    assert_eq!(kind_of(handles.get(pear.cast_const().cast::<Apple>())), Some(ErrorKind::InvalidHandle));
    let on_stack = 0u64;
    let invented =
        [1, 8, usize::MAX, usize::MAX / 2, (&raw const on_stack).addr(), pear.addr() ^ 1, pear.addr() ^ (1 << 27), pear.addr() ^ (1 << 40)];
    for bits in invented {
        let handle = std::ptr::without_provenance_mut::<Pear>(bits);
        assert_eq!(kind_of(handles.get(handle.cast_const())), Some(ErrorKind::InvalidHandle), "{bits:#x}");
        handles.free(handle);
    }
    assert_eq!(*handles.get(pear.cast_const()).unwrap(), 5);
}

#[test]
fn every_flipped_bit_of_a_handle_is_noticed() {
    let handles = table();
    let pear: *mut Pear = handles.insert(Arc::new(5)).unwrap();
    for bit in 0..usize::BITS {
        let handle = std::ptr::without_provenance::<Pear>(pear.addr() ^ (1 << bit));
        assert!(handles.get(handle).is_err(), "bit {bit}");
    }
}

#[test]
fn a_handle_of_another_process_is_refused_and_not_freed() {
    let (handles, alive) = (table(), Arc::default());
    let (index, slot) = handles.table.take(8).unwrap();
    let object = Arc::into_raw(Fruit::new(&alive));
    let generation = slot.publish(Apple::KIND, object.cast_mut().cast(), std::process::id() ^ 1);
    let handle = std::ptr::without_provenance_mut::<Apple>(handles.packing.pack(index, Stamp { generation, kind: Apple::KIND }));
    assert_eq!(kind_of(handles.get(handle.cast_const())), Some(ErrorKind::Forked));
    assert_eq!(kind_of(handles.retain(handle.cast_const())), Some(ErrorKind::Forked));
    handles.free(handle);
    assert_eq!(kind_of(handles.get(handle.cast_const())), Some(ErrorKind::Forked));
    assert_eq!(alive.load(Ordering::Relaxed), 1);
    // SAFETY: the pointer of `Arc::into_raw` above, given back once, so that the test itself leaks nothing.
    drop(unsafe { Arc::from_raw(object) });
}

#[test]
fn threads_look_up_and_free_without_ever_seeing_a_dead_object() {
    let (handles, alive) = (table(), Arc::<AtomicUsize>::default());
    let shared = AtomicUsize::new(0);
    let (n_threads, n_rounds) = (4, 20_000);
    let found: usize = std::thread::scope(|scope| {
        let hammer = |thread: usize| {
            let mut found = 0;
            for round in 0..n_rounds {
                // Everybody replaces, looks up and frees the same published handle.
                let handle = std::ptr::without_provenance_mut::<Apple>(shared.load(Ordering::Relaxed));
                if let Ok(fruit) = handles.get(handle.cast_const()) {
                    assert!(!fruit.rotten.load(Ordering::Relaxed), "dead object");
                    found += 1;
                }
                if round % 3 == thread % 3 {
                    let new: *mut Apple = handles.insert(Fruit::new(&alive)).unwrap();
                    let old = shared.swap(new.addr(), Ordering::Relaxed);
                    handles.free(std::ptr::without_provenance_mut::<Apple>(old));
                    handles.free(std::ptr::without_provenance_mut::<Apple>(old));
                } else if round % 7 == 0 && handles.retain(handle.cast_const()).is_ok() {
                    handles.free(handle);
                }
            }
            found
        };
        let workers: Vec<_> = (0..n_threads).map(|thread| scope.spawn(move || hammer(thread))).collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    assert!(found > 0);
    handles.free(std::ptr::without_provenance_mut::<Apple>(shared.into_inner()));
    assert_eq!(alive.load(Ordering::Relaxed), 0, "every object was dropped exactly once");
}
