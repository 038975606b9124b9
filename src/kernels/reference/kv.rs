//! How keys and values go into a tile of the cache.

use crate::kernels::contract::{KvType, RopeStyle, TILE_TOKENS};
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

/// Rotates all keys of a tile by the same angles, given as `cos` and `sin`, `(n_pairs,)`: whole rows of tokens at once.
pub fn turn_keys(kind: KvType, style: RopeStyle, keys: &mut [u8], cos: &[f32], sin: &[f32]) {
    let (row, n_pairs) = (TILE_TOKENS * kind.bytes(), cos.len());
    assert!(sin.len() == n_pairs && 2 * n_pairs * row <= keys.len(), "{n_pairs} angles for a tile of {} bytes", keys.len());
    for i in 0..n_pairs {
        let (a, b) = match style {
            RopeStyle::Interleaved => (2 * i, 2 * i + 1),
            RopeStyle::Halves => (i, i + n_pairs),
        };
        for token in 0..TILE_TOKENS {
            let (at_a, at_b) = (a * row + token * kind.bytes(), b * row + token * kind.bytes());
            let (x, y) = (load(kind, &keys[at_a..]), load(kind, &keys[at_b..]));
            store(kind, x * cos[i] - y * sin[i], &mut keys[at_a..]);
            store(kind, y * cos[i] + x * sin[i], &mut keys[at_b..]);
        }
    }
}

/// The element at the beginning of `bytes`.
fn load(kind: KvType, bytes: &[u8]) -> f32 {
    match kind {
        KvType::F32 => f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        KvType::F16 => f16::from_ne_bytes([bytes[0], bytes[1]]).to_f32(),
    }
}

/// Stores one element at the beginning of `out`.
fn store(kind: KvType, x: f32, out: &mut [u8]) {
    match kind {
        KvType::F32 => out[..4].copy_from_slice(&x.to_ne_bytes()),
        KvType::F16 => out[..2].copy_from_slice(&f16::from_f32(x).to_ne_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::pointwise::rope;

    /// `cos` and `sin` of `position` with two frequencies.
    fn angles(position: f64) -> (Vec<f32>, Vec<f32>) {
        [1.0, 0.13].iter().map(|f| ((position * f).cos() as f32, (position * f).sin() as f32)).unzip()
    }

    #[test]
    fn a_key_turned_back_is_the_key_of_the_earlier_position() {
        for (kind, tolerance) in [(KvType::F32, 1e-6), (KvType::F16, 2e-3)] {
            for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
                let (mut moved, mut expected) = (vec![0; tile_bytes(kind, 6)], vec![0; tile_bytes(kind, 6)]);
                for token in 0..TILE_TOKENS {
                    let key: Vec<f32> = (0..6).map(|i| ((token * 7 + i * 3) % 11) as f32 * 0.1 - 0.5).collect();
                    for (tile, position) in [(&mut moved, token + 64), (&mut expected, token)] {
                        let (mut key, (cos, sin)) = (key.clone(), angles(position as f64));
                        rope(style, &mut key, &cos, &sin);
                        store_key(kind, &key, tile, token);
                    }
                }
                let (cos, sin) = angles(-64.0);
                turn_keys(kind, style, &mut moved, &cos, &sin);
                for (a, b) in moved.chunks(kind.bytes()).zip(expected.chunks(kind.bytes())) {
                    assert!((load(kind, a) - load(kind, b)).abs() < tolerance, "{kind:?}, {style:?}");
                }
            }
        }
    }
}
