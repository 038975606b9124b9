//! The last stage: logits of the rows that want them.

use super::Cpu;
use super::weights::Matrix;
use super::workspace::Workspace;
use crate::backend::{Batch, Norm};
use crate::error::Result;
use crate::fail;
use crate::sys::columns::ColumnsMut;
use std::ops::Range;

/// See [`crate::backend::Backend::head`].
pub(super) fn head(cpu: &Cpu, ws: &mut Workspace, batch: &Batch, norm: &Norm<Cpu>, weight: &Matrix, vocab: Range<usize>) -> Result<()> {
    ws.check(batch, "head")?;
    let Workspace { shape, residual, activations, logits, head_input, scratch, .. } = ws;
    let (n_embd, n_vocab, n_outputs) = (shape.n_embd, shape.n_vocab, batch.outputs.len());
    norm.check(n_embd, "head")?;
    if weight.n_in != n_embd || vocab.start > vocab.end || vocab.end > weight.n_out.min(n_vocab) {
        fail!(Internal, "cpu, head: rows {vocab:?} of a ({}, {}) weight for {n_vocab} tokens", weight.n_out, weight.n_in);
    }
    let layout = weight.activation();
    if *head_input != Some(layout) {
        activations.fill(cpu, scratch, layout, (n_outputs, n_embd), &|i, out| {
            let x = &residual[batch.outputs[i] * n_embd..][..n_embd];
            norm.apply(cpu.kernels, x, out);
        })?;
        *head_input = Some(layout);
    }
    let x = activations.rows(layout);
    let step = cpu.columns_per_task(vocab.len(), n_outputs, n_embd);
    let logits = ColumnsMut::new(&mut logits[..n_outputs * n_vocab], n_vocab).narrow(vocab);
    cpu.pool.for_columns(&mut [logits], step, &|_, mut part, _| {
        cpu.kernels.matmul(weight.rows(part.range()), x, &mut part);
    })
}

/// See [`crate::backend::Backend::logits`].
pub(super) fn logits(ws: &Workspace, i: usize, out: &mut [f32]) -> Result<()> {
    let n_vocab = ws.shape.n_vocab;
    if i >= ws.n_outputs || ws.head_input.is_none() || out.len() != n_vocab {
        fail!(Internal, "cpu, logits: output {i} of {} into {} of {n_vocab} elements", ws.n_outputs, out.len());
    }
    out.copy_from_slice(&ws.logits[i * n_vocab..][..n_vocab]);
    Ok(())
}
