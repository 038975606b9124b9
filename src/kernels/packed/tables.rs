//! Integers that are not stored themselves, but as codes of four bits: a table says what each stands for.

use super::lanes::Words;
use super::quants::{Four, Quads, Quants};
use crate::kernels::block::{Block, FP4_VALUES, IQ4_VALUES};
use std::marker::PhantomData;

/// A table of integers.
pub(super) trait Table: Copy + 'static {
    /// The integers, [`Self::BIAS`] included, as bytes.
    const ENTRIES: [u8; 16];

    /// As [`Quants::BIAS`].
    const BIAS: u8;

    /// As [`Quants::SIGNED`].
    const SIGNED: bool;

    /// As [`Quants::NARROW_RUN`].
    const NARROW_RUN: usize;
}

/// Those of IQ4_NL and IQ4_XS: too wide for two products of unsigned ones to fit an `i16`.
#[derive(Clone, Copy)]
pub(super) struct Iq4;

impl Table for Iq4 {
    const ENTRIES: [u8; 16] = biased(IQ4_VALUES, Self::BIAS);
    const BIAS: u8 = 0;
    const SIGNED: bool = true;
    const NARROW_RUN: usize = 1;
}

/// Those of MXFP4: up to 28 with their bias, so four pairs of products fit.
#[derive(Clone, Copy)]
pub(super) struct Fp4;

impl Table for Fp4 {
    const ENTRIES: [u8; 16] = biased(FP4_VALUES, Self::BIAS);
    const BIAS: u8 = 16;
    const SIGNED: bool = false;
    const NARROW_RUN: usize = 4;
}

const fn biased(values: [i8; 16], bias: u8) -> [u8; 16] {
    let mut entries = [0; 16];
    let mut i = 0;
    while i < entries.len() {
        entries[i] = values[i].cast_unsigned().wrapping_add(bias);
        i += 1;
    }
    entries
}

/// Codes of the entries of `T`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Coded<T, const R: usize>(Four<R>, PhantomData<T>);

// SAFETY: transparent over a block; the marker takes no room.
unsafe impl<T: Table, const R: usize> Block for Coded<T, R> {}

impl<T: Table, const R: usize> Quants<R> for Coded<T, R> {
    const BIAS: u8 = T::BIAS;
    const SIGNED: bool = T::SIGNED;
    const NARROW_RUN: usize = T::NARROW_RUN;

    #[inline(always)]
    fn quad<W: Words<R>>(&self, w: W, j: usize) -> W::I {
        w.look_up(&T::ENTRIES, self.0.quad(w, j))
    }

    #[inline]
    fn put(&mut self, r: usize, quads: Quads) {
        self.0.put(r, quads);
    }
}
