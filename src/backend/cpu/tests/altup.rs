//! The stages of a model with several residual streams against the formulas, and that a row's bits are its own.

use super::*;
use crate::backend::{Altup, AltupShape, StreamStage, Streams};
use naive::altup::{self, EPS, Token};

const STREAMS: AltupShape = AltupShape { n_streams: 3, active: 1, n_per_layer: 13, n_layers: 2, rank: 5 };
const WITH_STREAMS: Shape = Shape { altup: Some(STREAMS), ..SHAPE };
const N_EMBD: usize = SHAPE.n_embd;
/// Fewer than tokens.
const N_TABLE: usize = 40;

/// The weights on the backend.
struct Model {
    streams: Streams<Cpu>,
    altup: Altup<Cpu>,
    norm: Norm<Cpu>,
}

impl Model {
    fn new(cpu: &Cpu, w: &altup::Streams) -> Self {
        let linear = |weight: &[f32], n_in: usize| linear(cpu, weight, n_in, None);
        let norm = |weight: &[f32]| norm(cpu, weight, EPS as f32);
        Self {
            streams: Streams {
                spread: linear(&w.spread, N_EMBD),
                merge: linear(&w.merge, N_EMBD),
                table: cpu.table(host(&w.table, STREAMS.n_inputs())).unwrap(),
                inputs: linear(&w.inputs, N_EMBD),
                inputs_norm: norm(&w.inputs_norm),
            },
            altup: Altup {
                router_norm: norm(&w.router_norm),
                router: w.router.clone(),
                predict: w.predict.clone(),
                correct: w.correct.clone(),
                output_scale: w.output_scale.clone(),
                laurel_left: linear(&w.laurel_left, N_EMBD),
                laurel_right: linear(&w.laurel_right, STREAMS.rank),
                laurel_norm: norm(&w.laurel_norm),
                gate: linear(&w.gate, N_EMBD),
                output: linear(&w.output, STREAMS.n_per_layer),
                output_norm: norm(&w.output_norm),
                f: GateFn::GeluTanh,
            },
            norm: norm(&attention_norm()),
        }
    }
}

fn attention_norm() -> Vec<f32> {
    noise(N_EMBD, 200)
}

/// Rows of tokens, `0..SHAPE.n_vocab`, all with outputs.
fn batch(tokens: &[u32]) -> Batch {
    let mut batch = Batch::default();
    batch.push_rows(tokens, 0, &[0, 1, 2], tokens.len());
    batch
}

/// All stages in order, over two layers without attention or feed-forward; the residual after each one, `(rows, n_embd)`.
fn residuals(cpu: &Cpu, tokens: &[u32]) -> Vec<Vec<f32>> {
    let model = Model::new(cpu, &altup::Streams::random(STREAMS, N_EMBD, N_TABLE));
    let embedding = cpu.matrix(host(&noise(SHAPE.n_vocab * N_EMBD, 1), N_EMBD)).unwrap();
    let (batch, mut residuals) = (batch(tokens), Vec::new());
    let mut ws = cpu.workspace(&WITH_STREAMS, 96, 96).unwrap();
    cpu.begin(&mut ws, &batch, &[]).unwrap();
    cpu.embed(&mut ws, &batch, &embedding, 1.0).unwrap();
    let mut run = |stage| {
        cpu.streams(&mut ws, &batch, stage).unwrap();
        residuals.push(ws.residual[..tokens.len() * N_EMBD].to_vec());
    };
    run(StreamStage::Spread(&model.streams));
    for layer in 0..STREAMS.n_layers {
        run(StreamStage::Predict(&model.altup));
        run(StreamStage::Laurel(&model.altup, &model.norm));
        run(StreamStage::Correct(&model.altup, layer));
    }
    run(StreamStage::Merge(&model.streams));
    residuals
}

/// The same by the formulas.
fn naive_residuals(tokens: &[u32]) -> Vec<Vec<f64>> {
    let weights = altup::Streams::random(STREAMS, N_EMBD, N_TABLE);
    let embedding = noise(SHAPE.n_vocab * N_EMBD, 1);
    let row = |&token: &u32| {
        let mut residual = widen(&embedding[token as usize * N_EMBD..][..N_EMBD]);
        let mut state: Token = weights.spread(&residual, token as usize);
        let mut residuals = vec![residual.clone()];
        for layer in 0..STREAMS.n_layers {
            residuals.push(weights.predict(&mut state));
            residual = weights.laurel(residuals.last().unwrap(), &attention_norm());
            residuals.push(residual.clone());
            weights.correct(&mut state, &residual, layer);
            residuals.push(residual.clone());
        }
        residuals.push(weights.merge(&state));
        residuals
    };
    let rows: Vec<Vec<Vec<f64>>> = tokens.iter().map(row).collect();
    (0..rows[0].len()).map(|stage| rows.iter().flat_map(|row| row[stage].clone()).collect()).collect()
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 17 + 3) % SHAPE.n_vocab as u32).collect()
}

