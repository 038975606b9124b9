//! Asking before candle allocates: on the CPU its own allocations abort the process when they fail.

use crate::error::{Error, ErrorKind, Result};
use candle_core::Device;

/// Whether `n_elements` of `element_bytes` can be had on `device` right now.
///
/// The memory is asked for and given back untouched, so this costs two system calls and no pages. Another thread can still take
/// it in between: that race is candle's to lose, the size of a file or of a host's argument is not. A device reports its own
/// failure as an error.
///
/// # Errors
/// `OutOfMemory` with `detail` = bytes wanted, 0.
pub(super) fn reserve(device: &Device, n_elements: Option<usize>, element_bytes: usize) -> Result<()> {
    let bytes = n_elements.and_then(|n| n.checked_mul(element_bytes)).filter(|&bytes| isize::try_from(bytes).is_ok());
    let Some(bytes) = bytes else { return Err(out_of_memory(usize::MAX)) };
    if !device.is_cpu() {
        return Ok(());
    }
    let mut probe = Vec::<u8>::new();
    let answer = probe.try_reserve_exact(bytes);
    // Without this the optimiser may drop an allocation that nobody uses, and with it the answer.
    std::hint::black_box(&probe);
    answer.map_err(|_| out_of_memory(bytes))
}

fn out_of_memory(bytes: usize) -> Error {
    let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
    Error::new(ErrorKind::OutOfMemory, format!("candle: cannot allocate {bytes} bytes")).with_detail([wanted, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_exist() {
        assert!(reserve(&Device::Cpu, Some(1 << 20), 4).is_ok());
        for n in [None, Some(usize::MAX), Some(1 << 60), Some(1 << 50)] {
            assert_eq!(reserve(&Device::Cpu, n, 4).unwrap_err().kind(), ErrorKind::OutOfMemory);
        }
    }
}
