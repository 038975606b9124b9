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
        let mut whole = [&[][..]; R];
        for r in 0..R {
            whole[r] = &eights::<E>(weights[r]).0[..n_eights];
        }
        let mut x_whole = [&[][..]; M];
        for m in 0..M {
            x_whole[m] = &blocks::<[u8; 32]>(x[m])[..n_eights];
        }
        let mut acc = [[_mm256_setzero_ps(); M]; R];
        // Loops, not closures: those that return vectors are not inlined.
        for i in 0..n_eights {
            let mut w = [_mm256_setzero_ps(); R];
            for r in 0..R {
                // SAFETY: this function has the same features.
                w[r] = unsafe { E::widen(&whole[r][i]) };
            }
            for m in 0..M {
                let x = _mm256_castsi256_ps(load_bytes(&x_whole[m][i]));
                for r in 0..R {
                    acc[r][m] = _mm256_fmadd_ps(w[r], x, acc[r][m]);
                }
            }
        }
        if weights[0].len() > n_eights * size_of::<E::Eight>() {
            let mut w = [_mm256_setzero_ps(); R];
            for r in 0..R {
                w[r] = widen_part::<E>(eights::<E>(weights[r]).1);
            }
            add_products(&mut acc, w, x.map(|x| &blocks::<[u8; 32]>(x)[n_eights]));
        }
        let mut out = [[0.0; M]; R];
        for r in 0..R {
            for m in 0..M {
                out[r][m] = sum(acc[r][m]);
            }
        }
        out
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
