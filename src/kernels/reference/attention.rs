//! Attention over one tile, one query and one token at a time: scores, then their softmax folded into the running state.

use crate::kernels::block::blocks;
use crate::kernels::contract::{AttendParams, KvTile, KvType, SoftmaxState, TILE_TOKENS};
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
            let score = score(params, q, &tile, token);
            let max = state.max[i].max(score);
            let (shrink, weight) = ((state.max[i] - max).exp(), (score - max).exp());
            state.max[i] = max;
            state.sum[i] = state.sum[i] * shrink + weight;
            for (j, acc) in acc.iter_mut().enumerate() {
                *acc = *acc * shrink + weight * element(tile.kind, tile.values, token * n + j);
            }
        }
    }
}

/// `scale * (q . key)`, capped if the model says so.
fn score(params: &AttendParams, q: &[f32], tile: &KvTile<'_>, token: usize) -> f32 {
    let key = |j: usize| f64::from(element(tile.kind, tile.keys, j * TILE_TOKENS + token));
    let dot: f64 = q.iter().enumerate().map(|(j, q)| f64::from(*q) * key(j)).sum();
    let score = dot as f32 * params.scale;
    params.softcap.map_or(score, |cap| cap * (score / cap).tanh())
}

fn element(kind: KvType, tile: &[u8], i: usize) -> f32 {
    match kind {
        KvType::F32 => f32::from_ne_bytes(blocks(tile)[i]),
        KvType::F16 => f16::from_ne_bytes(blocks(tile)[i]).to_f32(),
    }
}
