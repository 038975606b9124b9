//! Tiles of k-quants: an exact integer sum per block of 256, scales of groups included, then one fused multiply-add with both scales.
//!
//! Integers stay unsigned, as multiplications want them. What was added to make them so (or is a minimum) meets the activation's sums.

use super::formats::{Format, signed_bytes};
use super::lanes::{AHEAD, AHEAD_ROWS, LINE, Lanes, Portable, for_quads};
use super::matmul::{Dot, Operands};
use super::paired::{self, is_paired};
use super::panel::{Panel, Shape, Unfold};
use super::quants::Quants;
use super::scales::Scales;
use super::source::Source256;
use crate::kernels::activation::Q8Row256;
use crate::kernels::block::{Block, F16Bytes, blocks, blocks_mut};
use crate::kernels::reference::Plain256;
use std::marker::PhantomData;
use std::ops::Range;

/// 256 columns of a tile; `N` is 2 if there are minima, else 1.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tile256<Q, S, const R: usize, const N: usize> {
    /// `(N, R)`: the scale of the scales, and that of the minima.
    factors: [[[u8; 2]; R]; N],
    scales: S,
    quants: [Q; 8],
}

// SAFETY: `repr(C)` of blocks: alignment 1, so no padding; every bit pattern is valid.
unsafe impl<Q: Block, S: Block, const R: usize, const N: usize> Block for Tile256<Q, S, R, N> {}

/// Blocks `B` with integers `Q` and scales `S`.
pub(super) struct Blocks256<B, Q, S, const N: usize>(PhantomData<(B, Q, S)>);

/// What a tile adds to the integers of the file: types with minima are unsigned already.
const fn bias<Q: Quants<R>, const R: usize, const N: usize>() -> u8 {
    if N == 1 { Q::BIAS } else { 0 }
}

impl<B: Source256, Q: Quants<R>, S: Scales<R>, const R: usize, const N: usize> Format<R> for Blocks256<B, Q, S, N> {
    fn pack(rows: &[u8], tile: &mut [u8]) {
        let (blocks, tiles) = (blocks::<B>(rows), blocks_mut::<Tile256<Q, S, R, N>>(tile));
        for (r, row) in blocks.chunks_exact(tiles.len().max(1)).enumerate() {
            for (tile, block) in tiles.iter_mut().zip(row) {
                tile.factors.iter_mut().zip(block.factors()).for_each(|(to, factor)| to[r] = factor);
                tile.scales.put(r, &block.scales());
                for (s, quants) in tile.quants.iter_mut().enumerate() {
                    quants.put(r, block.quads(s));
                }
            }
        }
    }

    fn dequantize(tile: &[u8], r: usize, out: &mut [f32]) {
        for (tile, out) in blocks::<Tile256<Q, S, R, N>>(tile).iter().zip(out.as_chunks_mut::<256>().0) {
            let mut q = [0; 256];
            for (j, q) in q.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *q = signed_bytes(tile.quants[j / 8].quad(Portable, j % 8)[r], bias::<Q, R, N>());
            }
            // Of the group of each 16 columns.
            let (word, byte) = (|g: usize| 16 * g / S::GROUP / 4, |g: usize| 16 * g / S::GROUP % 4);
            let plain = Plain256 {
                d: F16Bytes(tile.factors[0][r]),
                dmin: F16Bytes(tile.factors.get(1).map_or([0; 2], |dmin| dmin[r])),
                scales: std::array::from_fn(|g| tile.scales.scales(Portable, word(g))[r][byte(g)].cast_signed()),
                mins: std::array::from_fn(|g| if N == 2 { tile.scales.mins(Portable, word(g))[r][byte(g)] } else { 0 }),
                q,
            };
            plain.expand(out);
        }
    }

    const PANEL: Option<Shape> = Some(Shape::Blocks256 { is_split: !S::IS_SMALL, n_mins: if N == 2 { 128 / S::GROUP } else { 0 } });

    #[inline(always)]
    fn unfold<V: Unfold<R>>(v: V, tile: &[u8], columns: Range<usize>, panel: &mut Panel<R>) {
        let tiles = &blocks::<Tile256<Q, S, R, N>>(tile)[columns.start / 256..columns.end / 256];
        for (b, tile) in tiles.iter().enumerate() {
            for (factors, factor) in panel.factors.iter_mut().zip(&tile.factors) {
                v.store(v.f16(factor), &mut factors[b]);
            }
            unfold_integers::<V, Q, S, R, N>(v, tile, b, panel);
            for i in 0..if N == 2 { 64 / S::GROUP } else { 0 } {
                let mins = tile.scales.mins(v, i);
                v.put(v.pair(mins, 0), &mut panel.mins[b][2 * i]);
                v.put(v.pair(mins, 2), &mut panel.mins[b][2 * i + 1]);
            }
        }
    }
}

/// The products of integers and scales of block `b`.
#[inline(always)]
fn unfold_integers<V: Unfold<R>, Q: Quants<R>, S: Scales<R>, const R: usize, const N: usize>(
    v: V,
    tile: &Tile256<Q, S, R, N>,
    b: usize,
    panel: &mut Panel<R>,
) {
    let [low, high] = &mut panel.quants;
    for (s, quants) in tile.quants.iter().enumerate() {
        for_quads!(J, {
            let group = (8 * s + J) / (S::GROUP / 4);
            let scale = v.scale(tile.scales.scales(v, group / 4), group % 4);
            let parts = v.scaled(v.sub_bytes(quants.quad(v, J), bias::<Q, R, N>()), scale);
            v.put(parts[0], &mut low[64 * b + 8 * s + J]);
            if !S::IS_SMALL {
                v.put(parts[1], &mut high[64 * b + 8 * s + J]);
            }
        });
    }
}

