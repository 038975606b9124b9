//! Attention over one tile of keys and values: the scores of its tokens, their softmax, then the weighted values.
//!
//! Consecutive queries that see the same tokens (the heads of a GQA group, and all queries of a full tile) share each read of a key or a
//! value. Nothing a query computes depends on which others it shares with: every lane is a token, or an element, of its own.

#![expect(clippy::needless_range_loop, reason = "tiles of registers are indexed in step with each other")]

use super::element::{Element, F16, F32, eights, widen_part};
use super::exp::{exp, tanh};
use super::vector::{load, load_part, max, store, store_part, sum};
use crate::kernels::block::blocks;
use crate::kernels::contract::{AttendParams, KvTile, KvType, SoftmaxState, TILE_TOKENS};
use crate::kernels::shape::AttendShape;
use std::arch::x86_64::*;
use std::ops::Range;

/// Queries that share the reads: eight accumulators with two vectors of tokens or values each, which hides the latency of the addition.
const QUERIES: usize = 4;

/// Vectors of scores of a tile.
const EIGHTS: usize = TILE_TOKENS / 8;

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn attend(params: &AttendParams, q: &[f32], tile: KvTile<'_>, visible: &[(u32, u32)], state: &mut SoftmaxState<'_>) {
    AttendShape::check(params, q, &tile, visible, state);
    match tile.kind {
        KvType::F32 => runs::<F32>(params, q, &tile, visible, state),
        KvType::F16 => runs::<F16>(params, q, &tile, visible, state),
    }
}

/// Splits the queries into runs that see the same tokens.
#[target_feature(enable = "avx2,fma,f16c")]
fn runs<E: Element>(params: &AttendParams, q: &[f32], tile: &KvTile<'_>, visible: &[(u32, u32)], state: &mut SoftmaxState<'_>) {
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
            1 => run.fold::<E, 1>(tile, tokens),
            2 => run.fold::<E, 2>(tile, tokens),
            3 => run.fold::<E, 3>(tile, tokens),
            _ => run.fold::<E, QUERIES>(tile, tokens),
        }
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
    fn fold<E: Element, const R: usize>(&mut self, tile: &KvTile<'_>, tokens: Range<usize>) {
        let mut weights = self.scores::<E, R>(tile.keys);
        for row in &mut weights {
            let row = row.as_flattened_mut();
            row[..tokens.start].fill(f32::NEG_INFINITY);
            row[tokens.end..].fill(f32::NEG_INFINITY);
        }
        let shrink = self.softmax::<R>(&mut weights);
        let row_bytes = self.params.head_dim * tile.kind.bytes();
        self.add_values::<E, R>(&Values { bytes: tile.values, row_bytes, tokens, weights: &weights, shrink });
    }

    /// `q . key` for all tokens of a tile, `keys`: `(head_dim, TILE_TOKENS)`. Each is one chain over the elements of the head.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn scores<E: Element, const R: usize>(&self, keys: &[u8]) -> Scores<R> {
        let n = self.params.head_dim;
        let rows = blocks::<E::Eight>(keys).as_chunks::<EIGHTS>().0;
        let mut queries = [&self.q[..n]; R];
        for r in 0..R {
            queries[r] = &self.q[r * n..(r + 1) * n];
        }
        let mut scores = [[[0.0; 8]; EIGHTS]; R];
        for half in [0, EIGHTS / 2] {
            let mut acc = [[_mm256_setzero_ps(); EIGHTS / 2]; R];
            for (j, row) in rows.iter().enumerate().take(n) {
                for i in 0..EIGHTS / 2 {
                    // SAFETY: this function has the same features.
                    let key = unsafe { E::widen(&row[half + i]) };
                    for r in 0..R {
                        acc[r][i] = _mm256_fmadd_ps(_mm256_set1_ps(queries[r][j]), key, acc[r][i]);
                    }
                }
            }
            for r in 0..R {
                for i in 0..EIGHTS / 2 {
                    store(&mut scores[r][half + i], self.scaled(acc[r][i]));
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
        let shrunk = exp(load(&shrink));
        store(&mut shrink, shrunk);
        for r in 0..R {
            let mut total = _mm256_setzero_ps();
            for eight in &mut scores[r] {
                let weight = exp(_mm256_sub_ps(load(eight), _mm256_set1_ps(self.max[r])));
                total = _mm256_add_ps(total, weight);
                store(eight, weight);
            }
            self.sum[r] = self.sum[r].mul_add(shrink[r], sum(total));
        }
        shrink
    }

    /// `acc = acc * shrink + weights . values` over the tokens of a tile.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn add_values<E: Element, const R: usize>(&mut self, values: &Values<'_, R>) {
        let n_eights = self.params.head_dim / 8;
        let pairs = n_eights - n_eights % 2;
        for first in (0..pairs).step_by(2) {
            self.add_eights::<E, R, 2>(values, first);
        }
        if pairs < n_eights {
            self.add_eights::<E, R, 1>(values, pairs);
        }
        if !self.params.head_dim.is_multiple_of(8) {
            self.add_rest::<E, R>(values, 8 * n_eights);
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

/// The values of a tile and what each query makes of them.
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
