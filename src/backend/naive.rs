//! The arithmetic of the stages in `f64`, written as the formulas read: what the tests of the backends compare with.

pub mod altup;

use crate::backend::{Attention, Rope};
use crate::kernels::{GateFn, RopeStyle};

/// `n` reproducible numbers in `-1..1`.
pub fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        // Knuth's MMIX generator; its high bits are good enough for test data.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

pub fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// `x W^T + b`: `(rows, n_in)`, `(n_out, n_in)`, `(n_out,)` -> `(rows, n_out)`.
pub fn project(x: &[f64], weight: &[f32], bias: Option<&[f32]>, n_in: usize) -> Vec<f64> {
    let dot = |x: &[f64], w: &[f32]| -> f64 { x.iter().zip(w).map(|(x, &w)| x * f64::from(w)).sum() };
    x.chunks(n_in)
        .flat_map(|x| weight.chunks(n_in).enumerate().map(move |(i, w)| dot(x, w) + bias.map_or(0.0, |b| f64::from(b[i]))))
        .collect()
}

/// Root-mean-square normalisation of every `weight.len()` elements of `x`.
pub fn rms_norm(x: &[f64], weight: &[f32], eps: f64) -> Vec<f64> {
    x.chunks(weight.len())
        .flat_map(|x| {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            x.iter().zip(weight).map(move |(x, &w)| x / (mean + eps).sqrt() * f64::from(w))
        })
        .collect()
}

/// One head turned to `position`.
pub fn rotate(head: &mut [f64], position: u32, rope: &Rope) {
    let half = rope.inv_freq.len();
    for (i, &inv_freq) in rope.inv_freq.iter().enumerate() {
        let (first, second) = match rope.style {
            RopeStyle::Interleaved => (2 * i, 2 * i + 1),
            RopeStyle::Halves => (i, i + half),
        };
        let (sin, cos) = (f64::from(position) * f64::from(inv_freq)).sin_cos();
        let (a, b, m) = (head[first], head[second], f64::from(rope.magnitude));
        (head[first], head[second]) = (m * (a * cos - b * sin), m * (a * sin + b * cos));
    }
}

/// One query head at `position` over the keys and values (`(n_positions, head_dim)`) of its KV head.
pub fn attend(query: &[f64], keys: &[f64], values: &[f64], position: usize, attention: &Attention) -> Vec<f64> {
    let head_dim = query.len();
    let oldest = attention.sight.oldest(position);
    let warmth = attention.temperature.map_or(1.0, |temperature| f64::from(temperature.at(position)));
    let score = |p: usize| {
        let dot: f64 = query.iter().zip(&keys[p * head_dim..]).map(|(q, k)| q * k).sum();
        let score = warmth * dot * f64::from(attention.scale);
        attention.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
    };
    let weights: Vec<f64> = (oldest..=position).map(|p| score(p).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mut out = vec![0.0; head_dim];
    for (weight, p) in weights.iter().zip(oldest..) {
        out.iter_mut().zip(&values[p * head_dim..]).for_each(|(out, v)| *out += weight / sum * v);
    }
    out
}

/// `f(gate) * up`
pub fn glu(f: GateFn, gate: &[f64], up: &[f64]) -> Vec<f64> {
    let f = |x: f64| match f {
        GateFn::Silu => x / (1.0 + (-x).exp()),
        GateFn::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh()),
        // The error function by its Maclaurin series (Abramowitz and Stegun 7.1.5): exact for the small arguments of tests.
        GateFn::GeluErf => {
            let (z, mut term, mut erf) = (x / 2.0_f64.sqrt(), x / 2.0_f64.sqrt(), 0.0);
            for n in 0..60 {
                erf += term / f64::from(2 * n + 1);
                term *= -z * z / f64::from(n + 1);
            }
            0.5 * x * (1.0 + 2.0 / std::f64::consts::PI.sqrt() * erf)
        }
        GateFn::Relu2 => x.max(0.0).powi(2),
    };
    gate.iter().zip(up).map(|(&gate, up)| f(gate) * up).collect()
}

/// A mixture of experts, softmax over all, one expert at a time.
pub struct Mixture {
    pub n_used: usize,
    pub n_embd: usize,
    /// `(n_experts, n_embd)`
    pub router: Vec<f32>,
    /// `(n_experts, n_ff, n_embd)`
    pub gate: Vec<f32>,
    /// `(n_experts, n_ff, n_embd)`
    pub up: Vec<f32>,
    /// `(n_experts, n_embd, n_ff)`
    pub down: Vec<f32>,
}

impl Mixture {
    /// Of random weights.
    pub fn random(n_experts: usize, n_used: usize, n_embd: usize, n_ff: usize) -> Self {
        let part = |seed| noise(n_experts * n_ff * n_embd, seed);
        Self { n_used, n_embd, router: noise(n_experts * n_embd, 1), gate: part(2), up: part(3), down: part(4) }
    }

    /// What it makes of rows `x`, `(rows, n_embd)`.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        let (n_embd, n_experts) = (self.n_embd, self.router.len() / self.n_embd);
        let (len, n_ff) = (self.gate.len() / n_experts, self.gate.len() / n_experts / n_embd);
        let row = |x: &[f64]| {
            let scores: Vec<f64> = project(x, &self.router, None, n_embd).into_iter().map(f64::exp).collect();
            let mut best: Vec<usize> = (0..n_experts).collect();
            best.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let mut sum = vec![0.0; n_embd];
            for &e in &best[..self.n_used] {
                let part = |all: &[f32], x: &[f64], n_in| project(x, &all[e * len..(e + 1) * len], None, n_in);
                let hidden = glu(GateFn::Silu, &part(&self.gate, x, n_embd), &part(&self.up, x, n_embd));
                let weight = scores[e] / scores.iter().sum::<f64>();
                sum.iter_mut().zip(part(&self.down, &hidden, n_ff)).for_each(|(sum, y)| *sum += weight * y);
            }
            sum
        };
        x.chunks(n_embd).flat_map(row).collect()
    }
}

/// That `got` equals `want` to `tolerance`, relative to the largest of `want`.
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
    for (i, (&got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs() / scale;
        assert!(error <= tolerance, "{what}[{i}]: {got}, expected {want} (off by {error:e} of {scale})");
    }
}
