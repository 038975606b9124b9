//! What crosses between the library and a plugin: C structs and one table of functions, see [`super`].
//!
//! Strings and slices are pointer and length, options are NULL, Rust's types cross as handles. Every function that can fail returns 0, or the number of
//! an [`ErrorKind`] with the rest in the [`Failure`] that its caller owns. None of them unwinds.

use crate::error::{Error, ErrorKind, Result};
use std::ffi::c_void;

/// Counts the changes of this file. Both sides also compare what they were built from.
pub const ABI: u32 = 1;

/// The one symbol of a plugin, a [`OpenPlugin`].
pub const SYMBOL: &std::ffi::CStr = c"inf_plugin_open";

/// What both sides were built from: version and a sum of the sources.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "-", env!("INFERENCE_SOURCES"));

/// Hands over the table and what its first functions take, if `abi` and `build` are the plugin's own; else the failure says what it is.
pub type OpenPlugin =
    unsafe extern "C" fn(abi: u32, build: Slice<u8>, table: *mut *const Table, provider: *mut Handle, failure: *mut Failure) -> u32;

/// Something of the plugin's.
pub type Handle = *mut c_void;

/// Values that are only read, and only during the call.
#[repr(C)]
pub struct Slice<T> {
    start: *const T,
    len: usize,
}

impl<T> Clone for Slice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slice<T> {}

impl<T> Slice<T> {
    /// As long as `values` live.
    pub fn new(values: &[T]) -> Self {
        Self { start: values.as_ptr(), len: values.len() }
    }

    /// The values.
    ///
    /// # Safety
    /// It was made by [`Self::new`] of values that live for `'a`.
    pub unsafe fn get<'a>(self) -> &'a [T] {
        // SAFETY: pointer and length of a slice, by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// Values that are written during the call.
#[repr(C)]
pub struct SliceMut<T> {
    start: *mut T,
    len: usize,
}

impl<T> SliceMut<T> {
    /// As long as `values` live; nobody else uses them meanwhile.
    pub fn new(values: &mut [T]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len() }
    }

    /// The values.
    ///
    /// # Safety
    /// It was made by [`Self::new`] of values that live for `'a`, and is used once.
    pub unsafe fn get<'a>(self) -> &'a mut [T] {
        // SAFETY: pointer and length of a slice that nobody else uses, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

/// Bytes of a message that crosses.
const MESSAGE: usize = 1000;

/// An [`Error`] on its way.
#[repr(C)]
pub struct Failure {
    detail: [i64; 2],
    kind: u32,
    len: u32,
    message: [u8; MESSAGE],
}

/// The kinds that cross; the number is the position, counted from 1.
const KINDS: [ErrorKind; 9] = [
    ErrorKind::Internal,
    ErrorKind::InvalidArgument,
    ErrorKind::Format,
    ErrorKind::Unsupported,
    ErrorKind::OutOfMemory,
    ErrorKind::NoDevice,
    ErrorKind::DeviceLost,
    ErrorKind::Abi,
    ErrorKind::Io,
];

impl Failure {
    /// None.
    pub const fn none() -> Self {
        Self { detail: [0; 2], kind: 0, len: 0, message: [0; MESSAGE] }
    }

    /// Takes `error` and returns its number.
    pub fn put(&mut self, error: &Error) -> u32 {
        let text = error.message();
        let len = (0..=MESSAGE.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        self.message[..len].copy_from_slice(&text.as_bytes()[..len]);
        let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or(0);
        (self.kind, self.len, self.detail) = (kind as u32 + 1, len as u32, error.detail());
        self.kind
    }

    /// What a function returned, with what is in here.
    ///
    /// # Errors
    /// The one that was put.
    pub fn check(&self, status: u32) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        let kind = KINDS.get((status as usize).wrapping_sub(1)).copied().unwrap_or(ErrorKind::Internal);
        let text = String::from_utf8_lossy(&self.message[..MESSAGE.min(self.len as usize)]).into_owned();
        Err(Error::new(kind, text).with_detail(self.detail))
    }
}

/// A device, usable or not. Texts are UTF-8 and end with a zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DeviceRow {
    /// Bytes.
    pub memory_total: u64,
    /// Bytes.
    pub memory_free: u64,
    /// 1, or 0 with a reason.
    pub usable: u32,
    /// 0.
    pub reserved: u32,
    /// The same in every process: a UUID.
    pub uuid: [u8; 64],
    /// For people.
    pub name: [u8; 96],
    /// Why it is not usable.
    pub reason: [u8; 128],
}

/// A weight tensor as a file stores it.
#[repr(C)]
pub struct TensorRef {
    /// UTF-8.
    pub name: Slice<u8>,
    /// Position in `DType::ALL`.
    pub dtype: u32,
    /// 0.
    pub reserved: u32,
    /// Rows.
    pub n_rows: usize,
    /// Columns.
    pub n_cols: usize,
    /// `(n_rows, bytes of a row)`
    pub data: Slice<u8>,
}

/// `crate::backend::Shape`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ShapeRef {
    pub n_layers: usize,
    pub n_embd: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub n_ff: usize,
    pub n_vocab: usize,
    /// 0 = none.
    pub n_experts: usize,
    pub n_used: usize,
    pub n_expert_ff: usize,
    /// Residual streams; 0 = one, and the next four are 0.
    pub n_streams: usize,
    pub active_stream: usize,
    pub n_per_layer: usize,
    pub n_per_layer_inputs: usize,
    pub laurel_rank: usize,
    /// Elements of a latent; 0 = attention over keys and values, and the next four are 0.
    pub latent_rank: usize,
    pub latent_rot: usize,
    pub latent_still: usize,
    pub latent_value: usize,
    /// 0 = queries are made of the residual.
    pub latent_query_rank: usize,
}

/// A rope of a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RopeRef {
    /// `(n_rot / 2,)`
    pub inv_freq: Slice<f32>,
    /// 1 = halves, 0 = neighbours.
    pub halves: u32,
    /// Multiplies cosine and sine.
    pub magnitude: f32,
}

