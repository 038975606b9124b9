//! What this machine can compute on: the processor, and what a plugin finds.

use crate::backend::plugin::{self, DeviceRow, Plugin, Remote};
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::kernels::Kernels;
use once_cell::sync::OnceCell;
use std::path::PathBuf;

/// The kind of a device, numbered as in the C header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The host's processor.
    Cpu = 0,
    /// A GPU of NVIDIA's.
    Cuda = 1,
}

/// One device, usable or not.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// What it is.
    pub kind: DeviceKind,
    /// Its number among its kind.
    pub index: u32,
    /// Name for load options: `"cpu"`, `"cuda:0"`.
    pub id: String,
    /// The same in every process, whatever the order of the devices: `"GPU-..."`; empty for the processor.
    pub uuid: String,
    /// Name for people.
    pub name: String,
    /// `None` if usable, else why not.
    pub unusable: Option<String>,
    /// Bytes of memory, 0 if unknown.
    pub memory_total: u64,
    /// Bytes not in use, 0 if unknown.
    pub memory_free: u64,
}

/// The processor, as the runtime uses it.
pub(super) fn cpu(kernels: &dyn Kernels, n_threads: usize) -> DeviceInfo {
    let memory = crate::sys::machine::physical_memory();
    DeviceInfo {
        kind: DeviceKind::Cpu,
        index: 0,
        id: "cpu".into(),
        uuid: String::new(),
        name: format!("CPU ({} kernels, {n_threads} threads)", kernels.name()),
        unusable: None,
        memory_total: memory.total,
        memory_free: memory.available,
    }
}

/// The devices of a plugin, which is loaded when they are first asked for.
pub(super) struct Gpus {
    /// Where it is; `None` = beside this library.
    path: Option<PathBuf>,
    plugin: OnceCell<Result<Plugin>>,
}

impl Gpus {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path, plugin: OnceCell::new() }
    }

    fn plugin(&self) -> Result<Plugin> {
        self.plugin.get_or_init(|| plugin::open(self.path.as_deref())).clone()
    }

    /// Every GPU, usable or not; where none can be seen, one that says why.
    pub(super) fn list(&self) -> Vec<DeviceInfo> {
        let found = self.plugin().and_then(|plugin| (0..plugin.n_devices()?).map(|i| Ok(gpu(i, &plugin.device(i)?))).collect());
        match found {
            Ok(list) => list,
            Err(e) => vec![unseen(&e)],
        }
    }

    /// The backend on GPU `index`.
    ///
    /// # Errors
    /// `NoDevice`, saying why; `OutOfMemory`, `DeviceLost`.
    pub(super) fn open(&self, index: u32) -> Result<Remote> {
        let plugin = self.plugin()?;
        let n = plugin.n_devices()?;
        if index >= n {
            fail!(NoDevice, "cuda:{index}: there are {n}");
        }
        let device = gpu(index, &plugin.device(index)?);
        match device.unusable {
            None => plugin.open(index),
            Some(why) => fail!(NoDevice, "{}: {why}", device.id),
        }
    }

    /// The GPU that `device` names: `"cuda"`, `"cuda:1"`, or the beginning of a UUID.
    ///
    /// # Errors
    /// `NoDevice`: none is called so, or none can be seen, and why.
    pub(super) fn find(&self, device: &str) -> Result<DeviceInfo> {
        let list = self.list();
        let named = |gpu: &&DeviceInfo| device == gpu.id || (device == "cuda" && gpu.index == 0) || is_uuid(device, &gpu.uuid);
        let mut matching = list.iter().filter(named);
        match (matching.next(), matching.next()) {
            (Some(gpu), None) => Ok(gpu.clone()),
            (Some(_), Some(_)) => fail!(NoDevice, "device {device:?}: several begin so"),
            (None, _) => Err(not_found(device, &list)),
        }
    }
}

/// True if `text` is the beginning of `uuid`, long enough to be meant.
fn is_uuid(text: &str, uuid: &str) -> bool {
    let (text, uuid) = (text.strip_prefix("GPU-").unwrap_or(text), uuid.strip_prefix("GPU-").unwrap_or(uuid));
    text.len() >= 8 && uuid.starts_with(text)
}

fn not_found(device: &str, list: &[DeviceInfo]) -> Error {
    let known = list.iter().map(|gpu| match &gpu.unusable {
        None => format!("\"{}\"", gpu.id),
        Some(why) => format!("no \"{}\" ({why})", gpu.id),
    });
    let known = known.collect::<Vec<_>>().join(", ");
    Error::new(ErrorKind::NoDevice, format!("device {device:?}: there is \"cpu\" (and \"auto\", which chooses), {known}"))
}

fn gpu(index: u32, row: &DeviceRow) -> DeviceInfo {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    DeviceInfo {
        kind: DeviceKind::Cuda,
        index,
        id: format!("cuda:{index}"),
        uuid: text(&row.uuid),
        name: text(&row.name),
        unusable: (row.usable == 0).then(|| text(&row.reason)),
        memory_total: row.memory_total,
        memory_free: row.memory_free,
    }
}

/// What stands for the GPUs that a machine may have, while nobody can look.
fn unseen(why: &Error) -> DeviceInfo {
    let name = "CUDA".to_owned();
    let unusable = Some(why.message().to_owned());
    DeviceInfo {
        kind: DeviceKind::Cuda,
        index: 0,
        id: "cuda:0".into(),
        uuid: String::new(),
        name,
        unusable,
        memory_total: 0,
        memory_free: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_known_by_their_beginnings() {
        let uuid = "GPU-0123abcd-4567-89ab-cdef-0123456789ab";
        for named in [uuid, "0123abcd-4567-89ab-cdef-0123456789ab", "GPU-0123abcd", "0123abcd"] {
            assert!(is_uuid(named, uuid), "{named}");
        }
        for other in ["GPU-0123abc", "0123abc", "GPU-", "", "GPU-0123abce", "cuda:0"] {
            assert!(!is_uuid(other, uuid), "{other}");
        }
    }

    #[test]
    fn without_a_plugin_there_is_a_reason() {
        let gpus = Gpus::new(Some("/nonexistent/plugin.so".into()));
        let list = gpus.list();
        assert_eq!((list.len(), list[0].kind, list[0].id.as_str()), (1, DeviceKind::Cuda, "cuda:0"));
        assert!(list[0].unusable.as_deref().unwrap().starts_with("no plugin: "), "{list:?}");
        let refused = gpus.open(0).err().unwrap();
        assert!(refused.kind() == ErrorKind::NoDevice && refused.message().contains("/nonexistent/plugin.so"), "{refused}");
        assert_eq!(gpus.find("cuda:7").unwrap_err().kind(), ErrorKind::NoDevice);
    }
}
