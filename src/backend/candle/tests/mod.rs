//! Each stage against the same arithmetic in `f64`, on sizes that no vector width divides.

mod altup;
mod attention;
mod moe;
mod refusals;

use super::*;
use crate::backend::BlockId;
use crate::backend::naive::{self, assert_close, noise, widen};
use crate::dtype::DType;
use crate::error::ErrorKind;
use crate::kernels::RopeStyle;
use crate::sys::memory::AlignedBytes;
use candle_core::quantized::QTensor;

const SHAPE: Shape = Shape {
    n_layers: 2,
    n_embd: 40,
    n_heads: 6,
    n_kv_heads: 2,
    head_dim: 24,
    n_ff: 100,
    moe: None,
    altup: None,
    latent: None,
    n_vocab: 50,
};
const Q_WIDTH: usize = SHAPE.n_heads * SHAPE.head_dim;
const KV_WIDTH: usize = SHAPE.n_kv_heads * SHAPE.head_dim;

/// A few roundings of `f32` per output: candle sums up to 144 products here.
const ROUNDING: f64 = 2e-6;

fn backend() -> Candle {
    Candle::cpu(Precision::Float)
}

/// `data` as a file would hold it: `(data.len() / n_cols, n_cols)` in `f32`.
fn host(data: &[f32], n_cols: usize) -> HostTensor {
    let mut bytes = AlignedBytes::zeroed(4 * data.len()).unwrap();
    bytes.as_mut_slice().chunks_mut(4).zip(data).for_each(|(to, x)| to.copy_from_slice(&x.to_le_bytes()));
    HostTensor { name: "test".into(), dtype: DType::F32, n_rows: data.len() / n_cols, n_cols, data: bytes.into() }
}

/// `data` (`(data.len() / n_cols, n_cols)`) stored as `dtype`, and its elements as they are then.
pub(super) fn stored(data: &[f32], n_cols: usize, dtype: DType) -> (HostTensor, Vec<f32>) {
    let n_rows = data.len() / n_cols;
    let stored = QTensor::quantize(&rows(data, n_cols), weights::ggml_dtype(dtype).unwrap()).unwrap();
    let expanded = values(&stored.dequantize(&Device::Cpu).unwrap());
    let mut bytes = AlignedBytes::zeroed(n_rows * dtype.row_bytes(n_cols).unwrap()).unwrap();
    bytes.as_mut_slice().copy_from_slice(&stored.data().unwrap());
    (HostTensor { name: dtype.name().into(), dtype, n_rows, n_cols, data: bytes.into() }, expanded)
}

fn linear(weight: &[f32], n_in: usize, bias: Option<&[f32]>) -> Linear<Candle> {
    let bias = bias.map(|bias| backend().vector(host(bias, bias.len())).unwrap());
    Linear { weight: backend().matrix(host(weight, n_in)).unwrap(), bias }
}

fn norm(weight: &[f32], eps: f32) -> Norm<Candle> {
    Norm { weight: backend().vector(host(weight, weight.len())).unwrap(), bias: None, eps, kind: NormKind::Rms }
}

fn rope(style: RopeStyle, n_pairs: usize) -> Rope {
    let inv_freq = (0..n_pairs).map(|i| 100_f32.powf(-(i as f32) / n_pairs as f32)).collect();
    Rope { inv_freq, style, magnitude: 1.25 }
}

