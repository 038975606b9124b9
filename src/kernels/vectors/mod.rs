//! Norms, gates, attention, quantisation and the storage of keys and values, written once over eight lanes of `f32`: [`Floats`]. A kernel set brings its
//! vectors, and calls these from functions that have its instructions switched on: everything here is inlined into those.

mod attention;
mod exp;
mod floats;
mod kv;
mod pointwise;
mod quantize;

pub(super) use attention::attend;
#[cfg(target_arch = "x86_64")]
pub(super) use exp::{LN_2_HIGH, LN_2_LOW, Q};
pub(super) use floats::Floats;
pub(super) use kv::{store_key, store_value};
pub(super) use pointwise::{glu, layer_norm, rms_norm};
pub(super) use quantize::{Rounding, quantize};
