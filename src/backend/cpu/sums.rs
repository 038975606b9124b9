//! Sums over a row in an order of their own: the same on every kernel set, and one that compilers can keep in vectors.

/// Parts of a sum.
const LANES: usize = 16;

/// The sum of `f` over `x`.
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += f(*x));
    }
    sums.iter_mut().zip(rest).for_each(|(sum, x)| *sum += f(*x));
    sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32
}

/// Cuts `x` at its mean plus `deviations` standard deviations: what is above stays above zero. Source: transformers, Gemma 3n.
pub(super) fn cut(x: &mut [f32], deviations: f32) {
    let n = x.len() as f32;
    let mean = sum(x, |x| x) / n;
    let deviation = (sum(x, |x| (x - mean) * (x - mean)) / n).sqrt();
    let cut = mean + deviations * deviation;
    x.iter_mut().for_each(|x| *x = (*x - cut).max(0.0));
}

/// The mean of the squares of `x`.
pub(super) fn mean_square(x: &[f32]) -> f32 {
    sum(x, |x| x * x) / x.len() as f32
}

/// The inner product of two rows of one length.
pub(super) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (x, y) in x.iter().zip(y) {
        sums.iter_mut().zip(x.iter().zip(y)).for_each(|(sum, (x, y))| *sum += x * y);
    }
    sums.iter_mut().zip(x_rest.iter().zip(y_rest)).for_each(|(sum, (x, y))| *sum += x * y);
    sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::naive::{noise, widen};

    #[test]
    fn sums_are_those_of_the_formulas() {
        for n in [1, 15, 16, 17, 100, 1000] {
            let (x, y) = (noise(n, 1), noise(n, 2));
            let (wide, other) = (widen(&x), widen(&y));
            let close =
                |got: f32, want: f64| assert!((f64::from(got) - want).abs() <= 1e-6 * (1.0 + want.abs()), "{n}: {got}, expected {want}");
            close(mean_square(&x), wide.iter().map(|x| x * x).sum::<f64>() / n as f64);
            close(dot(&x, &y), wide.iter().zip(&other).map(|(x, y)| x * y).sum());
        }
    }

    #[test]
    fn a_cut_row_keeps_what_is_far_above_its_mean() {
        for n in [5, 16, 33, 500] {
            let x = noise(n, 7);
            let wide = widen(&x);
            let mean = wide.iter().sum::<f64>() / n as f64;
            let deviation = (wide.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
            for deviations in [-0.5, 0.25, 1.5] {
                let mut got = x.clone();
                cut(&mut got, deviations);
                for (got, x) in got.iter().zip(&wide) {
                    let want = (x - (mean + f64::from(deviations) * deviation)).max(0.0);
                    assert!((f64::from(*got) - want).abs() < 1e-6, "{n}, {deviations}: {got}, expected {want}");
                }
            }
        }
    }
}
