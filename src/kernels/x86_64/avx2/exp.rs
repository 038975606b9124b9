//! The exponential, and what is made of it: sigmoid and tanh. Eight lanes, no tables, the same bits in every lane.

use std::arch::x86_64::*;

/// ln 2 in two parts: the first has 9 significant bits, so that its product with any exponent is exact (Cody and Waite 1980).
pub(in crate::kernels::x86_64) const LN_2_HIGH: f32 = 355.0 / 512.0;
/// The rest of ln 2.
pub(in crate::kernels::x86_64) const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `exp(r) = 1 + r + r^2 * q(r)` on `|r| <= ln 2 / 2`: minimax coefficients of `q`, lowest first. Made by `tools/fit_exp.py`;
/// relative error 3.1e-9, a fortieth of an ULP.
pub(in crate::kernels::x86_64) const Q: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_717, 0.001_381_459_9];

/// `e^x`. Within 1 ULP where the result is normal; 0 below -104, infinity above 88.73, NaN for NaN.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn exp(x: __m256) -> __m256 {
    // Beyond these the result is 0 or infinity anyway. A NaN in the second operand survives minimum and maximum.
    let x = _mm256_max_ps(_mm256_set1_ps(-104.0), _mm256_min_ps(_mm256_set1_ps(89.0), x));
    let (fraction, n) = split(x);
    // Two factors, because 2^n alone leaves the range of an f32 at both ends.
    let first = _mm256_srai_epi32::<1>(n);
    _mm256_mul_ps(_mm256_mul_ps(fraction, power_of_2(first)), power_of_2(_mm256_sub_epi32(n, first)))
}

/// `e^x` for `x <= 0`, as a weight beside 1: what is smaller than the smallest normal number is that number, and vanishes in any sum.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn exp_weight(x: __m256) -> __m256 {
    let (fraction, n) = split(_mm256_max_ps(_mm256_set1_ps(-87.0), x));
    _mm256_mul_ps(fraction, power_of_2(n))
}

/// `e^x` as `fraction * 2^n`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn split(x: __m256) -> (__m256, __m256i) {
    let n =
        _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm256_mul_ps(x, _mm256_set1_ps(std::f32::consts::LOG2_E)));
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LN_2_HIGH), x);
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LN_2_LOW), r);
    let mut q = _mm256_set1_ps(Q[4]);
    for c in [Q[3], Q[2], Q[1], Q[0]] {
        q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(c));
    }
    let fraction = _mm256_add_ps(_mm256_set1_ps(1.0), _mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r));
    (fraction, _mm256_cvtps_epi32(n))
}

/// `2^n` for `n` in -126..=127.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn power_of_2(n: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))))
}

/// `x / (1 + e^-y)`: `x` times the logistic function of `y`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn times_sigmoid(x: __m256, y: __m256) -> __m256 {
    let negative = _mm256_xor_ps(y, _mm256_set1_ps(-0.0));
    _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0), exp(negative)))
}

/// `tanh(x)` as `1 - 2 / (1 + e^2x)`. Absolute error below 2e-7, which is what an attention score can feel.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn tanh(x: __m256) -> __m256 {
    let (one, two) = (_mm256_set1_ps(1.0), _mm256_set1_ps(2.0));
    _mm256_sub_ps(one, _mm256_div_ps(two, _mm256_add_ps(one, exp(_mm256_mul_ps(two, x)))))
}

#[cfg(test)]
mod tests {
    use super::super::Avx2;
    use super::super::vector::{load, store};
    use super::*;

    /// `f` of eight values, or `None` on a machine that cannot.
    fn eight(f: unsafe fn([f32; 8]) -> [f32; 8], x: [f32; 8]) -> Option<[f32; 8]> {
        // SAFETY: an `Avx2` proves the features, which is all that the functions below ask for.
        Avx2::new().map(|_| unsafe { f(x) })
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn exp_8(x: [f32; 8]) -> [f32; 8] {
        let mut out = [0.0; 8];
        store(&mut out, exp(load(&x)));
        out
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn tanh_8(x: [f32; 8]) -> [f32; 8] {
        let mut out = [0.0; 8];
        store(&mut out, tanh(load(&x)));
        out
    }

    /// Values from `start` to `end`, eight at a time.
    fn sweep(start: f32, end: f32, n: usize) -> impl Iterator<Item = [f32; 8]> {
        (0..n / 8).map(move |i| std::array::from_fn(|j| start + (end - start) * (8 * i + j) as f32 / n as f32))
    }

    #[test]
    fn exp_is_within_one_ulp() {
        for x in sweep(-87.0, 88.7, 1 << 20).chain(sweep(-1e-3, 1e-3, 1 << 16)) {
            let Some(y) = eight(exp_8, x) else { return };
            for (x, y) in x.into_iter().zip(y) {
                let exact = f64::from(x).exp();
                let ulp = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
                assert!((f64::from(y) - exact).abs() <= ulp, "exp({x}) = {y}, not {exact}");
            }
        }
    }

    #[test]
    fn exp_at_the_edges() {
        let x = [f32::NEG_INFINITY, -1e30, -104.0, 0.0, -0.0, 88.8, f32::INFINITY, f32::NAN];
        let Some(y) = eight(exp_8, x) else { return };
        assert_eq!(y[..7], [0.0, 0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY]);
        assert!(y[7].is_nan());
        let Some(subnormal) = eight(exp_8, [-95.0; 8]) else { return };
        assert!((subnormal[0] - (-95.0_f32).exp()).abs() <= f32::from_bits(1));
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn exp_weight_8(x: [f32; 8]) -> [f32; 8] {
        let mut out = [0.0; 8];
        store(&mut out, exp_weight(load(&x)));
        out
    }

    #[test]
    fn weights_are_exponentials_and_never_less_than_the_smallest_number() {
        for x in sweep(-86.9, 0.0, 1 << 16) {
            let (Some(weight), Some(expected)) = (eight(exp_weight_8, x), eight(exp_8, x)) else { return };
            assert_eq!(weight, expected, "{x:?}");
        }
        let Some(edges) = eight(exp_weight_8, [f32::NEG_INFINITY, -1e30, -88.0, 0.0, -0.0, 0.0, 0.0, f32::NAN]) else { return };
        assert!(edges[..3].iter().all(|w| *w > 0.0 && *w < 2e-38) && edges[3..5] == [1.0, 1.0] && edges[7].is_nan(), "{edges:?}");
    }

    #[test]
    fn tanh_is_within_its_bound() {
        for x in sweep(-12.0, 12.0, 1 << 16) {
            let Some(y) = eight(tanh_8, x) else { return };
            for (x, y) in x.into_iter().zip(y) {
                assert!((f64::from(y) - f64::from(x).tanh()).abs() < 2e-7, "tanh({x}) = {y}");
            }
        }
    }
}
