//! The stages of a model with several residual streams. What is said of a row follows from that row alone: sums have an order of their own, whatever
//! the threads do.

use super::Cpu;
use super::project::multiply;
use super::sums::{dot, mean_square};
use super::weights::Matrix;
use super::workspace::{Scratch, Workspace};
use crate::backend::{Altup, AltupShape, Batch, Norm, Shape, StreamStage, Streams};
use crate::error::Result;
use crate::fail;
use crate::kernels::{Activation, WeightRows};
use crate::sys::columns::ColumnsMut;
use crate::sys::memory::try_vec;
use std::f32::consts::FRAC_1_SQRT_2;

/// Most streams.
const MOST: usize = AltupShape::MOST_STREAMS;

/// Elements of every stream that are mixed at a time: what stays in registers and the first-level cache.
const BLOCK: usize = 64;

/// The streams of a pass, kept from pass to pass.
pub(super) struct State {
    shape: AltupShape,
    /// `(max_rows, n_streams, n_embd)`
    streams: Vec<f32>,
    /// `(max_rows, n_layers, n_per_layer)`: what each layer reads of each token.
    inputs: Vec<f32>,
    /// The products of all streams but one: `(max_rows, n_streams - 1, n_embd)`, or with the first two dimensions the other way round.
    products: Vec<f32>,
    /// `(max_rows, rank or n_per_layer)`
    narrow: Vec<f32>,
}

impl State {
    /// For passes of up to `max_rows` rows.
    pub(super) fn new(shape: AltupShape, n_embd: usize, max_rows: usize) -> Result<Self> {
        let rows = |width: usize| try_vec(max_rows.saturating_mul(width));
        Ok(Self {
            shape,
            streams: rows(shape.n_streams * n_embd)?,
            inputs: rows(shape.n_inputs())?,
            products: rows((shape.n_streams - 1) * n_embd)?,
            narrow: rows(shape.rank.max(shape.n_per_layer))?,
        })
    }

    /// Elements for each row.
    pub(super) fn elements_per_row(shape: AltupShape, n_embd: usize) -> usize {
        (2 * shape.n_streams - 1).saturating_mul(n_embd).saturating_add(shape.n_inputs()).saturating_add(shape.rank.max(shape.n_per_layer))
    }
}

impl AltupShape {
    /// Elements of the widest row that is prepared: a row of the table, and a part of one behind it.
    pub(super) fn widest(&self) -> usize {
        self.n_inputs().saturating_add(self.n_per_layer).max(self.rank)
    }
}

/// See [`crate::backend::Backend::streams`].
pub(super) fn run(cpu: &Cpu, ws: &mut Workspace, batch: &Batch, stage: StreamStage<'_, Cpu>) -> Result<()> {
    ws.check(batch, "streams")?;
    let Some(mut state) = ws.altup.take() else { fail!(Internal, "cpu, streams: a workspace that was made for one residual") };
    let done = match stage {
        StreamStage::Spread(streams) => spread(cpu, ws, &mut state, batch, streams),
        StreamStage::Predict(altup) => predict(cpu, ws, &mut state, altup),
        StreamStage::Laurel(altup, norm) => laurel(cpu, ws, &mut state, altup, norm),
        StreamStage::Correct(altup, layer) => correct(cpu, ws, &mut state, altup, layer),
        StreamStage::Merge(streams) => merge(cpu, ws, &mut state, batch, streams),
    };
    ws.altup = Some(state);
    done
}

/// What makes `x` as large as something of the mean square `target`.
fn to_magnitude(x: &[f32], target: f32) -> f32 {
    target.sqrt() / mean_square(x).max(StreamStage::<Cpu>::TINY).sqrt()
}

/// `W x` for few outputs: `(n_out, n_in)`, `(n_in,)` -> `(n_out,)`.
fn small_product(weight: &[f32], x: &[f32], out: &mut [f32]) {
    out.iter_mut().zip(weight.chunks(x.len())).for_each(|(out, row)| *out = dot(row, x));
}

/// What the router says of `x`, `(n_streams,)`; `normed` is scratch.
fn route(cpu: &Cpu, altup: &Altup<Cpu>, x: &[f32], normed: &mut [f32], said: &mut [f32]) {
    altup.router_norm.apply(cpu.kernels, x, normed);
    multiply(normed, 1.0 / x.len() as f32);
    small_product(&altup.router, normed, said);
    said.iter_mut().for_each(|x| *x = x.tanh());
}

