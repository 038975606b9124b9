//! An open model in whichever format: its blueprint, its tensors, its metadata. What `engine` opens and loads.

use super::checkpoint::Checkpoint;
use super::hf::HfModel;
use super::spec::ModelSpec;
use crate::error::Result;
use crate::formats::gguf::{Gguf, Metadata};

/// The files of a model, opened.
pub enum ModelFile {
    /// GGUF, one file or a split set.
    Gguf(Gguf),
    /// config.json and safetensors.
    Hf(Box<HfModel>),
}

impl ModelFile {
    /// Its blueprint.
    ///
    /// # Errors
    /// As [`ModelSpec::from_gguf`].
    pub fn spec(&self) -> Result<ModelSpec> {
        match self {
            Self::Gguf(gguf) => ModelSpec::from_gguf(gguf),
            Self::Hf(model) => Ok(model.spec().clone()),
        }
    }

    /// Its tensors.
    pub fn checkpoint(&self) -> &dyn Checkpoint {
        match self {
            Self::Gguf(gguf) => gguf,
            Self::Hf(model) => &**model,
        }
    }

    /// Its metadata, or what a GGUF file of it would have.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Gguf(gguf) => gguf.metadata(),
            Self::Hf(model) => model.metadata(),
        }
    }

    /// The metadata alone; the files are closed.
    pub fn into_metadata(self) -> Metadata {
        match self {
            Self::Gguf(gguf) => gguf.into_metadata(),
            Self::Hf(model) => model.into_metadata(),
        }
    }
}
