//! Products through the tiles of AMX, for quantised weights and enough rows to unfold them for. Integer sums are exact and floats are added
//! in the order of the other sets, so the results have their bits.

mod blocks;
mod matmul;
mod tiles;

pub(super) use matmul::matmul;

use super::Amx;

/// Rows of a tile, of weights and of activations.
const ROWS: usize = 16;

/// Activation rows from which on unfolding weights pays.
pub(super) const MIN_ROWS: usize = 16;
