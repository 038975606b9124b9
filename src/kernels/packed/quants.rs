//! The integers of 32 columns of a tile: planes of bits, a word per row and plane. Quad `j` is columns `4 j .. 4 j + 4`, a byte each.

use super::lanes::Words;
use crate::kernels::block::Block;

/// A word for each row.
type Plane<const R: usize> = [[u8; 4]; R];

/// The 32 integers of one row, four columns to a word.
pub(super) type Quads = [u32; 8];

/// How many bits an integer has, and where they are.
pub(super) trait Quants<const R: usize>: Block {
    /// What is added to an integer, so that it is not negative: a power of two; 0 for [`Self::SIGNED`] ones.
    const BIAS: u8;

    /// Whether quads are signed bytes.
    const SIGNED: bool = false;

    /// Quads whose products a pair of `i16` holds: `2 * 127 * (2^bits - 1)` each.
    const NARROW_RUN: usize;

    /// Quad `j` of each row.
    fn quad<W: Words<R>>(&self, w: W, j: usize) -> W::I;

    /// Takes the integers of row `r` as they are stored.
    fn put(&mut self, r: usize, quads: Quads);
}

/// Bits `mask` of each byte.
const fn each(mask: u8) -> u32 {
    u32::from_ne_bytes([mask; 4])
}

/// Four bits: plane `i` holds quad `i` in its low halves of bytes, quad `i + 4` in its high ones.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Four<const R: usize>([Plane<R>; 4]);

// SAFETY: bytes.
unsafe impl<const R: usize> Block for Four<R> {}

impl<const R: usize> Quants<R> for Four<R> {
    const BIAS: u8 = 8;
    const NARROW_RUN: usize = 8;

    #[inline(always)]
    fn quad<W: Words<R>>(&self, w: W, j: usize) -> W::I {
        w.right(w.words(&self.0[j % 4]), 4 * (j / 4), 0x0f)
    }

    #[inline]
    fn put(&mut self, r: usize, quads: Quads) {
        for (j, plane) in self.0.iter_mut().enumerate() {
            plane[r] = ((quads[j] & each(0x0f)) | (quads[j + 4] & each(0x0f)) << 4).to_ne_bytes();
        }
    }
}

/// One bit: bit `j` of a byte is of quad `j`.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct One<const R: usize>(Plane<R>);

impl<const R: usize> One<R> {
    /// The bits of quad `j`, at bit `AT`.
    #[inline(always)]
    fn quad<W: Words<R>, const AT: usize>(&self, w: W, j: usize) -> W::I {
        let plane = w.words(&self.0);
        if j < AT { w.left(plane, AT - j, 1 << AT) } else { w.right(plane, j - AT, 1 << AT) }
    }

    /// Takes bit `AT` of each byte.
    #[inline]
    fn put<const AT: usize>(&mut self, r: usize, quads: Quads) {
        let bits = quads.into_iter().enumerate().fold(0, |bits, (j, quad)| bits | ((quad >> AT) & each(1)) << j);
        self.0[r] = bits.to_ne_bytes();
    }
}

/// Two bits: plane `i` holds quad `4 i + j` at bits `2 j` and `2 j + 1` of its bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Two<const R: usize>([Plane<R>; 2]);

// SAFETY: bytes.
unsafe impl<const R: usize> Block for Two<R> {}

impl<const R: usize> Two<R> {
    /// The bits of quad `j`, from bit `AT` on.
    #[inline(always)]
    fn quad_at<W: Words<R>, const AT: usize>(&self, w: W, j: usize) -> W::I {
        let (plane, from) = (w.words(&self.0[j / 4]), j % 4 * 2);
        if from < AT { w.left(plane, AT - from, 3 << AT) } else { w.right(plane, from - AT, 3 << AT) }
    }

