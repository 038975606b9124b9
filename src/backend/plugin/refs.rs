//! What crosses, from Rust's types to C's structs, on the library's side. A struct is valid as long as what it was made of.

use super::remote::{Remote, Vector};
use super::table::{
    AltupRef, AttentionRef, BatchRef, ExpertsRef, FeedForwardRef, JoinRef, LatentRef, LinearRef, NormRef, ProjectionRef, RopeRef,
    SequenceRef, ShapeRef, Slice, StreamStageRef, StreamsRef, TensorRef,
};
use crate::backend::{
    Altup, AltupShape, Attention, Batch, Experts, FeedForwardFn, HostTensor, Join, Latent, LatentShape, Linear, MoeShape, Norm, NormKind,
    Rope, SequenceRows, Shape, Sight, Slot, StreamStage, Streams,
};
use crate::dtype::DType;
use crate::kernels::{KvType, RopeStyle};
use std::ptr::{null, null_mut};

/// Nothing.
const NO_LINEAR: LinearRef = LinearRef { weight: null_mut(), bias: null_mut() };

pub(super) fn dtype(dtype: DType) -> u32 {
    DType::ALL.iter().position(|&known| known == dtype).unwrap_or(usize::MAX) as u32
}

pub(super) fn kv_type(kind: KvType) -> u32 {
    match kind {
        KvType::F32 => 0,
        KvType::F16 => 1,
        KvType::Q8_0 => 2,
    }
}

pub(super) fn tensor(tensor: &HostTensor) -> TensorRef {
    let HostTensor { name, dtype: storage, n_rows, n_cols, data } = tensor;
    let (name, data) = (Slice::new(name.as_bytes()), Slice::new(data.as_slice()));
    TensorRef { name, dtype: dtype(*storage), reserved: 0, n_rows: *n_rows, n_cols: *n_cols, data }
}

pub(super) fn shape(shape: &Shape) -> ShapeRef {
    let Shape { n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, moe, altup, latent, n_vocab } = *shape;
    let moe = moe.unwrap_or(MoeShape { n_experts: 0, n_used: 0, n_ff: 0 });
    let altup = altup.unwrap_or(AltupShape { n_streams: 0, active: 0, n_per_layer: 0, n_layers: 0, rank: 0 });
    let latent = latent.unwrap_or(LatentShape { rank: 0, n_rot: 0, n_still: 0, n_value: 0, query_rank: None });
    ShapeRef {
        n_layers,
        n_embd,
        n_heads,
        n_kv_heads,
        head_dim,
        n_ff,
        n_vocab,
        n_experts: moe.n_experts,
        n_used: moe.n_used,
        n_expert_ff: moe.n_ff,
        n_streams: altup.n_streams,
        active_stream: altup.active,
        n_per_layer: altup.n_per_layer,
        n_per_layer_inputs: altup.n_layers,
        laurel_rank: altup.rank,
        latent_rank: latent.rank,
        latent_rot: latent.n_rot,
        latent_still: latent.n_still,
        latent_value: latent.n_value,
        latent_query_rank: latent.query_rank.unwrap_or(0),
    }
}

pub(super) fn rope(rope: &Rope) -> RopeRef {
    let Rope { inv_freq, style, magnitude } = rope;
    RopeRef { inv_freq: Slice::new(inv_freq), halves: u32::from(*style == RopeStyle::Halves), magnitude: *magnitude }
}

pub(super) fn sequence(sequence: &SequenceRows) -> SequenceRef {
    let SequenceRows { rows, start, blocks } = sequence;
    SequenceRef { rows: [rows.start, rows.end], start: *start, blocks: [blocks.start, blocks.end] }
}

pub(super) fn batch(batch: &Batch, sequences: &[SequenceRef]) -> BatchRef {
    let Batch { tokens, positions, sequences: _, blocks, outputs } = batch;
    BatchRef {
        tokens: Slice::new(tokens),
        positions: Slice::new(positions),
        sequences: Slice::new(sequences),
        blocks: Slice::new(blocks),
        outputs: Slice::new(outputs),
    }
}

pub(super) fn linear(linear: &Linear<Remote>) -> LinearRef {
    let Linear { weight, bias } = linear;
    LinearRef { weight: weight.handle(), bias: bias.as_ref().map_or(null_mut(), Vector::handle) }
}

pub(super) fn projection(slot: Slot, projected: &Linear<Remote>) -> ProjectionRef {
    ProjectionRef { linear: linear(projected), slot: slot as u32, reserved: 0 }
}

pub(super) fn norm(norm: Option<&Norm<Remote>>) -> NormRef {
    let Some(Norm { weight, bias, eps, kind }) = norm else {
        return NormRef { weight: null_mut(), bias: null_mut(), eps: 0.0, is_layer: 0 };
    };
    let bias = bias.as_ref().map_or(null_mut(), Vector::handle);
    NormRef { weight: weight.handle(), bias, eps: *eps, is_layer: u32::from(*kind == NormKind::Layer) }
}

pub(super) fn join(join: &Join<Remote>) -> JoinRef {
    JoinRef { norm: norm(join.norm.as_ref()), scale: join.scale, reserved: 0 }
}

