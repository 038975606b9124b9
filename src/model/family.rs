//! What makes one architecture different from the next: data over the one decoder.

use crate::kernels::{GateFn, RopeStyle};

/// Whether the files of a family have a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Every file has it.
    Required,
    /// Used if it is there.
    Optional,
    /// No file has it; one that does is another architecture.
    Absent,
}

/// The traits of an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// `general.architecture`, and the prefix of its metadata keys.
    pub name: &'static str,
    /// How its files order the rotated halves of a head.
    pub rope_style: RopeStyle,
    /// Biases of the query, key and value projections.
    pub qkv_bias: Presence,
    /// Bias of the attention's output projection.
    pub output_bias: Presence,
    /// Norms of each query and key head.
    pub head_norms: Presence,
    /// Gate of the feed-forward.
    pub gate: GateFn,
}

/// Llama 1 to 3.x, Mistral, TinyLlama, SmolLM2: converters permute query and key rows so that neighbours rotate.
const LLAMA: Family = Family {
    name: "llama",
    rope_style: RopeStyle::Interleaved,
    qkv_bias: Presence::Optional,
    output_bias: Presence::Optional,
    head_norms: Presence::Absent,
    gate: GateFn::Silu,
};

/// Qwen 2 and 2.5.
const QWEN2: Family =
    Family { name: "qwen2", rope_style: RopeStyle::Halves, qkv_bias: Presence::Required, output_bias: Presence::Absent, ..LLAMA };

/// Qwen 3, dense.
const QWEN3: Family = Family { name: "qwen3", qkv_bias: Presence::Absent, head_norms: Presence::Required, ..QWEN2 };

impl Family {
    /// Every architecture that this build runs.
    pub const ALL: [Self; 3] = [LLAMA, QWEN2, QWEN3];

    /// The architecture called `name` in files.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name == name)
    }
}
