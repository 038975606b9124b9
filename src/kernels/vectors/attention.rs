//! Attention over one tile of keys and values: the scores of its tokens, their softmax, then the weighted values.
//!
//! Consecutive queries that see the same tokens (the heads of a GQA group, and all queries of a full tile) share each read of a key or a
//! value. Nothing a query computes depends on which others it shares with: every lane is a token, or an element, of its own.

#![expect(clippy::needless_range_loop, reason = "tiles of registers are indexed in step with each other")]

use super::exp::{exp_weight, tanh};
use super::floats::{Floats, all, load_part, store_part};
use crate::kernels::block::{Block, F16Bytes, blocks};
use crate::kernels::contract::{AttendParams, KV_GROUP, KvTile, KvType, SoftmaxState, TILE_TOKENS};
use crate::kernels::shape::{AttendShape, elements_and_scales};
use std::ops::Range;

/// Queries that share the reads: eight accumulators with two vectors of tokens or values each, which hides the latency of the addition.
const QUERIES: usize = 4;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Vectors of scores of a tile.
const EIGHTS: usize = TILE_TOKENS / 8;

/// How keys and values are stored, eight elements at a time.
trait Element {
    /// The bytes of eight elements.
    type Eight: Block;

    /// True if widened elements are still to be multiplied by the scale of their group.
    const SCALED: bool = false;

    /// Eight elements as `f32`, exactly.
    fn widen<V: Floats>(v: V, eight: &Self::Eight) -> V::F;
}

/// IEEE single precision.
struct F32;
/// IEEE half precision.
struct F16;
/// A quant of Q8_0.
struct Q8;

impl Element for F32 {
    type Eight = [[u8; 4]; 8];

    #[inline(always)]
    fn widen<V: Floats>(v: V, eight: &[[u8; 4]; 8]) -> V::F {
        v.f32(eight)
    }
}

impl Element for F16 {
    type Eight = [[u8; 2]; 8];

    #[inline(always)]
    fn widen<V: Floats>(v: V, eight: &[[u8; 2]; 8]) -> V::F {
        v.f16(eight)
    }
}

impl Element for Q8 {
    type Eight = [u8; 8];

    const SCALED: bool = true;