impl<B, Q: Quants<R>, S: Scales<R>, const R: usize, const N: usize> Dot<R> for Blocks256<B, Q, S, N> {
    #[inline(always)]
    fn dot<V: Lanes<R>, const T: usize, const M: usize>(v: V, operands: Operands<'_, T, M>, sums: &mut [[[f32; R]; M]; T]) {
        for (weights, sums) in operands.weights.into_iter().zip(sums) {
            let tiles = blocks::<Tile256<Q, S, R, N>>(weights);
            let x = operands.x.map(|x| Q8Row256::new(x, operands.n_cols / 256));
            let mut acc = [v.splat([0; 4]); M];
            for m in 0..M {
                acc[m] = v.load(&sums[m]);
            }
            let (b, own) = (operands.columns.start / 256, operands.own_columns());
            for (tile, b) in tiles[own.start / 256..own.end / 256].iter().zip(b..) {
                add_block(v, tile, &x, b, &mut acc);
            }
            for m in 0..M {
                v.store(acc[m], &mut sums[m]);
            }
        }
    }
}

/// Adds the products of block `b`.
#[inline(always)]
fn add_block<V: Lanes<R>, Q: Quants<R>, S: Scales<R>, const R: usize, const N: usize, const M: usize>(
    v: V,
    tile: &Tile256<Q, S, R, N>,
    x: &[Q8Row256<'_>; M],
    b: usize,
    acc: &mut [V::F; M],
) {
    const { assert!(Q::BIAS.count_ones() <= 1 && V::SIGNED_BIAS.count_ones() <= 1, "a power of two, or nothing") };
    let sums = integer_sums::<V, Q, S, R, M>(v, &tile.quants, &tile.scales, x, b);
    let below = sums_below::<V, S, R, M>(v, &tile.scales, x, b);
    let d = v.f16(&tile.factors[0]);
    for m in 0..M {
        let scale = v.splat(x[m].scales[b]);
        if N == 2 {
            acc[m] = v.mul_add(v.mul(d, scale), v.to_float(sums[m]), acc[m]);
            acc[m] = v.mul_sub(v.mul(v.f16(&tile.factors[1]), scale), v.to_float(below[m]), acc[m]);
        } else {
            let bias = if Q::SIGNED { V::SIGNED_BIAS } else { bias::<Q, R, N>() };
            let sum = if bias == 0 { sums[m] } else { v.sub(sums[m], v.times_power(below[m], bias.trailing_zeros())) };
            acc[m] = v.mul_add(v.mul(d, scale), v.to_float(sum), acc[m]);
        }
        if M >= AHEAD_ROWS {
            v.in_order();
        }
    }
}

/// `sum(scale * integer * x)` of block `b`.
///
/// Bounds: 256 products of a six-bit integer, an activation of up to 127 and a scale of up to 128 are below `2^28`; so are those of an
/// eight-bit one and a scale of up to 32.
#[inline(always)]
fn integer_sums<V: Lanes<R>, Q: Quants<R>, S: Scales<R>, const R: usize, const M: usize>(
    v: V,
    quants: &[Q; 8],
    scales: &S,
    x: &[Q8Row256<'_>; M],
    b: usize,
) -> [V::I; M] {
    if const { is_paired::<V, R, M>() } {
        return paired::sums_256(v, quants, scales, x, b);
    }
    let group_len = S::GROUP / 4;
    let run_len = if V::WIDE || Q::NARROW_RUN > group_len { group_len } else { Q::NARROW_RUN };
    let mut words = [v.splat_int(0); 4];
    for (i, word) in words.iter_mut().enumerate().take(64 / S::GROUP) {
        *word = scales.scales(v, i);
    }
    let (mut sums, mut runs) = ([v.splat_int(0); M], [v.splat_int(0); M]);
    for (s, quants) in quants.iter().enumerate() {
        for_quads!(J, {
            let w = quants.quad(v, J);
            if M >= AHEAD_ROWS && LINE * J < size_of::<Q>() {
                v.prefetch(quants, AHEAD + LINE * J);
            }
            for m in 0..M {
                let x = x[m].quants[b][s].as_chunks().0[J];
                runs[m] = if Q::SIGNED { v.dot_signed(runs[m], w, x) } else { v.dot(runs[m], w, x) };
            }
            if (J + 1).is_multiple_of(run_len) {
                let group = (8 * s + J) / group_len;
                let scale = v.scale(words[group / 4], group % 4);
                for m in 0..M {
                    sums[m] = v.add_scaled(sums[m], runs[m], scale);
                    runs[m] = v.splat_int(0);
                }
            }
            if M >= AHEAD_ROWS {
                v.in_order();
            }
        });
    }
    sums
}

/// `sum(min * sum of x)` over the groups of block `b`.
#[inline(always)]
fn sums_below<V: Lanes<R>, S: Scales<R>, const R: usize, const M: usize>(v: V, scales: &S, x: &[Q8Row256<'_>; M], b: usize) -> [V::I; M] {
    let mut below = [v.splat_int(0); M];
    for i in 0..64 / S::GROUP {
        let mins = scales.mins(v, i);
        for t in 0..2 {
            let pair = v.pair(mins, 2 * t);
            for m in 0..M {
                let sums = if S::GROUP == 16 { x[m].sums_16[b][2 * i + t] } else { x[m].sums_32[b][2 * i + t] };
                below[m] = v.dot_pairs(below[m], pair, sums);
            }
        }
    }
    below
}
