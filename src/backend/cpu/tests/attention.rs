//! `rope_append` and `attend` together, over two sequences at once.

use super::*;
use crate::backend::{Sight, Temperature};

/// One run of the two stages.
struct Case {
    rope: Rope,
    head_norms: bool,
    attention: Attention,
    kind: KvType,
    n_tokens: usize,
    /// Tokens of each pass but the last, which has the rest.
    chunks: &'static [usize],
    n_threads: usize,
    kernels: &'static dyn Kernels,
    tolerance: f64,
}

impl Case {
    /// More than two blocks, one split.
    fn short() -> Self {
        Self {
            rope: rope(RopeStyle::Halves, 12),
            head_norms: false,
            attention: Attention::plain(0.2),
            kind: KvType::F32,
            n_tokens: 70,
            chunks: &[],
            n_threads: 2,
            kernels: &kernels::Reference,
            tolerance: ROUNDING,
        }
    }

    /// Three splits, the last of them short.
    fn long() -> Self {
        Self { n_tokens: 1100, chunks: &[600, 477], tolerance: 2.0 * ROUNDING, ..Self::short() }
    }

    /// Blocks of the two sequences: scattered, and in turns. 11 shares no factor with the numbers of blocks used here.
    fn table(&self, i: usize) -> Vec<BlockId> {
        let n = self.n_tokens.div_ceil(32);
        (0..n).map(|b| (((b * 11 + 3) % n) * 2 + (i + b) % 2) as BlockId).collect()
    }

    /// Queries, keys and values of sequence `i`, `(n_tokens, width)` each.
    fn inputs(&self, i: usize) -> [Vec<f32>; 3] {
        let seed = 100 + 10 * i as u64;
        [Q_WIDTH, KV_WIDTH, KV_WIDTH].map(|width| noise(self.n_tokens * width, seed + width as u64))
    }

    fn head_scales() -> [Vec<f32>; 2] {
        [noise(SHAPE.head_dim, 7), noise(SHAPE.head_dim, 8)]
    }

    /// What the backend makes of `sequences`: `(n_tokens, Q_WIDTH)` each.
    fn run(&self, sequences: &[usize]) -> Vec<Vec<f32>> {
        let cpu = backend_of(self.n_threads, self.kernels);
        let mut kv = cpu.kv(&SHAPE, self.kind).unwrap();
        let mut ws = cpu.workspace(&SHAPE, sequences.len() * self.n_tokens, 0).unwrap();
        let mut results = vec![Vec::new(); sequences.len()];
        let mut start = 0;
        let rest = self.n_tokens - self.chunks.iter().sum::<usize>();
        for n in self.chunks.iter().copied().chain([rest]) {
            cpu.grow_kv(&mut kv, 2 * self.n_tokens.div_ceil(32)).unwrap();
            self.pass(&cpu, &mut ws, &mut kv, sequences, start..start + n, &mut results);
            start += n;
        }
        results
    }

    fn pass(&self, cpu: &Cpu, ws: &mut Workspace, kv: &mut Kv, sequences: &[usize], tokens: Range<usize>, results: &mut [Vec<f32>]) {
        let mut batch = Batch::default();
        for &i in sequences {
            batch.push(&vec![0; tokens.len()], tokens.start, &self.table(i)[..tokens.end.div_ceil(32)], false);
        }
        cpu.begin(ws, &batch, std::slice::from_ref(&self.rope)).unwrap();
        for (slot, width) in [Q_WIDTH, KV_WIDTH, KV_WIDTH].into_iter().enumerate() {
            for (&i, to) in sequences.iter().zip(ws.slots[slot].chunks_mut(tokens.len() * width)) {
                to.copy_from_slice(&self.inputs(i)[slot][tokens.start * width..tokens.end * width]);
            }
        }
        let norms = Self::head_scales().map(|scale| norm(cpu, &scale, 1e-3));
        let norms = self.head_norms.then_some(HeadNorms { query: &norms[0], key: &norms[1], value: None });
        cpu.rope_append(ws, &batch, 1, norms, Some(0), kv).unwrap();
        cpu.attend(ws, &batch, 1, &self.attention, None, kv).unwrap();
        let query = ws.slots[0].chunks(tokens.len() * Q_WIDTH);
        results.iter_mut().zip(query).for_each(|(result, out)| result.extend_from_slice(out));
    }

