//! What a sequence of calls knows: handles of every state, and random arguments.

use crate::random::Random;
use inference::ffi::status::{INF_ERR_BUFFER_TOO_SMALL, INF_ERR_FORKED, INF_ERR_INTERNAL, INF_OK, inf_error, inf_status};
use parking_lot::Mutex;
use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;

/// Status codes that exist, `INF_OK` included.
pub const STATUSES: usize = INF_ERR_FORKED as usize + 1;

/// What a handle refers to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Runtime,
    Model,
    Session,
    Sampler,
    Generation,
    Load,
}

/// Handles by [`Kind`], live and dead ones, as the numbers they are.
pub type Handles = [Mutex<Vec<usize>>; 6];

/// Handles of a kind that are remembered; older ones are overwritten, and so leak until the kind's last is freed.
const REMEMBERED: usize = 12;

/// The state of one sequence.
pub struct World<'a> {
    pub random: Random,
    pub handles: &'a Handles,
    /// The path of a model that loads.
    pub path: &'a CStr,
    /// Threads that share the handles.
    pub n_threads: u32,
    pub seen: [u64; STATUSES],
    error: inf_error,
    wants_error: bool,
}

impl<'a> World<'a> {
    pub fn new(seed: u64, handles: &'a Handles, path: &'a CStr, n_threads: u32) -> Self {
        let error = inf_error { detail: [7; 2], status: 7, reserved: 7, message: [7; 488] };
        Self { random: Random(seed), handles, path, n_threads, seen: [0; STATUSES], error, wants_error: true }
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.random.below(n) == 0
    }

    pub fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.random.below(items.len()) as usize]
    }

    /// A number at an edge, or a small one.
    pub fn number(&mut self) -> u32 {
        self.one_of(&[0, 1, 2, 3, 4, 5, 8, 31, 32, 33, 64, 128, 511, 512, 513, 2048, 2049, 1 << 31, u32::MAX - 1, u32::MAX])
    }

    pub fn float(&mut self) -> f32 {
        if self.once_in(3) {
            return self.random.unit();
        }
        self.one_of(&[0.0, -0.0, 1.0, 0.5, 0.9, 2.0, -1.0, 1e-45, 1e-30, 1e30, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN])
    }

    /// Flags: mostly few bits.
    pub fn flags(&mut self) -> u32 {
        if self.once_in(8) { self.random.next() as u32 } else { self.random.below(8) }
    }

    /// A token of the model, or a number near the edges.
    pub fn token(&mut self) -> i32 {
        if self.once_in(6) { self.one_of(&[-1, -2, i32::MIN, i32::MAX, 280, 281, 282, 1 << 22]) } else { self.random.below(281) as i32 }
    }

    pub fn tokens(&mut self) -> Vec<i32> {
        let n = self.one_of(&[0, 1, 1, 2, 3, 5, 40, 600]);
        let clean = !self.once_in(4);
        (0..n).map(|_| if clean { self.random.below(281) as i32 } else { self.token() }).collect()
    }

    /// A handle for a parameter of `kind`: mostly one that was made for it, dead or alive.
    pub fn handle<T>(&mut self, kind: Kind) -> *mut T {
        let known = |handles: &Handles, random: &mut Random, kind: usize| {
            let list = handles[kind].lock();
            if list.is_empty() { 0 } else { list[random.below(list.len()) as usize] }
        };
        let right = known(self.handles, &mut self.random, kind as usize);
        let bits = match self.random.below(24) {
            0 => 0,
            1 => self.random.next() as usize,
            2 => self.one_of(&[1, 8, 4096, usize::MAX, usize::MAX - 1, 1 << 47]),
            3 => {
                let other = self.random.below(5) as usize;
                known(self.handles, &mut self.random, other)
            }
            4 => right ^ 1 << self.random.below(64),
            _ => right,
        };
        std::ptr::without_provenance_mut(bits)
    }

    /// Remembers a handle that a call made.
    pub fn keep<T>(&mut self, kind: Kind, handle: *mut T) {
        assert!(!handle.is_null(), "a success without a handle");
        let mut list = self.handles[kind as usize].lock();
        if list.len() < REMEMBERED {
            list.push(handle.addr());
        } else {
            let at = self.random.below(REMEMBERED) as usize;
            let lost = std::mem::replace(&mut list[at], handle.addr());
            drop(list);
            crate::calls::free(kind, lost);
        }
    }

    /// Where the call shall put its error: nowhere, sometimes.
    pub fn error_place(&mut self) -> *mut inf_error {
        self.wants_error = !self.once_in(5);
        if self.wants_error { &raw mut self.error } else { std::ptr::null_mut() }
    }

    /// Checks and counts the answer of `call`; true if it is `INF_OK`.
    pub fn judge(&mut self, call: &str, status: inf_status) -> bool {
        // SAFETY: the library ends every message with a NUL; before the first one, the array has none and is not read.
        let message = if self.wants_error { unsafe { CStr::from_ptr(self.error.message.as_ptr()) }.to_string_lossy() } else { "".into() };
        assert!(status < INF_ERR_FORKED && status != INF_ERR_INTERNAL, "{call}: status {status}: {message}");
        if self.wants_error {
            assert_eq!(self.error.status, status, "{call}: {message}");
            assert_eq!(message.is_empty(), status == INF_OK, "{call}: status {status}: {message:?}");
        }
        self.seen[status as usize] += 1;
        status == INF_OK
    }

    /// A place for an output: `value`, or nowhere, or where no such value can be.
    pub fn place<T>(&mut self, value: &mut T) -> *mut T {
        match self.random.below(24) {
            0 => std::ptr::null_mut(),
            1 if align_of::<T>() > 1 => (&raw mut *value).wrapping_byte_add(1),
            _ => &raw mut *value,
        }
    }

    /// A text with a length that goes with it.
    pub fn text(&mut self) -> (*const c_char, usize) {
        let texts = [
            c"",
            c"a",
            c"hello",
            c"Once upon a time",
            c"<|end|>",
            c"\xff\xfe",
            c"\xe2\x96",
            c"{}",
            c"[]",
            c"[\"a\"]",
            c"{\"x\":1}",
            c"{\"kernels\":\"scalar\"}",
        ];
        let text: &'static CStr = self.one_of(&texts);
        let n = text.to_bytes().len();
        match self.random.below(12) {
            0 => (std::ptr::null(), 0),
            1 => (std::ptr::null(), 5),
            2 => (std::ptr::null(), usize::MAX),
            3 => (text.as_ptr(), usize::MAX - 1),
            4 => (text.as_ptr(), n / 2),
            5..8 => (text.as_ptr(), n),
            _ => (text.as_ptr(), usize::MAX),
        }
    }

    /// A capacity of a buffer of `n` elements.
    pub fn capacity(&mut self, n: usize) -> usize {
        if self.once_in(3) { self.random.below(n + 1) as usize } else { n }
    }
}

