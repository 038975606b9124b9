//! The process we live in: who made an object, and which signals its threads take.
//!
//! Used by everything that owns threads or locks, because both do not survive a `fork()`.

/// The process that made an object. In a forked child the object's threads are gone and its locks may be held for ever.
#[derive(Debug)]
pub struct ProcessStamp {
    pid: u32,
    /// A page that the system empties in children: asking it is a read, where asking for the process id is a system call (274 ns where
    /// we measured it, several hundred times per token). `None` where the system has no such pages.
    page: Option<wiped::Page>,
}

impl ProcessStamp {
    /// The running process.
    pub fn current() -> Self {
        Self { pid: std::process::id(), page: wiped::Page::new() }
    }

    /// False in a child that was forked after the stamp was taken.
    pub fn is_current(&self) -> bool {
        match &self.page {
            Some(page) => page.is_written(),
            None => self.pid == std::process::id(),
        }
    }
}

#[cfg(target_os = "linux")]
mod wiped {
    use std::ptr::{self, NonNull};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Mapped memory that is true here and, in every child, false (`MADV_WIPEONFORK`, Linux 4.14).
    #[derive(Debug)]
    pub(super) struct Page(NonNull<AtomicBool>);

    // SAFETY: the page is owned and holds an atomic, which any thread may read.
    unsafe impl Send for Page {}
    // SAFETY: as above.
    unsafe impl Sync for Page {}

    /// The system maps whole pages; the length only has to be positive.
    const LEN: usize = size_of::<AtomicBool>();

    impl Page {
        /// `None` if the system refuses.
        pub(super) fn new() -> Option<Self> {
            let (access, private) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: asks for new memory anywhere; nothing that exists is touched.
            let base = unsafe { libc::mmap(ptr::null_mut(), LEN, access, private, -1, 0) };
            if base == libc::MAP_FAILED {
                return None;
            }
            let page = Self(NonNull::new(base.cast())?);
            // SAFETY: `base` is the mapping that was just made, and this process alone uses it.
            let refused = unsafe { libc::madvise(base, LEN, libc::MADV_WIPEONFORK) } != 0;
            page.flag().store(true, Ordering::Relaxed);
            (!refused).then_some(page)
        }

        /// True in the process that made the page.
        pub(super) fn is_written(&self) -> bool {
            self.flag().load(Ordering::Relaxed)
        }

        fn flag(&self) -> &AtomicBool {
            // SAFETY: the mapping lives as long as `self`, is aligned to a page, and its bytes are zero or were written as `true`.
            unsafe { self.0.as_ref() }
        }
    }

    impl Drop for Page {
        fn drop(&mut self) {
            // SAFETY: `new` made this mapping with this length, and no reference into it outlives `self`.
            unsafe { libc::munmap(self.0.as_ptr().cast(), LEN) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod wiped {
    #[derive(Debug)]
    pub(super) struct Page;

    impl Page {
        pub(super) fn new() -> Option<Self> {
            None
        }

        pub(super) fn is_written(&self) -> bool {
            true
        }
    }
}

/// Blocks the host's asynchronous signals on this thread until dropped; threads started meanwhile are born with them blocked.
///
/// A host's handler must not run on our threads: it may expect a stack, thread-locals or a runtime that they do not have.
/// Faults stay unblocked, so that the host's crash reporter still sees them.
#[must_use = "the signal mask is restored when the guard is dropped"]
pub struct SignalsBlocked {
    #[cfg(unix)]
    saved: libc::sigset_t,
}

#[cfg(unix)]
impl SignalsBlocked {
    /// Signals that a thread raises by its own instructions.
    const FAULTS: [libc::c_int; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT];

    /// Blocks them.
    pub fn new() -> Self {
        // SAFETY: `sigset_t` is plain bits for which zero is valid; all calls only write the sets they are given and the thread's mask.
        unsafe {
            let (mut saved, mut blocked) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut blocked);
            for signal in Self::FAULTS {
                libc::sigdelset(&raw mut blocked, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut saved);
            Self { saved }
        }
    }
}

#[cfg(unix)]
impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `saved` was filled by `pthread_sigmask` in `new`; a null third argument is allowed.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.saved, std::ptr::null_mut()) };
    }
}

#[cfg(not(unix))]
impl SignalsBlocked {
    /// Nothing to block on this system.
    pub fn new() -> Self {
        Self {}
    }
}

impl Default for SignalsBlocked {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs `f` in a forked child and returns whether it answered `true` within `limit_s` seconds. For tests.
#[cfg(all(test, unix))]
pub(crate) fn holds_in_forked_child(limit_s: u32, f: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child only runs `f`, which the tests keep to code that survives a fork, and leaves by `_exit`: no destructor
    // and no test harness runs there. The alarm ends a child that hangs.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::alarm(limit_s);
            let ok = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(false);
            libc::_exit(if ok { 0 } else { 1 });
        }
        let mut status = -1;
        pid > 0 && libc::waitpid(pid, &raw mut status, 0) == pid && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_a_child_from_its_parent_with_and_without_a_page() {
        for stamp in [ProcessStamp::current(), ProcessStamp { page: None, ..ProcessStamp::current() }] {
            assert!(stamp.is_current());
            assert!(holds_in_forked_child(5, || !stamp.is_current()));
            assert!(stamp.is_current());
        }
    }

    fn is_blocked(signal: libc::c_int) -> bool {
        // SAFETY: with a null second argument the call only reads the mask into a zeroed, valid set.
        unsafe {
            let mut mask = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut mask);
            libc::sigismember(&raw const mask, signal) == 1
        }
    }

    #[test]
    fn threads_are_born_with_signals_blocked_and_faults_open() {
        let guard = SignalsBlocked::new();
        let born = std::thread::spawn(|| (is_blocked(libc::SIGUSR1), is_blocked(libc::SIGSEGV)));
        drop(guard);
        assert_eq!(born.join().unwrap(), (true, false));
        assert!(!is_blocked(libc::SIGUSR1));
    }
}
