//! Attention over one tile of keys and values: the scores of its tokens, their softmax, then the weighted values.
//!
//! Consecutive queries that see the same tokens (the heads of a GQA group, and all queries of a full tile) share each read of a key or a
//! value. Nothing a query computes depends on which others it shares with: every lane is a token, or an element, of its own.

#![expect(clippy::needless_range_loop, reason = "tiles of registers are indexed in step with each other")]

use super::element::{Element, F16, F32, Q8, eights, widen_part};
use super::exp::{exp_weight, tanh};
use super::vector::{load, load_f16, load_part, max, prefetch, store, store_part, sum};
use crate::kernels::block::{F16Bytes, blocks};
use crate::kernels::contract::{AttendParams, KV_GROUP, KvTile, KvType, SoftmaxState, TILE_TOKENS};
use crate::kernels::shape::{AttendShape, elements_and_scales};
use std::arch::x86_64::*;
use std::ops::Range;

/// Queries that share the reads: eight accumulators with two vectors of tokens or values each, which hides the latency of the addition.
const QUERIES: usize = 4;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Vectors of scores of a tile.
const EIGHTS: usize = TILE_TOKENS / 8;

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn attend(
    params: &AttendParams,
    q: &[f32],
    tile: KvTile<'_>,
    next: Option<KvTile<'_>>,
    visible: &[(u32, u32)],
    state: &mut SoftmaxState<'_>,
) {
    AttendShape::check(params, q, &tile, visible, state);
    let (keys, key_scales) = elements_and_scales(tile.kind, params.head_dim, tile.keys);
    let (values, value_scales) = elements_and_scales(tile.kind, params.head_dim, tile.values);
    let next = next.unwrap_or(KvTile { keys: &[], values: &[], ..tile });
    let tiles = Tiles { keys, key_scales, values, value_scales, next };
    match tile.kind {
        KvType::Q8_0 => runs::<Q8>(params, q, tiles, visible, state),
        KvType::F32 => runs::<F32>(params, q, tiles, visible, state),
        KvType::F16 => runs::<F16>(params, q, tiles, visible, state),
    }
}

/// The tile that is read, and the one to ask memory for meanwhile (empty if there is none).
#[derive(Clone, Copy)]
struct Tiles<'a> {
    /// `(head_dim, TILE_TOKENS)`
    keys: &'a [u8],
    /// `(head_dim / KV_GROUP, TILE_TOKENS)`, or empty
    key_scales: &'a [F16Bytes],
    /// `(TILE_TOKENS, head_dim)`
    values: &'a [u8],
    /// As those of the keys.
    value_scales: &'a [F16Bytes],
    next: KvTile<'a>,
}

/// Splits the queries into runs that see the same tokens.
#[target_feature(enable = "avx2,fma,f16c")]
fn runs<E: Element>(params: &AttendParams, q: &[f32], mut tiles: Tiles<'_>, visible: &[(u32, u32)], state: &mut SoftmaxState<'_>) {
    let n = params.head_dim;
    let mut first = 0;
    while let Some(&(start, end)) = visible.get(first) {
        let len = visible[first..].iter().take(QUERIES).take_while(|v| **v == (start, end)).count();
        let rows = first..first + len;
        first += len;
        if start >= end {
            continue;
        }
        let mut run = Run {
            params,
            q: &q[rows.start * n..rows.end * n],
            max: &mut state.max[rows.clone()],
            sum: &mut state.sum[rows.clone()],
            acc: &mut state.acc[rows.start * n..rows.end * n],
        };
        let tokens = start as usize..end as usize;
        match len {
            1 => run.fold::<E, 1>(&tiles, tokens),
            2 => run.fold::<E, 2>(&tiles, tokens),
            3 => run.fold::<E, 3>(&tiles, tokens),
            _ => run.fold::<E, QUERIES>(&tiles, tokens),
        }
        (tiles.next.keys, tiles.next.values) = (&[], &[]); // asked for once
    }
}

/// Up to [`QUERIES`] queries and their state.
struct Run<'a> {
    params: &'a AttendParams,
    /// `(n_queries, head_dim)`
    q: &'a [f32],
    /// `(n_queries,)`
    max: &'a mut [f32],
    /// `(n_queries,)`
    sum: &'a mut [f32],
    /// `(n_queries, head_dim)`
    acc: &'a mut [f32],
}

