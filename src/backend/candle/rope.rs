//! The rotary embedding on candle tensors. Used by `begin` (the angles of a pass) and `rope_append` (the rotation).

use crate::backend::Rope;
use crate::kernels::RopeStyle;
use candle_core::{D, DType, Device, Tensor};

/// Cosine and sine of every position of a pass, times the rope's magnitude.
pub(super) struct Angles {
    /// `(rows, n_rot / 2)`
    cos: Tensor,
    /// `(rows, n_rot / 2)`
    sin: Tensor,
    style: RopeStyle,
}

impl Angles {
    /// The angles of `positions` (`(rows,)`): `position * inv_freq[i]` in `f32`, as transformers computes them.
    /// `None` if nothing rotates.
    pub(super) fn new(positions: &[u32], rope: &Rope, device: &Device) -> candle_core::Result<Option<Self>> {
        if rope.inv_freq.is_empty() {
            return Ok(None);
        }
        let positions = Tensor::new(positions, device)?.to_dtype(DType::F32)?.unsqueeze(1)?; // (rows, 1)
        let inv_freq = Tensor::new(rope.inv_freq.as_slice(), device)?.unsqueeze(0)?; // (1, n_rot / 2)
        let angles = positions.broadcast_mul(&inv_freq)?; // (rows, n_rot / 2)
        let magnitude = f64::from(rope.magnitude);
        Ok(Some(Self { cos: (angles.cos()? * magnitude)?, sin: (angles.sin()? * magnitude)?, style: rope.style }))
    }

    /// For `n_rows` keys that move to positions `n_positions` earlier. A pure rotation: the model's magnitude is in the keys already.
    pub(super) fn back(n_positions: usize, rope: &Rope, n_rows: usize, device: &Device) -> candle_core::Result<Option<Self>> {
        let n_pairs = rope.inv_freq.len();
        if n_pairs == 0 {
            return Ok(None);
        }
        // In f64: at a few thousand positions an f32 angle is off by more than a stored key's rounding.
        let angles = rope.inv_freq.iter().map(|inv_freq| -(n_positions as f64) * f64::from(*inv_freq));
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(|angle| (angle.sin() as f32, angle.cos() as f32)).unzip();
        let every_row = |row: Vec<f32>| Tensor::from_vec(row, (1, n_pairs), device)?.broadcast_as((n_rows, n_pairs))?.contiguous();
        Ok(Some(Self { cos: every_row(cos)?, sin: every_row(sin)?, style: rope.style }))
    }

    /// Rotates the first `n_rot` elements of every head of `x` (`(rows, n_heads, head_dim)`) and leaves the rest as it is.
    pub(super) fn rotate(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let n_rot = 2 * self.cos.dim(1)?;
        let n_rest = x.dim(2)?.saturating_sub(n_rot);
        let rotated = self.rotate_all(&x.narrow(2, 0, n_rot)?)?;
        if n_rest == 0 {
            return Ok(rotated);
        }
        Tensor::cat(&[&rotated, &x.narrow(2, n_rot, n_rest)?], 2)
    }

    /// `(a, b) -> (a cos - b sin, a sin + b cos)` for all pairs of `x` (`(rows, n_heads, n_rot)`). Source: RoFormer, arXiv 2104.09864, eq. 34.
    fn rotate_all(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (rows, n_heads, n_rot) = x.dims3()?;
        let (cos, sin) = (self.cos.unsqueeze(1)?, self.sin.unsqueeze(1)?); // (rows, 1, n_rot / 2)
        let (a, b) = match self.style {
            RopeStyle::Halves => (x.narrow(2, 0, n_rot / 2)?, x.narrow(2, n_rot / 2, n_rot / 2)?),
            RopeStyle::Interleaved => {
                let pairs = x.reshape((rows, n_heads, n_rot / 2, 2))?;
                (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?)
            }
        }; // (rows, n_heads, n_rot / 2)
        let turned_a = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let turned_b = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
        match self.style {
            RopeStyle::Halves => Tensor::cat(&[turned_a, turned_b], 2),
            RopeStyle::Interleaved => Tensor::stack(&[turned_a, turned_b], D::Minus1)?.reshape(x.shape()),
        }
    }
}
