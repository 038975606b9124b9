//! Norm, gates, rotation, addition, storage, dequantisation: every length up to 70, against the reference.

use super::{Random, bits, sets};
use crate::dtype::DType;
use crate::kernels::{GateFn, Kernels, KvType, Reference, RopeStyle, TILE_TOKENS, WeightRows};

/// Every tail of every vector width, and something long.
fn lengths() -> impl Iterator<Item = usize> {
    (1..=70).chain([255, 4096])
}

fn assert_close(out: &[f32], expected: &[f32], bound: f32, what: &str) {
    for (i, (out, expected)) in out.iter().zip(expected).enumerate() {
        assert!((out - expected).abs() <= bound * expected.abs() + f32::MIN_POSITIVE, "{what} [{i}]: {out}, not {expected}");
    }
}

#[test]
fn rms_norm_agrees_with_the_reference() {
    let mut random = Random(1);
    for n in lengths() {
        let (x, weight) = (random.floats(n), random.floats(n));
        let (mut out, mut expected) = (vec![f32::NAN; n], vec![f32::NAN; n]);
        Reference.rms_norm(&x, &weight, 1e-6, &mut expected);
        for set in sets() {
            set.rms_norm(&x, &weight, 1e-6, &mut out);
            assert_close(&out, &expected, 1e-6, set.name());
        }
    }
}

#[test]
fn layer_norm_agrees_with_the_reference() {
    let mut random = Random(7);
    for n in lengths() {
        let (mut x, weight, bias) = (random.floats(n), random.floats(n), random.floats(n));
        x.iter_mut().for_each(|x| *x += 3.0);
        for bias in [None, Some(bias.as_slice())] {
            let (mut out, mut expected) = (vec![f32::NAN; n], vec![f32::NAN; n]);
            Reference.layer_norm(&x, &weight, bias, 1e-5, &mut expected);
            for set in sets() {
                set.layer_norm(&x, &weight, bias, 1e-5, &mut out);
                for (i, (out, expected)) in out.iter().zip(&expected).enumerate() {
                    // The mean is off by some ULPs of 3, and that times 1 / sqrt(eps) where nothing varies.
                    let bound = if n < 8 { 3e-4 } else { 5e-6 };
                    assert!((out - expected).abs() <= bound, "{} {n} [{i}]: {out}, not {expected}", set.name());
                }
            }
        }
    }
}

#[test]
fn layer_norm_of_equal_values_is_the_bias() {
    for set in sets() {
        let (mut out, bias) = ([f32::NAN; 33], [0.25; 33]);
        set.layer_norm(&[2.0; 33], &[3.0; 33], Some(&bias), 1e-5, &mut out);
        assert_eq!(out, bias, "{}", set.name());
    }
}

#[test]
fn rms_norm_of_zeros_is_zeros() {
    for set in sets() {
        let mut out = [f32::NAN; 33];
        set.rms_norm(&[0.0; 33], &[2.0; 33], 1e-6, &mut out);
        assert_eq!(out, [0.0; 33]);
    }
}

#[test]
fn gates_agree_with_the_reference() {
    let mut random = Random(2);
    for f in [GateFn::Silu, GateFn::GeluTanh, GateFn::GeluErf, GateFn::Relu2] {
        for n in lengths() {
            let gate: Vec<f32> = random.floats(n).iter().map(|x| 8.0 * x).collect();
            let up = random.floats(n);
            let mut expected = gate.clone();
            Reference.glu(f, &mut expected, &up);
            for set in sets() {
                let mut out = gate.clone();
                set.glu(f, &mut out, &up);
                // The argument of the exponential is up to 50 and rounded itself, three times: a relative error of as many half ULPs.
                assert_close(&out, &expected, 1e-5, &format!("{} {f:?}", set.name()));
            }
        }
    }
}