/// See [`StreamStage::Spread`].
fn spread(cpu: &Cpu, ws: &mut Workspace, state: &mut State, batch: &Batch, from: &Streams<Cpu>) -> Result<()> {
    let n_embd = ws.shape.n_embd;
    let AltupShape { n_streams, n_per_layer, .. } = state.shape;
    let (n_inputs, n_others) = (state.shape.n_inputs(), (n_streams - 1) * n_embd);
    from.spread.check(n_embd, n_others, "streams, spread")?;
    from.inputs.check(n_embd, n_inputs, "streams, inputs")?;
    from.inputs_norm.check(n_per_layer, "streams, inputs")?;
    if from.table.n_in != n_inputs {
        fail!(Internal, "cpu, streams: a table with rows of {}, expected {n_inputs}", from.table.n_in);
    }
    embedding_products(cpu, ws, state, from)?;
    let (State { products, streams, .. }, n_rows) = (&mut *state, ws.n_rows);
    let per_task = cpu.rows_per_task(n_rows, n_streams * n_embd);
    cpu.pool.for_chunks(&mut streams[..n_rows * n_streams * n_embd], per_task * n_streams * n_embd, &|task, rows| {
        for (i, row) in rows.chunks_mut(n_streams * n_embd).enumerate() {
            let m = task * per_task + i;
            let (first, others) = row.split_at_mut(n_embd);
            first.copy_from_slice(&ws.residual[m * n_embd..][..n_embd]);
            others.copy_from_slice(&products[m * n_others..][..n_others]);
            let target = mean_square(first);
            others.chunks_mut(n_embd).for_each(|stream| multiply(stream, to_magnitude(stream, target)));
        }
    })?;
    finish_inputs(cpu, ws, state, batch, from)
}

/// The two products of the embedding, into `products` and `inputs`.
fn embedding_products(cpu: &Cpu, ws: &mut Workspace, state: &mut State, streams: &Streams<Cpu>) -> Result<()> {
    let Workspace { shape, residual, activations, scratch, n_rows, .. } = ws;
    let (n_rows, n_embd, n_others, n_inputs) = (*n_rows, shape.n_embd, streams.spread.weight.n_out, streams.inputs.weight.n_out);
    let linears = [&streams.spread, &streams.inputs];
    let layouts = linears.map(|linear| linear.weight.activation());
    for layout in &layouts[..if layouts[0] == layouts[1] { 1 } else { 2 }] {
        activations.fill(cpu, scratch, *layout, (n_rows, n_embd), &|m, out| out.copy_from_slice(&residual[m * n_embd..][..n_embd]))?;
    }
    let mut outs = [
        ColumnsMut::new(&mut state.products[..n_rows * n_others], n_others),
        ColumnsMut::new(&mut state.inputs[..n_rows * n_inputs], n_inputs),
    ];
    cpu.pool.for_columns(&mut outs, cpu.columns_per_task(n_others + n_inputs, n_rows, n_embd), &|i, mut part, _| {
        cpu.product(linears[i], activations.rows(layouts[i]), &mut part);
    })
}

/// Adds the table's part to the layers' inputs.
fn finish_inputs(cpu: &Cpu, ws: &mut Workspace, state: &mut State, batch: &Batch, streams: &Streams<Cpu>) -> Result<()> {
    let (n_inputs, n_per_layer) = (state.shape.n_inputs(), state.shape.n_per_layer);
    let (table_scale, product_scale) = ((n_per_layer as f32).sqrt(), (ws.shape.n_embd as f32).sqrt().recip());
    let n_rows = ws.n_rows;
    let per_task = cpu.rows_per_task(n_rows, n_inputs);
    let inputs = &mut state.inputs[..n_rows * n_inputs];
    cpu.pool.for_chunks_with(inputs, per_task * n_inputs, &mut ws.scratch, &|task, rows, own: &mut Scratch| {
        let (embedded, normed) = own.row[..n_inputs + n_per_layer].split_at_mut(n_inputs);
        for (row, &token) in rows.chunks_mut(n_inputs).zip(&batch.tokens[task * per_task..]) {
            cpu.kernels.dequantize(table_row(&streams.table, token), embedded);
            multiply(embedded, table_scale);
            for (part, embedded) in row.chunks_mut(n_per_layer).zip(embedded.chunks(n_per_layer)) {
                multiply(part, product_scale);
                streams.inputs_norm.apply(cpu.kernels, part, normed);
                part.iter_mut().zip(normed.iter().zip(embedded)).for_each(|(x, (a, b))| *x = (a + b) * FRAC_1_SQRT_2);
            }
        }
    })
}

