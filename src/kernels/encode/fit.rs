//! Least squares for one group of weights that share a scale. Everything is in sums over the group, which compilers vectorise.

/// Adding and subtracting it rounds to a whole number, ties to even, where `|x| < 2^22`: two additions on every machine.
const ROUNDER: f32 = 12_582_912.0;

/// A difference of errors that is rounding, as a part of the sum of squares: the first start is then as good, and it hits the largest weight.
const NOISE: f32 = 1e-6;

/// `x` rounded and cut to `low..=high`. Comparisons, not `clamp`, so that NaN becomes `low`.
#[inline(always)]
pub(super) fn rounded(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    let x = if x < high { x } else { high };
    (x + ROUNDER) - ROUNDER
}

/// `1 / x`, or 0 where that is no number.
pub(super) fn inverse(x: f32) -> f32 {
    let inverse = 1.0 / x;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The sums over a group that a fit needs.
#[derive(Clone, Copy, Default)]
struct Sums {
    q: f32,
    qq: f32,
    xq: f32,
}

impl Sums {
    /// Of `q = round((x + min) * inverse)`, cut to `low..=high`.
    #[inline(always)]
    fn of<const N: usize>(x: &[f32; N], min: f32, inverse: f32, low: f32, high: f32) -> Self {
        // Four sums of each: independent chains, in the order of vector lanes.
        let (mut q_sum, mut qq_sum, mut xq_sum) = ([0.0; 4], [0.0; 4], [0.0; 4]);
        for four in x.as_chunks::<4>().0 {
            for i in 0..4 {
                let q = rounded((four[i] + min) * inverse, low, high);
                q_sum[i] += q;
                qq_sum[i] += q * q;
                xq_sum[i] += four[i] * q;
            }
        }
        Self { q: q_sum.iter().sum(), qq: qq_sum.iter().sum(), xq: xq_sum.iter().sum() }
    }
}

/// Sum of `x` and of its squares.
fn sums_of_x<const N: usize>(x: &[f32; N]) -> (f32, f32) {
    let (mut sum, mut squares) = ([0.0; 4], [0.0; 4]);
    for four in x.as_chunks::<4>().0 {
        for i in 0..4 {
            sum[i] += four[i];
            squares[i] += four[i] * four[i];
        }
    }
    (sum.iter().sum(), squares.iter().sum())
}

/// The scale of `x ~ scale * q`, `q` in `low..=-low - 1`. The scale may be negative: there is one more negative integer.
pub(super) fn fit_scale<const N: usize>(x: &[f32; N], low: f32, starts: &[f32]) -> f32 {
    let extreme = x.iter().fold(0.0_f32, |extreme, &x| if x.abs() > extreme.abs() { x } else { extreme });
    let (_, squares) = sums_of_x(x);
    let (mut best, mut least) = (0.0, squares);
    for start in starts {
        let sums = Sums::of(x, 0.0, inverse(extreme / (low * start)), low, -low - 1.0);
        let scale = sums.xq * inverse(sums.qq);
        let error = squares - scale * sums.xq;
        if error < least - NOISE * squares {
            (best, least) = (scale, error);
        }
    }
    best
}

/// Scale and minimum of `x ~ scale * q - min`, `q` in `0..=high`, `min` not negative.
pub(super) fn fit_affine<const N: usize>(x: &[f32; N], high: f32, starts: &[f32]) -> (f32, f32) {
    let lowest = x.iter().fold(0.0_f32, |low, &x| if x < low { x } else { low });
    let highest = x.iter().fold(lowest, |high, &x| if x > high { x } else { high });
    let (sum, squares) = sums_of_x(x);
    let (mut best, mut least) = ((0.0, -lowest), f32::INFINITY);
    for start in starts {
        let sums = Sums::of(x, -lowest, (high * start) * inverse(highest - lowest), 0.0, high);
        let (scale, min) = solve(N as f32, sum, sums);
        let error = squared_error(N as f32, sum, squares, sums, scale, min);
        if error < least && scale > 0.0 {
            (best, least) = ((scale, min), error);
        }
    }
    best
}

/// The scale and the minimum that are best for given integers; a minimum below 0 cannot be stored.
#[inline(always)]
fn solve(n: f32, sum: f32, sums: Sums) -> (f32, f32) {
    let scale = (n * sums.xq - sum * sums.q) * inverse(n * sums.qq - sums.q * sums.q);
    let min = (scale * sums.q - sum) / n;
    if min < 0.0 { (sums.xq * inverse(sums.qq), 0.0) } else { (scale, min) }
}

/// `sum((x - scale * q + min)^2)`
#[inline(always)]
fn squared_error(n: f32, sum: f32, squares: f32, sums: Sums, scale: f32, min: f32) -> f32 {
    squares + scale * (scale * sums.qq - 2.0 * sums.xq - 2.0 * min * sums.q) + min * (n * min + 2.0 * sum)
}

/// The stored scale and minimum near `scale` and `min`, in units of `unit` and `min_unit` (both up to `most`), that are best together.
pub(super) fn nearest_stored<const N: usize>(x: &[f32; N], high: f32, (scale, min): (f32, f32), units: (f32, f32), most: f32) -> (u8, u8) {
    let (sum, squares) = sums_of_x(x);
    let (by_unit, by_min_unit) = (inverse(units.0), inverse(units.1));
    let near = rounded(scale * by_unit, 0.0, most);
    let (mut best, mut least) = ((near, rounded(min * by_min_unit, 0.0, most)), f32::INFINITY);
    for step in [0.0, -1.0, 1.0] {
        let stored = rounded(near + step, 0.0, most);
        let scale = stored * units.0;
        // Where the scale is rounded, the minimum follows: the mean of what remains.
        let sums = Sums::of(x, min, inverse(scale), 0.0, high);
        let stored_min = rounded((scale * sums.q - sum) / N as f32 * by_min_unit, 0.0, most);
        let min = stored_min * units.1;
        let sums = Sums::of(x, min, inverse(scale), 0.0, high);
        let error = squared_error(N as f32, sum, squares, sums, scale, min);
        if error < least {
            (best, least) = ((stored, stored_min), error);
        }
    }
    (best.0 as u8, best.1 as u8)
}
