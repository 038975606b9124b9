//! The set for AVX2, FMA and F16C: every x86-64 server and desktop since 2013 (Haswell, Zen). Weights are packed in tiles.
//!
//! Every function below the entry points is marked with the three features, which makes intrinsics safe in it; only the entry points
//! and trait methods need an `unsafe` call, and an [`Avx2`] is the proof they rest on.

mod attention;
mod dot_bytes;
mod dot_float;
mod element;
pub(super) mod exp;
mod kv;
mod lanes;
mod matmul;
mod pointwise;
mod quantize;
mod vector;

use crate::dtype::DType;
use crate::kernels::activation::row_bytes;
use crate::kernels::contract::{
    Activation, ActivationRows, AttendParams, GateFn, Kernels, KvTile, KvType, RopeStyle, SoftmaxState, WeightRows,
};
use crate::kernels::packed;
use crate::kernels::reference::Reference;
use crate::sys::columns::ColumnsMut;
use crate::sys::cpu::CpuFeatures;

/// Rows of a tile: the 32-bit lanes of a vector.
const TILE_ROWS: usize = 8;

/// The set named `"avx2"`. A value exists only where the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2 {
    /// Only made where the features have been looked for: here, and by sets that have them too.
    pub(super) _proof: (),
}

impl Avx2 {
    /// The proof, if this CPU has the instructions.
    pub fn new() -> Option<Self> {
        Self::get().copied()
    }

    /// As [`Self::new`], for ever.
    pub(in crate::kernels) fn get() -> Option<&'static Self> {
        let cpu = CpuFeatures::detect();
        (cpu.avx2 && cpu.fma && cpu.f16c).then_some(&Self { _proof: () })
    }
}

impl Kernels for Avx2 {
    fn name(&self) -> &'static str {
        "avx2"
    }

    fn activation_bytes(&self, layout: Activation, n_cols: usize) -> usize {
        row_bytes(layout, n_cols)
    }

    fn quantize(&self, layout: Activation, x: &[f32], out: &mut [u8]) {
        // SAFETY: `self` proves the features.
        unsafe { quantize::quantize(layout, x, out) }
    }

    fn tile_rows(&self) -> usize {
        TILE_ROWS
    }

    fn pack(&self, dtype: DType, rows: &[u8], tile: &mut [u8]) {
        packed::pack::<TILE_ROWS>(dtype, rows, tile);
    }

    fn matmul(&self, weights: WeightRows<'_>, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>) {
        match weights.tile_rows {
            TILE_ROWS => packed::matmul::<_, TILE_ROWS>(*self, weights, x, out),
            // SAFETY: `self` proves the features.
            _ => unsafe { matmul::matmul(weights, x, out) },
        }
    }

    fn dequantize(&self, row: WeightRows<'_>, out: &mut [f32]) {
        // One row per token, against a whole model of products: not worth a second implementation.
        match row.tile_rows {
            TILE_ROWS => packed::dequantize::<TILE_ROWS>(row.dtype, row.bytes, row.skip, out),
            _ => Reference.dequantize(row, out),
        }
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        // SAFETY: `self` proves the features.
        unsafe { pointwise::rms_norm(x, weight, eps, out) }
    }

    fn add(&self, x: &mut [f32], y: &[f32]) {
        // SAFETY: `self` proves the features.
        unsafe { pointwise::add(x, y) }
    }

    fn glu(&self, f: GateFn, gate: &mut [f32], up: &[f32]) {
        // SAFETY: `self` proves the features.
        unsafe { pointwise::glu(f, gate, up) }
    }

    fn rope(&self, style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        // SAFETY: `self` proves the features.
        unsafe { pointwise::rope(style, head, cos, sin) }
    }

    fn store_key(&self, kind: KvType, key: &[f32], keys: &mut [u8], token: usize) {
        // SAFETY: `self` proves the features.
        unsafe { kv::store_key(kind, key, keys, token) }
    }

    fn store_value(&self, kind: KvType, value: &[f32], values: &mut [u8], token: usize) {
        // SAFETY: `self` proves the features.
        unsafe { kv::store_value(kind, value, values, token) }
    }

    fn attend(
        &self,
        params: &AttendParams,
        q: &[f32],
        tile: KvTile<'_>,
        next: Option<KvTile<'_>>,
        visible: &[(u32, u32)],
        state: &mut SoftmaxState<'_>,
    ) {
        // SAFETY: `self` proves the features.
        unsafe { attention::attend(params, q, tile, next, visible, state) }
    }
}