/// Rows of a sequence.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SequenceRef {
    /// Rows of the batch.
    pub rows: [usize; 2],
    /// Position of the first.
    pub start: usize,
    /// Its blocks in the batch.
    pub blocks: [usize; 2],
}

/// `crate::backend::Batch`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct BatchRef {
    pub tokens: Slice<u32>,
    pub positions: Slice<u32>,
    pub sequences: Slice<SequenceRef>,
    pub blocks: Slice<u32>,
    pub outputs: Slice<usize>,
}

/// A projection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LinearRef {
    /// A matrix.
    pub weight: Handle,
    /// A vector, or NULL.
    pub bias: Handle,
}

/// A norm; weight is NULL where there is none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NormRef {
    /// A vector.
    pub weight: Handle,
    /// A vector, or NULL.
    pub bias: Handle,
    /// Added to the mean square, or the variance.
    pub eps: f32,
    /// 1 = moves the mean.
    pub is_layer: u32,
}

/// A projection into a slot.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ProjectionRef {
    /// What is projected.
    pub linear: LinearRef,
    /// `crate::backend::Slot`
    pub slot: u32,
    /// 0.
    pub reserved: u32,
}

/// How an output joins the residual.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct JoinRef {
    /// Or none.
    pub norm: NormRef,
    /// The residual multiplier.
    pub scale: f32,
    /// 0.
    pub reserved: u32,
}

/// `crate::backend::Attention`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AttentionRef {
    /// Multiplies `q . k`.
    pub scale: f32,
    /// 0 = none.
    pub softcap: f32,
    /// 0 all, 1 window, 2 chunk.
    pub sight: u32,
    /// Of the window or the chunk.
    pub reach: u32,
    /// 0 = no temperature.
    pub temperature_length: f32,
    /// Height of its steps.
    pub temperature_scale: f32,
}

/// `crate::backend::FeedForwardFn`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FeedForwardRef {
    /// 0..4 gated by, 4..8 plain, 8 clamped, 9..13 sparse.
    pub number: u32,
    /// Of the sparse: where it cuts.
    pub deviations: f32,
}

/// `crate::backend::Latent`
#[repr(C)]
pub struct LatentRef {
    /// Weight NULL = none, and the norm is none.
    pub query_down: LinearRef,
    pub query_down_norm: NormRef,
    pub query: LinearRef,
    pub key: LinearRef,
    pub norm: NormRef,
    pub key_up: LinearRef,
    pub value_up: LinearRef,
}

/// `crate::backend::Streams`
#[repr(C)]
pub struct StreamsRef {
    pub spread: LinearRef,
    pub merge: LinearRef,
    /// A matrix that was made as a table.
    pub table: Handle,
    pub inputs: LinearRef,
    pub inputs_norm: NormRef,
}

