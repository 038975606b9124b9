//! An allocator that knows the most memory a thread held at once: an untrusted file must not demand more than its size explains.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread holds now, and the most it held, since `measure` began.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

pub struct CountingAllocator;

fn count(bytes: isize) {
    // A thread that is ending has no counter any more; nothing measures it.
    let _ = HELD.try_with(|held| {
        let (now, peak) = held.get();
        held.set((now + bytes, peak.max(now + bytes)));
    });
}

// SAFETY: every call goes to `System` unchanged; counting neither allocates (the counter is const-initialised) nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as in `alloc`; `block` came from `System`, because every allocation here does.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new may live side by side while the bytes move.
        count(new_size as isize);
        count(-(layout.size() as isize));
        // SAFETY: as in `dealloc`.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

/// What `f` returns, and the most bytes it held at once.
pub fn measure<T>(f: impl FnOnce() -> T) -> (T, usize) {
    HELD.set((0, 0));
    let result = f();
    (result, HELD.get().1 as usize)
}
