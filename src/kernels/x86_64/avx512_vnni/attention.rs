//! Attention over one tile of `f16` keys and values with 512-bit vectors: half of AVX2's instructions, and up to eight queries share each
//! read. What it computes for a query does not depend on which others it shares with.

#![expect(clippy::needless_range_loop, reason = "tiles of registers are indexed in step with each other")]

use crate::kernels::block::blocks;
use crate::kernels::contract::{AttendParams, KvTile, KvType, SoftmaxState, TILE_TOKENS};
use crate::kernels::shape::AttendShape;
use crate::kernels::vectors::{LN_2_HIGH, LN_2_LOW, Q};
use std::arch::x86_64::*;
use std::ops::Range;

/// Queries that share the reads: the heads of most GQA groups. With two vectors each they take half of the registers.
const QUERIES: usize = 8;

/// Sixteen `f16`.
type Sixteen = [u8; 32];

/// True if it can: two vectors at a time fill a head, and scores are not capped. Everything else is AVX2's.
pub(super) fn fits(params: &AttendParams, kind: KvType) -> bool {
    kind == KvType::F16 && params.softcap.is_none() && params.head_dim.is_multiple_of(32)
}

/// See [`Kernels::attend`](crate::kernels::Kernels::attend); only for what [`fits`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw")]
pub(super) fn attend(
    params: &AttendParams,
    q: &[f32],
    tile: KvTile<'_>,
    next: Option<KvTile<'_>>,
    visible: &[(u32, u32)],
    state: &mut SoftmaxState<'_>,
) {
    AttendShape::check(params, q, &tile, visible, state);
    let (n, mut first) = (params.head_dim, 0);
    let mut next = next.unwrap_or(KvTile { keys: &[], values: &[], ..tile });
    while let Some(&(start, end)) = visible.get(first) {
        let len = visible[first..].iter().take(QUERIES).take_while(|v| **v == (start, end)).count();
        let rows = first..first + len;
        first += len;
        if start >= end {
            continue;
        }
        let mut run = Run {
            params,
            tile,
            next,
            q: &q[rows.start * n..rows.end * n],
            max: &mut state.max[rows.clone()],
            sum: &mut state.sum[rows.clone()],
            acc: &mut state.acc[rows.start * n..rows.end * n],
        };
        run.fold_all(len, start as usize..end as usize);
        (next.keys, next.values) = (&[], &[]); // asked for once
    }
}

/// Up to [`QUERIES`] queries, their state, and the tile they read.
struct Run<'a> {
    params: &'a AttendParams,
    tile: KvTile<'a>,
    /// The tile to ask memory for meanwhile; empty if there is none.
    next: KvTile<'a>,
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
    /// [`Self::fold`] for the number of queries as a constant.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw")]
    fn fold_all(&mut self, n_queries: usize, tokens: Range<usize>) {
        match n_queries {
            1 => self.fold::<1>(tokens),
            2 => self.fold::<2>(tokens),
            3 => self.fold::<3>(tokens),
            4 => self.fold::<4>(tokens),
            5 => self.fold::<5>(tokens),
            6 => self.fold::<6>(tokens),
            7 => self.fold::<7>(tokens),
            _ => self.fold::<QUERIES>(tokens),
        }
    }

    /// Folds the tokens of the tile into the state.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw")]
    fn fold<const R: usize>(&mut self, tokens: Range<usize>) {
        let scores = self.scores::<R>(&tokens);
        let (weights, shrink) = self.softmax(scores);
        for first in (0..self.params.head_dim / 16).step_by(2) {
            self.add_values(&weights, &shrink, tokens.clone(), first);
        }
    }

    /// The scores of all tokens of the tile; minus infinity for those that the queries do not see.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw")]
    #[inline]
    fn scores<const R: usize>(&self, tokens: &Range<usize>) -> [[__m512; 2]; R] {
        let n = self.params.head_dim;
        let mut queries = [&self.q[..n]; R];
        for r in 0..R {
            queries[r] = &self.q[r * n..(r + 1) * n];
        }
        let mut acc = [[_mm512_setzero_ps(); 2]; R];
        for (j, row) in blocks::<[Sixteen; 2]>(self.tile.keys).iter().enumerate().take(n) {
            // The lines of the next tile, one of its keys and one of its values at a time.
            [self.next.keys, self.next.values].into_iter().filter_map(|half| half.get(j * size_of_val(row))).for_each(prefetch);
            let keys = [widen(&row[0]), widen(&row[1])];
            for r in 0..R {
                let x = _mm512_set1_ps(queries[r][j]);
                acc[r] = [_mm512_fmadd_ps(x, keys[0], acc[r][0]), _mm512_fmadd_ps(x, keys[1], acc[r][1])];
            }
        }
        let seen = ((u64::MAX << tokens.start) & !(u64::MAX << tokens.end)) as u32; // `tokens.end <= 32`
        let (scale, none) = (_mm512_set1_ps(self.params.scale), _mm512_set1_ps(f32::NEG_INFINITY));
        acc.map(|[low, high]| {
            [_mm512_mask_mul_ps(none, seen as u16, low, scale), _mm512_mask_mul_ps(none, (seen >> 16) as u16, high, scale)]
        })
    }

    /// Turns scores into weights `exp(score - max)` and takes them into maxima and sums. Returns also what the accumulators shrink by.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw")]
    #[inline]
    fn softmax<const R: usize>(&mut self, scores: [[__m512; 2]; R]) -> ([[f32; TILE_TOKENS]; R], [f32; 16]) {
        let mut shrink = [0.0; 16]; // behind the queries: not used
        for r in 0..R {
            let largest = max(_mm512_max_ps(scores[r][0], scores[r][1])).max(self.max[r]);
            shrink[r] = self.max[r] - largest;
            self.max[r] = largest;
        }
        let shrunk = exp_weight(load(&shrink));
        store(&mut shrink, shrunk);
        let mut weights = [[0.0; TILE_TOKENS]; R];
        for r in 0..R {
            let largest = _mm512_set1_ps(self.max[r]);
            let row = scores[r].map(|score| exp_weight(_mm512_sub_ps(score, largest)));
            for (out, weights) in weights[r].as_chunks_mut().0.iter_mut().zip(row) {
                store(out, weights);
            }
            self.sum[r] = self.sum[r].mul_add(shrink[r], sum(_mm512_add_ps(row[0], row[1])));
        }
        (weights, shrink)
    }

    /// `acc = acc * shrink + weights . values` for the elements `16 * first .. 16 * (first + 2)` of each head.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw")]
    #[inline]
    fn add_values<const R: usize>(&mut self, weights: &[[f32; TILE_TOKENS]; R], shrink: &[f32; 16], tokens: Range<usize>, first: usize) {
        let n = self.params.head_dim;
        let mut acc = [[_mm512_setzero_ps(); 2]; R];
        for r in 0..R {
            let [low, high] = two(&mut self.acc[r * n..], first);
            let shrink = _mm512_set1_ps(shrink[r]);
            acc[r] = [_mm512_mul_ps(load(low), shrink), _mm512_mul_ps(load(high), shrink)];
        }
        let rows = blocks::<Sixteen>(self.tile.values).chunks_exact(n / 16);
        for (token, row) in rows.enumerate().take(tokens.end).skip(tokens.start) {
            let values = [widen(&row[first]), widen(&row[first + 1])];
            for r in 0..R {
                let weight = _mm512_set1_ps(weights[r][token]);
                acc[r] = [_mm512_fmadd_ps(weight, values[0], acc[r][0]), _mm512_fmadd_ps(weight, values[1], acc[r][1])];
            }
        }
        for r in 0..R {
            let [low, high] = two(&mut self.acc[r * n..], first);
            store(low, acc[r][0]);
            store(high, acc[r][1]);
        }
    }
}

