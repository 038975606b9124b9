//! Integer sums of a block for sets that multiply matrices of bytes: quads and activation rows come two by two. The integers are those of the
//! other way, which is the only thing that counts: all sums are exact.

use super::lanes::{Lanes, for_quads};
use super::quants::Quants;
use super::scales::Scales;
use crate::kernels::activation::{Q8Row32, Q8Row256};

/// True if `M` activation rows are multiplied so.
pub(super) const fn is_paired<V: Lanes<R>, const R: usize, const M: usize>() -> bool {
    V::MATRICES && M.is_multiple_of(2)
}

/// The sums of block `b` of 32 columns.
#[inline(always)]
pub(super) fn sums_32<V: Lanes<R>, Q: Quants<R>, const R: usize, const M: usize>(
    v: V,
    quants: &Q,
    x: &[Q8Row32<'_>; M],
    b: usize,
) -> [V::I; M] {
    let mut sums = [v.splat_int(0); M];
    for_quads!(J, {
        if J.is_multiple_of(2) {
            let w = v.matrix_pairs([quants.quad(v, J), quants.quad(v, J + 1)]);
            add_products(v, &mut sums, w, |m| two_quads(&x[m].quants[b], J));
        }
    });
    in_lanes(v, &mut sums);
    sums
}

/// `sum(scale * integer * x)` of block `b` of 256 columns. Bounds: as those of the other way.
#[inline(always)]
pub(super) fn sums_256<V: Lanes<R>, Q: Quants<R>, S: Scales<R>, const R: usize, const M: usize>(
    v: V,
    quants: &[Q; 8],
    scales: &S,
    x: &[Q8Row256<'_>; M],
    b: usize,
) -> [V::I; M] {
    let group_len = S::GROUP / 4;
    let (mut sums, mut runs) = ([v.splat_int(0); M], [v.splat_int(0); M]);
    for (s, quants) in quants.iter().enumerate() {
        for_quads!(J, {
            if J.is_multiple_of(2) {
                let w = v.matrix_pairs([quants.quad(v, J), quants.quad(v, J + 1)]);
                add_products(v, &mut runs, w, |m| two_quads(&x[m].quants[b][s], J));
            } else if (J + 1).is_multiple_of(group_len) {
                let group = (8 * s + J) / group_len;
                let scales = v.matrix_scales(v.scale(scales.scales(v, group / 4), group % 4));
                for m in 0..M {
                    sums[m] = v.add_scaled(sums[m], runs[m], scales[m % 2]);
                    runs[m] = v.splat_int(0);
                }
            }
        });
    }
    in_lanes(v, &mut sums);
    sums
}

/// Quads `j` and `j + 1` of 32 activations.
#[inline(always)]
fn two_quads(x: &[u8; 32], j: usize) -> [[u8; 4]; 2] {
    let quads = x.as_chunks().0;
    [quads[j], quads[j + 1]]
}

/// Adds the products of two quads of all rows with `x` of each two activation rows.
#[inline(always)]
fn add_products<V: Lanes<R>, const R: usize, const M: usize>(v: V, sums: &mut [V::I; M], w: [V::I; 2], x: impl Fn(usize) -> [[u8; 4]; 2]) {
    for m in (0..M - 1).step_by(2) {
        let two = v.matrix_dot([sums[m], sums[m + 1]], w, [x(m), x(m + 1)]);
        sums[m] = two[0];
        sums[m + 1] = two[1];
    }
}

/// Brings the sums of each two activation rows into the order of lanes.
#[inline(always)]
fn in_lanes<V: Lanes<R>, const R: usize, const M: usize>(v: V, sums: &mut [V::I; M]) {
    for m in (0..M - 1).step_by(2) {
        let two = v.matrix_rows([sums[m], sums[m + 1]]);
        sums[m] = two[0];
        sums[m + 1] = two[1];
    }
}
