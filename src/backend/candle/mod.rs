//! The stages of a decoder on candle tensors: on the CPU the oracle of our own kernels, on CUDA the base of the GPU path.
//! Used through [`Backend`]; clarity comes before speed, and every value stays on the device.
//!
//! # Limits on the CPU
//!
//! - Results are equal up to rounding, not to the bit: candle's matrix product takes another path for one row than for many.
//! - Candle's thread pools belong to the process. They take their size from the environment, serialise their callers, stop working
//!   after a panic inside them, and hang in a forked child. Shapes, indices and lengths are therefore checked before candle sees
//!   them; `fork()` cannot be helped. Nothing here is for the hot path of a host: that is what `cpu` is for.
//! - Weights and KV are reserved before they are allocated. Activations are not: candle aborts if the system has no memory for one.
//!   They are bounded by the workspace's rows; the largest is attention's `(n_heads, rows, positions)`.

mod altup;
mod attention;
#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "the driver's version, and what stands in for the driver")]
mod cuda;
mod error;
mod kv;
mod latent;
mod memory;
mod moe;
mod rope;
mod weights;
mod workspace;

#[cfg(feature = "cuda")]
pub use cuda::Cuda;
pub use kv::Kv;
pub use weights::Matrix;
pub use workspace::Workspace;

use super::{
    Attention, Backend, Batch, BlockId, Experts, FeedForwardFn, HeadNorms, HostTensor, Join, Latent, Linear, Norm, NormKind, Rope, Shape,
    Slot, StreamStage,
};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::kernels::{GateFn, KvType};
use candle_core::{Device, Tensor};
use error::InStage;
use rope::Angles;
use std::ops::Range;

/// How weights are held and multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Expanded to `f32` at load: what a file says, exactly. The oracle.
    Float,
    /// As stored: blocks are multiplied by candle's quantised kernels, which round the activations.
    Quantized,
}

/// A candle device as a backend.
#[derive(Clone, Debug)]
pub struct Candle {
    device: Device,
    precision: Precision,
}

impl Candle {
    /// The backend on `device`.
    pub fn new(device: Device, precision: Precision) -> Self {
        Self { device, precision }
    }

    /// The backend on the CPU.
    pub fn cpu(precision: Precision) -> Self {
        Self::new(Device::Cpu, precision)
    }
}

impl Backend for Candle {
    type Matrix = Matrix;
    type Vector = Tensor;
    type Kv = Kv;
    type Workspace = Workspace;

    /// Products of libraries choose their order of summation by the size of the batch.
    const BIT_STABLE: bool = false;