    #[inline(always)]
    fn widen<V: Floats>(v: V, eight: &[u8; 8]) -> V::F {
        v.bytes(eight)
    }
}

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
#[inline(always)]
pub(in crate::kernels) fn attend<V: Floats>(
    v: V,
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
        KvType::Q8_0 => runs::<V, Q8>(v, params, q, tiles, visible, state),
        KvType::F32 => runs::<V, F32>(v, params, q, tiles, visible, state),
        KvType::F16 => runs::<V, F16>(v, params, q, tiles, visible, state),
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
#[inline(always)]
fn runs<V: Floats, E: Element>(
    v: V,
    params: &AttendParams,
    q: &[f32],
    mut tiles: Tiles<'_>,
    visible: &[(u32, u32)],
    state: &mut SoftmaxState<'_>,
) {
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
            v,
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
struct Run<'a, V> {
    v: V,
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

impl<V: Floats> Run<'_, V> {
    #[inline(always)]
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
            let weights = scaled_weights(self.v, &weights, scales);
            self.add_values::<E, R>(&Values { weights: &weights, ..values.clone() }, g * KV_GROUP..(g + 1) * KV_GROUP);
        }
    }

    /// `q . key` for all tokens of a tile. Each is one chain over the elements of the head.
    #[inline(always)]
    fn scores<E: Element, const R: usize>(&self, tiles: &Tiles<'_>) -> Scores<R> {
        let (v, n) = (self.v, self.params.head_dim);
        let rows = blocks::<E::Eight>(tiles.keys).as_chunks::<EIGHTS>().0;
        let mut queries = [&self.q[..n]; R];
        for r in 0..R {
            queries[r] = &self.q[r * n..(r + 1) * n];
        }
        let mut scores = [[[0.0; 8]; EIGHTS]; R];
        for half in [0, EIGHTS / 2] {
            let mut acc = [[all(v, 0.0); EIGHTS / 2]; R];
            // One half asks for the next keys, the other one for the values: few lines at a time.
            let next = if half == 0 { tiles.next.keys } else { tiles.next.values };
            let mut total = acc;
            for (j, row) in rows.iter().enumerate().take(n) {
                for at in (0..size_of_val(row)).step_by(LINE) {
                    if let Some(byte) = next.get(j * size_of_val(row) + at) {
                        v.prefetch(byte, 0);
                    }
                }
                for i in 0..EIGHTS / 2 {
                    let key = E::widen(v, &row[half + i]);
                    for r in 0..R {
                        acc[r][i] = v.mul_add(all(v, queries[r][j]), key, acc[r][i]);
                    }
                }
                if E::SCALED && (j + 1).is_multiple_of(KV_GROUP) {
                    let scales = &tiles.key_scales[j / KV_GROUP * TILE_TOKENS..][..TILE_TOKENS].as_chunks::<8>().0[half..];
                    for i in 0..EIGHTS / 2 {
                        let scale = v.f16(&scales[i].map(|x| x.0));
                        for r in 0..R {
                            total[r][i] = v.mul_add(acc[r][i], scale, total[r][i]);
                            acc[r][i] = all(v, 0.0);
                        }
                    }
                }
            }
            let dots = if E::SCALED { &total } else { &acc };
            for r in 0..R {
                for i in 0..EIGHTS / 2 {
                    v.store(self.scaled(dots[r][i]), &mut scores[r][half + i]);
                }
            }
        }
        scores
    }

    /// A dot product as a score: scaled, and capped if the model says so.
    #[inline(always)]
    fn scaled(&self, dot: V::F) -> V::F {
        let v = self.v;
        let score = v.mul(dot, all(v, self.params.scale));
        let Some(cap) = self.params.softcap else { return score };
        let cap = all(v, cap);
        v.mul(cap, tanh(v, v.div(score, cap)))
    }

    /// Turns scores into weights `exp(score - max)` and takes them into maxima and sums. Returns what the accumulators shrink by.
    #[inline(always)]
    fn softmax<const R: usize>(&mut self, scores: &mut Scores<R>) -> [f32; 8] {
        let v = self.v;
        // Lanes behind the queries: exp(0), not used.
        let mut shrink = [0.0; 8];
        for r in 0..R {
            let [a, b, c, d] = &scores[r];
            let pairs = [v.max(v.load(a), v.load(b)), v.max(v.load(c), v.load(d))];
            let largest = v.largest(v.max(pairs[0], pairs[1])).max(self.max[r]);
            shrink[r] = self.max[r] - largest;
            self.max[r] = largest;
        }
        let shrunk = exp_weight(v, v.load(&shrink));
        v.store(shrunk, &mut shrink);
        for r in 0..R {
            let mut total = all(v, 0.0);
            for eight in &mut scores[r] {
                let weight = exp_weight(v, v.minus(v.load(eight), all(v, self.max[r])));
                total = v.add(total, weight);
                v.store(weight, eight);
            }
            self.sum[r] = self.sum[r].mul_add(shrink[r], v.sum(total));
        }
        shrink
    }

    /// `acc = acc * shrink + weights . values` over the tokens of a tile, for some elements of each head, from a multiple of eight on.
    #[inline(always)]
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
    #[inline(always)]
    fn add_eights<E: Element, const R: usize, const N: usize>(&mut self, values: &Values<'_, R>, first: usize) {
        let (v, n) = (self.v, self.params.head_dim);
        let mut acc = [[all(v, 0.0); N]; R];
        for r in 0..R {
            let eights = self.acc[r * n..(r + 1) * n].as_chunks::<8>().0;
            for i in 0..N {
                acc[r][i] = v.mul(v.load(&eights[first + i]), all(v, values.shrink[r]));
            }
        }
        for token in values.tokens.clone() {
            let row = &eights::<E>(values.row(token)).0[first..first + N];
            for i in 0..N {
                let value = E::widen(v, &row[i]);
                for r in 0..R {
                    acc[r][i] = v.mul_add(all(v, values.weight(r, token)), value, acc[r][i]);
                }
            }
        }
        for r in 0..R {
            let eights = self.acc[r * n..(r + 1) * n].as_chunks_mut::<8>().0;
            for i in 0..N {
                v.store(acc[r][i], &mut eights[first + i]);
            }
        }
    }

    /// [`Self::add_values`] for the elements behind the last whole eight.
    #[inline(always)]
    fn add_rest<E: Element, const R: usize>(&mut self, values: &Values<'_, R>, first: usize) {
        let (v, n) = (self.v, self.params.head_dim);
        for r in 0..R {
            let rest = &mut self.acc[r * n + first..(r + 1) * n];
            let mut acc = v.mul(load_part(v, rest), all(v, values.shrink[r]));
            for token in values.tokens.clone() {
                let value = widen_part::<V, E>(v, eights::<E>(values.row(token)).1);
                acc = v.mul_add(all(v, values.weight(r, token)), value, acc);
            }
            store_part(v, rest, acc);
        }
    }
}

/// A row as whole eights and the bytes of the (fewer than eight) elements behind them.
#[inline(always)]
fn eights<E: Element>(row: &[u8]) -> (&[E::Eight], &[u8]) {
    let (whole, rest) = row.split_at(row.len() - row.len() % size_of::<E::Eight>());
    (blocks(whole), rest)
}

/// Fewer than eight elements, zeros behind them.
#[inline(always)]
fn widen_part<V: Floats, E: Element>(v: V, rest: &[u8]) -> V::F {
    let mut bytes = [0; 32];
    bytes[..rest.len()].copy_from_slice(rest);
    E::widen(v, &blocks(&bytes[..size_of::<E::Eight>()])[0])
}

/// Weights of quants: those of the values, times the scale of a group of each token.
#[inline(always)]
fn scaled_weights<V: Floats, const R: usize>(v: V, weights: &Scores<R>, scales: &[F16Bytes; TILE_TOKENS]) -> Scores<R> {
    let mut scaled = *weights;
    for (i, scales) in scales.as_chunks::<8>().0.iter().enumerate() {
        let scale = v.f16(&scales.map(|x| x.0));
        for row in &mut scaled {
            let weight = v.mul(v.load(&row[i]), scale);
            v.store(weight, &mut row[i]);
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
