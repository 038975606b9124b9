//! The contract of every kernel set: the operations of a decoder on slices. The CPU backend calls it; each set implements it.

use crate::dtype::DType;
use crate::sys::columns::ColumnsMut;

/// How an activation row is stored for a product with weights of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// As it is: `f32`.
    F32,
    /// For weights with blocks of 32: int8 with a scale (and the sum, for types with a minimum) per 32.
    Q8Block32,
    /// For k-quants: int8 with a scale per 256, and sums per 16.
    Q8Block256,
}

impl Activation {
    /// The activation format that products with `weights` use.
    pub const fn of(weights: DType) -> Self {
        match weights {
            DType::F32 | DType::F16 | DType::BF16 => Self::F32,
            DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => Self::Q8Block32,
            DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K | DType::Q6_K => Self::Q8Block256,
        }
    }
}

/// Whole rows of a weight matrix in its storage type.
#[derive(Clone, Copy)]
pub struct WeightRows<'a> {
    /// Storage type.
    pub dtype: DType,
    /// Elements per row.
    pub n_cols: usize,
    /// `(n_rows, dtype.row_bytes(n_cols))`
    pub bytes: &'a [u8],
}

/// Activation rows, quantised by [`Kernels::quantize`] as [`Activation::of`] the weights says.
#[derive(Clone, Copy)]
pub struct ActivationRows<'a> {
    /// `(n_rows, activation row bytes)`
    pub bytes: &'a [u8],
    /// Rows.
    pub n_rows: usize,
}

/// The gating function of a GLU feed-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateFn {
    /// `x * sigmoid(x)`
    Silu,
    /// Gaussian error linear unit, tanh approximation.
    GeluTanh,
}

/// Which elements of a head a rotary embedding turns against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// Neighbours `(2i, 2i+1)`: GGUF files of the llama family.
    Interleaved,
    /// Halves `(i, i + n/2)`: Hugging Face, Qwen, NeoX.
    Halves,
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Exact; for tests and short contexts.
    F32,
    /// The default.
    F16,
}

impl KvType {
    /// Bytes per element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// Keys and values of one KV head in one block, token-major.
#[derive(Clone, Copy)]
pub struct KvTile<'a> {
    /// `(n_tokens, head_dim)` in `kind`
    pub keys: &'a [u8],
    /// `(n_tokens, head_dim)` in `kind`
    pub values: &'a [u8],
    /// Storage type of both.
    pub kind: KvType,
}

/// Constants of an attention product.
#[derive(Clone, Copy, Debug)]
pub struct AttendParams {
    /// Elements per head.
    pub head_dim: usize,
    /// Multiplies `q . k`.
    pub scale: f32,
    /// `cap * tanh(score / cap)`, if any.
    pub softcap: Option<f32>,
}

/// The running state of an online softmax for rows of queries.
pub struct SoftmaxState<'a> {
    /// `(n_queries,)`: the largest score so far; `-inf` at the start.
    pub max: &'a mut [f32],
    /// `(n_queries,)`: the sum of `exp(score - max)`; 0 at the start.
    pub sum: &'a mut [f32],
    /// `(n_queries, head_dim)`: the values weighted by `exp(score - max)`; 0 at the start. Divided by `sum` it is the result.
    pub acc: &'a mut [f32],
}

/// One instruction set's implementation of every operation. Holding a value is the proof that the CPU has the instructions.
pub trait Kernels: Send + Sync + std::fmt::Debug {
    /// `"scalar"`, `"avx2"`, ...
    fn name(&self) -> &'static str;

    /// Bytes of an activation row of `n_cols` elements. Always a multiple of 32 bytes.
    fn activation_bytes(&self, layout: Activation, n_cols: usize) -> usize;

    /// Quantises one row `x` into `out` (`activation_bytes` long).
    fn quantize(&self, layout: Activation, x: &[f32], out: &mut [u8]);

    /// `out.row(m)[i] = weights.row(i) . x.row(m)` for every row `i` of `weights` (as many as `out` has columns).
    fn matmul(&self, weights: WeightRows<'_>, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>);

    /// Expands one row (whole blocks) to `f32`.
    fn dequantize(&self, dtype: DType, row: &[u8], out: &mut [f32]);

    /// `out = x / sqrt(mean(x^2) + eps) * weight`
    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);

    /// `x += y`
    fn add(&self, x: &mut [f32], y: &[f32]);

    /// `gate = f(gate) * up`
    fn glu(&self, f: GateFn, gate: &mut [f32], up: &[f32]);

    /// Rotates the first `2 * cos.len()` elements of `head` by the angles given as `cos` and `sin`.
    fn rope(&self, style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]);

    /// Stores `x` as `kind` into `out` (`x.len() * kind.bytes()` long).
    fn store_kv(&self, kind: KvType, x: &[f32], out: &mut [u8]);

    /// Folds the tokens `visible[i].0 .. visible[i].1` of `tile` into the state of query row `i`, for all rows of `q` (`(n_queries, head_dim)`).
    /// An empty range leaves its row untouched. Tiles come in ascending order; a row's bits depend on its own ranges alone, and what a
    /// tile holds outside of them (even infinities) has no effect.
    fn attend(&self, params: &AttendParams, q: &[f32], tile: KvTile<'_>, visible: &[(u32, u32)], state: &mut SoftmaxState<'_>);
}
