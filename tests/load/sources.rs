//! Sources for the tests: the demo model, read slowly, or only when a gate opens.

use inference::error::Error;
use inference::sys::file::{MemorySource, ReadAt};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

/// The bytes of the demo model.
pub fn demo() -> Vec<u8> {
    std::fs::read(super::demo_path()).unwrap()
}

/// The demo model, in reads of at most 16 KiB that take a while each.
pub struct Slow {
    inner: MemorySource<Vec<u8>>,
    delay: Duration,
}

impl Slow {
    pub fn new(delay: Duration) -> Self {
        Self { inner: MemorySource::new(demo()).named("slow.gguf".into()), delay }
    }
}

impl ReadAt for Slow {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn name(&self) -> Option<&str> {
        self.inner.name()
    }

    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<(), Error> {
        self.inner.read_exact_at(offset, dst)
    }

    fn read_some_at(&self, offset: u64, dst: &mut [u8]) -> Result<usize, Error> {
        std::thread::sleep(self.delay);
        let n = dst.len().min(16 << 10);
        self.inner.read_exact_at(offset, &mut dst[..n])?;
        Ok(n)
    }
}

#[derive(Default)]
struct State {
    reading: bool,
    open: bool,
}

type Shared = (Mutex<State>, Condvar);

/// The demo model, whose first read waits until the gate opens.
pub struct Gated {
    inner: MemorySource<Vec<u8>>,
    gate: Arc<Shared>,
    _alive: Arc<()>,
}

/// The other side of [`Gated`].
pub struct Gate {
    gate: Arc<Shared>,
    source: Weak<()>,
}

impl Gated {
    pub fn new() -> (Self, Gate) {
        let (gate, alive) = (Arc::<Shared>::default(), Arc::new(()));
        let other = Gate { gate: gate.clone(), source: Arc::downgrade(&alive) };
        (Self { inner: MemorySource::new(demo()), gate, _alive: alive }, other)
    }
}

impl ReadAt for Gated {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_exact_at(&self, offset: u64, dst: &mut [u8]) -> Result<(), Error> {
        let (state, changed) = &*self.gate;
        let mut state = state.lock().unwrap();
        state.reading = true;
        changed.notify_all();
        drop(changed.wait_while(state, |state| !state.open).unwrap());
        self.inner.read_exact_at(offset, dst)
    }
}

impl Gate {
    pub fn wait_until_reading(&self) {
        let (state, changed) = &*self.gate;
        drop(changed.wait_while(state.lock().unwrap(), |state| !state.reading).unwrap());
    }

    pub fn open(&self) {
        self.gate.0.lock().unwrap().open = true;
        self.gate.1.notify_all();
    }

    pub fn is_source_alive(&self) -> bool {
        self.source.strong_count() > 0
    }
}
