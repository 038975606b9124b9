//! A backend in another shared library: the stages of [`super::Backend`] behind a table of C functions.
//!
//! The seam between decoder and device is also the border of the plugin. What is on this side (files, tokenizer, scheduler, sessions, sampler, memory
//! accounts) exists once, so a model may compute in part on a device and in part on the CPU, and a plugin is no second engine.
//!
//! | file | side |
//! |---|---|
//! | `table` | both: the structs and functions that cross |
//! | `open` | the library's: finds, checks and loads a plugin |
//! | `remote`, `refs` | the library's: a [`super::Backend`] that calls the table |
//! | `serve`, `stages`, `convert` | the plugin's: a table that calls a [`super::Backend`] |

mod convert;
mod open;
mod refs;
mod remote;
mod serve;
mod stages;
mod table;
#[cfg(test)]
mod tests;

pub use open::{FILE_NAME, open, sealed};
pub use remote::{Plugin, Remote};
pub use serve::{Provider, hand_over};
pub use table::{ABI, BUILD, DeviceRow, Failure, Handle, OpenPlugin, Slice, Table};