/// The row of `token`, or the first one.
fn table_row(table: &Matrix, token: u32) -> WeightRows<'_> {
    let row = Some(token as usize).filter(|&row| row < table.n_out).unwrap_or(0);
    table.rows(row..row + 1)
}

/// That everything of a layer fits.
fn check(shape: &Shape, state: &State, altup: &Altup<Cpu>) -> Result<()> {
    let (n_embd, AltupShape { n_streams, n_per_layer, rank, .. }) = (shape.n_embd, state.shape);
    for norm in [&altup.router_norm, &altup.laurel_norm, &altup.output_norm] {
        norm.check(n_embd, "streams, norms")?;
    }
    altup.laurel_left.check(n_embd, rank, "streams, laurel")?;
    altup.laurel_right.check(rank, n_embd, "streams, laurel")?;
    altup.gate.check(n_embd, n_per_layer, "streams, gate")?;
    altup.output.check(n_per_layer, n_embd, "streams, output")?;
    let sizes = [(&altup.router, n_embd), (&altup.predict, n_streams * n_streams), (&altup.correct, n_streams)];
    if sizes.iter().any(|(weight, n_in)| weight.len() != n_streams * n_in) || altup.output_scale.len() != n_embd {
        fail!(Internal, "cpu, streams: coefficients that do not fit {:?}", state.shape);
    }
    Ok(())
}

/// See [`StreamStage::Predict`].
fn predict(cpu: &Cpu, ws: &mut Workspace, state: &mut State, altup: &Altup<Cpu>) -> Result<()> {
    check(&ws.shape, state, altup)?;
    let Workspace { shape, n_rows, residual, scratch, .. } = ws;
    let (n_rows, n_embd, AltupShape { n_streams, active, .. }) = (*n_rows, shape.n_embd, state.shape);
    let width = n_streams * n_embd;
    let per_task = cpu.rows_per_task(n_rows, width);
    let streams = &mut state.streams[..n_rows * width];
    cpu.pool.for_chunks_with(streams, per_task * width, scratch, &|_, rows, own: &mut Scratch| {
        let (mut said, mut shares) = ([0.0; MOST], [0.0; MOST * MOST]);
        let (said, shares) = (&mut said[..n_streams], &mut shares[..n_streams * n_streams]);
        for row in rows.chunks_mut(width) {
            route(cpu, altup, &row[active * n_embd..][..n_embd], &mut own.row[..n_embd], said);
            small_product(&altup.predict, said, shares);
            mix(row, n_embd, shares);
        }
    })?;
    let streams = &state.streams;
    cpu.pool.for_chunks(&mut residual[..n_rows * n_embd], per_task * n_embd, &|task, rows| {
        for (i, row) in rows.chunks_mut(n_embd).enumerate() {
            row.copy_from_slice(&streams[(task * per_task + i) * width + active * n_embd..][..n_embd]);
        }
    })
}

/// Adds to each stream of `row`, `(n_streams, n_embd)`, its `shares`, `(n_streams, n_streams)`, of all.
fn mix(row: &mut [f32], n_embd: usize, shares: &[f32]) {
    let n_streams = row.len() / n_embd;
    let mut old = [[0.0_f32; BLOCK]; MOST];
    for start in (0..n_embd).step_by(BLOCK) {
        let n = BLOCK.min(n_embd - start);
        for (old, stream) in old.iter_mut().zip(row.chunks(n_embd)) {
            old[..n].copy_from_slice(&stream[start..start + n]);
        }
        for (stream, shares) in row.chunks_mut(n_embd).zip(shares.chunks(n_streams)) {
            let mut mixed = [0.0_f32; BLOCK];
            for (old, share) in old.iter().zip(shares) {
                mixed.iter_mut().zip(old).for_each(|(mixed, x)| *mixed += share * x);
            }
            stream[start..start + n].iter_mut().zip(&mixed).for_each(|(x, mixed)| *x += mixed);
        }
    }
}

