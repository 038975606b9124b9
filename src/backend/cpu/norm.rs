//! Norms on our kernels. Used by every stage that has one.

use super::Cpu;
use crate::backend::{Norm, NormKind};
use crate::error::Result;
use crate::kernels::Kernels;

impl Norm<Cpu> {
    /// That it normalises `n` elements.
    pub(super) fn check(&self, n: usize, stage: &str) -> Result<()> {
        self.weight.check(n, stage)?;
        self.bias.as_ref().map_or(Ok(()), |bias| bias.check(n, stage))
    }

    /// `out = norm(x)`, both as long as its weights.
    pub(super) fn apply(&self, kernels: &dyn Kernels, x: &[f32], out: &mut [f32]) {
        let weight = &self.weight.values;
        match self.kind {
            NormKind::Rms => kernels.rms_norm(x, weight, self.eps, out),
            NormKind::Layer => kernels.layer_norm(x, weight, self.bias.as_ref().map(|bias| &bias.values[..]), self.eps, out),
        }
    }
}
