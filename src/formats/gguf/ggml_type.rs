//! The storage types of tensors by ggml's numbers, those included that this build has no kernels for.
//!
//! A file with such a tensor still opens: its metadata and its other tensors can be used, and messages name the type.

use crate::dtype::DType;

/// A type as ggml describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GgmlType {
    pub(crate) name: &'static str,
    /// Elements per block and bytes per block, where they are known.
    pub(crate) block: Option<(u64, u64)>,
}

/// Number, name and block of the types that are not a [`DType`] (`ggml_type` and `GGML_QUANT_SIZES` in llama.cpp).
///
/// `None` where sources disagree (Q8_1, Q8_K: used for activations, never in files), for the formats that were removed
/// from ggml, and for those too new to be settled: they are not checked against the file, and never read.
const OTHERS: [(u32, &str, Option<(u64, u64)>); 30] = [
    (4, "Q4_2", None),
    (5, "Q4_3", None),
    (9, "Q8_1", None),
    (15, "Q8_K", None),
    (16, "IQ2_XXS", Some((256, 66))),
    (17, "IQ2_XS", Some((256, 74))),
    (18, "IQ3_XXS", Some((256, 98))),
    (19, "IQ1_S", Some((256, 50))),
    (20, "IQ4_NL", Some((32, 18))),
    (21, "IQ3_S", Some((256, 110))),
    (22, "IQ2_S", Some((256, 82))),
    (23, "IQ4_XS", Some((256, 136))),
    (24, "I8", Some((1, 1))),
    (25, "I16", Some((1, 2))),
    (26, "I32", Some((1, 4))),
    (27, "I64", Some((1, 8))),
    (28, "F64", Some((1, 8))),
    (29, "IQ1_M", Some((256, 56))),
    (31, "Q4_0_4_4", None),
    (32, "Q4_0_4_8", None),
    (33, "Q4_0_8_8", None),
    (34, "TQ1_0", Some((256, 54))),
    (35, "TQ2_0", Some((256, 66))),
    (36, "IQ4_NL_4_4", None),
    (37, "IQ4_NL_4_8", None),
    (38, "IQ4_NL_8_8", None),
    (39, "MXFP4", Some((32, 17))),
    (40, "NVFP4", Some((64, 36))),
    (41, "Q1_0", Some((128, 18))),
    (42, "Q2_0", None),
];

impl GgmlType {
    /// The type with ggml's number `id`, or `None` if ggml has no such type that we know of.
    pub(crate) fn from_id(id: u32) -> Option<Self> {
        if let Some(dtype) = DType::from_ggml(id) {
            return Some(Self::from(dtype));
        }
        OTHERS.iter().find(|(other, ..)| *other == id).map(|&(_, name, block)| Self { name, block })
    }
}

impl From<DType> for GgmlType {
    fn from(dtype: DType) -> Self {
        let block = u64::try_from(dtype.block_len()).ok().zip(u64::try_from(dtype.block_bytes()).ok());
        Self { name: dtype.name(), block }
    }
}

/// ggml's number of `dtype`.
pub(crate) fn ggml_id(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q5_0 => 6,
        DType::Q5_1 => 7,
        DType::Q8_0 => 8,
        DType::Q2_K => 10,
        DType::Q3_K => 11,
        DType::Q4_K => 12,
        DType::Q5_K => 13,
        DType::Q6_K => 14,
        DType::BF16 => 30,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_types_belong_together() {
        for dtype in DType::ALL {
            assert_eq!(DType::from_ggml(ggml_id(dtype)), Some(dtype));
            assert_eq!(GgmlType::from_id(ggml_id(dtype)).unwrap().name, dtype.name());
        }
    }

    #[test]
    fn other_types_are_none_of_ours_and_listed_once() {
        for (i, &(id, name, _)) in OTHERS.iter().enumerate() {
            assert_eq!(DType::from_ggml(id), None, "{name}");
            assert!(OTHERS.iter().skip(i + 1).all(|&(other, ..)| other > id), "{name}");
        }
        assert_eq!(GgmlType::from_id(23).unwrap().name, "IQ4_XS");
        assert_eq!(GgmlType::from_id(1000), None);
    }
}
