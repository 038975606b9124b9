//! Kernel sets of aarch64, best first.

mod neon;

pub use neon::{NeonDotprod, NeonI8mm};

use super::contract::Kernels;

/// The sets of this architecture that this CPU can run, best first.
pub(super) fn sets() -> impl Iterator<Item = &'static dyn Kernels> {
    let i8mm = NeonI8mm::get().map(|set| set as &dyn Kernels);
    let dotprod = NeonDotprod::get().map(|set| set as &dyn Kernels);
    i8mm.into_iter().chain(dotprod)
}
