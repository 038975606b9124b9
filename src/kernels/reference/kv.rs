//! How keys and values go into a tile of the cache.

use crate::kernels::contract::{KvType, TILE_TOKENS};
use crate::kernels::shape::tile_bytes;
use half::f16;

/// Stores a key as `token` of a tile, rounded half to even.
pub(crate) fn store_key(kind: KvType, key: &[f32], keys: &mut [u8], token: usize) {
    assert!(keys.len() == tile_bytes(kind, key.len()) && token < TILE_TOKENS, "token {token} of a tile of {} bytes", keys.len());
    let rows = keys.chunks_exact_mut(TILE_TOKENS * kind.bytes());
    rows.zip(key).for_each(|(row, x)| store(kind, *x, &mut row[token * kind.bytes()..]));
}

/// Stores a value as `token` of a tile, rounded half to even.
pub(crate) fn store_value(kind: KvType, value: &[f32], values: &mut [u8], token: usize) {
    assert!(values.len() == tile_bytes(kind, value.len()) && token < TILE_TOKENS, "token {token} of a tile of {} bytes", values.len());
    let row = &mut values[token * value.len() * kind.bytes()..];
    row.chunks_exact_mut(kind.bytes()).zip(value).for_each(|(out, x)| store(kind, *x, out));
}

/// Stores one element at the beginning of `out`.
fn store(kind: KvType, x: f32, out: &mut [u8]) {
    match kind {
        KvType::F32 => out[..4].copy_from_slice(&x.to_ne_bytes()),
        KvType::F16 => out[..2].copy_from_slice(&f16::from_f32(x).to_ne_bytes()),
    }
}
