//! A plugin whose one device is the CPU: what `tests/plugin.rs` loads to see that a model on a device behaves as one on the CPU does.
//!
//! A plugin is a library with one symbol; `inference::backend::plugin` does the rest.

use inference::backend::candle::{Candle, Precision};
use inference::backend::plugin::{DeviceRow, Failure, Handle, Provider, Slice, Table, hand_over};
use inference::error::Result;
use inference::fail;

/// Bytes that the device says it has: more than the models of the tests need.
const MEMORY: u64 = 1 << 30;

/// candle on the CPU, in the place of a GPU.
struct Virtual;

impl Provider for Virtual {
    type Backend = Candle;

    fn n_devices(&self) -> Result<u32> {
        Ok(2)
    }

    fn device(&self, i: u32) -> Result<DeviceRow> {
        let (mut name, mut uuid, mut reason) = ([0; 96], [0; 64], [0; 128]);
        name[..11].copy_from_slice(b"Virtual GPU");
        let text = format!("GPU-0000000{i}-0000-0000-0000-000000000000");
        uuid[..text.len()].copy_from_slice(text.as_bytes());
        if i == 1 {
            reason[..8].copy_from_slice(b"too slow");
        }
        Ok(DeviceRow { memory_total: MEMORY, memory_free: MEMORY, usable: u32::from(i == 0), reserved: 0, uuid, name, reason })
    }

    fn open(&self, i: u32) -> Result<Candle> {
        match i {
            0 => Ok(Candle::cpu(Precision::Float)),
            _ => fail!(NoDevice, "the virtual device {i} cannot be used"),
        }
    }
}

/// The symbol of a plugin.
///
/// # Safety
/// As `inference::backend::plugin::OpenPlugin`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_plugin_open(
    abi: u32,
    build: Slice<u8>,
    table: *mut *const Table,
    provider: *mut Handle,
    failure: *mut Failure,
) -> u32 {
    // SAFETY: passed on from the caller.
    unsafe { hand_over(|| Ok(Virtual), (abi, build), table, provider, failure) }
}