/// For each of `R` queries the scores, later the weights, of a tile's tokens.
type Scores<const R: usize> = [[[f32; 8]; EIGHTS]; R];

impl Run<'_> {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn fold<E: Element, const R: usize>(&mut self, tiles: &Tiles<'_>, tokens: Range<usize>) {
        let mut weights = self.scores::<E, R>(tiles);
        for row in &mut weights {
            let row = row.as_flattened_mut();
            row[..tokens.start].fill(f32::NEG_INFINITY);
            row[tokens.end..].fill(f32::NEG_INFINITY);
        }
        let shrink = self.softmax::<R>(&mut weights);
        let row_bytes = tiles.values.len() / TILE_TOKENS;
        let values = Values { bytes: tiles.values, row_bytes, tokens, weights: &weights, shrink };
        if !E::SCALED {
            return self.add_values::<E, R>(&values, 0..self.params.head_dim);
        }
        for (g, scales) in tiles.value_scales.as_chunks::<TILE_TOKENS>().0.iter().enumerate() {
            let weights = scaled_weights(&weights, scales);
            self.add_values::<E, R>(&Values { weights: &weights, ..values.clone() }, g * KV_GROUP..(g + 1) * KV_GROUP);
        }
    }

    /// `q . key` for all tokens of a tile. Each is one chain over the elements of the head.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn scores<E: Element, const R: usize>(&self, tiles: &Tiles<'_>) -> Scores<R> {
        let n = self.params.head_dim;
        let rows = blocks::<E::Eight>(tiles.keys).as_chunks::<EIGHTS>().0;
        let mut queries = [&self.q[..n]; R];
        for r in 0..R {
            queries[r] = &self.q[r * n..(r + 1) * n];
        }
        let mut scores = [[[0.0; 8]; EIGHTS]; R];
        for half in [0, EIGHTS / 2] {
            let mut acc = [[_mm256_setzero_ps(); EIGHTS / 2]; R];
            // One half asks for the next keys, the other one for the values: few lines at a time.
            let next = if half == 0 { tiles.next.keys } else { tiles.next.values };
            let mut total = acc;
            for (j, row) in rows.iter().enumerate().take(n) {
                (0..size_of_val(row)).step_by(LINE).for_each(|at| prefetch(next, j * size_of_val(row) + at));
                for i in 0..EIGHTS / 2 {
                    // SAFETY: this function has the same features.
                    let key = unsafe { E::widen(&row[half + i]) };
                    for r in 0..R {
                        acc[r][i] = _mm256_fmadd_ps(_mm256_set1_ps(queries[r][j]), key, acc[r][i]);
                    }
                }
                if E::SCALED && (j + 1).is_multiple_of(KV_GROUP) {
                    let scales = &tiles.key_scales[j / KV_GROUP * TILE_TOKENS..][..TILE_TOKENS].as_chunks::<8>().0[half..];
                    for i in 0..EIGHTS / 2 {
                        let scale = load_f16(&scales[i]);
                        for r in 0..R {
                            total[r][i] = _mm256_fmadd_ps(acc[r][i], scale, total[r][i]);
                            acc[r][i] = _mm256_setzero_ps();
                        }
                    }
                }
            }
            let dots = if E::SCALED { &total } else { &acc };
            for r in 0..R {
                for i in 0..EIGHTS / 2 {
                    store(&mut scores[r][half + i], self.scaled(dots[r][i]));
                }
            }
        }
        scores
    }

    /// A dot product as a score: scaled, and capped if the model says so.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn scaled(&self, dot: __m256) -> __m256 {
        let score = _mm256_mul_ps(dot, _mm256_set1_ps(self.params.scale));
        let Some(cap) = self.params.softcap else { return score };
        let cap = _mm256_set1_ps(cap);
        _mm256_mul_ps(cap, tanh(_mm256_div_ps(score, cap)))
    }

    /// Turns scores into weights `exp(score - max)` and takes them into maxima and sums. Returns what the accumulators shrink by.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn softmax<const R: usize>(&mut self, scores: &mut Scores<R>) -> [f32; 8] {
        // Lanes behind the queries: exp(0), not used.
        let mut shrink = [0.0; 8];
        for r in 0..R {
            let pairs = [0, 2].map(|i| _mm256_max_ps(load(&scores[r][i]), load(&scores[r][i + 1])));
            let largest = max(_mm256_max_ps(pairs[0], pairs[1])).max(self.max[r]);
            shrink[r] = self.max[r] - largest;
            self.max[r] = largest;
        }
        let shrunk = exp_weight(load(&shrink));
        store(&mut shrink, shrunk);
        for r in 0..R {
            let mut total = _mm256_setzero_ps();
            for eight in &mut scores[r] {
                let weight = exp_weight(_mm256_sub_ps(load(eight), _mm256_set1_ps(self.max[r])));
                total = _mm256_add_ps(total, weight);
                store(eight, weight);
            }
            self.sum[r] = self.sum[r].mul_add(shrink[r], sum(total));
        }
        shrink
    }

    /// `acc = acc * shrink + weights . values` over the tokens of a tile, for some elements of each head, from a multiple of eight on.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn add_values<E: Element, const R: usize>(&mut self, values: &Values<'_, R>, elements: Range<usize>) {
        let whole = elements.start / 8..elements.end / 8;
        let pairs = whole.end - whole.len() % 2;
        for first in (whole.start..pairs).step_by(2) {
            self.add_eights::<E, R, 2>(values, first);
        }
        if pairs < whole.end {
            self.add_eights::<E, R, 1>(values, pairs);
        }
        if !elements.end.is_multiple_of(8) {
            self.add_rest::<E, R>(values, 8 * whole.end);
        }
    }

    /// [`Self::add_values`] for the elements `8 * first .. 8 * (first + N)` of each head.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn add_eights<E: Element, const R: usize, const N: usize>(&mut self, values: &Values<'_, R>, first: usize) {
        let n = self.params.head_dim;
        let mut acc = [[_mm256_setzero_ps(); N]; R];
        for r in 0..R {
            let eights = self.acc[r * n..(r + 1) * n].as_chunks::<8>().0;
            for i in 0..N {
                acc[r][i] = _mm256_mul_ps(load(&eights[first + i]), _mm256_set1_ps(values.shrink[r]));
            }
        }
        for token in values.tokens.clone() {
            let row = &eights::<E>(values.row(token)).0[first..first + N];
            for i in 0..N {
                // SAFETY: this function has the same features.
                let value = unsafe { E::widen(&row[i]) };
                for r in 0..R {
                    acc[r][i] = _mm256_fmadd_ps(_mm256_set1_ps(values.weight(r, token)), value, acc[r][i]);
                }
            }
        }
        for r in 0..R {
            let eights = self.acc[r * n..(r + 1) * n].as_chunks_mut::<8>().0;
            for i in 0..N {
                store(&mut eights[first + i], acc[r][i]);
            }
        }
    }

    /// [`Self::add_values`] for the elements behind the last whole eight.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn add_rest<E: Element, const R: usize>(&mut self, values: &Values<'_, R>, first: usize) {
        let n = self.params.head_dim;
        for r in 0..R {
            let rest = &mut self.acc[r * n + first..(r + 1) * n];
            let mut acc = _mm256_mul_ps(load_part(rest), _mm256_set1_ps(values.shrink[r]));
            for token in values.tokens.clone() {
                let value = widen_part::<E>(eights::<E>(values.row(token)).1);
                acc = _mm256_fmadd_ps(_mm256_set1_ps(values.weight(r, token)), value, acc);
            }
            store_part(rest, acc);
        }
    }
}

/// Weights of quants: those of the values, times the scale of a group of each token.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn scaled_weights<const R: usize>(weights: &Scores<R>, scales: &[F16Bytes; TILE_TOKENS]) -> Scores<R> {
    let mut scaled = *weights;
    for (i, scales) in scales.as_chunks::<8>().0.iter().enumerate() {
        let scale = load_f16(scales);
        for row in &mut scaled {
            let weight = _mm256_mul_ps(load(&row[i]), scale);
            store(&mut row[i], weight);
        }
    }
    scaled
}

/// The values of a tile and what each query makes of them.
#[derive(Clone)]
struct Values<'a, const R: usize> {
    /// `(TILE_TOKENS, head_dim)`
    bytes: &'a [u8],
    row_bytes: usize,
    tokens: Range<usize>,
    weights: &'a Scores<R>,
    shrink: [f32; 8],
}

impl<const R: usize> Values<'_, R> {
    #[inline]
    fn row(&self, token: usize) -> &[u8] {
        &self.bytes[token * self.row_bytes..(token + 1) * self.row_bytes]
    }

    #[inline]
    fn weight(&self, r: usize, token: usize) -> f32 {
        self.weights[r].as_flattened()[token]
    }
}
