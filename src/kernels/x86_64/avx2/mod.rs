//! The sets for AVX2, FMA and F16C: every x86-64 server and desktop since 2013 (Haswell, Zen); one of them with AVX-VNNI.
//!
//! Every function below the entry points is marked with the three features, which makes intrinsics safe in it; only the entry points
//! and trait methods need an `unsafe` call, and an [`Avx2`] is the proof they rest on.

mod floats;
mod lanes;
mod pointwise;
mod quantize;
mod vector;
mod vnni;

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

/// The sets on vectors of 256 bits. A value exists only where the CPU has AVX2, FMA and F16C, and AVX-VNNI if `VNNI`.
#[derive(Clone, Copy, Debug)]
pub struct Ymm<const VNNI: bool> {
    /// Only made where the features have been looked for: here, and by sets that have them too.
    pub(super) _proof: (),
}

/// The set named `"avx2"`.
pub type Avx2 = Ymm<false>;

/// The set named `"avx-vnni"`: Intel's desktops since 2021 (Alder Lake), which lack AVX-512. Products of quantised weights are its own.
pub type AvxVnni = Ymm<true>;

impl<const VNNI: bool> Ymm<VNNI> {
    /// The proof, if this CPU has the instructions.
    pub fn new() -> Option<Self> {
        Self::get().copied()
    }

    /// As [`Self::new`], for ever.
    pub(in crate::kernels) fn get() -> Option<&'static Self> {
        let cpu = CpuFeatures::detect();
        (cpu.avx2 && cpu.fma && cpu.f16c && (cpu.avxvnni || !VNNI)).then_some(&Self { _proof: () })
    }

    /// The set without VNNI.
    #[inline(always)]
    fn plain(self) -> Avx2 {
        Avx2 { _proof: () }
    }

    /// This set, if it is the one with VNNI.
    #[inline(always)]
    fn vnni(self) -> Option<AvxVnni> {
        VNNI.then_some(AvxVnni { _proof: () })
    }
}

impl<const VNNI: bool> Kernels for Ymm<VNNI> {
    fn name(&self) -> &'static str {
        if VNNI { "avx-vnni" } else { "avx2" }
    }

    fn activation_bytes(&self, layout: Activation, n_cols: usize) -> usize {
        row_bytes(layout, n_cols)
    }

    fn quantize(&self, layout: Activation, x: &[f32], out: &mut [u8]) {
        // SAFETY: `self` proves the features.
        unsafe { quantize::quantize(self.plain(), layout, x, out) }
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
        // One row per token, against a whole model of products: not worth a second implementation.
        match row.tile_rows {
            TILE_ROWS => packed::dequantize::<TILE_ROWS>(row.dtype, row.bytes, row.skip, out),
            _ => Reference.dequantize(row, out),
        }
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        // SAFETY: `self` proves the features.
        unsafe { floats::rms_norm(self.plain(), x, weight, eps, out) }
    }

    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
        // SAFETY: `self` proves the features.
        unsafe { floats::layer_norm(self.plain(), x, weight, bias, eps, out) }
    }

    fn add(&self, x: &mut [f32], y: &[f32]) {
        // SAFETY: `self` proves the features.
        unsafe { pointwise::add(x, y) }
    }

    fn glu(&self, f: GateFn, gate: &mut [f32], up: &[f32]) {
        // SAFETY: `self` proves the features.
        unsafe { floats::glu(self.plain(), f, gate, up) }
    }

    fn rope(&self, style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        // SAFETY: `self` proves the features.
        unsafe { pointwise::rope(style, head, cos, sin) }
    }

    fn store_key(&self, kind: KvType, key: &[f32], keys: &mut [u8], token: usize) {
        // SAFETY: `self` proves the features.
        unsafe { floats::store_key(self.plain(), kind, key, keys, token) }
    }

    fn store_value(&self, kind: KvType, value: &[f32], values: &mut [u8], token: usize) {
        // SAFETY: `self` proves the features.
        unsafe { floats::store_value(self.plain(), kind, value, values, token) }
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
        unsafe { floats::attend(self.plain(), params, q, tile, next, visible, state) }
    }
}
