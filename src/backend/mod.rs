//! The seam between decoder and device: the few fused stages that a decoder is made of.
//!
//! `cpu` runs them on our kernels, `candle` on any candle device (on the CPU it is the oracle of ours). A stage is the smallest
//! thing a forward pass can be paused between. Activations live in named [`Slot`]s of a workspace, so a stage names its inputs
//! and outputs and a backend keeps them wherever it likes.

mod altup;
mod attention;
pub mod candle;
mod check;
pub mod cpu;
mod latent;
#[cfg(test)]
mod naive;
#[expect(unsafe_code, reason = "the edge to another shared library")]
pub mod plugin;
mod routing;

pub use altup::{Altup, AltupShape, StreamStage, Streams};
pub use attention::{Attention, Sight, Temperature};
pub use latent::{Latent, LatentShape};
pub use routing::{Experts, Groups, Mlp, MoeShape, Pick, Routing, Scores};

use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::kernels::{self, GateFn, Kernels as _, KvType, RopeStyle, TILE_TOKENS, WeightRows};
use crate::sys::mapping::Bytes;
use crate::sys::memory::try_vec;
use std::io::Write;
use std::ops::Range;

/// Tokens per KV block. Attention tiles and split borders sit at absolute multiples of it, which keeps results independent of chunking.
pub const BLOCK_TOKENS: usize = TILE_TOKENS;

/// Index of a KV block in the storage of a model.
pub type BlockId = u32;

/// A tensor as it comes from a file: `n_rows` rows of `n_cols` elements (a vector is one row).
pub struct HostTensor {
    /// Name in the file, for error messages.
    pub name: String,
    /// Storage type.
    pub dtype: DType,
    /// Output features.
    pub n_rows: usize,
    /// Input features: the contiguous dimension.
    pub n_cols: usize,
    /// `(n_rows, dtype.row_bytes(n_cols))`
    pub data: Bytes,
}

/// The named activation buffers of a pass; each is `(rows of the batch, width)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// `(rows, n_heads * head_dim)`
    Query,
    /// `(rows, n_kv_heads * head_dim)`
    Key,
    /// `(rows, n_kv_heads * head_dim)`
    Value,
    /// `(rows, n_ff)`
    Gate,
    /// `(rows, n_ff)`
    Up,
}

/// A projection: `y = W x + b`. Adapters will attach here.
pub struct Linear<B: Backend> {
    /// `(n_out, n_in)`
    pub weight: B::Matrix,
    /// `(n_out,)`
    pub bias: Option<B::Vector>,
}

/// What a norm divides by, and whether it moves the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)` (Zhang and Sennrich 2019).
    Rms,
    /// `(x - mean(x)) / sqrt(var(x) + eps)` (Ba et al. 2016).
    Layer,
}

/// Normalisation with learned weights, of every `n` elements.
pub struct Norm<B: Backend> {
    /// `(n,)`
    pub weight: B::Vector,
    /// `(n,)`: added in the end. Only where `kind` is [`NormKind::Layer`].
    pub bias: Option<B::Vector>,
    /// Added to the mean square, or the variance.
    pub eps: f32,
    /// What it divides by.
    pub kind: NormKind,
}

/// How the output of attention or feed-forward joins the residual: `residual += scale * norm(output)`.
pub struct Join<B: Backend> {
    /// `(n_embd,)`: a sandwich norm (Gemma 2, OLMo 2), if any.
    pub norm: Option<Norm<B>>,
    /// Granite's residual multiplier; 1 otherwise.
    pub scale: f32,
}

impl<B: Backend> Default for Join<B> {
    /// Plain addition.
    fn default() -> Self {
        Self { norm: None, scale: 1.0 }
    }
}

/// The norms of heads before they rotate: each head by itself, or all of a row together, as the weights are long.
pub struct HeadNorms<'a, B: Backend> {
    /// `(head_dim,)` or `(n_heads * head_dim,)`
    pub query: &'a Norm<B>,
    /// `(head_dim,)` or `(n_kv_heads * head_dim,)`
    pub key: &'a Norm<B>,
    /// `(head_dim,)`: values do not rotate, but Gemma 3n normalises them.
    pub value: Option<&'a Norm<B>>,
}

impl<B: Backend> Clone for HeadNorms<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for HeadNorms<'_, B> {}

/// What a feed-forward does between its projections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FeedForwardFn {
    /// `f(Gate) * Up` (Shazeer 2020).
    Gated(GateFn),
    /// `f(Up)`
    Plain(GateFn),
    /// `f(max(Gate - cut, 0)) * Up`, where `cut` is the mean of a row of `Gate` plus so many of its standard deviations: few of them stay (Gemma 3n).
    Sparse(GateFn, f32),
    /// gpt-oss's: `(up + 1) * gate * sigmoid(ALPHA * gate)`, after `Gate` was kept below [`Self::LIMIT`] and `Up` within it.
    Clamped,
}

