//! Kernel sets of aarch64, best first.

mod neon;

pub use neon::Neon;

use super::contract::Kernels;

/// The sets of this architecture that this CPU can run, best first.
pub(super) fn sets() -> impl Iterator<Item = &'static dyn Kernels> {
    Neon::get().map(|set| set as &dyn Kernels).into_iter()
}
