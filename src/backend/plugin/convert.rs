//! What crosses, from C's structs to Rust's types, on the plugin's side; weights come as handles and leave as clones, which are the same weights.

use super::table::{
    AltupRef, AttentionRef, BatchRef, ExpertsRef, FeedForwardRef, Handle, JoinRef, LatentRef, LinearRef, NormRef, RopeRef, ShapeRef,
    StreamsRef, TensorRef,
};
use crate::backend::{
    Altup, AltupShape, Attention, Backend, Batch, Experts, FeedForwardFn, Groups, HostTensor, Join, Latent, LatentShape, Linear, Mlp,
    MoeShape, Norm, NormKind, Rope, Routing, Scores, SequenceRows, Shape, Sight, Slot, Streams, Temperature,
};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::kernels::{GateFn, KvType, RopeStyle};
use crate::sys::memory::AlignedBytes;

/// `values[number]`
fn numbered<T: Copy>(what: &str, values: &[T], number: u32) -> Result<T> {
    match values.get(number as usize) {
        Some(value) => Ok(*value),
        None => fail!(Abi, "plugin: {what} {number}"),
    }
}

pub(super) fn dtype(number: u32) -> Result<DType> {
    numbered("storage type", &DType::ALL, number)
}

pub(super) fn kv_type(number: u32) -> Result<KvType> {
    numbered("KV type", &[KvType::F32, KvType::F16, KvType::Q8_0], number)
}

pub(super) fn slot(number: u32) -> Result<Slot> {
    numbered("slot", &[Slot::Query, Slot::Key, Slot::Value, Slot::Gate, Slot::Up], number)
}

fn gate(number: u32) -> Result<GateFn> {
    numbered("gate", &[GateFn::Silu, GateFn::GeluTanh, GateFn::GeluErf, GateFn::Relu2], number)
}

pub(super) fn feed_forward(f: FeedForwardRef) -> Result<FeedForwardFn> {
    Ok(match f.number {
        0..4 => FeedForwardFn::Gated(gate(f.number)?),
        4..8 => FeedForwardFn::Plain(gate(f.number - 4)?),
        8 => FeedForwardFn::Clamped,
        9..13 => FeedForwardFn::Sparse(gate(f.number - 9)?, f.deviations),
        other => fail!(Abi, "plugin: feed-forward {other}"),
    })
}

/// # Safety
/// Its slices live.
pub(super) unsafe fn tensor(tensor: &TensorRef) -> Result<HostTensor> {
    // SAFETY: passed on from the caller.
    let (name, bytes) = unsafe { (tensor.name.get(), tensor.data.get()) };
    let mut data = AlignedBytes::zeroed(bytes.len())?;
    data.as_mut_slice().copy_from_slice(bytes);
    let name = String::from_utf8_lossy(name).into_owned();
    Ok(HostTensor { name, dtype: dtype(tensor.dtype)?, n_rows: tensor.n_rows, n_cols: tensor.n_cols, data: data.into() })
}

pub(super) fn shape(shape: &ShapeRef) -> Shape {
    let s = *shape;
    let latent = LatentShape {
        rank: s.latent_rank,
        n_rot: s.latent_rot,
        n_still: s.latent_still,
        n_value: s.latent_value,
        query_rank: (s.latent_query_rank > 0).then_some(s.latent_query_rank),
    };
    let (n_layers, n_per_layer) = (s.n_per_layer_inputs, s.n_per_layer);
    let altup = AltupShape { n_streams: s.n_streams, active: s.active_stream, n_per_layer, n_layers, rank: s.laurel_rank };
    Shape {
        n_layers: s.n_layers,
        n_embd: s.n_embd,
        n_heads: s.n_heads,
        n_kv_heads: s.n_kv_heads,
        head_dim: s.head_dim,
        n_ff: s.n_ff,
        moe: (s.n_experts > 0).then_some(MoeShape { n_experts: s.n_experts, n_used: s.n_used, n_ff: s.n_expert_ff }),
        altup: (s.n_streams > 0).then_some(altup),
        latent: (s.latent_rank > 0).then_some(latent),
        n_vocab: s.n_vocab,
    }
}

