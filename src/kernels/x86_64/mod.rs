//! Kernel sets of x86-64, best first.

mod avx2;

pub use avx2::Avx2;

use super::contract::Kernels;

/// The sets of this architecture that this CPU can run, best first.
pub(super) fn sets() -> impl Iterator<Item = &'static dyn Kernels> {
    Avx2::get().map(|set| set as &dyn Kernels).into_iter()
}
