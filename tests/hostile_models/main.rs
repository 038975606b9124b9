//! Whatever a model file or a `tokenizer.json` holds: an error of a sensible kind, or a model that reads and writes text. No panic, no hang,
//! and memory in proportion to the file: at most four times its size and 64 MiB.
//!
//! `tests/malformed_gguf` does this for the parser alone; here every case takes the whole path. `make torture` leaves nothing out.
#![expect(clippy::print_stderr, reason = "a hang and the counts of a torture are told")]

mod bench;
mod fields;
mod header;
mod json;
mod keys;
mod small;
mod tensors;
mod vocabulary;

#[path = "../common/peak.rs"]
mod peak;
#[path = "../common/random.rs"]
mod random;

#[global_allocator]
static ALLOCATOR: peak::CountingAllocator = peak::CountingAllocator;
