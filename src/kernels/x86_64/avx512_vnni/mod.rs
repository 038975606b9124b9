//! The set for AVX-512 with VNNI: Intel servers since 2019 (Cascade Lake), AMD since 2022 (Zen 4). Products and attention are its own,
//! the rest is AVX2's.

mod attention;
mod lanes;

use super::Avx2;
use crate::dtype::DType;
use crate::kernels::contract::{
    Activation, ActivationRows, AttendParams, GateFn, Kernels, KvTile, KvType, RopeStyle, SoftmaxState, WeightRows,
};
use crate::kernels::packed;
use crate::sys::columns::ColumnsMut;
use crate::sys::cpu::CpuFeatures;

/// Rows of a tile: the 32-bit lanes of a vector.
const TILE_ROWS: usize = 16;

/// The set named `"avx512-vnni"`. A value exists only where the CPU has AVX-512 F, BW and VNNI, and all that [`Avx2`] proves.
#[derive(Clone, Copy, Debug)]
pub struct Avx512Vnni {
    avx2: Avx2,
}

impl Avx512Vnni {
    /// The proof, if this CPU has the instructions.
    pub fn new() -> Option<Self> {
        Self::get().copied()
    }

    /// As [`Self::new`], for ever.
    pub(in crate::kernels) fn get() -> Option<&'static Self> {
        let cpu = CpuFeatures::detect();
        let proven = Avx2::get().is_some() && cpu.avx512f && cpu.avx512bw && cpu.avx512vnni;
        proven.then_some(&Self { avx2: Avx2 { _proof: () } })
    }
}

impl Kernels for Avx512Vnni {
    fn name(&self) -> &'static str {
        "avx512-vnni"
    }

    fn activation_bytes(&self, layout: Activation, n_cols: usize) -> usize {
        self.avx2.activation_bytes(layout, n_cols)
    }

    fn quantize(&self, layout: Activation, x: &[f32], out: &mut [u8]) {
        self.avx2.quantize(layout, x, out);
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
            _ => self.avx2.dequantize(row, out),
        }
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        self.avx2.rms_norm(x, weight, eps, out);
    }

    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
        self.avx2.layer_norm(x, weight, bias, eps, out);
    }

    fn add(&self, x: &mut [f32], y: &[f32]) {
        self.avx2.add(x, y);
    }

    fn glu(&self, f: GateFn, gate: &mut [f32], up: &[f32]) {
        self.avx2.glu(f, gate, up);
    }

    fn rope(&self, style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        self.avx2.rope(style, head, cos, sin);
    }

    fn store_key(&self, kind: KvType, key: &[f32], keys: &mut [u8], token: usize) {
        self.avx2.store_key(kind, key, keys, token);
    }

    fn store_value(&self, kind: KvType, value: &[f32], values: &mut [u8], token: usize) {
        self.avx2.store_value(kind, value, values, token);
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
        if attention::fits(params, tile.kind) {
            // SAFETY: `self` proves the features.
            unsafe { attention::attend(params, q, tile, next, visible, state) }
        } else {
            self.avx2.attend(params, q, tile, next, visible, state);
        }
    }
}
