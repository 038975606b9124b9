//! Candle's errors as ours: which stage they happened in, and a kind that a host can act on.

use crate::error::{Error, ErrorKind, Result};

/// CUDA's names for faults after which every later call on the context fails too (CUDA driver API, `CUresult`).
const STICKY_FAULTS: [&str; 9] = [
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_MISALIGNED_ADDRESS",
    "CUDA_ERROR_INVALID_PC",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED",
];

/// What the driver and cuBLAS say when the device's memory is used up.
const OUT_OF_MEMORY: [&str; 2] = ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"];

/// Gives the result of candle operations the stage they belong to.
pub(super) trait InStage<T> {
    /// The same result, with candle's error as ours: `"candle, {stage}: .."`.
    ///
    /// # Errors
    /// `OutOfMemory` and `DeviceLost` where the device says so, `Internal` otherwise.
    fn stage(self, stage: &str) -> Result<T>;
}

impl<T> InStage<T> for candle_core::Result<T> {
    fn stage(self, stage: &str) -> Result<T> {
        self.map_err(|e| translate(&e).at(format_args!("candle, {stage}")))
    }
}

fn translate(error: &candle_core::Error) -> Error {
    let cause = cause(error);
    let message = cause.to_string();
    let kind = match cause {
        candle_core::Error::Cuda(_) => device_fault(&message),
        _ => ErrorKind::Internal,
    };
    Error::new(kind, message)
}

/// The error inside its wrappings; a backtrace is no sentence for a person.
fn cause(error: &candle_core::Error) -> &candle_core::Error {
    use candle_core::Error as E;
    match error {
        E::WithBacktrace { inner, .. } | E::WithPath { inner, .. } | E::Context { inner, .. } => cause(inner),
        other => other,
    }
}

/// The kind of a CUDA error. Candle erases its type, so its text is what there is to go by.
fn device_fault(message: &str) -> ErrorKind {
    if OUT_OF_MEMORY.iter().any(|name| message.contains(name)) {
        ErrorKind::OutOfMemory
    } else if STICKY_FAULTS.iter().any(|name| message.contains(name)) {
        ErrorKind::DeviceLost
    } else {
        ErrorKind::Internal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuda(text: &str) -> candle_core::Result<()> {
        Err(candle_core::Error::Cuda(text.into()).context("somewhere"))
    }

    #[test]
    fn kind_is_read_from_the_driver() {
        let kind = |text| cuda(text).stage("attend").unwrap_err().kind();
        assert_eq!(kind("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"), ErrorKind::OutOfMemory);
        assert_eq!(kind("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"..\")"), ErrorKind::DeviceLost);
        assert_eq!(kind("DriverError(CUDA_ERROR_INVALID_VALUE, \"..\")"), ErrorKind::Internal);
    }

    #[test]
    fn message_names_the_stage_and_the_cause() {
        let error = candle_core::Tensor::zeros((2, 3), candle_core::DType::F32, &candle_core::Device::Cpu)
            .and_then(|t| t.matmul(&t))
            .stage("project_add")
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().starts_with("candle, project_add: shape mismatch in matmul"), "{error}");
    }
}
