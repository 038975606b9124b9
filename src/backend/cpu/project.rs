//! The stages that are matrix products: rows are prepared and quantised once, then all threads share the columns.

use super::Cpu;
use super::activations::{Activations, FillRow};
use super::sums;
use super::workspace::{Scratch, Workspace};
use crate::backend::{Batch, FeedForwardFn, Join, Linear, Norm, Slot};
use crate::error::Result;
use crate::fail;
use crate::kernels::{Activation, ActivationRows, GateFn};
use crate::sys::columns::ColumnsMut;

use super::weights::Matrix;

/// Multiply-adds that make a task worth its claim: some microseconds on a fast core.
const TASK_MACS: usize = 1 << 18;

/// Tasks per thread: enough that a slow thread is not waited for, few enough that tiles stay long.
const TASKS_PER_THREAD: usize = 4;

/// Columns of a tile are a multiple of this, so that kernels may take weight rows in groups.
const TILE_COLUMNS: usize = 16;

/// See [`crate::backend::Backend::embed`].
pub(super) fn embed(cpu: &Cpu, ws: &mut Workspace, batch: &Batch, table: &Matrix, scale: f32) -> Result<()> {
    ws.check(batch, "embed")?;
    let n_embd = ws.shape.n_embd;
    if table.n_in != n_embd {
        fail!(Internal, "cpu, embed: rows of {}, expected {n_embd}", table.n_in);
    }
    if let Some(token) = batch.tokens.iter().find(|&&token| token as usize >= table.n_out) {
        fail!(InvalidArgument, "token {token} of a vocabulary of {}", table.n_out);
    }
    let rows_per_task = cpu.rows_per_task(ws.n_rows, n_embd);
    let residual = &mut ws.residual[..ws.n_rows * n_embd];
    cpu.pool.for_chunks(residual, rows_per_task * n_embd, &|task, chunk| {
        for (out, &token) in chunk.chunks_mut(n_embd).zip(&batch.tokens[task * rows_per_task..]) {
            let row = table.rows(token as usize..token as usize + 1);
            cpu.kernels.dequantize(row, out);
            multiply(out, scale);
        }
    })
}

/// See [`crate::backend::Backend::norm_project`].
pub(super) fn norm_project(cpu: &Cpu, ws: &mut Workspace, norm: Option<&Norm<Cpu>>, projections: &[(Slot, &Linear<Cpu>)]) -> Result<()> {
    let Workspace { shape, n_rows, n_ff, residual, slots, activations, scratch, .. } = ws;
    let (n_rows, n_embd) = (*n_rows, shape.n_embd);
    norm.map_or(Ok(()), |norm| norm.check(n_embd, "norm_project"))?;
    let mut free = slots.each_mut().map(Some);
    let mut outs: [_; 5] = std::array::from_fn(|_| ColumnsMut::new(&mut [], 1));
    for (i, (slot, linear)) in projections.iter().enumerate() {
        let width = match slot {
            // A layer's feed-forward may be narrower than the widest.
            Slot::Gate | Slot::Up => linear.weight.n_out.min(shape.n_ff),
            _ => shape.width(*slot),
        };
        linear.check(n_embd, width, "norm_project")?;
        let Some(values) = free[*slot as usize].take() else {
            fail!(Internal, "cpu, norm_project: two projections into {slot:?}");
        };
        if *slot == Slot::Up {
            *n_ff = width;
        }
        outs[i] = ColumnsMut::new(&mut values[..n_rows * width], width);
    }
    let of_residual = |m: usize, out: &mut [f32]| {
        let x = &residual[m * n_embd..][..n_embd];
        match norm {
            Some(norm) => norm.apply(cpu.kernels, x, out),
            None => out.copy_from_slice(x),
        }
    };
    let outs = &mut outs[..projections.len()];
    multiply_all(cpu, (activations, scratch), (n_rows, n_embd), &of_residual, &|i| projections[i].1, outs)
}

/// `W x + b` of every projection into its own rows, for `n_rows` rows of `n_in` elements that `fill` writes.
pub(super) fn project_into<const N: usize>(
    cpu: &Cpu,
    prepared: Prepared<'_>,
    (n_rows, n_in): (usize, usize),
    fill: FillRow<'_>,
    into: [(&Linear<Cpu>, &mut [f32]); N],
) -> Result<()> {
    let linears = into.each_ref().map(|(linear, _)| *linear);
    let mut outs = into.map(|(linear, out)| ColumnsMut::new(out, linear.weight.n_out));
    multiply_all(cpu, prepared, (n_rows, n_in), fill, &|i| linears[i], &mut outs)
}

