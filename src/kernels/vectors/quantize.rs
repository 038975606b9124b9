//! Activations for integer products: the same bytes as the reference, 32 elements at a time.

use crate::kernels::activation::{Q8Row32Mut, Q8Row256Mut, block_scale, row_bytes, used_bytes};
use crate::kernels::contract::Activation;

/// What quantisation asks of a set's vectors.
pub(in crate::kernels) trait Rounding: Copy {
    /// The bits of the largest magnitude: floats without a sign order as integers, NaN above infinity.
    fn largest_magnitude(self, x: &[[f32; 32]]) -> u32;

    /// `round(x * inverse)`, half to even and at most 127, and the sums of both halves.
    fn round_32(self, x: &[f32; 32], inverse: f32, quants: &mut [u8; 32]) -> [i32; 2];
}

/// See [`Kernels::quantize`](crate::kernels::Kernels::quantize).
#[inline(always)]
pub(in crate::kernels) fn quantize<V: Rounding>(v: V, layout: Activation, x: &[f32], out: &mut [u8]) {
    assert_eq!(out.len(), row_bytes(layout, x.len()), "bytes of an activation row of {} columns", x.len());
    let (used, padding) = out.split_at_mut(used_bytes(layout, x.len()));
    padding.fill(0);
    match layout {
        Activation::F32 => used.as_chunks_mut().0.iter_mut().zip(x).for_each(|(out, x)| *out = x.to_ne_bytes()),
        Activation::Q8Block32 => blocks_of_32(v, x, Q8Row32Mut::new(used, x.len() / 32)),
        Activation::Q8Block256 => blocks_of_256(v, x, Q8Row256Mut::new(used, x.len() / 256)),
    }
}

#[inline(always)]
fn blocks_of_32<V: Rounding>(v: V, x: &[f32], row: Q8Row32Mut<'_>) {
    let planes = row.quants.iter_mut().zip(row.scales).zip(row.sums);
    for (x, ((quants, scale_out), sum_out)) in x.as_chunks::<32>().0.iter().zip(planes) {
        let (scale, inverse) = block_scale(v.largest_magnitude(std::slice::from_ref(x)));
        let sums = quantize_32(v, x, inverse, quants);
        *scale_out = scale.to_ne_bytes();
        *sum_out = (sums[0] + sums[1]).to_ne_bytes();
    }
}

#[inline(always)]
fn blocks_of_256<V: Rounding>(v: V, x: &[f32], row: Q8Row256Mut<'_>) {
    let planes = row.quants.iter_mut().zip(row.scales).zip(row.sums_16.iter_mut().zip(row.sums_32));
    for (x, ((quants, scale_out), (sums_16, sums_32))) in x.as_chunks::<256>().0.iter().zip(planes) {
        let x = x.as_chunks::<32>().0;
        let (scale, inverse) = block_scale(v.largest_magnitude(x));
        *scale_out = scale.to_ne_bytes();
        for (j, (x, quants)) in x.iter().zip(quants.as_chunks_mut().0).enumerate() {
            let sums = quantize_32(v, x, inverse, quants);
            sums_16[2 * j] = (sums[0] as i16).to_ne_bytes();
            sums_16[2 * j + 1] = (sums[1] as i16).to_ne_bytes();
            sums_32[j] = ((sums[0] + sums[1]) as i16).to_ne_bytes();
        }
    }
}

/// [`Rounding::round_32`], or zeros for a block without an inverse: nothing, or something not finite.
#[inline(always)]
fn quantize_32<V: Rounding>(v: V, x: &[f32; 32], inverse: f32, quants: &mut [u8; 32]) -> [i32; 2] {
    if inverse == 0.0 {
        *quants = [0; 32];
        return [0; 2];
    }
    v.round_32(x, inverse, quants)
}
