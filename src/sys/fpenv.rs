//! The floating-point environment of a thread: ours while we compute, the host's again afterwards.
//!
//! Hosts round down, flush denormals or unmask exceptions; results must not depend on it, and the host must not notice us.
//! Used by the C boundary and by the pool's workers. x87 is left alone: nothing in this library computes with it.

use std::marker::PhantomData;

/// Holds the default environment (round to nearest, denormals kept, exceptions masked) until dropped; then the saved one is back,
/// status flags included.
///
/// The compiler knows nothing of the environment: arithmetic that depends on it belongs into a function called while the guard lives.
#[must_use = "the environment is restored when the guard is dropped"]
pub struct FpEnv {
    saved: arch::Environment,
    /// The registers belong to the thread, so the guard must stay on it.
    this_thread: PhantomData<*const ()>,
}

impl FpEnv {
    /// Saves the thread's environment and sets the default one.
    pub fn set_default() -> Self {
        let saved = arch::read();
        arch::write(arch::DEFAULT);
        Self { saved, this_thread: PhantomData }
    }
}

impl Drop for FpEnv {
    fn drop(&mut self) {
        arch::write(self.saved);
    }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use std::arch::asm;

    /// MXCSR: control and status bits of SSE and everything after it.
    pub(super) type Environment = u32;

    /// All exceptions masked, round to nearest, neither FTZ nor DAZ (Intel SDM volume 1, 10.2.3).
    pub(super) const DEFAULT: Environment = 0x1f80;

    pub(super) fn read() -> Environment {
        let mut mxcsr = 0;
        // SAFETY: stores four bytes to the local it is given; SSE is part of x86_64.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags)) };
        mxcsr
    }

    pub(super) fn write(mxcsr: Environment) {
        // SAFETY: loads four bytes from the argument. The value is `DEFAULT` or was read from MXCSR, so no reserved bit is set.
        // Code between the two writes sees what Rust assumes; the host's own setting is put back before its code runs on.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mxcsr, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use std::arch::asm;

    /// FPCR (control) and FPSR (status).
    pub(super) type Environment = (u64, u64);

    /// Traps off, round to nearest, no flush to zero (Arm ARM, C5.2.8 and C5.2.10).
    pub(super) const DEFAULT: Environment = (0, 0);

    pub(super) fn read() -> Environment {
        let (control, status);
        // SAFETY: reads two registers that every thread may read.
        unsafe { asm!("mrs {}, fpcr", "mrs {}, fpsr", out(reg) control, out(reg) status, options(nostack)) };
        (control, status)
    }

    pub(super) fn write((control, status): Environment) {
        // SAFETY: writes two registers that every thread may write, with `DEFAULT` or with what was read from them.
        // Code between the two writes sees what Rust assumes; the host's own setting is put back before its code runs on.
        unsafe { asm!("msr fpcr, {}", "msr fpsr, {}", in(reg) control, in(reg) status, options(nostack)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch {
    pub(super) type Environment = ();
    pub(super) const DEFAULT: Environment = ();
    pub(super) fn read() -> Environment {}
    pub(super) fn write(_: Environment) {}
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::hint::black_box;

    const ROUND_DOWN: u32 = 1 << 13;
    const FLUSH_TO_ZERO: u32 = 1 << 15;
    const DENORMALS_ARE_ZERO: u32 = 1 << 6;

    #[inline(never)]
    fn third() -> f32 {
        black_box(2.0f32) / black_box(3.0)
    }

    #[inline(never)]
    fn half_of_smallest_normal() -> f32 {
        black_box(f32::MIN_POSITIVE) * black_box(0.5)
    }

    fn under(control: u32, f: impl FnOnce()) {
        let before = arch::read();
        arch::write(control);
        f();
        arch::write(before);
    }

    #[test]
    fn rounding_down_of_the_host_does_not_reach_us_and_comes_back() {
        let expected = third();
        under(arch::DEFAULT | ROUND_DOWN, || {
            let hosts = third();
            assert_ne!(hosts, expected, "the test's host must round down");
            let guard = FpEnv::set_default();
            assert_eq!(third(), expected);
            drop(guard);
            assert_eq!(third(), hosts);
        });
    }

    #[test]
    fn flushed_denormals_of_the_host_do_not_reach_us_and_come_back() {
        under(arch::DEFAULT | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO, || {
            assert_eq!(half_of_smallest_normal(), 0.0, "the test's host must flush denormals");
            let guard = FpEnv::set_default();
            assert!(half_of_smallest_normal() > 0.0);
            drop(guard);
            assert_eq!(half_of_smallest_normal(), 0.0);
        });
    }

    #[test]
    fn status_flags_and_masks_of_the_host_are_untouched() {
        const INVALID_UNMASKED: u32 = arch::DEFAULT & !(1 << 7);
        under(INVALID_UNMASKED, || {
            let guard = FpEnv::set_default();
            assert!((black_box(0.0f32) / black_box(0.0)).is_nan(), "must not trap");
            drop(guard);
            assert_eq!(arch::read(), INVALID_UNMASKED);
        });
    }

    #[test]
    fn guards_nest() {
        under(arch::DEFAULT | FLUSH_TO_ZERO, || {
            let outer = FpEnv::set_default();
            drop(FpEnv::set_default());
            assert_eq!(arch::read(), arch::DEFAULT);
            drop(outer);
            assert_eq!(arch::read() & FLUSH_TO_ZERO, FLUSH_TO_ZERO);
        });
    }
}