    /// Takes two bits of each byte, from bit `AT` on.
    #[inline]
    fn put_from<const AT: usize>(&mut self, r: usize, quads: Quads) {
        for (plane, four) in self.0.iter_mut().zip(quads.as_chunks::<4>().0) {
            let bits = four.iter().enumerate().fold(0, |bits, (j, quad)| bits | ((quad >> AT) & each(3)) << (2 * j));
            plane[r] = bits.to_ne_bytes();
        }
    }
}

impl<const R: usize> Quants<R> for Two<R> {
    const BIAS: u8 = 0;
    const NARROW_RUN: usize = 8;

    #[inline(always)]
    fn quad<W: Words<R>>(&self, w: W, j: usize) -> W::I {
        self.quad_at::<W, 0>(w, j)
    }

    #[inline]
    fn put(&mut self, r: usize, quads: Quads) {
        self.put_from::<0>(r, quads);
    }
}

/// Three bits.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Three<const R: usize> {
    low: Two<R>,
    high: One<R>,
}

// SAFETY: bytes, without padding.
unsafe impl<const R: usize> Block for Three<R> {}

impl<const R: usize> Quants<R> for Three<R> {
    const BIAS: u8 = 4;
    const NARROW_RUN: usize = 8;

    #[inline(always)]
    fn quad<W: Words<R>>(&self, w: W, j: usize) -> W::I {
        w.or(self.low.quad(w, j), self.high.quad::<W, 2>(w, j))
    }

    #[inline]
    fn put(&mut self, r: usize, quads: Quads) {
        self.low.put(r, quads);
        self.high.put::<2>(r, quads);
    }
}

/// Five bits.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Five<const R: usize> {
    low: Four<R>,
    high: One<R>,
}

// SAFETY: bytes, without padding.
unsafe impl<const R: usize> Block for Five<R> {}

impl<const R: usize> Quants<R> for Five<R> {
    const BIAS: u8 = 16;
    const NARROW_RUN: usize = 4;

    #[inline(always)]
    fn quad<W: Words<R>>(&self, w: W, j: usize) -> W::I {
        w.or(self.low.quad(w, j), self.high.quad::<W, 4>(w, j))
    }

    #[inline]
    fn put(&mut self, r: usize, quads: Quads) {
        self.low.put(r, quads);
        self.high.put::<4>(r, quads);
    }
}

/// Six bits.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Six<const R: usize> {
    low: Four<R>,
    high: Two<R>,
}

// SAFETY: bytes, without padding.
unsafe impl<const R: usize> Block for Six<R> {}

impl<const R: usize> Quants<R> for Six<R> {
    const BIAS: u8 = 32;
    const NARROW_RUN: usize = 2;

    #[inline(always)]
    fn quad<W: Words<R>>(&self, w: W, j: usize) -> W::I {
        w.or(self.low.quad(w, j), self.high.quad_at::<W, 4>(w, j))
    }

    #[inline]
    fn put(&mut self, r: usize, quads: Quads) {
        self.low.put(r, quads);
        self.high.put_from::<4>(r, quads);
    }
}

/// Eight bits, signed: plane `j` is quad `j`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Eight<const R: usize>([Plane<R>; 8]);

// SAFETY: bytes.
unsafe impl<const R: usize> Block for Eight<R> {}

impl<const R: usize> Eight<R> {
    /// The quads of all rows.
    #[inline(always)]
    pub(super) fn planes_mut(&mut self) -> &mut [Plane<R>; 8] {
        &mut self.0
    }
}

impl<const R: usize> Quants<R> for Eight<R> {
    const BIAS: u8 = 0;
    const SIGNED: bool = true;
    const NARROW_RUN: usize = 1;

    #[inline(always)]
    fn quad<W: Words<R>>(&self, w: W, j: usize) -> W::I {
        w.words(&self.0[j])
    }

    #[inline]
    fn put(&mut self, r: usize, quads: Quads) {
        for (plane, quad) in self.0.iter_mut().zip(quads) {
            plane[r] = quad.to_ne_bytes();
        }
    }
}
