//! A panel by sixteen activation rows: integer sums in tiles, then the float operations of the other sets in their order.
//!
//! Around tiles a float operation of 512 bits has one port, so floats, not products, are what takes the time: integer sums of a k-quant span a
//! block of 256. Products run ahead of the floats that take their sums.

use super::ROWS;
use super::tiles::{Sums, Tiles};
use crate::kernels::activation::used_bytes;
use crate::kernels::contract::Activation;
use crate::kernels::packed::{Lanes, PART_BITS, Panel, Words};
use std::arch::asm;
use std::marker::PhantomData;
use std::ops::Range;

/// Where tiles are stored: four blocks of 32, or two blocks of 256 with two parts each.
#[repr(C, align(64))]
pub(super) struct Scratch {
    sums: [[Sums; 2]; 2],
}

/// Blocks of 32 whose products are under way.
const AHEAD: usize = 4;

impl Scratch {
    /// Zeros.
    pub(super) const fn new() -> Self {
        Self { sums: [[[[0; ROWS]; ROWS]; 2]; 2] }
    }
}

/// Sixteen activation rows from some column on.
pub(super) struct Rows<'a> {
    /// The integers of the first row.
    quants: *const u8,
    /// The scales of the first row's blocks.
    scales: *const u8,
    /// The sums of the first row's blocks: `i32` of blocks of 32, pairs of `i16` of blocks of 256, per 16 columns and per 32.
    sums: [*const u8; 2],
    /// Bytes from row to row.
    stride: usize,
    n_columns: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Rows<'a> {
    /// The `columns`, whole blocks, of `bytes`, which are [`ROWS`] rows of `n_cols` columns in `layout`.
    ///
    /// # Panics
    /// If they are not.
    pub(super) fn new(layout: Activation, bytes: &'a [u8], n_cols: usize, columns: Range<usize>) -> Self {
        let stride = bytes.len() / ROWS;
        assert!(columns.end <= n_cols && used_bytes(layout, n_cols) <= stride, "{columns:?} of rows of {n_cols} columns");
        let at = |offset: usize| bytes[offset..].as_ptr();
        // The planes of a row, as `activation` lays them out.
        let (scales, sums) = match layout {
            Activation::Q8Block256 => {
                let (b, n) = (columns.start / 256, n_cols / 256);
                (n_cols + 48 * n + 4 * b, [n_cols + 32 * b, n_cols + 32 * n + 16 * b])
            }
            _ => (n_cols + columns.start / 8, [n_cols + n_cols / 8 + columns.start / 8; 2]),
        };
        Self { quants: at(columns.start), scales: at(scales), sums: sums.map(at), stride, n_columns: columns.len(), bytes: PhantomData }
    }

    /// Word `i` behind `plane` in row `m`.
    ///
    /// # Safety
    /// The word lies inside the row.
    #[inline(always)]
    unsafe fn word(&self, plane: *const u8, m: usize, i: usize) -> [u8; 4] {
        // SAFETY: the caller's promise; bytes need no alignment.
        unsafe { plane.add(m * self.stride + 4 * i).cast::<[u8; 4]>().read() }
    }
}

