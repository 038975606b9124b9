//! The shapes of products, checked once at the entry of every set, so that what follows may slice without doubt.

use super::activation::row_bytes;
use super::block::{F16Bytes, blocks};
use super::contract::{Activation, ActivationRows, AttendParams, KvTile, KvType, SoftmaxState, TILE_TOKENS, WeightRows};
use crate::sys::columns::ColumnsMut;

/// Row sizes of a checked product.
#[derive(Clone, Copy)]
pub(crate) struct MatmulShape {
    /// Rows of the weights: columns of the output.
    pub n_out: usize,
    /// Bytes of a row of weights, or of a row of tiles.
    tile_bytes: usize,
    /// Bytes of an activation row.
    pub activation_bytes: usize,
}

impl MatmulShape {
    /// The sizes of `out = x * weights^T`.
    ///
    /// # Panics
    /// If the three do not fit together. The caller made them, so this is a bug; the library's boundary turns it into an error.
    pub(crate) fn check(weights: &WeightRows<'_>, x: &ActivationRows<'_>, out: &ColumnsMut<'_, f32>) -> Self {
        let n_out = out.range().len();
        let activation_bytes = row_bytes(Activation::of(weights.dtype), weights.n_cols);
        let tile_bytes = weights.dtype.row_bytes(weights.n_cols).and_then(|n| n.checked_mul(weights.tile_rows));
        let n_tiles = n_out.checked_add(weights.skip).map(|n| n.div_ceil(weights.tile_rows));
        let n_bytes = tile_bytes.zip(n_tiles).and_then(|(bytes, n)| bytes.checked_mul(n));
        assert_eq!(n_bytes, Some(weights.bytes.len()), "bytes of {n_out} weight rows");
        assert!(weights.skip < weights.tile_rows, "{} rows of a tile of {}", weights.skip, weights.tile_rows);
        assert_eq!(activation_bytes.checked_mul(x.n_rows), Some(x.bytes.len()), "bytes of {} activation rows", x.n_rows);
        assert_eq!(x.n_rows, out.n_rows(), "rows of the output");
        Self { n_out, tile_bytes: tile_bytes.unwrap_or(0), activation_bytes }
    }

    /// The outputs before `n_out`, with weights in tiles of so many bytes.
    pub(crate) fn part(self, n_out: usize, tile_bytes: usize) -> Self {
        Self { n_out, tile_bytes, ..self }
    }

    /// Bytes of a row of weights, or of a row of tiles.
    pub(crate) fn tile_bytes(&self) -> usize {
        self.tile_bytes
    }

    /// Tile `i` of the weights; of rows as in a file, row `i`.
    #[inline]
    pub(crate) fn tile_row<'a>(&self, weights: &WeightRows<'a>, i: usize) -> &'a [u8] {
        &weights.bytes[i * self.tile_bytes..(i + 1) * self.tile_bytes]
    }

    /// Row `m` of the activations.
    #[inline]
    pub(crate) fn activation_row<'a>(&self, x: &ActivationRows<'a>, m: usize) -> &'a [u8] {
        &x.bytes[m * self.activation_bytes..(m + 1) * self.activation_bytes]
    }
}

/// Checks of an attention product.
pub(crate) struct AttendShape;

impl AttendShape {
    /// # Panics
    /// If the parts do not fit together, as [`MatmulShape::check`].
    pub(crate) fn check(params: &AttendParams, q: &[f32], tile: &KvTile<'_>, visible: &[(u32, u32)], state: &SoftmaxState<'_>) {
        let (n, n_bytes) = (params.head_dim, tile_bytes(tile.kind, params.head_dim));
        assert!(n > 0 && tile.keys.len() == n_bytes && tile.values.len() == n_bytes, "a tile has {n_bytes} bytes of each");
        assert_eq!(Some(q.len()), visible.len().checked_mul(n), "elements of {} queries", visible.len());
        assert!(state.max.len() == visible.len() && state.sum.len() == visible.len() && state.acc.len() == q.len(), "a state per query");
        assert!(visible.iter().all(|v| v.0 >= v.1 || v.1 as usize <= TILE_TOKENS), "tokens outside a tile of {TILE_TOKENS}");
    }
}

/// Bytes of the keys of a tile; the values take as many.
///
/// # Panics
/// If such heads cannot be stored as `kind`: whoever makes the cache refuses them.
pub(crate) fn tile_bytes(kind: KvType, head_dim: usize) -> usize {
    let row_bytes = kind.row_bytes(head_dim);
    assert!(row_bytes.is_some(), "heads of {head_dim} elements cannot be stored as {kind:?}");
    TILE_TOKENS * row_bytes.unwrap_or(0)
}

/// The elements of the keys or the values of a tile, and their scales: none for a type that is not quantised.
pub(crate) fn elements_and_scales(kind: KvType, head_dim: usize, half: &[u8]) -> (&[u8], &[F16Bytes]) {
    match kind {
        KvType::F32 | KvType::F16 => (half, &[]),
        KvType::Q8_0 => {
            let (quants, scales) = half.split_at(TILE_TOKENS * head_dim);
            (quants, blocks(scales))
        }
    }
}
