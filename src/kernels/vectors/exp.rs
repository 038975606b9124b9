//! The exponential, and what is made of it: sigmoid, tanh and the Gaussian error function. Eight lanes, no tables, the same bits in every
//! lane.

use super::floats::{Floats, all};

/// ln 2 in two parts: the first has 9 significant bits, so that its product with any exponent is exact (Cody and Waite 1980).
pub(in crate::kernels) const LN_2_HIGH: f32 = 355.0 / 512.0;
/// The rest of ln 2.
pub(in crate::kernels) const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `exp(r) = 1 + r + r^2 * q(r)` on `|r| <= ln 2 / 2`: minimax coefficients of `q`, lowest first. Made by `tools/fit_exp.py`;
/// relative error 3.1e-9, a fortieth of an ULP.
pub(in crate::kernels) const Q: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_717, 0.001_381_459_9];

/// `e^x`. Within 1 ULP where the result is normal; 0 below -104, infinity above 88.73, NaN for NaN.
#[inline(always)]
pub(super) fn exp<V: Floats>(v: V, x: V::F) -> V::F {
    // Beyond these the result is 0 or infinity anyway.
    let x = v.max(all(v, -104.0), v.min(all(v, 89.0), x));
    let (fraction, n) = split(v, x);
    // Two factors, because 2^n alone leaves the range of an f32 at both ends.
    let first = v.round(v.mul(n, all(v, 0.5)));
    v.mul(v.mul(fraction, v.power_of_2(first)), v.power_of_2(v.minus(n, first)))
}

/// `e^x` for `x <= 0`, as a weight beside 1: what is smaller than the smallest normal number is that number, and vanishes in any sum.
#[inline(always)]
pub(super) fn exp_weight<V: Floats>(v: V, x: V::F) -> V::F {
    let (fraction, n) = split(v, v.max(all(v, -87.0), x));
    v.mul(fraction, v.power_of_2(n))
}

/// `e^x` as `fraction * 2^n`.
#[inline(always)]
fn split<V: Floats>(v: V, x: V::F) -> (V::F, V::F) {
    let n = v.round(v.mul(x, all(v, std::f32::consts::LOG2_E)));
    let r = v.mul_sub(n, all(v, LN_2_HIGH), x);
    let r = v.mul_sub(n, all(v, LN_2_LOW), r);
    let q = polynomial(v, &Q, r);
    (v.add(all(v, 1.0), v.mul_add(v.mul(r, r), q, r)), n)
}

/// `coefficients[0] + coefficients[1] * x + ...` by Horner's rule.
#[inline(always)]
fn polynomial<V: Floats, const N: usize>(v: V, coefficients: &[f32; N], x: V::F) -> V::F {
    let mut sum = all(v, coefficients[N - 1]);
    for i in (0..N - 1).rev() {
        sum = v.mul_add(sum, x, all(v, coefficients[i]));
    }
    sum
}

/// `x / (1 + e^-y)`: `x` times the logistic function of `y`.
#[inline(always)]
pub(super) fn times_sigmoid<V: Floats>(v: V, x: V::F, y: V::F) -> V::F {
    let negative = v.mul(y, all(v, -1.0));
    v.div(x, v.add(all(v, 1.0), exp(v, negative)))
}

/// `tanh(x)` as `1 - 2 / (1 + e^2x)`. Absolute error below 2e-7, which is what an attention score can feel.
#[inline(always)]
pub(super) fn tanh<V: Floats>(v: V, x: V::F) -> V::F {
    let (one, two) = (all(v, 1.0), all(v, 2.0));
    v.minus(one, v.div(two, v.add(one, exp(v, v.mul(two, x)))))
}

/// `x` times the distribution function of the normal distribution, `x / 2 * erfc(-x / sqrt 2)`. The tails keep their relative precision.
///
/// `erfc` of the magnitude is [`ERFC_FIT`]'s; what is on the other side of zero is `x` less that.
#[inline(always)]
pub(super) fn times_normal<V: Floats>(v: V, x: V::F) -> V::F {
    let magnitude = v.max(v.mul(x, all(v, -1.0)), x);
    let a = v.min(all(v, ERFC_IS_0), magnitude);
    let t = v.div(all(v, 1.0), v.mul_add(a, all(v, 0.5 * std::f32::consts::FRAC_1_SQRT_2), all(v, 1.0)));
    let fit = polynomial(v, &ERFC_FIT, t);
    // The exponent is fit - a^2 / 2. What its two roundings lose (Dekker 1971) is made up for: at 8 it is 4e-6 of the result.
    let half_square = v.mul(v.mul(a, a), all(v, 0.5));
    let lost_in_square = v.mul_sub(v.mul(a, all(v, 0.5)), a, half_square);
    let exponent = v.minus(fit, half_square);
    let lost = v.add(v.minus(fit, v.add(exponent, half_square)), lost_in_square);
    let tail = v.mul(v.mul(t, exp(v, exponent)), v.add(all(v, 1.0), lost));
    v.mul_sub(v.mul(magnitude, all(v, 0.5)), tail, v.max(all(v, 0.0), x))
}

