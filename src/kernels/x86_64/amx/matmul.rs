//! The walk over a matrix product: which panel meets which activation rows when.

use super::blocks::{Rows, Scratch, blocks_32, blocks_256};
use super::tiles::Tiles;
use super::{Amx, ROWS};
use crate::kernels::contract::{Activation, ActivationRows, WeightRows};
use crate::kernels::packed::{Format, PANEL_COLUMNS, Panel, Shape, Visitor, with_format};
use crate::kernels::shape::MatmulShape;
use crate::sys::columns::ColumnsMut;
use std::ops::Range;

/// See [`Kernels::matmul`](crate::kernels::Kernels::matmul); for quantised weights in tiles of [`ROWS`] rows, and as many activation rows at least.
///
/// # Panics
/// If they are not, or the shapes do not agree.
pub(in crate::kernels::x86_64) fn matmul(amx: Amx, weights: WeightRows<'_>, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>) {
    let shape = MatmulShape::check(&weights, &x, out);
    assert!(x.n_rows >= ROWS, "{} rows for tiles of {ROWS}", x.n_rows);
    with_format::<ROWS>(weights.dtype, Product { amx, shape, weights, x, out });
}

/// A checked product.
struct Product<'a, 'o> {
    amx: Amx,
    shape: MatmulShape,
    weights: WeightRows<'a>,
    x: ActivationRows<'a>,
    out: &'a mut ColumnsMut<'o, f32>,
}

impl Visitor<ROWS> for Product<'_, '_> {
    /// All outputs, by columns of a panel; each panel is unfolded once and meets all rows.
    fn visit<F: Format<ROWS>>(mut self) {
        let kind = F::PANEL.expect("quantised weights have panels");
        let (mut panel, mut scratch) = (Panel::new(), Scratch::new());
        let n_tiles = (self.weights.skip + self.shape.n_out).div_ceil(ROWS);
        let tiles = Tiles::new(self.amx, if matches!(kind, Shape::Blocks32 { .. }) { 32 } else { 64 });
        let n_cols = self.weights.n_cols;
        for columns in (0..n_cols).step_by(PANEL_COLUMNS).map(|start| start..n_cols.min(start + PANEL_COLUMNS)) {
            for tile in 0..n_tiles {
                self.amx.plain().unfold::<F>(self.shape.tile_row(&self.weights, tile), columns.clone(), &mut panel);
                for m in (0..self.x.n_rows).step_by(ROWS) {
                    // The last rows share their tile with some that are done, which are computed again and dropped.
                    let from = m.min(self.x.n_rows - ROWS);
                    self.group(&tiles, kind, &panel, (tile, from, m - from), columns.clone(), &mut scratch);
                }
            }
        }
    }
}

impl Product<'_, '_> {
    /// Outputs of `tile` with the rows `from + done..from + ROWS`, by the columns of the panel.
    fn group(
        &mut self,
        tiles: &Tiles,
        kind: Shape,
        panel: &Panel<ROWS>,
        (tile, from, done): (usize, usize, usize),
        columns: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let row_bytes = self.shape.activation_bytes;
        let bytes = &self.x.bytes[from * row_bytes..(from + ROWS) * row_bytes];
        let rows = Rows::new(Activation::of(self.weights.dtype), bytes, self.weights.n_cols, columns.clone());
        let (inside, outside) = self.outputs(tile);
        let mut sums = [[0.0; ROWS]; ROWS];
        if columns.start > 0 {
            for (m, sums) in sums.iter_mut().enumerate() {
                copy(&mut sums[inside.clone()], &self.out.row(from + m)[outside.clone()]);
            }
        }
        // SAFETY: the set proves the features.
        unsafe {
            match kind {
                Shape::Blocks32 { has_min: false } => blocks_32::<false>(tiles, panel, &rows, &mut sums, scratch),
                Shape::Blocks32 { has_min: true } => blocks_32::<true>(tiles, panel, &rows, &mut sums, scratch),
                Shape::Blocks256 { is_split: false, n_mins: 0 } => blocks_256::<false, 0>(tiles, panel, &rows, &mut sums, scratch),
                Shape::Blocks256 { is_split: false, .. } => blocks_256::<false, 8>(tiles, panel, &rows, &mut sums, scratch),
                Shape::Blocks256 { is_split: true, n_mins: 0 } => blocks_256::<true, 0>(tiles, panel, &rows, &mut sums, scratch),
                Shape::Blocks256 { is_split: true, .. } => blocks_256::<true, 4>(tiles, panel, &rows, &mut sums, scratch),
            }
        }
        for (m, sums) in sums.iter().enumerate().skip(done) {
            copy(&mut self.out.row(from + m)[outside.clone()], &sums[inside.clone()]);
        }
    }

    /// Rows of `tile` that the output wants: in the tile, and in the output.
    fn outputs(&self, tile: usize) -> (Range<usize>, Range<usize>) {
        let (skip, n_out) = (self.weights.skip, self.shape.n_out);
        let rows = (tile * ROWS).max(skip)..((tile + 1) * ROWS).min(skip + n_out);
        (rows.start - tile * ROWS..rows.end - tile * ROWS, rows.start - skip..rows.end - skip)
    }
}

/// `to = from`, as one vector where it is whole.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    match (<&mut [f32; ROWS]>::try_from(&mut *to), <&[f32; ROWS]>::try_from(from)) {
        (Ok(to), Ok(from)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}
