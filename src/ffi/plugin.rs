//! The one symbol of the plugin, in a build with the feature `cuda`.

use super::boundary;
use crate::backend::candle::Cuda;
use crate::backend::plugin::{Failure, Handle, Slice, Table, hand_over};

/// A `crate::backend::plugin::OpenPlugin`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_plugin_open(
    abi: u32,
    build: Slice<u8>,
    table: *mut *const Table,
    provider: *mut Handle,
    failure: *mut Failure,
) -> u32 {
    boundary::value(u32::MAX, || {
        // A panic of this library, which has a hook of its own, is an error of the call that it happens in, and is told there alone.
        std::panic::set_hook(Box::new(|_| {}));
        // SAFETY: the contract of `OpenPlugin`.
        Ok(unsafe { hand_over(Cuda::new, (abi, build), table, provider, failure) })
    })
}
