//! The stages of a model with several residual streams on candle tensors, one formula after the other.

use super::error::InStage;
use super::workspace::Workspace;
use super::{Candle, apply, normalise, project};
use crate::backend::{Altup, AltupShape, Batch, Linear, Norm, StreamStage, Streams};
use crate::error::Result;
use crate::fail;
use candle_core::{D, Tensor};
use std::f64::consts::FRAC_1_SQRT_2;

/// The streams of a pass.
pub(super) struct State {
    /// `(n_streams,)`, each `(rows, n_embd)`
    streams: Vec<Tensor>,
    /// `(rows, n_layers, n_per_layer)`
    inputs: Tensor,
}

/// See [`crate::backend::Backend::streams`].
pub(super) fn run(ws: &mut Workspace, batch: &Batch, stage: StreamStage<'_, Candle>) -> Result<()> {
    const STAGE: &str = "streams";
    ws.check(batch, STAGE)?;
    let Some(shape) = ws.shape.altup else { fail!(Internal, "candle, {STAGE}: a workspace that was made for one residual") };
    let residual = ws.residual(STAGE)?.clone(); // (rows, n_embd)
    if let StreamStage::Spread(streams) = stage {
        ws.altup = Some(State::new(&shape, batch, &residual, streams).stage(STAGE)?);
        return Ok(());
    }
    let Some(state) = &mut ws.altup else { fail!(Internal, "candle, {STAGE}: no streams: they have not been spread") };
    let residual = match stage {
        StreamStage::Predict(altup) => state.predict(&shape, altup).stage(STAGE)?,
        StreamStage::Laurel(altup, norm) => laurel(&residual, altup, norm).stage(STAGE)?,
        StreamStage::Merge(streams) => state.merge(streams).stage(STAGE)?,
        StreamStage::Correct(altup, layer) => return state.correct(&shape, altup, &residual, layer).stage(STAGE),
        StreamStage::Spread(_) => residual,
    };
    ws.set_residual(residual);
    Ok(())
}

/// `x` (`(rows, n_embd)`) at the magnitude of `like`.
fn with_magnitude_of(x: &Tensor, like: &Tensor) -> candle_core::Result<Tensor> {
    let target = like.sqr()?.mean_keepdim(D::Minus1)?.sqrt()?; // (rows, 1)
    let own = x.sqr()?.mean_keepdim(D::Minus1)?.maximum(StreamStage::<Candle>::TINY)?.sqrt()?;
    x.broadcast_mul(&target)?.broadcast_div(&own)
}

/// `tanh(router(norm(x) / n_embd))`: `(rows, n_embd) -> (rows, n_streams)`.
fn route(x: &Tensor, altup: &Altup<Candle>) -> candle_core::Result<Tensor> {
    let n_embd = x.dim(1)?;
    let normed = (normalise(x, &altup.router_norm)? / n_embd as f64)?;
    small_product(&normed, &altup.router)?.tanh()
}

/// `x W^T`: `(rows, n_in)`, `(n_out, n_in)` -> `(rows, n_out)`.
fn small_product(x: &Tensor, weight: &[f32]) -> candle_core::Result<Tensor> {
    let weight = Tensor::new(weight, x.device())?.reshape(((), x.dim(1)?))?;
    x.matmul(&weight.t()?)
}

/// See [`StreamStage::Laurel`].
fn laurel(residual: &Tensor, altup: &Altup<Candle>, norm: &Norm<Candle>) -> candle_core::Result<Tensor> {
    let x = normalise(residual, norm)?;
    let low = project(&x, &altup.laurel_left)?; // (rows, rank)
    let learned = normalise(&project(&low, &altup.laurel_right)?, &altup.laurel_norm)?; // (rows, n_embd)
    (residual + x)?.add(&learned)? * FRAC_1_SQRT_2
}

