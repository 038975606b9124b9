//! The stages of a mixture of experts. Rows are sorted by expert, so that an expert's weights are read once for all its rows, and the experts in
//! use share one parallel region per product.
//!
//! A row's result does not depend on the others: its experts are its own choice, a product's bits do not depend on how many rows it has, and the
//! outputs are added in the order of choice.

use super::Cpu;
use super::activations::Activations;
use super::project;
use super::workspace::{Scratch, Workspace};
use crate::backend::routing::sigmoid;
use crate::backend::{Experts, FeedForwardFn, Join, Linear, MoeShape, Norm, Pick};
use crate::error::Result;
use crate::fail;
use crate::kernels::ActivationRows;
use crate::sys::columns::ColumnsMut;
use crate::sys::memory::{try_vec, try_with_capacity};
use std::ops::Range;

/// Products that share a parallel region, on the stack: gate and up of as many experts as any published model takes in a decode step.
const WAVE: usize = 32;

/// What routing decides and experts compute, kept from pass to pass.
pub(super) struct Moe {
    shape: MoeShape,
    /// `(max_rows, n_experts)`
    scores: Vec<f32>,
    /// `(max_rows, n_used)`: each row's experts, best first.
    picks: Vec<Pick>,
    /// `(max_rows * n_used,)`: where a pick stands when they are sorted by expert.
    places: Vec<usize>,
    /// `(max_rows * n_used,)`: the pick that stands in a place.
    order: Vec<usize>,
    /// The experts in use, ascending.
    runs: Vec<Run>,
    /// `(picks, n_ff)`, by place
    gate: Vec<f32>,
    /// `(picks, n_ff)`, by place
    up: Vec<f32>,
    /// `(picks, n_embd)`, by place
    down: Vec<f32>,
    /// `(max_rows,)`: what the shared expert's output is multiplied by.
    pub(super) shared: Vec<f32>,
}

/// The places of one expert.
pub(super) struct Run {
    pub(super) expert: usize,
    pub(super) places: Range<usize>,
}

impl Moe {
    /// For passes of up to `max_rows` rows.
    pub(super) fn new(shape: MoeShape, n_embd: usize, max_rows: usize) -> Result<Self> {
        let MoeShape { n_experts, n_used, n_ff } = shape;
        let n_picks = max_rows.saturating_mul(n_used);
        Ok(Self {
            shape,
            scores: try_vec(max_rows.saturating_mul(n_experts))?,
            picks: try_vec(n_picks)?,
            places: try_vec(n_picks)?,
            order: try_vec(n_picks)?,
            runs: try_with_capacity(n_experts)?,
            gate: try_vec(n_picks.saturating_mul(n_ff))?,
            up: try_vec(n_picks.saturating_mul(n_ff))?,
            down: try_vec(n_picks.saturating_mul(n_embd))?,
            shared: try_vec(max_rows)?,
        })
    }

    /// Elements for each row: floats, or what takes as much.
    pub(super) fn elements_per_row(shape: MoeShape, n_embd: usize) -> usize {
        // A pick, its place and its part of the order are 8 floats.
        shape.n_experts.saturating_add(shape.n_used.saturating_mul(2 * shape.n_ff + n_embd + 8))
    }

    /// Sorts the picks of `n_rows` rows by expert, those of one expert by row.
    fn sort(&mut self, n_rows: usize) {
        let Self { picks, places, order, runs, shape, .. } = self;
        let n = n_rows * shape.n_used;
        runs.clear();
        let order = &mut order[..n];
        order.iter_mut().enumerate().for_each(|(i, pick)| *pick = i);
        order.sort_unstable_by_key(|&pick| (picks[pick].expert, pick));
        for (place, &pick) in order.iter().enumerate() {
            places[pick] = place;
            match runs.last_mut().filter(|run| run.expert == picks[pick].expert) {
                Some(run) => run.places.end = place + 1,
                None => runs.push(Run { expert: picks[pick].expert, places: place..place + 1 }),
            }
        }
    }
}

