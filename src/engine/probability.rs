//! The probability of a token among all logits. Used by sessions, which tell it with every token they choose.

use crate::text::Token;

/// Sums side by side, so that a compiler makes vectors of them: a vocabulary is read once per token.
const LANES: usize = 16;

/// `ln` of the sum of `exp(logits)`: what is taken from a logit to make a log probability of it.
pub(super) fn log_sum(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (rows, rest) = logits.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for row in rows {
        sums = std::array::from_fn(|lane| sums[lane] + exp_below_zero(row[lane] - max));
    }
    max + rest.iter().map(|logit| exp_below_zero(logit - max)).chain(sums).sum::<f32>().ln()
}

/// `ln(softmax(logits)[token])`; a NaN counts as `-inf`.
pub(super) fn log_probability(logits: &[f32], token: Token) -> f32 {
    logits.get(token as usize).map_or(0.0, |logit| logit - log_sum(logits))
}

/// Adding it to a number below 2^22 leaves the nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23

/// `2^f = 1 + f * c(f)` on `|f| <= 1/2`: the Taylor coefficients `ln(2)^n / n!`, lowest first; relative error 2e-7.
const C: [f32; 6] = [std::f32::consts::LN_2, 0.240_226_5, 0.055_504_11, 0.009_618_129, 0.001_333_356, 0.000_154_035_3];

/// `e^x` for `x <= 0`; 0 below -87 and for NaN. Without branches or calls, so that it can be done for several at once. Off by 3e-7 at most,
/// and by 1e-5 of its value: the product with `log2(e)` is rounded.
fn exp_below_zero(x: f32) -> f32 {
    let t = x.max(-87.0) * std::f32::consts::LOG2_E; // `max` turns NaN into -87
    let rounded = t + ROUND;
    let f = t - (rounded - ROUND);
    let c = C[4] + f * C[5];
    let fraction = 1.0 + f * (C[0] + f * (C[1] + f * (C[2] + f * (C[3] + f * c))));
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if x > -87.0 { fraction * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_close() {
        for x in (0..87_000).map(|i| -i as f32 / 1000.0) {
            let (got, exact) = (f64::from(exp_below_zero(x)), f64::from(x).exp());
            assert!((got - exact).abs() <= (1e-5 * exact).min(3e-7), "exp({x}) = {got}, not {exact}");
        }
        assert_eq!([0.0, -88.0, f32::NEG_INFINITY, f32::NAN].map(exp_below_zero), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn probabilities_sum_to_one_and_ignore_what_is_no_number() {
        let mut logits: Vec<f32> = (0..1003).map(|i| (i * 37 % 101) as f32 / 9.0 - 4.0).collect();
        logits[5] = f32::NAN;
        logits[40] = f32::NEG_INFINITY;
        let total: f64 = (0..1003).filter(|i| *i != 5).map(|i| f64::from(log_probability(&logits, i)).exp()).sum();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
    }
}
