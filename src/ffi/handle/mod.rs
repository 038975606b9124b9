//! Handles: what the host holds instead of pointers. Every export starts here.
//!
//! A handle is (kind, generation, slot index) packed into the bits of a pointer that nobody dereferences. It is looked up in one
//! table, the library's only static, so that NULL, freed, foreign, wrong-kind and invented values are a status and never a read of
//! memory that is not ours. A lookup yields an `Arc`: freeing a handle elsewhere never pulls an object out from under a call.

mod packing;
mod slot;
mod table;

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use packing::Packing;
use slot::{Pin, Stamp};
use std::sync::Arc;
use table::Table;

static HANDLES: Handles = Handles { table: Table::new(), packing: Packing::NATIVE };

/// An opaque C type and the object behind it.
pub(super) trait Handle: Sized {
    /// Its number in the handle and in the slot: `1..15`, never reused for another type.
    const KIND: u8;
    /// What error messages call it.
    const NAME: &'static str;
    /// What a handle of this type refers to.
    type Object: Send + Sync + 'static;
}

/// A new handle for `object`.
///
/// # Errors
/// `OutOfMemory` if no slot can be made.
pub(super) fn insert<H: Handle>(object: Arc<H::Object>) -> Result<*mut H> {
    HANDLES.insert(object)
}

/// The object of `handle`, kept alive by the `Arc` whatever happens to the handle meanwhile.
///
/// # Errors
/// `InvalidHandle` if there is none, `Forked` if it was made by a parent process.
pub(super) fn get<H: Handle>(handle: *const H) -> Result<Arc<H::Object>> {
    HANDLES.get(handle)
}

/// As [`get`], for parameters that may be NULL.
///
/// # Errors
/// As [`get`].
pub(super) fn get_optional<H: Handle>(handle: *const H) -> Result<Option<Arc<H::Object>>> {
    if handle.is_null() { Ok(None) } else { HANDLES.get(handle).map(Some) }
}

/// One reference more on `handle`.
///
/// # Errors
/// As [`get`]; `OutOfMemory` if it has 65535 references.
pub(super) fn retain<H: Handle>(handle: *const H) -> Result<()> {
    HANDLES.retain(handle)
}

/// One reference less; the last one drops the table's share of the object. A handle that refers to nothing is ignored, and one from
/// before a `fork()` is left alone: its object may be in the middle of anything.
pub(super) fn free<H: Handle>(handle: *mut H) {
    HANDLES.free(handle);
}

/// The table with its way of packing; tests make their own.
struct Handles {
    table: Table,
    packing: Packing,
}

impl Handles {
    fn insert<H: Handle>(&self, object: Arc<H::Object>) -> Result<*mut H> {
        let (index, slot) = self.table.take(self.packing.max_slots())?;
        let object = Arc::into_raw(object).cast_mut().cast();
        let generation = slot.publish(H::KIND, object, std::process::id());
        Ok(std::ptr::without_provenance_mut(self.packing.pack(index, Stamp { generation, kind: H::KIND })))
    }

    fn get<H: Handle>(&self, handle: *const H) -> Result<Arc<H::Object>> {
        let (index, pin) = self.pin(handle)?;
        let forked = pin.process() != std::process::id();
        let object = (!forked).then(|| {
            let object: *const H::Object = pin.object().cast_const().cast();
            // SAFETY: the pin's stamp names kind `H::KIND`, so the pointer came from `Arc::into_raw` of this type in `insert`, and the
            // table's share of it cannot be dropped before `unpin`.
            unsafe {
                Arc::increment_strong_count(object);
                Arc::from_raw(object)
            }
        });
        self.unpin::<H>(index, pin);
        object.ok_or_else(|| forked_error(H::NAME))
    }

    fn retain<H: Handle>(&self, handle: *const H) -> Result<()> {
        let (index, pin) = self.pin(handle)?;
        let outcome = if pin.process() != std::process::id() {
            Err(forked_error(H::NAME))
        } else if pin.retain() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::OutOfMemory, format!("{}: freed meanwhile, or 65535 references already", H::NAME)))
        };
        self.unpin::<H>(index, pin);
        outcome
    }

    fn free<H: Handle>(&self, handle: *mut H) {
        let Ok((index, pin)) = self.pin(handle.cast_const()) else { return };
        if pin.process() == std::process::id() {
            pin.release();
        }
        self.unpin::<H>(index, pin);
    }

    /// The slot of `handle`, pinned, with its index.
    fn pin<H: Handle>(&self, handle: *const H) -> Result<(u32, Pin<'_>)> {
        if handle.is_null() {
            fail!(InvalidHandle, "{}: NULL", H::NAME);
        }
        let found =
            self.packing.unpack(handle.addr(), H::KIND).and_then(|(index, stamp)| Some((index, self.table.slot(index)?.pin(stamp)?)));
        match found {
            Some(found) => Ok(found),
            None => fail!(InvalidHandle, "{}: the handle was freed, is of another kind, or never was one", H::NAME),
        }
    }

    /// Ends a pin; if it was the last thing that held the object, drops the table's share and makes the slot vacant.
    fn unpin<H: Handle>(&self, index: u32, pin: Pin<'_>) {
        let Some(evicted) = pin.unpin(self.packing.last_generation()) else { return };
        if evicted.reusable {
            self.table.put_back(index);
        }
        let object: *const H::Object = evicted.object.cast_const().cast();
        // SAFETY: as in `get`, the pointer is that of `insert`, and evicting hands its share to exactly one caller. This comes last,
        // because it may run the object's own drop.
        drop(unsafe { Arc::from_raw(object) });
    }
}

fn forked_error(name: &str) -> Error {
    Error::new(ErrorKind::Forked, format!("{name}: made before a fork(); make a new runtime in this process"))
}

#[cfg(test)]
mod tests;