/// See [`StreamStage::Laurel`].
fn laurel(cpu: &Cpu, ws: &mut Workspace, state: &mut State, altup: &Altup<Cpu>, norm: &Norm<Cpu>) -> Result<()> {
    check(&ws.shape, state, altup)?;
    let (n_rows, n_embd, rank) = (ws.n_rows, ws.shape.n_embd, state.shape.rank);
    norm.check(n_embd, "streams, laurel")?;
    let Workspace { residual, product, activations, scratch, .. } = ws;
    let layout = altup.laurel_left.weight.activation();
    activations.fill(cpu, scratch, layout, (n_rows, n_embd), &|m, out| norm.apply(cpu.kernels, &residual[m * n_embd..][..n_embd], out))?;
    let narrow = ColumnsMut::new(&mut state.narrow[..n_rows * rank], rank);
    cpu.pool.for_columns(&mut [narrow], cpu.columns_per_task(rank, n_rows, n_embd), &|_, mut part, _| {
        cpu.product(&altup.laurel_left, activations.rows(layout), &mut part);
    })?;
    let (layout, narrow) = (altup.laurel_right.weight.activation(), &state.narrow);
    activations.fill(cpu, scratch, layout, (n_rows, rank), &|m, out| out.copy_from_slice(&narrow[m * rank..][..rank]))?;
    let columns = ColumnsMut::new(&mut product[..n_rows * n_embd], n_embd);
    cpu.pool.for_columns(&mut [columns], cpu.columns_per_task(n_embd, n_rows, rank), &|_, mut part, _| {
        cpu.product(&altup.laurel_right, activations.rows(layout), &mut part);
    })?;
    let per_task = cpu.rows_per_task(n_rows, 2 * n_embd);
    cpu.pool.for_chunks_with(&mut residual[..n_rows * n_embd], per_task * n_embd, scratch, &|task, rows, own: &mut Scratch| {
        let normed = &mut own.row[..n_embd];
        let products = product[task * per_task * n_embd..].chunks(n_embd);
        for (row, product) in rows.chunks_mut(n_embd).zip(products) {
            norm.apply(cpu.kernels, row, normed);
            cpu.kernels.add(row, normed);
            altup.laurel_norm.apply(cpu.kernels, product, normed);
            cpu.kernels.add(row, normed);
            multiply(row, FRAC_1_SQRT_2);
        }
    })
}

/// See [`StreamStage::Correct`].
fn correct(cpu: &Cpu, ws: &mut Workspace, state: &mut State, altup: &Altup<Cpu>, layer: usize) -> Result<()> {
    check(&ws.shape, state, altup)?;
    if layer >= state.shape.n_layers {
        fail!(Internal, "cpu, streams: layer {layer} of {}", state.shape.n_layers);
    }
    let Workspace { shape, n_rows, residual, scratch, .. } = ws;
    let (n_rows, n_embd, AltupShape { n_streams, active, .. }) = (*n_rows, shape.n_embd, state.shape);
    let width = n_streams * n_embd;
    let per_task = cpu.rows_per_task(n_rows, width);
    let streams = &mut state.streams[..n_rows * width];
    cpu.pool.for_chunks_with(streams, per_task * width, scratch, &|task, rows, own: &mut Scratch| {
        let (mut said, mut shares) = ([0.0; MOST], [0.0; MOST]);
        let (said, shares) = (&mut said[..n_streams], &mut shares[..n_streams]);
        for (i, row) in rows.chunks_mut(width).enumerate() {
            let news = &residual[(task * per_task + i) * n_embd..][..n_embd];
            let correction = &mut own.row[..n_embd];
            route(cpu, altup, news, correction, said);
            small_product(&altup.correct, said, shares);
            correction.iter_mut().zip(news.iter().zip(&row[active * n_embd..])).for_each(|(out, (news, expected))| *out = news - expected);
            for (stream, share) in row.chunks_mut(n_embd).zip(&*shares) {
                stream.iter_mut().zip(&*correction).for_each(|(x, correction)| *x += correction * (share + 1.0));
            }
        }
    })?;
    add_input(cpu, ws, state, altup, layer)
}

