//! The C ABI: check, convert, call, convert.
