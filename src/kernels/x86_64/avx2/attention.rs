//! Attention over one tile of keys and values: scores of 32 tokens, their softmax, then the weighted values.
//!
//! Consecutive queries that see the same tokens (the heads of a GQA group, and all queries of a full tile) share each read of a key or a
//! value. Nothing a query computes depends on which others it shares with: lanes and pieces sit at absolute positions of the tile.

#![expect(clippy::needless_range_loop, reason = "tiles of registers are indexed in step with each other")]

use super::element::{Element, F16, F32, eights, widen_part};
use super::exp::{exp, tanh};
use super::vector::{load, load_part, max, store, store_part, sum};
use crate::kernels::contract::{AttendParams, KvTile, KvType, SoftmaxState};
use crate::kernels::shape::AttendShape;
use std::arch::x86_64::*;
use std::ops::Range;

/// Queries that share the reads: eight accumulators with two vectors of values each, which hides the latency of the addition.
const QUERIES: usize = 4;

/// Tokens whose scores are held at once. Pieces begin at multiples of it.
const PIECE: usize = 32;

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
        let mut run = Run {
            params,
            q: &q[rows.start * n..rows.end * n],
            max: &mut state.max[rows.clone()],
            sum: &mut state.sum[rows.clone()],
            acc: &mut state.acc[rows.start * n..rows.end * n],
        };
        let tokens = start as usize..end as usize;
        match len {
            1 => run.pieces::<E, 1>(tile, tokens),
            2 => run.pieces::<E, 2>(tile, tokens),
            3 => run.pieces::<E, 3>(tile, tokens),
            _ => run.pieces::<E, QUERIES>(tile, tokens),
        }
        first += len;
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

impl Run<'_> {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn pieces<E: Element, const R: usize>(&mut self, tile: &KvTile<'_>, tokens: Range<usize>) {
        let row_bytes = self.params.head_dim * tile.kind.bytes();
        let mut start = tokens.start;
        while start < tokens.end {
            let base = start - start % PIECE;
            let end = tokens.end.min(base + PIECE);
            let bytes = base * row_bytes..end * row_bytes;
            let (keys, values) = (&tile.keys[bytes.clone()], &tile.values[bytes]);
            let tokens = start - base..end - base;
            let mut weights = self.scores::<E, R>(keys, tokens.clone());
            let shrink = self.softmax::<R>(&mut weights);
            self.add_values::<E, R>(&Values { bytes: values, row_bytes, tokens, weights: &weights, shrink });
            start = end;
        }
    }

    /// `q . key` for the tokens of a piece (`keys`: `(tokens.end, head_dim)`); minus infinity for the others.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn scores<E: Element, const R: usize>(&self, keys: &[u8], tokens: Range<usize>) -> [[f32; PIECE]; R] {
        let n = self.params.head_dim;
        let row_bytes = n * (size_of::<E::Eight>() / 8);
        let mut scores = [[f32::NEG_INFINITY; PIECE]; R];
        let mut queries = [&self.q[..n]; R];
        for r in 0..R {
            queries[r] = &self.q[r * n..(r + 1) * n];
        }
        for token in tokens {
            let dots = dots::<E, R>(queries, &keys[token * row_bytes..(token + 1) * row_bytes]);
            for r in 0..R {
                scores[r][token] = dots[r];
            }
        }
        scores
    }

    /// Turns scores into weights `exp(score - max)` and takes them into maxima and sums. Returns what the accumulators shrink by.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn softmax<const R: usize>(&mut self, scores: &mut [[f32; PIECE]; R]) -> [f32; R] {
        let mut shrink = [1.0; R];
        for r in 0..R {
            let eights = scores[r].as_chunks_mut::<8>().0;
            let mut largest = _mm256_set1_ps(self.max[r]);
            for eight in eights.iter_mut() {
                let score = self.scaled(load(eight));
                largest = _mm256_max_ps(largest, score);
                store(eight, score);
            }
            let largest = max(largest);
            let mut total = _mm256_setzero_ps();
            for eight in eights {
                let weight = exp(_mm256_sub_ps(load(eight), _mm256_set1_ps(largest)));
                total = _mm256_add_ps(total, weight);
                store(eight, weight);
            }
            shrink[r] = _mm256_cvtss_f32(exp(_mm256_set1_ps(self.max[r] - largest)));
            self.max[r] = largest;
            self.sum[r] = self.sum[r].mul_add(shrink[r], sum(total));
        }
        shrink
    }

    /// A dot product as a score: scaled, and capped if the model says so. Keeps minus infinity.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn scaled(&self, dot: __m256) -> __m256 {
        let score = _mm256_mul_ps(dot, _mm256_set1_ps(self.params.scale));
        let Some(cap) = self.params.softcap else { return score };
        let cap = _mm256_set1_ps(cap);
        let capped = _mm256_mul_ps(cap, tanh(_mm256_div_ps(score, cap)));
        let masked = _mm256_cmp_ps::<_CMP_EQ_OQ>(dot, _mm256_set1_ps(f32::NEG_INFINITY));
        _mm256_blendv_ps(capped, dot, masked)
    }

    /// `acc = acc * shrink + weights . values` over the tokens of a piece.
    #[target_feature(enable = "avx2,fma,f16c")]
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
                    acc[r][i] = _mm256_fmadd_ps(_mm256_set1_ps(values.weights[r][token]), value, acc[r][i]);
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
                acc = _mm256_fmadd_ps(_mm256_set1_ps(values.weights[r][token]), value, acc);
            }
            store_part(rest, acc);
        }
    }
}

/// The values of a piece and what each query makes of them.
struct Values<'a, const R: usize> {
    /// `(tokens.end, head_dim)`
    bytes: &'a [u8],
    row_bytes: usize,
    tokens: Range<usize>,
    weights: &'a [[f32; PIECE]; R],
    shrink: [f32; R],
}

impl<const R: usize> Values<'_, R> {
    #[inline]
    fn row(&self, token: usize) -> &[u8] {
        &self.bytes[token * self.row_bytes..(token + 1) * self.row_bytes]
    }
}

/// The dot products of `R` queries with one key; each is one chain of eight lanes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn dots<E: Element, const R: usize>(queries: [&[f32]; R], key: &[u8]) -> [f32; R] {
    let (key, key_rest) = eights::<E>(key);
    let queries = queries.map(|q| (&q.as_chunks::<8>().0[..key.len()], q.as_chunks::<8>().1));
    let mut acc = [_mm256_setzero_ps(); R];
    for (i, key) in key.iter().enumerate() {
        // SAFETY: this function has the same features.
        let key = unsafe { E::widen(key) };
        for r in 0..R {
            acc[r] = _mm256_fmadd_ps(load(&queries[r].0[i]), key, acc[r]);
        }
    }
    if !key_rest.is_empty() {
        let key = widen_part::<E>(key_rest);
        for r in 0..R {
            acc[r] = _mm256_fmadd_ps(load_part(queries[r].1), key, acc[r]);
        }
    }
    let mut out = [0.0; R];
    for r in 0..R {
        out[r] = sum(acc[r]);
    }
    out
}
