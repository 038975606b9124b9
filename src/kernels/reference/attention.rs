//! Attention over one tile, one query and one token at a time: scores, then their softmax folded into the running state.

use crate::kernels::block::blocks;
use crate::kernels::contract::{AttendParams, KV_GROUP, KvTile, KvType, SoftmaxState, TILE_TOKENS};
use crate::kernels::shape::{AttendShape, elements_and_scales};
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
                *acc = *acc * shrink + weight * element(tile.kind, n, tile.values, token * n + j, (j, token));
            }
        }
    }
}

/// `scale * (q . key)`, capped if the model says so.
fn score(params: &AttendParams, q: &[f32], tile: &KvTile<'_>, token: usize) -> f32 {
    let key = |j: usize| f64::from(element(tile.kind, q.len(), tile.keys, j * TILE_TOKENS + token, (j, token)));
    let dot: f64 = q.iter().enumerate().map(|(j, q)| f64::from(*q) * key(j)).sum();
    let score = dot as f32 * params.scale;
    params.softcap.map_or(score, |cap| cap * (score / cap).tanh())
}

/// Element number `at` of the keys or values of a tile, which is number `j` of its head at `token`.
fn element(kind: KvType, head_dim: usize, half: &[u8], at: usize, (j, token): (usize, usize)) -> f32 {
    let (elements, scales) = elements_and_scales(kind, head_dim, half);
    match kind {
        KvType::F32 => f32::from_ne_bytes(blocks(elements)[at]),
        KvType::F16 => f16::from_ne_bytes(blocks(elements)[at]).to_f32(),
        KvType::Q8_0 => scales[j / KV_GROUP * TILE_TOKENS + token].to_f32() * f32::from(elements[at].cast_signed()),
    }
}
