//! Weights from `f32` into the storage types of files: quantisation at load. Not a hot path of a decoder, so one portable implementation serves
//! every kernel set, and a model quantised on one machine has the same bits on every other.
//!
//! Each block is fitted by least squares: integers by rounding, scales that minimise the squared error for those integers, from several starts.

mod blocks_256;
mod blocks_32;
mod fit;
#[cfg(test)]
mod tests;

use super::block::{Block, BlockQ4_0, BlockQ4K, BlockQ5K, BlockQ6K, BlockQ8_0, F16Bytes, blocks_mut};
use crate::dtype::DType;
use half::f16;

/// A block that `N` weights become.
trait Encode<const N: usize>: Block {
    /// The block whose weights are closest to `x`.
    fn encode(x: &[f32; N]) -> Self;
}

/// True if [`encode`] can make rows of `dtype`.
pub const fn can_encode(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::Q4_0 | DType::Q8_0 | DType::Q4_K | DType::Q5_K | DType::Q6_K)
}

/// Writes `x` as `dtype` into `out`. What is not finite stays so, and takes its block along.
///
/// # Panics
/// If `out` is not `dtype.row_bytes(x.len())` long, or [`can_encode`] says no.
pub fn encode(dtype: DType, x: &[f32], out: &mut [u8]) {
    assert_eq!(dtype.row_bytes(x.len()), Some(out.len()), "bytes of a row of {} {}", x.len(), dtype.name());
    match dtype {
        DType::F16 => blocks_mut::<[u8; 2]>(out).iter_mut().zip(x).for_each(|(to, x)| *to = f16::from_f32(*x).to_le_bytes()),
        DType::Q4_0 => all::<BlockQ4_0, 32>(x, out),
        DType::Q8_0 => all::<BlockQ8_0, 32>(x, out),
        DType::Q4_K => all::<BlockQ4K, 256>(x, out),
        DType::Q5_K => all::<BlockQ5K, 256>(x, out),
        DType::Q6_K => all::<BlockQ6K, 256>(x, out),
        other => panic!("{} cannot be written", other.name()),
    }
}

fn all<B: Encode<N>, const N: usize>(x: &[f32], out: &mut [u8]) {
    blocks_mut::<B>(out).iter_mut().zip(x.as_chunks().0).for_each(|(block, x)| *block = B::encode(x));
}

/// `x` as a file holds it, and what it has become.
fn to_f16(x: f32) -> (F16Bytes, f32) {
    let bytes = F16Bytes(f16::from_f32(x).to_le_bytes());
    (bytes, bytes.to_f32())
}
