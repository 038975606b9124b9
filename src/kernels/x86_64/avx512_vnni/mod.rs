//! The sets for AVX-512 with VNNI: Intel servers since 2019 (Cascade Lake), AMD since 2022 (Zen 4); one of them with AMX. Products and
//! attention are their own, the rest is AVX2's.

mod attention;
mod lanes;

use super::{Avx2, amx};
use crate::dtype::DType;
use crate::kernels::contract::{
    Activation, ActivationRows, AttendParams, GateFn, Kernels, KvTile, KvType, RopeStyle, SoftmaxState, WeightRows,
};
use crate::kernels::packed;
use crate::sys::columns::ColumnsMut;
use crate::sys::cpu::CpuFeatures;
use crate::sys::tiles;

/// Rows of a tile: the 32-bit lanes of a vector.
const TILE_ROWS: usize = 16;

/// The sets on vectors of 512 bits. A value exists only where the CPU has AVX-512 F, BW and VNNI and all that [`Avx2`] proves; if `AMX`,
/// where it also has AMX-INT8 and the system lets this process use it.
#[derive(Clone, Copy, Debug)]
pub struct Zmm<const AMX: bool> {
    avx2: Avx2,
}

/// The set named `"avx512-vnni"`.
pub type Avx512Vnni = Zmm<false>;

/// The set named `"amx"`: Intel servers since 2023 (Sapphire Rapids). Products of quantised weights with many rows are its own.
pub type Amx = Zmm<true>;

impl<const AMX: bool> Zmm<AMX> {
    /// The proof, if this CPU has the instructions. For AMX this asks the system for the permission.
    pub fn new() -> Option<Self> {
        Self::get().copied()
    }

    /// As [`Self::new`], for ever.
    pub(in crate::kernels) fn get() -> Option<&'static Self> {
        (Self::is_known() && (!AMX || tiles::ask())).then_some(&Self { avx2: Avx2 { _proof: () } })
    }

    /// True if the CPU has the instructions and the system knows them: asks for nothing.
    pub(in crate::kernels) fn is_known() -> bool {
        let cpu = CpuFeatures::detect();
        Avx2::get().is_some() && cpu.avx512f && cpu.avx512bw && cpu.avx512vnni && (!AMX || tiles::are_supported())
    }

    /// The set without AMX.
    #[inline(always)]
    pub(super) fn plain(self) -> Avx512Vnni {
        Avx512Vnni { avx2: self.avx2 }
    }

    /// This set, if it is the one with AMX.
    #[inline(always)]
    fn amx(self) -> Option<Amx> {
        AMX.then_some(Amx { avx2: self.avx2 })
    }
}

impl<const AMX: bool> Kernels for Zmm<AMX> {
    fn name(&self) -> &'static str {
        if AMX { "amx" } else { "avx512-vnni" }
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
            TILE_ROWS => match self.amx() {
                Some(amx) if amx::takes(weights.dtype, x.n_rows) => amx::matmul(amx, weights, x, out),
                _ => packed::matmul::<_, TILE_ROWS>(self.plain(), weights, x, out),
            },
            _ => packed::matmul_stored::<_, TILE_ROWS>(self.plain(), weights, x, out),
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
