//! Errors of whole tensors against those of llama.cpp, and blocks that are easy to get wrong.

use super::*;
use crate::kernels::{Kernels as _, Reference, WeightRows};

const ROWS: usize = 64;
const COLS: usize = 256;

/// Xorshift, as three of its numbers add up to a bell; rows of five scales, and weights that stand out: `(ROWS, COLS)`.
fn tensor() -> Vec<f32> {
    let mut state = 0x1234_5678_u32;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    let weight = |i: usize| {
        let bell = uniform() + uniform() + uniform();
        let scale = 0.5_f32.powi((i / COLS % 5) as i32) * if i.is_multiple_of(97) { 8.0 } else { 1.0 };
        bell * scale
    };
    (0..ROWS * COLS).map(weight).collect()
}

fn through(dtype: DType, x: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0; dtype.row_bytes(x.len()).unwrap()];
    encode(dtype, x, &mut bytes);
    let mut back = vec![0.0; x.len()];
    Reference.dequantize(WeightRows::stored(dtype, x.len(), &bytes), &mut back);
    back
}

/// `|x - through(x)| / |x|`
fn relative_error(dtype: DType, x: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let (error, norm) = through(dtype, x).iter().zip(x).fold((0.0, 0.0), |(e, n), (y, x)| (e + square(x - y), n + square(*x)));
    (error / norm).sqrt()
}

#[test]
fn errors_are_below_those_of_llama_cpp() {
    let x = tensor();
    assert_eq!((x[0], x[2]), (-4.841_254, 0.634_202_9), "the tensor that llama.cpp was given");
    // `ggml_quantize_chunk` of llama-cpp-python 0.3.36 on this tensor.
    for (dtype, theirs) in [
        (DType::Q4_0, 0.133_815),
        (DType::Q5_0, 0.067_655),
        (DType::Q8_0, 0.008_476_1),
        (DType::Q4_K, 0.087_813),
        (DType::Q5_K, 0.044_099),
        (DType::Q6_K, 0.025_427),
    ] {
        let ours = relative_error(dtype, &x);
        assert!(ours <= theirs, "{dtype:?}: {ours}, llama.cpp {theirs}");
    }
    assert!(relative_error(DType::F16, &x) < 3e-4);
}

#[test]
fn blocks_without_spread_are_kept() {
    for dtype in [DType::Q4_0, DType::Q5_0, DType::Q8_0, DType::Q4_K, DType::Q5_K, DType::Q6_K] {
        assert!(through(dtype, &[0.0; 256]).iter().all(|&x| x == 0.0), "{dtype:?}");
        for value in [0.3, -0.3, 0.1] {
            let error = relative_error(dtype, &[value; 256]);
            assert!(error < 1e-2, "{dtype:?}: {error} of {value}");
        }
    }
}

#[test]
fn what_is_not_finite_panics_nowhere_and_stays_in_its_block() {
    for dtype in [DType::F16, DType::Q4_0, DType::Q5_0, DType::Q8_0, DType::Q4_K, DType::Q5_K, DType::Q6_K] {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE / 2.0] {
            let mut x = tensor()[..512].to_vec();
            let expected = through(dtype, &x);
            x[300] = odd;
            assert_eq!(through(dtype, &x)[..256], expected[..256], "{dtype:?} {odd}");
        }
    }
}
