//! Every cap on a vocabulary, a text and a stop list, with its reason. Exceeding one is an error that names it.

/// Tokens in a vocabulary. The largest published have 262,144 (of a language model) and 501,153 (of an encoder). With 24 bytes of a
/// file per token, everything made from it (up to 200 bytes, the cuts below included) stays below 4 x file + 64 MiB.
pub const MAX_TOKENS: usize = 1 << 19;

/// Ids in a `tokenizer.json` may have holes, but not more of them than this beyond one hole per token: a file of 100
/// bytes must not cost the memory of [`MAX_TOKENS`] rows. The most known is 1,024 (reserved ids at the end).
pub const MAX_ID_HOLES: usize = 1 << 16;

/// Bytes of one token. The longest published are runs of 256 spaces or dashes.
pub const MAX_TOKEN_BYTES: usize = 1 << 14;

/// Bytes of a token that takes part in merging by score: finding its halves is quadratic in its length, so a file of
/// 100 MB could otherwise take hours to load. SentencePiece writes at most 16 characters unless told otherwise.
pub const MAX_SCORED_TOKEN_BYTES: usize = 256;

/// Ways to cut tokens into two tokens, of all tokens together, beyond this many per token: a file of 3 MB could otherwise have 3 million of
/// them, 35 bytes each. The tokens of published vocabularies have about 2.
pub const MAX_CUTS_PER_TOKEN: usize = 3;

/// Cuts that any vocabulary may have, however small: 2 MiB of them.
pub const MIN_MAX_CUTS: usize = 1 << 16;

/// Characters of a word that WordPiece looks at: its time is quadratic in them. Published files say 100.
pub const MAX_WORD_CHARS: usize = 1000;

/// Bytes of one key and of one replacement in a character map: each character of a text may cost so much. The longest
/// replacement of Unicode's compatibility forms has 33 bytes (U+FDFA).
pub const MAX_REPLACED_BYTES: usize = 256;

/// Bytes of all tokens that are searched for as a whole (control and user-defined). Their automata take up to 40 bytes per byte:
/// 40 MiB. The most known are 6,400 tokens with 70 KiB.
pub const MAX_SPECIAL_BYTES: usize = 1 << 20;

/// Bytes of a `tokenizer.json`. The largest published are near 35 MiB.
pub const MAX_JSON_BYTES: usize = 1 << 28;

/// Bytes of one part of the pipeline in a `tokenizer.json`, which becomes a tree of values of 32 bytes each. The largest
/// known is a `Precompiled` character map with 300 KiB.
pub const MAX_JSON_PART_BYTES: usize = 1 << 20;

/// Bytes of a text to encode: positions inside a word are `u32`, and a prefix may be added.
pub const MAX_TEXT_BYTES: usize = 1 << 30;

/// Stop strings of one generation: each costs a comparison per byte of output. Chat APIs allow 4 to 16.
pub const MAX_STOPS: usize = 64;

/// Bytes of one stop string: so much text may be held back from the host.
pub const MAX_STOP_BYTES: usize = 1 << 10;

/// Bytes of the messages, the tools or the options of a chat, as JSON. A context of a million tokens has about 4 MiB of text.
pub const MAX_CHAT_BYTES: usize = 1 << 24;

/// Values in such JSON: each takes 32 bytes, and again as much as a template sees it. A thousand messages with ten values each leave room for large tools.
pub const MAX_CHAT_VALUES: usize = 1 << 17;

/// Arrays and objects inside each other in such JSON. Schemas of tools nest by 10 to 20.
pub const MAX_CHAT_DEPTH: usize = 100;

/// Bytes of a chat template. The largest published have 20 KiB. Of `1+1+1..` each two bytes are a level of an expression that the engine compiles by
/// recursion: the stack of [`on_own_stack`](crate::sys::stack::on_own_stack) is made for this many.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 17;

/// `~`, `+` and `not` in a template, together: the engine computes constants when it compiles, which no fuel pays for, in time that grows with the square of
/// their number. No published one has 150.
pub const MAX_TEMPLATE_FOLDS: usize = 2_000;

/// Lists and maps inside each other in a value that a template writes as JSON: those of the chat, and a few that the template adds.
pub const MAX_TEMPLATE_DEPTH: usize = MAX_CHAT_DEPTH + 20;

/// Work a template may do before it sees the chat: instructions, or 64 bytes each. Published ones need up to 5,000.
pub const TEMPLATE_FUEL: u64 = 200_000;

/// Further work per value of the chat: published templates need up to 100.
pub const TEMPLATE_FUEL_PER_VALUE: u64 = 1_000;

/// Further work per KiB of the chat: each byte may be copied 64 times.
pub const TEMPLATE_FUEL_PER_KIB: u64 = 1_024;

/// The most work for any chat: seconds.
pub const MAX_TEMPLATE_FUEL: u64 = 50_000_000;

/// Bytes of a control token that texts of users are guarded against: its parts are looked at one by one. Published ones have up to 40.
pub const MAX_GUARDED_BYTES: usize = 256;
