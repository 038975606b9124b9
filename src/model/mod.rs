//! The validated blueprint of a model, and the one decoder that runs every family.
//!
//! [`ModelSpec`] says what a model is, [`names`] where its weights are called what, [`Decoder`] runs it on any [`crate::backend::Backend`],
//! [`Forward`] and [`Pass`] are what the engine sees.

mod altup;
mod checkpoint;
mod config;
mod config_gguf;
mod decoder;
mod family;
mod file;
mod fingerprint;
mod forward;
mod hf;
mod latent;
mod load;
mod loader;
pub mod names;
mod quantize;
mod rope;
mod saved;
mod span;
mod spec;
mod spec_altup;
mod spec_latent;
mod spec_moe;
mod split;
mod topology;
mod weights;

pub use checkpoint::Checkpoint;
pub use decoder::Decoder;
pub use family::{ExpertTraits, Family, HeadNorms, LocalRope, NormPlaces, Presence, Windows};
pub use file::ModelFile;
pub use forward::{Forward, Pass, Progress, STAGE_KINDS, StageLoad};
pub use hf::HfModel;
pub use load::{Needs, Placement, load, load_in_slices, needs};
pub use quantize::{Quantization, Quantized};
pub use rope::{RopeScaling, RopeSpec, Yarn};
pub use saved::StoredTensor;
pub use spec::{KvPlace, LayerSpec, ModelSpec};
pub use spec_altup::AltupSpec;
pub use spec_moe::MoeSpec;
pub use topology::{Rules, Topology};
