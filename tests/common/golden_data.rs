//! The golden models of `tests/data/golden`, as `tools/golden/make.py` writes them.

use std::path::PathBuf;

/// One model, and what `transformers` computes with it in float32.
pub struct Golden {
    pub path: PathBuf,
    /// Token ids.
    pub prompt: Vec<u32>,
    /// The ids that follow the prompt when the best one is always chosen.
    pub greedy: Vec<u32>,
}

impl Golden {
    /// The model called `name`.
    pub fn read(name: &str) -> Self {
        let stem = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name);
        // Not `with_extension`: a dot in the name is part of it.
        let file = |extension: &str| PathBuf::from(format!("{}.{extension}", stem.display()));
        let ids: serde_json::Value = serde_json::from_slice(&std::fs::read(file("json")).unwrap()).unwrap();
        let list = |key: &str| ids[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        Self { path: file("gguf"), prompt: list("prompt"), greedy: list("greedy") }
    }
}
