//! What norms, gates and attention ask of a set's vectors, beside what products do.

use crate::kernels::packed::Lanes;

/// Eight `f32` lanes. A value is the proof that the CPU has the instructions, so the methods are safe.
pub(in crate::kernels) trait Floats: Lanes<8> {
    /// `a + b`
    fn add(self, a: Self::F, b: Self::F) -> Self::F;

    /// `a - b`
    fn minus(self, a: Self::F, b: Self::F) -> Self::F;

    /// `a / b`
    fn div(self, a: Self::F, b: Self::F) -> Self::F;

    /// The smaller of each; a NaN in `b` stays.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;

    /// The larger of each; a NaN in `b` stays.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;

    /// The nearest whole number, half to even.
    fn round(self, x: Self::F) -> Self::F;

    /// `2^n` for whole numbers in -126..=127.
    fn power_of_2(self, n: Self::F) -> Self::F;

    /// The sum of the lanes: halves, then quarters, then the last two. Part of the order that bit-stability fixes.
    fn sum(self, x: Self::F) -> f32;

    /// The largest lane.
    fn largest(self, x: Self::F) -> f32;

    /// Eight signed bytes.
    fn bytes(self, x: &[u8; 8]) -> Self::F;

    /// Eight `f16`, rounded half to even.
    fn narrow(self, x: Self::F) -> [[u8; 2]; 8];
}

/// `x` in all lanes.
#[inline(always)]
pub(super) fn all<V: Floats>(v: V, x: f32) -> V::F {
    v.splat(x.to_ne_bytes())
}

/// Up to eight floats, zeros behind them.
#[inline(always)]
pub(super) fn load_part<V: Floats>(v: V, x: &[f32]) -> V::F {
    let mut eight = [0.0; 8];
    eight[..x.len()].copy_from_slice(x);
    v.load(&eight)
}

/// The first `out.len()` (up to eight) floats of `x`.
#[inline(always)]
pub(super) fn store_part<V: Floats>(v: V, out: &mut [f32], x: V::F) {
    let mut eight = [0.0; 8];
    v.store(x, &mut eight);
    out.copy_from_slice(&eight[..out.len()]);
}
