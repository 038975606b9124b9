//! Rotation, with the reference's bits. Plain loops: vectors of these instructions are what the compiler makes of any code here, and it
//! loads pairs apart by itself.

use crate::kernels::contract::RopeStyle;

/// See [`Kernels::rope`](crate::kernels::Kernels::rope).
pub(super) fn rope(style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let n_pairs = cos.len();
    assert!(sin.len() == n_pairs && 2 * n_pairs <= head.len(), "{n_pairs} angles for a head of {}", head.len());
    let (head, angles) = (&mut head[..2 * n_pairs], cos.iter().zip(sin));
    match style {
        RopeStyle::Interleaved => head.as_chunks_mut().0.iter_mut().zip(angles).for_each(|([a, b], angle)| turn(a, b, angle)),
        RopeStyle::Halves => {
            let (first, second) = head.split_at_mut(n_pairs);
            first.iter_mut().zip(second).zip(angles).for_each(|((a, b), angle)| turn(a, b, angle));
        }
    }
}

/// `(a cos - b sin, b cos + a sin)`
#[inline(always)]
fn turn(a: &mut f32, b: &mut f32, (cos, sin): (&f32, &f32)) {
    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
}
