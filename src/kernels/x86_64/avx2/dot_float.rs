//! Products with unquantised weights: `f32` accumulation in eight lanes.

use super::element::{Element, eights, widen_part};
use super::matmul::Dot;
use super::vector::{load_bytes, sum};
use crate::kernels::block::blocks;
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// Weights stored as plain elements.
pub(super) struct Floats<E>(PhantomData<E>);

impl<E: Element> Dot for Floats<E> {
    /// Each output is one chain of fused multiply-adds: `R * M` chains run beside each other.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<const R: usize, const M: usize>(weights: [&[u8]; R], x: [&[u8]; M]) -> [[f32; M]; R] {
        let n_eights = weights[0].len() / size_of::<E::Eight>();
        let w = weights.map(|w| &eights::<E>(w).0[..n_eights]);
        let x = x.map(blocks::<[u8; 32]>); // padded with zeros to whole eights
        let x_whole = x.map(|x| &x[..n_eights]);
        let mut acc = [[_mm256_setzero_ps(); M]; R];
        for i in 0..n_eights {
            // SAFETY: this function has the same features.
            let w = w.map(|w| unsafe { E::widen(&w[i]) });
            add_products(&mut acc, w, x_whole.map(|x| &x[i]));
        }
        if weights[0].len() > n_eights * size_of::<E::Eight>() {
            let w = weights.map(|w| widen_part::<E>(eights::<E>(w).1));
            add_products(&mut acc, w, x.map(|x| &x[n_eights]));
        }
        acc.map(|acc| acc.map(|acc| sum(acc)))
    }
}

/// Adds the products of eight elements of each weight row and each activation row.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_products<const R: usize, const M: usize>(acc: &mut [[__m256; M]; R], w: [__m256; R], x: [&[u8; 32]; M]) {
    for m in 0..M {
        let x = _mm256_castsi256_ps(load_bytes(x[m]));
        for r in 0..R {
            acc[r][m] = _mm256_fmadd_ps(w[r], x, acc[r][m]);
        }
    }
}