impl FeedForwardFn {
    /// Sharpness of the gate of [`Self::Clamped`]: SiLU with it comes near GELU (Hendrycks and Gimpel 2016).
    pub const ALPHA: f32 = 1.702;
    /// Where [`Self::Clamped`] cuts.
    pub const LIMIT: f32 = 7.0;
}

/// The rotary embedding of a model: angles are `position * inv_freq[i]`.
#[derive(Clone, Debug)]
pub struct Rope {
    /// `(n_rot / 2,)`; everything that scales frequencies is already in it.
    pub inv_freq: Vec<f32>,
    /// Which elements turn against each other.
    pub style: RopeStyle,
    /// Multiplies cosine and sine (YaRN's attention factor); 1 otherwise.
    pub magnitude: f32,
}

/// The sizes that workspaces and KV blocks are made from.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Layers with keys and values of their own.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key/value heads.
    pub n_kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Width of the widest feed-forward that every row takes.
    pub n_ff: usize,
    /// For a model with experts.
    pub moe: Option<MoeShape>,
    /// For a model with several residual streams.
    pub altup: Option<AltupShape>,
    /// For attention over latents; there is one KV head then, and it is a latent behind its rotated part.
    pub latent: Option<LatentShape>,
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
}

/// The rows of a batch that belong to one sequence, in order of position.
#[derive(Clone, Debug, Default)]
pub struct SequenceRows {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Position of the first row; row `i` has `start + i`.
    pub start: usize,
    /// Its part of [`Batch::blocks`].
    pub blocks: Range<usize>,
}

/// Rows of tokens from several sequences: the input of one forward pass.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// `(rows,)`
    pub tokens: Vec<u32>,
    /// `(rows,)`
    pub positions: Vec<u32>,
    /// Consecutive, covering all rows.
    pub sequences: Vec<SequenceRows>,
    /// The block tables of all sequences, one after the other.
    pub blocks: Vec<BlockId>,
    /// Rows whose logits are wanted, ascending.
    pub outputs: Vec<usize>,
}

impl Batch {
    /// Rows.
    pub fn n_rows(&self) -> usize {
        self.tokens.len()
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.blocks.clear();
        self.outputs.clear();
    }

    /// The block table of `sequence`: entry `p / BLOCK_TOKENS` holds position `p`; covers all its rows.
    pub fn table(&self, sequence: &SequenceRows) -> &[BlockId] {
        &self.blocks[sequence.blocks.clone()]
    }

    /// Adds `tokens` of a sequence from position `start`; the logits of the last one are wanted if `wants_logits`.
    pub fn push(&mut self, tokens: &[u32], start: usize, blocks: &[BlockId], wants_logits: bool) {
        self.push_rows(tokens, start, blocks, usize::from(wants_logits));
    }

    /// As [`Self::push`]; the logits of the last `n_outputs` tokens are wanted.
    pub fn push_rows(&mut self, tokens: &[u32], start: usize, blocks: &[BlockId], n_outputs: usize) {
        let (first, first_block) = (self.tokens.len(), self.blocks.len());
        self.blocks.extend_from_slice(blocks);
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((start..start + tokens.len()).map(|p| p as u32));
        self.sequences.push(SequenceRows { rows: first..self.tokens.len(), start, blocks: first_block..self.blocks.len() });
        let end = self.tokens.len();
        self.outputs.extend(end - n_outputs.min(tokens.len())..end);
    }
}

/// Rows of `values.len()` elements, float as `from` says, in storage type `to`; `values` is scratch.
fn encode_rows(from: DType, to: DType, rows: &[u8], out: &mut [u8], values: &mut [f32]) {
    let bytes = |dtype: DType| dtype.row_bytes(values.len()).filter(|&n| n > 0);
    let (Some(row_bytes), Some(out_bytes)) = (bytes(from), bytes(to)) else { return };
    for (row, out) in rows.chunks_exact(row_bytes).zip(out.chunks_exact_mut(out_bytes)) {
        kernels::Reference.dequantize(WeightRows::stored(from, values.len(), row), values);
        kernels::encode(to, values, out);
    }
}