pub(super) fn attention(attention: &Attention) -> AttentionRef {
    let Attention { scale, softcap, sight, temperature } = *attention;
    let (sight, reach) = match sight {
        Sight::All => (0, 0),
        Sight::Window(n) => (1, n),
        Sight::Chunk(n) => (2, n),
    };
    let (temperature_length, temperature_scale) = temperature.map_or((0.0, 0.0), |t| (t.length, t.scale));
    AttentionRef { scale, softcap: softcap.unwrap_or(0.0), sight, reach, temperature_length, temperature_scale }
}

pub(super) fn feed_forward(f: FeedForwardFn) -> FeedForwardRef {
    let (number, deviations) = match f {
        FeedForwardFn::Gated(gate) => (gate as u32, 0.0),
        FeedForwardFn::Plain(gate) => (4 + gate as u32, 0.0),
        FeedForwardFn::Clamped => (8, 0.0),
        FeedForwardFn::Sparse(gate, deviations) => (9 + gate as u32, deviations),
    };
    FeedForwardRef { number, deviations }
}

/// The rope of this number.
pub(super) fn rope_number(rope: Option<usize>) -> i64 {
    rope.and_then(|rope| i64::try_from(rope).ok()).unwrap_or(-1)
}

pub(super) fn latent(latent: &Latent<Remote>) -> LatentRef {
    let Latent { query_down, query, key, norm: of_latent, key_up, value_up } = latent;
    LatentRef {
        query_down: query_down.as_ref().map_or(NO_LINEAR, |(down, _)| linear(down)),
        query_down_norm: norm(query_down.as_ref().map(|(_, norm)| norm)),
        query: linear(query),
        key: linear(key),
        norm: norm(Some(of_latent)),
        key_up: linear(key_up),
        value_up: linear(value_up),
    }
}

fn streams(streams: &Streams<Remote>) -> StreamsRef {
    let Streams { spread, merge, table, inputs, inputs_norm } = streams;
    StreamsRef {
        spread: linear(spread),
        merge: linear(merge),
        table: table.handle(),
        inputs: linear(inputs),
        inputs_norm: norm(Some(inputs_norm)),
    }
}

fn altup(altup: &Altup<Remote>) -> AltupRef {
    let Altup { router_norm, router, predict, correct, output_scale, laurel_left, laurel_right, laurel_norm, gate, output, output_norm, f } =
        altup;
    AltupRef {
        router_norm: norm(Some(router_norm)),
        router: Slice::new(router),
        predict: Slice::new(predict),
        correct: Slice::new(correct),
        output_scale: Slice::new(output_scale),
        laurel_left: linear(laurel_left),
        laurel_right: linear(laurel_right),
        laurel_norm: norm(Some(laurel_norm)),
        gate: linear(gate),
        output: linear(output),
        output_norm: norm(Some(output_norm)),
        f: *f as u32,
        reserved: 0,
    }
}

/// Calls `with` what crosses of `stage`.
pub(super) fn with_stream_stage<T>(stage: &StreamStage<'_, Remote>, with: impl FnOnce(&StreamStageRef) -> T) -> T {
    let (number, once, of_layer, of_laurel, layer) = match stage {
        StreamStage::Spread(s) => (0, Some(streams(s)), None, None, 0),
        StreamStage::Predict(a) => (1, None, Some(altup(a)), None, 0),
        StreamStage::Laurel(a, norm) => (2, None, Some(altup(a)), Some(*norm), 0),
        StreamStage::Correct(a, layer) => (3, None, Some(altup(a)), None, *layer),
        StreamStage::Merge(s) => (4, Some(streams(s)), None, None, 0),
    };
    with(&StreamStageRef {
        stage: number,
        reserved: 0,
        streams: once.as_ref().map_or(null(), std::ptr::from_ref),
        altup: of_layer.as_ref().map_or(null(), std::ptr::from_ref),
        norm: norm(of_laurel),
        layer,
    })
}

pub(super) fn experts(experts: &Experts<Remote>) -> ExpertsRef {
    let Experts { router, choice_bias, routing, gate, up, down, shared, shared_gate } = experts;
    let groups = routing.groups;
    let bit = |is_set: bool, bit: u32| u32::from(is_set) << bit;
    let part = |part: Option<&Linear<Remote>>| part.map_or(NO_LINEAR, linear);
    let values = |values: &Option<Vec<f32>>| Slice::new(values.as_deref().unwrap_or_default());
    ExpertsRef {
        router: linear(router),
        choice_bias: values(choice_bias),
        gate: linear(gate),
        up: linear(up),
        down: linear(down),
        shared: shared.as_ref().map_or([NO_LINEAR; 3], |mlp| [part(mlp.gate.as_ref()), linear(&mlp.up), linear(&mlp.down)]),
        shared_gate: values(shared_gate),
        n_used: routing.n_used,
        n_groups: groups.map_or(0, |groups| groups.n_groups),
        n_used_groups: groups.map_or(0, |groups| groups.n_used),
        scale: routing.scale,
        scores: routing.scores as u32,
        flags: bit(routing.normalises, 0) | bit(routing.weighs_input, 1) | bit(groups.is_some_and(|groups| groups.sums_two), 2),
        reserved: 0,
    }
}
