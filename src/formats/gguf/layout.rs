//! Where the bytes of tensors lie in a file: aligned, inside it, and none shared.

use crate::error::Result;
use crate::fail;
use crate::formats::gguf::tensor::TensorInfo;
use crate::formats::gguf::value::{Kind, Value};
use crate::formats::limits::MAX_ALIGNMENT;
use crate::formats::names::Quoted;
use crate::formats::size::ByteSize;
use crate::sys::memory::try_with_capacity;

/// The key of the alignment, a u32.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// The alignment of a file that does not say, from the GGUF specification.
const DEFAULT_ALIGNMENT: u32 = 32;

/// The alignment that the value of [`ALIGNMENT_KEY`] asks for.
///
/// # Errors
/// `Format` if it is not a u32, not a power of two, or larger than [`MAX_ALIGNMENT`].
pub(crate) fn alignment(value: Option<&Value>) -> Result<u32> {
    match value {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::U32(n)) if n.is_power_of_two() && n <= MAX_ALIGNMENT => Ok(n),
        Some(Value::U32(n)) => fail!(Format, "{ALIGNMENT_KEY} is {n}, expected a power of two up to {MAX_ALIGNMENT}"),
        Some(other) => fail!(Format, "{ALIGNMENT_KEY} is {}, expected u32", Kind(other)),
    }
}

/// Turns the offsets of `tensors` from the data section, which begins at the first aligned byte after `header`, into
/// offsets in a file of `file` bytes.
///
/// # Errors
/// `Format`, naming the tensor: it is unaligned, reaches past the end, or overlaps another.
pub(crate) fn place(tensors: &mut [TensorInfo], header: ByteSize, alignment: u32, file: ByteSize) -> Result<()> {
    let data_start = header.align_up(alignment)?;
    for tensor in tensors.iter_mut() {
        place_one(tensor, data_start, alignment, file).map_err(|e| e.at(format_args!("tensor {}", Quoted(tensor.name()))))?;
    }
    check_apart(tensors)
}

/// One tensor of [`place`].
fn place_one(tensor: &mut TensorInfo, data_start: ByteSize, alignment: u32, file: ByteSize) -> Result<()> {
    let relative = tensor.offset.get();
    if !relative.is_multiple_of(alignment.into()) {
        fail!(Format, "data offset {relative}, expected a multiple of {alignment}");
    }
    // A size that is unknown is not checked; such a tensor is never read.
    let n_bytes = ByteSize::from(tensor.stored_bytes().unwrap_or(0));
    tensor.offset = data_start.plus(tensor.offset)?;
    let end = tensor.offset.plus(n_bytes)?;
    if end > file {
        fail!(Format, "{} bytes from byte {} on, but the file ends at byte {}", n_bytes.get(), tensor.offset.get(), file.get());
    }
    Ok(())
}

/// Fails if two tensors share a byte.
fn check_apart(tensors: &[TensorInfo]) -> Result<()> {
    let mut by_offset = try_with_capacity::<&TensorInfo>(tensors.len())?;
    by_offset.extend(tensors.iter().filter(|t| t.stored_bytes().is_some_and(|n| n > 0)));
    by_offset.sort_unstable_by_key(|t| t.offset);
    for (a, b) in by_offset.iter().zip(by_offset.iter().skip(1)) {
        if a.offset.plus(a.stored_bytes().unwrap_or(0).into())? > b.offset {
            fail!(Format, "the data of tensors {} and {} overlap", Quoted(a.name()), Quoted(b.name()));
        }
    }
    Ok(())
}
