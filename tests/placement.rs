//! A model in parts: on two or three devices it computes what it computes on one. The devices here are virtual: our kernels twice, and candle.

mod common {
    pub mod golden_data;
    pub mod lanes;
    pub mod placements;
}

use common::golden_data::Golden;
use common::lanes::{Lane, prefill, run};
use common::placements;
use inference::backend::BLOCK_TOKENS;
use inference::error::{ErrorKind, Result};
use inference::formats::gguf::{Gguf, TensorInfo};
use inference::kernels::KvType;
use inference::model::{self, Checkpoint, Forward, ModelSpec, Placement, Progress};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What a part may change of a logit: nothing but the rounding of sums in another order. Two devices of one kind change no bit.
const TOLERANCE: f32 = 1e-5;

/// Beside another implementation, see `golden.rs`.
const GOLDEN_TOLERANCE: f32 = 1e-4;

/// The names of all golden models.
fn families() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter_map(|name| name.strip_suffix(".gguf").map(str::to_owned)).collect();
    names.sort();
    assert!(names.len() >= 25, "{names:?}");
    names
}

/// Those that are computed on one device or not at all: their layers share keys and values, and several residuals.
const INDIVISIBLE: [&str; 1] = ["gemma3n"];

/// The names of the others.
fn divisible_families() -> Vec<String> {
    let mut names = families();
    names.retain(|name| !INDIVISIBLE.contains(&name.as_str()));
    assert_eq!(names.len() + INDIVISIBLE.len(), families().len());
    names
}

/// `places` for the spans of `n_layers` layers that begin at 0 and at each of `borders`.
fn split(n_layers: usize, borders: &[usize], places: &[Placement]) -> Placement {
    let starts = [&[0], borders].concat();
    let ends = [borders, &[n_layers]].concat();
    let spans: Vec<Range<usize>> = starts.into_iter().zip(ends).map(|(start, end)| start..end).collect();
    assert_eq!(spans.len(), places.len());
    Placement::Split(spans.into_iter().zip(places.iter().cloned()).collect())
}

/// The token that the last of `logits` are highest for.
fn best(logits: &[f32], model: &Arc<dyn Forward>) -> u32 {
    let last = &logits[logits.len() - model.spec().shape.n_vocab..];
    (0..last.len()).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap() as u32
}

/// The largest difference; NaN if there is one.
fn worst(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap()
}

#[test]
fn every_family_in_two_parts_gives_the_logits_of_the_whole() {
    for name in divisible_families() {
        let golden = Golden::read(&name);
        let gguf = Gguf::open(&golden.path).unwrap();
        let cpu = || placements::cpu("scalar", 1);
        let whole = prefill(&placements::load(&gguf, cpu(), KvType::F32), &golden.prompt, 48);
        let n_layers = ModelSpec::from_gguf(&gguf).unwrap().layers.len();
        for border in 1..n_layers {
            let parts = placements::load(&gguf, split(n_layers, &[border], &[cpu(), cpu()]), KvType::F32);
            let logits = prefill(&parts, &golden.prompt, 48);
            assert_eq!(best(&logits, &parts), golden.greedy[0], "{name}, layer {border} on another device");
            assert!(
                logits.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{name}, layer {border} on another device: other bits"
            );
        }
    }
}

#[test]
fn every_family_computes_on_two_backends_at_once() {
    for name in divisible_families() {
        let golden = Golden::read(&name);
        let gguf = Gguf::open(&golden.path).unwrap();
        let (cpu, n_layers) = (|| placements::cpu("scalar", 1), ModelSpec::from_gguf(&gguf).unwrap().layers.len());
        let whole = prefill(&placements::load(&gguf, cpu(), KvType::F32), &golden.prompt, golden.prompt.len());
        let candle = prefill(&placements::load(&gguf, Placement::Candle, KvType::F32), &golden.prompt, golden.prompt.len());
        let border = n_layers / 2;
        for (places, expected, tolerance) in [
            ([Placement::Candle, Placement::Candle], &candle, TOLERANCE),
            ([cpu(), Placement::Candle], &whole, GOLDEN_TOLERANCE),
            ([Placement::Candle, cpu()], &whole, GOLDEN_TOLERANCE),
        ] {
            let parts = placements::load(&gguf, split(n_layers, &[border], &places), KvType::F32);
            for chunk in [golden.prompt.len(), 1] {
                // candle's product takes another path for one row than for many.
                let tolerance = if chunk == 1 { GOLDEN_TOLERANCE } else { tolerance };
                let difference = worst(&prefill(&parts, &golden.prompt, chunk), expected);
                assert!(difference <= tolerance, "{name}, split at {border}, {chunk} tokens at a time: logits differ by {difference}");
            }
        }
    }
}

