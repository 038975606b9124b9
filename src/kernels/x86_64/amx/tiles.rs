//! The instructions: tiles of sixteen rows of 64 bytes, and sums of products of signed bytes in them. Stable Rust has no functions for them.
//!
//! Every piece of assembly loads what it multiplies and stores what it made, so no tile lives across two of them. Eight tile registers:
//! 0 to 3 for sums, 4 and 5 for activations, 6 and 7 for weights; neighbours in time take turns, because a register is free for a load only
//! when the products that read it are done.

use super::{Amx, ROWS};
use std::arch::asm;
use std::marker::PhantomData;

/// Sums of one product: of each activation row those of sixteen weight rows.
pub(super) type Sums = [[i32; ROWS]; ROWS];

/// Bytes of a row of a tile.
const LINE: usize = 64;

/// Four columns of sixteen weight rows.
pub(super) type Words = [[u8; 4]; ROWS];

/// The shapes of the eight tiles (Intel, "Architecture Instruction Set Extensions", TILECFG).
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row.
    n_bytes: [u16; 16],
    n_rows: [u8; 16],
}

/// Shaped tiles. Dropping it gives them back, so that no context switch or signal frame saves them; it stays on its thread.
pub(super) struct Tiles {
    proof: Amx,
    _stays: PhantomData<*const ()>,
}

impl Tiles {
    /// Tiles for products over `n_columns` columns, at most 64.
    pub(super) fn new(proof: Amx, n_columns: u8) -> Self {
        const { assert!(ROWS == 16) };
        let (n_rows, n_bytes) = (ROWS as u8, LINE as u16);
        let mut shapes = Shapes { palette: 1, start_row: 0, reserved: [0; 14], n_bytes: [0; 16], n_rows: [0; 16] };
        shapes.n_rows[..6].fill(n_rows);
        shapes.n_rows[6..8].fill(n_columns / 4);
        shapes.n_bytes[..8].fill(n_bytes);
        shapes.n_bytes[4..6].fill(u16::from(n_columns));
        // SAFETY: `proof` proves the instruction and the permission; `shapes` is 64 readable bytes of a palette that it has.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(readonly, nostack, preserves_flags)) };
        Self { proof, _stays: PhantomData }
    }

    /// The set they belong to.
    pub(super) fn proof(&self) -> Amx {
        self.proof
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: `self` proves the instruction.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// One load of each side and a product, into the sums of the registers named.
macro_rules! product {
    ($sums:literal, $x:literal, $w:literal, ($from:ident, $stride:ident, $weights:ident, $to:ident)) => {
        asm!(
            concat!("tileloadd tmm", $x, ", [{x} + {stride}]"),
            concat!("tileloadd tmm", $w, ", [{w} + {line}]"),
            concat!("tilezero tmm", $sums),
            concat!("tdpbssd tmm", $sums, ", tmm", $x, ", tmm", $w),
            concat!("tilestored [{to} + {line}], tmm", $sums),
            x = in(reg) $from, stride = in(reg) $stride, w = in(reg) $weights, to = in(reg) $to, line = in(reg) LINE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags)
        )
    };
}

/// Four steps of 64 columns, with one part of the weights or two.
macro_rules! long_product {
    ($low:literal, ($from:ident, $stride:ident, $weights:ident, $to:ident)) => {
        asm!(
            concat!("tilezero tmm", $low),
            "tileloadd tmm4, [{x} + {stride}]",
            "tileloadd tmm6, [{w} + {line}]",
            concat!("tdpbssd tmm", $low, ", tmm4, tmm6"),
            "tileloadd tmm5, [{x} + {stride} + 64]",
            "tileloadd tmm7, [{w} + {line} + 1024]",
            concat!("tdpbssd tmm", $low, ", tmm5, tmm7"),
            "tileloadd tmm4, [{x} + {stride} + 128]",
            "tileloadd tmm6, [{w} + {line} + 2048]",
            concat!("tdpbssd tmm", $low, ", tmm4, tmm6"),
            "tileloadd tmm5, [{x} + {stride} + 192]",
            "tileloadd tmm7, [{w} + {line} + 3072]",
            concat!("tdpbssd tmm", $low, ", tmm5, tmm7"),
            concat!("tilestored [{to} + {line}], tmm", $low),
            x = in(reg) $from, stride = in(reg) $stride, w = in(reg) $weights, to = in(reg) $to, line = in(reg) LINE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags)
        )
    };
    ($low:literal, $high:literal, ($from:ident, $stride:ident, $weights:ident, $upper:ident, $to:ident)) => {
        asm!(
            concat!("tilezero tmm", $low),
            concat!("tilezero tmm", $high),
            "tileloadd tmm4, [{x} + {stride}]",
            "tileloadd tmm6, [{w} + {line}]",
            concat!("tdpbssd tmm", $low, ", tmm4, tmm6"),
            "tileloadd tmm7, [{u} + {line}]",
            concat!("tdpbssd tmm", $high, ", tmm4, tmm7"),
            "tileloadd tmm5, [{x} + {stride} + 64]",
            "tileloadd tmm6, [{w} + {line} + 1024]",
            concat!("tdpbssd tmm", $low, ", tmm5, tmm6"),
            "tileloadd tmm7, [{u} + {line} + 1024]",
            concat!("tdpbssd tmm", $high, ", tmm5, tmm7"),
            "tileloadd tmm4, [{x} + {stride} + 128]",
            "tileloadd tmm6, [{w} + {line} + 2048]",
            concat!("tdpbssd tmm", $low, ", tmm4, tmm6"),
            "tileloadd tmm7, [{u} + {line} + 2048]",
            concat!("tdpbssd tmm", $high, ", tmm4, tmm7"),
            "tileloadd tmm5, [{x} + {stride} + 192]",
            "tileloadd tmm6, [{w} + {line} + 3072]",
            concat!("tdpbssd tmm", $low, ", tmm5, tmm6"),
            "tileloadd tmm7, [{u} + {line} + 3072]",
            concat!("tdpbssd tmm", $high, ", tmm5, tmm7"),
            concat!("tilestored [{to} + {line}], tmm", $low),
            concat!("tilestored [{to} + {line} + 1024], tmm", $high),
            x = in(reg) $from, stride = in(reg) $stride, w = in(reg) $weights, u = in(reg) $upper, to = in(reg) $to, line = in(reg) LINE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags)
        )
    };
}

