//! Logins that are closed for a while (nologin(5)): everybody but root is told why, and nothing runs.

use std::path::Path;

use super::Account;

/// What is to be said if logins are closed. Reads a file: may block.
pub(crate) fn closed(account: &Account) -> Option<Vec<u8>> {
    FILES.iter().find_map(|file| told(Path::new(file), account))
}

fn told(file: &Path, account: &Account) -> Option<Vec<u8>> {
    if account.uid.is_root() || std::fs::symlink_metadata(file).is_err() {
        return None;
    }
    let mut text = std::fs::read(file).unwrap_or_default();
    text.truncate(LONGEST);
    if text.is_empty() {
        text = format!("Logins are closed: {} is there.\n", file.display()).into_bytes();
    }
    Some(text)
}

const FILES: [&str; 2] = ["/etc/nologin", "/run/nologin"];
/// Longer than this it is no message, in bytes.
const LONGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use nix::unistd::{Gid, Uid};

    use super::*;

    fn account(uid: u32) -> Account {
        Account {
            name: "node".into(),
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(1000),
            groups: Vec::new(),
            home: "/".into(),
            shell: "/bin/sh".into(),
            switch: false,
            root: None,
        }
    }

    #[test]
    fn the_message_is_for_everybody_but_root() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nologin");
        assert_eq!(told(&file, &account(1000)), None);
        std::fs::write(&file, "").unwrap();
        let text = String::from_utf8(told(&file, &account(1000)).unwrap()).unwrap();
        assert!(text.contains("nologin"), "{text}");
        std::fs::write(&file, "Back at ten.\n").unwrap();
        assert_eq!(told(&file, &account(1000)), Some(b"Back at ten.\n".to_vec()));
        assert_eq!(told(&file, &account(0)), None);
    }
}