    fn name(&self) -> &'static str {
        "candle"
    }

    fn matrix(&self, tensor: HostTensor) -> Result<Matrix> {
        Matrix::new(&tensor, &self.device, self.precision)
    }

    fn vector(&self, tensor: HostTensor) -> Result<Tensor> {
        weights::vector(&tensor, &self.device)
    }

    fn matrix_bytes(&self, matrix: &Matrix) -> usize {
        matrix.bytes()
    }

    fn planned_bytes(&self, dtype: DType, n_rows: usize, n_cols: usize) -> u64 {
        weights::row_bytes(dtype, n_cols, self.precision).saturating_mul(n_rows) as u64
    }

    fn workspace_bytes(&self, shape: &Shape, max_rows: usize, max_outputs: usize) -> u64 {
        // Tensors come and go; about as many are alive as the activations of a layer.
        let row =
            4 * shape.n_embd + 2 * shape.n_heads * shape.head_dim + 2 * shape.n_ff.max(shape.moe.map_or(0, |moe| moe.n_used * moe.n_ff));
        let row = row + shape.altup.map_or(0, |altup| 2 * altup.n_streams * shape.n_embd + altup.n_inputs());
        (row.saturating_mul(max_rows).saturating_add(max_outputs.saturating_mul(shape.n_vocab)) as u64).saturating_mul(4)
    }

    fn kv(&self, shape: &Shape, kind: KvType) -> Result<Kv> {
        shape.check()?;
        Kv::new(shape, kind)
    }

    fn grow_kv(&self, kv: &mut Kv, n_blocks: usize) -> Result<()> {
        kv.grow(&self.device, n_blocks)
    }

    fn kv_block_bytes(&self, kv: &Kv) -> usize {
        kv.block_bytes()
    }

    fn copy_block(&self, kv: &mut Kv, from: BlockId, to: BlockId) -> Result<()> {
        kv.copy_block(from, to)
    }

    fn turn_back(&self, kv: &mut Kv, blocks: &[BlockId], n_positions: usize, rope: &Rope) -> Result<()> {
        kv.turn_back(&self.device, blocks, n_positions, rope)
    }

    fn read_block(&self, kv: &Kv, id: BlockId, out: &mut [u8]) -> Result<()> {
        kv.read_block(id, out)
    }

    fn write_block(&self, kv: &mut Kv, id: BlockId, bytes: &[u8]) -> Result<()> {
        kv.write_block(&self.device, id, bytes)
    }

    fn workspace(&self, shape: &Shape, max_rows: usize, max_outputs: usize) -> Result<Workspace> {
        shape.check()?;
        Ok(Workspace::new(shape, max_rows, max_outputs))
    }

    fn begin(&self, ws: &mut Workspace, batch: &Batch, ropes: &[Rope]) -> Result<()> {
        if let Some(rope) = ropes.iter().find(|rope| 2 * rope.inv_freq.len() > ws.shape.head_dim) {
            fail!(Internal, "candle, begin: {} rotary pairs in a head of {}", rope.inv_freq.len(), ws.shape.head_dim);
        }
        ws.begin(batch)?;
        let angles = ropes.iter().map(|rope| Angles::new(&batch.positions, rope, &self.device));
        ws.angles = angles.collect::<candle_core::Result<_>>().stage("begin")?;
        Ok(())
    }

    fn embed(&self, ws: &mut Workspace, batch: &Batch, table: &Matrix, scale: f32) -> Result<()> {
        ws.check(batch, "embed")?;
        let n_vocab = table.n_rows().stage("embed")?;
        if let Some(token) = batch.tokens.iter().find(|&&token| token as usize >= n_vocab) {
            fail!(InvalidArgument, "token {token} of a vocabulary of {n_vocab}");
        }
        let tokens = Tensor::new(batch.tokens.as_slice(), &self.device).stage("embed")?; // (rows,)
        let rows = table.rows(&tokens).and_then(|rows| rows * f64::from(scale)).stage("embed")?; // (rows, n_embd)
        ws.set_residual(rows);
        Ok(())
    }

    fn set_residual(&self, ws: &mut Workspace, batch: &Batch, residual: &[f32]) -> Result<()> {
        ws.check(batch, "set_residual")?;
        let shape = (batch.n_rows(), ws.shape.n_embd);
        ws.set_residual(Tensor::from_slice(residual, shape, &self.device).stage("set_residual")?);
        Ok(())
    }

    fn residual(&self, ws: &Workspace, out: &mut [f32]) -> Result<()> {
        let rows = ws.residual("residual")?.flatten_all().and_then(|rows| rows.to_vec1::<f32>()).stage("residual")?; // (rows * n_embd,)
        if rows.len() != out.len() {
            fail!(Internal, "candle, residual: {} elements of {}", out.len(), rows.len());
        }
        out.copy_from_slice(&rows);
        Ok(())
    }

    fn norm_project(&self, ws: &mut Workspace, norm: Option<&Norm<Self>>, projections: &[(Slot, &Linear<Self>)]) -> Result<()> {
        let x = ws.residual("norm_project")?;
        let x = norm.map_or(Ok(x.clone()), |norm| normalise(x, norm)).stage("norm_project")?; // (rows, n_embd)
        for (slot, linear) in projections {
            let y = project(&x, linear).stage(&format!("norm_project into {slot:?}"))?; // (rows, n_out)
            ws.put(*slot, y);
        }
        Ok(())
    }

    fn latent_project(&self, ws: &mut Workspace, norm: Option<&Norm<Self>>, latent: &Latent<Self>) -> Result<()> {
        latent::project_latent(ws, norm, latent)
    }

    fn latent_values(&self, ws: &mut Workspace, latent: &Latent<Self>) -> Result<()> {
        latent::latent_values(ws, latent)
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
        const STAGE: &str = "rope_append";
        ws.check(batch, STAGE)?;
        let [n_heads, n_kv_heads] = [ws.shape.n_heads, ws.shape.n_kv_heads];
        let [query, key, value] = [ws.take(Slot::Query, STAGE)?, ws.take(Slot::Key, STAGE)?, ws.take(Slot::Value, STAGE)?];
        let query = turn(ws, &query, n_heads, head_norms.map(|norms| norms.query), rope, STAGE)?; // (rows, n_heads * head_dim)
        let key = turn(ws, &key, n_kv_heads, head_norms.map(|norms| norms.key), rope, STAGE)?; // (rows, n_kv_heads * head_dim)
        let value = turn(ws, &value, n_kv_heads, head_norms.and_then(|norms| norms.value), None, STAGE)?;
        kv.append(batch, layer, &key, &value)?;
        ws.put(Slot::Query, query);
        Ok(())
    }

    fn rope_query(&self, ws: &mut Workspace, batch: &Batch, norm: Option<&Norm<Self>>, rope: Option<usize>) -> Result<()> {
        const STAGE: &str = "rope_query";
        ws.check(batch, STAGE)?;
        let query = ws.take(Slot::Query, STAGE)?;
        let query = turn(ws, &query, ws.shape.n_heads, norm, rope, STAGE)?; // (rows, n_heads * head_dim)
        ws.put(Slot::Query, query);
        Ok(())
    }

    fn attend(
        &self,
        ws: &mut Workspace,
        batch: &Batch,
        layer: usize,
        attention: &Attention,
        sinks: Option<&Tensor>,
        kv: &Kv,
    ) -> Result<()> {
        ws.check(batch, "attend")?;
        let Shape { n_heads, head_dim, .. } = ws.shape;
        let query = ws.take(Slot::Query, "attend")?.reshape(((), n_heads, head_dim)).stage("attend")?; // (rows, n_heads, head_dim)
        let mut parts = Vec::with_capacity(batch.sequences.len());
        for sequence in &batch.sequences {
            let (keys, values) = kv.gather(batch, sequence, layer)?; // (n_kv_heads, n_positions, head_dim)
            let positions = &batch.positions[sequence.rows.clone()];
            let part = attention::mask(positions, sequence.start + positions.len(), attention.sight, &self.device)
                .and_then(|mask| {
                    let query = query.narrow(0, sequence.rows.start, positions.len())?;
                    let query = attention::warm(&query, positions, attention.temperature)?;
                    attention::attend(&query, &keys, &values, &mask, attention, sinks)
                })
                .stage("attend")?;
            parts.push(part);
        }
        ws.put(Slot::Query, Tensor::cat(&parts, 0).stage("attend")?); // (rows, n_heads * head_dim)
        Ok(())
    }

    fn project_add(&self, ws: &mut Workspace, linear: &Linear<Self>, join: &Join<Self>) -> Result<()> {
        let x = ws.take(Slot::Query, "project_add")?; // (rows, n_heads * head_dim)
        join_projection(ws, &x, linear, join, "project_add")
    }

    fn glu(&self, ws: &mut Workspace, f: FeedForwardFn, down: &Linear<Self>, join: &Join<Self>) -> Result<()> {
        let up = ws.take(Slot::Up, "glu")?; // (rows, n_ff)
        let gate = if matches!(f, FeedForwardFn::Plain(_)) { None } else { Some(ws.take(Slot::Gate, "glu")?) }; // (rows, n_ff)
        let x = activate(f, gate.as_ref(), &up).stage("glu")?; // (rows, n_ff)
        join_projection(ws, &x, down, join, "glu")
    }

    fn moe_up(&self, ws: &mut Workspace, norm: Option<&Norm<Self>>, experts: &Experts<Self>) -> Result<()> {
        moe::moe_up(ws, norm, experts)
    }

    fn moe_down(&self, ws: &mut Workspace, f: FeedForwardFn, experts: &Experts<Self>, scale: f32) -> Result<()> {
        moe::moe_down(ws, f, experts, scale)
    }

    fn streams(&self, ws: &mut Workspace, batch: &Batch, stage: StreamStage<'_, Self>) -> Result<()> {
        altup::run(ws, batch, stage)
    }

    fn head(&self, ws: &mut Workspace, batch: &Batch, norm: &Norm<Self>, weight: &Matrix, vocab: Range<usize>) -> Result<()> {
        ws.check(batch, "head")?;
        if batch.outputs.is_empty() {
            return Ok(());
        }
        let done = if vocab.start == 0 { None } else { ws.logits.take() }; // (outputs, n_done)
        let n_done = done.as_ref().map_or(Ok(0), |done| done.dim(1)).stage("head")?;
        let n_vocab = weight.n_rows().stage("head")?;
        if vocab.start > n_done || vocab.is_empty() || vocab.end > n_vocab {
            fail!(Internal, "candle, head: rows {vocab:?} of {n_vocab} after {n_done}");
        }
        if vocab.end <= n_done {
            ws.logits = done; // a weight in blocks has given these columns before
            return Ok(());
        }
        let x = output_rows(ws.residual("head")?, batch, norm).stage("head")?; // (outputs, n_embd)
        let part = weight.product_from(&x, n_done..vocab.end).stage("head")?; // (outputs, at least vocab)
        let logits = done.map_or(Ok(part.clone()), |done| Tensor::cat(&[&done, &part], 1)); // (outputs, n_done + part)
        ws.logits = Some(logits.stage("head")?);
        Ok(())
    }

    fn logits(&self, ws: &Workspace, i: usize, out: &mut [f32]) -> Result<()> {
        let (n_outputs, n_done) = ws.logits.as_ref().map_or(Ok((0, 0)), |logits| logits.dims2()).stage("logits")?;
        let Some(logits) = ws.logits.as_ref().filter(|_| i < n_outputs && out.len() == n_done) else {
            fail!(Internal, "candle, logits: {} of output {i}, there are {n_done} of {n_outputs} outputs", out.len());
        };
        let row = logits.get(i).and_then(|row| row.to_vec1::<f32>()).stage("logits")?; // (n_vocab,)
        out.copy_from_slice(&row);
        Ok(())
    }
}