#[test]
fn a_model_whose_layers_read_each_other_is_not_divided() {
    for name in INDIVISIBLE {
        let (golden, gguf, n_layers) = open(name);
        let cpu = || placements::cpu("scalar", 1);
        let spec = || ModelSpec::from_gguf(&gguf).unwrap();
        assert!(!spec().is_divisible());
        for border in 1..n_layers {
            let placement = split(n_layers, &[border], &[cpu(), cpu()]);
            let unplanned = model::needs(&gguf, &spec(), &placement, KvType::F32, 1).err().unwrap();
            let refused = model::load(&gguf, spec(), placement, KvType::F32).err().unwrap();
            for e in [unplanned, refused] {
                assert!(e.kind() == ErrorKind::Unsupported && e.message().contains(name), "layer {border}: {e}");
            }
        }
        // All of it as the one part of a split is no division.
        let one = prefill(&placements::load(&gguf, split(n_layers, &[], &[cpu()]), KvType::F32), &golden.prompt, 48);
        let whole = prefill(&placements::load(&gguf, cpu(), KvType::F32), &golden.prompt, 48);
        assert!(one.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
    }
    assert!(divisible_families().iter().all(|name| ModelSpec::from_gguf(&open(name).1).unwrap().is_divisible()));
}

fn open(name: &str) -> (Golden, Gguf, usize) {
    let golden = Golden::read(name);
    let gguf = Gguf::open(&golden.path).unwrap();
    let n_layers = ModelSpec::from_gguf(&gguf).unwrap().layers.len();
    (golden, gguf, n_layers)
}

#[test]
fn keys_and_values_of_all_parts_are_copied_saved_and_turned() {
    let (golden, gguf, n_layers) = open("qwen2");
    let whole = placements::load(&gguf, placements::cpu("scalar", 1), KvType::F32);
    let expected = after_moves(&whole, &golden.prompt);
    for places in [[placements::cpu("scalar", 1), placements::cpu("scalar", 1)], [placements::cpu("scalar", 1), Placement::Candle]] {
        let parts = placements::load(&gguf, split(n_layers, &[1], &places), KvType::F32);
        assert_eq!(parts.kv_block_bytes(), whole.kv_block_bytes());
        for (moved, expected) in after_moves(&parts, &golden.prompt).iter().zip(&expected) {
            let difference = worst(moved, expected);
            assert!(difference <= GOLDEN_TOLERANCE, "logits differ by {difference}");
        }
        assert!(worst(&expected[0], &expected[1]) > 0.01, "a turned block has other keys");
    }
}

/// The logits behind a prompt of a block and a bit: its first block was copied, saved, overwritten and restored; and was turned besides.
fn after_moves(model: &Arc<dyn Forward>, prompt: &[u32]) -> [Vec<f32>; 2] {
    let tokens: Vec<u32> = prompt.iter().cycle().take(BLOCK_TOKENS + 5).copied().collect();
    let (first, rest) = tokens.split_at(BLOCK_TOKENS);
    model.grow_kv(6).unwrap();
    run(model, &mut [Lane::new(first, 0, 1)], &[BLOCK_TOKENS]);
    let mut saved = vec![0; model.kv_block_bytes() as usize];
    model.copy_kv(0, 3).unwrap();
    model.read_block(3, &mut saved).unwrap();
    [0, 3].into_iter().for_each(|block| model.copy_kv(5, block).unwrap());
    model.write_block(4, &saved).unwrap();
    assert_eq!(model.read_block(4, &mut saved[1..]).unwrap_err().kind(), ErrorKind::Internal, "too short");
    let restored = logits_behind(model, rest, 4);
    model.turn_back(&[4], 7).unwrap();
    [restored, logits_behind(model, rest, 4)]
}

/// The logits of the last of `tokens`, behind block `before`.
fn logits_behind(model: &Arc<dyn Forward>, tokens: &[u32], before: u32) -> Vec<f32> {
    let mut pass = model.clone().new_pass(1, 1).unwrap();
    pass.begin(&mut |batch| batch.push(tokens, BLOCK_TOKENS, &[before, 1], true)).unwrap();
    while pass.advance().unwrap() == Progress::Running {}
    let mut logits = vec![0.0; model.spec().shape.n_vocab];
    pass.logits(0, &mut logits).unwrap();
    logits
}

#[test]
#[expect(clippy::single_range_in_vec_init, reason = "a split into one part")]
fn impossible_spans_are_refused() {
    let (_, gguf, n_layers) = open("qwen2");
    let cpu = || placements::cpu("scalar", 1);
    for spans in [
        vec![],
        vec![0..n_layers - 1],
        vec![0..1, 2..n_layers],
        vec![0..n_layers, n_layers..n_layers],
        vec![0..n_layers + 1],
        vec![1..n_layers],
    ] {
        let placement = Placement::Split(spans.iter().cloned().map(|layers| (layers, cpu())).collect());
        let refused = model::load(&gguf, ModelSpec::from_gguf(&gguf).unwrap(), placement, KvType::F32).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{spans:?}");
    }
}

/// A file in which one tensor is not found by its name.
struct Hidden<'a>(&'a Gguf, &'a str);

impl Checkpoint for Hidden<'_> {
    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.0.tensor(name).filter(|_| name != self.1)
    }

    fn tensors(&self) -> &[TensorInfo] {
        self.0.tensor_list()
    }

    fn read_range(&self, tensor: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        self.0.read_range(tensor, start, dst)
    }
}

#[test]
fn a_tensor_that_no_part_reads_is_refused() {
    let (_, gguf, n_layers) = open("starcoder2");
    let cpu = || placements::cpu("scalar", 1);
    // A bias that layers may have or not.
    let file = Hidden(&gguf, "blk.1.ffn_up.bias");
    assert!(gguf.tensor(file.1).is_some());
    for placement in [cpu(), split(n_layers, &[1], &[cpu(), cpu()])] {
        let refused = model::load(&file, ModelSpec::from_gguf(&gguf).unwrap(), placement, KvType::F32).err().unwrap();
        assert!(refused.kind() == ErrorKind::Unsupported && refused.message().contains(file.1), "{refused}");
    }
}
