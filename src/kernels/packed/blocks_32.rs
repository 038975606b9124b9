//! Tiles of types with blocks of 32: an exact integer sum per block, then one fused multiply-add with both scales.

use super::element::Element;
use super::formats::{Format, signed_bytes};
use super::lanes::{AHEAD, AHEAD_ROWS, LINE, Lanes, Portable, for_quads};
use super::matmul::{Dot, Operands};
use super::paired::{self, is_paired};
use super::panel::{Panel, Shape, Unfold};
use super::quants::Quants;
use super::source::Source32;
use crate::kernels::activation::Q8Row32;
use crate::kernels::block::{Block, blocks, blocks_mut};
use crate::kernels::reference::Plain32;
use std::marker::PhantomData;
use std::ops::Range;

/// 32 columns of a tile; `N` is 2 if there is a minimum, else 1.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Tile32<F, Q, const R: usize, const N: usize> {
    /// `(N, R)`: the scale, and the minimum.
    pub(super) factors: [[F; R]; N],
    pub(super) quants: Q,
}

// SAFETY: `repr(C)` of blocks: alignment 1, so no padding; every bit pattern is valid.
unsafe impl<F: Block, Q: Block, const R: usize, const N: usize> Block for Tile32<F, Q, R, N> {}

/// The tile that blocks `B` become.
pub(super) type TileOf<B, Q, const R: usize, const N: usize> = Tile32<<<B as Source32>::Factor as Element>::Bytes, Q, R, N>;

/// Blocks `B` with integers `Q`.
pub(super) struct Blocks32<B, Q, const N: usize>(PhantomData<(B, Q)>);

/// What a tile adds to the integers of the file: types with a minimum are unsigned already.
const fn bias<Q: Quants<R>, const R: usize, const N: usize>() -> u8 {
    if N == 1 { Q::BIAS } else { 0 }
}

impl<B: Source32, Q: Quants<R>, const R: usize, const N: usize> Format<R> for Blocks32<B, Q, N> {
    fn pack(rows: &[u8], tile: &mut [u8]) {
        let (blocks, tiles) = (blocks::<B>(rows), blocks_mut::<TileOf<B, Q, R, N>>(tile));
        for (r, row) in blocks.chunks_exact(tiles.len().max(1)).enumerate() {
            for (tile, block) in tiles.iter_mut().zip(row) {
                tile.factors.iter_mut().zip(block.factors()).for_each(|(to, factor)| to[r] = factor);
                tile.quants.put(r, block.quads());
            }
        }
    }

    fn dequantize(tile: &[u8], r: usize, out: &mut [f32]) {
        for (tile, out) in blocks::<TileOf<B, Q, R, N>>(tile).iter().zip(out.as_chunks_mut::<32>().0) {
            let m = tile.factors.get(1).map_or(0.0, |m| B::Factor::widen(m[r]));
            let mut q = [0; 32];
            for (j, q) in q.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *q = signed_bytes(tile.quants.quad(Portable, j)[r], bias::<Q, R, N>());
            }
            Plain32 { d: B::Factor::widen(tile.factors[0][r]), m, q }.expand(out);
        }
    }

    const PANEL: Option<Shape> = Some(Shape::Blocks32 { has_min: N == 2 });

    #[inline(always)]
    fn unfold<V: Unfold<R>>(v: V, tile: &[u8], columns: Range<usize>, panel: &mut Panel<R>) {
        let tiles = &blocks::<TileOf<B, Q, R, N>>(tile)[columns.start / 32..columns.end / 32];
        for (b, (tile, quants)) in tiles.iter().zip(panel.quants[0].as_chunks_mut::<8>().0).enumerate() {
            for (factors, factor) in panel.factors.iter_mut().zip(&tile.factors) {
                v.store(B::Factor::widen_all(v, factor), &mut factors[b]);
            }
            for_quads!(J, {
                v.put(v.sub_bytes(tile.quants.quad(v, J), bias::<Q, R, N>()), &mut quants[J]);
            });
        }
    }
}

