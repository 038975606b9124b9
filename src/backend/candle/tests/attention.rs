//! `rope_append` and `attend` over two sequences at once, in chunks and scattered blocks.

use super::*;
use crate::backend::naive::{self, assert_close, noise, widen};
use crate::backend::{BlockId, Sight, Temperature};

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
        let attention = Attention::plain(0.2);
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
        backend().begin(&mut ws, &batch, std::slice::from_ref(&self.rope)).unwrap();
        for (which, slot, width) in [(0, Slot::Query, Q_WIDTH), (1, Slot::Key, KV_WIDTH), (2, Slot::Value, KV_WIDTH)] {
            let both = [0, 1].map(|i| Self::inputs(i)[which][start * width..(start + n) * width].to_vec());
            ws.put(slot, rows(&both.concat(), width));
        }
        let norms = Self::head_scales().map(|scale| norm(&scale, 1e-3));
        let norms = self.head_norms.then_some(HeadNorms { query: &norms[0], key: &norms[1], value: None });
        backend().rope_append(&mut ws, &batch, 1, norms, Some(0), kv).unwrap();
        backend().attend(&mut ws, &batch, 1, &self.attention, None, kv).unwrap();
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
        let attention = Attention { softcap, sight: window.into(), ..Attention::plain(0.9) };
        AttentionCase { attention, chunks: &[50, 1, 19], ..AttentionCase::new() }.check(&format!("{attention:?}"));
    }
}

#[test]
fn chunks_begin_anew_and_queries_grow() {
    let temperature = Some(Temperature { length: 9.0, scale: 0.3 });
    for sight in [Sight::All, Sight::Chunk(1), Sight::Chunk(27)] {
        let attention = Attention { sight, temperature, ..Attention::plain(0.9) };
        // Queries grow to 1.6 times their size, and so do the errors of their scores.
        AttentionCase { attention, chunks: &[50, 1, 19], tolerance: 1e-5, ..AttentionCase::new() }.check(&format!("{attention:?}"));
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
    let error = backend().rope_append(&mut ws, &batch, 0, None, Some(0), &mut kv).unwrap_err();
    assert!(error.message().contains("block 2 of 2"), "{error}");
}