/// The norm over the last dimension. Source: arXiv 1910.07467, eq. 4; arXiv 1607.06450, eq. 4.
fn normalise(x: &Tensor, norm: &Norm<Candle>) -> candle_core::Result<Tensor> {
    match norm.kind {
        NormKind::Rms => candle_nn::ops::rms_norm(&x.contiguous()?, &norm.weight, norm.eps),
        NormKind::Layer => {
            let bias = norm.bias.as_ref().map_or_else(|| norm.weight.zeros_like(), |bias| Ok(bias.clone()))?;
            candle_nn::ops::layer_norm(&x.contiguous()?, &norm.weight, &bias, norm.eps)
        }
    }
}

/// The heads of `x` (`(rows, n_heads * head_dim)`), normalised one by one, or all of a row together, as the weights are long, and rotated.
fn turn(ws: &Workspace, x: &Tensor, n_heads: usize, norm: Option<&Norm<Candle>>, rope: Option<usize>, stage: &str) -> Result<Tensor> {
    if let Some(rope) = rope.filter(|&rope| rope >= ws.angles.len()) {
        fail!(Internal, "candle, {stage}: rope {rope} in a pass that began with {}", ws.angles.len());
    }
    let angles = rope.and_then(|i| ws.angles[i].as_ref());
    let normed = norm.map_or(Ok(x.clone()), |norm| normalise(&x.reshape(((), norm.weight.elem_count()))?, norm));
    normed
        .and_then(|x| x.reshape(((), n_heads, ws.shape.head_dim))) // (rows, n_heads, head_dim)
        .and_then(|x| angles.map_or(Ok(x.clone()), |angles| angles.rotate(&x))?.flatten_from(1))
        .stage(stage)
}

