//! Norms and gates.

use super::exp::{times_normal, times_sigmoid};
use super::floats::{Floats, all, load_part, store_part};
use crate::kernels::contract::GateFn;

/// See [`Kernels::rms_norm`](crate::kernels::Kernels::rms_norm). Squares are added in eight lanes and four chains.
#[inline(always)]
pub(in crate::kernels) fn rms_norm<V: Floats>(v: V, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "a norm of {} by {} into {}", x.len(), weight.len(), out.len());
    let mean = sum_of_powers::<V, 2>(v, x, 0.0) / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    let factor = all(v, scale);
    let ((x, x_rest), (weight, weight_rest)) = (x.as_chunks::<8>(), weight.as_chunks::<8>());
    let (out, out_rest) = out.as_chunks_mut::<8>();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        v.store(v.mul(v.mul(v.load(x), factor), v.load(weight)), out);
    }
    for ((out, x), weight) in out_rest.iter_mut().zip(x_rest).zip(weight_rest) {
        *out = x * scale * weight;
    }
}

/// See [`Kernels::layer_norm`](crate::kernels::Kernels::layer_norm). Sums as in [`rms_norm`], that of the squares after the mean is known.
#[inline(always)]
pub(in crate::kernels) fn layer_norm<V: Floats>(v: V, x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "a norm of {} by {} into {}", x.len(), weight.len(), out.len());
    assert!(bias.is_none_or(|bias| bias.len() == x.len()), "a norm of {} with another bias", x.len());
    let n = x.len() as f32;
    let mean = sum_of_powers::<V, 1>(v, x, 0.0) / n;
    let scale = 1.0 / (sum_of_powers::<V, 2>(v, x, mean) / n + eps).sqrt();
    let ((x, x_rest), (weight, weight_rest)) = (x.as_chunks::<8>(), weight.as_chunks::<8>());
    let ((bias, bias_rest), (out, out_rest)) = (bias.unwrap_or_default().as_chunks::<8>(), out.as_chunks_mut::<8>());
    for (i, ((out, x), weight)) in out.iter_mut().zip(x).zip(weight).enumerate() {
        let normal = v.mul(v.minus(v.load(x), all(v, mean)), all(v, scale));
        v.store(v.mul_add(normal, v.load(weight), v.load(bias.get(i).unwrap_or(&[0.0; 8]))), out);
    }
    for (i, ((out, x), weight)) in out_rest.iter_mut().zip(x_rest).zip(weight_rest).enumerate() {
        *out = ((x - mean) * scale).mul_add(*weight, bias_rest.get(i).copied().unwrap_or(0.0));
    }
}

/// The sum of `x - mean`, or of its squares, in eight lanes and four chains.
#[inline(always)]
fn sum_of_powers<V: Floats, const POWER: u32>(v: V, x: &[f32], mean: f32) -> f32 {
    let (eights, rest) = x.as_chunks::<8>();
    let (fours, last) = eights.as_chunks::<4>();
    let mut chains = [all(v, 0.0); 4];
    for four in fours.iter().map(<[_; 4]>::as_slice).chain([last]) {
        for (chain, x) in chains.iter_mut().zip(four) {
            let x = v.minus(v.load(x), all(v, mean));
            *chain = if POWER == 2 { v.mul_add(x, x, *chain) } else { v.add(x, *chain) };
        }
    }
    let mut part = [0.0; 8];
    part.iter_mut().zip(rest).for_each(|(part, x)| *part = (x - mean).powi(POWER.cast_signed()));
    chains[3] = v.add(v.load(&part), chains[3]);
    v.sum(v.add(v.add(chains[0], chains[1]), v.add(chains[2], chains[3])))
}

/// See [`Kernels::glu`](crate::kernels::Kernels::glu).
#[inline(always)]
pub(in crate::kernels) fn glu<V: Floats>(v: V, f: GateFn, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "a gate and its values");
    match f {
        GateFn::Silu => gated::<V, Silu>(v, gate, up),
        GateFn::GeluTanh => gated::<V, GeluTanh>(v, gate, up),
        GateFn::GeluErf => gated::<V, GeluErf>(v, gate, up),
        GateFn::Relu2 => gated::<V, Relu2>(v, gate, up),
    }
}

/// `gate = G(gate) * up`
#[inline(always)]
fn gated<V: Floats, G: Gate>(v: V, gate: &mut [f32], up: &[f32]) {
    let ((gate, gate_rest), (up, up_rest)) = (gate.as_chunks_mut::<8>(), up.as_chunks::<8>());
    for (gate, up) in gate.iter_mut().zip(up) {
        v.store(v.mul(G::of(v, v.load(gate)), v.load(up)), gate);
    }
    let part = v.mul(G::of(v, load_part(v, gate_rest)), load_part(v, up_rest));
    store_part(v, gate_rest, part);
}

/// A [`GateFn`].
trait Gate {
    /// Its value.
    fn of<V: Floats>(v: V, x: V::F) -> V::F;
}

struct Silu;
struct GeluTanh;
struct GeluErf;
struct Relu2;

impl Gate for Silu {
    #[inline(always)]
    fn of<V: Floats>(v: V, x: V::F) -> V::F {
        times_sigmoid(v, x, x)
    }
}

impl Gate for GeluTanh {
    /// (1 + tanh(u)) / 2 is the logistic function of 2 u, and 2 u is `2 sqrt(2 / pi) (x + 0.044715 x^3)`.
    #[inline(always)]
    fn of<V: Floats>(v: V, x: V::F) -> V::F {
        const TWICE_SQRT_2_OVER_PI: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
        let cubic = v.mul_add(v.mul(x, x), all(v, 0.044_715), all(v, 1.0));
        times_sigmoid(v, x, v.mul(v.mul(x, all(v, TWICE_SQRT_2_OVER_PI)), cubic))
    }
}

impl Gate for GeluErf {
    #[inline(always)]
    fn of<V: Floats>(v: V, x: V::F) -> V::F {
        times_normal(v, x)
    }
}

impl Gate for Relu2 {
    #[inline(always)]
    fn of<V: Floats>(v: V, x: V::F) -> V::F {
        let positive = v.max(all(v, 0.0), x);
        v.mul(positive, positive)
    }
}
