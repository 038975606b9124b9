//! Products through the tiles of AMX, for quantised weights and enough rows to unfold them for. Integer sums are exact and floats are added
//! in the order of the other sets, so the results have their bits.

mod blocks;
mod matmul;
mod tiles;

pub(super) use matmul::matmul;

use super::Amx;
use crate::dtype::DType;

/// Rows of a tile, of weights and of activations.
const ROWS: usize = 16;

/// Whether unfolding weights of `dtype` pays for so many activation rows. Those of a k-quant take a multiplication each; floats have no panels.
pub(super) const fn takes(dtype: DType, n_rows: usize) -> bool {
    match dtype.block_len() {
        1 => false,
        32 => n_rows >= ROWS,
        _ => n_rows >= 2 * ROWS,
    }
}
