//! The floating-point environment: ours while we compute, the host's before and after.
//!
//! Used at every entry from C and at the start of every worker thread: a host that flushes denormals or rounds down must get the same
//! tokens as one that does not, and must find its modes as it left them.

use std::marker::PhantomData;

/// Round to nearest, denormals kept, all exceptions masked: what the System V and AAPCS64 ABIs start a program with.
#[cfg(target_arch = "x86_64")]
const DEFAULT: u32 = 0x1F80;
#[cfg(target_arch = "aarch64")]
const DEFAULT: u64 = 0;

/// While it lives, this thread computes in the default environment. Dropping it restores what was found, sticky flags included.
pub struct DefaultEnv {
    #[cfg(target_arch = "x86_64")]
    found: u32,
    #[cfg(target_arch = "aarch64")]
    found: u64,
    /// The modes are a register of this thread: the guard must be dropped where it was made.
    not_send: PhantomData<*const ()>,
}

impl DefaultEnv {
    /// Saves this thread's modes and sets the default ones.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub fn enter() -> Self {
        let found = control();
        if found != DEFAULT {
            set_control(DEFAULT);
        }
        Self { found, not_send: PhantomData }
    }

    /// Nothing to set on this architecture.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn enter() -> Self {
        Self { not_send: PhantomData }
    }
}

impl Drop for DefaultEnv {
    fn drop(&mut self) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if control() != self.found {
            set_control(self.found);
        }
    }
}

/// MXCSR: rounding, flush-to-zero, denormals-are-zero, masks and sticky flags of SSE and AVX.
#[cfg(target_arch = "x86_64")]
fn control() -> u32 {
    let mut csr = 0u32;
    // SAFETY: stores MXCSR into the local that the operand points to, and touches nothing else.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut csr, options(nostack, preserves_flags)) };
    csr
}

#[cfg(target_arch = "x86_64")]
fn set_control(csr: u32) {
    // SAFETY: the value is `DEFAULT` or one that `control` read, so no reserved bit is set; the operand points to a live local.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const csr, options(nostack, preserves_flags, readonly)) };
}

/// FPCR: rounding, flush-to-zero and trap bits.
#[cfg(target_arch = "aarch64")]
fn control() -> u64 {
    let fpcr: u64;
    // SAFETY: reads a register that user code may read.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
    fpcr
}

#[cfg(target_arch = "aarch64")]
fn set_control(fpcr: u64) {
    // SAFETY: the value is `DEFAULT` or one that `control` read.
    unsafe { std::arch::asm!("msr fpcr, {}", in(reg) fpcr, options(nomem, nostack, preserves_flags)) };
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn sets_the_default_and_restores_what_it_found() {
        let before = control();
        let hostile = 0x1F80 | 0x8040 | 0x2000; // flush to zero, denormals are zero, round down
        set_control(hostile);
        {
            let _env = DefaultEnv::enter();
            assert_eq!(control(), DEFAULT);
        }
        let found = control();
        set_control(before);
        assert_eq!(found, hostile);
    }
}
