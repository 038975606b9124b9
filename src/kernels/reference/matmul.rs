//! Products of weight rows and activation rows, one output at a time.
//!
//! Quantised types: exact integer sums per block, then `f32` fused multiply-adds over the blocks in ascending order. Float types: `f64`.

use super::dequantize::bf16_to_f32;
use super::unpack::{Plain32, Plain256, Unpack};
use crate::dtype::DType;
use crate::kernels::activation::{Q8Row32, Q8Row256};
use crate::kernels::block::{
    BlockIQ4NL, BlockIQ4XS, BlockMXFP4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0, F16Bytes, blocks,
};
use crate::kernels::contract::{ActivationRows, WeightRows};
use crate::kernels::shape::MatmulShape;
use crate::sys::columns::ColumnsMut;

/// See [`Kernels::matmul`](crate::kernels::Kernels::matmul); for rows as in a file.
///
/// # Panics
/// If the shapes do not agree.
pub(crate) fn matmul(weights: WeightRows<'_>, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>) {
    assert_eq!(weights.tile_rows, 1, "the reference reads rows as in a file");
    let shape = MatmulShape::check(&weights, &x, out);
    for m in 0..x.n_rows {
        let (x, out) = (shape.activation_row(&x, m), out.row(m));
        for (i, out) in out.iter_mut().enumerate() {
            *out = dot(weights.dtype, shape.tile_row(&weights, i), x);
        }
    }
}

fn dot(dtype: DType, w: &[u8], x: &[u8]) -> f32 {
    match dtype {
        DType::F32 => dot_elements(w, x, f32::from_le_bytes),
        DType::F16 => dot_elements(w, x, |w| F16Bytes(w).to_f32()),
        DType::BF16 => dot_elements(w, x, bf16_to_f32),
        DType::Q4_0 => dot_32::<BlockQ4_0>(w, x),
        DType::Q4_1 => dot_32::<BlockQ4_1>(w, x),
        DType::Q5_0 => dot_32::<BlockQ5_0>(w, x),
        DType::Q5_1 => dot_32::<BlockQ5_1>(w, x),
        DType::Q8_0 => dot_32::<BlockQ8_0>(w, x),
        DType::Q2_K => dot_256::<BlockQ2K>(w, x),
        DType::Q3_K => dot_256::<BlockQ3K>(w, x),
        DType::Q4_K => dot_256::<BlockQ4K>(w, x),
        DType::Q5_K => dot_256::<BlockQ5K>(w, x),
        DType::Q6_K => dot_256::<BlockQ6K>(w, x),
        DType::IQ4_NL => dot_32::<BlockIQ4NL>(w, x),
        DType::IQ4_XS => dot_256::<BlockIQ4XS>(w, x),
        DType::MXFP4 => dot_32::<BlockMXFP4>(w, x),
    }
}

fn dot_elements<const N: usize>(w: &[u8], x: &[u8], widen: impl Fn([u8; N]) -> f32) -> f32 {
    let products = blocks::<[u8; N]>(w).iter().zip(blocks::<[u8; 4]>(x));
    products.map(|(w, x)| f64::from(widen(*w)) * f64::from(f32::from_ne_bytes(*x))).sum::<f64>() as f32
}

fn product(w: i8, x: u8) -> i32 {
    i32::from(w) * i32::from(x as i8)
}

fn dot_32<B: Unpack<Plain32>>(w: &[u8], x: &[u8]) -> f32 {
    let w = blocks::<B>(w);
    let x = Q8Row32::new(x, w.len());
    let mut acc = 0.0_f32;
    for (b, block) in w.iter().enumerate() {
        let block = block.unpack();
        let quants: i32 = block.q.iter().zip(&x.quants[b]).map(|(w, x)| product(*w, *x)).sum();
        let scale = f32::from_ne_bytes(x.scales[b]);
        acc = (block.d * scale).mul_add(quants as f32, acc);
        acc = block.m.mul_add(scale * i32::from_ne_bytes(x.sums[b]) as f32, acc);
    }
    acc
}

fn dot_256<B: Unpack<Plain256>>(w: &[u8], x: &[u8]) -> f32 {
    let w = blocks::<B>(w);
    let x = Q8Row256::new(x, w.len());
    let mut acc = 0.0_f32;
    for (b, block) in w.iter().enumerate() {
        let block = block.unpack();
        let (sums, scale) = (x.sums_16[b].as_flattened().as_chunks().0, f32::from_ne_bytes(x.scales[b]));
        let groups = block.q.as_chunks::<16>().0.iter().zip(x.quants[b].as_flattened().as_chunks::<16>().0);
        let (mut scaled, mut mins) = (0, 0);
        for (g, (w, x)) in groups.enumerate() {
            let quants: i32 = w.iter().zip(x).map(|(w, x)| product(*w, *x)).sum();
            scaled += i32::from(block.scales[g]) * quants;
            mins += i32::from(block.mins[g]) * i32::from(i16::from_ne_bytes(sums[g]));
        }
        acc = (block.d.to_f32() * scale).mul_add(scaled as f32, acc);
        acc = (-block.dmin.to_f32() * scale).mul_add(mins as f32, acc);
    }
    acc
}