/// # Safety
/// Its slice lives.
pub(super) unsafe fn rope(rope: &RopeRef) -> Rope {
    let style = if rope.halves == 1 { RopeStyle::Halves } else { RopeStyle::Interleaved };
    // SAFETY: passed on from the caller.
    Rope { inv_freq: unsafe { rope.inv_freq.get() }.to_vec(), style, magnitude: rope.magnitude }
}

/// Fills `batch`, whose memory is kept.
///
/// # Safety
/// The slices of `from` live.
pub(super) unsafe fn batch(from: &BatchRef, batch: &mut Batch) {
    batch.clear();
    // SAFETY: passed on from the caller.
    unsafe {
        batch.tokens.extend_from_slice(from.tokens.get());
        batch.positions.extend_from_slice(from.positions.get());
        batch.blocks.extend_from_slice(from.blocks.get());
        batch.outputs.extend_from_slice(from.outputs.get());
        batch.sequences.extend(from.sequences.get().iter().map(|s| SequenceRows {
            rows: s.rows[0]..s.rows[1],
            start: s.start,
            blocks: s.blocks[0]..s.blocks[1],
        }));
    }
}

/// The vector behind a handle, if there is one.
///
/// # Safety
/// NULL, or a live vector of this backend.
unsafe fn vector<B: Backend<Vector: Clone>>(handle: Handle) -> Option<B::Vector> {
    // SAFETY: passed on from the caller.
    unsafe { handle.cast::<B::Vector>().as_ref() }.cloned()
}

/// # Safety
/// Its handles are NULL or live, of this backend.
pub(super) unsafe fn norm<B: Backend<Vector: Clone>>(norm: &NormRef) -> Option<Norm<B>> {
    let kind = if norm.is_layer == 1 { NormKind::Layer } else { NormKind::Rms };
    // SAFETY: passed on from the caller.
    unsafe { vector::<B>(norm.weight).map(|weight| Norm { weight, bias: vector::<B>(norm.bias), eps: norm.eps, kind }) }
}

/// # Safety
/// Its handles are live, of this backend; the bias may be NULL.
pub(super) unsafe fn linear<B: Backend<Matrix: Clone, Vector: Clone>>(linear: &LinearRef) -> Linear<B> {
    // SAFETY: passed on from the caller.
    unsafe { Linear { weight: (*linear.weight.cast::<B::Matrix>()).clone(), bias: vector::<B>(linear.bias) } }
}

/// # Safety
/// As [`norm`].
pub(super) unsafe fn join<B: Backend<Vector: Clone>>(join: &JoinRef) -> Join<B> {
    // SAFETY: passed on from the caller.
    Join { norm: unsafe { norm(&join.norm) }, scale: join.scale }
}

/// # Safety
/// As [`norm`].
unsafe fn needed_norm<B: Backend<Vector: Clone>>(from: &NormRef) -> Result<Norm<B>> {
    // SAFETY: passed on from the caller.
    match unsafe { norm(from) } {
        Some(norm) => Ok(norm),
        None => fail!(Abi, "plugin: a norm without weights"),
    }
}

/// # Safety
/// Its handles are live, of this backend; those of `query_down` may be NULL.
pub(super) unsafe fn latent<B: Backend<Matrix: Clone, Vector: Clone>>(latent: &LatentRef) -> Result<Latent<B>> {
    // SAFETY: passed on from the caller.
    unsafe {
        let query_down = norm(&latent.query_down_norm).map(|norm| (linear(&latent.query_down), norm));
        Ok(Latent {
            query_down,
            query: linear(&latent.query),
            key: linear(&latent.key),
            norm: needed_norm(&latent.norm)?,
            key_up: linear(&latent.key_up),
            value_up: linear(&latent.value_up),
        })
    }
}

