//! The stages of a decoder on our own kernels and the runtime's pool: the hot path.
//!
//! A stage is one parallel region, or two where rows must be prepared first. Buffers live in the workspace and only ever grow, so a
//! decode step allocates nothing once they have. No result depends on how work is divided: see [`crate::kernels`] and `attention`.

mod activations;
mod altup;
mod append;
mod attention;
mod head;
mod kv;
mod latent;
mod moe;
mod norm;
mod project;
mod shift;
mod softmax;
mod sums;
#[cfg(test)]
mod tests;
mod weights;
mod workspace;

pub use kv::Kv;
pub use weights::{Matrix, Vector};
pub use workspace::Workspace;

use super::{
    Attention, Backend, Batch, BlockId, Experts, FeedForwardFn, HeadNorms, HostTensor, Join, Latent, Linear, Norm, Rope, Shape, Slot,
    StreamStage,
};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::kernels::{self, Kernels, KvType};
use crate::sys::job;
use crate::sys::memory::{AlignedBytes, try_with_capacity};
use crate::sys::pool::Pool;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

/// Elements of an elementwise operation that make a task worth its claim: some microseconds.
const TASK_ELEMENTS: usize = 1 << 13;

/// Kernels of one instruction set on the threads of one runtime.
#[derive(Clone)]
pub struct Cpu {
    pool: Arc<Pool>,
    kernels: &'static dyn Kernels,
}

impl Cpu {
    /// The backend that computes with `kernels` on `pool`.
    pub fn new(pool: Arc<Pool>, kernels: &'static dyn Kernels) -> Self {
        Self { pool, kernels }
    }

    /// How many of `n_rows` rows of `width` elements make a task: worth its claim, and about two tasks per thread.
    fn rows_per_task(&self, n_rows: usize, width: usize) -> usize {
        let balanced = n_rows.div_ceil(2 * self.pool.n_threads());
        balanced.max(TASK_ELEMENTS.div_ceil(width.max(1))).max(1)
    }
}

impl Backend for Cpu {
    type Matrix = Matrix;
    type Vector = Vector;
    type Kv = Kv;
    type Workspace = Workspace;

    const BIT_STABLE: bool = true;