/// What a feed-forward makes of `gate` and `up`, element by element.
fn activate(f: FeedForwardFn, gate: Option<&Tensor>, up: &Tensor) -> candle_core::Result<Tensor> {
    let gate = gate.unwrap_or(up);
    match f {
        FeedForwardFn::Gated(f) => apply(f, gate)?.mul(up),
        FeedForwardFn::Sparse(f, deviations) => apply(f, &cut(gate, deviations)?)?.mul(up),
        FeedForwardFn::Plain(f) => apply(f, up),
        FeedForwardFn::Clamped => {
            let (alpha, limit) = (f64::from(FeedForwardFn::ALPHA), FeedForwardFn::LIMIT);
            let gate = gate.minimum(limit)?;
            let sigmoid = candle_nn::ops::sigmoid(&(&gate * alpha)?)?;
            (up.clamp(-limit, limit)? + 1.0)?.mul(&gate.mul(&sigmoid)?)
        }
    }
}

/// What of each row of `x` is above its mean plus `deviations` standard deviations.
fn cut(x: &Tensor, deviations: f32) -> candle_core::Result<Tensor> {
    let mean = x.mean_keepdim(1)?; // (rows, 1)
    let deviation = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?.sqrt()?; // (rows, 1)
    x.broadcast_sub(&(mean + (deviation * f64::from(deviations))?)?)?.relu()
}

