//! Attention: folded tiles against a naive softmax in f64; what a query may not see is never read; queries do not feel each other.

use super::{Random, bits, sets};
use crate::kernels::{AttendParams, KV_GROUP, Kernels, KvTile, KvType, SoftmaxState, TILE_TOKENS};

/// Keys and values of a sequence, and queries that each see a range of it.
struct Case {
    params: AttendParams,
    kind: KvType,
    /// `(n_queries, head_dim)`
    q: Vec<f32>,
    /// `(n_tokens, head_dim)`
    keys: Vec<f32>,
    /// `(n_tokens, head_dim)`
    values: Vec<f32>,
    /// `(n_queries,)`: tokens of the sequence.
    visible: Vec<(usize, usize)>,
}

impl Case {
    fn random(random: &mut Random, head_dim: usize, n_tokens: usize, visible: Vec<(usize, usize)>) -> Self {
        let kinds = [KvType::F32, KvType::F16, KvType::Q8_0];
        let kind = kinds[random.below(if head_dim.is_multiple_of(KV_GROUP) { 3 } else { 2 })];
        let softcap = [None, Some(5.0)][random.below(2)];
        let scale = 4.0 / (head_dim as f32).sqrt();
        // Values that the cache holds exactly, so that all kinds have one truth.
        let rounded = |x: Vec<f32>| match kind {
            KvType::Q8_0 => x.chunks(KV_GROUP).flat_map(as_q8_0).collect(),
            _ => x.into_iter().map(|x| half::f16::from_f32(x).to_f32()).collect(),
        };
        Self {
            params: AttendParams { head_dim, scale, softcap },
            kind,
            q: random.floats(visible.len() * head_dim),
            keys: rounded(random.floats(n_tokens * head_dim)),
            values: rounded(random.floats(n_tokens * head_dim)),
            visible,
        }
    }

    /// The queries `rows` folded over all tiles: `(rows, head_dim)`, not yet divided by the sums, then maxima and sums.
    fn fold(&self, set: &dyn Kernels, rows: std::ops::Range<usize>) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (n, n_rows) = (self.params.head_dim, rows.len());
        let mut state = (vec![0.0; n_rows * n], vec![f32::NEG_INFINITY; n_rows], vec![0.0; n_rows]);
        let q = &self.q[rows.start * n..rows.end * n];
        let chunk = TILE_TOKENS * n;
        for (t, (keys, values)) in self.keys.chunks(chunk).zip(self.values.chunks(chunk)).enumerate() {
            let in_tile = |p: usize| p.saturating_sub(t * TILE_TOKENS).min(keys.len() / n) as u32;
            let visible: Vec<_> = self.visible[rows.clone()].iter().map(|v| (in_tile(v.0), in_tile(v.1))).collect();
            let (keys, values) = stored(set, self.kind, n, keys, values);
            let tile = KvTile { keys: &keys, values: &values, kind: self.kind };
            let mut state = SoftmaxState { acc: &mut state.0, max: &mut state.1, sum: &mut state.2 };
            set.attend(&self.params, q, tile, Some(tile), &visible, &mut state);
        }
        state
    }

    /// The definition, in f64.
    fn naive(&self, row: usize) -> Vec<f64> {
        let n = self.params.head_dim;
        let tokens = self.visible[row].0..self.visible[row].1;
        let scores = tokens.clone().map(|t| self.naive_score(row, t)).collect::<Vec<_>>();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        let value = |t: usize, i: usize| f64::from(self.values[t * n + i]);
        (0..n).map(|i| tokens.clone().zip(&scores).map(|(t, s)| (s - max).exp() / sum * value(t, i)).sum()).collect()
    }

    fn naive_score(&self, row: usize, token: usize) -> f64 {
        let n = self.params.head_dim;
        let (q, key) = (&self.q[row * n..(row + 1) * n], &self.keys[token * n..(token + 1) * n]);
        let score = q.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>() * f64::from(self.params.scale);
        self.params.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
    }

    fn check(&self, set: &dyn Kernels) {
        let n = self.params.head_dim;
        let (acc, max, sum) = self.fold(set, 0..self.visible.len());
        for (row, acc) in acc.chunks(n).enumerate() {
            if self.visible[row].0 >= self.visible[row].1 {
                assert!(acc.iter().all(|x| *x == 0.0) && max[row] == f32::NEG_INFINITY && sum[row] == 0.0, "an empty row changed");
                continue;
            }
            for (out, expected) in acc.iter().zip(self.naive(row)) {
                let out = f64::from(out / sum[row]);
                assert!((out - expected).abs() < 3e-6, "{} n = {n} row {row} {:?}: {out}, not {expected}", set.name(), self.visible[row]);
            }
        }
    }
}