    /// The heads of sequence `i`, turned and stored: `which` 0 query, 1 key, 2 value; `(n_heads, n_tokens, head_dim)`.
    fn naive_heads(&self, i: usize, which: usize) -> Vec<Vec<f64>> {
        let x = &self.inputs(i)[which];
        let width = x.len() / self.n_tokens;
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
        (0..width / SHAPE.head_dim).map(|h| (0..self.n_tokens).flat_map(|p| head(h, p)).collect()).collect()
    }

    /// Checks both sequences from position `from` on.
    fn check(&self, what: &str, from: usize) {
        for (i, got) in self.run(&[0, 1]).iter().enumerate() {
            let [queries, keys, values] = [0, 1, 2].map(|which| self.naive_heads(i, which));
            for position in from..self.n_tokens {
                let head = |h: usize| {
                    let query = &queries[h][position * SHAPE.head_dim..][..SHAPE.head_dim];
                    naive::attend(query, &keys[h / 3], &values[h / 3], position, &self.attention)
                };
                let want: Vec<f64> = (0..SHAPE.n_heads).flat_map(head).collect();
                let what = format!("{what}, sequence {i}, position {position}");
                assert_close(&what, &got[position * Q_WIDTH..][..Q_WIDTH], &want, self.tolerance);
            }
        }
    }
}

fn bits(results: &[Vec<f32>]) -> Vec<u32> {
    results.iter().flatten().map(|x| x.to_bits()).collect()
}

#[test]
fn two_sequences_in_any_chunks() {
    for chunks in [&[][..], &[1; 69], &[7; 9], &[31, 1, 1], &[32, 32], &[64]] {
        Case { chunks, ..Case::short() }.check(&format!("chunks {chunks:?}"), 0);
    }
}

#[test]
fn rope_of_both_styles_turns_all_some_or_nothing() {
    for style in [RopeStyle::Halves, RopeStyle::Interleaved] {
        for n_pairs in [12, 5, 0] {
            Case { rope: rope(style, n_pairs), ..Case::short() }.check(&format!("{style:?}, {n_pairs} pairs"), 0);
        }
    }
}

#[test]
fn head_norms_come_before_the_rotation() {
    Case { head_norms: true, chunks: &[40], ..Case::short() }.check("head norms", 0);
}

#[test]
fn windows_and_softcaps_limit_what_is_seen() {
    for (window, softcap) in
        [(Some(1), None), (Some(33), None), (Some(500), None), (Some(u32::MAX), None), (None, Some(0.7)), (Some(9), Some(0.7))]
    {
        let attention = Attention { softcap, sight: window.into(), ..Attention::plain(0.9) };
        // Scores are large here, and f32 has rounded the angles that make them.
        Case { attention, chunks: &[50, 1], tolerance: 1e-5, ..Case::short() }.check(&format!("{attention:?}"), 0);
    }
}

#[test]
fn chunks_begin_anew_and_queries_grow() {
    let temperature = Some(Temperature { length: 9.0, scale: 0.3 });
    for sight in [Sight::All, Sight::Chunk(1), Sight::Chunk(27), Sight::Chunk(64), Sight::Chunk(u32::MAX)] {
        let attention = Attention { sight, temperature, ..Attention::plain(0.9) };
        Case { attention, chunks: &[50, 1], tolerance: 1e-5, ..Case::short() }.check(&format!("{attention:?}"), 0);
    }
}

#[test]
fn half_precision_is_only_in_the_storage() {
    // Without rotation the stored values are exactly the rounded inputs, so nothing else may differ.
    let case = Case { rope: rope(RopeStyle::Halves, 0), kind: KvType::F16, chunks: &[33], ..Case::short() };
    case.check("f16", 0);
    // With it, a key may round to the other neighbour: 2^-11 of its value.
    Case { rope: rope(RopeStyle::Interleaved, 12), tolerance: 5e-4, ..case }.check("f16, rotated", 0);
}

#[test]
fn contexts_of_several_splits() {
    // Angles of f32 at position 1100 are off by some 1e-4, which is not what is tested here.
    let case = || Case { rope: rope(RopeStyle::Halves, 0), ..Case::long() };
    case().check("long", 1060);
    for window in [1, 40, 512, 700] {
        let attention = Attention { sight: Sight::Window(window), ..Attention::plain(0.2) };
        Case { attention, ..case() }.check(&format!("long, window {window}"), 1060);
    }
}

