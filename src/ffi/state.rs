//! Saved states of sessions: as bytes, and in files.

use super::boundary;
use super::bytes::{self, Buffer};
use super::handle;
use super::session::inf_session;
use super::status::{inf_error, inf_status};
use std::ffi::{c_char, c_void};
use std::path::Path;

/// Writes the session as bytes: its tokens, and the keys and values of what is computed, in blocks of 32 tokens. They hold what the session says, and
/// are bound to the model, its KV type and the version of this library. The logits are not saved: after a restore the next step computes up to 32 tokens again.
///
/// buf, cap and len follow the rules for buffers. One thread at a time. Never blocks on computation.
///
/// - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed.
/// - `INF_ERR_BUSY`: in use by another thread or a generation.
/// - `INF_ERR_OUT_OF_MEMORY`: `detail[0]` = bytes wanted.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_session_save(
    s: *mut inf_session,
    buf: *mut c_void,
    cap: usize,
    len: *mut usize,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let session = handle::get(s.cast_const())?;
            let buffer = Buffer::<u8>::new(buf.cast(), cap, len)?;
            buffer.announce(session.saved_bytes()?)?;
            if buffer.asks_for_size() {
                return Ok(());
            }
            buffer.fill(&session.save()?)
        })
    }
}

/// Makes the session what was saved, whatever it held; it goes on with the same bits as where it was saved. The bytes may come from anywhere: all of
/// them are checked before anything changes, and keys and values in them are never shown to other sessions.
///
/// One thread at a time. Never blocks on computation.
///
/// - `INF_ERR_STATE_MISMATCH`: not a saved state, damaged, or of another model, KV type or version; unchanged.
/// - `INF_ERR_CONTEXT_FULL`: it has more tokens than the session can hold; unchanged.
/// - `INF_ERR_BUDGET`, `INF_ERR_OUT_OF_MEMORY`: no memory for its keys and values; unchanged.
/// - `INF_ERR_BUSY`: in use by another thread or a generation; unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_session_restore(s: *mut inf_session, buf: *const c_void, len: usize, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let session = handle::get(s.cast_const())?;
            session.restore(bytes::array("buf", buf.cast::<u8>(), len)?)
        })
    }
}

/// `inf_session_save` into the file at path, in UTF-8: whoever opens it, also after a crash at any moment, finds its old content or the new one. It is
/// written beside it first, as path with a suffix, and renamed.
///
/// One thread at a time. Blocks on the disk.
///
/// - `INF_ERR_IO`: the system refuses; the old content is still there.
/// - `INF_ERR_BUSY`, `INF_ERR_OUT_OF_MEMORY`, `INF_ERR_UNSUPPORTED`: as `inf_session_save`; nothing was written.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_session_save_file(s: *mut inf_session, path: *const c_char, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let session = handle::get(s.cast_const())?;
            session.save_file(Path::new(bytes::required_text("path", path)?))
        })
    }
}

/// `inf_session_restore` from the file at path.
///
/// One thread at a time. Blocks on the disk.
///
/// - `INF_ERR_IO`: the file cannot be read; unchanged.
/// - Others: as `inf_session_restore`; unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_session_restore_file(s: *mut inf_session, path: *const c_char, err: *mut inf_error) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let session = handle::get(s.cast_const())?;
            session.restore_file(Path::new(bytes::required_text("path", path)?))
        })
    }
}