/// See [`crate::backend::Backend::moe_up`].
pub(super) fn moe_up(cpu: &Cpu, ws: &mut Workspace, norm: Option<&Norm<Cpu>>, experts: &Experts<Cpu>) -> Result<()> {
    check(ws, norm, experts)?;
    normalise(cpu, ws, norm)?;
    route(cpu, ws, experts)?;
    let Workspace { shape, n_rows, product, activations, scratch, moe: Some(moe), .. } = ws else { return Ok(()) };
    let Moe { shape: MoeShape { n_used, n_ff, .. }, order, picks, runs, gate, up, .. } = moe;
    let (n_embd, n_used, n_picks) = (shape.n_embd, *n_used, *n_rows * *n_used);
    let layouts = [experts.gate.weight.activation(), experts.up.weight.activation()];
    for layout in &layouts[..if layouts[0] == layouts[1] { 1 } else { 2 }] {
        activations.fill(cpu, scratch, *layout, (n_picks, n_embd), &|place, out| {
            let pick = order[place];
            out.copy_from_slice(&product[pick / n_used * n_embd..][..n_embd]);
            if experts.routing.weighs_input {
                project::multiply(out, picks[pick].weight);
            }
        })?;
    }
    products(cpu, runs, *n_ff, [(&experts.gate, &mut gate[..]), (&experts.up, &mut up[..])], activations)?;
    match &experts.shared {
        Some(shared) => shared.project(|projections| project::norm_project(cpu, ws, norm, projections)),
        None => Ok(()),
    }
}

/// See [`crate::backend::Backend::moe_down`].
pub(super) fn moe_down(cpu: &Cpu, ws: &mut Workspace, f: FeedForwardFn, experts: &Experts<Cpu>, scale: f32) -> Result<()> {
    check(ws, None, experts)?;
    let Workspace { shape, n_rows, activations, scratch, moe: Some(moe), .. } = ws else { return Ok(()) };
    let n_ff = moe.shape.n_ff;
    let layout = experts.down.weight.activation();
    activations.fill(cpu, scratch, layout, (*n_rows * moe.shape.n_used, n_ff), &|place, out| {
        let row = place * n_ff..(place + 1) * n_ff;
        project::activate(cpu, f, &moe.gate[row.clone()], &moe.up[row], out);
    })?;
    let Moe { runs, down, .. } = moe;
    products(cpu, runs, shape.n_embd, [(&experts.down, &mut down[..])], activations)?;
    add_up(cpu, ws, experts, scale)?;
    let Some(shared) = &experts.shared else { return Ok(()) };
    let Some(moe) = ws.moe.take() else { return Ok(()) };
    let done = project::weighted_glu(cpu, ws, f, &shared.down, &Join { norm: None, scale }, Some(&moe.shared));
    ws.moe = Some(moe);
    done
}

/// That everything fits, so that the stages may slice without doubt.
fn check(ws: &Workspace, norm: Option<&Norm<Cpu>>, experts: &Experts<Cpu>) -> Result<()> {
    let n_embd = ws.shape.n_embd;
    let Some(MoeShape { n_experts, n_used, n_ff }) = ws.moe.as_ref().map(|moe| moe.shape) else {
        fail!(Internal, "cpu, moe: a workspace that was made for no experts");
    };
    norm.map_or(Ok(()), |norm| norm.check(n_embd, "moe"))?;
    experts.router.check(n_embd, n_experts, "moe, router")?;
    experts.gate.check(n_embd, n_experts * n_ff, "moe, gate")?;
    experts.up.check(n_embd, n_experts * n_ff, "moe, up")?;
    experts.down.check(n_ff, n_experts * n_embd, "moe, down")?;
    let vectors = [(&experts.choice_bias, n_experts), (&experts.shared_gate, n_embd)];
    let fit = vectors.iter().all(|(vector, n)| vector.as_ref().is_none_or(|vector| vector.len() == *n));
    if !fit || experts.routing.n_used != n_used {
        fail!(Internal, "cpu, moe: experts that do not fit {:?}", ws.shape);
    }
    Ok(())
}

/// `product = norm(residual)`
fn normalise(cpu: &Cpu, ws: &mut Workspace, norm: Option<&Norm<Cpu>>) -> Result<()> {
    let Workspace { shape, n_rows, residual, product, .. } = ws;
    let n_embd = shape.n_embd;
    let rows_per_task = cpu.rows_per_task(*n_rows, n_embd);
    cpu.pool.for_chunks(&mut product[..*n_rows * n_embd], rows_per_task * n_embd, &|task, rows| {
        let residual = residual[task * rows_per_task * n_embd..].chunks(n_embd);
        for (out, x) in rows.chunks_mut(n_embd).zip(residual) {
            match norm {
                Some(norm) => norm.apply(cpu.kernels, x, out),
                None => out.copy_from_slice(x),
            }
        }
    })
}