#[test]
fn bits_do_not_depend_on_chunks_threads_or_company() {
    for name in kernels::available() {
        let kernels = kernels::select(Some(name)).unwrap();
        for window in [None, Some(530)] {
            let attention = Attention { sight: window.into(), ..Attention::plain(0.2) };
            let case = || Case { attention, kernels, kind: KvType::F16, head_norms: true, n_tokens: 600, ..Case::long() };
            let expected = bits(&Case { chunks: &[], n_threads: 1, ..case() }.run(&[1]));
            let divisions: [(usize, &[usize], &[usize]); 4] =
                [(1, &[7; 80], &[1]), (2, &[1; 40], &[0, 1]), (3, &[512], &[1]), (4, &[511, 1, 1, 1, 32], &[1])];
            for (n_threads, chunks, sequences) in divisions {
                let got = Case { chunks, n_threads, ..case() }.run(sequences);
                assert!(bits(&got[sequences.len() - 1..]) == expected, "{name}, {n_threads} threads, {} chunks", chunks.len());
            }
        }
    }
}

#[test]
fn kv_grows_around_what_it_holds_and_fails_without_change() {
    let cpu = backend();
    let case = Case { chunks: &[20], ..Case::short() };
    let mut kv = cpu.kv(&SHAPE, KvType::F32).unwrap();
    let mut ws = cpu.workspace(&SHAPE, 140, 0).unwrap();
    let mut results = vec![Vec::new(); 2];
    cpu.grow_kv(&mut kv, 6).unwrap();
    case.pass(&cpu, &mut ws, &mut kv, &[0, 1], 0..20, &mut results);
    for size in [usize::MAX, 1 << 50] {
        assert_eq!(cpu.grow_kv(&mut kv, size).unwrap_err().kind(), ErrorKind::OutOfMemory);
    }
    cpu.grow_kv(&mut kv, 9).unwrap();
    cpu.grow_kv(&mut kv, 1).unwrap();
    case.pass(&cpu, &mut ws, &mut kv, &[0, 1], 20..70, &mut results);
    assert_eq!(results, case.run(&[0, 1]));
}

#[test]
fn more_pieces_than_one_wave() {
    let cpu = backend();
    let rope = rope(RopeStyle::Halves, 12);
    let mut kv = cpu.kv(&SHAPE, KvType::F32).unwrap();
    cpu.grow_kv(&mut kv, 200).unwrap();
    let run = |kv: &mut Kv, sequences: Range<usize>| {
        let mut batch = Batch::default();
        sequences.clone().for_each(|i| batch.push(&[0], i % 32, &[(i * 7 % 200) as BlockId], false));
        let mut ws = cpu.workspace(&SHAPE, 200, 0).unwrap();
        cpu.begin(&mut ws, &batch, std::slice::from_ref(&rope)).unwrap();
        for (slot, width) in [Q_WIDTH, KV_WIDTH, KV_WIDTH].into_iter().enumerate() {
            for (to, i) in ws.slots[slot].chunks_mut(width).zip(sequences.clone()) {
                to.copy_from_slice(&noise(width, (i * 3 + slot) as u64));
            }
        }
        cpu.rope_append(&mut ws, &batch, 0, None, Some(0), kv).unwrap();
        let attention = Attention { sight: Sight::Window(1), ..Attention::plain(0.2) };
        cpu.attend(&mut ws, &batch, 0, &attention, None, kv).unwrap();
        ws.slots[0][..sequences.len() * Q_WIDTH].to_vec()
    };
    let together = run(&mut kv, 0..200);
    let alone: Vec<f32> = (0..200).flat_map(|i| run(&mut kv, i..i + 1)).collect();
    assert_eq!(together, alone);
}

#[test]
fn blocks_that_are_missing_or_shared_are_refused() {
    let cpu = backend();
    let rope = rope(RopeStyle::Halves, 12);
    let mut kv = cpu.kv(&SHAPE, KvType::F32).unwrap();
    cpu.grow_kv(&mut kv, 2).unwrap();
    let (mut batch, mut ws) = begun(&cpu, 3);
    batch.blocks = vec![2];
    let e = cpu.rope_append(&mut ws, &batch, 0, None, Some(0), &mut kv).unwrap_err();
    assert_eq!((e.kind(), e.message()), (ErrorKind::Internal, "cpu, rope_append: block 2 of 2"));
    let attention = Attention::plain(1.0);
    assert!(cpu.attend(&mut ws, &batch, 0, &attention, None, &kv).is_err());
    batch.blocks = vec![1];
    assert!(cpu.attend(&mut ws, &batch, 2, &attention, None, &kv).is_err());
    batch.push(&[1], 0, &[1], false);
    cpu.begin(&mut ws, &batch, std::slice::from_ref(&rope)).unwrap();
    let e = cpu.rope_append(&mut ws, &batch, 0, None, Some(0), &mut kv).unwrap_err();
    assert_eq!(e.message(), "cpu, rope_append: two sequences write block 1");
}
