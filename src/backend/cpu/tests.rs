//! Each stage against the same arithmetic in `f64`, on sizes that no vector width divides.

mod altup;
mod attention;
mod moe;
mod stability;
mod traits;

use super::*;
use crate::backend::naive::{self, assert_close, noise, widen};
use crate::backend::{BlockId, NormKind, Rope};
use crate::dtype::DType;
use crate::error::ErrorKind;
use crate::kernels::{self, GateFn, RopeStyle, WeightRows};
use crate::sys::memory::AlignedBytes;
use crate::sys::pool::PoolConfig;

const SHAPE: Shape = Shape {
    n_layers: 2,
    n_embd: 96,
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

/// A few roundings of `f32` per output: sums have up to 144 products here.
const ROUNDING: f64 = 2e-6;

fn backend_of(n_threads: usize, kernels: &'static dyn Kernels) -> Cpu {
    let config = PoolConfig { n_threads, ..PoolConfig::default() };
    Cpu::new(Arc::new(Pool::new(&config).unwrap()), kernels)
}

/// The oracle's kernels on two threads.
fn backend() -> Cpu {
    backend_of(2, &kernels::Reference)
}

/// `data` as a file would hold it: `(data.len() / n_cols, n_cols)` in `f32`.
fn host(data: &[f32], n_cols: usize) -> HostTensor {
    let mut bytes = AlignedBytes::zeroed(4 * data.len()).unwrap();
    bytes.as_mut_slice().chunks_mut(4).zip(data).for_each(|(to, x)| to.copy_from_slice(&x.to_le_bytes()));
    HostTensor { name: "test".into(), dtype: DType::F32, n_rows: data.len() / n_cols, n_cols, data: bytes.into() }
}

/// A tensor of any type, of bytes below 64: every half-precision scale among them is finite and below 2. Those of IQ4_XS, whose codes are
/// large, are below 2^-7; those of MXFP4, powers of two, are 2^-8 to 2^-1.
fn packed(dtype: DType, n_rows: usize, n_cols: usize, seed: u64) -> HostTensor {
    let mut data = AlignedBytes::zeroed(n_rows * dtype.row_bytes(n_cols).unwrap()).unwrap();
    let n = data.as_slice().len();
    data.as_mut_slice().iter_mut().zip(noise(n, seed)).for_each(|(byte, x)| *byte = (x.abs() * 63.0) as u8);
    data.as_mut_slice().chunks_exact_mut(dtype.block_bytes()).for_each(|block| match dtype {
        DType::IQ4_XS => block[1] %= 32,
        DType::MXFP4 => block[0] = 120 + block[0] % 8,
        _ => {}
    });
    HostTensor { name: "packed".into(), dtype, n_rows, n_cols, data: data.into() }
}

fn linear(cpu: &Cpu, weight: &[f32], n_in: usize, bias: Option<&[f32]>) -> Linear<Cpu> {
    let bias = bias.map(|bias| cpu.vector(host(bias, bias.len())).unwrap());
    Linear { weight: cpu.matrix(host(weight, n_in)).unwrap(), bias }
}

fn norm(cpu: &Cpu, weight: &[f32], eps: f32) -> Norm<Cpu> {
    Norm { weight: cpu.vector(host(weight, weight.len())).unwrap(), bias: None, eps, kind: NormKind::Rms }
}

fn rope(style: RopeStyle, n_pairs: usize) -> Rope {
    let inv_freq = (0..n_pairs).map(|i| 100_f32.powf(-(i as f32) / n_pairs as f32)).collect();
    Rope { inv_freq, style, magnitude: 1.25 }
}

/// One sequence of `n` tokens from position 0 in blocks 0.., and a pass over it that has begun.
fn begun(cpu: &Cpu, n: usize) -> (Batch, Workspace) {
    let mut batch = Batch::default();
    let blocks: Vec<BlockId> = (0..n.div_ceil(32) as u32).collect();
    batch.push(&vec![7; n], 0, &blocks, true);
    let mut ws = cpu.workspace(&SHAPE, 128, 8).unwrap();
    cpu.begin(&mut ws, &batch, &[rope(RopeStyle::Halves, 12)]).unwrap();
    (batch, ws)
}

#[test]
fn embed_takes_the_rows_of_the_table() {
    let cpu = backend();
    let table = noise(SHAPE.n_vocab * SHAPE.n_embd, 1);
    let matrix = cpu.matrix(host(&table, SHAPE.n_embd)).unwrap();
    let (mut batch, mut ws) = begun(&cpu, 3);
    batch.tokens = vec![49, 0, 13];
    cpu.embed(&mut ws, &batch, &matrix, 1.0).unwrap();
    let want: Vec<f32> = [49, 0, 13].iter().flat_map(|&t| table[t * SHAPE.n_embd..][..SHAPE.n_embd].to_vec()).collect();
    assert_eq!(ws.residual[..3 * SHAPE.n_embd], want);
    batch.tokens[1] = 50;
    assert_eq!(cpu.embed(&mut ws, &batch, &matrix, 1.0).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn norm_project_fills_every_slot() {
    let cpu = backend();
    let (scale, q_bias) = (noise(SHAPE.n_embd, 3), noise(Q_WIDTH, 5));
    let (q, k) = (noise(Q_WIDTH * SHAPE.n_embd, 4), noise(KV_WIDTH * SHAPE.n_embd, 6));
    let (query, key) = (linear(&cpu, &q, SHAPE.n_embd, Some(&q_bias)), linear(&cpu, &k, SHAPE.n_embd, None));
    for rows in [1, 2, 5, 31, 70] {
        let x = noise(rows * SHAPE.n_embd, rows as u64);
        let (_, mut ws) = begun(&cpu, rows);
        ws.residual[..x.len()].copy_from_slice(&x);
        cpu.norm_project(&mut ws, Some(&norm(&cpu, &scale, 0.01)), &[(Slot::Query, &query), (Slot::Key, &key)]).unwrap();
        let normed = naive::rms_norm(&widen(&x), &scale, 0.01);
        let want = naive::project(&normed, &q, Some(&q_bias), SHAPE.n_embd);
        assert_close("query", &ws.slots[0][..rows * Q_WIDTH], &want, ROUNDING);
        assert_close("key", &ws.slots[1][..rows * KV_WIDTH], &naive::project(&normed, &k, None, SHAPE.n_embd), ROUNDING);
        assert_eq!(ws.residual[..x.len()], x);
    }
}

#[test]
fn projections_of_one_stage_may_be_stored_differently() {
    let cpu = backend();
    let (x, scale) = (noise(3 * SHAPE.n_embd, 2), noise(SHAPE.n_embd, 3));
    let types = [(Slot::Query, DType::Q8_0, Q_WIDTH), (Slot::Key, DType::F16, KV_WIDTH), (Slot::Value, DType::Q4_1, KV_WIDTH)];
    let tensors = types.map(|(_, dtype, n_out)| packed(dtype, n_out, SHAPE.n_embd, 9));
    let expanded = tensors.each_ref().map(|tensor| {
        let row_bytes = tensor.dtype.row_bytes(SHAPE.n_embd).unwrap();
        let mut all = vec![0.0; tensor.n_rows * SHAPE.n_embd];
        for (row, out) in tensor.data.as_slice().chunks(row_bytes).zip(all.chunks_mut(SHAPE.n_embd)) {
            cpu.kernels.dequantize(WeightRows::stored(tensor.dtype, SHAPE.n_embd, row), out);
        }
        all
    });
    let linears = tensors.map(|tensor| Linear { weight: cpu.matrix(tensor).unwrap(), bias: None });
    let (_, mut ws) = begun(&cpu, 3);
    ws.residual[..x.len()].copy_from_slice(&x);
    let projections = [0, 1, 2].map(|i| (types[i].0, &linears[i]));
    cpu.norm_project(&mut ws, Some(&norm(&cpu, &scale, 0.01)), &projections).unwrap();
    let normed = naive::rms_norm(&widen(&x), &scale, 0.01);
    for (i, (slot, dtype, n_out)) in types.into_iter().enumerate() {
        // Quantised weights meet activations of eight bits.
        let tolerance = if dtype == DType::F16 { ROUNDING } else { 1e-2 };
        let want = naive::project(&normed, &expanded[i], None, SHAPE.n_embd);
        assert_close(dtype.name(), &ws.slots[slot as usize][..3 * n_out], &want, tolerance);
    }
}

#[test]
fn project_add_and_glu_add_to_the_residual() {
    let cpu = backend();
    let (x, query, bias) = (noise(5 * SHAPE.n_embd, 10), noise(5 * Q_WIDTH, 11), noise(SHAPE.n_embd, 12));
    let (o, down) = (noise(SHAPE.n_embd * Q_WIDTH, 13), noise(SHAPE.n_embd * SHAPE.n_ff, 14));
    let (gate, up) = (noise(5 * SHAPE.n_ff, 15), noise(5 * SHAPE.n_ff, 16));
    let (_, mut ws) = begun(&cpu, 5);
    ws.residual[..x.len()].copy_from_slice(&x);
    ws.slots[Slot::Query as usize][..query.len()].copy_from_slice(&query);
    cpu.project_add(&mut ws, &linear(&cpu, &o, Q_WIDTH, Some(&bias)), &Join::default()).unwrap();
    let add = |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x + y).collect() };
    let mut want = add(&widen(&x), &naive::project(&widen(&query), &o, Some(&bias), Q_WIDTH));
    assert_close("project_add", &ws.residual[..x.len()], &want, ROUNDING);
    for f in [GateFn::Silu, GateFn::GeluTanh, GateFn::GeluErf, GateFn::Relu2] {
        ws.slots[Slot::Gate as usize][..gate.len()].copy_from_slice(&gate);
        ws.slots[Slot::Up as usize][..up.len()].copy_from_slice(&up);
        cpu.glu(&mut ws, FeedForwardFn::Gated(f), &linear(&cpu, &down, SHAPE.n_ff, None), &Join::default()).unwrap();
        want = add(&want, &naive::project(&naive::glu(f, &widen(&gate), &widen(&up)), &down, None, SHAPE.n_ff));
        assert_close("glu", &ws.residual[..x.len()], &want, ROUNDING);
    }
}

#[test]
fn head_gives_the_wanted_rows_in_slices() {
    let cpu = backend();
    let (x, scale, weight) = (noise(6 * SHAPE.n_embd, 20), noise(SHAPE.n_embd, 21), noise(SHAPE.n_vocab * SHAPE.n_embd, 22));
    let (mut batch, mut ws) = begun(&cpu, 6);
    batch.outputs = vec![1, 4];
    let (norm, matrix) = (norm(&cpu, &scale, 1e-5), cpu.matrix(host(&weight, SHAPE.n_embd)).unwrap());
    let want = naive::project(&naive::rms_norm(&widen(&x), &scale, 1e-5), &weight, None, SHAPE.n_embd); // (6, n_vocab)
    let mut out = vec![0.0; SHAPE.n_vocab];
    for slices in [&[0..49, 49..50][..], &[0..1, 1..33, 33..50]] {
        cpu.begin(&mut ws, &batch, &[rope(RopeStyle::Halves, 12)]).unwrap();
        ws.residual[..x.len()].copy_from_slice(&x);
        assert_eq!(cpu.logits(&ws, 0, &mut out).unwrap_err().kind(), ErrorKind::Internal);
        for slice in slices {
            cpu.head(&mut ws, &batch, &norm, &matrix, slice.clone()).unwrap();
        }
        for (i, row) in batch.outputs.iter().enumerate() {
            cpu.logits(&ws, i, &mut out).unwrap();
            assert_close("logits", &out, &want[row * SHAPE.n_vocab..][..SHAPE.n_vocab], ROUNDING);
        }
        assert_eq!(cpu.logits(&ws, 2, &mut out).unwrap_err().kind(), ErrorKind::Internal);
    }
    assert!(cpu.head(&mut ws, &batch, &norm, &matrix, 10..51).is_err());
}

#[test]
fn a_pass_without_outputs_has_no_head() {
    let cpu = backend();
    let (mut batch, mut ws) = begun(&cpu, 6);
    batch.outputs.clear();
    cpu.begin(&mut ws, &batch, &[rope(RopeStyle::Halves, 12)]).unwrap();
    let weight = linear(&cpu, &noise(SHAPE.n_vocab * SHAPE.n_embd, 1), SHAPE.n_embd, None).weight;
    cpu.head(&mut ws, &batch, &norm(&cpu, &noise(SHAPE.n_embd, 1), 0.1), &weight, 0..50).unwrap();
    assert!(cpu.logits(&ws, 0, &mut [0.0; SHAPE.n_vocab]).is_err());
}

#[test]
fn weights_that_do_not_fit_their_bytes_are_refused() {
    let cpu = backend();
    type Change = fn(&mut HostTensor);
    let refusal = |change: Change| {
        let mut tensor = packed(DType::Q8_0, 4, 64, 1);
        change(&mut tensor);
        cpu.matrix(tensor).err().map(|e| e.kind())
    };
    let lies: [Change; 5] = [|t| t.n_rows = 5, |t| t.n_cols = 32, |t| t.n_cols = 65, |t| t.n_rows = 0, |t| t.n_rows = usize::MAX];
    for lie in lies {
        assert_eq!(refusal(lie), Some(ErrorKind::Format));
    }
    assert_eq!(refusal(|_| ()), None);
    assert_eq!(cpu.vector(packed(DType::Q8_0, 4, 64, 1)).err().unwrap().kind(), ErrorKind::Format);
    assert_eq!(cpu.vector(packed(DType::Q4_K, 1, 512, 1)).unwrap().values.len(), 512);
    assert_eq!(cpu.matrix_bytes(&cpu.matrix(packed(DType::Q8_0, 4, 64, 1)).unwrap()), 4 * 2 * 34);
}

#[test]
fn stages_refuse_what_does_not_fit_the_model() {
    let cpu = backend();
    let (batch, mut ws) = begun(&cpu, 3);
    let internal = |result: Result<()>| assert_eq!(result.map_err(|e| e.kind()), Err(ErrorKind::Internal));
    let (unit, narrow) = (norm(&cpu, &noise(SHAPE.n_embd, 1), 0.1), norm(&cpu, &[1.0; 3], 0.1));
    let square = linear(&cpu, &noise(SHAPE.n_embd * SHAPE.n_embd, 1), SHAPE.n_embd, None);
    let query = linear(&cpu, &noise(Q_WIDTH * SHAPE.n_embd, 1), SHAPE.n_embd, None);
    let biased = linear(&cpu, &noise(SHAPE.n_embd * Q_WIDTH, 1), Q_WIDTH, Some(&[1.0; 5]));
    internal(cpu.norm_project(&mut ws, Some(&narrow), &[(Slot::Query, &query)]));
    internal(cpu.norm_project(&mut ws, Some(&unit), &[(Slot::Query, &square)]));
    internal(cpu.norm_project(&mut ws, Some(&unit), &[(Slot::Query, &query), (Slot::Query, &query)]));
    internal(cpu.project_add(&mut ws, &biased, &Join::default()));
    internal(cpu.glu(&mut ws, FeedForwardFn::Gated(GateFn::Silu), &square, &Join::default()));
    internal(cpu.embed(&mut ws, &begun(&cpu, 4).0, &square.weight, 1.0));
    internal(cpu.embed(&mut ws, &batch, &biased.weight, 1.0));
    internal(cpu.begin(&mut ws, &batch, &[rope(RopeStyle::Halves, 13)]));
    let mut batch = batch;
    batch.push(&[1; 126], 0, &[0, 1, 2, 3], false);
    internal(cpu.begin(&mut ws, &batch, &[rope(RopeStyle::Halves, 12)]));
    let shape = Shape { n_kv_heads: 4, ..SHAPE };
    assert_eq!(cpu.workspace(&shape, 1, 1).err().unwrap().kind(), ErrorKind::InvalidArgument);
    assert_eq!(cpu.workspace(&SHAPE, usize::MAX, 1).err().unwrap().kind(), ErrorKind::OutOfMemory);
}
