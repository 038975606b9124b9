//! The portable kernel set: slow, obvious, kept for ever. Machines without a faster set run on it; tests hold the others to it.

mod attention;
mod dequantize;
mod kv;
mod matmul;
mod pointwise;
mod quantize;
pub(crate) mod unpack;

pub(in crate::kernels) use dequantize::bf16_to_f32;
pub use kv::{keys_as_values, turn_keys};
pub(in crate::kernels) use pointwise::layer_norm;
pub(in crate::kernels) use unpack::{Plain32, Plain256};

use super::activation::row_bytes;
use super::contract::{Activation, ActivationRows, AttendParams, GateFn, Kernels, KvTile, KvType, RopeStyle, SoftmaxState, WeightRows};
use crate::sys::columns::ColumnsMut;

/// The set named `"scalar"`; every machine has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Kernels for Reference {
    fn name(&self) -> &'static str {
        "scalar"
    }

    fn activation_bytes(&self, layout: Activation, n_cols: usize) -> usize {
        row_bytes(layout, n_cols)
    }

    fn quantize(&self, layout: Activation, x: &[f32], out: &mut [u8]) {
        quantize::quantize(layout, x, out);
    }

    fn matmul(&self, weights: WeightRows<'_>, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>) {
        matmul::matmul(weights, x, out);
    }

    fn dequantize(&self, row: WeightRows<'_>, out: &mut [f32]) {
        assert_eq!(row.tile_rows, 1, "the reference reads rows as in a file");
        dequantize::dequantize(row.dtype, row.bytes, out);
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        pointwise::rms_norm(x, weight, eps, out);
    }

    fn add(&self, x: &mut [f32], y: &[f32]) {
        pointwise::add(x, y);
    }

    fn glu(&self, f: GateFn, gate: &mut [f32], up: &[f32]) {
        pointwise::glu(f, gate, up);
    }

    fn rope(&self, style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        pointwise::rope(style, head, cos, sin);
    }

    fn store_key(&self, kind: KvType, key: &[f32], keys: &mut [u8], token: usize) {
        kv::store_key(kind, key, keys, token);
    }

    fn store_value(&self, kind: KvType, value: &[f32], values: &mut [u8], token: usize) {
        kv::store_value(kind, value, values, token);
    }

    fn attend(
        &self,
        params: &AttendParams,
        q: &[f32],
        tile: KvTile<'_>,
        _: Option<KvTile<'_>>,
        visible: &[(u32, u32)],
        state: &mut SoftmaxState<'_>,
    ) {
        attention::attend(params, q, tile, visible, state);
    }
}