    fn name(&self) -> &'static str {
        "cpu"
    }

    fn uses_stored(&self, dtype: DType) -> bool {
        kernels::is_gathered(dtype)
    }

    fn matrix(&self, tensor: HostTensor) -> Result<Matrix> {
        job::run(Matrix::new(self, tensor))
    }

    fn matrix_in_slices(&self, tensor: HostTensor) -> impl Future<Output = Result<Matrix>> + Send {
        Matrix::new(self, tensor)
    }

    fn table(&self, tensor: HostTensor) -> Result<Matrix> {
        Matrix::unpacked(tensor)
    }

    fn vector(&self, tensor: HostTensor) -> Result<Vector> {
        Vector::new(self, &tensor)
    }

    fn encode(&self, from: DType, to: DType, n_cols: usize, rows: &[u8], out: &mut [u8]) -> Result<()> {
        weights::encode(self, [from, to], n_cols, rows, out)
    }

    fn write_matrix(&self, matrix: &Matrix, out: &mut dyn Write) -> Result<()> {
        matrix.write(self, out)
    }

    fn vector_values(&self, vector: &Vector) -> Result<Vec<f32>> {
        let mut values = try_with_capacity(vector.values.len())?;
        values.extend_from_slice(&vector.values);
        Ok(values)
    }

    fn matrix_bytes(&self, matrix: &Matrix) -> usize {
        matrix.n_bytes()
    }

    fn planned_bytes(&self, dtype: DType, n_rows: usize, n_cols: usize) -> u64 {
        let rows = n_rows.div_ceil(self.kernels.tile_rows()).saturating_mul(self.kernels.tile_rows());
        dtype.row_bytes(n_cols).unwrap_or(0).saturating_mul(rows) as u64
    }

    fn planned_table_bytes(&self, dtype: DType, n_rows: usize, n_cols: usize) -> u64 {
        dtype.row_bytes(n_cols).unwrap_or(0).saturating_mul(n_rows) as u64
    }

    fn workspace_bytes(&self, shape: &Shape, max_rows: usize, max_outputs: usize) -> u64 {
        workspace::n_bytes(shape, max_rows, max_outputs)
    }

    fn kv(&self, shape: &Shape, kind: KvType) -> Result<Kv> {
        Kv::new(shape, kind)
    }

    fn grow_kv(&self, kv: &mut Kv, n_blocks: usize) -> Result<()> {
        kv.grow(n_blocks)
    }

    fn kv_block_bytes(&self, kv: &Kv) -> usize {
        kv.block_bytes()
    }

    fn copy_block(&self, kv: &mut Kv, from: BlockId, to: BlockId) -> Result<()> {
        kv.copy_block(from, to)
    }

    fn turn_back(&self, kv: &mut Kv, blocks: &[BlockId], n_positions: usize, rope: &Rope) -> Result<()> {
        shift::turn_back(self, kv, blocks, n_positions, rope)
    }

    fn read_block(&self, kv: &Kv, id: BlockId, out: &mut [u8]) -> Result<()> {
        match kv.blocks.get(id as usize).map(AlignedBytes::as_slice) {
            Some(block) if block.len() == out.len() => out.copy_from_slice(block),
            _ => fail!(Internal, "cpu, read_block: block {id} of {} into {} bytes", kv.blocks.len(), out.len()),
        }
        Ok(())
    }

    fn write_block(&self, kv: &mut Kv, id: BlockId, bytes: &[u8]) -> Result<()> {
        let n_blocks = kv.blocks.len();
        match kv.blocks.get_mut(id as usize).map(AlignedBytes::as_mut_slice) {
            Some(block) if block.len() == bytes.len() => block.copy_from_slice(bytes),
            _ => fail!(Internal, "cpu, write_block: block {id} of {n_blocks} from {} bytes", bytes.len()),
        }
        Ok(())
    }

    fn workspace(&self, shape: &Shape, max_rows: usize, max_outputs: usize) -> Result<Workspace> {
        Workspace::new(self, shape, max_rows, max_outputs)
    }

    fn begin(&self, ws: &mut Workspace, batch: &Batch, ropes: &[Rope]) -> Result<()> {
        ws.begin(self, batch, ropes)
    }

    fn embed(&self, ws: &mut Workspace, batch: &Batch, table: &Matrix, scale: f32) -> Result<()> {
        project::embed(self, ws, batch, table, scale)
    }

    fn set_residual(&self, ws: &mut Workspace, batch: &Batch, residual: &[f32]) -> Result<()> {
        ws.check(batch, "set_residual")?;
        ws.residual_rows("set_residual", residual.len())?.copy_from_slice(residual);
        Ok(())
    }

    fn residual(&self, ws: &Workspace, out: &mut [f32]) -> Result<()> {
        match ws.residual.get(..ws.n_rows * ws.shape.n_embd) {
            Some(rows) if rows.len() == out.len() => out.copy_from_slice(rows),
            _ => fail!(Internal, "cpu, residual: {} elements of {} rows", out.len(), ws.n_rows),
        }
        Ok(())
    }

    fn norm_project(&self, ws: &mut Workspace, norm: Option<&Norm<Self>>, projections: &[(Slot, &Linear<Self>)]) -> Result<()> {
        project::norm_project(self, ws, norm, projections)
    }

    fn latent_project(&self, ws: &mut Workspace, norm: Option<&Norm<Self>>, latent: &Latent<Self>) -> Result<()> {
        latent::project(self, ws, norm, latent)
    }

    fn latent_values(&self, ws: &mut Workspace, latent: &Latent<Self>) -> Result<()> {
        latent::values(self, ws, latent)
    }

    fn rope_append(
        &self,
        ws: &mut Workspace,
        batch: &Batch,
        layer: usize,
        head_norms: Option<HeadNorms<'_, Self>>,
        rope: Option<usize>,
        kv: &mut Kv,
    ) -> Result<()> {
        append::rope_append(self, ws, batch, layer, head_norms, rope, kv)
    }

    fn rope_query(&self, ws: &mut Workspace, batch: &Batch, norm: Option<&Norm<Self>>, rope: Option<usize>) -> Result<()> {
        append::rope_query(self, ws, batch, norm, rope)
    }

    fn attend(
        &self,
        ws: &mut Workspace,
        batch: &Batch,
        layer: usize,
        attention: &Attention,
        sinks: Option<&Vector>,
        kv: &Kv,
    ) -> Result<()> {
        attention::attend(self, ws, batch, layer, attention, sinks, kv)
    }

    fn project_add(&self, ws: &mut Workspace, linear: &Linear<Self>, join: &Join<Self>) -> Result<()> {
        project::project_add(self, ws, linear, join)
    }

    fn glu(&self, ws: &mut Workspace, f: FeedForwardFn, down: &Linear<Self>, join: &Join<Self>) -> Result<()> {
        project::glu(self, ws, f, down, join)
    }

    fn moe_up(&self, ws: &mut Workspace, norm: Option<&Norm<Self>>, experts: &Experts<Self>) -> Result<()> {
        moe::moe_up(self, ws, norm, experts)
    }

    fn moe_down(&self, ws: &mut Workspace, f: FeedForwardFn, experts: &Experts<Self>, scale: f32) -> Result<()> {
        moe::moe_down(self, ws, f, experts, scale)
    }

    fn streams(&self, ws: &mut Workspace, batch: &Batch, stage: StreamStage<'_, Self>) -> Result<()> {
        altup::run(self, ws, batch, stage)
    }

    fn head(&self, ws: &mut Workspace, batch: &Batch, norm: &Norm<Self>, weight: &Matrix, vocab: Range<usize>) -> Result<()> {
        head::head(self, ws, batch, norm, weight, vocab)
    }

    fn logits(&self, ws: &Workspace, i: usize, out: &mut [f32]) -> Result<()> {
        head::logits(ws, i, out)
    }
}
