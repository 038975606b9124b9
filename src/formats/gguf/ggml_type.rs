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

/// The types that are not a [`DType`] (`ggml_type` and `GGML_QUANT_SIZES` in llama.cpp).
///
/// Without a block where sources disagree (Q8_1, Q8_K: used for activations, never in files), for the formats that were
/// removed from ggml, and for those too new to be settled: they are not checked against the file, and never read.
const OTHERS: [(u32, GgmlType); 27] = [
    (4, GgmlType::named("Q4_2")),
    (5, GgmlType::named("Q4_3")),
    (9, GgmlType::named("Q8_1")),
    (15, GgmlType::named("Q8_K")),
    (16, GgmlType::of("IQ2_XXS", 256, 66)),
    (17, GgmlType::of("IQ2_XS", 256, 74)),
    (18, GgmlType::of("IQ3_XXS", 256, 98)),
    (19, GgmlType::of("IQ1_S", 256, 50)),
    (21, GgmlType::of("IQ3_S", 256, 110)),
    (22, GgmlType::of("IQ2_S", 256, 82)),
    (24, GgmlType::of("I8", 1, 1)),
    (25, GgmlType::of("I16", 1, 2)),
    (26, GgmlType::of("I32", 1, 4)),
    (27, GgmlType::of("I64", 1, 8)),
    (28, GgmlType::of("F64", 1, 8)),
    (29, GgmlType::of("IQ1_M", 256, 56)),
    (31, GgmlType::named("Q4_0_4_4")),
    (32, GgmlType::named("Q4_0_4_8")),
    (33, GgmlType::named("Q4_0_8_8")),
    (34, GgmlType::of("TQ1_0", 256, 54)),
    (35, GgmlType::of("TQ2_0", 256, 66)),
    (36, GgmlType::named("IQ4_NL_4_4")),
    (37, GgmlType::named("IQ4_NL_4_8")),
    (38, GgmlType::named("IQ4_NL_8_8")),
    (40, GgmlType::of("NVFP4", 64, 36)),
    (41, GgmlType::of("Q1_0", 128, 18)),
    (42, GgmlType::named("Q2_0")),
];

impl GgmlType {
    const fn named(name: &'static str) -> Self {
        Self { name, block: None }
    }

    const fn of(name: &'static str, block_len: u64, block_bytes: u64) -> Self {
        Self { name, block: Some((block_len, block_bytes)) }
    }

    /// The type with ggml's number `id`, or `None` if ggml has no such type that we know of.
    pub(crate) fn from_id(id: u32) -> Option<Self> {
        if let Some(dtype) = DType::from_ggml(id) {
            return Some(Self::from(dtype));
        }
        OTHERS.iter().find(|(other, _)| *other == id).map(|&(_, ggml_type)| ggml_type)
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
        DType::IQ4_NL => 20,
        DType::IQ4_XS => 23,
        DType::BF16 => 30,
        DType::MXFP4 => 39,
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
        for (i, (id, ggml_type)) in OTHERS.iter().enumerate() {
            assert_eq!(DType::from_ggml(*id), None, "{ggml_type:?}");
            assert!(OTHERS.iter().skip(i + 1).all(|(other, _)| other > id), "{ggml_type:?}");
        }
        assert_eq!(GgmlType::from_id(21).unwrap().name, "IQ3_S");
        assert_eq!(GgmlType::from_id(1000), None);
    }
}
