//! Chooses a kernel set: the best one this machine has, or the one that was asked for by name.

use super::contract::Kernels;
use super::reference::Reference;
use crate::error::Result;
use crate::fail;

/// A set that the operating system must permit: its name, and what asks for it.
pub(super) type OnRequest = (&'static str, fn() -> Option<&'static dyn Kernels>);

/// The set that is better than [`sets`], if this machine knows one that must be permitted.
fn on_request() -> Option<OnRequest> {
    #[cfg(target_arch = "x86_64")]
    let set = super::x86_64::on_request();
    #[cfg(not(target_arch = "x86_64"))]
    let set = None;
    set
}

/// Every kernel set that this machine can run without asking, best first.
fn sets() -> impl Iterator<Item = &'static dyn Kernels> {
    #[cfg(target_arch = "x86_64")]
    let fast = super::x86_64::sets();
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    let fast = super::aarch64::sets();
    #[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
    let fast = std::iter::empty();
    fast.chain(std::iter::once(&Reference as &'static dyn Kernels))
}

/// The names that [`select`] accepts on this machine, best first.
pub fn available() -> Vec<&'static str> {
    on_request().map(|(name, _)| name).into_iter().chain(sets().map(|set| set.name())).collect()
}

/// The kernel set called `name`, or the best one that the operating system permits.
///
/// # Errors
/// `Unsupported` if this machine, its system or this build does not have it; the message lists what there is.
pub fn select(name: Option<&str>) -> Result<&'static dyn Kernels> {
    let is_wanted = |known: &str| name.is_none_or(|name| name == known);
    let permitted = on_request().filter(|(known, _)| is_wanted(known)).and_then(|(_, ask)| ask());
    match permitted.or_else(|| sets().find(|set| is_wanted(set.name()))) {
        Some(set) => Ok(set),
        None => fail!(
            Unsupported,
            "kernel set {:?} is not available here; this machine has: {}",
            name.unwrap_or("(any)"),
            available().join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_default_is_the_best() {
        assert_eq!(select(None).unwrap().name(), available()[0]);
        assert_eq!(available().last(), Some(&"scalar"));
    }

    #[test]
    fn every_available_set_can_be_forced() {
        for name in available() {
            assert_eq!(select(Some(name)).unwrap().name(), name);
        }
    }

    #[test]
    fn an_unknown_set_is_an_error_that_lists_the_known() {
        let error = select(Some("sse9")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("sse9") && error.message().contains("scalar"), "{error}");
    }
}
