//! libinference: a language-model inference engine that lives inside somebody else's process.
//!
//! The map. A room may import what stands to its right, never to its left; `tests/layers.rs` holds it.
//!
//! ```text
//! ffi -> engine -> { model, text } -> backend -> { kernels, formats } -> sys -> { error, dtype }
//! ```
//!
//! | room | what lives there |
//! |---|---|
//! | [`ffi`] | the C ABI: check, convert, call, convert; the only room C sees |
//! | [`engine`] | runtime, model, session, scheduler, KV blocks, sampler, generation |
//! | [`model`] | the validated blueprint of a model and the one decoder that runs it |
//! | [`text`] | tokenizer, incremental detokenizer, stop strings, chat templates |
//! | [`backend`] | the fused stages a decoder is made of, on our kernels or on candle |
//! | [`kernels`] | pure functions over slices, one set per instruction set |
//! | [`formats`] | untrusted bytes become validated descriptions |
//! | [`sys`] | threads, files, memory, CPU features, the FP environment |
//!
//! The Rust items are public for this project's own tests and benches; the stable surface is `include/inference.h`.
#![deny(unsafe_code)]

pub mod backend;
pub mod dtype;
pub mod engine;
pub mod error;
#[expect(unsafe_code, reason = "the C boundary reads and writes the host's memory")]
pub mod ffi;
pub mod formats;
#[expect(unsafe_code, reason = "SIMD intrinsics")]
pub mod kernels;
pub mod model;
#[expect(unsafe_code, reason = "the operating system, and disjoint views of one buffer for threads")]
pub mod sys;
pub mod text;
