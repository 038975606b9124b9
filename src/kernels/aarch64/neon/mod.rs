//! The sets for NEON with the products of bytes that came with Armv8.2: Apple since 2018 (A12, M1), Graviton 2, every phone of some years; one of
//! them with the products of matrices of Armv8.6: Apple since 2021 (A15, M2), Graviton 3, phones since 2022.
//! Weights are packed in the same tiles as for AVX2, whose vectors are two of these.

mod floats;
mod lanes;
mod matrix;
mod quantize;
mod rope;
mod vector;

use crate::dtype::DType;
use crate::kernels::activation::row_bytes;
use crate::kernels::contract::{
    Activation, ActivationRows, AttendParams, GateFn, Kernels, KvTile, KvType, RopeStyle, SoftmaxState, WeightRows,
};
use crate::kernels::reference::Reference;
use crate::kernels::{packed, vectors};
use crate::sys::columns::ColumnsMut;
use crate::sys::cpu::CpuFeatures;

/// Rows of a tile: the 32-bit lanes of two vectors.
const TILE_ROWS: usize = 8;

/// The sets on NEON, which is part of the architecture. A value exists only where the CPU has the dot products, and those of matrices if `I8MM`.
#[derive(Clone, Copy, Debug)]
pub struct Neon<const I8MM: bool> {
    /// Only made where the features have been looked for.
    _proof: (),
}

/// The set named `"neon-dotprod"`.
pub type NeonDotprod = Neon<false>;

/// The set named `"neon-i8mm"`: products of quantised weights with two activation rows or more are its own.
pub type NeonI8mm = Neon<true>;

impl<const I8MM: bool> Neon<I8MM> {
    /// The proof, if this CPU has the instructions.
    pub fn new() -> Option<Self> {
        Self::get().copied()
    }

    /// As [`Self::new`], for ever.
    pub(in crate::kernels) fn get() -> Option<&'static Self> {
        let cpu = CpuFeatures::detect();
        (cpu.dotprod && (cpu.i8mm || !I8MM)).then_some(&Self { _proof: () })
    }

    /// This set, if it is the one with products of matrices.
    #[inline(always)]
    fn i8mm(self) -> Option<NeonI8mm> {
        I8MM.then_some(NeonI8mm { _proof: () })
    }
}

impl<const I8MM: bool> Kernels for Neon<I8MM> {
    fn name(&self) -> &'static str {
        if I8MM { "neon-i8mm" } else { "neon-dotprod" }
    }

    fn activation_bytes(&self, layout: Activation, n_cols: usize) -> usize {
        row_bytes(layout, n_cols)
    }

    fn quantize(&self, layout: Activation, x: &[f32], out: &mut [u8]) {
        vectors::quantize(*self, layout, x, out);
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
            _ => packed::matmul_stored::<_, TILE_ROWS>(*self, weights, x, out),
        }
    }

    fn dequantize(&self, row: WeightRows<'_>, out: &mut [f32]) {
        match row.tile_rows {
            TILE_ROWS => packed::dequantize::<TILE_ROWS>(row.dtype, row.bytes, row.skip, out),
            _ => Reference.dequantize(row, out),
        }
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        vectors::rms_norm(*self, x, weight, eps, out);
    }

    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
        vectors::layer_norm(*self, x, weight, bias, eps, out);
    }

    fn add(&self, x: &mut [f32], y: &[f32]) {
        Reference.add(x, y); // the compiler makes the best of it
    }

    fn glu(&self, f: GateFn, gate: &mut [f32], up: &[f32]) {
        vectors::glu(*self, f, gate, up);
    }

    fn rope(&self, style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        rope::rope(style, head, cos, sin);
    }

    fn store_key(&self, kind: KvType, key: &[f32], keys: &mut [u8], token: usize) {
        vectors::store_key(*self, kind, key, keys, token);
    }

    fn store_value(&self, kind: KvType, value: &[f32], values: &mut [u8], token: usize) {
        vectors::store_value(*self, kind, value, values, token);
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
        vectors::attend(*self, params, q, tile, next, visible, state);
    }
}
