//! A gpt-oss model whose experts are blocks of MXFP4, in the form of OpenAI's files, and the same numbers as floats.

use super::common::hf_directory::HfDirectory;
use inference::formats::config_json::ConfigJson;
use inference::formats::safetensors::Safetensors;
use inference::model::HfModel;
use inference::sys::file::MemorySource;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The values of the four bits: a sign, two bits of exponent, one of mantissa (OCP Microscaling Formats, version 1.0, section 5.3.3).
const FP4: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// A tensor: its name, type, shape and bytes.
pub type Stored = (String, &'static str, Vec<usize>, Vec<u8>);

/// The tensors of `directory` with other sizes: `(name, shape)`.
pub fn resized(directory: &HfDirectory, hidden: usize, n_ff: usize) -> Vec<(String, Vec<usize>)> {
    // The golden model has 30 and 36, twice 36 for gate and up.
    let dim = |&n: &usize| match n {
        30 => hidden,
        36 => n_ff,
        72 => 2 * n_ff,
        n => n,
    };
    directory.tensors.iter().map(|(name, shape, _)| (name.clone(), shape.iter().map(dim).collect())).collect()
}

/// The model with random weights: experts as blocks if `packed`, else as the floats that the blocks mean.
pub fn model(directory: &HfDirectory, tensors: &[(String, Vec<usize>)], packed: bool) -> HfModel {
    let mut stored = Vec::new();
    for (name, shape) in tensors {
        let is_experts = name.ends_with("experts.gate_up_proj") || name.ends_with("experts.down_proj");
        match is_experts {
            true => stored.extend(experts(name, shape, packed)),
            false => stored.push((name.clone(), "F32", shape.clone(), floats(&numbers(name, shape.iter().product())))),
        }
    }
    let weights = Safetensors::new(vec![Arc::new(MemorySource::new(file(&stored)))]).unwrap();
    HfModel::new(&ConfigJson::parse(directory.config.to_string().as_bytes()).unwrap(), weights).unwrap()
}

/// Numbers between -0.5 and 0.5 that depend on `name`.
fn numbers(name: &str, n: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(1_u64, |state, byte| state.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5
    };
    (0..n).map(|_| if name.contains("norm") { 1.0 + 0.2 * next() } else { next() }).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The experts of a layer, `(n_experts, n_in, n_out)`: turned round as floats, `(n_experts, n_out, n_in / 32, 16)` as blocks.
fn experts(name: &str, shape: &[usize], packed: bool) -> Vec<Stored> {
    let [n_experts, n_in, n_out] = *shape else { panic!("{shape:?}") };
    let (n_rows, n_blocks) = (n_experts * n_out, n_in / 32);
    let random = numbers(name, n_rows * n_blocks * 17);
    let byte = |i: usize| ((random[i] + 0.5) * 255.0) as u8;
    let quants: Vec<u8> = (0..n_rows * n_blocks * 16).map(byte).collect();
    let scales: Vec<u8> = (0..n_rows * n_blocks).map(|i| 120 + byte(n_rows * n_blocks * 16 + i) % 5).collect();
    if packed {
        let blocks = (format!("{name}_blocks"), "U8", vec![n_experts, n_out, n_blocks, 16], quants);
        return vec![blocks, (format!("{name}_scales"), "U8", vec![n_experts, n_out, n_blocks], scales)];
    }
    // Neighbours share a byte, the first one in its low bits.
    let element = |row: usize, column: usize| {
        let block = row * n_blocks + column / 32;
        let bits = quants[block * 16 + column % 32 / 2] >> (4 * (column % 2)) & 15;
        let value = FP4[usize::from(bits & 7)] * 2.0_f32.powi(i32::from(scales[block]) - 127);
        if bits & 8 == 0 { value } else { -value }
    };
    let turned = (0..n_experts).flat_map(|e| (0..n_in).flat_map(move |column| (0..n_out).map(move |row| (e * n_out + row, column))));
    vec![(name.to_owned(), "F32", shape.to_vec(), floats(&turned.map(|(row, column)| element(row, column)).collect::<Vec<_>>()))]
}

/// A safetensors file.
fn file(tensors: &[Stored]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend(bytes);
        header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()] }));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}
