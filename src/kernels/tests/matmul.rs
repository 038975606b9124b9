//! Matrix products: exact integers, closeness to the reference and to mathematics, bit-stability, refusal of wrong shapes.

use super::{Random, bits, packed, product, product_of_rows, quantized, sets};
use crate::dtype::DType;
use crate::kernels::{Activation, ActivationRows, Kernels, Reference, WeightRows};
use crate::sys::columns::ColumnsMut;

/// Row lengths that a type can have: odd and even numbers of blocks, and every tail for types without blocks.
fn lengths(dtype: DType) -> Vec<usize> {
    match dtype.block_len() {
        1 => (1..=70).chain([127, 256, 515]).collect(),
        32 => (1..=9).chain([33]).map(|n| 32 * n).collect(),
        _ => (1..=5).map(|n| 256 * n).collect(),
    }
}

/// One of the two layouts.
type Product = fn(&dyn Kernels, DType, &[u8], &[f32], usize) -> Vec<f32>;

fn is_quantized(dtype: DType) -> bool {
    dtype.block_len() > 1
}

/// `(sum |w x|, sum w x)` in f64, from dequantised weights.
fn exact(dtype: DType, weights: &[u8], x: &[f32]) -> (f64, f64) {
    let mut w = vec![0.0; x.len()];
    Reference.dequantize(WeightRows::stored(dtype, x.len(), weights), &mut w);
    let terms = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
    (terms.clone().map(f64::abs).sum(), terms.sum())
}

/// With scales of one and whole activations every partial sum is a whole number that an f32 holds, so the order of additions does not
/// matter and any wrong integer shows.
#[test]
fn integer_sums_are_exact() {
    let mut random = Random(1);
    for dtype in DType::ALL.into_iter().filter(|d| is_quantized(*d)) {
        for n in lengths(dtype) {
            let weights = random.weights(dtype, 3, n, |_| 1.0);
            let mut x: Vec<f32> = (0..5 * n).map(|_| random.below(255) as f32 - 127.0).collect();
            x.iter_mut().step_by(32).for_each(|x| *x = 127.0); // the scale of every block is one
            let expected = product_of_rows(&Reference, dtype, &weights, &x, n);
            assert!(expected.iter().all(|x| x.abs() < (1 << 23) as f32 && x.fract() == 0.0));
            for set in sets() {
                let out = product(set, dtype, &weights, &x, n);
                assert_eq!(bits(&out), bits(&expected), "{} {} n = {n}", set.name(), dtype.name());
            }
        }
    }
}

/// The extremes of every field at once: the largest integers that the narrow intermediate types must hold.
#[test]
fn extreme_integers_do_not_overflow() {
    for dtype in DType::ALL.into_iter().filter(|d| is_quantized(*d)) {
        let n = dtype.block_len();
        for fill in [0x00, 0x7f, 0x80, 0xff] {
            let mut weights = vec![fill; dtype.row_bytes(n).unwrap()];
            super::set_scales(dtype, &mut weights, || 1.0);
            for sign in [1.0, -1.0] {
                let x = vec![127.0 * sign; n];
                let (magnitude, expected) = exact(dtype, &weights, &x);
                for set in sets() {
                    let out = f64::from(product(set, dtype, &weights, &x, n)[0]);
                    assert!((out - expected).abs() <= 1e-6 * magnitude, "{} {} {fill:x}: {out}, not {expected}", set.name(), dtype.name());
                }
            }
        }
    }
}

#[test]
fn sets_agree_with_the_reference() {
    let mut random = Random(2);
    for dtype in DType::ALL {
        for n in lengths(dtype) {
            let weights = random.weights(dtype, 3, n, |r| 0.1 * r.float());
            let x = random.floats(5 * n);
            let expected = product_of_rows(&Reference, dtype, &weights, &x, n);
            for (set, product) in sets().flat_map(|set| [(set, product as Product), (set, product_of_rows)]) {
                let out = product(set, dtype, &weights, &x, n);
                for (i, (out, expected)) in out.iter().zip(&expected).enumerate() {
                    let row_bytes = weights.len() / 3;
                    let (magnitude, _) = exact(dtype, &weights[i % 3 * row_bytes..][..row_bytes], &x[i / 3 * n..][..n]);
                    let error = f64::from(out - expected).abs();
                    assert!(error <= 1e-6 * magnitude, "{} {} n = {n}: {out}, not {expected}", set.name(), dtype.name());
                }
            }
        }
    }
}

/// A quantised activation is off by at most half a step, so a product by at most that times the weights.
#[test]
fn products_are_right_within_quantisation_noise() {
    let mut random = Random(3);
    for dtype in DType::ALL {
        let (n, group) = (1024, if dtype.block_len() == 1 { 1 } else { dtype.block_len() });
        let weights = random.weights(dtype, 1, n, |r| 0.1 * r.float());
        let x = random.floats(n);
        let mut w = vec![0.0; n];
        Reference.dequantize(WeightRows::stored(dtype, n, &weights), &mut w);
        let (magnitude, expected) = exact(dtype, &weights, &x);
        let noise: f64 =
            x.chunks(group).zip(w.chunks(group)).map(|(x, w)| half_a_step(x) * w.iter().map(|w| f64::from(w.abs())).sum::<f64>()).sum();
        let bound = 1e-6 * magnitude + if is_quantized(dtype) { noise } else { 0.0 };
        for set in sets() {
            let out = f64::from(product(set, dtype, &weights, &x, n)[0]);
            assert!((out - expected).abs() <= bound, "{} {}: {out}, not {expected} +- {bound}", set.name(), dtype.name());
        }
    }
}

