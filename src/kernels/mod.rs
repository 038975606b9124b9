//! Pure functions over slices: what a decoder computes, once per instruction set.
//!
//! [`Kernels`] is the contract. `reference` implements it slowly and obviously and stays for ever as the oracle of the others.
//! **Bit-stability**: every output depends only on its own weight row and activation row: the order of additions is fixed per
//! weight type and kernel set, whatever the number of rows, the split into tiles, or the thread.

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod aarch64;
mod activation;
mod block;
mod contract;
mod encode;
mod packed;
mod reference;
mod select;
mod shape;
#[cfg(test)]
mod tests;
mod unpack;
mod vectors;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub use aarch64::{NeonDotprod, NeonI8mm};
pub use contract::{
    Activation, ActivationRows, AttendParams, GateFn, KV_GROUP, Kernels, KvTile, KvType, RopeStyle, SoftmaxState, TILE_TOKENS, WeightRows,
};
pub use encode::{can_encode, encode};
pub use packed::is_gathered;
pub use reference::{Reference, keys_as_values, turn_keys};
pub use select::{available, select};
pub use unpack::Unpacker;
#[cfg(target_arch = "x86_64")]
pub use x86_64::{Avx2, Avx512Vnni, AvxVnni};
