//! The small scales (and minima) of the groups of a 256-column tile, in as many bits as the file has: a byte per group, four groups to a word.

use super::lanes::Words;
use crate::kernels::block::Block;

/// A word for each row.
type Plane<const R: usize> = [[u8; 4]; R];

/// Scales and minima of one row as the file means them, per 16 columns.
pub(super) struct RowScales {
    pub(super) scales: [i8; 16],
    pub(super) mins: [u8; 16],
}

/// How the scales of a k-quant are stored.
pub(super) trait Scales<const R: usize>: Block {
    /// Columns that share a scale: 16 or 32.
    const GROUP: usize;

    /// Whether a product of a scale and an integer is below 128.
    const IS_SMALL: bool = false;

    /// Signed scales of the groups `4 i .. 4 i + 4`.
    fn scales<W: Words<R>>(&self, w: W, i: usize) -> W::I;

    /// Minima of the groups `4 i .. 4 i + 4`. Types without minima give the scales: those meet the bias of their integers.
    #[inline(always)]
    fn mins<W: Words<R>>(&self, w: W, i: usize) -> W::I {
        self.scales(w, i)
    }

    /// Takes the scales of row `r`.
    fn put(&mut self, r: usize, row: &RowScales);
}

/// Q6_K: signed bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Signed8<const R: usize>([Plane<R>; 4]);

// SAFETY: bytes.
unsafe impl<const R: usize> Block for Signed8<R> {}

impl<const R: usize> Scales<R> for Signed8<R> {
    const GROUP: usize = 16;

    #[inline(always)]
    fn scales<W: Words<R>>(&self, w: W, i: usize) -> W::I {
        w.words(&self.0[i])
    }

    fn put(&mut self, r: usize, row: &RowScales) {
        for (g, scale) in row.scales.into_iter().enumerate() {
            self.0[g / 4][r][g % 4] = scale.cast_unsigned();
        }
    }
}

/// Q2_K: a scale in the low half of a byte, a minimum in the high half.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Halves<const R: usize>([Plane<R>; 4]);

// SAFETY: bytes.
unsafe impl<const R: usize> Block for Halves<R> {}

impl<const R: usize> Scales<R> for Halves<R> {
    const GROUP: usize = 16;
    const IS_SMALL: bool = true; // 3 * 15

    #[inline(always)]
    fn scales<W: Words<R>>(&self, w: W, i: usize) -> W::I {
        w.right(w.words(&self.0[i]), 0, 0x0f)
    }

    #[inline(always)]
    fn mins<W: Words<R>>(&self, w: W, i: usize) -> W::I {
        w.right(w.words(&self.0[i]), 4, 0x0f)
    }

    fn put(&mut self, r: usize, row: &RowScales) {
        for (g, (scale, min)) in row.scales.into_iter().zip(row.mins).enumerate() {
            self.0[g / 4][r][g % 4] = scale.cast_unsigned() | min << 4;
        }
    }
}

/// What is subtracted from the six bits of a Q3_K scale.
const SIX_BIAS: u8 = 32;

/// Q3_K: six bits with [`SIX_BIAS`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Signed6<const R: usize> {
    /// Plane `i`: low four bits of the groups of word `i`, and of word `i + 2` above them.
    low: [Plane<R>; 2],
    /// High two bits: those of word `i` at bit `2 i`.
    high: Plane<R>,
}

// SAFETY: bytes, without padding.
unsafe impl<const R: usize> Block for Signed6<R> {}

impl<const R: usize> Scales<R> for Signed6<R> {
    const GROUP: usize = 16;

    #[inline(always)]
    fn scales<W: Words<R>>(&self, w: W, i: usize) -> W::I {
        let low = w.right(w.words(&self.low[i % 2]), 4 * (i / 2), 0x0f);
        w.sub_bytes(w.or(low, two_bits_at_4(w, &self.high, i)), SIX_BIAS)
    }

