//! The library as a whole: versions, and what this build can do.

use super::boundary;
use std::ffi::{CStr, c_char};

/// Major version of this header.
pub const INF_VERSION_MAJOR: u32 = 0;
/// Minor version of this header.
pub const INF_VERSION_MINOR: u32 = 1;
/// Patch version of this header.
pub const INF_VERSION_PATCH: u32 = 0;
/// Changes only when the ABI breaks, together with the soname. While it is 0, it may break with every release.
pub const INF_ABI_VERSION: u32 = 0u32;

macro_rules! c_string {
    ($($part:expr),+) => {
        match CStr::from_bytes_with_nul(concat!($($part),+, "\0").as_bytes()) {
            Ok(text) => text,
            Err(_) => c"",
        }
    };
}

const VERSION: &CStr = c_string!(env!("CARGO_PKG_VERSION"));

#[cfg(target_arch = "x86_64")]
macro_rules! kernel_sets {
    () => {
        r#"["scalar","avx2","avx-vnni","avx512-vnni","amx"]"#
    };
}
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
macro_rules! kernel_sets {
    () => {
        r#"["scalar","neon-dotprod","neon-i8mm"]"#
    };
}
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
macro_rules! kernel_sets {
    () => {
        r#"["scalar"]"#
    };
}

const BUILD_INFO: &CStr = c_string!(
    r#"{"version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","abi":0,"kernels":"#,
    kernel_sets!(),
    r#","backends":["cpu","candle"],"formats":["gguf","safetensors"],"architectures":["llama","llama4","qwen2","qwen2moe","qwen3","qwen3moe","gemma","gemma2","gemma3","gemma3n","phi2","phi3","phimoe","#,
    r#""gpt-oss","smollm3","olmo2","olmoe","granite","granitemoe","starcoder2","glm4","deepseek2"],"#,
    r#""weights":["F32","F16","BF16","Q4_0","Q4_1","Q5_0","Q5_1","Q8_0","Q2_K","Q3_K","Q4_K","Q5_K","Q6_K","IQ4_NL","IQ4_XS","MXFP4"]}"#
);

/// The `INF_ABI_VERSION` of the library that is loaded: compare it with that of the header.
///
/// Any thread. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_abi_version() -> u32 {
    boundary::value(0, || Ok(INF_ABI_VERSION))
}

/// The version of the library that is loaded: `"0.1.0"`.
///
/// A static string, never freed. Any thread. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_version() -> *const c_char {
    boundary::value(c"".as_ptr(), || Ok(VERSION.as_ptr()))
}

/// What this build can do, as a JSON object: version, kernel sets, backends, file formats, architectures, types of weights.
///
/// A static string, never freed. Any thread. Never blocks. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn inf_build_info_json() -> *const c_char {
    boundary::value(c"{}".as_ptr(), || Ok(BUILD_INFO.as_ptr()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use serde_json::Value;

    #[test]
    fn the_versions_agree() {
        let header = format!("{INF_VERSION_MAJOR}.{INF_VERSION_MINOR}.{INF_VERSION_PATCH}");
        assert_eq!((header.as_str(), VERSION.to_str()), (env!("CARGO_PKG_VERSION"), Ok(header.as_str())));
    }

    #[test]
    fn the_build_info_is_json_and_true() {
        let info: Value = serde_json::from_slice(BUILD_INFO.to_bytes()).unwrap();
        assert_eq!(info["abi"], INF_ABI_VERSION);
        assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
        let weights: Vec<_> = info["weights"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        assert_eq!(weights, DType::ALL.map(DType::name));
        let mut architectures: Vec<_> = info["architectures"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        architectures.sort_unstable();
        let mut families = crate::model::Family::ALL.map(|family| family.name);
        families.sort_unstable();
        assert_eq!(architectures, families);
        for set in crate::kernels::available() {
            assert!(info["kernels"].as_array().unwrap().contains(&set.into()), "{set}");
        }
    }
}
