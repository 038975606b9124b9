//! Rows of any storage type as `f32`, with the same roundings as ggml: a scale of a scale is rounded before it multiplies.

use super::unpack::{Plain32, Plain256, Unpack};
use crate::dtype::DType;
use crate::kernels::block::{
    BlockIQ4NL, BlockIQ4XS, BlockMXFP4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0, F16Bytes, blocks,
};

/// Expands `row` (whole blocks) into `out`.
///
/// # Panics
/// If `row` is not `dtype.row_bytes(out.len())` long.
pub(crate) fn dequantize(dtype: DType, row: &[u8], out: &mut [f32]) {
    assert_eq!(Some(row.len()), dtype.row_bytes(out.len()), "bytes of a row of {} {}", out.len(), dtype.name());
    match dtype {
        DType::F32 => elements(row, out, f32::from_le_bytes),
        DType::F16 => elements(row, out, |x| F16Bytes(x).to_f32()),
        DType::BF16 => elements(row, out, bf16_to_f32),
        DType::Q4_0 => blocks_of_32::<BlockQ4_0>(row, out),
        DType::Q4_1 => blocks_of_32::<BlockQ4_1>(row, out),
        DType::Q5_0 => blocks_of_32::<BlockQ5_0>(row, out),
        DType::Q5_1 => blocks_of_32::<BlockQ5_1>(row, out),
        DType::Q8_0 => blocks_of_32::<BlockQ8_0>(row, out),
        DType::Q2_K => blocks_of_256::<BlockQ2K>(row, out),
        DType::Q3_K => blocks_of_256::<BlockQ3K>(row, out),
        DType::Q4_K => blocks_of_256::<BlockQ4K>(row, out),
        DType::Q5_K => blocks_of_256::<BlockQ5K>(row, out),
        DType::Q6_K => blocks_of_256::<BlockQ6K>(row, out),
        DType::IQ4_NL => blocks_of_32::<BlockIQ4NL>(row, out),
        DType::IQ4_XS => blocks_of_256::<BlockIQ4XS>(row, out),
        DType::MXFP4 => blocks_of_32::<BlockMXFP4>(row, out),
    }
}

/// A `bf16` is the upper half of an `f32`.
pub(crate) fn bf16_to_f32(x: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(x)) << 16)
}

fn elements<const N: usize>(row: &[u8], out: &mut [f32], widen: impl Fn([u8; N]) -> f32) {
    for (out, x) in out.iter_mut().zip(blocks::<[u8; N]>(row)) {
        *out = widen(*x);
    }
}

fn blocks_of_32<B: Unpack<Plain32>>(row: &[u8], out: &mut [f32]) {
    for (out, block) in out.as_chunks_mut().0.iter_mut().zip(blocks::<B>(row)) {
        block.unpack().expand(out);
    }
}

fn blocks_of_256<B: Unpack<Plain256>>(row: &[u8], out: &mut [f32]) {
    for (out, block) in out.as_chunks_mut().0.iter_mut().zip(blocks::<B>(row)) {
        block.unpack().expand(out);
    }
}

impl Plain32 {
    /// Its weights.
    pub(crate) fn expand(&self, out: &mut [f32; 32]) {
        for (out, q) in out.iter_mut().zip(self.q) {
            *out = self.d * f32::from(q) + self.m;
        }
    }
}

impl Plain256 {
    /// Its weights.
    pub(crate) fn expand(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for (g, (out, q)) in out.as_chunks_mut::<16>().0.iter_mut().zip(self.q.as_chunks::<16>().0).enumerate() {
            let (scale, min) = (d * f32::from(self.scales[g]), dmin * f32::from(self.mins[g]));
            for (out, q) in out.iter_mut().zip(q) {
                *out = scale * f32::from(*q) - min;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    /// The vectors were made by the Python package `gguf`; see `tools/make_quant_vectors.py`.
    #[test]
    fn agrees_with_gguf_py_bit_for_bit() {
        let text = include_str!("../../../tests/data/quant_vectors.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        for dtype in DType::ALL.into_iter().filter(|&d| d != DType::F32) {
            let vector = &vectors[dtype.name()];
            let (row, expected) = (bytes(vector["bytes"].as_str().unwrap()), bytes(vector["values"].as_str().unwrap()));
            let expected: Vec<f32> = expected.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
            let mut out = vec![0.0; expected.len()];
            dequantize(dtype, &row, &mut out);
            assert!(out.len() >= 256 && out == expected, "{}", dtype.name());
        }
    }

    #[test]
    #[should_panic(expected = "bytes of a row")]
    fn a_short_row_is_refused() {
        dequantize(DType::Q8_0, &[0; 33], &mut [0.0; 32]);
    }
}
