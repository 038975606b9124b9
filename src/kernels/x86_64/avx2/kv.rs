//! How keys and values go into a tile of the cache.

use super::vector::{load, load_part, store_half};
use crate::kernels::contract::{Kernels as _, KvType, TILE_TOKENS};
use crate::kernels::reference::Reference;
use crate::kernels::shape::tile_bytes;
use std::arch::x86_64::*;

/// Eight elements as `f16`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn narrow(x: __m256) -> [u8; 16] {
    let mut bytes = [0; 16];
    store_half(&mut bytes, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x));
    bytes
}

/// See [`Kernels::store_key`](crate::kernels::Kernels::store_key).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn store_key(kind: KvType, key: &[f32], keys: &mut [u8], token: usize) {
    if kind != KvType::F16 {
        return Reference.store_key(kind, key, keys, token); // a copy, or rare
    }
    assert!(keys.len() == tile_bytes(kind, key.len()) && token < TILE_TOKENS, "token {token} of a tile of {} bytes", keys.len());
    let rows = keys.as_chunks_mut::<{ 2 * TILE_TOKENS }>().0;
    for (rows, x) in rows.chunks_mut(8).zip(key.chunks(8)) {
        let eight = narrow(load_part(x));
        for (row, element) in rows.iter_mut().zip(eight.as_chunks::<2>().0) {
            row[2 * token..2 * token + 2].copy_from_slice(element);
        }
    }
}

/// See [`Kernels::store_value`](crate::kernels::Kernels::store_value).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn store_value(kind: KvType, value: &[f32], values: &mut [u8], token: usize) {
    if kind != KvType::F16 {
        return Reference.store_value(kind, value, values, token); // a copy, or rare
    }
    assert!(values.len() == tile_bytes(kind, value.len()) && token < TILE_TOKENS, "token {token} of a tile of {} bytes", values.len());
    let (eights, rest) = value.as_chunks::<8>();
    let (out, out_rest) = values[token * 2 * value.len()..][..2 * value.len()].as_chunks_mut::<16>();
    out.iter_mut().zip(eights).for_each(|(out, x)| *out = narrow(load(x)));
    out_rest.copy_from_slice(&narrow(load_part(rest))[..out_rest.len()]);
}