/// A struct of the header with room behind it, for a host that knows more than the library.
#[repr(C)]
pub struct Roomy<T> {
    pub value: T,
    tail: [u8; 64],
}

impl<T> Roomy<T> {
    /// All zeros.
    pub fn zeroed() -> Self {
        // SAFETY: the structs of the header are numbers, pointers and optional functions: zero is a value of each.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }

    /// Sets `struct_size`, its first field: mostly right, sometimes one of another release, or nonsense that is refused unread. Returns a pointer to
    /// the struct, or NULL.
    pub fn sized(&mut self, world: &mut World) -> *mut T {
        let right = size_of::<T>() as u32;
        let size = match world.random.below(16) {
            0 => world.one_of(&[0, 1, 4, right - 1, 4097, 1 << 31, u32::MAX]),
            1 => right + 8,
            2 => {
                self.tail[3] = 1;
                right + 64
            }
            _ => right,
        };
        // SAFETY: every struct of the header begins with a `u32`.
        unsafe { (&raw mut self.value).cast::<u32>().write(size) };
        if world.once_in(20) { std::ptr::null_mut() } else { &raw mut self.value }
    }
}

/// After a refused call, `len` must be what it was; after one with too small a buffer, it says what is needed.
pub fn check_len(status_ok: bool, status: inf_status, len: usize, capacity: usize, before: usize) {
    if status == INF_ERR_BUFFER_TOO_SMALL {
        assert!(len > capacity, "{len} elements do not fit into {capacity}");
    } else if !status_ok {
        assert_eq!(len, before, "a failed call wrote a length");
    }
}
