//! Panels: some columns of a tile, unfolded for a matrix unit, which multiplies signed bytes and knows no scales.
//!
//! Integers are signed bytes, without a bias, four columns of each row to a word. The scales of a k-quant's groups are multiplied in, so that
//! one integer product spans a whole block of 256; where such a product needs more than a byte, it is the sum of two parts. All of it is
//! exact, so sums have the bits of those that are made without a panel.

use super::lanes::Lanes;

/// Columns of a panel: two blocks of 256. Its integers stay in the first-level cache beside those of some activation rows.
pub(in crate::kernels) const PANEL_COLUMNS: usize = 512;

/// What the second part of an integer is multiplied by: the first one holds seven bits, so that both are signed bytes.
pub(in crate::kernels) const PART_BITS: u32 = 7;

/// A word for each row.
type Plane<const R: usize> = [[u8; 4]; R];

/// What a panel holds of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) enum Shape {
    /// Blocks of 32 with a scale each, and with a minimum if `has_min`.
    Blocks32 {
        /// Whether the second factor is one.
        has_min: bool,
    },
    /// Blocks of 256.
    Blocks256 {
        /// Whether an integer needs two bytes.
        is_split: bool,
        /// Pairs of minima per block; 0 for types without.
        n_mins: usize,
    },
}

/// `PANEL_COLUMNS` columns of `R` rows.
#[repr(C, align(64))]
pub(in crate::kernels) struct Panel<const R: usize> {
    /// `(parts, PANEL_COLUMNS / 4)`: four columns of each row.
    pub quants: [[Plane<R>; PANEL_COLUMNS / 4]; 2],
    /// `(scale | minimum, blocks)`, one of each row.
    pub factors: [[[f32; R]; PANEL_COLUMNS / 32]; 2],
    /// `(blocks of 256, pairs)`: two `i16` of each row, in the order of the activations' sums.
    pub mins: [[Plane<R>; 8]; PANEL_COLUMNS / 256],
}

impl<const R: usize> Panel<R> {
    /// Zeros.
    pub(in crate::kernels) const fn new() -> Self {
        const { assert!(PANEL_COLUMNS == 512, "the sizes below") };
        Self { quants: [[[[0; 4]; R]; 128]; 2], factors: [[[0.0; R]; 16]; 2], mins: [[[[0; 4]; R]; 8]; 2] }
    }
}

/// What unfolding asks of a set's vectors.
pub(in crate::kernels) trait Unfold<const R: usize>: Lanes<R> {
    /// Stores the words.
    fn put(self, x: Self::I, to: &mut Plane<R>);

    /// The products of the signed bytes of `x` with the signed byte in the words of `scale` (a factor as [`Lanes::scale`] makes them):
    /// their low [`PART_BITS`] bits, and what is above as signed bytes.
    fn scaled(self, x: Self::I, scale: Self::I) -> [Self::I; 2];
}
