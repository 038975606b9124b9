//! Quantisation at load: which storage type each tensor gets. The engine wraps a [`Checkpoint`] in it; the loader does what it says.

use super::checkpoint::Checkpoint;
use super::names::{Part, Role};
use super::topology::{Rules, Topology};
use crate::dtype::DType;
use crate::error::Result;
use crate::fail;
use crate::formats::gguf::TensorInfo;
use crate::kernels::can_encode;
use crate::sys::mapping::MappedBytes;

/// The storage types that the weights of a model get.
#[derive(Clone, Debug, Default)]
pub struct Quantization {
    default: Option<DType>,
    /// `None` = as stored.
    rules: Rules<Option<DType>>,
}

impl Quantization {
    /// `default` for all projections (`"q4_k"`; `None` or `"none"` = as stored), and what the rules of `topology` say with `"quantize"`.
    ///
    /// # Errors
    /// `InvalidArgument`, quoting what was not understood.
    pub fn new(default: Option<&str>, topology: &Topology) -> Result<Self> {
        let default = default.map(|name| storage_type("quantize", name)).transpose()?.flatten();
        Ok(Self { default, rules: topology.rules("quantize", |name| storage_type("topology: quantize", name))? })
    }

    /// True if every tensor stays as it is stored.
    pub fn is_none(&self) -> bool {
        self.default.is_none() && self.rules.values().all(Option::is_none)
    }

    /// The storage type of a matrix called `name` with rows of `n_cols` elements that its file stores as `stored`.
    fn storage(&self, name: &str, stored: DType, n_cols: usize, is_head: bool) -> DType {
        if !matches!(stored, DType::F32 | DType::F16 | DType::BF16) {
            return stored;
        }
        let wanted = match self.rules.for_tensor(name) {
            Some(dtype) => *dtype,
            // The head decides between tokens, and rounding it costs more than it saves.
            None if is_head => self.default.map(at_least_six_bits),
            None => self.default,
        };
        wanted.map_or(stored, |dtype| fitting(dtype, n_cols).unwrap_or(stored))
    }
}

fn at_least_six_bits(dtype: DType) -> DType {
    if matches!(dtype, DType::Q4_0 | DType::Q4_K | DType::Q5_K) { DType::Q6_K } else { dtype }
}

/// `dtype`, or where rows of `n_cols` elements are not whole blocks of it, a type of short blocks with a bit more, as llama.cpp does; `None` if they
/// are not whole blocks of that.
fn fitting(dtype: DType, n_cols: usize) -> Option<DType> {
    let short = if dtype == DType::Q4_K { DType::Q5_0 } else { DType::Q8_0 };
    [dtype, short].into_iter().find(|dtype| n_cols.is_multiple_of(dtype.block_len()))
}

/// The storage type called `name`.
fn storage_type(key: &str, name: &str) -> Result<Option<DType>> {
    if name == "none" {
        return Ok(None);
    }
    let found = DType::ALL.into_iter().find(|&dtype| can_encode(dtype) && dtype.name().eq_ignore_ascii_case(name));
    match found {
        Some(dtype) => Ok(Some(dtype)),
        None => fail!(
            InvalidArgument,
            "{key}: {name:?}, expected \"none\", \"q4_0\", \"q5_0\", \"q8_0\", \"q4_k\", \"q5_k\", \"q6_k\" or \"f16\""
        ),
    }
}

/// Parts of the names of matrices that stay as they are: those that llama.cpp leaves alone.
const KEPT: [&str; 4] = ["ffn_gate_inp", "altup_", "laurel_", "per_layer_model_proj"];

/// A checkpoint whose matrices are to be held in other storage types.
pub struct Quantized<'a> {
    /// Where they are read from.
    pub file: &'a dyn Checkpoint,
    /// Which types.
    pub quantization: &'a Quantization,
    /// True if the embedding is the head, too.
    pub tied: bool,
}

