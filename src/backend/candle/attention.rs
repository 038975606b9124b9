//! Attention of one sequence's rows over its positions, the textbook way. Used by the stage `attend`.
//!
//! All scores exist at once, `(n_heads, rows, n_positions)` in `f32`, and what a row may not see is masked, not skipped: nothing here
//! resembles the tiles and the online softmax of our kernels, so the two cannot share a mistake.

use crate::backend::{Attention, Sight, Temperature};
use candle_core::{DType, Device, Tensor};

/// What is added to the scores: 0 where a row may look, `-inf` where not. `positions` (`(rows,)`) -> `(rows, n_positions)`.
pub(super) fn mask(positions: &[u32], n_positions: usize, sight: Sight, device: &Device) -> candle_core::Result<Tensor> {
    // A row at `p` sees the keys `oldest..=p`.
    let oldest: Vec<u32> = positions.iter().map(|&p| sight.oldest(p as usize) as u32).collect();
    let keys = Tensor::arange(0, n_positions as u32, device)?.unsqueeze(0)?; // (1, n_positions)
    let newest = Tensor::new(positions, device)?.unsqueeze(1)?; // (rows, 1)
    let oldest = Tensor::new(oldest, device)?.unsqueeze(1)?; // (rows, 1)
    let seen = keys.broadcast_le(&newest)?.mul(&keys.broadcast_ge(&oldest)?)?; // (rows, n_positions)
    let open = Tensor::zeros(seen.shape(), DType::F32, device)?;
    let closed = Tensor::full(f32::NEG_INFINITY, seen.shape(), device)?;
    seen.where_cond(&open, &closed)
}

/// `query` (`(rows, n_heads, head_dim)`), each row times what its position says.
pub(super) fn warm(query: &Tensor, positions: &[u32], temperature: Option<Temperature>) -> candle_core::Result<Tensor> {
    let Some(temperature) = temperature else { return Ok(query.clone()) };
    let factors: Vec<f32> = positions.iter().map(|&p| temperature.at(p as usize)).collect();
    query.broadcast_mul(&Tensor::from_vec(factors, (positions.len(), 1, 1), query.device())?)
}

/// `softmax(cap(q k^T scale) + mask) v`: `query` `(rows, n_heads, head_dim)`, `keys` and `values` `(n_kv_heads, n_positions, head_dim)`,
/// `mask` `(rows, n_positions)`, `sinks` `(n_heads,)` -> `(rows, n_heads * head_dim)`. Source: arXiv 1706.03762, eq. 1; grouped heads: arXiv 2305.13245;
/// sinks: arXiv 2309.17453.
pub(super) fn attend(
    query: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    mask: &Tensor,
    attention: &Attention,
    sinks: Option<&Tensor>,
) -> candle_core::Result<Tensor> {
    let (rows, n_heads, head_dim) = query.dims3()?;
    let (n_kv_heads, n_positions, _) = keys.dims3()?;
    let group = n_heads / n_kv_heads; // query heads that share a KV head; they become rows of one product
    let query = query
        .reshape((rows, n_kv_heads, group, head_dim))?
        .permute((1, 2, 0, 3))? // (n_kv_heads, group, rows, head_dim)
        .contiguous()?
        .reshape((n_kv_heads, group * rows, head_dim))?;
    let scores = (query.matmul(&keys.t()?)? * f64::from(attention.scale))?; // (n_kv_heads, group * rows, n_positions)
    let scores = match attention.softcap {
        Some(cap) => ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?,
        None => scores,
    };
    let scores = scores.reshape((n_kv_heads, group, rows, n_positions))?.broadcast_add(mask)?;
    let scores = match sinks {
        // One more position, whose weight is then dropped.
        Some(sinks) => {
            let sinks = sinks.reshape((n_kv_heads, group, 1, 1))?.broadcast_as((n_kv_heads, group, rows, 1))?;
            Tensor::cat(&[scores, sinks.contiguous()?], 3)?.contiguous()?
        }
        None => scores,
    };
    let weights = candle_nn::ops::softmax_last_dim(&scores)?.narrow(3, 0, n_positions)?.contiguous()?.reshape((
        n_kv_heads,
        group * rows,
        n_positions,
    ))?;
    weights
        .matmul(values)? // (n_kv_heads, group * rows, head_dim)
        .reshape((n_kv_heads, group, rows, head_dim))?
        .permute((2, 0, 1, 3))? // (rows, n_kv_heads, group, head_dim)
        .contiguous()?
        .reshape((rows, n_heads * head_dim))
}
