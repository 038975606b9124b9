//! Tiles: they hold what the rows held, and products with quantised ones are the reference's, bit for bit. Under Miri, which knows the
//! instructions of machines that are not at hand, with sizes that it can manage.

use super::{Random, bits, packed, product, product_of_rows, sets};
use crate::dtype::DType;
use crate::kernels::{Kernels, Reference, WeightRows, is_gathered};

/// Weight rows: some tiles of every set, and a part of one.
const N_ROWS: usize = if cfg!(miri) { 9 } else { 37 };

/// Columns that a type can have: one block, and some.
fn lengths(dtype: DType) -> Vec<usize> {
    let block = dtype.block_len();
    if cfg!(miri) {
        vec![2 * block.min(128)]
    } else if block == 1 {
        (1..=20).chain([33, 128]).collect()
    } else {
        vec![block, 2 * block, 5 * block]
    }
}

/// Numbers of activation rows: those that share a pass in some set, and so many that a matrix unit takes them, in whole tiles and not.
const BATCHES: &[usize] = if cfg!(miri) { &[1] } else { &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 32, 47] };

fn row(set: &dyn Kernels, dtype: DType, tiles: &[u8], i: usize, n: usize) -> Vec<f32> {
    let tile_bytes = set.tile_rows() * dtype.row_bytes(n).unwrap();
    let bytes = &tiles[i / set.tile_rows() * tile_bytes..][..tile_bytes];
    let mut out = vec![f32::NAN; n];
    set.dequantize(WeightRows { dtype, n_cols: n, tile_rows: set.tile_rows(), skip: i % set.tile_rows(), bytes }, &mut out);
    out
}

/// Every row can be read out of its tile, whatever its bits were.
#[test]
fn a_row_of_a_tile_is_the_row_of_the_file() {
    let mut random = Random(1);
    for dtype in DType::ALL {
        for n in lengths(dtype) {
            let weights = random.weights(dtype, N_ROWS, n, |r| r.float());
            for set in sets() {
                let tiles = packed(set, dtype, &weights, n);
                for (i, stored) in weights.chunks(weights.len() / N_ROWS).enumerate() {
                    let mut expected = vec![0.0; n];
                    Reference.dequantize(WeightRows::stored(dtype, n, stored), &mut expected);
                    assert_eq!(bits(&row(set, dtype, &tiles, i, n)), bits(&expected), "{} {} row {i}", set.name(), dtype.name());
                }
            }
        }
    }
}

/// Rows that fill up a tile are zeros.
#[test]
fn padding_is_zeros() {
    for dtype in DType::ALL {
        let n = 2 * dtype.block_len();
        let weights = Random(2).weights(dtype, 3, n, |r| r.float());
        for set in sets() {
            let tiles = packed(set, dtype, &weights, n);
            assert!((3..set.tile_rows()).all(|i| row(set, dtype, &tiles, i, n).iter().all(|x| *x == 0.0)), "{}", dtype.name());
        }
    }
}

/// Exact integer sums, and `f32` operations in the reference's order: not close, but equal.
#[test]
fn quantised_products_have_the_bits_of_the_reference() {
    let mut random = Random(3);
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.block_len() > 1) {
        // More columns than a panel has, too.
        let long = (!cfg!(miri)).then_some(1120_usize.next_multiple_of(dtype.block_len()));
        for n in lengths(dtype).into_iter().chain(long) {
            let weights = random.weights(dtype, N_ROWS, n, |r| 0.1 * r.float());
            for &n_rows in BATCHES {
                let x = random.floats(n_rows * n);
                let expected = product_of_rows(&Reference, dtype, &weights, &x, n);
                for set in sets() {
                    let out = product(set, dtype, &weights, &x, n);
                    assert_eq!(bits(&out), bits(&expected), "{} {} {n_rows} x {n}", set.name(), dtype.name());
                }
            }
        }
    }
}

/// Where a file is mapped, its rows are used as they lie there, and nobody shall see it in a result.
#[test]
fn rows_of_a_file_give_the_bits_of_tiles() {
    let mut random = Random(4);
    for dtype in DType::ALL.into_iter().filter(|dtype| is_gathered(*dtype)) {
        // Pieces of some, and parts of one.
        let long = if cfg!(miri) { vec![] } else { vec![544, 992, 2080] };
        for n in lengths(dtype).into_iter().chain(long) {
            let weights = random.weights(dtype, N_ROWS, n, |r| r.float());
            for n_rows in if cfg!(miri) { 1..=1 } else { 1..=13 } {
                let x = random.floats(n_rows * n);
                for set in sets() {
                    let (stored, tiled) = (product_of_rows(set, dtype, &weights, &x, n), product(set, dtype, &weights, &x, n));
                    assert_eq!(bits(&stored), bits(&tiled), "{} {} {n_rows} x {n}", set.name(), dtype.name());
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "a tile of")]
fn a_tile_of_another_size_is_refused() {
    let set = sets().next().unwrap();
    let rows = vec![0; 18 * set.tile_rows()];
    set.pack(DType::Q4_0, &rows, &mut vec![0; rows.len() + 1]);
}