#[test]
fn streams_are_spread_predicted_corrected_and_merged() {
    for n in [1, 2, 5, 33, 70] {
        let tokens = tokens(n);
        for (stage, (got, want)) in residuals(&backend(), &tokens).iter().zip(naive_residuals(&tokens)).enumerate() {
            assert_close(&format!("{n} rows, stage {stage}"), got, &want, 5e-6);
        }
    }
}

#[test]
fn a_row_is_the_same_beside_others_and_on_any_number_of_threads() {
    let tokens = tokens(70);
    for kernels in kernels::available() {
        let kernels = kernels::select(Some(kernels)).unwrap();
        let all = residuals(&backend_of(1, kernels), &tokens);
        assert_eq!(all, residuals(&backend_of(4, kernels), &tokens));
        for row in [0, 1, 37, 69] {
            let alone = residuals(&backend_of(3, kernels), &tokens[row..row + 1]);
            for (all, alone) in all.iter().zip(alone) {
                assert_eq!(all[row * N_EMBD..][..N_EMBD], alone);
            }
        }
    }
}

#[test]
fn a_model_of_one_residual_has_no_streams() {
    let cpu = backend();
    let model = Model::new(&cpu, &altup::Streams::random(STREAMS, N_EMBD, N_TABLE));
    let (batch, mut ws) = begun(&cpu, 3);
    let e = cpu.streams(&mut ws, &batch, StreamStage::Predict(&model.altup)).unwrap_err();
    assert_eq!((e.kind(), e.message()), (ErrorKind::Internal, "cpu, streams: a workspace that was made for one residual"));
    for wrong in [AltupShape { active: 3, ..STREAMS }, AltupShape { n_streams: 17, ..STREAMS }, AltupShape { rank: 0, ..STREAMS }] {
        assert!(cpu.workspace(&Shape { altup: Some(wrong), ..SHAPE }, 4, 1).is_err(), "{wrong:?}");
    }
}

#[test]
fn values_are_normalised_and_a_query_turns_alone() {
    let cpu = backend();
    let slots = [noise(3 * Q_WIDTH, 1), noise(3 * KV_WIDTH, 2), noise(3 * KV_WIDTH, 3)];
    let weights = [4, 5, 6].map(|seed| noise(SHAPE.head_dim, seed));
    let norms = weights.each_ref().map(|weight| norm(&cpu, weight, 0.01));
    let (batch, mut ws) = begun(&cpu, 3);
    let fill = |ws: &mut Workspace| slots.iter().zip(&mut ws.slots).for_each(|(from, to)| to[..from.len()].copy_from_slice(from));
    fill(&mut ws);
    let mut kv = cpu.kv(&SHAPE, KvType::F32).unwrap();
    cpu.grow_kv(&mut kv, 1).unwrap();
    let head_norms = HeadNorms { query: &norms[0], key: &norms[1], value: Some(&norms[2]) };
    cpu.rope_append(&mut ws, &batch, 0, Some(head_norms), Some(0), &mut kv).unwrap();
    let turned = ws.slots[0].clone();
    // With all weight on itself, attention gives the first token its value.
    cpu.attend(&mut ws, &batch, 0, &Attention::plain(1.0), None, &kv).unwrap();
    let value = naive::rms_norm(&widen(&slots[2][..KV_WIDTH]), &weights[2], 0.01);
    let group = SHAPE.n_heads / SHAPE.n_kv_heads * SHAPE.head_dim;
    for (heads, value) in ws.slots[0][..Q_WIDTH].chunks(group).zip(value.chunks(SHAPE.head_dim)) {
        heads.chunks(SHAPE.head_dim).for_each(|head| assert_close("value", head, value, ROUNDING));
    }
    fill(&mut ws);
    cpu.rope_query(&mut ws, &batch, Some(&norms[0]), Some(0)).unwrap();
    assert_eq!(ws.slots[0], turned);
}
