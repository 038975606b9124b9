//! Models as Hugging Face's `transformers` writes them: config.json and safetensors become a [`ModelSpec`] and the tensors that a GGUF file would have.
//!
//! [`families`] is the table of architectures, [`names`] that of tensors; adding a family adds rows to them. Where llama.cpp's converter changes
//! weights (neighbours that rotate, norms with their 1 added, factors of frequencies), reading does the same: a directory and its GGUF file compute alike.

mod config;
mod experts;
mod families;
mod metadata;
mod names;
mod rope;
mod source;
mod tensors;

use super::checkpoint::Checkpoint;
use super::spec::ModelSpec;
use crate::error::{Error, Result};
use crate::formats::config_json::ConfigJson;
use crate::formats::gguf::{Metadata, TensorInfo, Value};
use crate::formats::safetensors::Safetensors;
use crate::sys::mapping::MappedBytes;
use config::HfConfig;
use tensors::Tensors;

/// A model in an open Hugging Face directory.
pub struct HfModel {
    spec: ModelSpec,
    tensors: Tensors,
    metadata: Metadata,
}

impl HfModel {
    /// The model that `config` describes, with its `weights`.
    ///
    /// # Errors
    /// `Unsupported` for an architecture or feature this build does not have, `Format` for keys and tensors that are missing, out of bounds or of
    /// another type: all name the key or the tensor.
    pub fn new(config: &ConfigJson, weights: Safetensors) -> Result<Self> {
        let in_config = |e: Error| e.at("config.json");
        let config = HfConfig::new(config.root()).map_err(in_config)?;
        let tied = config.tied().map_err(in_config)?;
        let n_vocab = tensors::n_vocab(&weights)?;
        config.check_vocabulary(n_vocab).map_err(in_config)?;
        let spec = ModelSpec::from_config(&config, config.family, n_vocab, tied, config.has_long_factors().map_err(in_config)?);
        let spec = spec.map_err(in_config)?;
        tensors::n_per_layer(&weights).map_or(Ok(()), |n| config.check_per_layer_vocabulary(n)).map_err(in_config)?;
        let factors = config.rope_factors(&spec).map_err(in_config)?;
        let metadata = Metadata::from_entries(config.metadata(&spec).map_err(in_config)?)?;
        let tensors = Tensors::new(weights, config.kind, &spec, factors)?;
        Ok(Self { spec, tensors, metadata })
    }

    /// Adds metadata that other files of the directory hold.
    ///
    /// # Errors
    /// `Format` if a key is there already, `OutOfMemory`.
    pub fn add_metadata(&mut self, entries: Vec<(String, Value)>) -> Result<()> {
        let own = self.metadata.iter().map(|(key, value)| (key.to_owned(), value.clone()));
        self.metadata = Metadata::from_entries(own.chain(entries).collect())?;
        Ok(())
    }

    /// What a GGUF file of the model would have.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// As [`Self::metadata`].
    pub fn into_metadata(self) -> Metadata {
        self.metadata
    }

    /// The blueprint.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }
}

impl Checkpoint for HfModel {
    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    fn tensors(&self) -> &[TensorInfo] {
        self.tensors.all()
    }

    fn read_range(&self, tensor: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        self.tensors.read_range(tensor, start, dst)
    }

    fn mapped_range(&self, tensor: &TensorInfo, start: usize, len: usize) -> Result<Option<MappedBytes>> {
        self.tensors.mapped_range(tensor, start, len)
    }

    fn label(&self, name: &str) -> String {
        self.tensors.label(name)
    }
}