/// Chooses the experts of every row of `product`, and weighs the shared one.
fn route(cpu: &Cpu, ws: &mut Workspace, experts: &Experts<Cpu>) -> Result<()> {
    let Workspace { shape, n_rows, product, activations, scratch, moe: Some(moe), .. } = ws else { return Ok(()) };
    let (n_rows, n_embd, router) = (*n_rows, shape.n_embd, &experts.router);
    let MoeShape { n_experts, n_used, .. } = moe.shape;
    let layout = router.weight.activation();
    activations.fill(cpu, scratch, layout, (n_rows, n_embd), &|m, out| out.copy_from_slice(&product[m * n_embd..][..n_embd]))?;
    let scores = ColumnsMut::new(&mut moe.scores[..n_rows * n_experts], n_experts);
    cpu.pool.for_columns(&mut [scores], cpu.columns_per_task(n_experts, n_rows, n_embd), &|_, mut part, _| {
        cpu.product(router, activations.rows(layout), &mut part);
    })?;
    if let Some(gate) = &experts.shared_gate {
        for (weight, x) in moe.shared[..n_rows].iter_mut().zip(product.chunks(n_embd)) {
            *weight = sigmoid(x.iter().zip(gate).map(|(x, w)| x * w).sum());
        }
    } else {
        moe.shared[..n_rows].fill(1.0);
    }
    for (scores, picks) in moe.scores[..n_rows * n_experts].chunks_mut(n_experts).zip(moe.picks.chunks_mut(n_used)) {
        experts.routing.choose(scores, experts.choice_bias.as_deref(), picks);
    }
    moe.sort(n_rows);
    Ok(())
}

/// One expert's product: rows of the weights from `first_row` on, with rows of activations.
struct Product<'a> {
    linear: &'a Linear<Cpu>,
    first_row: usize,
    x: ActivationRows<'a>,
}

/// `W x + b` of each run's expert and rows into the same rows of each output, `(picks, n_out)`; all weights of `into` are `(n_experts * n_out, n_in)`.
pub(super) fn products<const N: usize>(
    cpu: &Cpu,
    runs: &[Run],
    n_out: usize,
    into: [(&Linear<Cpu>, &mut [f32]); N],
    activations: &Activations,
) -> Result<()> {
    let (linears, mut rest) = (into.each_ref().map(|(linear, _)| *linear), into.map(|(_, out)| out));
    for wave in runs.chunks(WAVE / N) {
        let mut outs: [_; WAVE] = std::array::from_fn(|_| ColumnsMut::new(&mut [], 1));
        let product = |i: usize| {
            let (run, linear) = (&wave[i / N], linears[i % N]);
            let x = activations.part(cpu, linear.weight.activation(), linear.weight.n_in, run.places.clone());
            Product { linear, first_row: run.expert * n_out, x }
        };
        for (i, out) in outs.iter_mut().enumerate().take(wave.len() * N) {
            let (rows, behind) = std::mem::take(&mut rest[i % N]).split_at_mut(wave[i / N].places.len() * n_out);
            (*out, rest[i % N]) = (ColumnsMut::new(rows, n_out), behind);
        }
        let most = wave.iter().map(|run| run.places.len()).max().unwrap_or(1);
        let all = wave.iter().map(|run| run.places.len()).sum::<usize>() * N;
        // As if all columns had as many rows as the longest run: its tasks must not be too long.
        let step = cpu.columns_per_task((all * n_out).div_ceil(most), most, linears[0].weight.n_in);
        cpu.pool.for_columns(&mut outs[..wave.len() * N], step, &|i, mut part, _| {
            let Product { linear, first_row, x } = product(i);
            cpu.product_from(linear, first_row, x, &mut part);
        })?;
    }
    Ok(())
}

/// `residual += scale * sum`, the sum of what each row's experts gave, in the order of its picks.
fn add_up(cpu: &Cpu, ws: &mut Workspace, experts: &Experts<Cpu>, scale: f32) -> Result<()> {
    let Workspace { shape, n_rows, residual, scratch, moe: Some(moe), .. } = ws else { return Ok(()) };
    let (n_embd, n_used) = (shape.n_embd, moe.shape.n_used);
    let rows_per_task = cpu.rows_per_task(*n_rows, n_embd * n_used);
    let weighs_output = !experts.routing.weighs_input;
    cpu.pool.for_chunks_with(&mut residual[..*n_rows * n_embd], rows_per_task * n_embd, scratch, &|task, rows, own: &mut Scratch| {
        let sum = &mut own.row[..n_embd];
        for (i, row) in rows.chunks_mut(n_embd).enumerate() {
            sum.fill(0.0);
            let m = task * rows_per_task + i;
            for (pick, place) in moe.picks[m * n_used..].iter().zip(&moe.places[m * n_used..]).take(n_used) {
                let weight = if weighs_output { pick.weight } else { 1.0 };
                let y = &moe.down[place * n_embd..][..n_embd];
                sum.iter_mut().zip(y).for_each(|(sum, y)| *sum += weight * y);
            }
            project::multiply(sum, scale);
            cpu.kernels.add(row, sum);
        }
    })
}