/// The sixteens `first` and `first + 1` of `x`.
#[inline]
fn two(x: &mut [f32], first: usize) -> &mut [[f32; 16]; 2] {
    &mut x.as_chunks_mut::<16>().0[first..].as_chunks_mut().0[0]
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(x: &[f32; 16]) -> __m512 {
    // SAFETY: `x` is 16 readable floats, and the instruction needs no alignment.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(out: &mut [f32; 16], x: __m512) {
    // SAFETY: `out` is 16 writable floats, and the instruction needs no alignment.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), x) }
}

/// Sixteen `f16` as `f32`, exactly.
#[target_feature(enable = "avx2,avx512f")]
#[inline]
fn widen(x: &Sixteen) -> __m512 {
    // SAFETY: `x` is 32 readable bytes, and the instruction needs no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(x.as_ptr().cast()) })
}

/// Asks for a cache line before it is read.
#[inline]
fn prefetch(byte: &u8) {
    // SAFETY: a hint of every x86-64: it never faults and changes nothing that a program can see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) }
}

/// The largest lane.
#[target_feature(enable = "avx2,avx512f")]
#[inline]
fn max(x: __m512) -> f32 {
    let [low, high] = halves(x);
    let eight = _mm256_max_ps(low, high);
    let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}

/// The sum of the lanes: halves, quarters, and so on. Part of the order that bit-stability fixes.
#[target_feature(enable = "avx2,avx512f")]
#[inline]
fn sum(x: __m512) -> f32 {
    let [low, high] = halves(x);
    let eight = _mm256_add_ps(low, high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

#[target_feature(enable = "avx2,avx512f")]
#[inline]
fn halves(x: __m512) -> [__m256; 2] {
    [_mm512_castps512_ps256(x), _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x)))]
}

/// As AVX2's `exp_weight`: `e^x` for `x <= 0`, never less than the smallest normal number.
#[target_feature(enable = "avx512f")]
#[inline]
fn exp_weight(x: __m512) -> __m512 {
    let x = _mm512_max_ps(_mm512_set1_ps(-87.0), x);
    let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN_2_HIGH), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN_2_LOW), r);
    let mut q = _mm512_set1_ps(Q[4]);
    for c in [Q[3], Q[2], Q[1], Q[0]] {
        q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(c));
    }
    let fraction = _mm512_add_ps(_mm512_set1_ps(1.0), _mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r));
    _mm512_scalef_ps(fraction, n)
}
