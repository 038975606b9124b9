//! Who runs next, with what memory: runtime, model, session, generation.
