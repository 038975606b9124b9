//! Kernel sets of x86-64, best first.

mod amx;
mod avx2;
mod avx512_vnni;

pub use avx2::{Avx2, AvxVnni};
pub use avx512_vnni::{Amx, Avx512Vnni};

use super::contract::Kernels;
use super::select::OnRequest;

/// The sets of this architecture that this CPU can run without asking for anything, best first.
pub(super) fn sets() -> impl Iterator<Item = &'static dyn Kernels> {
    let avx512_vnni = Avx512Vnni::get().map(|set| set as &dyn Kernels);
    let avx_vnni = AvxVnni::get().map(|set| set as &dyn Kernels);
    let avx2 = Avx2::get().map(|set| set as &dyn Kernels);
    avx512_vnni.into_iter().chain(avx_vnni).chain(avx2)
}

/// The set that the system must permit, if the CPU has it.
pub(super) fn on_request() -> Option<OnRequest> {
    Amx::is_known().then_some(("amx", || Amx::get().map(|set| set as _)))
}
