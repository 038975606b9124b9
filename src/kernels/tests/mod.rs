//! What every kernel set is held to, whichever instructions it uses: the reference, plain mathematics, and bit-stability.

mod attention;
mod matmul;
mod packed;
mod pointwise;
mod quantize;

use super::{Activation, ActivationRows, Kernels, WeightRows, available, select};
use crate::dtype::DType;
use crate::sys::columns::ColumnsMut;

/// Every set of this machine, the reference included.
fn sets() -> impl Iterator<Item = &'static dyn Kernels> {
    available().into_iter().map(|name| select(Some(name)).unwrap())
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers everywhere, from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number in `0..n`.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A number in `-1..1`.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// `n_rows` weight rows: every bit random, but finite scales, each made by `scale`.
    fn weights(&mut self, dtype: DType, n_rows: usize, n_cols: usize, scale: impl Fn(&mut Self) -> f32) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..n_rows * dtype.row_bytes(n_cols).unwrap()).map(|_| self.next() as u8).collect();
        for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
            set_scales(dtype, block, || scale(self));
            match dtype {
                DType::F32 => block.copy_from_slice(&self.float().to_le_bytes()),
                DType::F16 => block.copy_from_slice(&half::f16::from_f32(self.float()).to_le_bytes()),
                DType::BF16 => block.copy_from_slice(&half::bf16::from_f32(self.float()).to_le_bytes()),
                _ => {}
            }
        }
        bytes
    }
}

/// Sets the scales of a block to what `scale` gives, as precisely as they are stored.
fn set_scales(dtype: DType, block: &mut [u8], mut scale: impl FnMut() -> f32) {
    for &at in scale_offsets(dtype) {
        block[at..at + 2].copy_from_slice(&half::f16::from_f32(scale()).to_le_bytes());
    }
    if dtype == DType::MXFP4 {
        block[0] = (128.0 + scale().abs().log2()) as u8; // a power of two below it
    }
}

/// Where the `f16` scales of a block are.
fn scale_offsets(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 | DType::MXFP4 => &[],
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
    }
}

/// `x` (`(n_rows, n_cols)`) as activation rows for weights of `dtype`.
fn quantized(set: &dyn Kernels, dtype: DType, x: &[f32], n_cols: usize) -> Vec<u8> {
    let layout = Activation::of(dtype);
    let row_bytes = set.activation_bytes(layout, n_cols);
    let mut bytes = vec![0xaa; row_bytes * (x.len() / n_cols)];
    for (x, out) in x.chunks_exact(n_cols).zip(bytes.chunks_exact_mut(row_bytes)) {
        set.quantize(layout, x, out);
    }
    bytes
}

/// `weights` in the tiles of `set`, the last one filled up with zeros.
fn packed(set: &dyn Kernels, dtype: DType, weights: &[u8], n_cols: usize) -> Vec<u8> {
    let tile_bytes = set.tile_rows() * dtype.row_bytes(n_cols).unwrap();
    let mut rows = weights.to_vec();
    rows.resize(rows.len().next_multiple_of(tile_bytes), 0);
    let mut tiles = vec![0xaa; rows.len()];
    for (rows, tile) in rows.chunks_exact(tile_bytes).zip(tiles.chunks_exact_mut(tile_bytes)) {
        set.pack(dtype, rows, tile);
    }
    tiles
}

/// `(n_rows of x, n_out)` of products with packed weights.
fn product(set: &dyn Kernels, dtype: DType, weights: &[u8], x: &[f32], n_cols: usize) -> Vec<f32> {
    let n_out = weights.len() / dtype.row_bytes(n_cols).unwrap();
    let tiles = packed(set, dtype, weights, n_cols);
    let weights = WeightRows { dtype, n_cols, tile_rows: set.tile_rows(), skip: 0, bytes: &tiles };
    product_with(set, weights, n_out, x)
}

/// The same with rows as they lie in a file.
fn product_of_rows(set: &dyn Kernels, dtype: DType, weights: &[u8], x: &[f32], n_cols: usize) -> Vec<f32> {
    let n_out = weights.len() / dtype.row_bytes(n_cols).unwrap();
    product_with(set, WeightRows::stored(dtype, n_cols, weights), n_out, x)
}

fn product_with(set: &dyn Kernels, weights: WeightRows<'_>, n_out: usize, x: &[f32]) -> Vec<f32> {
    let activations = quantized(set, weights.dtype, x, weights.n_cols);
    let n_rows = x.len() / weights.n_cols;
    let mut out = vec![f32::NAN; n_rows * n_out];
    set.matmul(weights, ActivationRows { bytes: &activations, n_rows }, &mut ColumnsMut::new(&mut out, n_out));
    out
}

/// The bits, for comparisons that `NaN` and `-0.0` cannot fool.
fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