impl State {
    /// See [`StreamStage::Spread`].
    fn new(shape: &AltupShape, batch: &Batch, residual: &Tensor, from: &Streams<Candle>) -> candle_core::Result<Self> {
        let AltupShape { n_streams, n_per_layer, n_layers, .. } = *shape;
        let n_embd = residual.dim(1)?;
        let products = project(residual, &from.spread)?; // (rows, (n_streams - 1) * n_embd)
        let mut streams = vec![residual.clone()];
        for i in 0..n_streams - 1 {
            streams.push(with_magnitude_of(&products.narrow(1, i * n_embd, n_embd)?, residual)?);
        }
        let part = (project(residual, &from.inputs)? * (n_embd as f64).powf(-0.5))?.reshape(((), n_layers, n_per_layer))?;
        let n_rows = from.table.n_rows()?;
        let ids: Vec<u32> = batch.tokens.iter().map(|&token| if (token as usize) < n_rows { token } else { 0 }).collect();
        let embedded = (from.table.rows(&Tensor::new(ids, residual.device())?)? * (n_per_layer as f64).sqrt())?;
        let sum = normalise(&part, &from.inputs_norm)?.add(&embedded.reshape(((), n_layers, n_per_layer))?)?;
        Ok(Self { streams, inputs: (sum * FRAC_1_SQRT_2)? })
    }

    /// See [`StreamStage::Predict`].
    fn predict(&mut self, shape: &AltupShape, altup: &Altup<Candle>) -> candle_core::Result<Tensor> {
        let said = route(&self.streams[shape.active], altup)?; // (rows, n_streams)
        let shares = small_product(&said, &altup.predict)?; // (rows, n_streams * n_streams)
        let predicted = |i: usize| {
            let mut sum = self.streams[i].clone();
            for (j, stream) in self.streams.iter().enumerate() {
                sum = sum.add(&stream.broadcast_mul(&shares.narrow(1, i * shape.n_streams + j, 1)?)?)?;
            }
            Ok(sum)
        };
        self.streams = (0..shape.n_streams).map(predicted).collect::<candle_core::Result<_>>()?;
        Ok(self.streams[shape.active].clone())
    }

    /// See [`StreamStage::Correct`].
    fn correct(&mut self, shape: &AltupShape, altup: &Altup<Candle>, news: &Tensor, layer: usize) -> candle_core::Result<()> {
        let shares = (small_product(&route(news, altup)?, &altup.correct)? + 1.0)?; // (rows, n_streams)
        let correction = news.sub(&self.streams[shape.active])?;
        for (i, stream) in self.streams.iter_mut().enumerate() {
            *stream = stream.add(&correction.broadcast_mul(&shares.narrow(1, i, 1)?)?)?;
        }
        let scale = Tensor::new(altup.output_scale.as_slice(), news.device())?; // (n_embd,)
        let gate = apply(altup.f, &project(&self.streams[shape.active].broadcast_mul(&scale)?, &altup.gate)?)?; // (rows, n_per_layer)
        let gated = gate.mul(&self.inputs.narrow(1, layer, 1)?.squeeze(1)?)?;
        let output = normalise(&project(&gated, &altup.output)?, &altup.output_norm)?; // (rows, n_embd)
        for stream in self.streams.iter_mut().skip(1) {
            *stream = stream.add(&output)?;
        }
        Ok(())
    }

    /// See [`StreamStage::Merge`].
    fn merge(&self, from: &Streams<Candle>) -> candle_core::Result<Tensor> {
        let first = &self.streams[0];
        let mut sum = first.clone();
        for (i, stream) in self.streams.iter().skip(1).enumerate() {
            sum = sum.add(&with_magnitude_of(&stacked_product(stream, &from.merge, i)?, first)?)?;
        }
        sum / self.streams.len() as f64
    }
}

/// `W x` with the `i`-th square part of the rows of `linear`: `(rows, n_embd) -> (rows, n_embd)`.
fn stacked_product(x: &Tensor, linear: &Linear<Candle>, i: usize) -> candle_core::Result<Tensor> {
    let n_embd = x.dim(1)?;
    linear.weight.product_from(x, i * n_embd..(i + 1) * n_embd)?.narrow(1, 0, n_embd)
}
