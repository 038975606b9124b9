//! Mixtures of experts against plain loops.

use super::*;
use crate::backend::{MoeShape, Routing, Scores};
use naive::Mixture;

const EXPERTS: MoeShape = MoeShape { n_experts: 9, n_used: 3, n_ff: 21 };

#[test]
fn each_row_gets_the_weighed_sum_of_its_experts() {
    let mixture = Mixture::random(EXPERTS.n_experts, EXPERTS.n_used, SHAPE.n_embd, EXPERTS.n_ff);
    let experts = Experts {
        router: linear(&mixture.router, SHAPE.n_embd, None),
        choice_bias: None,
        routing: Routing { n_used: 3, scores: Scores::Softmax, normalises: false, scale: 1.0, weighs_input: false, groups: None },
        gate: linear(&mixture.gate, SHAPE.n_embd, None),
        up: linear(&mixture.up, SHAPE.n_embd, None),
        down: linear(&mixture.down, EXPERTS.n_ff, None),
        shared: None,
        shared_gate: None,
    };
    let scale = noise(SHAPE.n_embd, 8);
    for n_rows in [1, 2, 31] {
        let x = noise(n_rows * SHAPE.n_embd, n_rows as u64);
        let (_, mut ws) = begun(n_rows);
        ws.set_residual(rows(&x, SHAPE.n_embd));
        backend().moe_up(&mut ws, Some(&norm(&scale, 0.01)), &experts).unwrap();
        backend().moe_down(&mut ws, FeedForwardFn::Gated(GateFn::Silu), &experts, 0.5).unwrap();
        let sums = mixture.apply(&naive::rms_norm(&widen(&x), &scale, 0.01));
        let want: Vec<f64> = widen(&x).iter().zip(sums).map(|(x, sum)| x + 0.5 * sum).collect();
        assert_close("moe", &values(ws.residual("test").unwrap()), &want, ROUNDING);
    }
}