impl Checkpoint for Quantized<'_> {
    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.file.tensor(name)
    }

    fn tensors(&self) -> &[TensorInfo] {
        self.file.tensors()
    }

    fn read_range(&self, tensor: &TensorInfo, start: usize, dst: &mut [u8]) -> Result<()> {
        self.file.read_range(tensor, start, dst)
    }

    fn mapped_range(&self, tensor: &TensorInfo, start: usize, len: usize) -> Result<Option<MappedBytes>> {
        self.file.mapped_range(tensor, start, len)
    }

    fn label(&self, name: &str) -> String {
        self.file.label(name)
    }

    fn storage(&self, tensor: &TensorInfo) -> Result<DType> {
        let (stored, name) = (tensor.dtype()?, tensor.name());
        // Vectors are held in f32; routers choose between experts or streams, and are small.
        let [n_cols, n_rows, ..] = *tensor.shape() else { return Ok(stored) };
        if n_rows < 2 || !name.ends_with(".weight") || KEPT.iter().any(|part| name.contains(part)) {
            return Ok(stored);
        }
        let head = if self.tied { Role::TokenEmbedding } else { Role::Output };
        Ok(self.quantization.storage(name, stored, n_cols, name == head.gguf_name(0, Part::Weight)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use serde_json::{Value, json};

    fn quantization(default: Option<&str>, topology: Option<&Value>) -> Result<Quantization> {
        Quantization::new(default, &Topology::new(topology)?)
    }

    fn stored(quantization: &Quantization, name: &str) -> DType {
        quantization.storage(name, DType::F32, 512, false)
    }

    #[test]
    fn patterns_win_over_ranges_and_later_over_earlier() {
        let topology = json!([
            { "layers": "0-8", "quantize": "q8_0" },
            { "layers": "4-8", "quantize": "q6_k" },
            { "layers": "2-5", "quantize": "q5_k" },
            { "tensors": "ffn_down", "quantize": "q4_0" },
            { "tensors": "^blk\\.7\\.", "quantize": "none" },
        ]);
        let rules = quantization(Some("q4_k"), Some(&topology)).unwrap();
        assert_eq!(stored(&rules, "blk.0.attn_q.weight"), DType::Q8_0);
        assert_eq!(stored(&rules, "blk.4.attn_q.weight"), DType::Q6_K, "the higher end, and of equal ones the later");
        assert_eq!(stored(&rules, "blk.3.attn_q.weight"), DType::Q8_0, "8 is higher than 5");
        assert_eq!(stored(&rules, "blk.3.ffn_down.weight"), DType::Q4_0);
        assert_eq!(stored(&rules, "blk.7.ffn_down.weight"), DType::F32, "the last pattern");
        assert_eq!(stored(&rules, "blk.8.attn_q.weight"), DType::Q4_K);
        assert!(!rules.is_none() && quantization(None, None).unwrap().is_none());
    }

    #[test]
    fn the_head_keeps_six_bits_and_rows_fit_their_blocks() {
        let rules = quantization(Some("q4_k"), None).unwrap();
        assert_eq!(rules.storage("output.weight", DType::BF16, 512, true), DType::Q6_K);
        assert_eq!(rules.storage("blk.0.ffn_up.weight", DType::BF16, 96, false), DType::Q5_0);
        assert_eq!(rules.storage("output.weight", DType::BF16, 96, true), DType::Q8_0);
        assert_eq!(rules.storage("blk.0.ffn_up.weight", DType::BF16, 97, false), DType::BF16);
        assert_eq!(rules.storage("blk.0.ffn_up.weight", DType::Q5_1, 512, false), DType::Q5_1, "what is quantised stays");
        assert_eq!(quantization(Some("Q8_0"), None).unwrap().storage("output.weight", DType::F32, 64, true), DType::Q8_0);
    }

    #[test]
    fn what_is_wrong_is_quoted() {
        assert!(quantization(Some("q3_k"), None).unwrap_err().message().contains("\"q3_k\""));
        for bad in [
            json!({}),
            json!(["x"]),
            json!([{ "layers": "8-4", "quantize": "q8_0" }]),
            json!([{ "layers": 4, "quantize": "q8_0" }]),
            json!([{ "layers": "0-4" }]),
            json!([{ "layers": "0-4", "tensors": "x", "quantize": "q8_0" }]),
            json!([{ "tensors": "(", "quantize": "q8_0" }]),
            json!([{ "tensors": "(a{1000}){1000}", "quantize": "q8_0" }]),
            json!([{ "tensors": "a", "quantize": "q9" }]),
            json!([{ "tensors": "a", "quantize": "q8_0", "devices": "cuda" }]),
        ] {
            let e = quantization(None, Some(&bad)).unwrap_err();
            assert!(e.kind() == ErrorKind::InvalidArgument && e.message().contains("topology"), "{bad}: {e}");
        }
    }
}