#[test]
fn gates_saturate() {
    for set in sets() {
        for f in [GateFn::Silu, GateFn::GeluTanh, GateFn::GeluErf] {
            let mut gate = [200.0, -200.0, 0.0, 1e30, f32::NAN];
            set.glu(f, &mut gate, &[1.0; 5]);
            assert_eq!((gate[0], gate[1].abs(), gate[2], gate[3]), (200.0, 0.0, 0.0, 1e30), "{} {f:?}", set.name());
            assert!(gate[4].is_nan());
        }
    }
}

#[test]
fn rope_gives_the_bits_of_the_reference() {
    let mut random = Random(3);
    for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
        for n_pairs in lengths().filter(|n| *n < 300) {
            let n_rest = random.below(9); // elements that do not turn
            let head = random.floats(2 * n_pairs + n_rest);
            let angles = random.floats(n_pairs);
            let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
            let mut expected = head.clone();
            Reference.rope(style, &mut expected, &cos, &sin);
            assert_eq!(bits(&expected[2 * n_pairs..]), bits(&head[2 * n_pairs..]));
            for set in sets() {
                let mut out = head.clone();
                set.rope(style, &mut out, &cos, &sin);
                assert_eq!(bits(&out), bits(&expected), "{} {style:?} {n_pairs} pairs", set.name());
            }
        }
    }
}

#[test]
fn rope_turns_by_the_angle() {
    for set in sets() {
        // A quarter turn: (a, b) becomes (-b, a).
        let mut head = [1.0, 2.0, 3.0, 4.0, 5.0];
        set.rope(RopeStyle::Interleaved, &mut head, &[0.0; 2], &[1.0; 2]);
        assert_eq!(head, [-2.0, 1.0, -4.0, 3.0, 5.0]);
        let mut head = [1.0, 2.0, 3.0, 4.0, 5.0];
        set.rope(RopeStyle::Halves, &mut head, &[0.0; 2], &[1.0; 2]);
        assert_eq!(head, [-3.0, -4.0, 1.0, 2.0, 5.0]);
    }
}

#[test]
fn add_gives_the_bits_of_the_reference() {
    let mut random = Random(4);
    for n in lengths() {
        let (x, y) = (random.floats(n), random.floats(n));
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        for set in sets() {
            let mut out = x.clone();
            set.add(&mut out, &y);
            assert_eq!(bits(&out), bits(&expected), "{} {n}", set.name());
        }
    }
}

#[test]
fn keys_and_values_are_stored_as_the_reference_stores_them() {
    let mut random = Random(5);
    for kind in [KvType::F32, KvType::F16, KvType::Q8_0] {
        for n in lengths().filter(|n| kind.row_bytes(*n).is_some()) {
            let mut x: Vec<f32> = (0..n).map(|_| random.float() * [1e-7, 1.0, 1e5][random.below(3)]).collect();
            x[n - 1] = [f32::INFINITY, 65520.0, -65519.0, 6e-8, 0.000_060_9, -0.0][n % 6];
            let (token, zeros) = (random.below(TILE_TOKENS), vec![0; TILE_TOKENS * kind.row_bytes(n).unwrap()]);
            let store = |set: &dyn Kernels| {
                let (mut keys, mut values) = (zeros.clone(), zeros.clone());
                set.store_key(kind, &x, &mut keys, token);
                set.store_value(kind, &x, &mut values, token);
                (keys, values)
            };
            sets().for_each(|set| assert_eq!(store(set), store(&Reference), "{} {kind:?} {n}", set.name()));
        }
    }
}

#[test]
fn dequantize_gives_the_bits_of_the_reference() {
    let mut random = Random(6);
    for dtype in DType::ALL {
        let n = 3 * dtype.block_len().max(11);
        let row = random.weights(dtype, 1, n, |r| r.float());
        let (mut out, mut expected) = (vec![f32::NAN; n], vec![f32::NAN; n]);
        Reference.dequantize(WeightRows::stored(dtype, expected.len(), &row), &mut expected);
        for set in sets() {
            set.dequantize(WeightRows::stored(dtype, out.len(), &row), &mut out);
            assert_eq!(bits(&out), bits(&expected), "{} {}", set.name(), dtype.name());
        }
    }
}
