//! The C ABI: check, convert, call, convert. The only room C sees; `include/inference.h` is generated from it.
//!
//! One file per section of the header, on top of six that they share: `boundary` (panics, floating point), `handle` (what a
//! pointer of ours is), `status` (codes and the error struct), `bytes` (strings, arrays, buffers) `options` (versioned structs, JSON) and
//! `request` (a generation as one JSON text).
#![expect(non_camel_case_types, reason = "a C type has one name, in Rust and in the header")]
#![expect(clippy::missing_safety_doc, reason = "the contract of every export is the conventions section of the header")]

mod boundary;
mod bytes;
mod handle;
mod hooks;
mod options;
mod request;

pub mod chat;
pub mod constraint;
pub mod generation;
pub mod library;
pub mod load;
pub mod model;
#[cfg(feature = "cuda")]
mod plugin;
pub mod runtime;
pub mod sampler;
pub mod session;
pub mod source;
pub mod state;
pub mod status;
pub mod tokenizer;
