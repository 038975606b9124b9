//! The validated blueprint of a model, and the one decoder that runs every family.
