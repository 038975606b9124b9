//! A builder of GGUF bytes that believes everything it is told, so that tests can lie.

/// Numbers of the value types, from the specification.
pub const U8: u32 = 0;
pub const U32: u32 = 4;
pub const I32: u32 = 5;
pub const BOOL: u32 = 7;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;

/// ggml's numbers of tensor types.
pub const F32: u32 = 0;
pub const Q8_0: u32 = 8;
pub const IQ4_XS: u32 = 23;
pub const I64: u32 = 27;

/// Bytes of a file in the making.
#[derive(Clone, Default)]
pub struct Raw(pub Vec<u8>);

impl Raw {
    /// Magic, version 3 and the two counts.
    pub fn new(n_tensors: u64, n_entries: u64) -> Self {
        Self::version(3, n_tensors, n_entries)
    }

    pub fn version(version: u32, n_tensors: u64, n_entries: u64) -> Self {
        Self::default().bytes(b"GGUF").u32(version).u64(n_tensors).u64(n_entries)
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn u32(self, n: u32) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    pub fn u64(self, n: u64) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    /// A length and that many bytes.
    pub fn string(self, bytes: &[u8]) -> Self {
        self.u64(bytes.len() as u64).bytes(bytes)
    }

    /// A metadata entry up to its value.
    pub fn entry(self, key: &str, value_type: u32) -> Self {
        self.string(key.as_bytes()).u32(value_type)
    }

    /// `general.alignment` as `value_type`, a type of 4 bytes.
    pub fn alignment(self, value_type: u32, alignment: u32) -> Self {
        self.entry("general.alignment", value_type).u32(alignment)
    }

    /// The description of a tensor.
    pub fn tensor(self, name: &str, dims: &[u64], ggml_type: u32, offset: u64) -> Self {
        let raw = self.string(name.as_bytes()).u32(dims.len() as u32);
        dims.iter().fold(raw, |raw, &dim| raw.u64(dim)).u32(ggml_type).u64(offset)
    }

    /// Zeros up to a multiple of `alignment`, then `n` bytes of data.
    pub fn data(mut self, alignment: usize, n: usize) -> Self {
        let start = self.0.len().next_multiple_of(alignment);
        self.0.resize(start, 0);
        self.0.extend((0..n).map(|i| i as u8));
        self
    }
}