    fn put(&mut self, r: usize, row: &RowScales) {
        for t in 0..4 {
            let bits = |i: usize| row.scales[4 * i + t].cast_unsigned().wrapping_add(SIX_BIAS);
            for (i, low) in self.low.iter_mut().enumerate() {
                low[r][t] = (bits(i) & 15) | (bits(i + 2) & 15) << 4;
            }
            self.high[r][t] = (0..4).fold(0, |high, i| high | (bits(i) >> 4) << (2 * i));
        }
    }
}

/// The two bits at bit `2 i` of each byte, moved to bit 4.
#[inline(always)]
fn two_bits_at_4<W: Words<R>, const R: usize>(w: W, plane: &Plane<R>, i: usize) -> W::I {
    let plane = w.words(plane);
    if i < 2 { w.left(plane, 4 - 2 * i, 0x30) } else { w.right(plane, 2 * i - 4, 0x30) }
}

/// IQ4_XS: six bits with [`SIX_BIAS`], per 32 columns.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Signed6Of32<const R: usize> {
    /// Low four bits of the scales of word 0, and of word 1 above them.
    low: Plane<R>,
    /// High two bits. Bytes 0 and 1 of both words share a byte of this: word 0 at bit 0, word 1 at bit 2; bytes 2 and 3 at bits 4 and 6.
    high: [[u8; 2]; R],
}

// SAFETY: bytes, without padding.
unsafe impl<const R: usize> Block for Signed6Of32<R> {}

impl<const R: usize> Scales<R> for Signed6Of32<R> {
    const GROUP: usize = 32;

    #[inline(always)]
    fn scales<W: Words<R>>(&self, w: W, i: usize) -> W::I {
        let low = w.right(w.words(&self.low), 4 * i, 0x0f);
        let high = w.left(w.nibbles(&self.high), 4 - 2 * i, 0x30);
        w.sub_bytes(w.or(low, high), SIX_BIAS)
    }

    fn put(&mut self, r: usize, row: &RowScales) {
        self.high[r] = [0; 2];
        for t in 0..4 {
            // Of the sub-blocks `t` and `t + 4`.
            let bits = [row.scales[2 * t], row.scales[2 * t + 8]].map(|scale| scale.cast_unsigned().wrapping_add(SIX_BIAS));
            self.low[r][t] = (bits[0] & 15) | (bits[1] & 15) << 4;
            self.high[r][t % 2] |= (bits[0] >> 4 | (bits[1] >> 4) << 2) << (t / 2 * 4);
        }
    }
}

/// Q4_K and Q5_K: scale and minimum of six bits each, per 32 columns.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Six32<const R: usize> {
    /// Low four bits of the scales of word 0, and of word 1 above them.
    scales: Plane<R>,
    /// As `scales`, of the minima.
    mins: Plane<R>,
    /// High two bits: scales of word 0 at bit 0, of word 1 at bit 2, minima at bits 4 and 6.
    high: Plane<R>,
}

// SAFETY: bytes, without padding.
unsafe impl<const R: usize> Block for Six32<R> {}

impl<const R: usize> Scales<R> for Six32<R> {
    const GROUP: usize = 32;

    #[inline(always)]
    fn scales<W: Words<R>>(&self, w: W, i: usize) -> W::I {
        w.or(w.right(w.words(&self.scales), 4 * i, 0x0f), two_bits_at_4(w, &self.high, i))
    }

    #[inline(always)]
    fn mins<W: Words<R>>(&self, w: W, i: usize) -> W::I {
        w.or(w.right(w.words(&self.mins), 4 * i, 0x0f), two_bits_at_4(w, &self.high, i + 2))
    }

    fn put(&mut self, r: usize, row: &RowScales) {
        for t in 0..4 {
            // Of the sub-blocks `t` and `t + 4`.
            let scales = [row.scales[2 * t], row.scales[2 * t + 8]].map(i8::cast_unsigned);
            let mins = [row.mins[2 * t], row.mins[2 * t + 8]];
            self.scales[r][t] = (scales[0] & 15) | (scales[1] & 15) << 4;
            self.mins[r][t] = (mins[0] & 15) | (mins[1] & 15) << 4;
            self.high[r][t] = scales[0] >> 4 | (scales[1] >> 4) << 2 | (mins[0] >> 4) << 4 | (mins[1] >> 4) << 6;
        }
    }
}
