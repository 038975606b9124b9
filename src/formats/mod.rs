//! Untrusted bytes become validated descriptions. No `unsafe`, no unchecked arithmetic; every cap is in [`limits`].
//!
//! Used by `engine`, which opens models, and by `model` and `text`, which read what is described.
// One overlooked `+` or `as` on a number from a file is how parsers of this format were broken, and broken again after the fix.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod config_json;
pub mod gguf;
pub mod limits;
pub mod safetensors;
pub mod state;

mod cursor;
pub(crate) mod names;
mod size;
