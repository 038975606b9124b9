//! How keys and values go into a tile of the cache.

use super::floats::{Floats, load_part};
use crate::kernels::contract::{Kernels as _, KvType, TILE_TOKENS};
use crate::kernels::reference::Reference;
use crate::kernels::shape::tile_bytes;

/// See [`Kernels::store_key`](crate::kernels::Kernels::store_key).
#[inline(always)]
pub(in crate::kernels) fn store_key<V: Floats>(v: V, kind: KvType, key: &[f32], keys: &mut [u8], token: usize) {
    if kind != KvType::F16 {
        return Reference.store_key(kind, key, keys, token); // a copy, or rare
    }
    assert!(keys.len() == tile_bytes(kind, key.len()) && token < TILE_TOKENS, "token {token} of a tile of {} bytes", keys.len());
    let rows = keys.as_chunks_mut::<{ 2 * TILE_TOKENS }>().0;
    for (rows, x) in rows.chunks_mut(8).zip(key.chunks(8)) {
        for (row, element) in rows.iter_mut().zip(v.narrow(load_part(v, x))) {
            row[2 * token..2 * token + 2].copy_from_slice(&element);
        }
    }
}

/// See [`Kernels::store_value`](crate::kernels::Kernels::store_value).
#[inline(always)]
pub(in crate::kernels) fn store_value<V: Floats>(v: V, kind: KvType, value: &[f32], values: &mut [u8], token: usize) {
    if kind != KvType::F16 {
        return Reference.store_value(kind, value, values, token); // a copy, or rare
    }
    assert!(values.len() == tile_bytes(kind, value.len()) && token < TILE_TOKENS, "token {token} of a tile of {} bytes", values.len());
    let (eights, rest) = value.as_chunks::<8>();
    let (out, out_rest) = values[token * 2 * value.len()..][..2 * value.len()].as_chunks_mut::<16>();
    for (out, x) in out.iter_mut().zip(eights) {
        out.copy_from_slice(v.narrow(v.load(x)).as_flattened());
    }
    out_rest.copy_from_slice(&v.narrow(load_part(v, rest)).as_flattened()[..out_rest.len()]);
}
