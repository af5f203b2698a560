//! Programs of others, found on the `PATH` and started by their absolute path: neither the current folder nor a relative entry
//! of the `PATH` has a say.

use std::env;
use std::path::{Path, PathBuf};

/// A program by its name on the `PATH`, or by its path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    if program.contains(std::path::is_separator) {
        let path = std::path::absolute(program).ok()?;
        return runs(&path).then_some(path);
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .flat_map(|folder| {
            ENDINGS
                .iter()
                .map(move |ending| folder.join(format!("{program}{ending}")))
        })
        .find(|file| runs(file))
}

#[cfg(windows)]
const ENDINGS: [&str; 3] = [".exe", ".cmd", ""];
#[cfg(not(windows))]
const ENDINGS: [&str; 1] = [""];

#[cfg(unix)]
fn runs(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn runs(file: &Path) -> bool {
    let known = [".exe", ".cmd"].iter().any(|ending| {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_ascii_lowercase();
        name.ends_with(ending)
    });
    known && file.is_file()
}
