//! Tensors: missing, superfluous, of another shape or type, and full of numbers that are none.

use crate::bench::Bench;
use crate::random::Random;
use crate::small::{GOLDEN, Parts, Sizes, Tensor, bpe, build, golden, seeds, weights};
use inference::dtype::DType;
use inference::engine::LoadConfig;
use inference::kernels;

fn models() -> Vec<(&'static str, Parts)> {
    let golden = GOLDEN.map(|name| (name, Parts::read(golden(name))));
    seeds().into_iter().chain(golden).collect()
}

/// `tensor` as `shape`, with data of its size.
fn reshaped(tensor: &Tensor, dtype: DType, shape: Vec<usize>) -> Option<Tensor> {
    if !shape.first()?.is_multiple_of(dtype.block_len()) {
        return None;
    }
    let data = weights(dtype, &shape, &mut Random(1));
    Some(Tensor { name: tensor.name.clone(), dtype, shape, data })
}

/// Shapes near the right one: transposed, longer, shorter, empty, flat, with dimensions of 1 behind.
fn shapes(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut shapes =
        vec![shape.iter().rev().copied().collect(), vec![shape.iter().product()], [shape, &[1]].concat(), [shape, &[2]].concat()];
    shapes.push([&[1], shape].concat());
    for (i, &n) in shape.iter().enumerate() {
        for other in [0, 1, n - 1, n + 1, n + 32, 2 * n] {
            let mut changed = shape.to_vec();
            changed[i] = other;
            shapes.push(changed);
        }
    }
    shapes.retain(|other| other.len() <= 4);
    shapes
}

#[test]
fn missing_superfluous_and_of_another_shape() {
    let mut bench = Bench::new("shapes");
    for (model, parts) in models() {
        for (i, tensor) in parts.tensors.iter().enumerate() {
            let name = &tensor.name;
            let mut missing = parts.clone();
            missing.tensors.remove(i);
            bench.whole(format_args!("{model} without {name}"), &missing.bytes());
            for shape in shapes(&tensor.shape) {
                let Some(changed) = reshaped(tensor, tensor.dtype, shape) else { continue };
                let mut other = parts.clone();
                let case = format!("{model}: {name} of {:?}", changed.shape);
                other.tensors[i] = changed;
                bench.whole(case, &other.bytes());
            }
        }
        for name in
            ["", "x", "blk.0.", "blk.0.attn_q.bias", "blk.999.attn_q.weight", "output.weight", "rope_freqs.weight", "blk.0.attn_sinks"]
        {
            let mut more = parts.clone();
            let (shape, data) = (vec![4], vec![0; 16]);
            more.tensors.push(Tensor { name: if name.is_empty() { "?".into() } else { name.into() }, dtype: DType::F32, shape, data });
            if parts.tensors.iter().all(|tensor| tensor.name != name) {
                bench.whole(format_args!("{model} with {name:?}"), &more.bytes());
            }
        }
    }
    bench.finish(1_900);
}

#[test]
fn of_every_other_type() {
    let mut bench = Bench::new("types");
    for (model, parts) in models() {
        for (i, tensor) in parts.tensors.iter().enumerate() {
            for dtype in DType::ALL {
                let Some(changed) = reshaped(tensor, dtype, tensor.shape.clone()) else { continue };
                let mut other = parts.clone();
                other.tensors[i] = changed;
                bench.whole(format_args!("{model}: {} as {dtype:?}", tensor.name), &other.bytes());
            }
        }
    }
    // The sweep is of models that live: one that does not shows that the count works.
    bench.whole("not a model", b"GGUF");
    bench.finish(548);
}

/// Numbers that are none, or near the edge of being one, in each tensor: they spread, and must end as an error of the step.
#[test]
fn weights_that_are_not_numbers() {
    let mut bench = Bench::new("numbers");
    let numbers = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45, 1e20, 0.0, -0.0];
    for (model, parts) in models() {
        bench.set_base(&parts.bytes());
        bench.intact(model);
        for (i, tensor) in parts.tensors.iter().enumerate().filter(|(_, tensor)| tensor.dtype == DType::F32) {
            for number in numbers {
                for all in [true, false] {
                    let mut other = parts.clone();
                    let data = &mut other.tensors[i].data;
                    let n = if all { data.len() } else { 4 };
                    data[..n].chunks_exact_mut(4).for_each(|bytes| bytes.copy_from_slice(&number.to_le_bytes()));
                    let whole = if all { "all" } else { "one" };
                    bench.whole(format_args!("{model}: {} {whole} {number}", tensor.name), &other.bytes());
                }
            }
        }
    }
    bench.whole("not a model", b"GGUF");
    bench.finish(1_500);
}

/// Blocks of nothing but random bits, or of all ones, in every type and on every kernel set: scales are NaN, infinite, negative.
#[test]
fn blocks_of_any_bits_in_every_type() {
    let sizes = Sizes { n_layers: 2, n_embd: 256, n_heads: 4, n_kv_heads: 2, head_dim: 64, n_ff: 256 };
    for kernels in kernels::available() {
        let mut bench = Bench::with("blocks", Some(kernels), LoadConfig::default());
        for dtype in DType::ALL {
            let mut parts = build("llama", sizes, dtype, bpe());
            for seed in 0..12 {
                let mut random = Random(seed);
                for tensor in parts.tensors.iter_mut().filter(|tensor| tensor.dtype == dtype) {
                    tensor.data.iter_mut().for_each(|byte| *byte = if seed == 0 { 0xFF } else { random.next() as u8 });
                }
                bench.whole(format_args!("{kernels}: {dtype:?} of random bits, seed {seed}"), &parts.bytes());
            }
        }
        bench.whole("not a model", b"GGUF");
        bench.finish(150);
    }
}
