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

/// Layer norm (Ba et al. 2016): `out = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias`
pub(crate) fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "a norm of {} by {} into {}", x.len(), weight.len(), out.len());
    assert!(bias.is_none_or(|bias| bias.len() == x.len()), "a norm of {} with another bias", x.len());
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(eps)).sqrt();
    for (i, ((out, x), weight)) in out.iter_mut().zip(x).zip(weight).enumerate() {
        let bias = bias.map_or(0.0, |bias| f64::from(bias[i]));
        *out = ((f64::from(*x) - mean) * scale * f64::from(*weight) + bias) as f32;
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
        // The same paper: x / 2 * (1 + erf(x / sqrt 2)); the complement keeps the left tail.
        GateFn::GeluErf => 0.5 * x * erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
        // So et al. 2021 ("Primer").
        GateFn::Relu2 => {
            if x <= 0.0 {
                0.0
            } else {
                x * x
            }
        }
    }
}

/// The complementary error function, to 1.2e-7 of its value, everywhere: below the rounding of the `f32` that it ends in.
/// Source: Press et al., "Numerical Recipes in Fortran 77", section 6.2 (a Chebyshev fit).
fn erfc(x: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let fit = FIT.iter().rev().fold(0.0, |sum, c| sum * t + c);
    let tail = t * (fit - x * x).exp();
    if x >= 0.0 { tail } else { 2.0 - tail }
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
