//! One error type for the whole library: a stable kind, which a program acts on, and a sentence, which a person reads.

use std::borrow::Cow;
use std::fmt;

/// What went wrong, as a category that never changes its meaning. Maps one to one to `inf_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller passed something that no state of the library makes valid.
    InvalidArgument,
    /// A handle that is NULL, freed, or of another kind.
    InvalidHandle,
    /// A params struct carries fields that this build does not know.
    Abi,
    /// The handle is in use by another thread, or has live work.
    Busy,
    /// The output does not fit; the size needed is reported beside it.
    BufferTooSmall,
    /// The operating system refused a read or a write.
    Io,
    /// A file is not what it claims to be: corrupt, truncated, or not a model.
    Format,
    /// A valid request for something that this build does not have.
    Unsupported,
    /// `detail` = bytes wanted, bytes available.
    OutOfMemory,
    /// The request would exceed the budget the host set.
    Budget,
    /// No such device, or it cannot be used.
    NoDevice,
    /// A sticky device fault.
    DeviceLost,
    /// The sequence has no room for more tokens.
    ContextFull,
    /// A grammar or schema did not compile; `detail[0]` = byte offset.
    Constraint,
    /// A constraint admits no token.
    DeadEnd,
    /// A chat template failed.
    Template,
    /// A saved state belongs to another model, version or KV type.
    StateMismatch,
    /// An earlier failure left this session unusable until it is reset.
    Poisoned,
    /// Cancelled by the host.
    Cancelled,
    /// The time given was not enough.
    Timeout,
    /// A caught panic or a broken invariant: a bug in this library.
    Internal,
    /// Logits were asked for while tokens are still queued.
    NotReady,
    /// The runtime was shut down.
    Shutdown,
    /// The handle was made before a `fork()` and is used in the child.
    Forked,
}

/// An [`ErrorKind`] with its sentence: what, where, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    detail: [i64; 2],
}

/// The result of every fallible function in the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Bytes of a message, and three dots if it was longer: more than C's `inf_error` takes. What it quotes from a file may be as long as the file.
const MAX_MESSAGE_BYTES: usize = 1 << 10;

/// `message`, cut between characters if it is no sentence any more.
fn sentence(message: Cow<'static, str>) -> Cow<'static, str> {
    if message.len() <= MAX_MESSAGE_BYTES {
        return message;
    }
    let cut = (0..=MAX_MESSAGE_BYTES).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
    format!("{}...", &message[..cut]).into()
}

impl Error {
    /// An error of `kind` that says `message`, cut after 1 KiB.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: sentence(message.into()), detail: [0; 2] }
    }

    /// The same error with its two numbers; their meaning is documented at each [`ErrorKind`].
    #[must_use]
    pub fn with_detail(mut self, detail: [i64; 2]) -> Self {
        self.detail = detail;
        self
    }

    /// The same error, said to have happened at `place`: `"place: message"`.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = sentence(format!("{place}: {}", self.message).into());
        self
    }

    /// True if there was no memory, or no budget for it: what waits may get some later.
    pub fn is_shortage(&self) -> bool {
        matches!(self.kind, ErrorKind::Budget | ErrorKind::OutOfMemory)
    }

    /// The category.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The two numbers.
    pub fn detail(&self) -> [i64; 2] {
        self.detail
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, e.to_string())
    }
}

/// `fail!(Format, "blk.{i}: {x}")`: return `Err` with a kind and a formatted sentence.
#[macro_export]
macro_rules! fail {
    ($kind:ident, $($arg:tt)+) => {
        return Err($crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($arg)+)))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_between_characters() {
        let long = Error::new(ErrorKind::Format, "\u{e9}".repeat(5000)).at("\u{20ac}".repeat(5000));
        assert!((MAX_MESSAGE_BYTES - 3..MAX_MESSAGE_BYTES + 4).contains(&long.message().len()) && long.message().ends_with("\u{20ac}..."));
        let short = Error::new(ErrorKind::Format, "x".repeat(MAX_MESSAGE_BYTES));
        assert_eq!(short.message().len(), MAX_MESSAGE_BYTES);
    }
}
