//! A model with several residual streams, one token at a time.

use super::{glu, noise, project, rms_norm};
use crate::backend::AltupShape;
use crate::kernels::GateFn;

/// Random weights: what the model has once, and what one layer has. Shapes as in [`crate::backend::Streams`] and [`crate::backend::Altup`].
pub struct Streams {
    pub shape: AltupShape,
    pub n_embd: usize,
    pub spread: Vec<f32>,
    pub merge: Vec<f32>,
    pub table: Vec<f32>,
    pub inputs: Vec<f32>,
    pub inputs_norm: Vec<f32>,
    pub router_norm: Vec<f32>,
    pub router: Vec<f32>,
    pub predict: Vec<f32>,
    pub correct: Vec<f32>,
    pub output_scale: Vec<f32>,
    pub laurel_left: Vec<f32>,
    pub laurel_right: Vec<f32>,
    pub laurel_norm: Vec<f32>,
    pub gate: Vec<f32>,
    pub output: Vec<f32>,
    pub output_norm: Vec<f32>,
}

/// A token's streams, `(n_streams, n_embd)`, and its inputs, `(n_layers, n_per_layer)`.
pub struct Token {
    pub streams: Vec<Vec<f64>>,
    pub inputs: Vec<f64>,
}

pub const EPS: f64 = 0.01;

fn magnitude(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64
}

fn at_magnitude(x: Vec<f64>, target: f64) -> Vec<f64> {
    let own = magnitude(&x).max(1e-5);
    x.into_iter().map(|x| x * (target / own).sqrt()).collect()
}

fn add(x: &mut [f64], y: impl IntoIterator<Item = f64>) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

impl Streams {
    /// Random ones, with a table of `n_rows` rows.
    pub fn random(shape: AltupShape, n_embd: usize, n_rows: usize) -> Self {
        let AltupShape { n_streams, n_per_layer, rank, .. } = shape;
        let square = (n_streams - 1) * n_embd * n_embd;
        Self {
            shape,
            n_embd,
            spread: noise(square, 101),
            merge: noise(square, 102),
            table: noise(n_rows * shape.n_inputs(), 103),
            inputs: noise(shape.n_inputs() * n_embd, 104),
            inputs_norm: noise(n_per_layer, 105),
            router_norm: noise(n_embd, 106),
            router: noise(n_streams * n_embd, 107).into_iter().map(|x| 9.0 * x).collect(),
            predict: noise(n_streams * n_streams * n_streams, 108),
            correct: noise(n_streams * n_streams, 109),
            output_scale: noise(n_embd, 110),
            laurel_left: noise(rank * n_embd, 111),
            laurel_right: noise(n_embd * rank, 112),
            laurel_norm: noise(n_embd, 113),
            gate: noise(n_per_layer * n_embd, 114),
            output: noise(n_embd * n_per_layer, 115),
            output_norm: noise(n_embd, 116),
        }
    }

    fn route(&self, x: &[f64]) -> Vec<f64> {
        let normed: Vec<f64> = rms_norm(x, &self.router_norm, EPS).into_iter().map(|x| x / self.n_embd as f64).collect();
        project(&normed, &self.router, None, self.n_embd).into_iter().map(f64::tanh).collect()
    }

    /// What becomes of the embedding `x` of `token`.
    pub fn spread(&self, x: &[f64], token: usize) -> Token {
        let (n_embd, n_per_layer, n_inputs) = (self.n_embd, self.shape.n_per_layer, self.shape.n_inputs());
        let others = project(x, &self.spread, None, n_embd);
        let mut streams = vec![x.to_vec()];
        streams.extend(others.chunks(n_embd).map(|stream| at_magnitude(stream.to_vec(), magnitude(x))));
        let row = if (token + 1) * n_inputs <= self.table.len() { token } else { 0 };
        let row = self.table[row * n_inputs..][..n_inputs].iter().map(|&x| f64::from(x) * (n_per_layer as f64).sqrt());
        let part: Vec<f64> = project(x, &self.inputs, None, n_embd).into_iter().map(|x| x / (n_embd as f64).sqrt()).collect();
        let mut inputs = rms_norm(&part, &self.inputs_norm, EPS);
        add(&mut inputs, row);
        Token { streams, inputs: inputs.into_iter().map(|x| x / 2.0_f64.sqrt()).collect() }
    }

    /// Predicts all streams; the active one is the residual.
    pub fn predict(&self, token: &mut Token) -> Vec<f64> {
        let n = self.shape.n_streams;
        let shares = project(&self.route(&token.streams[self.shape.active]), &self.predict, None, n);
        let old = token.streams.clone();
        for (i, stream) in token.streams.iter_mut().enumerate() {
            old.iter().enumerate().for_each(|(j, other)| add(stream, other.iter().map(|x| shares[i * n + j] * x)));
        }
        token.streams[self.shape.active].clone()
    }

    /// The residual after the learned one has joined it; `norm` is that of attention.
    pub fn laurel(&self, residual: &[f64], norm: &[f32]) -> Vec<f64> {
        let x = rms_norm(residual, norm, EPS);
        let low = project(&x, &self.laurel_left, None, self.n_embd);
        let learned = rms_norm(&project(&low, &self.laurel_right, None, self.shape.rank), &self.laurel_norm, EPS);
        residual.iter().zip(&x).zip(&learned).map(|((r, x), l)| (r + x + l) / 2.0_f64.sqrt()).collect()
    }

    /// Corrects all streams by the residual that layer `layer` has made.
    pub fn correct(&self, token: &mut Token, residual: &[f64], layer: usize) {
        let (n, n_per_layer, active) = (self.shape.n_streams, self.shape.n_per_layer, self.shape.active);
        let shares = project(&self.route(residual), &self.correct, None, n);
        let correction: Vec<f64> = residual.iter().zip(&token.streams[active]).map(|(x, y)| x - y).collect();
        for (stream, share) in token.streams.iter_mut().zip(shares) {
            add(stream, correction.iter().map(|x| x * (share + 1.0)));
        }
        let scaled: Vec<f64> = token.streams[active].iter().zip(&self.output_scale).map(|(x, &scale)| x * f64::from(scale)).collect();
        let gate = project(&scaled, &self.gate, None, self.n_embd);
        let gated = glu(GateFn::GeluTanh, &gate, &token.inputs[layer * n_per_layer..][..n_per_layer]);
        let output = rms_norm(&project(&gated, &self.output, None, n_per_layer), &self.output_norm, EPS);
        token.streams.iter_mut().skip(1).for_each(|stream| add(stream, output.iter().copied()));
    }

    /// The mean of all streams.
    pub fn merge(&self, token: &Token) -> Vec<f64> {
        let (n_embd, first) = (self.n_embd, &token.streams[0]);
        let mut sum = first.clone();
        for (i, stream) in token.streams.iter().skip(1).enumerate() {
            let product = project(stream, &self.merge[i * n_embd * n_embd..][..n_embd * n_embd], None, n_embd);
            add(&mut sum, at_magnitude(product, magnitude(first)));
        }
        sum.into_iter().map(|x| x / token.streams.len() as f64).collect()
    }
}