/// Where rows are prepared for products, and scratch for each thread.
type Prepared<'a> = (&'a mut Activations, &'a mut [Scratch]);

/// `outs[i] = W x + b` of `linear(i)`, in one region after the rows are prepared in every layout that is wanted.
fn multiply_all<'l>(
    cpu: &Cpu,
    (activations, scratch): Prepared<'_>,
    (n_rows, n_in): (usize, usize),
    fill: FillRow<'_>,
    linear: &(dyn Fn(usize) -> &'l Linear<Cpu> + Sync),
    outs: &mut [ColumnsMut<'_, f32>],
) -> Result<()> {
    let layout_of = |i: usize| linear(i).weight.activation();
    for (i, layout) in (0..outs.len()).map(layout_of).enumerate() {
        if (0..i).all(|before| layout_of(before) != layout) {
            activations.fill(cpu, scratch, layout, (n_rows, n_in), fill)?;
        }
    }
    let n_columns = outs.iter().map(|out| out.range().len()).sum();
    cpu.pool.for_columns(outs, cpu.columns_per_task(n_columns, n_rows, n_in), &|i, mut part, _| {
        cpu.product(linear(i), activations.rows(layout_of(i)), &mut part);
    })
}

/// See [`crate::backend::Backend::project_add`].
pub(super) fn project_add(cpu: &Cpu, ws: &mut Workspace, linear: &Linear<Cpu>, join: &Join<Cpu>) -> Result<()> {
    let width = ws.shape.attended();
    linear.check(width, ws.shape.n_embd, "project_add")?;
    let Workspace { slots, activations, scratch, n_rows, .. } = ws;
    let query = &slots[Slot::Query as usize];
    let layout = linear.weight.activation();
    activations.fill(cpu, scratch, layout, (*n_rows, width), &|m, out| out.copy_from_slice(&query[m * width..][..width]))?;
    join_product(cpu, ws, linear, layout, join)
}

/// See [`crate::backend::Backend::glu`].
pub(super) fn glu(cpu: &Cpu, ws: &mut Workspace, f: FeedForwardFn, down: &Linear<Cpu>, join: &Join<Cpu>) -> Result<()> {
    weighted_glu(cpu, ws, f, down, join, None)
}

/// As [`glu`], with each row of `f` times its own number.
pub(super) fn weighted_glu(
    cpu: &Cpu,
    ws: &mut Workspace,
    f: FeedForwardFn,
    down: &Linear<Cpu>,
    join: &Join<Cpu>,
    weights: Option<&[f32]>,
) -> Result<()> {
    let n_ff = ws.n_ff;
    down.check(n_ff, ws.shape.n_embd, "glu")?;
    let Workspace { slots: [.., gate, up], activations, scratch, n_rows, .. } = ws;
    let layout = down.weight.activation();
    activations.fill(cpu, scratch, layout, (*n_rows, n_ff), &|m, out| {
        let row = m * n_ff..(m + 1) * n_ff;
        activate(cpu, f, &gate[row.clone()], &up[row], out);
        multiply(out, weights.map_or(1.0, |weights| weights[m]));
    })?;
    join_product(cpu, ws, down, layout, join)
}

/// `out = f(gate, up)`, all of the same width.
pub(super) fn activate(cpu: &Cpu, f: FeedForwardFn, gate: &[f32], up: &[f32], out: &mut [f32]) {
    match f {
        FeedForwardFn::Gated(f) => {
            out.copy_from_slice(gate);
            cpu.kernels.glu(f, out, up);
        }
        FeedForwardFn::Sparse(f, deviations) => {
            out.copy_from_slice(gate);
            sums::cut(out, deviations);
            cpu.kernels.glu(f, out, up);
        }
        FeedForwardFn::Plain(f) => {
            out.copy_from_slice(up);
            cpu.kernels.activate(f, out);
        }
        FeedForwardFn::Clamped => {
            const ALPHA: f32 = FeedForwardFn::ALPHA;
            const LIMIT: f32 = FeedForwardFn::LIMIT;
            // x * sigmoid(ALPHA * x) is SiLU(ALPHA * x) / ALPHA.
            out.iter_mut().zip(gate).for_each(|(out, gate)| *out = ALPHA * gate.min(LIMIT));
            cpu.kernels.activate(GateFn::Silu, out);
            out.iter_mut().zip(up).for_each(|(out, up)| *out *= (up.clamp(-LIMIT, LIMIT) + 1.0) / ALPHA);
        }
    }
}

/// Joins `W x + b` to the residual, for the activations made last in `layout`.
fn join_product(cpu: &Cpu, ws: &mut Workspace, linear: &Linear<Cpu>, layout: Activation, join: &Join<Cpu>) -> Result<()> {
    let (n_rows, n_embd) = (ws.n_rows, ws.shape.n_embd);
    let Some(norm) = &join.norm else { return add_product(cpu, ws, linear, layout, join.scale) };
    norm.check(n_embd, "the norm of a join")?;
    let Workspace { residual, product, activations, scratch, .. } = ws;
    let (x, step) = (activations.rows(layout), cpu.columns_per_task(n_embd, n_rows, linear.weight.n_in));
    let columns = ColumnsMut::new(&mut product[..n_rows * n_embd], n_embd);
    cpu.pool.for_columns(&mut [columns], step, &|_, mut part, _| cpu.product(linear, x, &mut part))?;
    let rows_per_task = cpu.rows_per_task(n_rows, n_embd);
    cpu.pool.for_chunks_with(&mut residual[..n_rows * n_embd], rows_per_task * n_embd, scratch, &|task, rows, own| {
        let products = product[task * rows_per_task * n_embd..].chunks(n_embd);
        for (row, y) in rows.chunks_mut(n_embd).zip(products) {
            let normed = &mut own.row[..n_embd];
            norm.apply(cpu.kernels, y, normed);
            multiply(normed, join.scale);
            cpu.kernels.add(row, normed);
        }
    })
}

/// `residual += scale * (W x + b)`, in one region.
fn add_product(cpu: &Cpu, ws: &mut Workspace, linear: &Linear<Cpu>, layout: Activation, scale: f32) -> Result<()> {
    let Workspace { shape, n_rows, residual, product, activations, .. } = ws;
    let (n_rows, n_embd) = (*n_rows, shape.n_embd);
    let x = activations.rows(layout);
    let residual = ColumnsMut::new(&mut residual[..n_rows * n_embd], n_embd);
    let product = ColumnsMut::new(&mut product[..n_rows * n_embd], n_embd);
    let step = cpu.columns_per_task(n_embd, n_rows, linear.weight.n_in);
    cpu.pool.for_column_pairs(residual, product, step, &|mut residual, mut product| {
        cpu.product(linear, x, &mut product);
        for m in 0..n_rows {
            multiply(product.row(m), scale);
            cpu.kernels.add(residual.row(m), product.row(m));
        }
    })
}

/// `x *= scale`
pub(super) fn multiply(x: &mut [f32], scale: f32) {
    if scale != 1.0 {
        x.iter_mut().for_each(|x| *x *= scale);
    }
}

impl Cpu {
    /// `out = W x + b` for the columns of `out`.
    pub(super) fn product(&self, linear: &Linear<Cpu>, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>) {
        self.product_from(linear, 0, x, out);
    }

    /// As [`Self::product`], with column 0 made by row `first_row` of `W`.
    pub(super) fn product_from(&self, linear: &Linear<Cpu>, first_row: usize, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>) {
        let rows = first_row + out.range().start..first_row + out.range().end;
        self.kernels.matmul(linear.weight.rows(rows.clone()), x, out);
        if let Some(bias) = &linear.bias {
            (0..out.n_rows()).for_each(|m| self.kernels.add(out.row(m), &bias.values[rows.clone()]));
        }
    }

    /// How many of `n_columns` columns of a product of `n_rows` rows over `n_in` features make a task.
    pub(super) fn columns_per_task(&self, n_columns: usize, n_rows: usize, n_in: usize) -> usize {
        let n_threads = self.pool.n_threads();
        let worthwhile = n_columns * n_rows * n_in / TASK_MACS;
        // One task stays with its caller; several are as many for each thread.
        let n_tasks = if worthwhile < 2 { 1 } else { worthwhile.next_multiple_of(n_threads).min(n_threads * TASKS_PER_THREAD) };
        n_columns.div_ceil(n_tasks).next_multiple_of(TILE_COLUMNS)
    }
}