/// Adds the products of blocks of 32 to `sums`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vnni")]
pub(super) fn blocks_32<const HAS_MIN: bool>(
    tiles: &Tiles,
    panel: &Panel<ROWS>,
    x: &Rows<'_>,
    sums: &mut [[f32; ROWS]; ROWS],
    scratch: &mut Scratch,
) {
    let v = tiles.proof().plain();
    let (weights, n_blocks) = (panel.quants[0].as_chunks::<8>().0, x.n_columns / 32);
    let mut acc = [v.splat([0; 4]); ROWS];
    for m in 0..ROWS {
        acc[m] = v.load(&sums[m]);
    }
    macro_rules! start {
        ($turn:literal, $b:expr) => {
            let b = $b;
            if b < n_blocks {
                // SAFETY: `x` has the columns of block `b`, and the tiles are those of blocks of 32.
                unsafe {
                    tiles.product_of_32::<$turn>(x.quants.add(32 * b), x.stride, &weights[b], &mut scratch.sums[$turn / 2][$turn % 2])
                };
            }
        };
    }
    macro_rules! finish {
        ($turn:literal, $b:expr) => {
            let b = $b;
            if b == n_blocks {
                break;
            }
            let d = v.load(&panel.factors[0][b]);
            for m in 0..ROWS {
                // SAFETY: row `m` has a scale and a sum of block `b`.
                let (scale, sum) = unsafe { (x.word(x.scales, m, b), x.word(x.sums[0], m, b)) };
                acc[m] = v.mul_add(v.mul(d, v.splat(scale)), v.to_float(v.ints(&scratch.sums[$turn / 2][$turn % 2][m])), acc[m]);
                if HAS_MIN {
                    let sum = f32::from_ne_bytes(scale) * i32::from_ne_bytes(sum) as f32;
                    acc[m] = v.mul_add(v.load(&panel.factors[1][b]), v.splat(sum.to_ne_bytes()), acc[m]);
                }
                // SAFETY: no instruction. That it might change the sums and memory keeps the row's operations together: LLVM else computes
                // the operands of all rows first, and has no registers for them.
                unsafe { asm!("/* {0} */", inout(zmm_reg) acc[m], options(nostack, preserves_flags)) };
            }
        };
    }
    start!(0, 0);
    start!(1, 1);
    start!(2, 2);
    for b in (0..n_blocks).step_by(AHEAD) {
        start!(3, b + 3);
        finish!(0, b);
        start!(0, b + 4);
        finish!(1, b + 1);
        start!(1, b + 5);
        finish!(2, b + 2);
        start!(2, b + 6);
        finish!(3, b + 3);
    }
    for m in 0..ROWS {
        v.store(acc[m], &mut sums[m]);
    }
}

/// Adds the products of blocks of 256 to `sums`; `N_MINS` pairs of minima each.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vnni")]
pub(super) fn blocks_256<const IS_SPLIT: bool, const N_MINS: usize>(
    tiles: &Tiles,
    panel: &Panel<ROWS>,
    x: &Rows<'_>,
    sums: &mut [[f32; ROWS]; ROWS],
    scratch: &mut Scratch,
) {
    let [low, high] = [0, 1].map(|part| panel.quants[part].as_chunks::<64>().0);
    let [first, second] = &mut scratch.sums;
    macro_rules! start {
        ($turn:literal, $to:ident) => {
            // SAFETY: `x` has the columns of the block, and the tiles are those of blocks of 256.
            unsafe {
                if IS_SPLIT {
                    tiles.products_of_256::<$turn>(x.quants.add(256 * $turn), x.stride, [&low[$turn], &high[$turn]], $to);
                } else {
                    tiles.product_of_256::<$turn>(x.quants.add(256 * $turn), x.stride, &low[$turn], $to);
                }
            }
        };
    }
    start!(0, first);
    let has_second = x.n_columns > 256;
    if has_second {
        start!(1, second);
    }
    finish_256::<IS_SPLIT, N_MINS>(tiles, panel, x, 0, first, sums);
    if has_second {
        finish_256::<IS_SPLIT, N_MINS>(tiles, panel, x, 1, second, sums);
    }
}

/// The float operations of block `b`, with the integer sums of both parts.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vnni")]
#[inline]
fn finish_256<const IS_SPLIT: bool, const N_MINS: usize>(
    tiles: &Tiles,
    panel: &Panel<ROWS>,
    x: &Rows<'_>,
    b: usize,
    [low, high]: &[Sums; 2],
    sums: &mut [[f32; ROWS]; ROWS],
) {
    let v = tiles.proof().plain();
    let (d, dmin) = (v.load(&panel.factors[0][b]), v.load(&panel.factors[1][b]));
    for m in 0..ROWS {
        // SAFETY: row `m` has a scale of block `b`.
        let scale = v.splat(unsafe { x.word(x.scales, m, b) });
        let mut sum = v.ints(&low[m]);
        if IS_SPLIT {
            sum = v.add_run(sum, v.times_power(v.ints(&high[m]), PART_BITS));
        }
        let mut acc = v.mul_add(v.mul(d, scale), v.to_float(sum), v.load(&sums[m]));
        if N_MINS > 0 {
            let mut below = v.splat_int(0);
            for (i, mins) in panel.mins[b].iter().enumerate().take(N_MINS) {
                // SAFETY: row `m` has so many pairs of sums of block `b`, of 16 columns each or of 32.
                let pair = unsafe { x.word(x.sums[usize::from(N_MINS == 4)], m, N_MINS * b + i) };
                below = v.dot_pairs(below, v.words(mins), pair);
            }
            acc = v.mul_sub(v.mul(dmin, scale), v.to_float(below), acc);
        }
        v.store(acc, &mut sums[m]);
        v.in_order();
    }
}