impl<B: Source32, Q: Quants<R>, const R: usize, const N: usize> Dot<R> for Blocks32<B, Q, N> {
    #[inline(always)]
    fn dot<V: Lanes<R>, const T: usize, const M: usize>(v: V, operands: Operands<'_, T, M>, sums: &mut [[[f32; R]; M]; T]) {
        for (weights, sums) in operands.weights.into_iter().zip(sums) {
            let tiles = blocks::<TileOf<B, Q, R, N>>(weights);
            let x = operands.x.map(|x| Q8Row32::new(x, operands.n_cols / 32));
            let mut acc = [v.splat([0; 4]); M];
            for m in 0..M {
                acc[m] = v.load(&sums[m]);
            }
            let (b, own) = (operands.columns.start / 32, operands.own_columns());
            for (tile, b) in tiles[own.start / 32..own.end / 32].iter().zip(b..) {
                add_block::<V, B, Q, R, N, M>(v, tile, &x, b, &mut acc);
            }
            for m in 0..M {
                v.store(acc[m], &mut sums[m]);
            }
        }
    }
}

/// Adds the products of block `b`.
#[inline(always)]
fn add_block<V: Lanes<R>, B: Source32, Q: Quants<R>, const R: usize, const N: usize, const M: usize>(
    v: V,
    tile: &TileOf<B, Q, R, N>,
    x: &[Q8Row32<'_>; M],
    b: usize,
    acc: &mut [V::F; M],
) {
    let sums = integer_sums::<V, Q, R, M>(v, &tile.quants, bias::<Q, R, N>(), x, b);
    let d = B::Factor::widen_all(v, &tile.factors[0]);
    for m in 0..M {
        let scale = x[m].scales[b];
        acc[m] = v.mul_add(v.mul(d, v.splat(scale)), v.to_float(sums[m]), acc[m]);
        if N == 2 {
            let sum = f32::from_ne_bytes(scale) * i32::from_ne_bytes(x[m].sums[b]) as f32;
            acc[m] = v.mul_add(B::Factor::widen_all(v, &tile.factors[1]), v.splat(sum.to_ne_bytes()), acc[m]);
        }
        if M >= AHEAD_ROWS {
            v.in_order();
        }
    }
}

/// The sums of block `b` without the `bias` of its integers.
#[inline(always)]
fn integer_sums<V: Lanes<R>, Q: Quants<R>, const R: usize, const M: usize>(
    v: V,
    quants: &Q,
    bias: u8,
    x: &[Q8Row32<'_>; M],
    b: usize,
) -> [V::I; M] {
    const { assert!(Q::BIAS.count_ones() <= 1 && V::SIGNED_BIAS.count_ones() <= 1, "a power of two, or nothing") };
    let bias = if Q::SIGNED { V::SIGNED_BIAS } else { bias };
    if const { is_paired::<V, R, M>() } {
        let mut sums = paired::sums_32(v, quants, x, b);
        subtract_bias(v, &mut sums, bias, x, b);
        return sums;
    }
    let (mut sums, mut runs) = ([v.splat_int(0); M], [v.splat_int(0); M]);
    for_quads!(J, {
        let w = quants.quad(v, J);
        if M >= AHEAD_ROWS && LINE * J < size_of::<Q>() {
            v.prefetch(quants, AHEAD + LINE * J);
        }
        for m in 0..M {
            let x = x[m].quants[b].as_chunks().0[J];
            // A wide run needs no end.
            let run = if V::WIDE { sums[m] } else { runs[m] };
            let run = if Q::SIGNED { v.dot_signed(run, w, x) } else { v.dot(run, w, x) };
            if V::WIDE {
                sums[m] = run;
            } else if (J + 1).is_multiple_of(Q::NARROW_RUN) {
                sums[m] = v.add_run(sums[m], run);
                runs[m] = v.splat_int(0);
            } else {
                runs[m] = run;
            }
        }
        if M >= AHEAD_ROWS {
            v.in_order();
        }
    });
    subtract_bias(v, &mut sums, bias, x, b);
    sums
}

/// Takes what `bias` has added off the sums of block `b`.
#[inline(always)]
fn subtract_bias<V: Lanes<R>, const R: usize, const M: usize>(v: V, sums: &mut [V::I; M], bias: u8, x: &[Q8Row32<'_>; M], b: usize) {
    if bias > 0 {
        for m in 0..M {
            let below = v.times_power(v.splat_int(i32::from_ne_bytes(x[m].sums[b])), bias.trailing_zeros());
            sums[m] = v.sub(sums[m], below);
        }
    }
}
