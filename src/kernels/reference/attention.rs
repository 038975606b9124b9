//! Attention over one tile, one query and one token at a time: scores, then their softmax folded into the running state.

use crate::kernels::block::blocks;
use crate::kernels::contract::{AttendParams, KvTile, KvType, SoftmaxState};
use crate::kernels::shape::AttendShape;
use half::f16;

/// Online softmax (Milakov and Gimelshein 2018): when the largest score grows, what was summed before shrinks by the same factor.
///
/// # Panics
/// If the shapes do not agree.
pub(crate) fn attend(params: &AttendParams, q: &[f32], tile: KvTile<'_>, visible: &[(u32, u32)], state: &mut SoftmaxState<'_>) {
    AttendShape::check(params, q, &tile, visible, state);
    let n = params.head_dim;
    for (i, &(start, end)) in visible.iter().enumerate() {
        let (q, acc) = (&q[i * n..(i + 1) * n], &mut state.acc[i * n..(i + 1) * n]);
        for token in start as usize..end as usize {
            let score = score(params, q, tile.kind, token_row(tile.keys, tile.kind, token, n));
            let max = state.max[i].max(score);
            let (shrink, weight) = ((state.max[i] - max).exp(), (score - max).exp());
            state.max[i] = max;
            state.sum[i] = state.sum[i] * shrink + weight;
            let value = token_row(tile.values, tile.kind, token, n);
            for (j, acc) in acc.iter_mut().enumerate() {
                *acc = *acc * shrink + weight * element(tile.kind, value, j);
            }
        }
    }
}

/// `scale * (q . key)`, capped if the model says so.
fn score(params: &AttendParams, q: &[f32], kind: KvType, key: &[u8]) -> f32 {
    let dot: f64 = q.iter().enumerate().map(|(j, q)| f64::from(*q) * f64::from(element(kind, key, j))).sum();
    let score = dot as f32 * params.scale;
    params.softcap.map_or(score, |cap| cap * (score / cap).tanh())
}

fn token_row(tile: &[u8], kind: KvType, token: usize, head_dim: usize) -> &[u8] {
    let bytes = head_dim * kind.bytes();
    &tile[token * bytes..(token + 1) * bytes]
}

fn element(kind: KvType, row: &[u8], i: usize) -> f32 {
    match kind {
        KvType::F32 => f32::from_ne_bytes(blocks(row)[i]),
        KvType::F16 => f16::from_ne_bytes(blocks(row)[i]).to_f32(),
    }
}
