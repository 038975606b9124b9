//! The stages of attention over latents: queries are taken to where latents are, and values made of what attention has found there.
//!
//! Each head has matrices of its own. Its rows lie together, `(n_heads, rows, width)`, so that products of heads are those of experts that every
//! row takes.

use super::Cpu;
use super::moe::{self, Run};
use super::project::project_into;
use super::workspace::Workspace;
use crate::backend::{Latent, LatentShape, Norm, Shape};
use crate::error::Result;
use crate::fail;
use crate::sys::memory::{try_vec, try_with_capacity};

/// What attention over latents computes on the way, kept from pass to pass.
pub(super) struct Latents {
    shape: LatentShape,
    /// `(max_rows, query_rank)`, or empty
    low: Vec<f32>,
    /// `(max_rows, rank + n_rot)`: keys as they are projected.
    key: Vec<f32>,
    /// `(max_rows, n_heads, n_still + n_rot)`: queries as they are projected.
    heads: Vec<f32>,
    /// `(n_heads, rows, rank)` or `(n_heads, rows, n_value)`
    products: Vec<f32>,
    /// The rows of each head.
    runs: Vec<Run>,
}

impl Latents {
    /// For passes of up to `max_rows` rows.
    pub(super) fn new(shape: &Shape, latent: LatentShape, max_rows: usize) -> Result<Self> {
        let rows = |width: usize| try_vec(max_rows.saturating_mul(width));
        Ok(Self {
            shape: latent,
            low: rows(latent.query_rank.unwrap_or(0))?,
            key: rows(shape.head_dim)?,
            heads: rows(shape.n_heads * latent.query_dim())?,
            products: rows(shape.n_heads * latent.rank.max(latent.n_value))?,
            runs: try_with_capacity(shape.n_heads)?,
        })
    }

    /// Elements for each row.
    pub(super) fn elements_per_row(shape: &Shape, latent: LatentShape) -> usize {
        let per_head = latent.query_dim().saturating_add(latent.rank.max(latent.n_value));
        shape.n_heads.saturating_mul(per_head).saturating_add(latent.query_rank.unwrap_or(0)).saturating_add(shape.head_dim)
    }

    /// Every head takes all `n_rows` rows.
    fn divide(&mut self, n_heads: usize, n_rows: usize) {
        self.runs.clear();
        self.runs.extend((0..n_heads).map(|head| Run { expert: head, places: head * n_rows..(head + 1) * n_rows }));
    }
}

/// See [`crate::backend::Backend::latent_project`].
pub(super) fn project(cpu: &Cpu, ws: &mut Workspace, norm: Option<&Norm<Cpu>>, latent: &Latent<Cpu>) -> Result<()> {
    check(ws, norm, latent)?;
    let Workspace { shape, n_rows, residual, activations, scratch, latents: Some(own), .. } = ws else { return Ok(()) };
    let (n_rows, n_embd, n_heads) = (*n_rows, shape.n_embd, shape.n_heads);
    let Latents { shape: own, low, key, heads, .. } = own;
    let of_residual = |m: usize, out: &mut [f32]| {
        let x = &residual[m * n_embd..][..n_embd];
        match norm {
            Some(norm) => norm.apply(cpu.kernels, x, out),
            None => out.copy_from_slice(x),
        }
    };
    let key = &mut key[..n_rows * shape.head_dim];
    let heads = &mut heads[..n_rows * n_heads * own.query_dim()];
    match (&latent.query_down, own.query_rank) {
        (Some((down, norm)), Some(rank)) => {
            let low = &mut low[..n_rows * rank];
            project_into(cpu, (activations, scratch), (n_rows, n_embd), &of_residual, [(down, &mut *low), (&latent.key, key)])?;
            let of_low = |m: usize, out: &mut [f32]| norm.apply(cpu.kernels, &low[m * rank..][..rank], out);
            project_into(cpu, (activations, scratch), (n_rows, rank), &of_low, [(&latent.query, heads)])?;
        }
        _ => project_into(cpu, (activations, scratch), (n_rows, n_embd), &of_residual, [(&latent.query, heads), (&latent.key, key)])?,
    }
    to_latents(cpu, ws, latent)?;
    arrange(cpu, ws, latent)
}

/// The products of each head's part that does not rotate with its `key_up`.
fn to_latents(cpu: &Cpu, ws: &mut Workspace, latent: &Latent<Cpu>) -> Result<()> {
    let Workspace { shape, n_rows, activations, scratch, latents: Some(own), .. } = ws else { return Ok(()) };
    let (n_rows, n_heads, LatentShape { rank, n_still, .. }) = (*n_rows, shape.n_heads, own.shape);
    own.divide(n_heads, n_rows);
    let query_dim = own.shape.query_dim();
    let Latents { heads, products, runs, .. } = own;
    activations.fill(cpu, scratch, latent.key_up.weight.activation(), (n_heads * n_rows, n_still), &|place, out| {
        let (head, m) = (place / n_rows, place % n_rows);
        out.copy_from_slice(&heads[(m * n_heads + head) * query_dim..][..n_still]);
    })?;
    moe::products(cpu, runs, rank, [(&latent.key_up, &mut products[..])], activations)
}

