//! Saving a model as a GGUF file: the weights as they are held, quantised or not, so that the next start reads them as they are.

use super::model::Model;
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::formats::gguf::{GgufWriter, Metadata};
use crate::model::Forward;
use crate::sys::file::replace_with;
use std::path::Path;

/// Keys that say how the file it came from was made, not what the model is.
const OF_THE_OLD_FILE: [&str; 3] = ["general.file_type", "general.quantization_version", "general.alignment"];

/// The version of ggml's block formats, which have not changed since 2023.
const QUANTIZATION_VERSION: u32 = 2;

impl Model {
    /// Writes the model to `path`, which gets the whole file or keeps what it had. Blocks; other uses of the model go on.
    ///
    /// # Errors
    /// `Unsupported` for a model without weights, or one that candle holds; `Io`, naming the path; `OutOfMemory`.
    pub fn save_gguf(&self, path: &Path) -> Result<()> {
        let Some(forward) = self.forward() else { fail!(Unsupported, "the model was loaded without weights: there is nothing to save") };
        let writer = writer(self.metadata(), &**forward)?;
        replace_with(path, &mut |out| writer.write_to(out))
    }
}

fn writer<'a>(metadata: &Metadata, forward: &'a dyn Forward) -> Result<GgufWriter<'a>> {
    let mut writer = GgufWriter::new();
    let stays = |key: &str| !key.starts_with("split.") && !OF_THE_OLD_FILE.contains(&key);
    for (key, value) in metadata.iter().filter(|(key, _)| stays(key)) {
        writer.set(key, value.clone())?;
    }
    writer.set("general.quantization_version", QUANTIZATION_VERSION)?;
    if let Some(file_type) = file_type(forward) {
        writer.set("general.file_type", file_type)?;
    }
    for (i, tensor) in forward.stored().iter().enumerate() {
        writer.tensor_with(&tensor.name, tensor.dtype, &tensor.shape, move |out| forward.write_stored(i, out))?;
    }
    Ok(writer)
}

/// `llama_ftype`: the type that most matrices have, for tools that show it.
fn file_type(forward: &dyn Forward) -> Option<u32> {
    let count = |dtype: DType| forward.stored().iter().filter(|t| t.dtype == dtype && t.shape.len() > 1).count();
    Some(match DType::ALL.into_iter().max_by_key(|&dtype| count(dtype))? {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q8_0 => 7,
        DType::Q4_K => 14,
        DType::Q5_K => 16,
        DType::Q6_K => 18,
        DType::BF16 => 32,
        _ => return None,
    })
}
