//! What crosses arrives: a table that serves candle on the CPU, used through the library's side.

use super::*;
use crate::backend::candle::{Candle, Precision};
use crate::error::{Error, ErrorKind, Result};
use crate::fail;

/// candle on the CPU as a plugin's only device.
pub struct Virtual;

impl Provider for Virtual {
    type Backend = Candle;

    fn n_devices(&self) -> Result<u32> {
        Ok(1)
    }

    fn device(&self, i: u32) -> Result<DeviceRow> {
        if i > 0 {
            fail!(NoDevice, "device {i} of 1");
        }
        Ok(DeviceRow { memory_total: 7, memory_free: 5, usable: 1, reserved: 0, uuid: [0; 64], name: [0; 96], reason: [0; 128] })
    }

    fn open(&self, i: u32) -> Result<Candle> {
        match i {
            0 => Ok(Candle::cpu(Precision::Float)),
            1 => panic!("a bug of a plugin"),
            _ => Err(Error::new(ErrorKind::OutOfMemory, "m\u{e9}moire ".repeat(200)).with_detail([3, 4])),
        }
    }
}

/// As a plugin's one symbol.
unsafe extern "C" fn open(abi: u32, build: Slice<u8>, table: *mut *const Table, provider: *mut Handle, failure: *mut Failure) -> u32 {
    // SAFETY: passed on from the caller.
    unsafe { hand_over(|| Ok(Virtual), (abi, build), table, provider, failure) }
}

/// The plugin, as the library sees it.
pub fn plugin() -> Plugin {
    // SAFETY: `open` is made by `serve`.
    unsafe { Plugin::of(open) }.unwrap()
}

#[test]
fn another_version_is_refused_with_a_reason() {
    for (abi, build) in [(ABI + 1, BUILD), (ABI, "0.0.9-0123456789abcdef")] {
        let (mut table, mut provider, mut failure) = (std::ptr::null(), std::ptr::null_mut(), Failure::none());
        // SAFETY: pointers to locals.
        let status = unsafe { open(abi, Slice::new(build.as_bytes()), &raw mut table, &raw mut provider, &raw mut failure) };
        let refused = failure.check(status).unwrap_err();
        assert!(refused.kind() == ErrorKind::Abi && refused.message().contains(BUILD), "{refused}");
        assert!(table.is_null() && provider.is_null());
    }
}

#[test]
fn errors_and_panics_cross_as_statuses() {
    assert_eq!(plugin().n_devices().unwrap(), 1);
    assert_eq!(plugin().device(0).unwrap().memory_free, 5);
    assert_eq!(plugin().device(1).unwrap_err().kind(), ErrorKind::NoDevice);
    let bug = plugin().open(1).err().unwrap();
    assert!(bug.kind() == ErrorKind::Internal && bug.message().contains("a bug of a plugin"), "{bug}");
    let error = plugin().open(2).err().unwrap();
    assert_eq!((error.kind(), error.detail()), (ErrorKind::OutOfMemory, [3, 4]));
    assert!(error.message().starts_with("m\u{e9}moire") && error.message().len() <= 1000);
}
