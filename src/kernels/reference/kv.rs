//! How keys and values go into a tile of the cache.

use crate::kernels::contract::{KV_GROUP, KvType, TILE_TOKENS};
use crate::kernels::shape::tile_bytes;
use half::f16;

/// Stores a key as `token` of a tile, rounded half to even.
pub(crate) fn store_key(kind: KvType, key: &[f32], keys: &mut [u8], token: usize) {
    store(kind, key, keys, token, |j| j * TILE_TOKENS + token);
}

/// Stores a value as `token` of a tile, rounded half to even.
pub(crate) fn store_value(kind: KvType, value: &[f32], values: &mut [u8], token: usize) {
    store(kind, value, values, token, |j| token * value.len() + j);
}

/// Stores the elements of `row`, each as element `place(j)` of its half of a tile.
///
/// # Panics
/// If `half` is not a half of a tile, or has no such token.
fn store(kind: KvType, row: &[f32], half: &mut [u8], token: usize, place: impl Fn(usize) -> usize) {
    assert!(half.len() == tile_bytes(kind, row.len()) && token < TILE_TOKENS, "token {token} of a tile of {} bytes", half.len());
    let elements = row.iter().enumerate();
    match kind {
        KvType::F32 => elements.for_each(|(j, x)| half.as_chunks_mut().0[place(j)] = x.to_ne_bytes()),
        KvType::F16 => elements.for_each(|(j, x)| half.as_chunks_mut().0[place(j)] = f16::from_f32(*x).to_ne_bytes()),
        KvType::Q8_0 => {
            let (quants, scales) = half.split_at_mut(TILE_TOKENS * row.len());
            for (g, group) in row.as_chunks::<KV_GROUP>().0.iter().enumerate() {
                let scale = group_scale(group);
                scales.as_chunks_mut().0[g * TILE_TOKENS + token] = scale.to_le_bytes();
                for (i, x) in group.iter().enumerate() {
                    quants[place(g * KV_GROUP + i)] = quant(*x, scale).cast_unsigned();
                }
            }
        }
    }
}

/// The largest magnitude over 127. An infinite one stays infinite: the context it belongs to is lost, and looks so.
fn group_scale(group: &[f32; KV_GROUP]) -> f16 {
    f16::from_f32(group.iter().fold(0.0_f32, |largest, x| largest.max(x.abs())) / 127.0)
}

/// `x` in units of `scale`. The quotient is by the scale as it is stored, so that its rounding costs nothing.
fn quant(x: f32, scale: f16) -> i8 {
    // `as` saturates, and turns NaN (from 0 / 0) into 0.
    (x / scale.to_f32()).round_ties_even().clamp(-127.0, 127.0) as i8
}
