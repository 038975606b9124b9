//! Activations for integer products: symmetric int8, rounded half to even. All sets must produce these bytes exactly.

use crate::kernels::activation::{Q8Row32Mut, Q8Row256Mut, block_scale, row_bytes};
use crate::kernels::contract::Activation;

/// Writes row `x` as `layout` into `out`; padding is zeroed.
///
/// # Panics
/// If `x` is not whole blocks, or `out` not as long as [`row_bytes`] says.
pub(crate) fn quantize(layout: Activation, x: &[f32], out: &mut [u8]) {
    assert_eq!(out.len(), row_bytes(layout, x.len()), "bytes of an activation row of {} columns", x.len());
    out.fill(0);
    match layout {
        Activation::F32 => out.as_chunks_mut().0.iter_mut().zip(x).for_each(|(out, x)| *out = x.to_ne_bytes()),
        Activation::Q8Block32 => blocks_of_32(x, Q8Row32Mut::new(out, x.len() / 32)),
        Activation::Q8Block256 => blocks_of_256(x, Q8Row256Mut::new(out, x.len() / 256)),
    }
}

/// Quantises one block and returns its scale.
fn quantize_block<const N: usize>(x: &[f32; N], quants: &mut [u8; N]) -> f32 {
    // Without its sign a float orders as its bits do, with NaN above infinity: one maximum finds everything unusual.
    let largest = x.iter().map(|x| x.abs().to_bits()).max().unwrap_or(0);
    let (scale, inverse) = block_scale(largest);
    for (q, x) in quants.iter_mut().zip(x) {
        // `as` turns NaN (from infinity times zero) into 0.
        *q = (x * inverse).round_ties_even() as i8 as u8;
    }
    scale
}

fn sum(quants: &[u8]) -> i16 {
    quants.iter().map(|&q| i16::from(q as i8)).sum()
}

fn blocks_of_32(x: &[f32], row: Q8Row32Mut<'_>) {
    for (b, x) in x.as_chunks::<32>().0.iter().enumerate() {
        let scale = quantize_block(x, &mut row.quants[b]);
        row.scales[b] = scale.to_ne_bytes();
        row.sums[b] = i32::from(sum(&row.quants[b])).to_ne_bytes();
    }
}

fn blocks_of_256(x: &[f32], row: Q8Row256Mut<'_>) {
    for (b, x) in x.as_chunks::<256>().0.iter().enumerate() {
        row.scales[b] = quantize_block(x, &mut row.quants[b]).to_ne_bytes();
        row.sums_16[b].iter_mut().zip(row.quants[b].as_chunks::<16>().0).for_each(|(to, quants)| *to = sum(quants).to_ne_bytes());
        row.sums_32[b].iter_mut().zip(row.quants[b].as_chunks::<32>().0).for_each(|(to, quants)| *to = sum(quants).to_ne_bytes());
    }
}