/// Beyond this `erfc(x / sqrt 2)` times any `x` is 0 in an `f32`.
const ERFC_IS_0: f32 = 20.0;

/// `erfc(z) = t * exp(fit(t) - z^2)` with `t = 1 / (1 + z / 2)`, for `z >= 0`: relative error 1.2e-7.
/// Source: Press et al., "Numerical Recipes in Fortran 77", section 6.2.
const ERFC_FIT: [f32; 10] = [
    -1.265_512_2,
    1.000_023_7,
    0.374_091_96,
    0.096_784_18,
    -0.186_288_06,
    0.278_868_08,
    -1.135_204,
    1.488_515_9,
    -0.822_152_2,
    0.170_872_77,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Something to try on every set's vectors.
    trait Trial {
        fn run<V: Floats>(&self, v: V);
    }

    fn on_every_set(trial: &impl Trial) {
        #[cfg(target_arch = "x86_64")]
        if let Some(v) = crate::kernels::Avx2::new() {
            trial.run(v);
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        if let Some(v) = crate::kernels::NeonDotprod::new() {
            trial.run(v);
        }
    }

    fn eight<V: Floats>(v: V, f: impl Fn(V, V::F) -> V::F, x: [f32; 8]) -> [f32; 8] {
        let mut out = [0.0; 8];
        v.store(f(v, v.load(&x)), &mut out);
        out
    }

    /// Values from `start` to `end`, eight at a time.
    fn sweep(start: f32, end: f32, n: usize) -> impl Iterator<Item = [f32; 8]> {
        (0..n / 8).map(move |i| std::array::from_fn(|j| start + (end - start) * (8 * i + j) as f32 / n as f32))
    }

    #[test]
    fn exp_is_within_one_ulp() {
        struct Exp;
        impl Trial for Exp {
            fn run<V: Floats>(&self, v: V) {
                for x in sweep(-87.0, 88.7, 1 << 20).chain(sweep(-1e-3, 1e-3, 1 << 16)) {
                    for (x, y) in x.into_iter().zip(eight(v, exp, x)) {
                        let exact = f64::from(x).exp();
                        let ulp = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
                        assert!((f64::from(y) - exact).abs() <= ulp, "exp({x}) = {y}, not {exact}");
                    }
                }
            }
        }
        on_every_set(&Exp);
    }

    #[test]
    fn exp_at_the_edges() {
        struct Edges;
        impl Trial for Edges {
            fn run<V: Floats>(&self, v: V) {
                let y = eight(v, exp, [f32::NEG_INFINITY, -1e30, -104.0, 0.0, -0.0, 88.8, f32::INFINITY, f32::NAN]);
                assert_eq!(y[..7], [0.0, 0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY]);
                assert!(y[7].is_nan());
                let subnormal = eight(v, exp, [-95.0; 8])[0];
                assert!((subnormal - (-95.0_f32).exp()).abs() <= f32::from_bits(1));
            }
        }
        on_every_set(&Edges);
    }

    #[test]
    fn weights_are_exponentials_and_never_less_than_the_smallest_number() {
        struct Weights;
        impl Trial for Weights {
            fn run<V: Floats>(&self, v: V) {
                for x in sweep(-86.9, 0.0, 1 << 16) {
                    assert_eq!(eight(v, exp_weight, x), eight(v, exp, x), "{x:?}");
                }
                let edges = eight(v, exp_weight, [f32::NEG_INFINITY, -1e30, -88.0, 0.0, -0.0, 0.0, 0.0, f32::NAN]);
                assert!(edges[..3].iter().all(|w| *w > 0.0 && *w < 2e-38) && edges[3..5] == [1.0, 1.0] && edges[7].is_nan(), "{edges:?}");
            }
        }
        on_every_set(&Weights);
    }

    #[test]
    fn tanh_is_within_its_bound() {
        struct Tanh;
        impl Trial for Tanh {
            fn run<V: Floats>(&self, v: V) {
                for x in sweep(-12.0, 12.0, 1 << 16) {
                    for (x, y) in x.into_iter().zip(eight(v, tanh, x)) {
                        assert!((f64::from(y) - f64::from(x).tanh()).abs() < 2e-7, "tanh({x}) = {y}");
                    }
                }
            }
        }
        on_every_set(&Tanh);
    }
}
