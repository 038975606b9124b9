//! Models of random weights in any storage type, written as GGUF.

use super::random::Random;
use half::f16;
use inference::dtype::DType;
use inference::formats::gguf::GgufWriter;

/// Where a block keeps its scale, and what that means for the values.
struct BlockScales {
    /// Byte offset of the scale `d`: an f16, or the exponent of MXFP4.
    scale_at: usize,
    /// Byte offset of the f16 minimum and its ratio to `d` that centres the values on zero, for the types that have one.
    minimum: Option<(usize, f32)>,
    /// Standard deviation of the values over `d`, when all other bits are uniform.
    spread: f32,
}

impl BlockScales {
    const fn of(dtype: DType) -> Option<Self> {
        let (scale_at, minimum, spread) = match dtype {
            DType::F32 | DType::F16 | DType::BF16 => return None,
            DType::Q4_0 => (0, None, 4.6),
            DType::Q4_1 => (0, Some((2, -7.5)), 4.6),
            DType::Q5_0 => (0, None, 9.2),
            DType::Q5_1 => (0, Some((2, -15.5)), 9.2),
            DType::Q8_0 => (0, None, 74.0),
            DType::Q2_K => (80, Some((82, 1.5)), 13.9),
            DType::Q3_K => (108, None, 43.0),
            DType::Q4_K => (0, Some((2, 7.5)), 261.0),
            DType::Q5_K => (0, Some((2, 15.5)), 532.0),
            DType::Q6_K => (208, None, 1369.0),
            DType::IQ4_NL => (0, None, 67.0),
            DType::IQ4_XS => (0, None, 1245.0),
            DType::MXFP4 => (0, None, 5.9),
        };
        Some(Self { scale_at, minimum, spread })
    }
}

/// Layers of every random model.
const N_LAYERS: usize = 2;
/// Tokens of every random model: few, and no multiple of a vector's width.
pub const N_VOCAB: usize = 67;

/// Widths of a model; every row is whole blocks.
struct Sizes {
    n_embd: usize,
    n_ff: usize,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
}

impl Sizes {
    fn of(dtype: DType) -> Self {
        match dtype.block_len() {
            1 => Self { n_embd: 44, n_ff: 52, n_heads: 3, n_kv_heads: 1, head_dim: 12 },
            32 => Self { n_embd: 96, n_ff: 160, n_heads: 4, n_kv_heads: 2, head_dim: 16 },
            _ => Self { n_embd: 256, n_ff: 256, n_heads: 8, n_kv_heads: 2, head_dim: 32 },
        }
    }
}

/// A llama of two layers whose matrices are all stored as `dtype`, as the bytes of a file (without a tokenizer).
pub fn model(dtype: DType) -> Vec<u8> {
    let mut random = Random(dtype.block_bytes() as u64);
    let mut writer = GgufWriter::new();
    let Sizes { n_embd, n_ff, n_heads, n_kv_heads, head_dim } = Sizes::of(dtype);
    set_keys(&mut writer, &Sizes::of(dtype));
    let mut matrix = |name: &str, n_rows: usize, n_cols: usize, gain: f32| {
        let data = weights(dtype, n_rows, n_cols, gain / (n_cols as f32).sqrt(), &mut random);
        writer.tensor(name, dtype, &[n_cols, n_rows], data).unwrap();
    };
    matrix("token_embd.weight", N_VOCAB, n_embd, (n_embd as f32).sqrt());
    matrix("output.weight", N_VOCAB, n_embd, 2.0);
    for layer in 0..N_LAYERS {
        matrix(&format!("blk.{layer}.attn_q.weight"), n_heads * head_dim, n_embd, 1.0);
        matrix(&format!("blk.{layer}.attn_k.weight"), n_kv_heads * head_dim, n_embd, 1.0);
        matrix(&format!("blk.{layer}.attn_v.weight"), n_kv_heads * head_dim, n_embd, 1.0);
        matrix(&format!("blk.{layer}.attn_output.weight"), n_embd, n_heads * head_dim, 1.0);
        matrix(&format!("blk.{layer}.ffn_gate.weight"), n_ff, n_embd, 1.0);
        matrix(&format!("blk.{layer}.ffn_up.weight"), n_ff, n_embd, 1.0);
        matrix(&format!("blk.{layer}.ffn_down.weight"), n_embd, n_ff, 1.0);
    }
    let norms = (0..N_LAYERS).flat_map(|layer| [format!("blk.{layer}.attn_norm.weight"), format!("blk.{layer}.ffn_norm.weight")]);
    for name in norms.chain(["output_norm.weight".to_owned()]) {
        let data: Vec<u8> = (0..n_embd).flat_map(|_| (1.0 + 0.5 * random.unit()).to_le_bytes()).collect();
        writer.tensor(&name, DType::F32, &[n_embd], data).unwrap();
    }
    writer.to_bytes().unwrap()
}

fn set_keys(writer: &mut GgufWriter<'_>, sizes: &Sizes) {
    writer.set("general.architecture", "llama").unwrap();
    let numbers = [
        ("block_count", N_LAYERS),
        ("context_length", 2048),
        ("embedding_length", sizes.n_embd),
        ("feed_forward_length", sizes.n_ff),
        ("attention.head_count", sizes.n_heads),
        ("attention.head_count_kv", sizes.n_kv_heads),
        ("attention.key_length", sizes.head_dim),
        ("attention.value_length", sizes.head_dim),
        ("rope.dimension_count", sizes.head_dim),
    ];
    for (key, value) in numbers {
        writer.set(&format!("llama.{key}"), value as u32).unwrap();
    }
    writer.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32).unwrap();
}

/// `(n_rows, dtype.row_bytes(n_cols))` of random weights with standard deviation about `deviation`.
fn weights(dtype: DType, n_rows: usize, n_cols: usize, deviation: f32, random: &mut Random) -> Vec<u8> {
    let n_blocks = n_rows * n_cols / dtype.block_len();
    (0..n_blocks).flat_map(|_| block(dtype, deviation, random)).collect()
}

/// One block: every bit random but the scales.
fn block(dtype: DType, deviation: f32, random: &mut Random) -> Vec<u8> {
    let Some(scales) = BlockScales::of(dtype) else {
        return float(dtype, deviation * 3f32.sqrt() * random.unit());
    };
    let mut bytes: Vec<u8> = (0..dtype.block_bytes()).map(|_| random.next() as u8).collect();
    let d = deviation / scales.spread * (1.0 + 0.5 * random.unit());
    if dtype == DType::MXFP4 {
        bytes[scales.scale_at] = (128.0 + d.log2().round()) as u8;
        return bytes;
    }
    bytes[scales.scale_at..][..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    if let Some((at, ratio)) = scales.minimum {
        bytes[at..][..2].copy_from_slice(&f16::from_f32(d * ratio).to_le_bytes());
    }
    bytes
}

fn float(dtype: DType, x: f32) -> Vec<u8> {
    match dtype {
        DType::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::from_f32(x).to_le_bytes().to_vec(),
        _ => x.to_le_bytes().to_vec(),
    }
}