/// `crate::backend::Altup`
#[repr(C)]
pub struct AltupRef {
    pub router_norm: NormRef,
    pub router: Slice<f32>,
    pub predict: Slice<f32>,
    pub correct: Slice<f32>,
    pub output_scale: Slice<f32>,
    pub laurel_left: LinearRef,
    pub laurel_right: LinearRef,
    pub laurel_norm: NormRef,
    pub gate: LinearRef,
    pub output: LinearRef,
    pub output_norm: NormRef,
    /// Between gate and input: a gate function.
    pub f: u32,
    /// 0.
    pub reserved: u32,
}

/// `crate::backend::StreamStage`
#[repr(C)]
pub struct StreamStageRef {
    /// 0 spreads, 1 predicts, 2 the learned residual, 3 corrects, 4 merges.
    pub stage: u32,
    /// 0.
    pub reserved: u32,
    /// Of 0 and 4, else NULL.
    pub streams: *const StreamsRef,
    /// Of 1, 2 and 3, else NULL.
    pub altup: *const AltupRef,
    /// Of 2, else none.
    pub norm: NormRef,
    /// Of 3.
    pub layer: usize,
}

/// `crate::backend::Experts`.
#[repr(C)]
pub struct ExpertsRef {
    /// All experts'.
    pub router: LinearRef,
    /// Empty = none.
    pub choice_bias: Slice<f32>,
    /// All experts'.
    pub gate: LinearRef,
    /// All experts'.
    pub up: LinearRef,
    /// All experts'.
    pub down: LinearRef,
    /// Of the shared expert: gate (weight NULL = none), up (weight NULL = there is no shared expert), down.
    pub shared: [LinearRef; 3],
    /// Empty = none.
    pub shared_gate: Slice<f32>,
    /// Experts that a row takes.
    pub n_used: usize,
    /// 0 = no groups.
    pub n_groups: usize,
    /// Groups that a row may choose from.
    pub n_used_groups: usize,
    /// Multiplies the weights.
    pub scale: f32,
    /// Softmax, of the chosen, sigmoid, sparse mixer.
    pub scores: u32,
    /// Bits: 1 normalises, 2 weighs the input, 4 groups sum two.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

/// The functions of a plugin: how to get a backend, and the methods of [`crate::backend::Backend`] on it.
///
/// Handles belong to the library, which gives each back once with the function of its kind; weights may go after the backend that made them. Calls with
/// the same workspace or KV handle do not overlap, others may.
#[repr(C)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub struct Table {
    /// `size_of::<Table>()`
    pub size: usize,
    /// How many devices there are now, and where there is none, why, as a failure.
    pub n_devices: unsafe extern "C" fn(provider: Handle, n: *mut u32, f: *mut Failure) -> u32,
    pub device: unsafe extern "C" fn(provider: Handle, i: u32, out: *mut DeviceRow, f: *mut Failure) -> u32,
    pub open: unsafe extern "C" fn(provider: Handle, device: u32, backend: *mut Handle, f: *mut Failure) -> u32,
    pub free_provider: unsafe extern "C" fn(Handle),
    pub close: unsafe extern "C" fn(backend: Handle),

    pub matrix:
        unsafe extern "C" fn(backend: Handle, tensor: *const TensorRef, out: *mut Handle, n_bytes: *mut usize, f: *mut Failure) -> u32,
    /// A matrix as well.
    pub table:
        unsafe extern "C" fn(backend: Handle, tensor: *const TensorRef, out: *mut Handle, n_bytes: *mut usize, f: *mut Failure) -> u32,
    pub free_matrix: unsafe extern "C" fn(Handle),
    pub vector: unsafe extern "C" fn(backend: Handle, tensor: *const TensorRef, out: *mut Handle, f: *mut Failure) -> u32,
    pub free_vector: unsafe extern "C" fn(Handle),
    pub planned_bytes: unsafe extern "C" fn(backend: Handle, dtype: u32, n_rows: usize, n_cols: usize) -> u64,
    pub planned_table_bytes: unsafe extern "C" fn(backend: Handle, dtype: u32, n_rows: usize, n_cols: usize) -> u64,