/// `f(x)`, element by element.
fn apply(f: GateFn, x: &Tensor) -> candle_core::Result<Tensor> {
    match f {
        GateFn::Silu => x.silu(),
        GateFn::GeluTanh => x.gelu(),
        GateFn::GeluErf => x.gelu_erf(),
        GateFn::Relu2 => x.relu()?.sqr(),
    }
}

/// `W x + b`: `(rows, n_in) -> (rows, n_out)`.
fn project(x: &Tensor, linear: &Linear<Candle>) -> candle_core::Result<Tensor> {
    let y = linear.weight.product(x)?;
    match &linear.bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// Joins `W x + b` to the residual.
fn join_projection(ws: &mut Workspace, x: &Tensor, linear: &Linear<Candle>, join: &Join<Candle>, stage: &str) -> Result<()> {
    let residual = ws.residual(stage)?; // (rows, n_embd)
    let sum = project(x, linear)
        .and_then(|y| join.norm.as_ref().map_or(Ok(y.clone()), |norm| normalise(&y, norm)))
        .and_then(|y| residual.add(&(y * f64::from(join.scale))?));
    ws.set_residual(sum.stage(stage)?);
    Ok(())
}

/// The normalised residual of the rows whose logits are wanted: `(rows, n_embd) -> (outputs, n_embd)`.
fn output_rows(residual: &Tensor, batch: &Batch, norm: &Norm<Candle>) -> candle_core::Result<Tensor> {
    let outputs: Vec<u32> = batch.outputs.iter().map(|&row| row as u32).collect();
    let outputs = Tensor::new(outputs, residual.device())?; // (outputs,)
    normalise(&residual.index_select(&outputs, 0)?, norm)
}

#[cfg(test)]
mod tests;
