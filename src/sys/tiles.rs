//! The matrix unit of x86-64 (AMX): whether this machine has it, and the permission to use it, which Linux gives to a process that asks.
//!
//! The permission is the one thing that kernels want from the operating system. It is the process's for good and is inherited by children:
//! from then on a signal frame may take 8 KiB more, so Linux refuses alternate signal stacks that would be too small for one, and does not
//! give the permission where a thread already has such a stack.

/// True if the CPU multiplies tiles of bytes and the system can save them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn are_supported() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    // Leaf 7: tiles are bit 24 of EDX, their products of bytes bit 25 (Intel, "Instruction Set Extensions Programming Reference").
    const TILES_OF_BYTES: u32 = 3 << 24;
    let has = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & TILES_OF_BYTES == TILES_OF_BYTES;
    has && linux::saved_states() & linux::TILES == linux::TILES
}

/// True if this process may use tiles from now on. Asking again does nothing.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn ask() -> bool {
    are_supported() && linux::ask()
}

/// Elsewhere there is no such unit, or no such permission.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn are_supported() -> bool {
    false
}

/// As [`are_supported`].
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn ask() -> bool {
    false
}

/// `arch_prctl` since Linux 5.16 ("Using XSTATE features in user space applications" in its documentation).
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod linux {
    /// The bits of the tiles' shapes and of the tiles in a mask of states.
    pub(super) const TILES: u64 = 1 << 17 | 1 << 18;

    /// The number by which the tiles are asked for.
    const TILE_DATA: libc::c_long = 18;

    const ARCH_GET_XCOMP_SUPP: libc::c_long = 0x1021;
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;

    /// The states that the system saves on a context switch; none if it is too old to say.
    pub(super) fn saved_states() -> u64 {
        let mut mask = 0_u64;
        // SAFETY: the call writes a mask of 64 bits where it is told to.
        let status = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &raw mut mask) };
        if status == 0 { mask } else { 0 }
    }

    /// True if the permission is given.
    pub(super) fn ask() -> bool {
        // SAFETY: the call takes a number, and touches no memory of this process.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
    }
}
