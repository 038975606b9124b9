//! Mixtures of experts: against plain loops, and what is refused.

use super::*;
use crate::backend::{Experts, Mlp, MoeShape, Routing, Scores};
use naive::Mixture;

const EXPERTS: MoeShape = MoeShape { n_experts: 40, n_used: 3, n_ff: 21 };
const ROUTING: Routing = Routing { n_used: 3, scores: Scores::Softmax, normalises: false, scale: 1.0, weighs_input: false, groups: None };

fn experts(cpu: &Cpu, mixture: &Mixture) -> Experts<Cpu> {
    Experts {
        router: linear(cpu, &mixture.router, SHAPE.n_embd, None),
        choice_bias: None,
        routing: ROUTING,
        gate: linear(cpu, &mixture.gate, SHAPE.n_embd, None),
        up: linear(cpu, &mixture.up, SHAPE.n_embd, None),
        down: linear(cpu, &mixture.down, EXPERTS.n_ff, None),
        shared: None,
        shared_gate: None,
    }
}

/// A pass over `rows` rows with this residual, in a workspace for experts.
fn pass(cpu: &Cpu, x: &[f32]) -> Workspace {
    let (batch, _) = begun(cpu, x.len() / SHAPE.n_embd);
    let mut ws = cpu.workspace(&Shape { moe: Some(EXPERTS), ..SHAPE }, 128, 8).unwrap();
    cpu.begin(&mut ws, &batch, &[rope(RopeStyle::Halves, 12)]).unwrap();
    ws.residual[..x.len()].copy_from_slice(x);
    ws
}

const SILU: FeedForwardFn = FeedForwardFn::Gated(GateFn::Silu);

#[test]
fn each_row_gets_the_weighed_sum_of_its_experts() {
    let cpu = backend();
    let mixture = Mixture::random(EXPERTS.n_experts, EXPERTS.n_used, SHAPE.n_embd, EXPERTS.n_ff);
    let (experts, scale) = (experts(&cpu, &mixture), noise(SHAPE.n_embd, 8));
    // From experts with one row to more experts in use than share a region.
    for rows in [1, 2, 31, 70] {
        let x = noise(rows * SHAPE.n_embd, rows as u64);
        let mut ws = pass(&cpu, &x);
        cpu.moe_up(&mut ws, Some(&norm(&cpu, &scale, 0.01)), &experts).unwrap();
        cpu.moe_down(&mut ws, SILU, &experts, 0.5).unwrap();
        let sums = mixture.apply(&naive::rms_norm(&widen(&x), &scale, 0.01));
        let want: Vec<f64> = widen(&x).iter().zip(sums).map(|(x, sum)| x + 0.5 * sum).collect();
        assert_close("moe", &ws.residual[..x.len()], &want, ROUNDING);
    }
}

#[test]
fn a_shared_expert_is_weighed_by_its_gate() {
    let cpu = backend();
    let mixture = Mixture::random(EXPERTS.n_experts, EXPERTS.n_used, SHAPE.n_embd, EXPERTS.n_ff);
    let (n_ff, x, gate) = (33, noise(5 * SHAPE.n_embd, 1), noise(SHAPE.n_embd, 2));
    let [g, u, d] = [3, 4, 5].map(|seed| noise(n_ff * SHAPE.n_embd, seed));
    let down = linear(&cpu, &d, n_ff, None);
    let shared = Mlp { gate: Some(linear(&cpu, &g, SHAPE.n_embd, None)), up: linear(&cpu, &u, SHAPE.n_embd, None), down };
    let experts = Experts { shared: Some(shared), shared_gate: Some(gate.clone()), ..experts(&cpu, &mixture) };
    let mut ws = pass(&cpu, &x);
    cpu.moe_up(&mut ws, None, &experts).unwrap();
    cpu.moe_down(&mut ws, SILU, &experts, 1.0).unwrap();
    let x = widen(&x);
    let hidden = naive::glu(GateFn::Silu, &naive::project(&x, &g, None, SHAPE.n_embd), &naive::project(&x, &u, None, SHAPE.n_embd));
    let (all, weights) = (naive::project(&hidden, &d, None, n_ff), naive::project(&x, &gate, None, SHAPE.n_embd));
    let sums = mixture.apply(&x);
    let want: Vec<f64> = (0..x.len()).map(|i| x[i] + sums[i] + all[i] / (1.0 + (-weights[i / SHAPE.n_embd]).exp())).collect();
    assert_close("moe", &ws.residual[..x.len()], &want, ROUNDING);
}

#[test]
fn experts_that_do_not_fit_are_refused() {
    let cpu = backend();
    let mixture = Mixture::random(EXPERTS.n_experts, EXPERTS.n_used, SHAPE.n_embd, EXPERTS.n_ff);
    let internal = |result: Result<()>| assert_eq!(result.map_err(|e| e.kind()), Err(ErrorKind::Internal));
    let fits = || experts(&cpu, &mixture);
    let mut ws = pass(&cpu, &noise(SHAPE.n_embd, 1));
    internal(cpu.moe_up(&mut ws, None, &Experts { routing: Routing { n_used: 4, ..ROUTING }, ..fits() }));
    internal(cpu.moe_up(&mut ws, None, &Experts { router: linear(&cpu, &mixture.gate, SHAPE.n_embd, None), ..fits() }));
    internal(cpu.moe_up(&mut ws, None, &Experts { down: linear(&cpu, &mixture.down, SHAPE.n_embd, None), ..fits() }));
    internal(cpu.moe_up(&mut ws, None, &Experts { choice_bias: Some(vec![0.0; 3]), ..fits() }));
    internal(cpu.moe_up(&mut begun(&cpu, 1).1, None, &fits()));
    let shape = Shape { moe: Some(MoeShape { n_used: 41, ..EXPERTS }), ..SHAPE };
    assert_eq!(cpu.workspace(&shape, 1, 1).err().unwrap().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_clamped_feed_forward_cuts_both() {
    let cpu = backend();
    let (gate, up): (Vec<f32>, Vec<f32>) =
        (noise(64, 1).iter().map(|x| 12.0 * x).collect(), noise(64, 2).iter().map(|x| 12.0 * x).collect());
    let mut out = vec![0.0; 64];
    project::activate(&cpu, FeedForwardFn::Clamped, &gate, &up, &mut out);
    let want: Vec<f64> = widen(&gate)
        .iter()
        .zip(widen(&up))
        .map(|(g, u)| (u.clamp(-7.0, 7.0) + 1.0) * g.min(7.0) / (1.0 + (-1.702 * g.min(7.0)).exp()))
        .collect();
    assert_close("clamped", &out, &want, ROUNDING);
}
