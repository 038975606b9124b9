//! Weights in tiles: the same bits as in the file, in an order that lets one vector hold four columns of each row of a tile.
//!
//! A tile is `R` rows, as many as a kernel set's vectors have 32-bit lanes. Lane `r` belongs to row `r` throughout, so a product needs no
//! sum across lanes. Formats, arithmetic and the walk are written once over [`Lanes`]; a kernel set brings its vectors.
//! The result has the bits of the reference: integer sums are exact and `f32` operations come in its order.

mod blocks_256;
mod blocks_32;
mod element;
mod floats;
mod formats;
mod gather;
mod lanes;
mod matmul;
mod paired;
mod panel;
mod quants;
mod scales;
mod source;
mod tables;

pub(super) use formats::{Format, Visitor, dequantize, pack, with_format};
pub use gather::is_gathered;
pub(super) use gather::{Gather, Rows, matmul_stored};
pub(super) use lanes::{Lanes, Words};
pub(super) use matmul::{Dot, Operands, matmul};
pub(super) use panel::{PANEL_COLUMNS, PART_BITS, Panel, Shape, Unfold};
