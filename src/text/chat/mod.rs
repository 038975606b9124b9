//! Chats: messages become the text of a prompt, by the template that a model's file carries. For the engine and the C boundary.
//!
//! Templates and messages are both untrusted: everything here runs with fuel and caps, on a stack of our own.

mod calendar;
mod choice;
mod dialect;
mod environment;
mod guard;
mod json;
mod messages;
mod output;
mod python;
mod request;
mod template;
mod templates;
mod tokens;

pub use choice::ToolChoice;
pub use guard::Guard;
pub use json::Json;
pub use output::{OutputParser, Piece, ToolCall};
pub use request::ChatRequest;
pub use template::Rendered;
pub use templates::ChatTemplates;