impl Tiles {
    /// `to[m][r]`: the product of 32 columns of activation row `m` and weight row `r`. `turn` is the number of the product.
    ///
    /// # Safety
    /// The tiles were shaped for 32 columns; `x` is sixteen rows, `stride` bytes apart, of at least 32 bytes.
    #[inline(always)]
    pub(super) unsafe fn product_of_32<const TURN: usize>(&self, x: *const u8, stride: usize, weights: &[Words; 8], to: &mut Sums) {
        let (weights, to) = (weights.as_ptr(), to.as_mut_ptr());
        // SAFETY: the caller's promise; `weights` is eight rows of a tile, `to` sixteen; `self` proves the instructions.
        unsafe {
            match TURN % 4 {
                0 => product!(0, 4, 6, (x, stride, weights, to)),
                1 => product!(1, 5, 7, (x, stride, weights, to)),
                2 => product!(2, 4, 6, (x, stride, weights, to)),
                _ => product!(3, 5, 7, (x, stride, weights, to)),
            }
        }
    }

    /// As [`Self::product_of_32`], of 256 columns.
    ///
    /// # Safety
    /// The tiles were shaped for 64 columns; `x` is sixteen rows, `stride` bytes apart, of at least 256 bytes.
    #[inline(always)]
    pub(super) unsafe fn product_of_256<const TURN: usize>(&self, x: *const u8, stride: usize, weights: &[Words; 64], to: &mut [Sums; 2]) {
        let (weights, to) = (weights.as_ptr(), to.as_mut_ptr());
        // SAFETY: the caller's promise; `weights` is four tiles, `to` two; `self` proves the instructions.
        unsafe {
            match TURN % 2 {
                0 => long_product!(0, (x, stride, weights, to)),
                _ => long_product!(2, (x, stride, weights, to)),
            }
        }
    }

    /// As [`Self::product_of_256`], with both parts of the weights: the sums of each.
    ///
    /// # Safety
    /// As [`Self::product_of_256`].
    #[inline(always)]
    pub(super) unsafe fn products_of_256<const TURN: usize>(
        &self,
        x: *const u8,
        stride: usize,
        [low, high]: [&[Words; 64]; 2],
        to: &mut [Sums; 2],
    ) {
        let (low, high, to) = (low.as_ptr(), high.as_ptr(), to.as_mut_ptr());
        // SAFETY: the caller's promise; `low` and `high` are four tiles each, `to` two; `self` proves the instructions.
        unsafe {
            match TURN % 2 {
                0 => long_product!(0, 1, (x, stride, low, high, to)),
                _ => long_product!(2, 3, (x, stride, low, high, to)),
            }
        }
    }
}
