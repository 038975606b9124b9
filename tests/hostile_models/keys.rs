//! Hyper-parameters: every key with every kind of value, and models whose numbers agree with each other and are absurd.

use crate::bench::{Bench, stride};
use crate::small::{GOLDEN, Parts, Sizes, bpe, build, golden, seeds, spm};
use inference::dtype::DType;
use inference::engine::{BackendKind, LoadConfig};
use inference::formats::gguf::Value;
use inference::kernels::{self, KvType};

/// Keys of an architecture, behind its name.
const NUMBERS: [&str; 20] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.scale",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    "expert_count",
    "vocab_size",
    "logit_scale",
    "final_logit_softcapping",
];

/// Keys of an architecture with experts, and of one whose queries grow, behind its name.
const EXPERT_NUMBERS: [&str; 14] = [
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "expert_gating_func",
    "expert_weights_norm",
    "expert_weights_scale",
    "expert_group_count",
    "expert_group_used_count",
    "expert_shared_count",
    "expert_shared_feed_forward_length",
    "leading_dense_block_count",
    "interleave_moe_layer_step",
    "attention.temperature_length",
    "attention.temperature_scale",
];

/// Keys of any model.
const GENERAL: [&str; 8] = [
    "general.architecture",
    "general.alignment",
    "general.sampling.top_k",
    "general.sampling.top_p",
    "general.sampling.min_p",
    "general.sampling.temp",
    "general.quantization_version",
    "split.tensors.count",
];

