//! Products with unquantised weights: `f32` accumulation, eight lanes in two chains.

use super::element::{Element, eights, widen_part};
use super::matmul::Dot;
use super::vector::{load_bytes, sum};
use crate::kernels::block::blocks;
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// Weights stored as plain elements.
pub(super) struct Floats<E>(PhantomData<E>);

impl<E: Element> Dot for Floats<E> {
    /// Even eights add to one chain, odd ones to another; two chains for each of four rows hide the latency of the addition.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<const M: usize>(weights: &[u8], x: [&[u8]; M]) -> [f32; M] {
        let (w, rest) = eights::<E>(weights);
        let x = x.map(|x| blocks::<[u8; 32]>(x)); // padded with zeros to whole eights
        let (pairs, single) = w.as_chunks::<2>();
        let x_pairs = x.map(|x| &x.as_chunks::<2>().0[..pairs.len()]);
        let mut chains = [[_mm256_setzero_ps(); 2]; M];
        for (i, pair) in pairs.iter().enumerate() {
            // SAFETY: this function has the same features.
            let w = unsafe { [E::widen(&pair[0]), E::widen(&pair[1])] };
            for m in 0..M {
                chains[m][0] = _mm256_fmadd_ps(w[0], widen_x(&x_pairs[m][i][0]), chains[m][0]);
                chains[m][1] = _mm256_fmadd_ps(w[1], widen_x(&x_pairs[m][i][1]), chains[m][1]);
            }
        }
        if let [last] = single {
            // SAFETY: this function has the same features.
            let w = unsafe { E::widen(last) };
            for m in 0..M {
                chains[m][0] = _mm256_fmadd_ps(w, widen_x(&x[m][2 * pairs.len()]), chains[m][0]);
            }
        }
        if !rest.is_empty() {
            let part = widen_part::<E>(rest);
            for m in 0..M {
                chains[m][1] = _mm256_fmadd_ps(part, widen_x(&x[m][w.len()]), chains[m][1]);
            }
        }
        let mut out = [0.0; M];
        for m in 0..M {
            out[m] = sum(_mm256_add_ps(chains[m][0], chains[m][1]));
        }
        out
    }
}

/// Eight activations.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn widen_x(eight: &[u8; 32]) -> __m256 {
    _mm256_castsi256_ps(load_bytes(eight))
}
