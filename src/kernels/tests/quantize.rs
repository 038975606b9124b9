//! Activation rows: the same bytes from every set, errors of at most half a step, and no plausible numbers from what is not finite.

use super::{Random, product, sets};
use crate::dtype::DType;
use crate::kernels::{Activation, Kernels, Reference};

const LAYOUTS: [(Activation, usize); 3] = [(Activation::F32, 1), (Activation::Q8Block32, 32), (Activation::Q8Block256, 256)];

fn quantize(set: &dyn Kernels, layout: Activation, x: &[f32]) -> Vec<u8> {
    let mut out = vec![0xaa; set.activation_bytes(layout, x.len())]; // what is not written would show
    set.quantize(layout, x, &mut out);
    out
}

/// Blocks that are unusual as a whole.
fn special_values() -> Vec<f32> {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    vec![0.0, -0.0, 1.0, -1e-45, 1e-38, f32::MIN_POSITIVE, 3.7e-37, 1e30, f32::MAX, f32::MIN, inf, -inf, nan, -nan]
}

#[test]
fn every_set_makes_the_bytes_of_the_reference() {
    let mut random = Random(1);
    for (layout, block) in LAYOUTS {
        for n_blocks in 1..=9 {
            let scale = [1e-30, 1.0, 1e30][n_blocks % 3];
            let x: Vec<f32> = random.floats(n_blocks * block).iter().map(|x| x * scale).collect();
            for set in sets() {
                assert_eq!(quantize(set, layout, &x), quantize(&Reference, layout, &x), "{} {layout:?}", set.name());
            }
        }
    }
}

#[test]
fn ties_round_to_even() {
    let mut x: Vec<f32> = (0..256).map(|i| (i % 250) as f32 / 2.0).collect();
    x[0] = -127.0; // the scale is one
    for set in sets() {
        let quants = quantize(set, Activation::Q8Block256, &x);
        assert_eq!(quants[..8].iter().map(|q| *q as i8).collect::<Vec<_>>(), [-127, 0, 1, 2, 2, 2, 3, 4]);
        assert_eq!(quants, quantize(&Reference, Activation::Q8Block256, &x), "{}", set.name());
    }
}

#[test]
fn unusual_values_do_no_harm() {
    let mut random = Random(2);
    for (layout, block) in LAYOUTS {
        for special in special_values() {
            let mut x = random.floats(3 * block);
            x[block..2 * block].fill(special); // a whole block
            let last = x.len() - 1;
            x[last] = special; // one of a block
            for set in sets() {
                assert_eq!(quantize(set, layout, &x), quantize(&Reference, layout, &x), "{} {layout:?} {special}", set.name());
            }
        }
    }
}

#[test]
fn a_product_with_something_not_finite_is_not_a_number() {
    let mut random = Random(3);
    for dtype in DType::ALL {
        let weights = random.weights(dtype, 1, 512, |r| r.float());
        for special in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut x = random.floats(512);
            x[300] = special;
            for set in sets() {
                let out = product(set, dtype, &weights, &x, 512)[0];
                assert!(!out.is_finite(), "{} {} {special}: {out}", set.name(), dtype.name());
            }
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for set in sets() {
        for (layout, _) in LAYOUTS {
            assert!(quantize(set, layout, &[0.0; 512]).iter().all(|b| *b == 0), "{} {layout:?}", set.name());
        }
    }
}

#[test]
fn rows_are_whole_cache_lines() {
    for set in sets() {
        for (layout, block) in LAYOUTS {
            assert!((0..70).all(|n| set.activation_bytes(layout, n * block).is_multiple_of(64)), "{}", set.name());
        }
    }
}
