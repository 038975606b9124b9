//! Untrusted bytes become validated descriptions. No `unsafe`, no unchecked arithmetic; every cap is in `limits`.