/// # Safety
/// Its handles are live, of this backend.
pub(super) unsafe fn streams<B: Backend<Matrix: Clone, Vector: Clone>>(streams: &StreamsRef) -> Result<Streams<B>> {
    // SAFETY: passed on from the caller.
    unsafe {
        Ok(Streams {
            spread: linear(&streams.spread),
            merge: linear(&streams.merge),
            table: (*streams.table.cast::<B::Matrix>()).clone(),
            inputs: linear(&streams.inputs),
            inputs_norm: needed_norm(&streams.inputs_norm)?,
        })
    }
}

/// # Safety
/// Its handles are live, of this backend; its slices live.
pub(super) unsafe fn altup<B: Backend<Matrix: Clone, Vector: Clone>>(altup: &AltupRef) -> Result<Altup<B>> {
    // SAFETY: passed on from the caller.
    unsafe {
        Ok(Altup {
            router_norm: needed_norm(&altup.router_norm)?,
            router: altup.router.get().to_vec(),
            predict: altup.predict.get().to_vec(),
            correct: altup.correct.get().to_vec(),
            output_scale: altup.output_scale.get().to_vec(),
            laurel_left: linear(&altup.laurel_left),
            laurel_right: linear(&altup.laurel_right),
            laurel_norm: needed_norm(&altup.laurel_norm)?,
            gate: linear(&altup.gate),
            output: linear(&altup.output),
            output_norm: needed_norm(&altup.output_norm)?,
            f: gate(altup.f)?,
        })
    }
}

pub(super) fn attention(attention: &AttentionRef) -> Attention {
    let AttentionRef { scale, softcap, sight, reach, temperature_length, temperature_scale } = *attention;
    let temperature = (temperature_length > 0.0).then_some(Temperature { length: temperature_length, scale: temperature_scale });
    let sight = match sight {
        1 => Sight::Window(reach),
        2 => Sight::Chunk(reach),
        _ => Sight::All,
    };
    Attention { scale, softcap: (softcap > 0.0).then_some(softcap), sight, temperature }
}

fn routing(experts: &ExpertsRef) -> Result<Routing> {
    let all = [Scores::Softmax, Scores::SoftmaxOfChosen, Scores::Sigmoid, Scores::SparseMixer];
    let flag = |bit: u32| experts.flags >> bit & 1 == 1;
    let groups = Groups { n_groups: experts.n_groups, n_used: experts.n_used_groups, sums_two: flag(2) };
    Ok(Routing {
        n_used: experts.n_used,
        scores: numbered("scores", &all, experts.scores)?,
        normalises: flag(0),
        scale: experts.scale,
        weighs_input: flag(1),
        groups: (experts.n_groups > 0).then_some(groups),
    })
}

/// # Safety
/// Its handles are live, of this backend, or NULL where the struct allows it; its slices live.
pub(super) unsafe fn experts<B: Backend<Matrix: Clone, Vector: Clone>>(experts: &ExpertsRef) -> Result<Experts<B>> {
    let routing = routing(experts)?;
    // SAFETY: passed on from the caller.
    let [choice_bias, shared_gate] = unsafe { [experts.choice_bias.get(), experts.shared_gate.get()] };
    let values = |values: &[f32]| (!values.is_empty()).then(|| values.to_vec());
    let [gate, up, down] = &experts.shared;
    // SAFETY: passed on from the caller.
    unsafe {
        let there = |part: &LinearRef| !part.weight.is_null();
        let shared = there(up).then(|| Mlp { gate: there(gate).then(|| linear(gate)), up: linear(up), down: linear(down) });
        Ok(Experts {
            router: linear(&experts.router),
            choice_bias: values(choice_bias),
            routing,
            gate: linear(&experts.gate),
            up: linear(&experts.up),
            down: linear(&experts.down),
            shared,
            shared_gate: values(shared_gate),
        })
    }
}
