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
    /// For k-quants: int8 with a scale per 256, and sums per 16 and per 32.
    Q8Block256,
}

impl Activation {
    /// The activation format that products with `weights` use.
    pub const fn of(weights: DType) -> Self {
        match weights {
            DType::F32 | DType::F16 | DType::BF16 => Self::F32,
            DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 | DType::IQ4_NL | DType::MXFP4 => Self::Q8Block32,
            DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K | DType::Q6_K | DType::IQ4_XS => Self::Q8Block256,
        }
    }
}

/// Whole rows of a weight matrix in its storage type: as they lie in a file, or in tiles.
#[derive(Clone, Copy)]
pub struct WeightRows<'a> {
    /// Storage type.
    pub dtype: DType,
    /// Elements per row.
    pub n_cols: usize,
    /// Rows that [`Kernels::pack`] made one tile of; 1 for rows as in a file.
    pub tile_rows: usize,
    /// Rows of the first tile that are not meant; below `tile_rows`.
    pub skip: usize,
    /// `(tiles, tile_rows * dtype.row_bytes(n_cols))`: whole tiles, the first and last perhaps meant in part.
    pub bytes: &'a [u8],
}

impl<'a> WeightRows<'a> {
    /// Rows as they lie in a file.
    pub const fn stored(dtype: DType, n_cols: usize, bytes: &'a [u8]) -> Self {
        Self { dtype, n_cols, tile_rows: 1, skip: 0, bytes }
    }
}

/// Activation rows, quantised by [`Kernels::quantize`] as [`Activation::of`] the weights says.
#[derive(Clone, Copy)]
pub struct ActivationRows<'a> {
    /// `(n_rows, activation row bytes)`
    pub bytes: &'a [u8],
    /// Rows.
    pub n_rows: usize,
}

/// The activation function of a feed-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateFn {
    /// `x * sigmoid(x)`
    Silu,
    /// Gaussian error linear unit, tanh approximation.
    GeluTanh,
    /// Gaussian error linear unit.
    GeluErf,
    /// `max(x, 0)^2`
    Relu2,
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
    /// int8 with a scale per [`KV_GROUP`] elements of a head: half of `F16`.
    Q8_0,
}

/// Elements of a head that share a scale in a quantised cache: Q8_0's block.
pub const KV_GROUP: usize = 32;

impl KvType {
    /// Bytes of one key, or one value; `None` if so many elements cannot be stored as this type, or nobody can count them.
    pub const fn row_bytes(self, head_dim: usize) -> Option<usize> {
        match self {
            Self::F32 => head_dim.checked_mul(4),
            Self::F16 => head_dim.checked_mul(2),
            Self::Q8_0 if head_dim.is_multiple_of(KV_GROUP) => head_dim.checked_add(head_dim / KV_GROUP * 2),
            Self::Q8_0 => None,
        }
    }
}

/// Tokens of a [`KvTile`]: whole vectors of scores in every instruction set, and little enough that a tile's keys and values stay in the
/// first-level cache while many queries read them.
pub const TILE_TOKENS: usize = 32;

/// Keys and values of one KV head in one block. Keys lie element by element, so that the scores of all tokens grow side by side in whole
/// vectors; values lie token by token, so that an output grows the same way.
#[derive(Clone, Copy)]
pub struct KvTile<'a> {
    /// `(head_dim, TILE_TOKENS)` in `kind`; for a quantised one behind it the scales, f16, `(head_dim / KV_GROUP, TILE_TOKENS)`.
    pub keys: &'a [u8],
    /// `(TILE_TOKENS, head_dim)` in `kind`; for a quantised one behind it the scales, f16, `(head_dim / KV_GROUP, TILE_TOKENS)`.
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

/// What [`Kernels::activate`] multiplies by, a piece at a time.
const ONES: [f32; 64] = [1.0; 64];

/// One instruction set's implementation of every operation. Holding a value is the proof that the CPU has the instructions.
pub trait Kernels: Send + Sync + std::fmt::Debug {
    /// `"scalar"`, `"avx2"`, ...
    fn name(&self) -> &'static str;

    /// Bytes of an activation row of `n_cols` elements. Always a multiple of 64 bytes.
    fn activation_bytes(&self, layout: Activation, n_cols: usize) -> usize;

    /// Quantises one row `x` into `out` (`activation_bytes` long).
    fn quantize(&self, layout: Activation, x: &[f32], out: &mut [u8]);

    /// Rows that this set wants in one tile; 1 = as they lie in a file. Products take either.
    fn tile_rows(&self) -> usize {
        1
    }

    /// Writes `tile_rows` rows, as they lie in a file, as one `tile` of as many bytes.
    fn pack(&self, _dtype: DType, rows: &[u8], tile: &mut [u8]) {
        tile.copy_from_slice(rows);
    }

    /// `out.row(m)[i] = weights.row(i) . x.row(m)` for every row `i` of `weights` (as many as `out` has columns).
    fn matmul(&self, weights: WeightRows<'_>, x: ActivationRows<'_>, out: &mut ColumnsMut<'_, f32>);

    /// Expands one row (that of `row.skip` in one tile) to `f32`.
    fn dequantize(&self, row: WeightRows<'_>, out: &mut [f32]);

    /// `out = x / sqrt(mean(x^2) + eps) * weight`
    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);

    /// `out = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias`; no `bias` is zeros.
    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
        super::reference::layer_norm(x, weight, bias, eps, out);
    }

    /// `x += y`
    fn add(&self, x: &mut [f32], y: &[f32]);

    /// `gate = f(gate) * up`
    fn glu(&self, f: GateFn, gate: &mut [f32], up: &[f32]);

    /// `x = f(x)`
    fn activate(&self, f: GateFn, x: &mut [f32]) {
        // As a gate of ones: exact, and as fast as the set's own gate.
        for part in x.chunks_mut(ONES.len()) {
            let ones = &ONES[..part.len()];
            self.glu(f, part, ones);
        }
    }

    /// Rotates the first `2 * cos.len()` elements of `head` by the angles given as `cos` and `sin`.
    fn rope(&self, style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]);

    /// Stores a `key` (`(head_dim,)`) as `token` of [`KvTile::keys`].
    fn store_key(&self, kind: KvType, key: &[f32], keys: &mut [u8], token: usize);

    /// Stores a `value` (`(head_dim,)`) as `token` of [`KvTile::values`].
    fn store_value(&self, kind: KvType, value: &[f32], values: &mut [u8], token: usize);

    /// Folds the tokens `visible[i].0 .. visible[i].1` of `tile` into the state of query row `i`, for all rows of `q` (`(n_queries, head_dim)`).
    /// An empty range leaves its row untouched. Tiles come in ascending order; a row's bits depend on its own ranges alone, and what a
    /// tile holds outside of them (even infinities) has no effect. `next` is the tile of the following call, if the caller knows: blocks lie
    /// far apart, so no hardware guesses where to read on.
    fn attend(
        &self,
        params: &AttendParams,
        q: &[f32],
        tile: KvTile<'_>,
        next: Option<KvTile<'_>>,
        visible: &[(u32, u32)],
        state: &mut SoftmaxState<'_>,
    );
}