/// What every key is set to: nothing, zeros, odd and even numbers, the edges of every integer type and of the bounds of the blueprint,
/// floats at the edges, and other types.
fn values() -> Vec<Option<Value>> {
    let edges = [1024, 1025, 1 << 17, (1 << 17) + 1, 1 << 20, (1 << 20) + 1, 1 << 22, 1 << 24, (1 << 24) + 1, 1 << 31, u32::MAX];
    let small = [0u32, 1, 2, 3, 4, 5, 6, 7, 12, 16, 31, 32, 33, 64];
    let floats =
        [0.0f32, -0.0, -1.0, 1e-45, 1e-30, 1e-6, 0.5, 1.0, 3.7, 1e6, 1e12, 1e30, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let mut values: Vec<Option<Value>> =
        vec![None, Some((-1i32).into()), Some(i32::MIN.into()), Some((-1i64).into()), Some(u64::MAX.into())];
    values.extend(small.iter().chain(&edges).map(|&n| Some(n.into())));
    values.extend([Some((1u64 << 32).into()), Some((1u64 << 63).into()), Some(2u8.into()), Some(2u64.into()), Some(true.into())]);
    values.extend(floats.map(|x| Some(x.into())));
    values.extend([f64::MAX, f64::NAN].map(|x| Some(x.into())));
    values.extend(["", "none", "linear", "yarn", "llama", "qwen3", &"x".repeat(100_000)].map(|text| Some(text.into())));
    values.extend([Some(vec![2u32, 2].into()), Some(Vec::<u32>::new().into()), Some(vec![f32::NAN].into())]);
    values
}

/// Sets every key of `parts` to every value; in a normal test to one of `share`.
fn sweep(bench: &mut Bench, name: &str, parts: &Parts, numbers: &[&str], share: usize) {
    let mut n = 0;
    let architecture = parts.architecture().to_owned();
    let keys = numbers.iter().map(|key| format!("{architecture}.{key}")).chain(GENERAL.map(str::to_owned));
    for key in keys {
        for value in values() {
            // The writer would refuse it, too; `header` reaches it byte by byte.
            if key == "general.alignment" && !matches!(value, Some(Value::U32(1 | 32))) {
                continue;
            }
            if n % stride(share) == 0 {
                bench.whole(format!("{name}: {key} = {value:?}"), &parts.with(&key, value).bytes());
            }
            n += 1;
        }
    }
}

#[test]
fn every_key_with_every_value() {
    let mut bench = Bench::new("keys");
    for (name, parts) in seeds() {
        sweep(&mut bench, name, &parts, &NUMBERS, 1);
    }
    for name in GOLDEN {
        sweep(&mut bench, name, &Parts::read(golden(name)), &NUMBERS, 11);
    }
    bench.finish(3_500);
}

#[test]
fn every_key_of_experts_with_every_value() {
    let mut bench = Bench::new("keys of experts");
    for name in ["qwen2moe", "gpt-oss", "llama4"] {
        sweep(&mut bench, name, &Parts::read(golden(name)), &EXPERT_NUMBERS, 7);
    }
    bench.finish(400);
}

/// candle is a dependency: what it is given must be checked before.
#[test]
fn every_key_with_every_value_on_candle() {
    let mut bench = Bench::with("keys on candle", None, LoadConfig { backend: BackendKind::Candle, ..LoadConfig::default() });
    for (name, parts) in seeds() {
        sweep(&mut bench, name, &parts, &NUMBERS, 1);
    }
    bench.finish(3_000);
}

/// Consistent models of unusual sizes, all of which run.
#[test]
fn odd_sizes_run_on_every_backend() {
    let mut random = crate::random::Random(5);
    let mut one_to = |n: usize| 1 + random.below(n) as usize;
    let mut sizes: Vec<Sizes> = (0..40)
        .map(|_| {
            let n_kv_heads = one_to(3);
            Sizes {
                n_layers: one_to(2),
                n_embd: one_to(40),
                n_heads: n_kv_heads * one_to(4),
                n_kv_heads,
                head_dim: 1 + one_to(20),
                n_ff: one_to(50),
            }
        })
        .collect();
    for head_dim in [2, 3, 63, 64, 65, 127, 257] {
        sizes.push(Sizes { n_layers: 1, n_embd: 64, n_heads: 2, n_kv_heads: 1, head_dim, n_ff: 1 });
    }
    for candle in [false, true] {
        let backend = if candle { BackendKind::Candle } else { BackendKind::Cpu };
        for kernels in kernels::available() {
            for kv in [KvType::F32, KvType::F16] {
                let mut bench = Bench::with("odd sizes", Some(kernels), LoadConfig { backend, kv: Some(kv), ..LoadConfig::default() });
                for (i, sizes) in sizes.iter().enumerate() {
                    let vocabulary = if i % 2 == 0 { spm() } else { bpe() };
                    let parts = build(if i % 3 == 0 { "qwen2" } else { "llama" }, *sizes, DType::F32, vocabulary);
                    // Rotation needs pairs.
                    let runs = bench.whole(format_args!("{kernels}, {kv:?}, {sizes:?}"), &parts.bytes());
                    assert_eq!(runs, sizes.head_dim.is_multiple_of(2), "{sizes:?}");
                }
                bench.finish(47);
            }
        }
    }
}

/// Consistent models that are absurd: what they take to run must stay in proportion to their files.
#[test]
fn absurd_models_take_no_absurd_memory() {
    let mut bench = Bench::new("absurd");
    let plain = Sizes { n_layers: 1, n_embd: 2, n_heads: 1, n_kv_heads: 1, head_dim: 2, n_ff: 2 };
    let cases = [
        ("plain", plain),
        ("wide feed-forward", Sizes { n_ff: 1 << 20, ..plain }),
        ("a wide feed-forward", Sizes { n_ff: 1 << 14, n_embd: 32, ..plain }),
        ("1024 layers", Sizes { n_layers: 1024, ..plain }),
        ("1024 layers of many heads", Sizes { n_layers: 1024, n_heads: 64, n_kv_heads: 64, ..plain }),
        ("256 layers of many heads", Sizes { n_layers: 256, n_embd: 8, n_heads: 128, n_kv_heads: 128, ..plain }),
        ("256 layers of as many heads as allowed", Sizes { n_layers: 256, n_embd: 8, n_heads: 64, n_kv_heads: 64, head_dim: 4, ..plain }),
        ("64 layers of as many heads as allowed", Sizes { n_layers: 64, n_embd: 32, n_heads: 256, n_kv_heads: 256, head_dim: 4, ..plain }),
        ("1024 heads of 1024", Sizes { n_heads: 1024, n_kv_heads: 1024, head_dim: 1024, ..plain }),
        ("1024 heads of 1024, one of keys", Sizes { n_heads: 1024, head_dim: 1024, ..plain }),
        ("one head of 1024", Sizes { head_dim: 1024, ..plain }),
        ("widest", Sizes { n_embd: 1 << 17, ..plain }),
    ];
    for (name, sizes) in cases {
        for dtype in [DType::F32, DType::F16] {
            bench.whole(format_args!("{name}, {dtype:?}"), &build("llama", sizes, dtype, spm()).bytes());
        }
    }
    bench.finish(20);
}
