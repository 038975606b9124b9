//! Each stage against the same arithmetic in `f64`, on sizes that no vector width divides.

use super::*;
use crate::backend::naive::{self, assert_close, noise, widen};
use crate::backend::{BlockId, SequenceRows};
use crate::dtype::DType;
use crate::error::ErrorKind;
use crate::kernels::RopeStyle;
use crate::sys::memory::AlignedBytes;

const SHAPE: Shape = Shape { n_layers: 2, n_embd: 40, n_heads: 6, n_kv_heads: 2, head_dim: 24, n_ff: 100, n_vocab: 50 };
const Q_WIDTH: usize = SHAPE.n_heads * SHAPE.head_dim;
const KV_WIDTH: usize = SHAPE.n_kv_heads * SHAPE.head_dim;

/// A few roundings of `f32` per output: candle sums up to 144 products here.
const ROUNDING: f64 = 2e-6;

fn backend() -> Candle {
    Candle::cpu(Precision::Float)
}

/// `data` as a file would hold it: `(data.len() / n_cols, n_cols)` in `f32`.
pub(super) fn host(data: &[f32], n_cols: usize) -> HostTensor {
    let mut bytes = AlignedBytes::zeroed(4 * data.len()).unwrap();
    bytes.as_mut_slice().chunks_mut(4).zip(data).for_each(|(to, x)| to.copy_from_slice(&x.to_le_bytes()));
    HostTensor { name: "test".into(), dtype: DType::F32, n_rows: data.len() / n_cols, n_cols, data: bytes }
}

fn linear(weight: &[f32], n_in: usize, bias: Option<&[f32]>) -> Linear<Candle> {
    let bias = bias.map(|bias| backend().vector(host(bias, bias.len())).unwrap());
    Linear { weight: backend().matrix(host(weight, n_in)).unwrap(), bias }
}

fn norm(weight: &[f32], eps: f32) -> Norm<Candle> {
    Norm { weight: backend().vector(host(weight, weight.len())).unwrap(), eps }
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
    backend().begin(&mut ws, &batch, &rope(RopeStyle::Halves, 12)).unwrap();
    (batch, ws)
}

