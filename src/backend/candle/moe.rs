//! The stages of a mixture of experts on candle tensors: one expert after the other, each with the rows that chose it.

use super::error::InStage;
use super::workspace::Workspace;
use super::{Candle, activate, normalise, project};
use crate::backend::routing::sigmoid;
use crate::backend::{Experts, FeedForwardFn, Linear, Norm, Pick, Slot};
use crate::error::Result;
use candle_core::Tensor;

/// What `moe_up` leaves for `moe_down`.
pub(super) struct Routed {
    /// `(rows, n_embd)`: the normalised residual.
    x: Tensor,
    /// `(rows, n_used)`
    picks: Vec<Pick>,
}

/// See [`crate::backend::Backend::moe_up`]. The experts' own products wait for `moe_down`.
pub(super) fn moe_up(ws: &mut Workspace, norm: Option<&Norm<Candle>>, experts: &Experts<Candle>) -> Result<()> {
    const STAGE: &str = "moe_up";
    let x = ws.residual(STAGE)?;
    let x = norm.map_or(Ok(x.clone()), |norm| normalise(x, norm)).stage(STAGE)?; // (rows, n_embd)
    let mut logits = project(&x, &experts.router).and_then(|logits| logits.to_vec2::<f32>()).stage(STAGE)?; // (rows, n_experts)
    let n_used = experts.routing.n_used;
    let mut picks = vec![Pick::default(); logits.len() * n_used];
    for (logits, picks) in logits.iter_mut().zip(picks.chunks_mut(n_used)) {
        experts.routing.choose(logits, experts.choice_bias.as_deref(), picks);
    }
    if let Some(shared) = &experts.shared {
        shared.project(|projections| {
            projections.iter().try_for_each(|(slot, linear)| project(&x, linear).stage(STAGE).map(|y| ws.put(*slot, y)))
        })?;
    }
    ws.routed = Some(Routed { x, picks });
    Ok(())
}

/// See [`crate::backend::Backend::moe_down`].
pub(super) fn moe_down(ws: &mut Workspace, f: FeedForwardFn, experts: &Experts<Candle>, scale: f32) -> Result<()> {
    const STAGE: &str = "moe_down";
    let Some(routed) = ws.routed.take() else { crate::fail!(Internal, "candle, {STAGE}: no row was routed") };
    let mut sum = routed.experts(f, experts).stage(STAGE)?; // (rows, n_embd)
    if let Some(shared) = &experts.shared {
        let (up, gate) = (ws.take(Slot::Up, STAGE)?, ws.take(Slot::Gate, STAGE).ok()); // (rows, n_ff)
        let y = activate(f, gate.as_ref(), &up).and_then(|hidden| project(&hidden, &shared.down));
        sum = y.and_then(|y| sum.add(&routed.weighed(&y, experts.shared_gate.as_deref())?)).stage(STAGE)?;
    }
    let residual = ws.residual(STAGE)?.add(&(sum * f64::from(scale)).stage(STAGE)?).stage(STAGE)?;
    ws.set_residual(residual);
    Ok(())
}

impl Routed {
    /// The sum of what each row's experts give: `(rows, n_embd)`.
    fn experts(&self, f: FeedForwardFn, experts: &Experts<Candle>) -> candle_core::Result<Tensor> {
        let (device, n_used) = (self.x.device(), experts.routing.n_used);
        let mut sum = self.x.zeros_like()?;
        let n_experts = experts.router.weight.n_rows()?;
        for expert in 0..n_experts {
            let chosen = self.picks.iter().enumerate().filter(|(_, pick)| pick.expert == expert);
            let (rows, weights): (Vec<u32>, Vec<f32>) = chosen.map(|(i, pick)| ((i / n_used) as u32, pick.weight)).unzip();
            if rows.is_empty() {
                continue;
            }
            let weights = Tensor::new(weights, device)?.unsqueeze(1)?; // (picks, 1)
            let rows = Tensor::new(rows, device)?; // (picks,)
            let x = self.x.index_select(&rows, 0)?; // (picks, n_embd)
            let x = if experts.routing.weighs_input { x.broadcast_mul(&weights)? } else { x };
            let gate = expert_product(&x, &experts.gate, expert, n_experts)?; // (picks, n_ff)
            let up = expert_product(&x, &experts.up, expert, n_experts)?;
            let y = expert_product(&activate(f, Some(&gate), &up)?, &experts.down, expert, n_experts)?; // (picks, n_embd)
            let y = if experts.routing.weighs_input { y } else { y.broadcast_mul(&weights)? };
            sum = sum.index_add(&rows, &y, 0)?;
        }
        Ok(sum)
    }

    /// `y` (`(rows, n_embd)`), each row times the sigmoid of its input's product with `gate` (`(n_embd,)`).
    fn weighed(&self, y: &Tensor, gate: Option<&[f32]>) -> candle_core::Result<Tensor> {
        let Some(gate) = gate else { return Ok(y.clone()) };
        let gate = Tensor::new(gate, y.device())?.unsqueeze(1)?; // (n_embd, 1)
        let weights: Vec<f32> = self.x.matmul(&gate)?.flatten_all()?.to_vec1::<f32>()?.into_iter().map(sigmoid).collect();
        y.broadcast_mul(&Tensor::new(weights, y.device())?.unsqueeze(1)?)
    }
}

/// `W x + b` with the rows of `expert`: `(picks, n_in) -> (picks, n_out)`.
pub(super) fn expert_product(x: &Tensor, linear: &Linear<Candle>, expert: usize, n_experts: usize) -> candle_core::Result<Tensor> {
    let n_out = linear.weight.n_rows()? / n_experts;
    let rows = expert * n_out..(expert + 1) * n_out;
    let y = linear.weight.product_from(x, rows)?.narrow(1, 0, n_out)?;
    match &linear.bias {
        Some(bias) => y.broadcast_add(&bias.narrow(0, expert * n_out, n_out)?),
        None => Ok(y),
    }
}