fn half_a_step(x: &[f32]) -> f64 {
    f64::from(x.iter().fold(0.0_f32, |max, x| max.max(x.abs()))) / 127.0 / 2.0 * 1.000_001
}

/// Weight rows of the tests of stability: some tiles of every set, and a part of one.
const N_ROWS: usize = 77;

/// A row's result is the same alone and in any batch, and the same when the outputs are split among threads.
#[test]
fn bits_do_not_depend_on_the_batch_or_the_split() {
    let mut random = Random(4);
    for dtype in DType::ALL {
        let n = if is_quantized(dtype) { 3 * dtype.block_len() } else { 77 };
        let weights = random.weights(dtype, N_ROWS, n, |r| 0.1 * r.float());
        let x = random.floats(64 * n);
        for set in sets() {
            for product in [product, product_of_rows] {
                let alone: Vec<f32> = x.chunks(n).flat_map(|x| product(set, dtype, &weights, x, n)).collect();
                for m in (1..=20).chain([31, 63, 64]) {
                    let together = product(set, dtype, &weights, &x[..m * n], n);
                    assert_eq!(bits(&together), bits(&alone[..m * N_ROWS]), "{} {} M = {m}", set.name(), dtype.name());
                }
            }
            let whole = product(set, dtype, &weights, &x, n);
            assert_eq!(bits(&in_parts(set, dtype, &weights, &x, n)), bits(&whole), "{} {}", set.name(), dtype.name());
        }
    }
}

/// The product by packed weights as products by parts of them that do not begin where tiles do.
fn in_parts(set: &dyn Kernels, dtype: DType, weights: &[u8], x: &[f32], n_cols: usize) -> Vec<f32> {
    let (tiles, tile_rows) = (packed(set, dtype, weights, n_cols), set.tile_rows());
    let tile_bytes = tile_rows * dtype.row_bytes(n_cols).unwrap();
    let activations = quantized(set, dtype, x, n_cols);
    let rows = ActivationRows { bytes: &activations, n_rows: x.len() / n_cols };
    let mut out = vec![f32::NAN; rows.n_rows * N_ROWS];
    let whole = ColumnsMut::new(&mut out, N_ROWS);
    for part in [0..2, 2..6, 6..7, 7..31, 31..48, 48..72, 72..77] {
        let bytes = &tiles[part.start / tile_rows * tile_bytes..part.end.div_ceil(tile_rows) * tile_bytes];
        let skip = part.start % tile_rows;
        // SAFETY: the parts are disjoint, and the whole is not used beside them.
        let mut columns = unsafe { whole.split(part) };
        set.matmul(WeightRows { dtype, n_cols, tile_rows, skip, bytes }, rows, &mut columns);
    }
    out
}

/// Enough activation rows to fill the cache several times over: the groups in which they pass must not show either.
#[test]
fn a_large_batch_is_its_rows() {
    let mut random = Random(5);
    let (dtype, n) = (DType::Q4_K, 2048);
    let weights = random.weights(dtype, 2, n, |r| 0.1 * r.float());
    let x = random.floats(131 * n);
    for set in sets() {
        let alone: Vec<f32> = x.chunks(n).flat_map(|x| product(set, dtype, &weights, x, n)).collect();
        assert_eq!(bits(&product(set, dtype, &weights, &x, n)), bits(&alone), "{}", set.name());
    }
}

#[test]
fn empty_rows_give_zeros() {
    for set in sets() {
        for dtype in DType::ALL {
            let mut out = [f32::NAN; 2];
            let bytes = vec![0; set.activation_bytes(Activation::of(dtype), 0)];
            let rows = ActivationRows { bytes: &bytes, n_rows: 1 };
            set.matmul(WeightRows::stored(dtype, 0, &[]), rows, &mut ColumnsMut::new(&mut out, 2));
            assert_eq!(out, [0.0; 2]);
        }
    }
}

/// Calls `matmul` with one length wrong by `-1, 0, 1` and reports whether it panicked.
fn panics(set: &'static dyn Kernels, weight_bytes: isize, activation_bytes: isize, n_rows: isize) -> bool {
    let dtype = DType::Q4_0;
    let length = |right: usize, by: isize| right.checked_add_signed(by).unwrap();
    let weights = vec![0; length(3 * 18 * 2, weight_bytes)];
    let activations = vec![0; length(2 * set.activation_bytes(Activation::of(dtype), 64), activation_bytes)];
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut out = [0.0; 6];
        let rows = ActivationRows { bytes: &activations, n_rows: length(2, n_rows) };
        set.matmul(WeightRows::stored(dtype, 64, &weights), rows, &mut ColumnsMut::new(&mut out, 3));
    }));
    result.is_err()
}

#[test]
fn wrong_lengths_are_refused() {
    for set in sets() {
        assert!(!panics(set, 0, 0, 0));
        for by in [-1, 1] {
            assert!(panics(set, by, 0, 0) && panics(set, 0, by, 0) && panics(set, 0, 0, by), "{}", set.name());
        }
    }
}