#[test]
fn embed_takes_the_rows_of_the_table() {
    let table = noise(SHAPE.n_vocab * SHAPE.n_embd, 1);
    let matrix = backend().matrix(host(&table, SHAPE.n_embd)).unwrap();
    let (mut batch, mut ws) = begun(3);
    batch.tokens = vec![49, 0, 13];
    backend().embed(&mut ws, &batch, &matrix).unwrap();
    let want: Vec<f32> = [49, 0, 13].iter().flat_map(|&t| table[t * SHAPE.n_embd..][..SHAPE.n_embd].to_vec()).collect();
    assert_eq!(values(ws.residual("test").unwrap()), want);
    batch.tokens[1] = 50;
    assert_eq!(backend().embed(&mut ws, &batch, &matrix).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn norm_project_fills_every_slot() {
    let (x, scale) = (noise(5 * SHAPE.n_embd, 2), noise(SHAPE.n_embd, 3));
    let (q, q_bias, k) = (noise(Q_WIDTH * SHAPE.n_embd, 4), noise(Q_WIDTH, 5), noise(KV_WIDTH * SHAPE.n_embd, 6));
    let (_, mut ws) = begun(5);
    ws.set_residual(rows(&x, SHAPE.n_embd));
    let (query, key) = (linear(&q, SHAPE.n_embd, Some(&q_bias)), linear(&k, SHAPE.n_embd, None));
    backend().norm_project(&mut ws, &norm(&scale, 0.01), &[(Slot::Query, &query), (Slot::Key, &key)]).unwrap();
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
    backend().project_add(&mut ws, &linear(&o, Q_WIDTH, Some(&bias))).unwrap();
    let add = |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x + y).collect() };
    let mut want = add(&widen(&x), &naive::project(&widen(&query), &o, Some(&bias), Q_WIDTH));
    assert_close("project_add", &values(ws.residual("test").unwrap()), &want, ROUNDING);
    for f in [GateFn::Silu, GateFn::GeluTanh] {
        ws.put(Slot::Gate, rows(&gate, SHAPE.n_ff));
        ws.put(Slot::Up, rows(&up, SHAPE.n_ff));
        backend().glu(&mut ws, f, &linear(&down, SHAPE.n_ff, None)).unwrap();
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
    for slices in [vec![0..50], vec![0..1, 1..33, 33..50]] {
        let mut out = vec![0.0; SHAPE.n_vocab];
        for slice in slices {
            backend().head(&mut ws, &batch, &norm, &matrix, slice).unwrap();
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

/// One run of `rope_append` and `attend`, over two sequences at once.
struct AttentionCase {
    rope: Rope,
    head_norms: bool,
    attention: Attention,
    kind: KvType,
    /// Tokens of each pass.
    chunks: &'static [usize],
    tolerance: f64,
}

impl AttentionCase {
    const N_TOKENS: usize = 70; // more than two blocks
    /// Of the two sequences: scattered, and in turns.
    const TABLES: [[BlockId; 3]; 2] = [[5, 0, 3], [1, 4, 2]];

    fn new() -> Self {
        let attention = Attention { scale: 0.2, softcap: None, window: None };
        let rope = rope(RopeStyle::Halves, 12);
        Self { rope, head_norms: false, attention, kind: KvType::F32, chunks: &[70], tolerance: ROUNDING }
    }

    /// Queries, keys and values of sequence `i`, `(N_TOKENS, width)` each.
    fn inputs(i: usize) -> [Vec<f32>; 3] {
        let seed = 100 + 10 * i as u64;
        [Q_WIDTH, KV_WIDTH, KV_WIDTH].map(|width| noise(Self::N_TOKENS * width, seed + width as u64))
    }

    fn head_scales() -> [Vec<f32>; 2] {
        [noise(SHAPE.head_dim, 7), noise(SHAPE.head_dim, 8)]
    }

    /// What the backend makes of both sequences: `(N_TOKENS, Q_WIDTH)` each.
    fn run(&self) -> [Vec<f32>; 2] {
        let mut kv = backend().kv(&SHAPE, self.kind).unwrap();
        let mut results = [const { Vec::new() }; 2];
        let mut start = 0;
        for &n in self.chunks {
            backend().grow_kv(&mut kv, 6).unwrap();
            self.pass(&mut kv, start, n, &mut results);
            start += n;
        }
        assert_eq!(start, Self::N_TOKENS);
        results
    }

    fn pass(&self, kv: &mut Kv, start: usize, n: usize, results: &mut [Vec<f32>; 2]) {
        let mut batch = Batch::default();
        Self::TABLES.iter().for_each(|table| batch.push(&vec![0; n], start, &table[..(start + n).div_ceil(32)], false));
        let mut ws = backend().workspace(&SHAPE, 2 * n, 0).unwrap();
        backend().begin(&mut ws, &batch, &self.rope).unwrap();
        for (which, slot, width) in [(0, Slot::Query, Q_WIDTH), (1, Slot::Key, KV_WIDTH), (2, Slot::Value, KV_WIDTH)] {
            let both = [0, 1].map(|i| Self::inputs(i)[which][start * width..(start + n) * width].to_vec());
            ws.put(slot, rows(&both.concat(), width));
        }
        let norms = Self::head_scales().map(|scale| norm(&scale, 1e-3));
        let norms = self.head_norms.then_some((&norms[0], &norms[1]));
        backend().rope_append(&mut ws, &batch, 1, norms, &self.rope, kv).unwrap();
        backend().attend(&mut ws, &batch, 1, &self.attention, kv).unwrap();
        let out = values(&ws.take(Slot::Query, "test").unwrap()); // (2 * n, Q_WIDTH)
        results.iter_mut().zip(out.chunks(n * Q_WIDTH)).for_each(|(result, out)| result.extend_from_slice(out));
    }

    /// The heads of sequence `i`, turned and stored: `which` 0 query, 1 key, 2 value; `(n_heads, N_TOKENS, head_dim)`.
    fn naive_heads(&self, i: usize, which: usize) -> Vec<Vec<f64>> {
        let x = &Self::inputs(i)[which];
        let width = x.len() / Self::N_TOKENS;
        let head = |h: usize, position: usize| {
            let mut head = widen(&x[position * width + h * SHAPE.head_dim..][..SHAPE.head_dim]);
            if self.head_norms && which < 2 {
                head = naive::rms_norm(&head, &Self::head_scales()[which], 1e-3);
            }
            if which < 2 {
                naive::rotate(&mut head, position as u32, &self.rope);
            }
            if which > 0 && self.kind == KvType::F16 {
                head.iter_mut().for_each(|x| *x = half::f16::from_f64(*x).to_f64());
            }
            head
        };
        (0..width / SHAPE.head_dim).map(|h| (0..Self::N_TOKENS).flat_map(|p| head(h, p)).collect()).collect()
    }

    /// The same as [`Self::run`], for one sequence.
    fn naive(&self, i: usize) -> Vec<f64> {
        let [queries, keys, values] = [0, 1, 2].map(|which| self.naive_heads(i, which));
        let row = |position: usize| {
            (0..SHAPE.n_heads).flat_map({
                let (queries, keys, values) = (&queries, &keys, &values);
                move |h| {
                    let query = &queries[h][position * SHAPE.head_dim..][..SHAPE.head_dim];
                    naive::attend(query, &keys[h / 3], &values[h / 3], position, &self.attention)
                }
            })
        };
        (0..Self::N_TOKENS).flat_map(row).collect()
    }

    fn check(&self, what: &str) {
        for (i, got) in self.run().iter().enumerate() {
            assert_close(&format!("{what}, sequence {i}"), got, &self.naive(i), self.tolerance);
        }
    }
}

#[test]
fn attention_of_two_sequences_in_any_chunks() {
    for chunks in [&[70][..], &[1; 70], &[7; 10], &[31, 1, 1, 37], &[32, 32, 6], &[64, 6]] {
        AttentionCase { chunks, ..AttentionCase::new() }.check(&format!("chunks {chunks:?}"));
    }
}

#[test]
fn rope_of_both_styles_turns_all_some_or_nothing() {
    for style in [RopeStyle::Halves, RopeStyle::Interleaved] {
        for n_pairs in [12, 5, 0] {
            AttentionCase { rope: rope(style, n_pairs), ..AttentionCase::new() }.check(&format!("{style:?}, {n_pairs} pairs"));
        }
    }
}

#[test]
fn head_norms_come_before_the_rotation() {
    AttentionCase { head_norms: true, chunks: &[40, 30], ..AttentionCase::new() }.check("head norms");
}

#[test]
fn windows_and_softcaps_limit_what_is_seen() {
    for (window, softcap) in
        [(Some(1), None), (Some(33), None), (Some(500), None), (Some(u32::MAX), None), (None, Some(0.7)), (Some(9), Some(0.7))]
    {
        let attention = Attention { scale: 0.9, softcap, window };
        AttentionCase { attention, chunks: &[50, 1, 19], ..AttentionCase::new() }.check(&format!("{attention:?}"));
    }
}

#[test]
fn half_precision_is_only_in_the_storage() {
    // Without rotation the stored values are exactly the rounded inputs, so nothing else may differ.
    let case = AttentionCase { rope: rope(RopeStyle::Halves, 0), kind: KvType::F16, chunks: &[33, 37], ..AttentionCase::new() };
    case.check("f16");
    // With it, a key may round to the other neighbour: 2^-11 of its value.
    AttentionCase { rope: rope(RopeStyle::Interleaved, 12), tolerance: 5e-4, ..case }.check("f16, rotated");
}

#[test]
fn kv_grows_around_what_it_holds() {
    let run = |sizes: [usize; 2]| {
        let case = AttentionCase { chunks: &[20, 50], ..AttentionCase::new() };
        let (mut kv, mut results) = (backend().kv(&SHAPE, KvType::F32).unwrap(), [const { Vec::new() }; 2]);
        for (size, (start, n)) in sizes.into_iter().zip([(0, 20), (20, 50)]) {
            backend().grow_kv(&mut kv, size).unwrap();
            case.pass(&mut kv, start, n, &mut results);
        }
        results
    };
    assert_eq!(run([6, 6]), run([6, 9]));
    let mut kv = backend().kv(&SHAPE, KvType::F32).unwrap();
    backend().grow_kv(&mut kv, 2).unwrap();
    for size in [usize::MAX, 1 << 40] {
        assert_eq!(backend().grow_kv(&mut kv, size).unwrap_err().kind(), ErrorKind::OutOfMemory);
    }
    let (mut batch, mut ws) = begun(3);
    [(Slot::Query, Q_WIDTH), (Slot::Key, KV_WIDTH), (Slot::Value, KV_WIDTH)]
        .into_iter()
        .for_each(|(slot, width)| ws.put(slot, rows(&noise(3 * width, 1), width)));
    batch.blocks = vec![2];
    let rope = rope(RopeStyle::Halves, 12);
    let error = backend().rope_append(&mut ws, &batch, 0, None, &rope, &mut kv).unwrap_err();
    assert!(error.message().contains("block 2 of 2"), "{error}");
}

#[test]
fn a_missing_slot_is_named() {
    let (batch, mut ws) = begun(3);
    let error = backend().embed(&mut ws, &begun(4).0, &linear(&noise(40, 1), 40, None).weight).unwrap_err();
    assert!(error.message().contains("4 rows in a pass that began with 3"), "{error}");
    let output = linear(&noise(40 * Q_WIDTH, 1), Q_WIDTH, None);
    ws.put(Slot::Query, rows(&noise(3 * Q_WIDTH, 1), Q_WIDTH));
    ws.set_residual(rows(&noise(3 * 40, 1), 40));
    backend().project_add(&mut ws, &output).unwrap();
    let error = backend().project_add(&mut ws, &output).unwrap_err(); // the first one has used it up
    assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, "candle, project_add: slot Query is empty"));
    ws.put(Slot::Gate, rows(&noise(3 * SHAPE.n_ff, 1), SHAPE.n_ff));
    let error = backend().glu(&mut ws, GateFn::Silu, &linear(&noise(40 * 100, 1), 100, None)).unwrap_err();
    assert_eq!(error.message(), "candle, glu: slot Up is empty");
    let weight = linear(&noise(40 * 50, 1), 40, None).weight;
    backend().begin(&mut ws, &batch, &rope(RopeStyle::Halves, 12)).unwrap(); // forgets the residual
    let error = backend().head(&mut ws, &batch, &norm(&noise(40, 1), 0.1), &weight, 0..50).unwrap_err();
    assert!(error.message().contains("no residual"), "{error}");
}

#[test]
fn a_batch_that_lies_is_refused() {
    type Lie = fn(&mut Batch);
    let lies: [(&str, Lie); 10] = [
        ("no rows", |b| b.clear()),
        ("rows without positions", |b| b.positions.truncate(2)),
        ("more rows than the workspace", |b| b.push(&[1; 126], 0, &[0, 1, 2, 3], false)),
        ("rows of no sequence", |b| b.sequences.clear()),
        ("rows of two sequences", |b| b.sequences.push(SequenceRows { rows: 1..3, start: 0, blocks: 0..1 })),
        ("rows past the end", |b| b.sequences[0].rows = 0..9),
        ("other positions", |b| b.positions[1] = 9),
        ("too few blocks", |b| b.sequences[0].blocks = 0..0),
        ("blocks past the end", |b| b.sequences[0].blocks = 0..2),
        ("outputs past the end", |b| b.outputs = vec![3]),
    ];
    for (what, lie) in lies {
        let (mut batch, mut ws) = begun(3);
        lie(&mut batch);
        let result = backend().begin(&mut ws, &batch, &rope(RopeStyle::Halves, 12));
        assert_eq!(result.map_err(|e| e.kind()), Err(ErrorKind::Internal), "{what}");
    }
}
