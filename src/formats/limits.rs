//! Every cap on what a file may claim, with its reason. Exceeding one is a `Format` error that names the cap.
//!
//! Together they keep the memory of a parsed header below 4 x file + 64 MiB: what is not capped here is checked against
//! the bytes that are left in the file before anything is allocated for it.

/// Bytes of a GGUF header (metadata and tensor descriptions). The largest known, with a 262,144-token vocabulary and its
/// merges or an embedded tokenizer.json, are near 40 MiB; a file of 100 GiB must not be able to demand 100 GiB for its header.
pub const MAX_HEADER_BYTES: u64 = 256 << 20;

/// Metadata entries. Models have fewer than 100. An entry takes at least 14 bytes in the file and up to 100 in memory,
/// so only a cap in absolute terms bounds it (6 MiB).
pub const MAX_METADATA_ENTRIES: u64 = 1 << 16;

/// Bytes of a metadata key, from the GGUF specification.
pub const MAX_KEY_BYTES: u64 = (1 << 16) - 1;

/// Arrays in arrays. The specification allows them, no known file has any and llama.cpp refuses them; reading and
/// dropping recurse once per level, on the host's stack.
pub const MAX_ARRAY_DEPTH: usize = 16;

/// Arrays inside arrays, in one file. An empty one takes 12 bytes in the file and 56 in memory: an absolute bound (4 MiB).
pub const MAX_NESTED_ARRAYS: u64 = 1 << 16;

/// Bytes of the strings of one array together: their ends are kept as `u32`, half of what the lengths take in the file.
pub const MAX_STRING_ARRAY_BYTES: u64 = (1 << 32) - 1;

/// Tensors in a model, all parts of a split set together. The most known is about 70,000 (one tensor per expert);
/// a description takes at least 33 bytes in the file and up to 200 in memory (26 MiB).
pub const MAX_TENSORS: u64 = 1 << 17;

/// Bytes of a tensor name, from the GGUF specification.
pub const MAX_TENSOR_NAME_BYTES: u64 = 64;

/// Dimensions of a tensor, from the GGUF specification.
pub const MAX_DIMS: usize = 4;

/// Alignment of tensor data in bytes: the largest memory page in use. Beyond it, padding would exceed the data.
pub const MAX_ALIGNMENT: u32 = 1 << 16;

/// Files of a split set. Each stays open, and a process may often have only 1,024 files open; the most known is about 200.
pub const MAX_SPLITS: u64 = 512;

/// Bytes of the JSON in front of a safetensors file, from the reference implementation.
pub const MAX_SAFETENSORS_HEADER_BYTES: u64 = 100_000_000;

/// Bytes of a `config.json`, or of an index of shards. The largest published index, of a model with one tensor per expert, has about 8 MiB.
pub const MAX_CONFIG_BYTES: usize = 32 << 20;
