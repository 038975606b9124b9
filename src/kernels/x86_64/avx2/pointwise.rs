//! Norm, gates, rotation, addition and storage of keys and values. Addition, rotation and storage give the reference's bits.

use super::exp::times_sigmoid;
use super::vector::{load, load_part, store, store_part, sum};
use crate::kernels::contract::{GateFn, Kernels, RopeStyle};
use crate::kernels::reference::Reference;
use std::arch::x86_64::*;

/// See [`Kernels::rms_norm`]. Squares are added in eight lanes and four chains.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "a norm of {} by {} into {}", x.len(), weight.len(), out.len());
    let mean = sum_of_squares(x) / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    let factor = _mm256_set1_ps(scale);
    let ((x, x_rest), (weight, weight_rest)) = (x.as_chunks::<8>(), weight.as_chunks::<8>());
    let (out, out_rest) = out.as_chunks_mut::<8>();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        store(out, _mm256_mul_ps(_mm256_mul_ps(load(x), factor), load(weight)));
    }
    for ((out, x), weight) in out_rest.iter_mut().zip(x_rest).zip(weight_rest) {
        *out = x * scale * weight;
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn sum_of_squares(x: &[f32]) -> f32 {
    let (eights, rest) = x.as_chunks::<8>();
    let (fours, last) = eights.as_chunks::<4>();
    let mut chains = [_mm256_setzero_ps(); 4];
    for four in fours {
        for (chain, x) in chains.iter_mut().zip(four) {
            *chain = _mm256_fmadd_ps(load(x), load(x), *chain);
        }
    }
    for (chain, x) in chains.iter_mut().zip(last) {
        *chain = _mm256_fmadd_ps(load(x), load(x), *chain);
    }
    let part = load_part(rest);
    chains[3] = _mm256_fmadd_ps(part, part, chains[3]);
    sum(_mm256_add_ps(_mm256_add_ps(chains[0], chains[1]), _mm256_add_ps(chains[2], chains[3])))
}

/// See [`Kernels::add`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    Reference.add(x, y); // the compiler makes the best of it
}

/// See [`Kernels::glu`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn glu(f: GateFn, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "a gate and its values");
    if matches!(f, GateFn::GeluErf | GateFn::Relu2) {
        return Reference.glu(f, gate, up); // few models have them
    }
    let ((gate, gate_rest), (up, up_rest)) = (gate.as_chunks_mut::<8>(), up.as_chunks::<8>());
    for (gate, up) in gate.iter_mut().zip(up) {
        let x = load(gate);
        store(gate, _mm256_mul_ps(activate(f, x), load(up)));
    }
    let part = _mm256_mul_ps(activate(f, load_part(gate_rest)), load_part(up_rest));
    store_part(gate_rest, part);
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn activate(f: GateFn, x: __m256) -> __m256 {
    match f {
        GateFn::Silu => times_sigmoid(x, x),
        // (1 + tanh(u)) / 2 is the logistic function of 2 u.
        GateFn::GeluTanh => times_sigmoid(x, gelu_argument(x)),
        // Left to the reference before any vector is loaded.
        GateFn::GeluErf | GateFn::Relu2 => x,
    }
}

/// `2 sqrt(2 / pi) (x + 0.044715 x^3)`
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn gelu_argument(x: __m256) -> __m256 {
    const TWICE_SQRT_2_OVER_PI: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
    let cubic = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044_715), _mm256_set1_ps(1.0));
    _mm256_mul_ps(_mm256_mul_ps(x, _mm256_set1_ps(TWICE_SQRT_2_OVER_PI)), cubic)
}

/// See [`Kernels::rope`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rope(style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let n_pairs = cos.len();
    assert!(sin.len() == n_pairs && 2 * n_pairs <= head.len(), "{n_pairs} angles for a head of {}", head.len());
    let whole = n_pairs - n_pairs % 8;
    let head = &mut head[..2 * n_pairs];
    match style {
        RopeStyle::Interleaved => {
            rotate_neighbours(&mut head[..2 * whole], &cos[..whole], &sin[..whole]);
            Reference.rope(style, &mut head[2 * whole..], &cos[whole..], &sin[whole..]);
        }
        RopeStyle::Halves => {
            let (first, second) = head.split_at_mut(n_pairs);
            rotate_halves(first, second, cos, sin);
        }
    }
}

/// `(a cos - b sin, b cos + a sin)` without fused operations, as the reference rounds it.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rotate(a: __m256, b: __m256, cos: __m256, sin: __m256) -> (__m256, __m256) {
    let x = _mm256_sub_ps(_mm256_mul_ps(a, cos), _mm256_mul_ps(b, sin));
    let y = _mm256_add_ps(_mm256_mul_ps(b, cos), _mm256_mul_ps(a, sin));
    (x, y)
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rotate_halves(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) {
    let ((a, a_rest), (b, b_rest)) = (first.as_chunks_mut::<8>(), second.as_chunks_mut::<8>());
    let ((cos, cos_rest), (sin, sin_rest)) = (cos.as_chunks::<8>(), sin.as_chunks::<8>());
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        let (x, y) = rotate(load(a), load(b), load(cos), load(sin));
        store(a, x);
        store(b, y);
    }
    let (x, y) = rotate(load_part(a_rest), load_part(b_rest), load_part(cos_rest), load_part(sin_rest));
    store_part(a_rest, x);
    store_part(b_rest, y);
}

/// Eight pairs at a time; sorting evens from odds and back works within 128-bit halves, so the angles are sorted alike.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rotate_neighbours(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let order = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
    let angles = cos.as_chunks::<8>().0.iter().zip(sin.as_chunks::<8>().0);
    for (sixteen, (cos, sin)) in head.as_chunks_mut::<16>().0.iter_mut().zip(angles) {
        let [low, high] = sixteen.as_chunks_mut::<8>().0 else { return };
        let a = _mm256_shuffle_ps::<0b_10_00_10_00>(load(low), load(high));
        let b = _mm256_shuffle_ps::<0b_11_01_11_01>(load(low), load(high));
        let (cos, sin) = (_mm256_permutevar8x32_ps(load(cos), order), _mm256_permutevar8x32_ps(load(sin), order));
        let (x, y) = rotate(a, b, cos, sin);
        store(low, _mm256_unpacklo_ps(x, y));
        store(high, _mm256_unpackhi_ps(x, y));
    }
}
