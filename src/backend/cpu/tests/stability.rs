//! The promise of the backend as a whole: logits of a small decoder, bit for bit, however the work is divided.

use super::*;
use crate::backend::{Experts, MoeShape, Routing, Scores};

/// Sizes that every weight type can store, and that no tile divides.
const SHAPE: Shape = Shape {
    n_layers: 1,
    n_embd: 256,
    n_heads: 4,
    n_kv_heads: 2,
    head_dim: 64,
    n_ff: 256,
    moe: Some(EXPERTS),
    altup: None,
    latent: None,
    n_vocab: 100,
};
const EXPERTS: MoeShape = MoeShape { n_experts: 5, n_used: 2, n_ff: 256 };
const N_TOKENS: usize = 40;

/// A decoder of one layer, which has a feed-forward and a mixture of experts.
struct Tiny {
    cpu: Cpu,
    table: Matrix,
    norm: Norm<Cpu>,
    /// Query, Key, Value, Gate, Up.
    into: [(Slot, Linear<Cpu>); 5],
    output: Linear<Cpu>,
    down: Linear<Cpu>,
    experts: Experts<Cpu>,
    rope: Rope,
}

impl Tiny {
    fn new(n_threads: usize, kernels: &'static dyn Kernels, dtype: DType) -> Self {
        let cpu = backend_of(n_threads, kernels);
        let matrix = |n_out, n_in, seed| cpu.matrix(packed(dtype, n_out, n_in, seed)).unwrap();
        let linear = |n_out, n_in, seed| Linear { weight: matrix(n_out, n_in, seed), bias: None };
        let slots = [Slot::Query, Slot::Key, Slot::Value, Slot::Gate, Slot::Up];
        Self {
            table: matrix(SHAPE.n_vocab, SHAPE.n_embd, 1),
            norm: norm(&cpu, &noise(SHAPE.n_embd, 2), 1e-5),
            into: slots.map(|slot| (slot, linear(SHAPE.width(slot), SHAPE.n_embd, 3 + slot as u64))),
            output: linear(SHAPE.n_embd, SHAPE.width(Slot::Query), 10),
            down: linear(SHAPE.n_embd, SHAPE.n_ff, 11),
            experts: Experts {
                router: linear(EXPERTS.n_experts, SHAPE.n_embd, 12),
                choice_bias: None,
                routing: Routing { n_used: 2, scores: Scores::Softmax, normalises: true, scale: 1.0, weighs_input: false, groups: None },
                gate: linear(EXPERTS.n_experts * EXPERTS.n_ff, SHAPE.n_embd, 13),
                up: linear(EXPERTS.n_experts * EXPERTS.n_ff, SHAPE.n_embd, 14),
                down: linear(EXPERTS.n_experts * SHAPE.n_embd, EXPERTS.n_ff, 15),
                shared: None,
                shared_gate: None,
            },
            rope: rope(RopeStyle::Interleaved, 32),
            cpu,
        }
    }

    fn forward(&self, ws: &mut Workspace, batch: &Batch, kv: &mut Kv) {
        let (cpu, into) = (&self.cpu, self.into.each_ref().map(|(slot, linear)| (*slot, linear)));
        let attention = Attention::plain(0.125);
        cpu.begin(ws, batch, std::slice::from_ref(&self.rope)).unwrap();
        cpu.embed(ws, batch, &self.table, 1.0).unwrap();
        for layer in 0..SHAPE.n_layers {
            cpu.norm_project(ws, Some(&self.norm), &into[..3]).unwrap();
            cpu.rope_append(ws, batch, layer, None, Some(0), kv).unwrap();
            cpu.attend(ws, batch, layer, &attention, None, kv).unwrap();
            cpu.project_add(ws, &self.output, &Join::default()).unwrap();
            cpu.norm_project(ws, Some(&self.norm), &into[3..]).unwrap();
            cpu.glu(ws, FeedForwardFn::Gated(GateFn::Silu), &self.down, &Join::default()).unwrap();
            cpu.moe_up(ws, Some(&self.norm), &self.experts).unwrap();
            cpu.moe_down(ws, FeedForwardFn::Gated(GateFn::Silu), &self.experts, 1.0).unwrap();
        }
        for vocab in [0..30, 30..SHAPE.n_vocab] {
            cpu.head(ws, batch, &self.norm, &self.table, vocab).unwrap();
        }
    }

    /// The bits of the logits at the end of every chunk's last token, for the sequence of that many rows; `beside` others run along.
    fn run(&self, chunks: &[usize], beside: usize) -> Vec<Vec<u32>> {
        let mut kv = self.cpu.kv(&SHAPE, KvType::F16).unwrap();
        self.cpu.grow_kv(&mut kv, 3 * (beside + 1)).unwrap();
        let mut ws = self.cpu.workspace(&SHAPE, N_TOKENS + beside, 1 + beside).unwrap();
        let tokens: Vec<u32> = (0..N_TOKENS as u32).map(|i| i * 37 % 100).collect();
        let (mut start, mut all) = (0, Vec::new());
        for (pass, &n) in chunks.iter().enumerate() {
            let mut batch = Batch::default();
            for i in 0..beside {
                let first = 3 * (i as BlockId + 1);
                batch.push(&[(i * 11 + pass) as u32 % 100], pass, &[first, first + 1, first + 2], true);
            }
            batch.push(&tokens[start..start + n], start, &[2, 0, 1], true);
            self.forward(&mut ws, &batch, &mut kv);
            let mut logits = vec![0.0; SHAPE.n_vocab];
            self.cpu.logits(&ws, beside, &mut logits).unwrap();
            assert!(logits.iter().all(|x| x.is_finite()) && logits.iter().any(|x| *x != logits[0]));
            all.push(logits.iter().map(|x| x.to_bits()).collect());
            start += n;
        }
        all
    }
}

/// All weight types, threads 1..=4, chunks, and up to 63 other sequences.
fn check(kernels: &'static dyn Kernels) {
    for dtype in DType::ALL {
        let one_by_one = Tiny::new(1, kernels, dtype).run(&[1; N_TOKENS], 0);
        for (n_threads, beside, chunks) in [(1, 0, &[40][..]), (2, 0, &[7; 5]), (3, 0, &[32, 8]), (4, 7, &[1; 10]), (2, 63, &[5, 1, 34])] {
            let got = Tiny::new(n_threads, kernels, dtype).run(chunks, beside);
            let mut end = 0;
            for (got, n) in got.iter().zip(chunks) {
                end += n;
                let what = format!("{}, {}, {n_threads} threads, {beside} beside", kernels.name(), dtype.name());
                assert!(*got == one_by_one[end - 1], "{what}: logits after {end} tokens of chunks {chunks:?}");
            }
        }
    }
}

#[test]
fn logits_are_the_same_bits_with_every_kernel_set() {
    kernels::available().into_iter().for_each(|name| check(kernels::select(Some(name)).unwrap()));
}
