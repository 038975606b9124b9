//! Who runs next, with what memory. The Rust face of the library; `ffi` is its only user besides our own tests.
//!
//! A [`Runtime`] owns threads and the log, a [`Load`] brings a [`Model`]: weights, tokenizer and KV blocks; a [`Session`] is one sequence,
//! a [`Sampler`] chooses tokens, a [`Generation`] runs in the background and hands out [`Event`]s. Everything is `Arc`-shared:
//! children keep their parents alive, so a host may free in any order.

mod blocks;
mod companions;
mod compiling;
mod device;
mod directory;
mod draft;
mod driver;
mod events;
mod files;
mod generation;
mod hooks;
mod load;
mod log;
mod metered;
mod model;
mod pace;
mod placement;
mod plan;
mod probability;
mod recommended;
mod runtime;
mod sampler;
mod save;
mod sequence;
mod session;

pub use blocks::KvUsage;
pub use device::{DeviceInfo, DeviceKind};
pub use events::{Event, EventKind, Finish, Usage};
pub use generation::{GenerateParams, Generation, Prompt};
pub use hooks::{WakeHook, call as call_hook, in_hook};
pub use load::Load;
pub use log::{LogLevel, LogSink};
pub use model::{BackendKind, LoadConfig, Model, ModelInfo};
pub use plan::Plan;
pub use runtime::{Runtime, RuntimeConfig};
pub use sampler::{Sampler, Stage};
pub use sequence::Overflow;
pub use session::{Session, SessionConfig, Step, StepState};

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Answer at once.
    Poll,
    /// At most this long.
    For(std::time::Duration),
    /// Until it happens.
    Forever,
}

impl Wait {
    /// When the wait ends; `None` = never.
    fn deadline(self) -> Option<std::time::Instant> {
        let now = std::time::Instant::now();
        match self {
            Self::Poll => Some(now),
            Self::For(time) => now.checked_add(time),
            Self::Forever => None,
        }
    }
}