fn rows(data: &[f32], width: usize) -> Tensor {
    Tensor::from_slice(data, (data.len() / width, width), &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// One sequence of `n` tokens from position 0 in blocks 0.., and a pass over it that has begun.
fn begun(n: usize) -> (Batch, Workspace) {
    let mut batch = Batch::default();
    let blocks: Vec<BlockId> = (0..n.div_ceil(32) as u32).collect();
    batch.push(&vec![7; n], 0, &blocks, true);
    let mut ws = backend().workspace(&SHAPE, 128, 8).unwrap();
    backend().begin(&mut ws, &batch, &[rope(RopeStyle::Halves, 12)]).unwrap();
    (batch, ws)
}

#[test]
fn embed_takes_the_rows_of_the_table() {
    let table = noise(SHAPE.n_vocab * SHAPE.n_embd, 1);
    let matrix = backend().matrix(host(&table, SHAPE.n_embd)).unwrap();
    let (mut batch, mut ws) = begun(3);
    batch.tokens = vec![49, 0, 13];
    backend().embed(&mut ws, &batch, &matrix, 1.0).unwrap();
    let want: Vec<f32> = [49, 0, 13].iter().flat_map(|&t| table[t * SHAPE.n_embd..][..SHAPE.n_embd].to_vec()).collect();
    assert_eq!(values(ws.residual("test").unwrap()), want);
    batch.tokens[1] = 50;
    assert_eq!(backend().embed(&mut ws, &batch, &matrix, 1.0).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn norm_project_fills_every_slot() {
    let (x, scale) = (noise(5 * SHAPE.n_embd, 2), noise(SHAPE.n_embd, 3));
    let (q, q_bias, k) = (noise(Q_WIDTH * SHAPE.n_embd, 4), noise(Q_WIDTH, 5), noise(KV_WIDTH * SHAPE.n_embd, 6));
    let (_, mut ws) = begun(5);
    ws.set_residual(rows(&x, SHAPE.n_embd));
    let (query, key) = (linear(&q, SHAPE.n_embd, Some(&q_bias)), linear(&k, SHAPE.n_embd, None));
    backend().norm_project(&mut ws, Some(&norm(&scale, 0.01)), &[(Slot::Query, &query), (Slot::Key, &key)]).unwrap();
    let normed = naive::rms_norm(&widen(&x), &scale, 0.01);
    let got = values(&ws.take(Slot::Query, "test").unwrap());
    assert_close("query", &got, &naive::project(&normed, &q, Some(&q_bias), SHAPE.n_embd), ROUNDING);
    let got = values(&ws.take(Slot::Key, "test").unwrap());
    assert_close("key", &got, &naive::project(&normed, &k, None, SHAPE.n_embd), ROUNDING);
    assert_eq!(values(ws.residual("test").unwrap()), x);
}

#[test]
fn project_add_and_glu_add_to_the_residual() {
    let (x, query, bias) = (noise(5 * SHAPE.n_embd, 10), noise(5 * Q_WIDTH, 11), noise(SHAPE.n_embd, 12));
    let (o, down) = (noise(SHAPE.n_embd * Q_WIDTH, 13), noise(SHAPE.n_embd * SHAPE.n_ff, 14));
    let (gate, up) = (noise(5 * SHAPE.n_ff, 15), noise(5 * SHAPE.n_ff, 16));
    let (_, mut ws) = begun(5);
    ws.set_residual(rows(&x, SHAPE.n_embd));
    ws.put(Slot::Query, rows(&query, Q_WIDTH));
    backend().project_add(&mut ws, &linear(&o, Q_WIDTH, Some(&bias)), &Join::default()).unwrap();
    let add = |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x + y).collect() };
    let mut want = add(&widen(&x), &naive::project(&widen(&query), &o, Some(&bias), Q_WIDTH));
    assert_close("project_add", &values(ws.residual("test").unwrap()), &want, ROUNDING);
    for f in [GateFn::Silu, GateFn::GeluTanh, GateFn::GeluErf, GateFn::Relu2] {
        ws.put(Slot::Gate, rows(&gate, SHAPE.n_ff));
        ws.put(Slot::Up, rows(&up, SHAPE.n_ff));
        backend().glu(&mut ws, FeedForwardFn::Gated(f), &linear(&down, SHAPE.n_ff, None), &Join::default()).unwrap();
        want = add(&want, &naive::project(&naive::glu(f, &widen(&gate), &widen(&up)), &down, None, SHAPE.n_ff));
        assert_close("glu", &values(ws.residual("test").unwrap()), &want, ROUNDING);
    }
}

#[test]
fn head_gives_the_wanted_rows_in_slices() {
    let (x, scale, weight) = (noise(6 * SHAPE.n_embd, 20), noise(SHAPE.n_embd, 21), noise(SHAPE.n_vocab * SHAPE.n_embd, 22));
    let (mut batch, mut ws) = begun(6);
    batch.outputs = vec![1, 4];
    ws.set_residual(rows(&x, SHAPE.n_embd));
    let (norm, matrix) = (norm(&scale, 1e-5), backend().matrix(host(&weight, SHAPE.n_embd)).unwrap());
    let normed = naive::rms_norm(&widen(&x), &scale, 1e-5);
    let want = naive::project(&normed, &weight, None, SHAPE.n_embd); // (6, n_vocab)
    for borders in [&[0, 50][..], &[0, 1, 33, 50]] {
        let mut out = vec![0.0; SHAPE.n_vocab];
        for slice in borders.windows(2) {
            backend().head(&mut ws, &batch, &norm, &matrix, slice[0]..slice[1]).unwrap();
        }
        for (i, row) in batch.outputs.iter().enumerate() {
            backend().logits(&ws, i, &mut out).unwrap();
            assert_close("logits", &out, &want[row * SHAPE.n_vocab..][..SHAPE.n_vocab], ROUNDING);
        }
        assert_eq!(backend().logits(&ws, 2, &mut out).unwrap_err().kind(), ErrorKind::Internal);
    }
    backend().head(&mut ws, &batch, &norm, &matrix, 0..9).unwrap();
    assert!(backend().head(&mut ws, &batch, &norm, &matrix, 10..50).is_err());
}

#[test]
fn head_in_blocks_gives_the_same_in_slices_and_at_once() {
    let shape = Shape { n_embd: 64, ..SHAPE };
    let (x, scale, weight) = (noise(6 * 64, 23), noise(64, 24), noise(SHAPE.n_vocab * 64, 25));
    let backend = Candle::cpu(Precision::Quantized);
    let (tensor, expanded) = stored(&weight, 64, DType::Q8_0);
    let (matrix, norm) = (backend.matrix(tensor).unwrap(), norm(&scale, 1e-5));
    let want = naive::project(&naive::rms_norm(&widen(&x), &scale, 1e-5), &expanded, None, 64); // (6, n_vocab)
    let (batch, _) = begun(6);
    let run = |borders: &[usize]| {
        let mut ws = backend.workspace(&shape, 6, 1).unwrap();
        backend.begin(&mut ws, &batch, &[rope(RopeStyle::Halves, 12)]).unwrap();
        ws.set_residual(rows(&x, 64));
        borders.windows(2).for_each(|slice| backend.head(&mut ws, &batch, &norm, &matrix, slice[0]..slice[1]).unwrap());
        let mut out = vec![0.0; SHAPE.n_vocab];
        backend.logits(&ws, 0, &mut out).unwrap();
        out
    };
    assert_close("logits", &run(&[0, 50]), &want[5 * SHAPE.n_vocab..], 0.01);
    assert_eq!(run(&[0, 50]), run(&[0, 1, 33, 50]));
}
