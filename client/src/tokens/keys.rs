//! The keys to which tokens are bound: a file each beside the tokens, for their owner alone, named by the thumbprint.
//!
//! A login has a key of its own, written before its tokens; so tokens never name a key that is not there yet, and the
//! file of an old login goes only when the new one is stored.

use std::sync::Arc;

use crate::error::Error;
use crate::home::Home;
use crate::home::private;
use crate::oidc::{Key, is_thumbprint};

/// Stores a key.
pub(crate) fn write(home: &Home, key: &Key) -> Result<(), Error> {
    let bytes = key.pkcs8().map_err(|what| Error::Configuration(what.to_owned()))?;
    private::write(&home.key(key.thumbprint()), &bytes)
}

/// The key with this thumbprint; nothing where it is gone.
pub(super) fn read(home: &Home, thumbprint: &str) -> Result<Option<Arc<Key>>, Error> {
    if !is_thumbprint(thumbprint) {
        return Ok(None);
    }
    let path = home.key(thumbprint);
    let Some(bytes) = private::read_secret(&path)?.map(zeroize::Zeroizing::new) else {
        return Ok(None);
    };
    match Key::from_pkcs8(&bytes) {
        Ok(key) if key.thumbprint() == thumbprint => Ok(Some(Arc::new(key))),
        _ => Err(Error::Configuration(format!(
            "{} is damaged: log in again",
            path.display()
        ))),
    }
}

/// Removes the keys of all logins but this one. What cannot be removed is of no use without its tokens.
pub(crate) fn remove_all_but(home: &Home, thumbprint: Option<&str>) {
    let keep = thumbprint.map(|thumbprint| home.key(thumbprint));
    let Ok(entries) = std::fs::read_dir(home.path()) else {
        return;
    };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let ours = home.is_key(&path) && keep.as_ref() != Some(&path);
        if ours {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_has_one_key_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path())).unwrap();
        let (old, new) = (Key::generate().unwrap(), Key::generate().unwrap());
        write(&home, &old).unwrap();
        write(&home, &new).unwrap();
        std::fs::write(dir.path().join("dpop-notes.txt"), "theirs").unwrap();
        assert_eq!(
            read(&home, old.thumbprint()).unwrap().unwrap().thumbprint(),
            old.thumbprint()
        );
        remove_all_but(&home, Some(new.thumbprint()));
        assert!(read(&home, old.thumbprint()).unwrap().is_none());
        assert!(read(&home, new.thumbprint()).unwrap().is_some());
        assert!(read(&home, "../../etc/passwd").unwrap().is_none());
        // another login's key under this one's name
        std::fs::rename(home.key(new.thumbprint()), home.key(old.thumbprint())).unwrap();
        assert!(read(&home, old.thumbprint()).is_err());
        remove_all_but(&home, None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