    pub kv: unsafe extern "C" fn(
        backend: Handle,
        shape: *const ShapeRef,
        kind: u32,
        out: *mut Handle,
        block_bytes: *mut usize,
        f: *mut Failure,
    ) -> u32,
    pub free_kv: unsafe extern "C" fn(Handle),
    pub grow_kv: unsafe extern "C" fn(backend: Handle, kv: Handle, n_blocks: usize, f: *mut Failure) -> u32,
    pub copy_block: unsafe extern "C" fn(backend: Handle, kv: Handle, from: u32, to: u32, f: *mut Failure) -> u32,
    pub turn_back: unsafe extern "C" fn(
        backend: Handle,
        kv: Handle,
        blocks: Slice<u32>,
        n_positions: usize,
        rope: *const RopeRef,
        f: *mut Failure,
    ) -> u32,
    pub read_block: unsafe extern "C" fn(backend: Handle, kv: Handle, id: u32, out: SliceMut<u8>, f: *mut Failure) -> u32,
    pub write_block: unsafe extern "C" fn(backend: Handle, kv: Handle, id: u32, bytes: Slice<u8>, f: *mut Failure) -> u32,

    pub workspace_bytes: unsafe extern "C" fn(backend: Handle, shape: *const ShapeRef, max_rows: usize, max_outputs: usize) -> u64,
    pub workspace: unsafe extern "C" fn(
        backend: Handle,
        shape: *const ShapeRef,
        max_rows: usize,
        max_outputs: usize,
        out: *mut Handle,
        f: *mut Failure,
    ) -> u32,
    pub free_workspace: unsafe extern "C" fn(Handle),
    /// The stages that follow are about this batch.
    pub begin: unsafe extern "C" fn(backend: Handle, ws: Handle, batch: *const BatchRef, ropes: Slice<RopeRef>, f: *mut Failure) -> u32,
    pub embed: unsafe extern "C" fn(backend: Handle, ws: Handle, table: Handle, scale: f32, f: *mut Failure) -> u32,
    pub set_residual: unsafe extern "C" fn(backend: Handle, ws: Handle, residual: Slice<f32>, f: *mut Failure) -> u32,
    pub residual: unsafe extern "C" fn(backend: Handle, ws: Handle, out: SliceMut<f32>, f: *mut Failure) -> u32,
    pub norm_project:
        unsafe extern "C" fn(backend: Handle, ws: Handle, norm: *const NormRef, projections: Slice<ProjectionRef>, f: *mut Failure) -> u32,
    pub latent_project:
        unsafe extern "C" fn(backend: Handle, ws: Handle, norm: *const NormRef, latent: *const LatentRef, f: *mut Failure) -> u32,
    pub latent_values: unsafe extern "C" fn(backend: Handle, ws: Handle, latent: *const LatentRef, f: *mut Failure) -> u32,
    /// head_norms: none, or those of queries and keys, or of values besides; rope: -1 = none.
    pub rope_append: unsafe extern "C" fn(
        backend: Handle,
        ws: Handle,
        layer: usize,
        head_norms: Slice<NormRef>,
        rope: i64,
        kv: Handle,
        f: *mut Failure,
    ) -> u32,
    /// rope: -1 = none.
    pub rope_query: unsafe extern "C" fn(backend: Handle, ws: Handle, norm: *const NormRef, rope: i64, f: *mut Failure) -> u32,
    pub attend: unsafe extern "C" fn(
        backend: Handle,
        ws: Handle,
        layer: usize,
        attention: *const AttentionRef,
        sinks: Handle,
        kv: Handle,
        f: *mut Failure,
    ) -> u32,
    pub project_add:
        unsafe extern "C" fn(backend: Handle, ws: Handle, linear: *const LinearRef, join: *const JoinRef, f: *mut Failure) -> u32,
    pub glu: unsafe extern "C" fn(
        backend: Handle,
        ws: Handle,
        function: FeedForwardRef,
        down: *const LinearRef,
        join: *const JoinRef,
        f: *mut Failure,
    ) -> u32,
    pub moe_up: unsafe extern "C" fn(backend: Handle, ws: Handle, norm: *const NormRef, experts: *const ExpertsRef, f: *mut Failure) -> u32,
    pub moe_down: unsafe extern "C" fn(
        backend: Handle,
        ws: Handle,
        function: FeedForwardRef,
        experts: *const ExpertsRef,
        scale: f32,
        f: *mut Failure,
    ) -> u32,
    pub streams: unsafe extern "C" fn(backend: Handle, ws: Handle, stage: *const StreamStageRef, f: *mut Failure) -> u32,
    pub head: unsafe extern "C" fn(
        backend: Handle,
        ws: Handle,
        norm: *const NormRef,
        weight: Handle,
        start: usize,
        end: usize,
        f: *mut Failure,
    ) -> u32,
    pub logits: unsafe extern "C" fn(backend: Handle, ws: Handle, i: usize, out: SliceMut<f32>, f: *mut Failure) -> u32,
}