/// Query heads and keys as they are cached and compared: the part that rotates, then the latent.
fn arrange(cpu: &Cpu, ws: &mut Workspace, latent: &Latent<Cpu>) -> Result<()> {
    let Workspace { shape, n_rows, slots: [query, cached, ..], latents: Some(own), .. } = ws else { return Ok(()) };
    let (n_rows, n_heads, head_dim) = (*n_rows, shape.n_heads, shape.head_dim);
    let (LatentShape { rank, n_rot, n_still, .. }, query_dim) = (own.shape, own.shape.query_dim());
    let Latents { heads, products, key, .. } = own;
    let per_task = cpu.rows_per_task(n_rows * n_heads, head_dim);
    cpu.pool.for_chunks(&mut query[..n_rows * n_heads * head_dim], per_task * head_dim, &|task, chunk| {
        for (i, out) in chunk.chunks_mut(head_dim).enumerate() {
            let i = task * per_task + i; // (row, head)
            let place = i % n_heads * n_rows + i / n_heads; // (head, row)
            out[..n_rot].copy_from_slice(&heads[i * query_dim + n_still..][..n_rot]);
            out[n_rot..].copy_from_slice(&products[place * rank..][..rank]);
        }
    })?;
    let per_task = cpu.rows_per_task(n_rows, head_dim);
    cpu.pool.for_chunks(&mut cached[..n_rows * head_dim], per_task * head_dim, &|task, chunk| {
        for (out, x) in chunk.chunks_mut(head_dim).zip(key[task * per_task * head_dim..].chunks(head_dim)) {
            out[..n_rot].copy_from_slice(&x[rank..]);
            latent.norm.apply(cpu.kernels, &x[..rank], &mut out[n_rot..]);
        }
    })
}

/// See [`crate::backend::Backend::latent_values`].
pub(super) fn values(cpu: &Cpu, ws: &mut Workspace, latent: &Latent<Cpu>) -> Result<()> {
    check(ws, None, latent)?;
    let Workspace { shape, n_rows, slots: [query, ..], activations, scratch, latents: Some(own), .. } = ws else { return Ok(()) };
    let (n_rows, n_heads, head_dim) = (*n_rows, shape.n_heads, shape.head_dim);
    own.divide(n_heads, n_rows);
    let Latents { shape: LatentShape { rank, n_rot, n_value, .. }, products, runs, .. } = own;
    let (rank, n_rot, n_value) = (*rank, *n_rot, *n_value);
    activations.fill(cpu, scratch, latent.value_up.weight.activation(), (n_heads * n_rows, rank), &|place, out| {
        let (head, m) = (place / n_rows, place % n_rows);
        out.copy_from_slice(&query[(m * n_heads + head) * head_dim + n_rot..][..rank]);
    })?;
    moe::products(cpu, runs, n_value, [(&latent.value_up, &mut products[..])], activations)?;
    let per_task = cpu.rows_per_task(n_rows * n_heads, n_value);
    cpu.pool.for_chunks(&mut query[..n_rows * n_heads * n_value], per_task * n_value, &|task, chunk| {
        for (i, out) in chunk.chunks_mut(n_value).enumerate() {
            let i = task * per_task + i; // (row, head)
            let place = i % n_heads * n_rows + i / n_heads; // (head, row)
            out.copy_from_slice(&products[place * n_value..][..n_value]);
        }
    })
}

/// That everything fits, so that the stages may slice without doubt.
fn check(ws: &Workspace, norm: Option<&Norm<Cpu>>, latent: &Latent<Cpu>) -> Result<()> {
    let Shape { n_embd, n_heads, head_dim, .. } = ws.shape;
    let Some(shape) = ws.latents.as_ref().map(|own| own.shape) else {
        fail!(Internal, "cpu, latents: a workspace that was made for none");
    };
    norm.map_or(Ok(()), |norm| norm.check(n_embd, "latents"))?;
    match (&latent.query_down, shape.query_rank) {
        (None, None) => latent.query.check(n_embd, n_heads * shape.query_dim(), "latents, query")?,
        (Some((down, norm)), Some(rank)) => {
            down.check(n_embd, rank, "latents, query_down")?;
            norm.check(rank, "latents, the norm of query_down")?;
            latent.query.check(rank, n_heads * shape.query_dim(), "latents, query")?;
        }
        _ => fail!(Internal, "cpu, latents: projections that do not fit {shape:?}"),
    }
    latent.key.check(n_embd, head_dim, "latents, key")?;
    latent.norm.check(shape.rank, "latents, norm")?;
    latent.key_up.check(shape.n_still, n_heads * shape.rank, "latents, key_up")?;
    latent.value_up.check(shape.rank, n_heads * shape.n_value, "latents, value_up")
}