/// A device that can hold weights and run the stages of a decoder.
///
/// Stages are called in the order of the decoder, one pass per workspace; several workspaces may be in flight. A row's result
/// depends only on its own sequence: never on the other rows, on chunking, or on the number of threads.
pub trait Backend: Send + Sync + Sized + 'static {
    /// Weights `(n_out, n_in)`.
    type Matrix: Send + Sync;
    /// Weights `(n,)`.
    type Vector: Send + Sync;
    /// The keys and values of every block, for every layer.
    type Kv: Send;
    /// The activations of one pass.
    type Workspace: Send;

    /// True if the promise about a row's result above holds to the last bit.
    const BIT_STABLE: bool;

    /// `"cpu"`, `"candle"`.
    fn name(&self) -> &'static str;

    /// True if products with matrices of this type may use the rows as they lie in a file, where the file is mapped.
    fn uses_stored(&self, _dtype: DType) -> bool {
        false
    }

    /// Takes a weight matrix.
    fn matrix(&self, tensor: HostTensor) -> Result<Self::Matrix>;

    /// As [`Self::matrix`], in slices of a load.
    fn matrix_in_slices(&self, tensor: HostTensor) -> impl Future<Output = Result<Self::Matrix>> + Send {
        async { self.matrix(tensor) }
    }

    /// Takes a weight matrix of which only rows will be asked for: it may be larger than all others together.
    fn table(&self, tensor: HostTensor) -> Result<Self::Matrix> {
        self.matrix(tensor)
    }

    /// Takes a weight vector.
    fn vector(&self, tensor: HostTensor) -> Result<Self::Vector>;

    /// Writes whole `rows` of `n_cols` elements, float as `from` says, in storage type `to` into `out`.
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn encode(&self, from: DType, to: DType, n_cols: usize, rows: &[u8], out: &mut [u8]) -> Result<()> {
        let mut values = try_vec(n_cols)?;
        encode_rows(from, to, rows, out, &mut values);
        Ok(())
    }

    /// Writes the rows of a matrix as they lay in its file.
    ///
    /// # Errors
    /// `Unsupported`, `Io` from `out`, `OutOfMemory`.
    fn write_matrix(&self, _matrix: &Self::Matrix, _out: &mut dyn Write) -> Result<()> {
        fail!(Unsupported, "the {} backend cannot give weights back", self.name());
    }

    /// The elements of a vector.
    ///
    /// # Errors
    /// As [`Self::write_matrix`].
    fn vector_values(&self, _vector: &Self::Vector) -> Result<Vec<f32>> {
        fail!(Unsupported, "the {} backend cannot give weights back", self.name());
    }

    /// Bytes that a matrix occupies; not those of a mapped file.
    fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize;

    /// Bytes that a matrix `(n_rows, n_cols)` of a file will occupy.
    fn planned_bytes(&self, dtype: DType, n_rows: usize, n_cols: usize) -> u64;

    /// As [`Self::planned_bytes`], for [`Self::table`].
    fn planned_table_bytes(&self, dtype: DType, n_rows: usize, n_cols: usize) -> u64 {
        self.planned_bytes(dtype, n_rows, n_cols)
    }

    /// Bytes of a workspace, without what grows with the context.
    fn workspace_bytes(&self, shape: &Shape, max_rows: usize, max_outputs: usize) -> u64;

    /// KV storage without blocks.
    fn kv(&self, shape: &Shape, kind: KvType) -> Result<Self::Kv>;

    /// Makes blocks `0..n_blocks` exist. Fails without changing what exists.
    fn grow_kv(&self, kv: &mut Self::Kv, n_blocks: usize) -> Result<()>;

    /// Bytes of a block.
    fn kv_block_bytes(&self, kv: &Self::Kv) -> usize;

    /// Copies block `from` to block `to`, of all layers.
    fn copy_block(&self, kv: &mut Self::Kv, from: BlockId, to: BlockId) -> Result<()>;

    /// Rotates the keys of `blocks` back by `n_positions`, in all layers: `R(p) k` becomes `R(p - n_positions) k`.
    ///
    /// # Errors
    /// `Unsupported`, `Internal`.
    fn turn_back(&self, _kv: &mut Self::Kv, _blocks: &[BlockId], _n_positions: usize, _rope: &Rope) -> Result<()> {
        fail!(Unsupported, "the {} backend cannot shift a context", self.name());
    }

    /// Copies block `id` into `out`, `kv_block_bytes` long, in a layout of the backend's own.
    ///
    /// # Errors
    /// `Unsupported`, `Internal`.
    fn read_block(&self, _kv: &Self::Kv, _id: BlockId, _out: &mut [u8]) -> Result<()> {
        fail!(Unsupported, "the {} backend cannot save keys and values", self.name());
    }

    /// The reverse of [`Self::read_block`].
    ///
    /// # Errors
    /// As there.
    fn write_block(&self, _kv: &mut Self::Kv, _id: BlockId, _bytes: &[u8]) -> Result<()> {
        fail!(Unsupported, "the {} backend cannot restore keys and values", self.name());
    }

    /// A workspace for passes of up to `max_rows` rows, `max_outputs` of them with logits.
    fn workspace(&self, shape: &Shape, max_rows: usize, max_outputs: usize) -> Result<Self::Workspace>;

    /// Starts a pass: takes the batch's positions and computes its angles for each of `ropes`.
    fn begin(&self, ws: &mut Self::Workspace, batch: &Batch, ropes: &[Rope]) -> Result<()>;

    /// `residual = scale * table[tokens]`
    fn embed(&self, ws: &mut Self::Workspace, batch: &Batch, table: &Self::Matrix, scale: f32) -> Result<()>;

    /// Takes the residual, `(rows, n_embd)`, from where the layers before were computed. Follows `begin` in the place of `embed`.
    fn set_residual(&self, ws: &mut Self::Workspace, batch: &Batch, residual: &[f32]) -> Result<()>;

    /// Copies the residual, `(rows, n_embd)`, into `out`: to where the layers behind are computed.
    fn residual(&self, ws: &Self::Workspace, out: &mut [f32]) -> Result<()>;

    /// Normalises the residual, if there is a norm, and multiplies it with each projection into its slot.
    fn norm_project(&self, ws: &mut Self::Workspace, norm: Option<&Norm<Self>>, projections: &[(Slot, &Linear<Self>)]) -> Result<()>;

    /// Normalises the residual, if there is a norm, and makes Query and Key of it, each head the rotating part before the latent: what `rope_append`
    /// takes. There is no Value: a latent is its own.
    fn latent_project(&self, ws: &mut Self::Workspace, norm: Option<&Norm<Self>>, latent: &Latent<Self>) -> Result<()>;

    /// Makes each head's value of what `attend` has left in Query: `(n_heads, head_dim)` becomes `(n_heads, n_value)`.
    fn latent_values(&self, ws: &mut Self::Workspace, latent: &Latent<Self>) -> Result<()>;

    /// Normalises Query, Key and Value as `head_norms` say, if given, rotates Query and Key with `ropes[rope]` of `begin`, or not at all, and writes
    /// Key and Value into the sequence's blocks.
    fn rope_append(
        &self,
        ws: &mut Self::Workspace,
        batch: &Batch,
        layer: usize,
        head_norms: Option<HeadNorms<'_, Self>>,
        rope: Option<usize>,
        kv: &mut Self::Kv,
    ) -> Result<()>;

    /// As [`Self::rope_append`], of Query alone: for a layer that reads the keys and values of another one.
    fn rope_query(&self, ws: &mut Self::Workspace, batch: &Batch, norm: Option<&Norm<Self>>, rope: Option<usize>) -> Result<()>;

    /// `Query = softmax(Query K^T) V` over all positions the row may see. `sinks` (`(n_heads,)`) are scores of a position without a value (Xiao et al.
    /// 2023, arXiv 2309.17453).
    fn attend(
        &self,
        ws: &mut Self::Workspace,
        batch: &Batch,
        layer: usize,
        attention: &Attention,
        sinks: Option<&Self::Vector>,
        kv: &Self::Kv,
    ) -> Result<()>;

    /// Joins `W Query + b` to the residual.
    fn project_add(&self, ws: &mut Self::Workspace, linear: &Linear<Self>, join: &Join<Self>) -> Result<()>;

    /// Joins `W f + b` to the residual, where `f` is what `f` makes of Gate and Up.
    fn glu(&self, ws: &mut Self::Workspace, f: FeedForwardFn, down: &Linear<Self>, join: &Join<Self>) -> Result<()>;

    /// Normalises the residual, if there is a norm, chooses the experts of each row, and multiplies it with their gate and up, and with those of the
    /// shared expert.
    fn moe_up(&self, ws: &mut Self::Workspace, norm: Option<&Norm<Self>>, experts: &Experts<Self>) -> Result<()>;

    /// Adds the sum of what each row's experts give, weighed, times `scale`, to the residual. Follows `moe_up`.
    fn moe_down(&self, ws: &mut Self::Workspace, f: FeedForwardFn, experts: &Experts<Self>, scale: f32) -> Result<()>;

    /// Runs a stage of a model with several residual streams.
    ///
    /// # Errors
    /// `Unsupported`, `Internal`.
    fn streams(&self, _ws: &mut Self::Workspace, _batch: &Batch, _stage: StreamStage<'_, Self>) -> Result<()> {
        fail!(Unsupported, "the {} backend has no models with several residual streams", self.name());
    }

    /// Logits of the vocabulary rows `vocab` for the batch's outputs: `W norm(residual)`. Called for consecutive ranges.
    fn head(&self, ws: &mut Self::Workspace, batch: &Batch, norm: &Norm<Self>, weight: &Self::Matrix, vocab: Range<usize>) -> Result<()>;

    /// Copies the logits of output `i` of the batch into `out` (`(n_vocab,)`). Valid after the last `head`.
    fn logits(&self, ws: &Self::Workspace, i: usize, out: &mut [f32]) -> Result<()>;
}
