//! Key files: nobody else may read them.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

/// Refuses a key file that others can read: its owner is us or root, and its mode is 0600 or tighter.
///
/// One exception, which is how a cluster mounts a secret for a process that is not root: owned by root, readable by a
/// group, writable by none.
///
/// # Errors
/// A sentence that says what is wrong with the file.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| sentence(&error))?;
    judge(&metadata, ourselves())
}

fn judge(metadata: &Metadata, we: Option<u32>) -> Result<(), String> {
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if we.is_some_and(|we| owner != we && owner != 0) {
        return Err(format!(
            "belongs to user {owner}, who is neither root nor the user that the gateway runs as"
        ));
    }
    let mounted = owner == 0 && we != Some(0) && mode & 0o037 == 0;
    if mode & 0o077 != 0 && !mounted {
        return Err(format!("can be read by others (mode {mode:04o}); make it 0600"));
    }
    Ok(())
}

/// The user that we run as, where the system says so.
fn ourselves() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|metadata| metadata.uid())
}

fn sentence(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        _ => format!("cannot be looked at: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_mode_decides() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "secret").unwrap();
        for (mode, good) in [
            (0o600, true),
            (0o400, true),
            (0o640, false),
            (0o604, false),
            (0o644, false),
            (0o620, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(
                judge(&fs::metadata(&path).unwrap(), ourselves()).is_ok(),
                good,
                "{mode:o}"
            );
        }
        assert!(check(folder.path()).is_err());
        assert!(
            check(&folder.path().join("missing"))
                .unwrap_err()
                .contains("does not exist")
        );
    }

    #[test]
    fn the_owner_decides() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        if metadata.uid() != 0 {
            assert!(judge(&metadata, Some(metadata.uid() + 1)).is_err());
        }
        assert!(judge(&metadata, Some(metadata.uid())).is_ok());
    }

    #[test]
    fn a_secret_that_the_cluster_mounts_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        // Only root can make a file that root owns.
        if metadata.uid() == 0 {
            assert!(judge(&metadata, Some(1000)).is_ok());
            assert!(judge(&metadata, Some(0)).is_err());
        }
    }
}
