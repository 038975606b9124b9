//! Which optional instructions this CPU has, as far as the kernels care. Kernel sets ask before they hand out a proof.

/// Instruction-set extensions found at run time; all false on other architectures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures {
    /// x86-64: 256-bit integer vectors.
    pub avx2: bool,
    /// x86-64: fused multiply-add.
    pub fma: bool,
    /// x86-64: conversion between `f16` and `f32`.
    pub f16c: bool,
    /// x86-64: 256-bit sums of products of bytes, without AVX-512.
    pub avxvnni: bool,
    /// x86-64: 512-bit vectors.
    pub avx512f: bool,
    /// x86-64: 512-bit vectors of bytes and words.
    pub avx512bw: bool,
    /// x86-64: 512-bit sums of products of bytes.
    pub avx512vnni: bool,
    /// aarch64: sums of products of bytes.
    pub dotprod: bool,
    /// aarch64: products of small matrices of bytes.
    pub i8mm: bool,
}

impl CpuFeatures {
    /// What this CPU has and the operating system saves on a context switch. Cheap: the standard library caches the answer.
    #[cfg(target_arch = "x86_64")]
    pub fn detect() -> Self {
        Self {
            avx2: std::arch::is_x86_feature_detected!("avx2"),
            fma: std::arch::is_x86_feature_detected!("fma"),
            f16c: std::arch::is_x86_feature_detected!("f16c"),
            avxvnni: std::arch::is_x86_feature_detected!("avxvnni"),
            avx512f: std::arch::is_x86_feature_detected!("avx512f"),
            avx512bw: std::arch::is_x86_feature_detected!("avx512bw"),
            avx512vnni: std::arch::is_x86_feature_detected!("avx512vnni"),
            ..Self::default()
        }
    }

    /// What this CPU has, as the operating system tells. Cheap: the standard library caches the answer.
    #[cfg(target_arch = "aarch64")]
    pub fn detect() -> Self {
        Self {
            dotprod: std::arch::is_aarch64_feature_detected!("dotprod"),
            i8mm: std::arch::is_aarch64_feature_detected!("i8mm"),
            ..Self::default()
        }
    }

    /// What this CPU has: nothing that a kernel set of ours needs.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn detect() -> Self {
        Self::default()
    }
}
