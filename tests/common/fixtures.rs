//! The fixtures in `../shared/fixtures`: not ours and not in the repository. A test that finds none prints a line and passes.

use std::path::{Path, PathBuf};

/// The path of the fixture `name`, a file or a folder, or `None`, with a printed line, if it is absent.
#[expect(clippy::print_stderr, reason = "says which test had nothing to test")]
pub fn fixture(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures").join(name);
    if !path.exists() {
        eprintln!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}
