//! What only some families need of a stage: other norms, none, joins, plain feed-forwards, heads that do not rotate.

use super::*;
use crate::backend::FeedForwardFn;

/// `(x - mean) / sqrt(var + eps) * weight + bias`
fn layer_norm(x: &[f64], weight: &[f32], bias: &[f32], eps: f64) -> Vec<f64> {
    let row = |x: &[f64]| -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let scaled = x.iter().map(|x| (x - mean) / (variance + eps).sqrt());
        scaled.zip(weight).zip(bias).map(|((x, &w), &b)| x * f64::from(w) + f64::from(b)).collect()
    };
    x.chunks(weight.len()).flat_map(row).collect()
}

fn with_residual(cpu: &Cpu, x: &[f32]) -> (Batch, Workspace) {
    let (batch, mut ws) = begun(cpu, x.len() / SHAPE.n_embd);
    ws.residual[..x.len()].copy_from_slice(x);
    (batch, ws)
}

#[test]
fn a_layer_norm_moves_the_mean_and_no_norm_leaves_the_residual() {
    let cpu = backend();
    let (x, weight, bias) = (noise(5 * SHAPE.n_embd, 1), noise(SHAPE.n_embd, 2), noise(SHAPE.n_embd, 3));
    let key = noise(KV_WIDTH * SHAPE.n_embd, 4);
    let linear = linear(&cpu, &key, SHAPE.n_embd, None);
    let norm = Norm { bias: Some(cpu.vector(host(&bias, bias.len())).unwrap()), kind: NormKind::Layer, ..norm(&cpu, &weight, 0.01) };
    for (norm, input) in [(Some(&norm), layer_norm(&widen(&x), &weight, &bias, 0.01)), (None, widen(&x))] {
        let (_, mut ws) = with_residual(&cpu, &x);
        cpu.norm_project(&mut ws, norm, &[(Slot::Key, &linear)]).unwrap();
        let want = naive::project(&input, &key, None, SHAPE.n_embd);
        assert_close("key", &ws.slots[Slot::Key as usize][..5 * KV_WIDTH], &want, ROUNDING);
    }
}

#[test]
fn a_join_normalises_and_scales_what_is_added() {
    let cpu = backend();
    let (x, query, weight) = (noise(5 * SHAPE.n_embd, 1), noise(5 * Q_WIDTH, 2), noise(SHAPE.n_embd, 3));
    let o = noise(SHAPE.n_embd * Q_WIDTH, 4);
    let product = naive::project(&widen(&query), &o, None, Q_WIDTH);
    let normed = naive::rms_norm(&product, &weight, 0.01);
    let joins = [
        (Join { norm: None, scale: 0.25 }, &product, 0.25),
        (Join { norm: Some(norm(&cpu, &weight, 0.01)), scale: 1.0 }, &normed, 1.0),
        (Join { norm: Some(norm(&cpu, &weight, 0.01)), scale: -3.0 }, &normed, -3.0),
    ];
    for (join, added, scale) in joins {
        let (_, mut ws) = with_residual(&cpu, &x);
        ws.slots[Slot::Query as usize][..query.len()].copy_from_slice(&query);
        cpu.project_add(&mut ws, &linear(&cpu, &o, Q_WIDTH, None), &join).unwrap();
        let want: Vec<f64> = widen(&x).iter().zip(added).map(|(x, y)| x + scale * y).collect();
        assert_close("residual", &ws.residual[..x.len()], &want, ROUNDING);
    }
}

#[test]
fn a_plain_feed_forward_has_no_gate() {
    let cpu = backend();
    let (x, up) = (noise(5 * SHAPE.n_embd, 1), noise(5 * SHAPE.n_ff, 2));
    let down = noise(SHAPE.n_embd * SHAPE.n_ff, 3);
    for f in [GateFn::Silu, GateFn::GeluTanh, GateFn::GeluErf, GateFn::Relu2] {
        let (_, mut ws) = with_residual(&cpu, &x);
        ws.slots[Slot::Gate as usize].fill(f32::NAN); // must not be read
        ws.slots[Slot::Up as usize][..up.len()].copy_from_slice(&up);
        cpu.glu(&mut ws, FeedForwardFn::Plain(f), &linear(&cpu, &down, SHAPE.n_ff, None), &Join::default()).unwrap();
        let hidden = naive::glu(f, &widen(&up), &vec![1.0; up.len()]);
        let product = naive::project(&hidden, &down, None, SHAPE.n_ff);
        let want: Vec<f64> = widen(&x).iter().zip(product).map(|(x, y)| x + y).collect();
        assert_close("residual", &ws.residual[..x.len()], &want, ROUNDING);
    }
}

#[test]
fn heads_may_be_normalised_together_and_rotate_by_one_of_several_ropes_or_not() {
    let cpu = backend();
    let (query, key) = (noise(3 * Q_WIDTH, 1), noise(3 * KV_WIDTH, 2));
    let (q_weight, k_weight) = (noise(Q_WIDTH, 3), noise(KV_WIDTH, 4));
    let ropes = [rope(RopeStyle::Halves, 12), rope(RopeStyle::Interleaved, 5)];
    for which in [None, Some(0), Some(1)] {
        let (batch, mut ws) = begun(&cpu, 3);
        cpu.begin(&mut ws, &batch, &ropes).unwrap();
        ws.slots[Slot::Query as usize][..query.len()].copy_from_slice(&query);
        ws.slots[Slot::Key as usize][..key.len()].copy_from_slice(&key);
        let mut kv = cpu.kv(&SHAPE, KvType::F32).unwrap();
        cpu.grow_kv(&mut kv, 1).unwrap();
        let norms = (norm(&cpu, &q_weight, 0.01), norm(&cpu, &k_weight, 0.01));
        cpu.rope_append(&mut ws, &batch, 0, Some(HeadNorms { query: &norms.0, key: &norms.1, value: None }), which, &mut kv).unwrap();
        let mut want = naive::rms_norm(&widen(&query), &q_weight, 0.01);
        if let Some(which) = which {
            let heads = want.chunks_mut(SHAPE.head_dim).enumerate();
            heads.for_each(|(i, head)| naive::rotate(head, (i / SHAPE.n_heads) as u32, &ropes[which]));
        }
        assert_close("query", &ws.slots[Slot::Query as usize][..query.len()], &want, ROUNDING);
        let e = cpu.rope_append(&mut ws, &batch, 0, None, Some(2), &mut kv).unwrap_err();
        assert_eq!(e.message(), "cpu, rope_append: rope 2 in a pass that began with 2");
    }
}

#[test]
fn embed_scales() {
    let cpu = backend();
    let table = noise(SHAPE.n_vocab * SHAPE.n_embd, 1);
    let (batch, mut ws) = begun(&cpu, 2);
    cpu.embed(&mut ws, &batch, &cpu.matrix(host(&table, SHAPE.n_embd)).unwrap(), 3.0).unwrap();
    let row: Vec<f32> = table[7 * SHAPE.n_embd..][..SHAPE.n_embd].iter().map(|x| 3.0 * x).collect();
    assert_eq!(ws.residual[..2 * SHAPE.n_embd], [&row[..], &row].concat());
}
