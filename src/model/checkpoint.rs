//! The tensors of a model as the loader asks for them: under GGUF's names and in its row order, whatever files they come from.

use crate::dtype::DType;
use crate::error::Result;
use crate::formats::gguf::{Gguf, TensorInfo};
use crate::sys::mapping::MappedBytes;

/// Where weights are read from.
pub trait Checkpoint: Send + Sync {
    /// The description of the tensor that GGUF calls `name`.
    fn tensor(&self, name: &str) -> Option<&TensorInfo>;

    /// The descriptions of all tensors.
    fn tensors(&self) -> &[TensorInfo];

    /// Reads `dst.len()` bytes of `tensor` from its byte `start` on.
    ///
    /// # Errors
    /// `Io`, `Format` if a file became shorter, `OutOfMemory`; `InvalidArgument` if the range is not inside the tensor.
    fn read_range(&self, tensor: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()>;

    /// The `len` bytes of `tensor` from its byte `start` on, where the system has the file mapped; `None` if they must be read.
    ///
    /// # Errors
    /// As [`Self::read_range`].
    fn mapped_range(&self, _tensor: &TensorInfo, _start: usize, _len: usize) -> Result<Option<MappedBytes>> {
        Ok(None)
    }

    /// How `tensor` is to be held: as it is stored, unless somebody asked for another type.
    ///
    /// # Errors
    /// As [`TensorInfo::dtype`].
    fn storage(&self, tensor: &TensorInfo) -> Result<DType> {
        tensor.dtype()
    }

    /// What its files call the tensor that GGUF calls `name`: for messages.
    fn label(&self, name: &str) -> String {
        name.to_owned()
    }
}

impl Checkpoint for Gguf {
    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensor(name)
    }

    fn tensors(&self) -> &[TensorInfo] {
        self.tensor_list()
    }

    fn read_range(&self, tensor: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        self.read_range(tensor, start, dst)
    }

    fn mapped_range(&self, tensor: &TensorInfo, start: usize, len: usize) -> Result<Option<MappedBytes>> {
        self.mapped_range(tensor, start, len)
    }
}
