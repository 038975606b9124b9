//! Tiles of unquantised weights: column by column, an element of each row, widened to `f32` and added in one chain per output.

use super::element::Element;
use super::formats::Format;
use super::lanes::Lanes;
use super::matmul::{Dot, Operands};
use crate::kernels::block::{blocks, blocks_mut};
use std::marker::PhantomData;

/// Elements `E`.
pub(super) struct Floats<E>(PhantomData<E>);

impl<E: Element, const R: usize> Format<R> for Floats<E> {
    fn pack(rows: &[u8], tile: &mut [u8]) {
        let columns = blocks_mut::<E::Bytes>(tile);
        let n_cols = columns.len() / R;
        for (r, row) in blocks::<E::Bytes>(rows).chunks_exact(n_cols.max(1)).enumerate() {
            columns[r..].iter_mut().step_by(R).zip(row).for_each(|(to, x)| *to = *x);
        }
    }

    fn dequantize(tile: &[u8], r: usize, out: &mut [f32]) {
        let columns = blocks::<E::Bytes>(tile).as_chunks::<R>().0;
        out.iter_mut().zip(columns).for_each(|(out, column)| *out = E::widen(column[r]));
    }
}

impl<E: Element, const R: usize> Dot<R> for Floats<E> {
    const IS_FLOAT: bool = true;

    #[inline(always)]
    fn dot<V: Lanes<R>, const T: usize, const M: usize>(v: V, operands: Operands<'_, T, M>, sums: &mut [[[f32; R]; M]; T]) {
        let tiles = operands.weights.map(|w| blocks::<E::Bytes>(w).as_chunks::<R>().0);
        let n_cols = operands.columns.len();
        let tiles = tiles.map(|tile| &tile[operands.own_columns()][..n_cols]);
        let x = operands.x.map(|x| &blocks::<[u8; 4]>(x)[operands.columns.clone()][..n_cols]);
        let mut acc = [[v.splat([0; 4]); M]; T];
        // Loops, not closures: those that return vectors are not inlined.
        for t in 0..T {
            for m in 0..M {
                acc[t][m] = v.load(&sums[t][m]);
            }
        }
        for k in 0..n_cols {
            let mut w = [v.splat([0; 4]); T];
            for t in 0..T {
                w[t] = E::widen_all(v, &tiles[t][k]);
            }
            // One activation at a time: the sums and the weights fill the registers.
            for m in 0..M {
                let x = v.splat(x[m][k]);
                for t in 0..T {
                    acc[t][m] = v.mul_add(w[t], x, acc[t][m]);
                }
            }
        }
        for t in 0..T {
            for m in 0..M {
                v.store(acc[t][m], &mut sums[t][m]);
            }
        }
    }
}
