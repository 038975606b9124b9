//! Forward passes by hand: which rows of which sequences run together, over which KV blocks, is the test's choice.

use inference::backend::{BLOCK_TOKENS, BlockId};
use inference::model::{Forward, Pass, Progress};
use std::sync::Arc;

/// One sequence: its tokens, its KV blocks, and the logits of every position computed so far.
pub struct Lane {
    tokens: Vec<u32>,
    blocks: Vec<BlockId>,
    n_computed: usize,
    /// `(n_computed, n_vocab)`
    pub logits: Vec<f32>,
}

impl Lane {
    /// Lane `index` of `n_lanes`. Its blocks lie scattered between those of the others, last one first: nothing may depend on their order.
    pub fn new(tokens: &[u32], index: usize, n_lanes: usize) -> Self {
        let n_blocks = tokens.len().div_ceil(BLOCK_TOKENS);
        let blocks = (0..n_blocks).rev().map(|i| (i * n_lanes + index) as BlockId).collect();
        Self { tokens: tokens.to_vec(), blocks, n_computed: 0, logits: Vec::new() }
    }

    /// Tokens that wait to be computed.
    pub fn n_queued(&self) -> usize {
        self.tokens.len() - self.n_computed
    }
}

/// Computes the next `counts[i]` tokens of lane `i`, for all lanes in one pass.
pub fn run(model: &Arc<dyn Forward>, lanes: &mut [Lane], counts: &[usize]) {
    let n_rows: usize = counts.iter().sum();
    let mut pass = model.clone().new_pass(n_rows, n_rows).unwrap();
    pass.begin(&mut |batch| {
        for (lane, &n) in lanes.iter().zip(counts).filter(|(_, n)| **n > 0) {
            let rows = lane.n_computed..lane.n_computed + n;
            batch.push(&lane.tokens[rows.clone()], rows.start, &lane.blocks[..rows.end.div_ceil(BLOCK_TOKENS)], false);
        }
        batch.outputs = (0..n_rows).collect();
    })
    .unwrap();
    while pass.advance().unwrap() == Progress::Running {}
    collect(&*pass, model.spec().shape.n_vocab, lanes, counts);
}

fn collect(pass: &dyn Pass, n_vocab: usize, lanes: &mut [Lane], counts: &[usize]) {
    let mut output = 0;
    let mut row = vec![0.0; n_vocab];
    for (lane, &n) in lanes.iter_mut().zip(counts) {
        for _ in 0..n {
            pass.logits(output, &mut row).unwrap();
            lane.logits.extend_from_slice(&row);
            output += 1;
        }
        lane.n_computed += n;
    }
}

/// The logits at every position of `tokens`, `(tokens.len(), n_vocab)`, computed `chunk` tokens at a time.
pub fn prefill(model: &Arc<dyn Forward>, tokens: &[u32], chunk: usize) -> Vec<f32> {
    model.grow_kv(tokens.len().div_ceil(BLOCK_TOKENS)).unwrap();
    let mut lanes = [Lane::new(tokens, 0, 1)];
    while lanes[0].n_queued() > 0 {
        let n = chunk.min(lanes[0].n_queued());
        run(model, &mut lanes, &[n]);
    }
    let [lane] = lanes;
    lane.logits
}