/// A group of elements as Q8_0 holds it.
fn as_q8_0(group: &[f32]) -> Vec<f32> {
    let largest = group.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let scale = half::f16::from_f32(largest / 127.0).to_f32();
    group.iter().map(|x| (x / scale).round_ties_even().clamp(-127.0, 127.0) * scale).collect()
}

/// A tile with these keys and values, `(tokens, head_dim)`; NaN where it has none.
fn stored(set: &dyn Kernels, kind: KvType, head_dim: usize, keys: &[f32], values: &[f32]) -> (Vec<u8>, Vec<u8>) {
    let empty = vec![0xff; TILE_TOKENS * kind.row_bytes(head_dim).unwrap()];
    let (mut key_bytes, mut value_bytes) = (empty.clone(), empty);
    for (token, (key, value)) in keys.chunks(head_dim).zip(values.chunks(head_dim)).enumerate() {
        set.store_key(kind, key, &mut key_bytes, token);
        set.store_value(kind, value, &mut value_bytes, token);
    }
    (key_bytes, value_bytes)
}

/// Causal prefill of `n_tokens`: query `i` sees what is before it, in a window if there is one.
fn causal(n_tokens: usize, window: usize) -> Vec<(usize, usize)> {
    (0..n_tokens).map(|i| ((i + 1).saturating_sub(window), i + 1)).collect()
}

#[test]
fn every_head_size_agrees_with_the_definition() {
    let mut random = Random(1);
    for head_dim in (1..=70).chain([80, 96, 128, 256]) {
        let case = Case::random(&mut random, head_dim, 75, vec![(0, 75), (0, 75), (3, 40), (0, 1), (74, 75), (5, 5)]);
        sets().for_each(|set| case.check(set));
    }
}

#[test]
fn causal_and_windowed_prefill_agree_with_the_definition() {
    let mut random = Random(2);
    for window in [1, 7, 32, 33, 1000] {
        let case = Case::random(&mut random, 64, 100, causal(100, window));
        sets().for_each(|set| case.check(set));
    }
}

/// Groups of every size, from one query to more than share a read.
#[test]
fn every_number_of_queries_agrees_with_the_definition() {
    let mut random = Random(3);
    for n_queries in 1..=9 {
        let case = Case::random(&mut random, 48, 40, vec![(2, 39); n_queries]);
        sets().for_each(|set| case.check(set));
    }
}

#[test]
fn a_query_does_not_feel_its_neighbours() {
    let mut random = Random(4);
    let mut visible = causal(40, 20);
    visible.extend([(0, 40); 11]);
    for (n, kind) in [(64, KvType::F16), (64, KvType::Q8_0), (72, KvType::F32), (72, KvType::F16)] {
        let case = Case { kind, ..Case::random(&mut random, n, 40, visible.clone()) };
        let case = Case { params: AttendParams { softcap: None, ..case.params }, ..case };
        for set in sets() {
            let (acc, max, sum) = case.fold(set, 0..visible.len());
            for row in 0..visible.len() {
                let alone = case.fold(set, row..row + 1);
                let together = (&acc[row * n..(row + 1) * n], &max[row..=row], &sum[row..=row]);
                let (alone, together) = ([&alone.0[..], &alone.1, &alone.2], [together.0, together.1, together.2]);
                assert_eq!(alone.map(bits), together.map(bits), "{} row {row} of {n}", set.name());
            }
        }
    }
}

/// Memory behind the last token, or before the window, may hold anything.
#[test]
fn what_is_masked_is_not_read_into_the_result() {
    let mut random = Random(5);
    for head_dim in [8, 13, 64] {
        let clean = Case::random(&mut random, head_dim, 64, vec![(10, 45), (10, 45), (11, 45)]);
        let mut dirty =
            Case { keys: clean.keys.clone(), values: clean.values.clone(), q: clean.q.clone(), visible: clean.visible.clone(), ..clean };
        for token in (0..10).chain(45..64) {
            dirty.keys[token * head_dim..(token + 1) * head_dim].fill(f32::NAN);
            dirty.values[token * head_dim..(token + 1) * head_dim].fill(f32::INFINITY);
        }
        for set in sets() {
            assert_eq!(bits(&dirty.fold(set, 0..3).0), bits(&clean.fold(set, 0..3).0), "{}", set.name());
        }
    }
}

#[test]
#[should_panic(expected = "tokens outside")]
fn tokens_outside_the_tile_are_refused() {
    let tile = KvTile { keys: &[0; 512], values: &[0; 512], kind: KvType::F16 };
    let params = AttendParams { head_dim: 8, scale: 1.0, softcap: None };
    let (mut acc, mut max, mut sum) = ([0.0; 8], [0.0], [0.0]);
    let mut state = SoftmaxState { max: &mut max, sum: &mut sum, acc: &mut acc };
    super::select(None).unwrap().attend(&params, &[0.0; 8], tile, None, &[(0, 33)], &mut state);
}
