//! The stages of a model with several residual streams against the formulas.

use super::*;
use crate::backend::naive::{self, assert_close, noise, widen};
use crate::backend::{Altup, AltupShape, StreamStage, Streams};
use naive::altup::{self, EPS};

const STREAMS: AltupShape = AltupShape { n_streams: 4, active: 2, n_per_layer: 7, n_layers: 3, rank: 6 };
const N_EMBD: usize = SHAPE.n_embd;

#[test]
fn streams_are_spread_predicted_corrected_and_merged() {
    let w = altup::Streams::random(STREAMS, N_EMBD, 30);
    let linear = |weight: &[f32], n_in: usize| linear(weight, n_in, None);
    let norm = |weight: &[f32]| norm(weight, EPS as f32);
    let streams = Streams {
        spread: linear(&w.spread, N_EMBD),
        merge: linear(&w.merge, N_EMBD),
        table: backend().table(host(&w.table, STREAMS.n_inputs())).unwrap(),
        inputs: linear(&w.inputs, N_EMBD),
        inputs_norm: norm(&w.inputs_norm),
    };
    let layer = Altup {
        router_norm: norm(&w.router_norm),
        router: w.router.clone(),
        predict: w.predict.clone(),
        correct: w.correct.clone(),
        output_scale: w.output_scale.clone(),
        laurel_left: linear(&w.laurel_left, N_EMBD),
        laurel_right: linear(&w.laurel_right, STREAMS.rank),
        laurel_norm: norm(&w.laurel_norm),
        gate: linear(&w.gate, N_EMBD),
        output: linear(&w.output, STREAMS.n_per_layer),
        output_norm: norm(&w.output_norm),
        f: GateFn::GeluTanh,
    };
    let attention_norm = noise(N_EMBD, 9);
    let input_norm = norm(&attention_norm);
    let tokens = [3_u32, 49, 0, 30, 29];
    let mut batch = Batch::default();
    batch.push_rows(&tokens, 0, &[0], tokens.len());
    let x = noise(tokens.len() * N_EMBD, 8);
    let mut ws = backend().workspace(&Shape { altup: Some(STREAMS), ..SHAPE }, 8, 8).unwrap();
    backend().begin(&mut ws, &batch, &[]).unwrap();
    ws.set_residual(rows(&x, N_EMBD));
    let mut state: Vec<_> = tokens.iter().zip(x.chunks(N_EMBD)).map(|(&token, x)| w.spread(&widen(x), token as usize)).collect();
    let mut run = |stage, what: &str, want: Option<Vec<Vec<f64>>>| {
        backend().streams(&mut ws, &batch, stage).unwrap();
        let want = want.map(|want| want.concat());
        want.iter().for_each(|want| assert_close(what, &values(ws.residual("test").unwrap()), want, 5e-6));
    };
    run(StreamStage::Spread(&streams), "spread", None);
    for i in 0..STREAMS.n_layers {
        let predicted: Vec<_> = state.iter_mut().map(|token| w.predict(token)).collect();
        run(StreamStage::Predict(&layer), "predict", Some(predicted.clone()));
        let joined: Vec<_> = predicted.iter().map(|row| w.laurel(row, &attention_norm)).collect();
        run(StreamStage::Laurel(&layer, &input_norm), "laurel", Some(joined.clone()));
        state.iter_mut().zip(&joined).for_each(|(token, row)| w.correct(token, row, i));
        run(StreamStage::Correct(&layer, i), "correct", None);
    }
    run(StreamStage::Merge(&streams), "merge", Some(state.iter().map(|token| w.merge(token)).collect()));
}
