//! The room of the engine, as far as it is looked at.

pub mod blocks;
#[path = "../../../src/engine/events.rs"]
pub mod events;
#[path = "../../../src/engine/hooks.rs"]
pub mod hooks;
mod schedules;

/// As the engine's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Poll,
    For(std::time::Duration),
    Forever,
}
