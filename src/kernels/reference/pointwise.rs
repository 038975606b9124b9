//! Norm, gates, rotation and addition, in the formulas of their papers and `f64` where a function or a sum is involved.

use crate::kernels::contract::{GateFn, RopeStyle};

/// RMS norm (Zhang and Sennrich 2019): `out = x / sqrt(mean(x^2) + eps) * weight`
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "a norm of {} by {} into {}", x.len(), weight.len(), out.len());
    let mean = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (mean + f64::from(eps)).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = (f64::from(*x) * scale * f64::from(*weight)) as f32;
    }
}

/// `x += y`
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "a sum of two lengths");
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// `gate = f(gate) * up` (Shazeer 2020)
pub(crate) fn glu(f: GateFn, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "a gate and its values");
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = (activate(f, f64::from(*gate)) * f64::from(*up)) as f32;
    }
}

fn activate(f: GateFn, x: f64) -> f64 {
    match f {
        GateFn::Silu => x / (1.0 + (-x).exp()),
        // Hendrycks and Gimpel 2016: x / 2 * (1 + tanh(u)), written with the exponential so that the left tail does not cancel.
        GateFn::GeluTanh => x / (1.0 + (-2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).exp()),
    }
}

/// Turns each pair `(a, b)` by its angle (Su et al. 2021): `(a cos - b sin, b cos + a sin)`.
pub(crate) fn rope(style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let n_pairs = cos.len();
    assert!(sin.len() == n_pairs && 2 * n_pairs <= head.len(), "{n_pairs} angles for a head of {}", head.len());
    for i in 0..n_pairs {
        let (a, b) = match style {
            RopeStyle::Interleaved => (2 * i, 2 * i + 1),
            RopeStyle::Halves => (i, i + n_pairs),
        };
        (head[a], head[b]) = (head[a] * cos[i] - head[b] * sin[i], head[b] * cos[i] + head[a] * sin[i]);
    }
}
