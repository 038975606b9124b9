//! The stages of attention over latents on candle tensors, head by head. Used by `latent_project` and `latent_values`.

use super::error::InStage;
use super::moe::expert_product;
use super::workspace::Workspace;
use super::{Candle, normalise, project};
use crate::backend::{Latent, LatentShape, Norm, Slot};
use crate::error::Result;
use crate::fail;
use candle_core::Tensor;

/// See [`crate::backend::Backend::latent_project`].
pub(super) fn project_latent(ws: &mut Workspace, norm: Option<&Norm<Candle>>, latent: &Latent<Candle>) -> Result<()> {
    const STAGE: &str = "latent_project";
    let (shape, n_heads) = (shape(ws, STAGE)?, ws.shape.n_heads);
    let x = ws.residual(STAGE)?;
    let x = norm.map_or(Ok(x.clone()), |norm| normalise(x, norm)).stage(STAGE)?; // (rows, n_embd)
    let query = match &latent.query_down {
        Some((down, norm)) => project(&x, down).and_then(|low| project(&normalise(&low, norm)?, &latent.query)),
        None => project(&x, &latent.query),
    };
    let query = query.and_then(|query| query_heads(&query, shape, n_heads, latent)).stage(STAGE)?; // (rows, n_heads * head_dim)
    let key = project(&x, &latent.key).and_then(|key| {
        let normed = normalise(&key.narrow(1, 0, shape.rank)?, &latent.norm)?; // (rows, rank)
        Tensor::cat(&[&key.narrow(1, shape.rank, shape.n_rot)?, &normed], 1)
    });
    let key = key.stage(STAGE)?; // (rows, n_rot + rank)
    ws.put(Slot::Value, key.clone()); // a latent is its own value
    ws.put(Slot::Query, query);
    ws.put(Slot::Key, key);
    Ok(())
}

/// `(rows, n_heads * (n_still + n_rot))` to `(rows, n_heads * (n_rot + rank))`.
fn query_heads(query: &Tensor, shape: LatentShape, n_heads: usize, latent: &Latent<Candle>) -> candle_core::Result<Tensor> {
    let query = query.reshape(((), n_heads, shape.query_dim()))?;
    let mut parts = Vec::with_capacity(2 * n_heads);
    for head in 0..n_heads {
        let own = query.narrow(1, head, 1)?.squeeze(1)?; // (rows, n_still + n_rot)
        parts.push(own.narrow(1, shape.n_still, shape.n_rot)?);
        parts.push(expert_product(&own.narrow(1, 0, shape.n_still)?.contiguous()?, &latent.key_up, head, n_heads)?); // (rows, rank)
    }
    Tensor::cat(&parts, 1)
}

/// See [`crate::backend::Backend::latent_values`].
pub(super) fn latent_values(ws: &mut Workspace, latent: &Latent<Candle>) -> Result<()> {
    const STAGE: &str = "latent_values";
    let (shape, n_heads) = (shape(ws, STAGE)?, ws.shape.n_heads);
    let found = ws.take(Slot::Query, STAGE)?.reshape(((), n_heads, ws.shape.head_dim)).stage(STAGE)?;
    let value = |head: usize| {
        let own = found.narrow(1, head, 1)?.squeeze(1)?.narrow(1, shape.n_rot, shape.rank)?; // (rows, rank)
        expert_product(&own.contiguous()?, &latent.value_up, head, n_heads)
    };
    let parts = (0..n_heads).map(value).collect::<candle_core::Result<Vec<_>>>(); // (rows, n_value) each
    let values = parts.and_then(|parts| Tensor::cat(&parts, 1)).stage(STAGE)?; // (rows, n_heads * n_value)
    ws.put(Slot::Query, values);
    Ok(())
}

fn shape(ws: &Workspace, stage: &str) -> Result<LatentShape> {
    match ws.shape.latent {
        Some(latent) => Ok(latent),
        None => fail!(Internal, "candle, {stage}: a workspace that was made for no latents"),
    }
}