/// Adds to all streams but the first what the layer's input makes of the active one.
fn add_input(cpu: &Cpu, ws: &mut Workspace, state: &mut State, altup: &Altup<Cpu>, layer: usize) -> Result<()> {
    let Workspace { shape, n_rows, product, activations, scratch, .. } = ws;
    let (n_rows, n_embd, AltupShape { n_streams, active, n_per_layer, .. }) = (*n_rows, shape.n_embd, state.shape);
    let (width, n_inputs) = (n_streams * n_embd, state.shape.n_inputs());
    let State { streams, inputs, narrow, .. } = state;
    let layout = altup.gate.weight.activation();
    activations.fill(cpu, scratch, layout, (n_rows, n_embd), &|m, out| {
        let stream = &streams[m * width + active * n_embd..][..n_embd];
        out.iter_mut().zip(stream.iter().zip(&altup.output_scale)).for_each(|(out, (x, scale))| *out = x * scale);
    })?;
    let columns = ColumnsMut::new(&mut narrow[..n_rows * n_per_layer], n_per_layer);
    cpu.pool.for_columns(&mut [columns], cpu.columns_per_task(n_per_layer, n_rows, n_embd), &|_, mut part, _| {
        cpu.product(&altup.gate, activations.rows(layout), &mut part);
    })?;
    let layout = altup.output.weight.activation();
    activations.fill(cpu, scratch, layout, (n_rows, n_per_layer), &|m, out| {
        out.copy_from_slice(&narrow[m * n_per_layer..][..n_per_layer]);
        cpu.kernels.glu(altup.f, out, &inputs[m * n_inputs + layer * n_per_layer..][..n_per_layer]);
    })?;
    let columns = ColumnsMut::new(&mut product[..n_rows * n_embd], n_embd);
    cpu.pool.for_columns(&mut [columns], cpu.columns_per_task(n_embd, n_rows, n_per_layer), &|_, mut part, _| {
        cpu.product(&altup.output, activations.rows(layout), &mut part);
    })?;
    let per_task = cpu.rows_per_task(n_rows, width);
    cpu.pool.for_chunks_with(&mut streams[..n_rows * width], per_task * width, scratch, &|task, rows, own: &mut Scratch| {
        let normed = &mut own.row[..n_embd];
        for (row, product) in rows.chunks_mut(width).zip(product[task * per_task * n_embd..].chunks(n_embd)) {
            altup.output_norm.apply(cpu.kernels, product, normed);
            row.chunks_mut(n_embd).skip(1).for_each(|stream| cpu.kernels.add(stream, normed));
        }
    })
}

/// See [`StreamStage::Merge`].
fn merge(cpu: &Cpu, ws: &mut Workspace, state: &mut State, batch: &Batch, streams: &Streams<Cpu>) -> Result<()> {
    let Workspace { shape, residual, activations, scratch, .. } = ws;
    let (n_embd, n_others, n_rows) = (shape.n_embd, state.shape.n_streams - 1, batch.outputs.len());
    streams.merge.check(n_embd, n_others * n_embd, "streams, merge")?;
    if n_rows == 0 {
        return Ok(());
    }
    let (layout, width): (Activation, usize) = (streams.merge.weight.activation(), (n_others + 1) * n_embd);
    let State { streams: all, products, .. } = state;
    activations.fill(cpu, scratch, layout, (n_others * n_rows, n_embd), &|i, out| {
        let (stream, row) = (1 + i / n_rows, batch.outputs[i % n_rows]);
        out.copy_from_slice(&all[row * width + stream * n_embd..][..n_embd]);
    })?;
    let mut outs: [_; MOST] = std::array::from_fn(|_| ColumnsMut::new(&mut [], 1));
    for (out, products) in outs.iter_mut().zip(products.chunks_mut(n_rows * n_embd).take(n_others)) {
        *out = ColumnsMut::new(products, n_embd);
    }
    cpu.pool.for_columns(&mut outs[..n_others], cpu.columns_per_task(n_others * n_embd, n_rows, n_embd), &|i, mut part, _| {
        let x = activations.part(cpu, layout, n_embd, i * n_rows..(i + 1) * n_rows);
        cpu.product_from(&streams.merge, i * n_embd, x, &mut part);
    })?;
    for (i, &row) in batch.outputs.iter().enumerate() {
        let (first, mean) = (&all[row * width..][..n_embd], &mut residual[row * n_embd..][..n_embd]);
        let target = mean_square(first);
        mean.copy_from_slice(first);
        for product in products.chunks(n_rows * n_embd).take(n_others).map(|products| &products[i * n_embd..][..n_embd]) {
            let scale = to_magnitude(product, target);
            mean.iter_mut().zip(product).for_each(|(mean, x)| *mean += x * scale);
        }
        multiply(mean, 1.0 / (n_others + 1) as f32);
    }
    Ok(())
}
