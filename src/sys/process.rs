//! The process we live in: who made an object, and which signals its threads take.
//!
//! Used by everything that owns threads or locks, because both do not survive a `fork()`.

/// The process that made an object. In a forked child the object's threads are gone and its locks may be held for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStamp {
    pid: u32,
}

impl ProcessStamp {
    /// The running process.
    pub fn current() -> Self {
        Self { pid: std::process::id() }
    }

    /// False in a child that was forked after the stamp was taken.
    pub fn is_current(self) -> bool {
        self == Self::current()
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
    fn a_stamp_tells_a_child_from_its_parent() {
        let stamp = ProcessStamp::current();
        assert!(stamp.is_current());
        assert!(holds_in_forked_child(5, || !stamp.is_current()));
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
