//! How keys and values go into a tile of the cache.

use crate::kernels::contract::{KV_GROUP, KvType, RopeStyle, TILE_TOKENS};
use crate::kernels::reference::pointwise::rope;
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

/// Rotates all keys of a tile by the same angles, given as `cos` and `sin`, `(n_pairs,)`. `key` is scratch, `(head_dim,)`.
pub fn turn_keys(kind: KvType, style: RopeStyle, keys: &mut [u8], (cos, sin): (&[f32], &[f32]), key: &mut [f32]) {
    for token in 0..TILE_TOKENS {
        load_key(kind, keys, token, key);
        rope(style, key, cos, sin);
        store_key(kind, key, keys, token);
    }
}

/// Writes a tile's `keys` as values, for caches whose keys are values, too: the same elements, token by token.
///
/// # Panics
/// If the two are not halves of a tile of heads of `head_dim`.
pub fn keys_as_values(kind: KvType, head_dim: usize, keys: &[u8], values: &mut [u8]) {
    assert!(keys.len() == tile_bytes(kind, head_dim) && values.len() == keys.len(), "{} and {} bytes", keys.len(), values.len());
    match kind {
        KvType::F32 => transpose::<4>(keys, values),
        KvType::F16 => transpose::<2>(keys, values),
        KvType::Q8_0 => {
            let n_quants = TILE_TOKENS * head_dim;
            transpose::<1>(&keys[..n_quants], &mut values[..n_quants]);
            values[n_quants..].copy_from_slice(&keys[n_quants..]); // scales lie alike
        }
    }
}

/// `(n, TILE_TOKENS)` elements of `N` bytes to `(TILE_TOKENS, n)`.
fn transpose<const N: usize>(from: &[u8], to: &mut [u8]) {
    let (from, to) = (from.as_chunks::<N>().0.as_chunks::<TILE_TOKENS>().0, to.as_chunks_mut::<N>().0);
    let n = from.len();
    for (i, rows) in from.chunks(TRANSPOSED_ROWS).enumerate() {
        for (token, to) in to.chunks_exact_mut(n).enumerate() {
            let out = &mut to[i * TRANSPOSED_ROWS..][..rows.len()];
            out.iter_mut().zip(rows).for_each(|(out, row)| *out = row[token]);
        }
    }
}

/// Rows of keys that are transposed together: a few cache lines of them and of each value.
const TRANSPOSED_ROWS: usize = 16;

/// The reverse of [`store_key`].
fn load_key(kind: KvType, keys: &[u8], token: usize, key: &mut [f32]) {
    assert!(keys.len() == tile_bytes(kind, key.len()) && token < TILE_TOKENS, "token {token} of a tile of {} bytes", keys.len());
    let place = |j: usize| j * TILE_TOKENS + token;
    let n_elements = TILE_TOKENS * key.len();
    for (j, x) in key.iter_mut().enumerate() {
        *x = match kind {
            KvType::F32 => f32::from_ne_bytes(keys.as_chunks().0[place(j)]),
            KvType::F16 => f16::from_ne_bytes(keys.as_chunks().0[place(j)]).to_f32(),
            KvType::Q8_0 => {
                let scale = f16::from_le_bytes(keys[n_elements..].as_chunks().0[place(j / KV_GROUP)]);
                f32::from(keys[place(j)].cast_signed()) * scale.to_f32()
            }
        };
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_DIM: usize = 32;

    /// `cos` and `sin` of `position` with three frequencies.
    fn angles(position: f64) -> (Vec<f32>, Vec<f32>) {
        [1.0, 0.13, 0.01].iter().map(|f| ((position * f).cos() as f32, (position * f).sin() as f32)).unzip()
    }

    #[test]
    fn a_key_turned_back_is_the_key_of_the_earlier_position() {
        for (kind, tolerance) in [(KvType::F32, 1e-6), (KvType::F16, 1e-3), (KvType::Q8_0, 1e-2)] {
            for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
                let (mut moved, mut expected) = (vec![0; tile_bytes(kind, HEAD_DIM)], vec![0; tile_bytes(kind, HEAD_DIM)]);
                for token in 0..TILE_TOKENS {
                    let key: Vec<f32> = (0..HEAD_DIM).map(|i| ((token * 7 + i * 3) % 11) as f32 * 0.1 - 0.5).collect();
                    for (tile, position) in [(&mut moved, token + 64), (&mut expected, token)] {
                        let (mut key, (cos, sin)) = (key.clone(), angles(position as f64));
                        rope(style, &mut key, &cos, &sin);
                        store_key(kind, &key, tile, token);
                    }
                }
                let ((cos, sin), mut a, mut b) = (angles(-64.0), [0.0; HEAD_DIM], [0.0; HEAD_DIM]);
                turn_keys(kind, style, &mut moved, (&cos, &sin), &mut a);
                for token in 0..TILE_TOKENS {
                    load_key(kind, &moved, token, &mut a);
                    load_key(kind, &expected, token, &mut b);
                    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance), "{kind:?}, {style:?}, {a:?}, {b:?}");
                }
            }
        }
    }
}
